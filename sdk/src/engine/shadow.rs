//! Whether a candidate may drive, judged on live frames that the active model answers.

use switchback_signing::bundle::contract::Acceptance;

use super::error::ShadowFailure;
use crate::drive::{Bearing, Before, DriveOutput, Faults, Found, StepFault, TrajectoryPoint, budget_ns};

/// Frames of a hundred that may be late, unsure, apart, or outside the envelope [because of how the vehicle is driven](Bearing::excuses): a
/// machine hiccups, a better model sometimes knows better, and a human drives as he likes. Errors, values that are not finite and envelopes
/// that the model breaks by itself are not forgiven once.
const FORGIVEN_PERCENT: u32 = 10;

/// How far ahead plans are compared at least: this long, s, and this far, m. By time alone a slow vehicle would look ahead so little that
/// even a model with left and right exchanged is hardly beside the active plan; it would pass, and leave its lane later.
/// Not farther: over 12 m, sound models of `examples/models` are more than half a meter apart now and then.
const COMPARED_AT_S: f32 = 1.0;
const COMPARED_AT_M: f32 = 10.0;

/// A shadow run under way.
#[derive(Debug)]
pub(super) struct Shadow {
    frames_needed: u32,
    lateral_max_m: f32,
    deadline_ns: i64,
    passed: u32,
    frames: u32,
    late: u32,
    low: u32,
    apart: u32,
    outside: u32,
    lateral_m: f32,
    /// The newest frame passed: the plans agree now.
    agrees: bool,
    /// The candidate's valid output before, for its jerk.
    before: Option<Before>,
}

/// How one frame came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Continue,
    /// All frames that the contract asks for have passed, just now.
    Passed,
}

impl Shadow {
    pub(super) fn new(acceptance: &Acceptance, deadline_ns: i64) -> Self {
        Self {
            frames_needed: acceptance.shadow_frames.max(1),
            lateral_max_m: acceptance.shadow_lateral_max_m,
            deadline_ns,
            passed: 0,
            frames: 0,
            late: 0,
            low: 0,
            apart: 0,
            outside: 0,
            lateral_m: 0.0,
            agrees: false,
            before: None,
        }
    }

    pub(super) fn before(&self) -> Option<Before> {
        self.before
    }

    /// Whether the newest frame passed.
    pub(super) fn agrees(&self) -> bool {
        self.agrees
    }

    /// Frames that passed.
    pub(super) fn passed(&self) -> u32 {
        self.passed
    }

    /// Largest lateral distance to the active plan so far, m.
    pub(super) fn lateral_m(&self) -> f32 {
        self.lateral_m
    }

    /// Judges the candidate's `output` for a step that the active model answered with `reference`.
    pub(super) fn judge(
        &mut self,
        bearing: Bearing,
        answer: &Found,
        output: &DriveOutput,
        reference: &DriveOutput,
    ) -> Result<Verdict, ShadowFailure> {
        self.agrees = false;
        self.frames = self.frames.saturating_add(1);
        if answer.faults.within(Faults::OF_MODEL | Faults::OF_INPUT) == Faults::ENVELOPE && bearing.excuses(answer.cause.as_ref()) {
            // It carries no answer to compare.
            self.before = None;
            self.outside += 1;
            return self.forgive().map(|()| Verdict::Continue);
        }
        if let Some(failure) = unforgivable(answer) {
            return Err(failure);
        }
        self.before = Some(Before { acceleration_mps2: output.control.acceleration_mps2, time_ns: bearing.time_ns });
        self.agrees = self.is_good(bearing.time_ns, answer, output, reference);
        if !self.agrees {
            return self.forgive().map(|()| Verdict::Continue);
        }
        self.passed = self.passed.saturating_add(1);
        if self.passed == self.frames_needed { Ok(Verdict::Passed) } else { Ok(Verdict::Continue) }
    }

    fn is_good(&mut self, time_ns: i64, answer: &Found, output: &DriveOutput, reference: &DriveOutput) -> bool {
        let age_ns = time_ns.saturating_sub(output.exposure_ns);
        let late = output.run_ns as i64 > budget_ns(self.deadline_ns, age_ns);
        let low = answer.faults.contains(Faults::LOW_CONFIDENCE) && !reference.faults.contains(Faults::LOW_CONFIDENCE);
        let lateral_m = lateral_distance(output, reference);
        let apart = lateral_m > self.lateral_max_m;
        self.lateral_m = self.lateral_m.max(lateral_m);
        self.late += u32::from(late);
        self.low += u32::from(low);
        self.apart += u32::from(apart);
        !(late || low || apart)
    }

    /// An error when more was wrong than is forgiven, of the kind that was wrong most often.
    fn forgive(&mut self) -> Result<(), ShadowFailure> {
        let wrong = self.late.max(self.low).max(self.apart).max(self.outside);
        // At least one in a short run. In a long one, while the candidate waits to be activated, the share counts.
        let forgiven = (self.frames_needed.max(self.frames) * FORGIVEN_PERCENT / 100).max(1);
        if wrong <= forgiven {
            return Ok(());
        }
        let frames = self.frames;
        Err(if wrong == self.apart {
            ShadowFailure::Apart { apart: self.apart, frames, lateral_m: self.lateral_m, lateral_max_m: self.lateral_max_m }
        } else if wrong == self.late {
            ShadowFailure::Late { late: self.late, frames, deadline_ms: (self.deadline_ns / 1_000_000) as u32 }
        } else if wrong == self.low {
            ShadowFailure::LowConfidence { low: self.low, frames }
        } else {
            ShadowFailure::Outside { outside: self.outside, frames }
        })
    }
}

fn unforgivable(answer: &Found) -> Option<ShadowFailure> {
    let faults = answer.faults;
    match answer.cause.clone() {
        Some(StepFault::Run(error)) => Some(ShadowFailure::Run(error)),
        _ if faults.contains(Faults::NOT_FINITE) => Some(ShadowFailure::NotFinite),
        cause if faults.contains(Faults::ENVELOPE) => Some(ShadowFailure::Envelope(cause)),
        // The active model had all it needs in this very step.
        cause if faults.intersects(Faults::OF_INPUT) => Some(ShadowFailure::Inputs(cause)),
        _ => None,
    }
}

/// Distance of the candidate's [point ahead](point_ahead) to the active path, m; 0 when one of the two plans no path.
///
/// To the path and not to its point at the same time, because a model that drives slower through a bend is not apart.
fn lateral_distance(output: &DriveOutput, reference: &DriveOutput) -> f32 {
    let plan = &output.trajectory[..output.trajectory_points as usize];
    let path = &reference.trajectory[..reference.trajectory_points as usize];
    let Some(point) = point_ahead(plan) else { return 0.0 };
    let Some(last) = path.len().checked_sub(1) else { return 0.0 };
    let mut from = (0.0, 0.0);
    let mut nearest = f32::INFINITY;
    for (k, to) in path.iter().enumerate() {
        nearest = nearest.min(distance_to_segment(point, from, (to.x_m, to.y_m), k == last));
        from = (to.x_m, to.y_m);
    }
    nearest
}

/// Where the plan has reached both the time and the way of comparison: between two points, or at its end when it is shorter.
fn point_ahead(plan: &[TrajectoryPoint]) -> Option<(f32, f32)> {
    let (mut before, mut way_m) = (TrajectoryPoint::default(), 0.0);
    for point in plan {
        let (x_m, y_m) = (point.x_m - before.x_m, point.y_m - before.y_m);
        let step_m = x_m.hypot(y_m);
        if point.time_s >= COMPARED_AT_S && way_m + step_m >= COMPARED_AT_M {
            let by_time = (COMPARED_AT_S - before.time_s) / (point.time_s - before.time_s);
            let by_way = (COMPARED_AT_M - way_m) / step_m.max(f32::MIN_POSITIVE);
            let share = by_time.max(by_way).clamp(0.0, 1.0);
            return Some((before.x_m + share * x_m, before.y_m + share * y_m));
        }
        (before, way_m) = (*point, way_m + step_m);
    }
    plan.last().map(|last| (last.x_m, last.y_m))
}

/// The last segment goes on for ever, for a candidate that drives faster than the active model.
fn distance_to_segment(point: (f32, f32), from: (f32, f32), to: (f32, f32), endless: bool) -> f32 {
    let (along, aside) = ((to.0 - from.0, to.1 - from.1), (point.0 - from.0, point.1 - from.1));
    let length2 = along.0 * along.0 + along.1 * along.1;
    let share = if length2 > 1e-6 { (along.0 * aside.0 + along.1 * aside.1) / length2 } else { 0.0 };
    let share = share.clamp(0.0, if endless { f32::INFINITY } else { 1.0 });
    (aside.0 - share * along.0).hypot(aside.1 - share * along.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;
    use crate::drive::{EnvelopeBreach, Mode};

    const ENGAGED: Bearing = Bearing { time_ns: 0, mode: Mode::Engaged, speed_mps: 10.0, yaw_rate_radps: 0.0 };

    fn plan(speed_mps: f32, curvature_1pm: f32) -> DriveOutput {
        let mut output = DriveOutput { trajectory_points: 20, ..DriveOutput::default() };
        for (k, point) in output.trajectory[..20].iter_mut().enumerate() {
            point.time_s = 0.1 * (k + 1) as f32;
            let angle = curvature_1pm * speed_mps * point.time_s;
            (point.x_m, point.y_m) = if curvature_1pm == 0.0 {
                (speed_mps * point.time_s, 0.0)
            } else {
                (angle.sin() / curvature_1pm, (1.0 - angle.cos()) / curvature_1pm)
            };
        }
        output
    }

    fn acceptance(shadow_frames: u32) -> Acceptance {
        Acceptance { tolerance: Default::default(), default_tolerance: 0.0, shadow_frames, shadow_lateral_max_m: 0.5, trial_frames: 1 }
    }

    fn check_distance(one: &DriveOutput, other: &DriveOutput, expected: f32) {
        let found = lateral_distance(one, other);
        assert!((found - expected).abs() < 0.05, "{found}, not {expected}");
    }

    #[test]
    fn the_distance_is_lateral_and_not_of_speed() {
        check_distance(&plan(10.0, 0.0), &plan(10.0, 0.0), 0.0);
        check_distance(&plan(5.0, 0.02), &plan(15.0, 0.02), 0.0);
        check_distance(&plan(25.0, 0.0), &plan(10.0, 0.0), 0.0);
        // 10 m ahead, a circle of 50 m radius is 1 m beside the straight line; after a second at 20 m/s, 3.95 m.
        check_distance(&plan(5.0, 0.02), &plan(5.0, 0.0), 1.0);
        check_distance(&plan(10.0, 0.02), &plan(10.0, 0.0), 1.0);
        check_distance(&plan(20.0, 0.02), &plan(20.0, 0.0), 3.95);
        check_distance(&plan(10.0, 0.02), &DriveOutput::default(), 0.0);
    }

    #[test]
    fn left_and_right_exchanged_is_apart_in_a_wide_bend_also_of_a_slow_vehicle() {
        // In the bend of 135 m radius where the demo's mirrored release was confirmed at 21 km/h and left its lane.
        for speed_mps in [5.8, 8.0, 12.0] {
            let (active, mirrored) = (plan(speed_mps, -0.0074), plan(speed_mps, 0.011));
            let lateral_m = lateral_distance(&mirrored, &active);
            assert!(lateral_m > 0.5, "{lateral_m} m at {speed_mps} m/s");
        }
    }

    #[test]
    fn a_standing_vehicle_compares_without_dividing_by_zero() {
        assert_eq!(lateral_distance(&plan(0.0, 0.0), &plan(0.0, 0.0)), 0.0);
    }

    #[test]
    fn all_frames_must_pass_and_few_are_forgiven() {
        let mut shadow = Shadow::new(&acceptance(20), 50_000_000);
        let (same, apart) = (plan(10.0, 0.0), plan(10.0, 0.05));
        let mut judge = |output: &DriveOutput| shadow.judge(ENGAGED, &Found::default(), output, &same);
        assert_eq!(judge(&apart), Ok(Verdict::Continue));
        assert_eq!(judge(&apart), Ok(Verdict::Continue));
        for _ in 0..19 {
            assert_eq!(judge(&same), Ok(Verdict::Continue));
        }
        assert_eq!(judge(&same), Ok(Verdict::Passed));
        let failure = judge(&apart).expect_err("the third of 23 is one too many");
        assert_eq!(failure.number(), 4146);
        assert!(
            failure.to_string().starts_with("3 of 23 plans were too far from the active one, 2.45 m beside it where 0.5 m"),
            "{failure}"
        );
    }

    #[test]
    fn late_unsure_and_failing_answers_are_told_apart() {
        let judge = |answer: &Found, run_ns: u64| {
            let mut shadow = Shadow::new(&acceptance(1), 50_000_000);
            let output = DriveOutput { run_ns, ..plan(10.0, 0.0) };
            let first = shadow.judge(ENGAGED, answer, &output, &plan(10.0, 0.0));
            first.and_then(|_| shadow.judge(ENGAGED, answer, &output, &plan(10.0, 0.0))).map_err(|failure| failure.number())
        };
        let with = |faults| Found { faults, cause: None };
        assert_eq!(judge(&with(Faults::NONE), 60_000_000), Err(4144));
        assert_eq!(judge(&with(Faults::NONE), 50_000_000), Ok(Verdict::Continue));
        assert_eq!(judge(&with(Faults::LOW_CONFIDENCE), 0), Err(4145));
        assert_eq!(judge(&with(Faults::NOT_FINITE), 0), Err(4141));
        assert_eq!(judge(&with(Faults::ENVELOPE), 0), Err(4142));
        assert_eq!(judge(&with(Faults::CAMERA_MISSING), 0), Err(4143));
    }

    #[test]
    fn a_slow_camera_is_not_the_models_lateness() {
        let judge = |age_ns: i64, run_ns: u64| {
            let mut shadow = Shadow::new(&acceptance(100), 50_000_000);
            let output = DriveOutput { run_ns, exposure_ns: -age_ns, ..plan(10.0, 0.0) };
            let _ = shadow.judge(ENGAGED, &Found::default(), &output, &plan(10.0, 0.0));
            shadow.late
        };
        assert_eq!((judge(20_000_000, 30_000_000), judge(20_000_000, 31_000_000)), (0, 1));
        // A camera that leaves 5 ms, or nothing, of the 50.
        assert_eq!((judge(45_000_000, 25_000_000), judge(90_000_000, 25_000_000)), (0, 0));
        assert_eq!(judge(90_000_000, 26_000_000), 1);
    }

    #[test]
    fn what_a_human_drives_beyond_the_envelope_is_forgiven_like_a_late_frame_and_not_condemned() {
        let breach =
            |limit| Found { faults: Faults::ENVELOPE, cause: Some(EnvelopeBreach { limit, found: 5.0, max: 4.0, point: None }.into()) };
        let by_human = Bearing { mode: Mode::Standby, ..ENGAGED };
        let mut shadow = Shadow::new(&acceptance(20), 50_000_000);
        let (none, same) = (DriveOutput::default(), plan(10.0, 0.0));
        let bend = breach("lateral_acceleration_max_mps2");
        for _ in 0..2 {
            assert_eq!(shadow.judge(by_human, &bend, &none, &same), Ok(Verdict::Continue));
            assert!(!shadow.agrees() && shadow.before().is_none(), "it is not swapped in, nor its next jerk judged, from here");
        }
        let failure = shadow.judge(by_human, &bend, &none, &same).expect_err("more than a tenth of 20");
        assert_eq!(
            (failure.number(), failure.to_string().as_str()),
            (4147, "3 of 3 answers were outside the envelope as the vehicle was driven")
        );
        for (bearing, answer) in [(ENGAGED, bend), (by_human, breach("curvature_max_1pm"))] {
            let failure = Shadow::new(&acceptance(20), 50_000_000).judge(bearing, &answer, &none, &same);
            assert_eq!(failure.map_err(|failure| failure.number()), Err(4142));
        }
    }
}
