//! Gives a vehicle its confirmed model back after a disk or a system that failed for a moment kept it away at the start.

use std::time::Duration;

use switchback_signing::metadata::vehicle::Reason;

use super::{Active, Worker, task::Task};
use crate::{
    engine::{EngineEvent, Entry, SwapWhen},
    store::{Failure, Verdict},
    vehicle::{
        EventKind,
        reason::{self, LOAD_TIMEOUT},
        report::release_of,
        start::model_files,
    },
};

/// How often the confirmed model is loaded again, at intervals that double from a second on: for half a minute. Longer would keep a
/// release waiting that could drive instead.
const TRIES_MAX: u32 = 6;

/// The confirmed model, while it does not drive.
pub(in crate::vehicle) struct Lost {
    /// What it is; its generation is that of the last try.
    active: Active,
    /// The next try.
    pub(super) task: Task,
    tries: u32,
    /// With the engine.
    loading: bool,
}

impl Lost {
    /// After the start, which has tried once.
    pub(in crate::vehicle) fn new(active: Active, reason: &Reason) -> Self {
        let mut task = Task::never();
        task.failed(None);
        // What took too long at the start may still come.
        Self { active, task, tries: 1, loading: reason.number == LOAD_TIMEOUT }
    }

    /// Moves the next try up.
    pub(super) fn hurry(&mut self) {
        self.task.after(Duration::ZERO);
    }

    pub(super) fn is_due(&self) -> bool {
        !self.loading && self.task.is_due()
    }

    /// Whether events of the engine are waited for.
    pub(super) fn is_loading(&self) -> bool {
        self.loading
    }
}

impl Worker {
    pub(super) fn reload(&mut self) {
        let Some(lost) = &mut self.lost else {
            return;
        };
        let model = match self.store.load(lost.active.slot) {
            Ok(model) => model,
            Err(error) if reason::is_about_content(&error) => {
                let reason = reason::of_store(&error);
                let failure = Failure { verdict: Verdict::Blameless, number: reason.number, name: &reason.name };
                if let Err(error) = self.store.reject(lost.active.slot, failure) {
                    tracing::error!(%error, "the slot was not cleared");
                }
                return self.fetch_anew(reason);
            }
            Err(error) => return self.reload_failed(reason::of_store(&error)),
        };
        lost.active.generation = self.store.generation() + 1;
        match self.engine.load(model_files(&model, lost.active.generation, Entry::Confirmed)) {
            Ok(()) => lost.loading = true,
            Err(error) => self.reload_failed(reason::of_engine(&error)),
        }
    }

    /// Takes an event that is about the lost model; gives back every other one.
    pub(super) fn reload_event(&mut self, event: EngineEvent) -> Option<EngineEvent> {
        let generation = self.lost.as_ref().filter(|lost| lost.loading).map(|lost| lost.active.generation);
        match event {
            EngineEvent::Armed { generation: found } if generation == Some(found) => {
                if let Err(error) = self.engine.activate(SwapWhen::Anytime) {
                    self.reload_failed(reason::of_engine(&error));
                }
            }
            EngineEvent::Refused { generation: found, refusal } if generation == Some(found) => {
                let reason = reason::of_refusal(&refusal);
                self.detected(reason::attack_of_refusal(&refusal), &reason);
                self.reload_failed(reason);
            }
            EngineEvent::Confirmed { generation: found } if generation == Some(found) => {
                if let Some(lost) = self.lost.take() {
                    let release = release_of(&lost.active.occupant);
                    self.active = Some(lost.active);
                    tracing::info!(model = release.model, version = release.version, "the confirmed model drives again");
                    self.tell(EventKind::ModelRestored, Some(release), None);
                    self.report.after(Duration::ZERO);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn reload_failed(&mut self, reason: Reason) {
        let Some(lost) = &mut self.lost else {
            return;
        };
        lost.loading = false;
        lost.tries += 1;
        tracing::warn!(reason.number, reason.name, reason.text, tries = lost.tries, "the confirmed model cannot be used yet");
        if lost.tries < TRIES_MAX {
            lost.task.failed(None);
        } else {
            self.fetch_anew(reason);
        }
    }

    /// The confirmed model does not come back: the Director still assigns it, and it is installed as if it were not here. What is in
    /// its slot stays, unless it is known to be wrong: the next start may be able to read it.
    fn fetch_anew(&mut self, reason: Reason) {
        let release = self.lost.take().map(|lost| release_of(&lost.active.occupant));
        self.refetches = true;
        self.check.after(Duration::ZERO);
        self.tell(EventKind::ModelLost, release, Some(reason));
    }
}
