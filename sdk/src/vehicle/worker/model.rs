//! How the update thread brings a model from its slot to the driver.

use switchback_signing::metadata::vehicle::Reason;

use super::{Active, Candidate, Run, Worker, task::Task};
use crate::{
    engine::{EngineError, EngineEvent, Entry, SwapWhen},
    store::Failure,
    update::{Blame, Input, Permission, VehicleState},
    vehicle::{reason, start::model_files},
};

/// How often a complete release may fail to be read, at intervals that double from a second on, before it is downloaded anew.
const LOADS_FAILED_MAX: u32 = 6;

impl Worker {
    pub(super) fn take_up_candidate(&mut self) {
        let state = self.store.state();
        if let Some(slot) = state.pending()
            && let Some(occupant) = state.slot(slot).occupant()
        {
            self.candidate = Some(Candidate { slot, occupant: occupant.clone(), model: None, generation: 0, counted: Run::None });
        }
    }

    /// Gives the staged release to the engine.
    pub(super) fn load(&mut self) {
        self.load.due = None;
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        // Read back in this run already, or after a restart now.
        let model = candidate.model.take().map_or_else(|| self.store.load(candidate.slot).map(Box::new), Ok);
        // A load that is not on record is not made: it may take the process down with it.
        let model = model.and_then(|model| self.store.begin_load(candidate.slot).map(|()| model));
        if model.is_ok() {
            candidate.counted = Run::Load;
        }
        let generation = self.store.generation() + 1;
        let result = match model {
            Ok(model) => {
                tracing::info!(generation, "loading the release");
                candidate.generation = generation;
                let files = model_files(&model, generation, Entry::Candidate);
                self.engine.load(files).map_err(|error| (reason::of_engine(&error), Blame::Circumstances))
            }
            Err(error) if !reason::is_about_content(&error) && self.loads_failed + 1 < LOADS_FAILED_MAX => {
                tracing::warn!(error = %reason::story(&error), "the release cannot be read for now; it is tried again");
                self.loads_failed += 1;
                return self.load.failed(None);
            }
            // Content that does not come back: the disk may be dying, and trying for ever wears it down.
            Err(error) if !reason::is_about_content(&error) => Err((reason::of_store(&error), Blame::Circumstances)),
            Err(error) => Err((reason::of_store(&error), reason::blame_of_store(&error))),
        };
        if let Err((reason, blame)) = result {
            self.input(Input::Failed(reason, blame));
        }
    }

    /// The load or shadow run under way, if there is one, does not count.
    pub(super) fn end_run(&mut self) {
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        let result = match std::mem::replace(&mut candidate.counted, Run::None) {
            Run::None => Ok(()),
            Run::Load => self.store.end_load(candidate.slot),
            Run::Shadow => self.store.end_shadow(candidate.slot),
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the load or shadow run counts as one that was cut off");
        }
    }

    fn begin_shadow(&mut self) {
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        match self.store.begin_shadow(candidate.slot) {
            Ok(()) => candidate.counted = Run::Shadow,
            // The load stays counted instead.
            Err(error) => tracing::warn!(%error, "the shadow run is not on record"),
        }
    }

    pub(super) fn cancel(&mut self) {
        self.load = Task::never();
        let with_engine = self.candidate.as_ref().is_some_and(|candidate| candidate.generation > 0);
        if with_engine && let Err(error) = self.engine.cancel() {
            // It was refused or swapped meanwhile; its event says so and is not needed any more.
            tracing::debug!(%error, "the candidate could not be taken back");
        }
    }

    pub(super) fn record_try(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let (slot, release) = (candidate.slot, candidate.occupant.index_sha256);
        if let Err(reason) = self.activate_secondaries(release) {
            return self.input(Input::RecordFailed(reason));
        }
        match self.store.begin_trial(slot) {
            Ok(()) => self.input(Input::TryRecorded),
            Err(error) => self.input(Input::RecordFailed(reason::of_store(&error))),
        }
    }

    pub(super) fn swap(&mut self, permission: Permission) {
        let when = match permission {
            Permission::Disengaged => SwapWhen::Disengaged,
            Permission::Anytime => SwapWhen::Anytime,
        };
        match self.engine.activate(when) {
            Ok(()) => {}
            // It ran on in shadow until now and broke there. The engine's own event says so, why, and whom it blames; it is next in line.
            Err(error @ EngineError::WrongPhase { .. }) => tracing::debug!(%error, "the candidate is gone"),
            Err(error) => self.input(Input::Failed(reason::of_engine(&error), Blame::Circumstances)),
        }
    }

    pub(super) fn take_order_back(&mut self) {
        if let Err(error) = self.engine.hold() {
            // It was refused or swapped meanwhile; its event says so.
            tracing::debug!(%error, "the order to swap could not be taken back");
        }
    }

    pub(super) fn return_try(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        if let Err(error) = self.store.suspend_trial(candidate.slot) {
            // The next try cannot be recorded then, and says why the release is let go.
            tracing::warn!(%error, "the try was not given back");
        }
        self.settle_secondaries();
    }

    pub(super) fn record_confirmation(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        match self.store.confirm(candidate.slot) {
            Ok(confirmation) => {
                self.confirmation = Some(confirmation);
                self.input(Input::ConfirmationRecorded);
            }
            Err(error) => {
                tracing::error!(%error, "the confirmation was not recorded; it is tried again");
                self.input(Input::RecordFailed(reason::of_store(&error)));
            }
        }
    }

    pub(super) fn confirm(&mut self) {
        if let Err(error) = self.engine.confirm() {
            // It failed while the confirmation was being recorded. The engine's own event says why, and the record is taken back.
            tracing::debug!(%error, "rolled back before it was confirmed");
        }
    }

    fn confirmed(&mut self) {
        self.previous = None;
        self.confirmation = None;
        if let Some(active) = &mut self.active {
            active.on_trial = false;
        }
    }

    pub(super) fn record_failure(&mut self, reason: &Reason, blame: Blame) {
        let failure = Failure { verdict: reason::verdict(blame), number: reason.number, name: &reason.name };
        let from_candidate = self.candidate.as_ref().map(|candidate| (Some(candidate.slot), candidate.occupant.index_sha256));
        // What arrived stays for the next try when the release is not to blame.
        let from_install =
            self.install.as_ref().map(|install| (install.slot().filter(|_| blame != Blame::Nobody), install.occupant().index_sha256));
        let from_target = self.target.as_ref().map(|target| (None, target.sha256()));
        if let Some(confirmation) = self.confirmation.take() {
            if let Err(error) = self.store.take_back(confirmation, failure) {
                // The next start begins with it once more; its trial is behind it, and its self-test ahead.
                tracing::error!(%error, "the confirmation was not taken back");
            }
            return;
        }
        let result = match from_candidate.or(from_install).or(from_target) {
            Some((Some(slot), _)) => self.store.reject(slot, failure),
            Some((None, index_sha256)) => self.store.count_failure(index_sha256, failure),
            None => Ok(()),
        };
        if let Err(error) = result {
            // The slot stays as it was; its tries are counted, so this cannot go on for ever.
            tracing::error!(%error, "the failure was not recorded");
        }
    }

    pub(super) fn engine_event(&mut self, event: EngineEvent) {
        let Some(event) = self.reload_event(event) else {
            return;
        };
        let candidate = self.candidate.as_ref().map_or(0, |candidate| candidate.generation);
        let is_ours = |generation: u64| generation == candidate && candidate > 0;
        match event {
            EngineEvent::SelfTestPassed { generation, cases, .. } if is_ours(generation) => {
                tracing::info!(cases, "the self-test passed");
                // Before the word of it: from here on, whatever ends the process, it was not the load.
                if self.active.is_some() {
                    self.begin_shadow();
                } else {
                    self.end_run();
                }
                self.input(Input::SelfTestPassed);
                if self.active.is_some() {
                    self.input(Input::ShadowBegan);
                }
            }
            EngineEvent::ShadowPassed { generation, frames, lateral_m } if is_ours(generation) => {
                tracing::info!(frames, lateral_m, "the shadow run passed");
            }
            EngineEvent::Armed { generation } if is_ours(generation) => {
                self.end_run();
                self.input(Input::Armed);
            }
            EngineEvent::Swapped { generation } if is_ours(generation) => {
                self.swapped();
                self.input(Input::Swapped);
            }
            EngineEvent::TrialPassed { generation } if is_ours(generation) => {
                tracing::info!("the trial was passed");
                self.input(Input::TrialPassed);
            }
            EngineEvent::Confirmed { generation } if is_ours(generation) => {
                self.confirmed();
                self.input(Input::Confirmed);
            }
            EngineEvent::Refused { generation, refusal } if is_ours(generation) => {
                let reason = reason::of_refusal(&refusal);
                self.detected(reason::attack_of_refusal(&refusal), &reason);
                self.input(Input::Failed(reason, reason::blame_of_refusal(&refusal)));
            }
            EngineEvent::RolledBack { generation, reason } if is_ours(generation) => {
                self.active = self.previous.take();
                self.input(Input::Failed(reason::of_roll_back(reason), reason::blame_of_roll_back(reason)));
            }
            other => tracing::debug!(?other, "an event of a model that is not on its way"),
        }
    }

    pub(super) fn swapped(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let Candidate { slot, occupant, generation, .. } = candidate;
        let active = Active { slot: *slot, occupant: occupant.clone(), generation: *generation, on_trial: true };
        self.previous = self.active.replace(active);
    }

    pub(super) fn vehicle_state(&mut self) -> VehicleState {
        let state = self.callbacks.vehicle_state.as_ref().map_or_else(|| self.pulse.vehicle_state(), |state| state());
        let has_frames = self.frames.arrive(&self.pulse);
        // A step that asks for an engaged driving function knows better than the program that says it is not.
        let engaged = if self.pulse.vehicle_state().engaged == Some(true) { Some(true) } else { state.engaged };
        VehicleState { engaged, has_model: self.active.is_some(), has_frames, ..state }
    }
}
