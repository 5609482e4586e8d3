//! The limits that every output of a model must keep.

use switchback_signing::bundle::contract::Envelope;

use super::{Control, TrajectoryPoint};

/// Relative slack on every limit: a model that clips its output to the limit may round to just above it.
const SLACK: f32 = 1e-3;

/// Which limit an output broke, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{limit} is {found}, the limit is {max}")]
pub struct EnvelopeBreach {
    /// The limit, as the contract names it.
    pub limit: &'static str,
    /// The value in the output.
    pub found: f32,
    /// The limit's value.
    pub max: f32,
}

/// What the vehicle does at the time of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Motion {
    /// Speed of the vehicle, m/s.
    pub(crate) speed_mps: f32,
    /// Acceleration of the valid output before and the time since, s; none after a pause.
    pub(crate) before: Option<(f32, f32)>,
}

/// The first limit that the output breaks.
pub(crate) fn breach(envelope: &Envelope, motion: Motion, control: Control, trajectory: &[TrajectoryPoint]) -> Option<EnvelopeBreach> {
    let acceleration = control.acceleration_mps2;
    let lateral = control.curvature_1pm.abs() * motion.speed_mps * motion.speed_mps;
    let jerk = motion.before.map_or(0.0, |(before, time_s)| ((acceleration - before) / time_s).abs());
    let speed = trajectory.iter().map(|point| point.speed_mps).fold(0.0, f32::max);
    let checks = [
        ("acceleration_max_mps2", acceleration, envelope.acceleration_max_mps2),
        ("deceleration_max_mps2", -acceleration, envelope.deceleration_max_mps2),
        ("curvature_max_1pm", control.curvature_1pm.abs(), envelope.curvature_max_1pm),
        ("lateral_acceleration_max_mps2", lateral, envelope.lateral_acceleration_max_mps2),
        ("jerk_max_mps3", jerk, envelope.jerk_max_mps3),
        ("speed_max_mps", speed, envelope.speed_max_mps),
    ];
    checks
        .into_iter()
        // A value that is not a number counts as a breach.
        .find(|&(_, found, max)| found.is_nan() || found > max * (1.0 + SLACK))
        .map(|(limit, found, max)| EnvelopeBreach { limit, found, max })
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
        let point = TrajectoryPoint { speed_mps, ..TrajectoryPoint::default() };
        let found = breach(&ENVELOPE, Motion { speed_mps, before }, control, &[point]);
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
        check(41.0, None, 0.0, 0.0, Some("speed_max_mps"));
        check(20.0, None, 0.0, f32::NAN, Some("acceleration_max_mps2"));
    }

    #[test]
    fn a_breach_says_what_and_how_much() {
        let control = Control { curvature_1pm: 0.0, acceleration_mps2: 9.5 };
        let found = breach(&ENVELOPE, Motion::default(), control, &[]).map(|breach| breach.to_string());
        assert_eq!(found.as_deref(), Some("acceleration_max_mps2 is 9.5, the limit is 3"));
    }
}
