//! The limits that every output of a model must keep.

use core::fmt;

use switchback_signing::bundle::contract::Envelope;

use super::path::{Path, Stated};
use super::{Control, TrajectoryPoint};

/// Relative slack on every limit: a model that clips its output to the limit may round to just above it.
const SLACK: f32 = 1e-3;

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
        ("lateral_acceleration_max_mps2", lateral, envelope.lateral_acceleration_max_mps2),
        ("jerk_max_mps3", jerk, envelope.jerk_max_mps3),
    ];
    let path = Path { points, stated, speed_mps: motion.speed_mps };
    checks.into_iter().find_map(|(limit, found, max)| over(limit, found, max, 0.0, None)).or_else(|| path.breach(envelope))
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
        let found = breach(&ENVELOPE, Motion { speed_mps, before }, control, &[], Stated::default());
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
    fn a_breach_says_what_and_how_much_and_where() {
        let control = Control { curvature_1pm: 0.0, acceleration_mps2: 9.5 };
        let found = breach(&ENVELOPE, Motion::default(), control, &[], Stated::default()).map(|breach| breach.to_string());
        assert_eq!(found.as_deref(), Some("acceleration_max_mps2 is 9.5, the limit is 3"));
        let point = TrajectoryPoint { time_s: 0.5, speed_mps: 41.0, ..TrajectoryPoint::default() };
        let found = breach(&ENVELOPE, Motion::default(), Control::default(), &[point], Stated::default()).map(|breach| breach.to_string());
        assert_eq!(found.as_deref(), Some("speed_max_mps is 41 at trajectory point 1, the limit is 40"));
    }
}
