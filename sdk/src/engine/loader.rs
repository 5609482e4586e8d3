//! The thread that loads, tests, shadows and frees models, so that the driving thread never does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use switchback_onnx::{Runtime, return_free_memory};

use super::error::Refusal;
use super::load::{Terms, TestedSession, load};
use super::shadow::{Shadow, Verdict};
use super::shared::{Report, Shared};
use super::{EngineConfig, EngineEvent, Entry, ModelFiles, Phase, SwapWhen};
use crate::drive::{Clock, DriveOutput, Mode, Staging};

/// How often the loader looks for what the driver reports and gives back, while a model is with it on trial or about to be freed.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long the agreement of the plans counts, beyond the time that the candidate has for its answer, in steps. The world of longer ago is
/// another one, and the candidate's memory of it has a gap.
const AGREEMENT_STEPS: i64 = 4;

/// What the vehicle asks of the loader.
#[derive(Debug)]
pub(super) enum Command {
    /// Load this model.
    Load(Box<ModelFiles>),
    /// Publish the candidate of this generation, if it is armed.
    Activate { generation: u64, when: SwapWhen },
    /// Publish the candidate of this generation no longer.
    Hold { generation: u64 },
    /// Take the candidate of this generation back.
    Cancel { generation: u64 },
    /// End the thread.
    End,
}

pub(super) struct Loader {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    config: EngineConfig,
    stage: Stage,
    /// Loads that wait until the models before have settled.
    waiting: VecDeque<Box<ModelFiles>>,
    /// Every model in memory, here and with the driver: generation and MiB by its contract.
    in_memory: Vec<(u64, u32)>,
    /// Generations with the driver, the active one first.
    with_driver: Vec<u64>,
    /// The driver has the staging area, or it is on its way.
    staging_is_out: bool,
}

/// Where the model that is on its way stands.
enum Stage {
    Idle,
    Candidate(Box<Candidate>),
    Published(Box<Published>),
    /// Waiting until the driver holds this model, or none, and nothing else.
    Settling {
        keeps: Option<u64>,
    },
}

/// With the driver, or where the driver will find it.
struct Published {
    generation: u64,
    previous: Option<u64>,
    /// The last report that the vehicle knows.
    told: Option<Report>,
    terms: Terms,
    /// For its return.
    shadow: Option<Shadow>,
    recall: Recall,
}

/// Whether a published model is wanted back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recall {
    No,
    /// To be offered again.
    Renew,
    Hold,
    Cancel,
}

struct Candidate {
    session: Box<TestedSession>,
    /// None when it needs no shadow run.
    shadow: Option<Shadow>,
    /// Not needed, or passed.
    armed: bool,
    /// The vehicle wants it to drive.
    activate: Option<SwapWhen>,
    /// The newest frame of the shadow run: when it began, and in what mode.
    newest: Option<(u64, Mode)>,
    /// At rest here until the driver needs it.
    staging: Option<Box<Staging>>,
}

impl Loader {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        runtime: Runtime,
        clock: Arc<dyn Clock>,
        config: EngineConfig,
    ) -> Self {
        Self {
            shared,
            commands,
            runtime,
            clock,
            config,
            stage: Stage::Idle,
            waiting: VecDeque::new(),
            in_memory: Vec::new(),
            with_driver: Vec::new(),
            staging_is_out: false,
        }
    }

    pub(super) fn run(mut self) {
        // On Linux this is the nice value of the calling thread alone. Without it loading merely competes harder.
        if let Err(error) = rustix::process::setpriority_process(None, self.config.loader_nice) {
            tracing::warn!(%error, nice = self.config.loader_nice, "the loader thread keeps its priority");
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::End) | Err(TryRecvError::Disconnected) => return,
                Ok(Command::Load(files)) => self.waiting.push_back(files),
                Ok(Command::Activate { generation, when }) => self.activate(generation, when),
                Ok(Command::Hold { generation }) => self.hold(generation),
                Ok(Command::Cancel { generation }) => self.cancel(generation),
                Err(TryRecvError::Empty) => {
                    if !self.advance() {
                        self.rest();
                    }
                }
            }
        }
    }

    /// Waits for something to do. The vehicle unparks us for a command, the driver for a frame of the shadow run; what else the driver
    /// does is looked for, so that a swap costs it no system call.
    fn rest(&self) {
        match self.stage {
            Stage::Published(_) | Stage::Settling { .. } => thread::park_timeout(LOOK_INTERVAL),
            // A model that was given back is waited for in `Settling`.
            Stage::Idle | Stage::Candidate(_) => thread::park(),
        }
    }

    /// Does whatever can be done now; `false` when there was nothing.
    fn advance(&mut self) -> bool {
        let freed = self.free_retired();
        let reclaimed = self.reclaim();
        let shadowed = self.run_shadow();
        let published = self.publish();
        let told = self.tell();
        let settled = self.settle();
        let loaded = matches!(self.stage, Stage::Idle) && self.load_next();
        freed || reclaimed || shadowed || published || told || settled || loaded
    }

    fn load_next(&mut self) -> bool {
        let Some(files) = self.waiting.pop_front() else { return false };
        let generation = files.generation;
        self.set_phase(Phase::Loading, generation);
        match self.load(&files) {
            Ok(candidate) => {
                self.in_memory.push((generation, files.manifest.contract.memory_mib));
                self.update_memory();
                let armed = candidate.armed;
                self.stage = Stage::Candidate(Box::new(candidate));
                if armed {
                    self.arm(generation);
                } else {
                    self.set_phase(Phase::Shadow, generation);
                }
            }
            Err(refusal) => self.refuse(generation, refusal),
        }
        true
    }

    fn load(&mut self, files: &ModelFiles) -> Result<Candidate, Refusal> {
        let in_use_mib = self.memory_mib();
        let needed_mib = files.manifest.contract.memory_mib;
        if in_use_mib.saturating_add(needed_mib) > self.config.memory_budget_mib {
            return Err(Refusal::Memory { needed_mib, in_use_mib, budget_mib: self.config.memory_budget_mib });
        }
        let (session, times) = load(&self.runtime, self.config.intra_threads, files, &*self.clock)?;
        self.shared.emit(EngineEvent::SelfTestPassed { generation: files.generation, cases: files.manifest.self_test.cases, times });
        // Without an active model there is nothing to compare with, and nobody to take the frames meanwhile.
        let needs_shadow = files.entry == Entry::Candidate && !self.with_driver.is_empty();
        let acceptance = &files.manifest.contract.acceptance;
        let shadow = needs_shadow.then(|| Shadow::new(acceptance, session.model().deadline_ns()));
        let staging = needs_shadow.then(|| Box::new(session.model().staging()));
        Ok(Candidate { session: Box::new(session), armed: shadow.is_none(), shadow, activate: None, newest: None, staging })
    }

    fn arm(&mut self, generation: u64) {
        self.set_phase(Phase::Armed, generation);
        self.shared.emit(EngineEvent::Armed { generation });
    }

    fn activate(&mut self, generation: u64, when: SwapWhen) {
        match &mut self.stage {
            Stage::Candidate(candidate) if candidate.session.generation() == generation => {
                candidate.activate = Some(when).filter(|_| candidate.armed);
            }
            Stage::Published(published) if published.may_be_recalled(generation) && published.terms.when != when => {
                published.terms.when = when;
                published.recall = Recall::Renew;
            }
            Stage::Idle | Stage::Candidate(_) | Stage::Published(_) | Stage::Settling { .. } => {}
        }
    }

    fn hold(&mut self, generation: u64) {
        match &mut self.stage {
            Stage::Candidate(candidate) if candidate.session.generation() == generation && candidate.armed => {
                candidate.activate = None;
                self.arm(generation);
            }
            Stage::Published(published) if published.may_be_recalled(generation) => published.recall = Recall::Hold,
            Stage::Idle | Stage::Candidate(_) | Stage::Published(_) | Stage::Settling { .. } => {}
        }
    }

    fn cancel(&mut self, generation: u64) {
        // Loads run to their end, so what is loading is either waiting or a candidate by now.
        if self.waiting.pop_front_if(|files| files.generation == generation).is_some() {
            self.refuse(generation, Refusal::Canceled);
            return;
        }
        match &mut self.stage {
            Stage::Candidate(candidate) if candidate.session.generation() == generation => self.refuse(generation, Refusal::Canceled),
            Stage::Published(published) if published.may_be_recalled(generation) => published.recall = Recall::Cancel,
            Stage::Idle | Stage::Candidate(_) | Stage::Published(_) | Stage::Settling { .. } => {}
        }
    }

    /// Takes a model back that no frame has taken, because the vehicle wants it back or the plans agreed too long ago. The driver may
    /// reach for it in this very moment: one of the two gets it. If it is not there, the driver has it and says so, or puts it back.
    fn reclaim(&mut self) -> bool {
        let Stage::Published(published) = &mut self.stage else { return false };
        let is_stale = published.terms.until_ns < u64::MAX && self.clock.now_ns() > published.terms.until_ns;
        if published.told.is_some() || (published.recall == Recall::No && !is_stale) {
            return false;
        }
        let Some(session) = self.shared.incoming.take() else { return false };
        let Published { generation, terms, recall, .. } = **published;
        let shadow = published.shadow.take();
        let staging = (shadow.is_some() && !self.staging_is_out).then(|| Box::new(session.model().staging()));
        let activate = Some(terms.when).filter(|_| matches!(recall, Recall::No | Recall::Renew));
        self.stage = Stage::Candidate(Box::new(Candidate { session, shadow, armed: true, activate, newest: None, staging }));
        self.with_driver.retain(|held| *held != generation);
        match recall {
            Recall::No | Recall::Renew => self.set_phase(Phase::Armed, generation),
            Recall::Hold => self.arm(generation),
            Recall::Cancel => self.refuse(generation, Refusal::Canceled),
        }
        true
    }

    /// Drops the candidate, if it is one, and says why.
    fn refuse(&mut self, generation: u64, refusal: Refusal) {
        if let Stage::Candidate(_) = self.stage {
            self.stage = Stage::Idle;
            self.forget(generation);
            return_free_memory();
        }
        self.set_phase(if matches!(self.stage, Stage::Idle) { Phase::Idle } else { Phase::Settling }, generation);
        let reason = refusal.to_string();
        self.shared.emit(EngineEvent::Refused { generation, refusal });
        tracing::debug!(generation, reason, "the model was refused");
    }

    /// Runs the candidate on a frame that the driver prepared, if there is one.
    fn run_shadow(&mut self) -> bool {
        let staged = self.shared.staged.take();
        let came_back = staged.is_some();
        self.staging_is_out &= !came_back;
        let Stage::Candidate(candidate) = &mut self.stage else { return came_back };
        let generation = candidate.session.generation();
        let mut verdict = Ok(Verdict::Continue);
        if let Some(staging) = staged.filter(|staging| staging.generation == generation) {
            verdict = candidate.shadow_frame(&staging, &*self.clock);
            candidate.staging = Some(staging);
        }
        let sent = !self.staging_is_out && candidate.staging.take().is_some_and(|staging| self.shared.staging.offer(staging).is_ok());
        self.staging_is_out |= sent;
        match verdict {
            Ok(Verdict::Continue) => {}
            Ok(Verdict::Passed) => {
                candidate.armed = true;
                let (frames, lateral_m) = candidate.shadow.as_ref().map_or((0, 0.0), |shadow| (shadow.passed(), shadow.lateral_m()));
                self.shared.emit(EngineEvent::ShadowPassed { generation, frames, lateral_m });
                self.arm(generation);
            }
            Err(failure) => self.refuse(generation, failure.into()),
        }
        came_back || sent
    }

    /// Hands the candidate to the driver, when the vehicle wants it and the newest frame was one to swap at.
    fn publish(&mut self) -> bool {
        let terms = match &self.stage {
            Stage::Candidate(candidate) => candidate.terms(&*self.clock),
            Stage::Idle | Stage::Published(_) | Stage::Settling { .. } => None,
        };
        let Some(terms) = terms else { return false };
        let Stage::Candidate(mut candidate) = std::mem::replace(&mut self.stage, Stage::Idle) else { return false };
        let generation = candidate.session.generation();
        let previous = self.with_driver.first().copied();
        let shadow = candidate.shadow.take();
        self.stage = Stage::Published(Box::new(Published { generation, previous, told: None, terms, shadow, recall: Recall::No }));
        self.with_driver.insert(0, generation);
        self.shared.begin();
        candidate.session.offer_on(terms);
        // The slot is empty: nothing is published before the driver took what was published last.
        if self.shared.incoming.offer(candidate.session).is_err() {
            tracing::error!(generation, "the driver has not taken the model before");
        }
        // Only now: whoever sees this phase may rely on the next frame to take the model.
        self.set_phase(Phase::Activating, generation);
        true
    }

    /// Tells the vehicle what the driver reported.
    fn tell(&mut self) -> bool {
        let Stage::Published(published) = &mut self.stage else { return false };
        let (generation, previous, told) = (published.generation, published.previous, published.told);
        let report = self.shared.reported(generation);
        let Some(now) = report.filter(|_| report != told) else { return false };
        published.told = Some(now);
        // A model that was confirmed before is confirmed at once; every other one was swapped in first, even if we look late.
        if told.is_none() && now != Report::Confirmed {
            self.set_phase(Phase::Trial, generation);
            self.shared.emit(EngineEvent::Swapped { generation });
        }
        match now {
            Report::Swapped => {}
            Report::TrialPassed => {
                self.shared.status().trial_passed = true;
                self.shared.emit(EngineEvent::TrialPassed { generation });
            }
            Report::Confirmed => {
                self.stage = Stage::Settling { keeps: Some(generation) };
                self.set_phase(Phase::Settling, generation);
                self.settle();
                self.shared.emit(EngineEvent::Confirmed { generation });
                return true;
            }
            Report::RolledBack(reason) => {
                self.stage = Stage::Settling { keeps: previous };
                self.set_phase(Phase::Settling, generation);
                self.settle();
                self.shared.emit(EngineEvent::RolledBack { generation, reason });
                return true;
            }
        }
        true
    }

    fn settle(&mut self) -> bool {
        let Stage::Settling { keeps } = self.stage else { return false };
        if self.with_driver.iter().any(|generation| Some(*generation) != keeps) {
            return false;
        }
        self.stage = Stage::Idle;
        if self.waiting.is_empty() {
            let mut status = self.shared.status();
            // A load may have been asked for since; its phase is not ours to overwrite.
            if status.phase == Phase::Settling {
                status.phase = Phase::Idle;
            }
        }
        true
    }

    /// Frees what the driver gave back. Tens of milliseconds for a large model, which is why it happens here.
    fn free_retired(&mut self) -> bool {
        let Some(session) = self.shared.retired.take() else { return false };
        // The driver reported before it gave the model back; the vehicle hears it in that order too.
        self.tell();
        let generation = session.generation();
        drop(session);
        return_free_memory();
        self.with_driver.retain(|held| *held != generation);
        self.forget(generation);
        self.shared.emit(EngineEvent::Freed { generation });
        true
    }

    fn forget(&mut self, generation: u64) {
        self.in_memory.retain(|(held, _)| *held != generation);
        self.update_memory();
    }

    fn memory_mib(&self) -> u32 {
        self.in_memory.iter().fold(0, |sum, (_, mib)| sum.saturating_add(*mib))
    }

    fn update_memory(&self) {
        self.shared.status().memory_mib = self.memory_mib();
    }

    fn set_phase(&self, phase: Phase, generation: u64) {
        let mut status = self.shared.status();
        status.phase = phase;
        status.generation = generation;
        status.trial_passed = false;
    }
}

impl Candidate {
    fn shadow_frame(&mut self, staging: &Staging, clock: &dyn Clock) -> Result<Verdict, super::ShadowFailure> {
        let (Some(shadow), Some(bearing)) = (&mut self.shadow, staging.bearing()) else { return Ok(Verdict::Continue) };
        self.newest = Some((staging.begun_ns, staging.reference.mode));
        let mut output = DriveOutput::default();
        let model = self.session.model_mut();
        match model.answer_staged(staging, shadow.before(), clock, &mut output) {
            Some(answer) => shadow.judge(bearing, &answer, &output, &staging.reference),
            None => Ok(Verdict::Continue),
        }
    }

    /// On what terms it may be handed over now; none when it may not.
    fn terms(&self, clock: &dyn Clock) -> Option<Terms> {
        let when = self.activate?;
        let Some(shadow) = &self.shadow else { return Some(Terms { when, until_ns: u64::MAX }) };
        let (begun_ns, mode) = self.newest.filter(|_| shadow.agrees())?;
        let model = self.session.model();
        let agreement_ns = model.deadline_ns().saturating_add(AGREEMENT_STEPS.saturating_mul(model.step_ns()));
        let terms = Terms { when, until_ns: begun_ns.saturating_add_signed(agreement_ns) };
        terms.permit(mode, clock.now_ns()).then_some(terms)
    }
}

impl Published {
    /// Whether it can be wanted back: no frame is known to have taken it, and nobody gave it up.
    fn may_be_recalled(&self, generation: u64) -> bool {
        self.generation == generation && self.told.is_none() && self.recall != Recall::Cancel
    }
}
