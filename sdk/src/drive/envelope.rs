//! The limits that every output of a model must keep.

use core::fmt;

use switchback_signing::bundle::contract::Envelope;

use super::path::{Path, RETURN_MPS2, SPEED_SLACK_MPS, Stated};
use super::{Control, Mode, StepFault, TrajectoryPoint};

/// Relative slack on every limit: a model that clips its output to the limit may round to just above it.
const SLACK: f32 = 1e-3;

/// How far above the lateral limit a vehicle may be and still be steered on while it brakes. Not further: what a model steers comes back as
/// the vehicle's own motion, and must not be able to push the limit up without end.
const LATERAL_OVERSHOOT: f32 = 1.25;

/// Which limit an output broke, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{limit} is {found}{}, the limit is {max}", Place(.point))]
pub struct EnvelopeBreach {
    /// The limit, as the contract names it.
    pub limit: &'static str,
    /// The value in the output, or what its trajectory implies.
    pub found: f32,
    /// The limit's value.
    pub max: f32,
    /// The trajectory point, counted from 1, at which it is broken; none when the control output breaks it.
    pub point: Option<u32>,
}

impl EnvelopeBreach {
    /// Whether the vehicle's motion is part of it, and not the model's answer alone: a limit of lateral acceleration or speed, or a plan that
    /// does not join the motion.
    fn hangs_on_motion(&self) -> bool {
        match self.limit {
            "speed_max_mps" | "lateral_acceleration_max_mps2" => true,
            "acceleration_max_mps2" | "deceleration_max_mps2" => self.point.is_some(),
            _ => false,
        }
    }
}

/// How a step found the vehicle: what a breach may be excused with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bearing {
    /// Time of the step, ns.
    pub(crate) time_ns: i64,
    /// Who drives.
    pub(crate) mode: Mode,
    /// Speed of the vehicle, m/s.
    pub(crate) speed_mps: f32,
    /// Yaw rate of the vehicle, rad/s.
    pub(crate) yaw_rate_radps: f32,
}

impl Bearing {
    /// Whether the breach may be the doing of whoever drives, and says nothing about a model that is on trial or in shadow: a human
    /// drives faster, through sharper bends and brakes harder than any envelope, and whoever answers then breaks it. While the function is
    /// engaged, only for a limit that the vehicle's own motion is beyond already.
    pub(crate) fn excuses(&self, cause: Option<&StepFault>) -> bool {
        let Some(StepFault::Envelope(breach)) = cause else { return false };
        let beyond = match breach.limit {
            "speed_max_mps" => self.speed_mps > breach.max,
            "lateral_acceleration_max_mps2" => (self.speed_mps * self.yaw_rate_radps).abs() > breach.max,
            _ => false,
        };
        breach.hangs_on_motion() && (self.mode == Mode::Standby || beyond)
    }
}

struct Place<'a>(&'a Option<u32>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |point| write!(f, " at trajectory point {point}"))
    }
}

/// What the vehicle does at the time of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Motion {
    /// Speed of the vehicle, m/s.
    pub(crate) speed_mps: f32,
    /// Yaw rate of the vehicle, rad/s.
    pub(crate) yaw_rate_radps: f32,
    /// Acceleration of the valid output before and the time since, s; none after a pause.
    pub(crate) before: Option<(f32, f32)>,
}

/// The first limit that the control output breaks, or else the planned path.
pub(crate) fn breach(
    envelope: &Envelope,
    motion: Motion,
    control: Control,
    points: &[TrajectoryPoint],
    stated: Stated,
) -> Option<EnvelopeBreach> {
    let acceleration = control.acceleration_mps2;
    let lateral = control.curvature_1pm.abs() * motion.speed_mps * motion.speed_mps;
    let jerk = motion.before.map_or(0.0, |(before, time_s)| ((acceleration - before) / time_s).abs());
    let checks = [
        ("acceleration_max_mps2", acceleration, envelope.acceleration_max_mps2),
        ("deceleration_max_mps2", -acceleration, envelope.deceleration_max_mps2),
        ("curvature_max_1pm", control.curvature_1pm.abs(), envelope.curvature_max_1pm),
        ("lateral_acceleration_max_mps2", lateral, lateral_max_mps2(envelope, motion, acceleration)),
        ("jerk_max_mps3", jerk, envelope.jerk_max_mps3),
    ];
    let speed = speeds_up_above_the_limit(envelope, motion, acceleration);
    let path = Path { points, stated, speed_mps: motion.speed_mps };
    checks.into_iter().find_map(|(limit, found, max)| over(limit, found, max, 0.0, None)).or(speed).or_else(|| path.breach(envelope))
}

/// The lateral limit; for a vehicle that is above it and brakes, its own lateral acceleration. It is too fast for the bend that it is
/// in: steering less would take it off the road, and a straight stop even more so. (The curvature's own limit needs no such rule:
/// a smaller curvature can be asked for at any speed.)
fn lateral_max_mps2(envelope: &Envelope, motion: Motion, acceleration_mps2: f32) -> f32 {
    let max = envelope.lateral_acceleration_max_mps2;
    let brakes = acceleration_mps2 <= -RETURN_MPS2;
    let present = if brakes { (motion.speed_mps * motion.yaw_rate_radps).abs() } else { 0.0 };
    max.max(present.min(max * LATERAL_OVERSHOOT))
}

/// A vehicle above the speed limit must not be made faster yet; within the slack it may be held.
fn speeds_up_above_the_limit(envelope: &Envelope, motion: Motion, acceleration_mps2: f32) -> Option<EnvelopeBreach> {
    let (max, speed) = (envelope.speed_max_mps, motion.speed_mps);
    if speed <= max {
        return None;
    }
    let after_a_second = speed + acceleration_mps2;
    over("speed_max_mps", after_a_second, speed.max(max + SPEED_SLACK_MPS), 0.0, None)
}

/// A breach when `found` is above the limit by more than `slack`. A value that is not a number counts as above.
pub(super) fn over(limit: &'static str, found: f32, max: f32, slack: f32, point: Option<u32>) -> Option<EnvelopeBreach> {
    (found.is_nan() || found > max * (1.0 + SLACK) + slack).then_some(EnvelopeBreach { limit, found, max, point })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope {
        acceleration_max_mps2: 3.0,
        deceleration_max_mps2: 8.0,
        lateral_acceleration_max_mps2: 4.0,
        curvature_max_1pm: 0.2,
        jerk_max_mps3: 50.0,
        speed_max_mps: 40.0,
    };

    fn check(speed_mps: f32, before: Option<(f32, f32)>, curvature: f32, acceleration: f32, expected: Option<&str>) {
        let control = Control { curvature_1pm: curvature, acceleration_mps2: acceleration };
        let found = breach(&ENVELOPE, Motion { speed_mps, before, ..Motion::default() }, control, &[], Stated::default());
        assert_eq!(found.map(|breach| breach.limit), expected, "{found:?}");
    }

    #[test]
    fn each_limit_is_kept_and_the_limit_itself_is_legal() {
        check(20.0, Some((0.0, 0.1)), 0.01, 3.0, None);
        check(20.0, None, 0.0, 3.1, Some("acceleration_max_mps2"));
        check(20.0, None, 0.0, -8.1, Some("deceleration_max_mps2"));
        check(1.0, None, -0.21, 0.0, Some("curvature_max_1pm"));
        check(20.0, None, -0.011, 0.0, Some("lateral_acceleration_max_mps2"));
        check(20.0, Some((2.5, 0.05)), 0.0, -0.5, Some("jerk_max_mps3"));
        check(20.0, None, 0.0, f32::NAN, Some("acceleration_max_mps2"));
    }

    #[test]
    fn a_vehicle_above_a_limit_may_come_back_inside_it() {
        let check = |speed_mps: f32, yaw_rate_radps: f32, control: (f32, f32), expected: Option<&str>| {
            let motion = Motion { speed_mps, yaw_rate_radps, before: None };
            let control = Control { curvature_1pm: control.0, acceleration_mps2: control.1 };
            let found = breach(&ENVELOPE, motion, control, &[], Stated::default());
            assert_eq!(found.map(|breach| breach.limit), expected, "{found:?}");
        };
        // Too fast for the bend, 4.4 m/s2 to the left: it may be driven through while it brakes, and not more sharply.
        check(20.0, 0.22, (0.011, -2.0), None);
        check(20.0, 0.22, (0.011, 0.0), Some("lateral_acceleration_max_mps2"));
        check(20.0, 0.22, (0.012, -2.0), Some("lateral_acceleration_max_mps2"));
        check(20.0, 0.4, (0.02, -8.0), Some("lateral_acceleration_max_mps2"));
        // Too fast at all.
        check(40.1, 0.0, (0.0, 0.1), None);
        check(45.0, 0.0, (0.0, -8.0), None);
        check(45.0, 0.0, (0.0, 0.2), Some("speed_max_mps"));
    }

    #[test]
    fn a_breach_is_excused_by_the_motion_it_hangs_on_and_by_nothing_else() {
        let check = |limit: &'static str, point: Option<u32>, mode: Mode, (speed_mps, yaw_rate_radps): (f32, f32), expected: bool| {
            let bearing = Bearing { time_ns: 0, mode, speed_mps, yaw_rate_radps };
            let breach = StepFault::Envelope(EnvelopeBreach { limit, found: 9.0, max: 4.0, point });
            assert_eq!(bearing.excuses(Some(&breach)), expected, "{limit} {mode:?}");
        };
        for (limit, point) in [("speed_max_mps", Some(1)), ("lateral_acceleration_max_mps2", None), ("deceleration_max_mps2", Some(2))] {
            check(limit, point, Mode::Standby, (0.0, 0.0), true);
            check(limit, point, Mode::Engaged, (3.0, 1.0), false);
        }
        check("speed_max_mps", Some(1), Mode::Engaged, (4.5, 0.0), true);
        check("lateral_acceleration_max_mps2", None, Mode::Engaged, (10.0, -0.5), true);
        for (limit, point) in
            [("acceleration_max_mps2", None), ("curvature_max_1pm", Some(3)), ("jerk_max_mps3", None), ("finite", Some(1))]
        {
            check(limit, point, Mode::Standby, (50.0, 1.0), false);
        }
        assert!(!Bearing::default().excuses(Some(&StepFault::NotFinite)) && !Bearing::default().excuses(None));
    }

    #[test]
    fn a_breach_says_what_and_how_much_and_where() {
        let control = Control { curvature_1pm: 0.0, acceleration_mps2: 9.5 };
        let found = breach(&ENVELOPE, Motion::default(), control, &[], Stated::default()).map(|breach| breach.to_string());
        assert_eq!(found.as_deref(), Some("acceleration_max_mps2 is 9.5, the limit is 3"));
        let point = TrajectoryPoint { time_s: 0.5, speed_mps: 41.0, ..TrajectoryPoint::default() };
        let found = breach(&ENVELOPE, Motion::default(), Control::default(), &[point], Stated::default()).map(|breach| breach.to_string());
        assert_eq!(found.as_deref(), Some("speed_max_mps is 41 at trajectory point 1, the limit is 40"));
    }
}
