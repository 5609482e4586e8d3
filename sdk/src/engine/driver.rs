//! Answering frames, whatever happens.

use std::fmt;
use std::sync::Arc;

use super::EngineConfig;
use super::error::RollBackReason;
use super::load::TestedSession;
use super::shared::{Order, Report, Shared};
use crate::drive::{
    Bearing, Before, Clock, DriveInput, DriveOutput, Faults, Found, InputLimits, Mode, ModelIdentity, Situation, Staging, StepFault,
    TakeoverLogic,
};

/// The stepping handle: one thread, one call per frame.
///
/// Dropping it frees the models it holds on the spot; do that when the vehicle no longer drives.
pub struct Driver {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    limits: InputLimits,
    failures_in_a_row_max: u32,
    shadow_every: u32,
    active: Option<Box<TestedSession>>,
    /// Kept warm while the active one is on trial.
    previous: Option<Box<TestedSession>>,
    /// Waits for its place on the way to the loader.
    retiring: Option<Box<TestedSession>>,
    trial: Option<Trial>,
    staging: Option<Box<Staging>>,
    frames: u64,
    last_sequence: Option<u64>,
    before: Option<Before>,
    fault: Option<StepFault>,
    takeover: TakeoverLogic,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    frames_left: u32,
    late_in_a_row: u32,
    inputs_missing_in_a_row: u32,
    outside_in_a_row: u32,
}

/// A failure of the model on trial.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The previous model answers this step, if it can; the trial goes on. Neither a lost frame nor how a human drives is a fault of the model.
    Once,
    /// The trial is over.
    Final(RollBackReason),
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, clock: Arc<dyn Clock>, config: &EngineConfig) -> Self {
        let nanoseconds = |ms: u32| i64::from(ms) * 1_000_000;
        Self {
            shared,
            clock,
            limits: InputLimits {
                frame_age_max_ns: nanoseconds(config.frame_age_max_ms),
                ego_age_max_ns: nanoseconds(config.ego_age_max_ms),
                camera_skew_max_ns: nanoseconds(config.camera_skew_max_ms),
            },
            failures_in_a_row_max: config.failures_in_a_row_max.max(1),
            shadow_every: config.shadow_every.max(1),
            active: None,
            previous: None,
            retiring: None,
            trial: None,
            staging: None,
            frames: 0,
            last_sequence: None,
            before: None,
            fault: None,
            takeover: TakeoverLogic::default(),
        }
    }

    /// Answers one frame. `output` is written whole, whatever happens; act on it only when `control_valid` and until `valid_until_ns`.
    ///
    /// Blocks while the model runs (twice in the one step in which a model on trial fails). Takes no lock, allocates and frees nothing
    /// of ours.
    pub fn step(&mut self, input: &DriveInput<'_>, output: &mut DriveOutput) {
        let start = self.clock.now_ns();
        *output = DriveOutput { sequence: input.sequence, mode: input.requested_mode, ..DriveOutput::default() };
        if self.last_sequence.is_some_and(|last| input.sequence <= last) {
            output.faults.insert(Faults::SEQUENCE);
        }
        self.last_sequence = Some(input.sequence);
        self.frames = self.frames.wrapping_add(1);
        self.fault = None;

        let changed = self.take_over(input.requested_mode, start) | self.obey();
        output.swapped = changed;
        if changed {
            // Two models differ at once where one may not jump; the jerk is that of one model.
            self.before = None;
        }
        self.answer(input, start, output);
        self.retire();

        if output.fell_back {
            // The other model's output; the one that is active now may differ from it at once.
            self.before = None;
        } else if output.control_valid {
            self.before = Some(Before { acceleration_mps2: output.control.acceleration_mps2, time_ns: input.time_ns });
        }
        let situation = Situation { time_ns: input.time_ns, mode: input.requested_mode, overrides: input.driver.overrides };
        self.takeover.decide(situation, output);
        self.offer_to_shadow(input, start, output);
        output.total_ns = self.clock.now_ns().saturating_sub(start);
    }

    /// The model that answers frames; none before the first one.
    pub fn active_model(&self) -> Option<&ModelIdentity> {
        self.active.as_deref().map(|session| session.model().identity())
    }

    /// What was wrong in the last step: why its output must not be used, why the model on trial did not answer it, or what was not perfect.
    /// None also when there is no model, or an answer came too late.
    pub fn fault(&self) -> Option<&StepFault> {
        self.fault.as_ref()
    }

    /// The words in which the active model described its last frame, if it is one that speaks. To be shown, never to be acted on.
    pub fn language(&self) -> impl Iterator<Item = &str> {
        self.active.as_deref().into_iter().flat_map(|session| session.model().language())
    }

    /// The frame boundary: from here on the new model answers, if there is one and this frame is one to swap at. One atomic exchange.
    fn take_over(&mut self, mode: Mode, start: u64) -> bool {
        if self.previous.is_some() || self.retiring.is_some() {
            // The loader publishes nothing before it has these back; taking one now would free another here.
            return false;
        }
        let Some(new) = self.shared.incoming.take() else { return false };
        if self.active.is_some() && !new.terms().permit(mode, start) {
            // Whoever ordered the swap looked before this frame came. The loader takes back what is not taken; its slot has been empty
            // since, because it offers nothing before it has this one again or knows that we have it.
            self.retiring = self.shared.incoming.offer(new).err();
            return false;
        }
        let (generation, trial_frames) = (new.generation(), new.trial_frames());
        let old = self.active.replace(new);
        match trial_frames {
            Some(frames) => {
                self.previous = old;
                self.trial = Some(Trial { frames_left: frames, late_in_a_row: 0, inputs_missing_in_a_row: 0, outside_in_a_row: 0 });
                self.shared.report(generation, Report::Swapped);
            }
            None => {
                self.retiring = old;
                self.shared.report(generation, Report::Confirmed);
            }
        }
        true
    }

    /// Follows what the vehicle decided about the trial; `true` when another model answers now. Without a trial the order came too
    /// late: the model was rolled back before.
    fn obey(&mut self) -> bool {
        let on_trial = self.trial.and(self.active.as_deref()).map(TestedSession::generation);
        let (Some(order), Some(generation)) = (self.shared.take_order(on_trial), on_trial) else { return false };
        self.trial = None;
        match order {
            Order::Confirm => {
                self.retiring = self.previous.take();
                self.shared.report(generation, Report::Confirmed);
                false
            }
            Order::RollBack => {
                self.return_to_previous(generation, RollBackReason::Requested);
                true
            }
        }
    }

    fn return_to_previous(&mut self, generation: u64, reason: RollBackReason) {
        self.trial = None;
        self.retiring = std::mem::replace(&mut self.active, self.previous.take());
        self.shared.report(generation, Report::RolledBack(reason));
    }

    /// Gives a model back to the loader, which frees it. When the slot is still full it is tried again at the next frame.
    fn retire(&mut self) {
        if let Some(session) = self.retiring.take() {
            self.retiring = self.shared.retired.offer(session).err();
        }
    }

    fn answer(&mut self, input: &DriveInput<'_>, start: u64, output: &mut DriveOutput) {
        let Some(active) = self.active.as_deref_mut() else {
            output.faults.insert(Faults::NO_MODEL);
            return;
        };
        let answer = active.model_mut().answer(input, &self.limits, self.before, &*self.clock, output);
        let late = is_slow(active, input, self.clock.now_ns().saturating_sub(start), output);
        output.faults.insert(answer.faults);
        let failure = self.verdict(&answer, bearing(input), late);
        self.fault = answer.cause;
        if let Some(failure) = failure {
            self.fall_back(input, failure, output);
        }
        self.check_time(input, start, output);
    }

    /// Whether the model on trial has just failed it. Counts the healthy frames on the way.
    fn verdict(&mut self, answer: &Found, bearing: Bearing, late: bool) -> Option<Failure> {
        let trial = self.trial.as_mut()?;
        let faults = answer.faults;
        let missing = faults.intersects(Faults::OF_INPUT);
        let outside = faults.contains(Faults::ENVELOPE);
        let excused = outside && bearing.excuses(answer.cause.as_ref());
        // A human may go on as he likes; a model that drives must come back inside.
        let counts = excused && bearing.mode == Mode::Engaged;
        trial.outside_in_a_row = if counts { trial.outside_in_a_row.saturating_add(1) } else { 0 };
        trial.late_in_a_row = if late { trial.late_in_a_row + 1 } else { 0 };
        trial.inputs_missing_in_a_row = if missing { trial.inputs_missing_in_a_row.saturating_add(1) } else { 0 };
        let failed = [
            (faults.contains(Faults::RUN_FAILED), RollBackReason::RunFailed),
            (faults.contains(Faults::NOT_FINITE), RollBackReason::NotFinite),
            (outside && !excused || trial.outside_in_a_row >= self.failures_in_a_row_max, RollBackReason::Envelope),
            (trial.late_in_a_row >= self.failures_in_a_row_max, RollBackReason::Deadline),
            (trial.inputs_missing_in_a_row >= self.failures_in_a_row_max, RollBackReason::Inputs),
        ];
        if let Some(&(_, reason)) = failed.iter().find(|(failed, _)| *failed) {
            return Some(Failure::Final(reason));
        }
        if missing || excused {
            return Some(Failure::Once);
        }
        if !late && trial.frames_left > 0 {
            trial.frames_left -= 1;
            if trial.frames_left == 0 {
                let generation = self.active.as_deref().map_or(0, TestedSession::generation);
                self.shared.report(generation, Report::TrialPassed);
            }
        }
        None
    }

    /// The same step, answered by the previous model.
    fn fall_back(&mut self, input: &DriveInput<'_>, failure: Failure, output: &mut DriveOutput) {
        let kept = output.faults.within(Faults::OF_MODEL | Faults::SEQUENCE);
        let mut second = DriveOutput { sequence: output.sequence, mode: output.mode, faults: kept, ..DriveOutput::default() };
        if let Some(previous) = self.previous.as_deref_mut() {
            let answer = previous.model_mut().answer(input, &self.limits, None, &*self.clock, &mut second);
            second.faults.insert(answer.faults);
        } else {
            second.faults.insert(Faults::NO_MODEL);
        }
        let blameless = matches!(failure, Failure::Once | Failure::Final(RollBackReason::Inputs));
        if blameless && !second.control_valid {
            // The previous model cannot answer either, or there is none: a camera failed, or a human drives too fast; not the new model.
            return;
        }
        second.run_ns = second.run_ns.saturating_add(output.run_ns);
        second.fell_back = true;
        *output = second;
        if let Failure::Final(reason) = failure {
            output.swapped = true;
            let generation = self.active.as_deref().map_or(0, TestedSession::generation);
            self.return_to_previous(generation, reason);
        }
    }

    /// Marks a late answer, and takes it back when it is already out of date.
    fn check_time(&self, input: &DriveInput<'_>, start: u64, output: &mut DriveOutput) {
        let Some(active) = self.active.as_deref() else { return };
        let elapsed_ns = self.clock.now_ns().saturating_sub(start);
        if !output.control_valid {
            return;
        }
        if is_late(active, input, elapsed_ns, output) {
            output.faults.insert(Faults::DEADLINE_MISSED);
        }
        if input.time_ns.saturating_add_unsigned(elapsed_ns) > output.valid_until_ns {
            output.withhold();
            output.control_valid = false;
        }
    }

    /// Prepares the frame for the candidate, if one runs in shadow and has finished the frame before.
    fn offer_to_shadow(&mut self, input: &DriveInput<'_>, start: u64, output: &DriveOutput) {
        if self.staging.is_none() {
            self.staging = self.shared.staging.take();
        }
        if !output.control_valid || !self.frames.is_multiple_of(u64::from(self.shadow_every)) {
            return;
        }
        if let Some(mut staging) = self.staging.take() {
            staging.fill(input, &self.limits, start, output);
            match self.shared.staged.offer(staging) {
                Ok(()) => self.shared.wake_loader(),
                Err(staging) => self.staging = Some(staging),
            }
        }
    }
}

fn bearing(input: &DriveInput<'_>) -> Bearing {
    let ego = &input.ego;
    Bearing { time_ns: input.time_ns, mode: input.requested_mode, speed_mps: ego.speed_mps, yaw_rate_radps: ego.yaw_rate_radps }
}

/// The output is late, whoever is to blame: its frame is older than the contract allows.
fn is_late(session: &TestedSession, input: &DriveInput<'_>, elapsed_ns: u64, output: &DriveOutput) -> bool {
    age_ns(input, output).max(0).saturating_add_unsigned(elapsed_ns) > session.model().deadline_ns()
}

/// The model is to blame for it, and not a camera that delivers late: it took longer than what its trial is judged by.
fn is_slow(session: &TestedSession, input: &DriveInput<'_>, elapsed_ns: u64, output: &DriveOutput) -> bool {
    0i64.saturating_add_unsigned(elapsed_ns) > session.model().budget_ns(age_ns(input, output))
}

fn age_ns(input: &DriveInput<'_>, output: &DriveOutput) -> i64 {
    input.time_ns.saturating_sub(output.exposure_ns)
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("active", &self.active_model()).field("frames", &self.frames).finish_non_exhaustive()
    }
}
