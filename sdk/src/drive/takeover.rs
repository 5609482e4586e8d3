//! When the driver must take over, and when the vehicle must be brought to a stop without him.
//!
//! The SDK asks; the vehicle executes. Nothing is asked while nobody acts on the output ([`Mode::Standby`]).
//!
//! | what happens | takeover | minimal risk manoeuvre |
//! |---|---|---|
//! | no valid control | immediate | none while the last valid output is still valid, then straight stop (no lane is known any more) |
//! | low confidence, or 3 late answers in a row | request, 10 s | in-lane stop when the 10 s are over |
//! | one late answer, a repeated frame, cameras apart in time | prepare | none |
//!
//! A manoeuvre, once asked for, is asked for until the driver overrides or the mode returns to standby (UN R157, 5.3: it ends with
//! standstill or with the driver).

use super::{DriveOutput, Faults, MinimalRisk, Mode, Takeover, TakeoverLevel, TakeoverReason};

/// Time that the driver has to answer a request: UN R157 demands at least 10 s.
const BUDGET_NS: i64 = 10_000_000_000;

/// Late answers in a row after which lateness is no accident any more.
const LATE_MAX: u32 = 3;

/// The memory that the decision needs from step to step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TakeoverLogic {
    requested_since_ns: Option<i64>,
    valid_until_ns: Option<i64>,
    late: u32,
    manoeuvre: MinimalRisk,
}

/// What the driver and the vehicle do in this step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) time_ns: i64,
    pub(crate) mode: Mode,
    pub(crate) overrides: bool,
}

impl TakeoverLogic {
    /// Fills `takeover` and `minimal_risk` of an output that is complete otherwise.
    pub(crate) fn decide(&mut self, situation: Situation, output: &mut DriveOutput) {
        self.late = if output.faults.contains(Faults::DEADLINE_MISSED) { self.late.saturating_add(1) } else { 0 };
        if output.control_valid {
            self.valid_until_ns = Some(output.valid_until_ns);
        }
        if situation.mode == Mode::Standby || situation.overrides {
            *self = Self { late: self.late, valid_until_ns: self.valid_until_ns, ..Self::default() };
            return;
        }
        let (level, reason) = self.level(output);
        output.takeover = self.with_budget(situation.time_ns, level, reason);
        let wanted = match output.takeover.level {
            TakeoverLevel::Immediate if output.control_valid => MinimalRisk::InLaneStop,
            TakeoverLevel::Immediate if self.valid_until_ns.is_none_or(|until| situation.time_ns > until) => MinimalRisk::StraightStop,
            TakeoverLevel::None | TakeoverLevel::Prepare | TakeoverLevel::Request | TakeoverLevel::Immediate => MinimalRisk::None,
        };
        if self.manoeuvre == MinimalRisk::None {
            self.manoeuvre = wanted;
        } else if wanted == MinimalRisk::StraightStop {
            // An in-lane stop needs a plan; without one only straight ahead is left.
            self.manoeuvre = wanted;
        }
        output.minimal_risk = self.manoeuvre;
    }

    fn level(&self, output: &DriveOutput) -> (TakeoverLevel, TakeoverReason) {
        let faults = output.faults;
        if !output.control_valid {
            let reason = if faults.intersects(Faults::NO_MODEL) {
                TakeoverReason::NoModel
            } else if faults.intersects(Faults::OF_MODEL) {
                TakeoverReason::Model
            } else if faults.intersects(Faults::OF_INPUT) {
                TakeoverReason::Input
            } else {
                TakeoverReason::Deadline
            };
            return (TakeoverLevel::Immediate, reason);
        }
        if faults.contains(Faults::LOW_CONFIDENCE) {
            return (TakeoverLevel::Request, TakeoverReason::LowConfidence);
        }
        if self.late >= LATE_MAX {
            return (TakeoverLevel::Request, TakeoverReason::Deadline);
        }
        if self.late > 0 {
            return (TakeoverLevel::Prepare, TakeoverReason::Deadline);
        }
        if faults.intersects(Faults::CAMERA_REPEATED | Faults::CAMERA_SKEW) {
            return (TakeoverLevel::Prepare, TakeoverReason::Input);
        }
        (TakeoverLevel::None, TakeoverReason::None)
    }

    fn with_budget(&mut self, time_ns: i64, level: TakeoverLevel, reason: TakeoverReason) -> Takeover {
        if level != TakeoverLevel::Request {
            self.requested_since_ns = None;
            return Takeover { level, reason, budget_ms: 0 };
        }
        let since = *self.requested_since_ns.get_or_insert(time_ns);
        let left_ns = BUDGET_NS.saturating_sub(time_ns.saturating_sub(since)).clamp(0, BUDGET_NS);
        let level = if left_ns == 0 { TakeoverLevel::Immediate } else { level };
        Takeover { level, reason, budget_ms: (left_ns / 1_000_000) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Step {
        at_ms: i64,
        mode: Mode,
        overrides: bool,
        valid: bool,
        faults: Faults,
    }

    const fn engaged(at_ms: i64, valid: bool, faults: Faults) -> Step {
        Step { at_ms, mode: Mode::Engaged, overrides: false, valid, faults }
    }

    fn check(logic: &mut TakeoverLogic, step: Step, level: TakeoverLevel, reason: TakeoverReason, manoeuvre: MinimalRisk) {
        let time_ns = step.at_ms * 1_000_000;
        let mut output =
            DriveOutput { control_valid: step.valid, faults: step.faults, valid_until_ns: time_ns + 100_000_000, ..DriveOutput::default() };
        logic.decide(Situation { time_ns, mode: step.mode, overrides: step.overrides }, &mut output);
        let found = (output.takeover.level, output.takeover.reason, output.minimal_risk);
        assert_eq!(found, (level, reason, manoeuvre), "at {} ms", step.at_ms);
    }

    use MinimalRisk::{InLaneStop, StraightStop};
    use TakeoverLevel::{Immediate, Prepare, Request};

    #[test]
    fn a_lost_answer_is_bridged_by_the_last_valid_one_and_then_stops_the_vehicle() {
        let mut logic = TakeoverLogic::default();
        check(&mut logic, engaged(0, true, Faults::NONE), TakeoverLevel::None, TakeoverReason::None, MinimalRisk::None);
        check(&mut logic, engaged(50, false, Faults::NOT_FINITE), Immediate, TakeoverReason::Model, MinimalRisk::None);
        check(&mut logic, engaged(100, false, Faults::CAMERA_MISSING), Immediate, TakeoverReason::Input, MinimalRisk::None);
        check(&mut logic, engaged(150, false, Faults::CAMERA_MISSING), Immediate, TakeoverReason::Input, StraightStop);
        // Control that comes back does not end the manoeuvre; the driver does.
        check(&mut logic, engaged(200, true, Faults::NONE), TakeoverLevel::None, TakeoverReason::None, StraightStop);
        let overridden = Step { overrides: true, ..engaged(250, true, Faults::NONE) };
        check(&mut logic, overridden, TakeoverLevel::None, TakeoverReason::None, MinimalRisk::None);
        check(&mut logic, engaged(300, true, Faults::NONE), TakeoverLevel::None, TakeoverReason::None, MinimalRisk::None);
    }

    #[test]
    fn without_any_model_an_engaged_vehicle_is_stopped_at_once_and_a_standing_by_one_is_left_alone() {
        check(&mut TakeoverLogic::default(), engaged(0, false, Faults::NO_MODEL), Immediate, TakeoverReason::NoModel, StraightStop);
        let standby = Step { mode: Mode::Standby, ..engaged(0, false, Faults::NO_MODEL) };
        check(&mut TakeoverLogic::default(), standby, TakeoverLevel::None, TakeoverReason::None, MinimalRisk::None);
    }

    #[test]
    fn a_request_that_nobody_answers_for_ten_seconds_becomes_a_stop_in_the_lane() {
        let mut logic = TakeoverLogic::default();
        for at_ms in (0..10_000).step_by(50) {
            check(&mut logic, engaged(at_ms, true, Faults::LOW_CONFIDENCE), Request, TakeoverReason::LowConfidence, MinimalRisk::None);
        }
        check(&mut logic, engaged(10_000, true, Faults::LOW_CONFIDENCE), Immediate, TakeoverReason::LowConfidence, InLaneStop);
        check(&mut logic, engaged(10_050, true, Faults::NONE), TakeoverLevel::None, TakeoverReason::None, InLaneStop);
        let standby = Step { mode: Mode::Standby, ..engaged(10_100, true, Faults::NONE) };
        check(&mut logic, standby, TakeoverLevel::None, TakeoverReason::None, MinimalRisk::None);
    }

    #[test]
    fn one_late_answer_warns_and_three_in_a_row_ask() {
        let mut logic = TakeoverLogic::default();
        let late = |at_ms| engaged(at_ms, true, Faults::DEADLINE_MISSED);
        check(&mut logic, late(0), Prepare, TakeoverReason::Deadline, MinimalRisk::None);
        check(&mut logic, late(50), Prepare, TakeoverReason::Deadline, MinimalRisk::None);
        check(&mut logic, late(100), Request, TakeoverReason::Deadline, MinimalRisk::None);
        check(&mut logic, engaged(150, true, Faults::CAMERA_REPEATED), Prepare, TakeoverReason::Input, MinimalRisk::None);
    }
}
