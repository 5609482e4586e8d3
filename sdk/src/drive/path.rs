//! The limits of the envelope along a planned path.
//!
//! Whoever follows the path drives what its points imply, so a sane control output beside a wild path is not enough. The path begins
//! at the vehicle: the origin, its heading and its present speed are the point before the first.
//!
//! What is implied is taken over windows of time, because a learned plan scatters: the difference of two neighbors 0.1 s apart turns
//! a scatter of 10 cm into 10 m/s2 and more. Windows and slacks were chosen on 37,385 plans of the example models in a closed loop over
//! the roads of `examples/models/evaluate.py`: none is a breach, not even of limits that are a tenth tighter than their contracts'.

use switchback_signing::bundle::contract::Envelope;

use super::TrajectoryPoint;
use super::envelope::{EnvelopeBreach, over};

/// Window in which a speed changes.
const SPEED_WINDOW_S: f32 = 1.0;
/// Length in time of each of the two chords between which a path turns.
const TURN_WINDOW_S: f32 = 0.5;
/// Shorter chords have no direction that means anything: a slow path is judged by longer windows.
const CHORD_MIN_M: f32 = 2.0;
/// How exact a position of a plan is against its neighbors. A difference of two is good to twice, a second difference to four times that.
const POSITION_SLACK_M: f32 = 0.1;
/// How exact a stated speed is, and how far a vehicle that holds the speed limit swings above it (a descent, a gust).
pub(super) const SPEED_SLACK_MPS: f32 = 0.2;
/// How fast a vehicle that is above the speed limit must come back at least: what drag and the engine do without the brake.
pub(super) const RETURN_MPS2: f32 = 0.5;
/// How exact a stated heading is.
const HEADING_SLACK_RAD: f32 = 0.02;
/// How well a plan joins the vehicle's own motion, which it knows late and from pixels; the worst of the plans above is 0.5 m off.
const JOIN_SLACK_M: f32 = 1.0;
/// Speed from which on the vehicle certainly moves forward, and a path behind it is none.
const FORWARD_MPS: f32 = 1.0;

/// A planned path and what the vehicle does at its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) points: &'a [TrajectoryPoint],
    pub(super) stated: Stated,
    /// Speed of the vehicle, m/s.
    pub(super) speed_mps: f32,
}

/// Which fields of the points come from the model.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stated {
    pub(crate) speed: bool,
    pub(crate) heading: bool,
}

/// The way from one point to a later one.
#[derive(Clone, Copy)]
struct Chord {
    x: f32,
    y: f32,
    length_m: f32,
}

impl Path<'_> {
    /// The first limit that the path breaks.
    pub(super) fn breach(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        self.malformed()
            .or_else(|| self.too_fast(envelope))
            .or_else(|| self.out_of_reach(envelope))
            .or_else(|| self.changes_speed(envelope))
            .or_else(|| self.turns_away(envelope))
            .or_else(|| self.turns(envelope))
            .or_else(|| self.turns_its_heading(envelope))
    }

    /// Every number is finite, and time goes on.
    fn malformed(&self) -> Option<EnvelopeBreach> {
        let mut before_s = 0.0;
        for (point, p) in (1..).zip(self.points) {
            let numbers = [p.x_m, p.y_m, p.heading_rad, p.speed_mps, p.x_std_m, p.y_std_m];
            if let Some(&found) = numbers.iter().find(|number| !number.is_finite()) {
                return Some(EnvelopeBreach { limit: "finite", found, max: f32::MAX, point: Some(point) });
            }
            if !(p.time_s.is_finite() && p.time_s > before_s) {
                return Some(EnvelopeBreach { limit: "time order", found: p.time_s, max: before_s, point: Some(point) });
            }
            before_s = p.time_s;
        }
        None
    }

    /// Stated speeds, and the mean speed over each [`TURN_WINDOW_S`].
    fn too_fast(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        let max = |time_s: f32| self.speed_max_mps(envelope, time_s);
        let stated =
            || (1..).zip(self.points).find_map(|(point, p)| over("speed_max_mps", p.speed_mps.abs(), max(p.time_s), 0.0, Some(point)));
        let n = self.steps(TURN_WINDOW_S).min(self.points.len());
        let implied = || {
            let time_s = self.time_s(n);
            self.ends(n).find_map(|k| {
                let mean = self.chord(k - n, k).length_m / time_s;
                // The way of a window begins at its beginning, where the vehicle may be faster than at its end.
                over("speed_max_mps", mean, max(self.time_s(k - n)), 2.0 * POSITION_SLACK_M / time_s, self.number(k))
            })
        };
        stated().or_else(implied)
    }

    /// The speed that a plan may have at that time: the limit, or what is left of the vehicle's own speed above it. A vehicle that is too
    /// fast already cannot be slower at once, and to refuse the plan that brakes would leave it without any. Within the slack it may stay.
    fn speed_max_mps(&self, envelope: &Envelope, time_s: f32) -> f32 {
        let over_mps = (self.speed_mps - envelope.speed_max_mps).max(0.0);
        let slack_mps = over_mps.min(SPEED_SLACK_MPS);
        envelope.speed_max_mps + slack_mps + (over_mps - RETURN_MPS2 * time_s).max(0.0)
    }

    /// Each point can be reached from the present speed: `d = v t + a t^2 / 2`. Braking is judged within the first window only; later the
    /// chord of a bend is shorter than the way.
    fn out_of_reach(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        (1..=self.points.len()).find_map(|k| {
            let time_s = self.time_s(k);
            let per_square = 2.0 / (time_s * time_s);
            let ahead_m = self.chord(0, k).length_m - self.speed_mps * time_s;
            let slack = JOIN_SLACK_M * per_square;
            over("acceleration_max_mps2", ahead_m * per_square, envelope.acceleration_max_mps2, slack, self.number(k)).or_else(|| {
                let found = if time_s <= SPEED_WINDOW_S { -ahead_m * per_square } else { 0.0 };
                over("deceleration_max_mps2", found, envelope.deceleration_max_mps2, slack, self.number(k))
            })
        })
    }

    /// The change of the stated speeds over [`SPEED_WINDOW_S`], the vehicle's own as the first; and of the mean speeds of the positions
    /// over two such windows.
    fn changes_speed(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        let judge = |change_mps: f32, time_s: f32, slack_mps: f32, k: usize| {
            let (found, slack, point) = (change_mps / time_s, slack_mps / time_s, self.number(k));
            over("acceleration_max_mps2", found, envelope.acceleration_max_mps2, slack, point)
                .or_else(|| over("deceleration_max_mps2", -found, envelope.deceleration_max_mps2, slack, point))
        };
        let stated = || {
            let n = self.steps(SPEED_WINDOW_S).min(self.points.len());
            let speed = |k: usize| k.checked_sub(1).map_or(self.speed_mps, |k| self.points[k].speed_mps);
            let time_s = self.time_s(n);
            self.ends(n).find_map(|k| judge(speed(k) - speed(k - n), time_s, 2.0 * SPEED_SLACK_MPS, k))
        };
        let implied = || {
            let n = self.steps(SPEED_WINDOW_S).min(self.points.len() / 2);
            let time_s = self.time_s(n);
            self.ends(2 * n).find_map(|k| {
                let change = (self.chord(k - n, k).length_m - self.chord(k - 2 * n, k - n).length_m) / time_s;
                judge(change, time_s, 4.0 * POSITION_SLACK_M / time_s, k)
            })
        };
        self.stated.speed.then(stated).flatten().or_else(implied)
    }

    /// The arc from the vehicle's heading to the point one window ahead, as in pure pursuit (Coulter, CMU-RI-TR-92-01):
    /// `curvature = 2 y / d^2`.
    fn turns_away(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        let k = self.turn_steps().min(self.points.len());
        let chord = self.chord(0, k);
        let behind = chord.x <= 0.0 && self.speed_mps > FORWARD_MPS;
        let aside_m = if behind { chord.length_m } else { chord.y.abs() };
        self.turn(envelope, 2.0 * aside_m, (chord, chord), k, k)
    }

    /// The circle through three points (Menger curvature): `curvature = sideways / (a b)`, where `sideways` is how far the second chord
    /// leads away from the direction of the first. A path that turns back within two windows leads away with all of the difference.
    fn turns(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        let n = self.turn_steps().min(self.points.len() / 2);
        self.ends(2 * n).find_map(|k| {
            let (a, b) = (self.chord(k - 2 * n, k - n), self.chord(k - n, k));
            let sideways_m = if a.x * b.x + a.y * b.y <= 0.0 {
                (b.x - a.x).hypot(b.y - a.y)
            } else {
                2.0 * (a.x * b.y - a.y * b.x).abs() / (a.length_m + b.length_m)
            };
            self.turn(envelope, sideways_m, (a, b), n, k)
        })
    }

    fn turn(&self, envelope: &Envelope, sideways_m: f32, (a, b): (Chord, Chord), n: usize, k: usize) -> Option<EnvelopeBreach> {
        if a.length_m < CHORD_MIN_M || b.length_m < CHORD_MIN_M {
            return None;
        }
        let (area, square) = (a.length_m * b.length_m, self.time_s(n).powi(2));
        let (slack_m, point) = (4.0 * POSITION_SLACK_M, self.number(k));
        let lateral =
            over("lateral_acceleration_max_mps2", sideways_m / square, envelope.lateral_acceleration_max_mps2, slack_m / square, point);
        lateral.or_else(|| over("curvature_max_1pm", sideways_m / area, envelope.curvature_max_1pm, slack_m / area, point))
    }

    /// The change of the stated heading on the way: `curvature = angle / length`.
    fn turns_its_heading(&self, envelope: &Envelope) -> Option<EnvelopeBreach> {
        if !self.stated.heading {
            return None;
        }
        let n = self.turn_steps().min(self.points.len());
        let heading = |k: usize| k.checked_sub(1).map_or(0.0, |k| self.points[k].heading_rad);
        let time_s = self.time_s(n);
        self.ends(n).find_map(|k| {
            let length_m = self.chord(k - n, k).length_m;
            if length_m < CHORD_MIN_M {
                return None;
            }
            let angle = (heading(k) - heading(k - n)).abs() % core::f32::consts::TAU;
            let (angle, slack) = (angle.min(core::f32::consts::TAU - angle), 2.0 * HEADING_SLACK_RAD);
            let per_square = length_m / (time_s * time_s);
            let (lateral_max, point) = (envelope.lateral_acceleration_max_mps2, self.number(k));
            over("lateral_acceleration_max_mps2", angle * per_square, lateral_max, slack * per_square, point)
                .or_else(|| over("curvature_max_1pm", angle / length_m, envelope.curvature_max_1pm, slack / length_m, point))
        })
    }

    /// Steps of the path in that time, at least one.
    fn steps(&self, time_s: f32) -> usize {
        // A cast saturates, and the points are at equal distances in time by the contract.
        self.points.first().map_or(1, |first| (time_s / first.time_s).round() as usize).max(1)
    }

    /// Steps of a turn's window: long enough that the mean chord has a direction.
    fn turn_steps(&self) -> usize {
        let last = self.points.len();
        let mean_mps = self.chord(0, last).length_m / self.time_s(last).max(f32::MIN_POSITIVE);
        self.steps(TURN_WINDOW_S.max(CHORD_MIN_M / mean_mps.max(0.01)))
    }

    /// The ends of all windows of `n` steps, the vehicle's place as 0; none when the path is shorter.
    fn ends(&self, n: usize) -> impl Iterator<Item = usize> {
        (n..=self.points.len()).filter(move |_| n > 0)
    }

    fn chord(&self, from: usize, to: usize) -> Chord {
        let at = |k: usize| k.checked_sub(1).map_or((0.0, 0.0), |k| (self.points[k].x_m, self.points[k].y_m));
        let ((x0, y0), (x1, y1)) = (at(from), at(to));
        let (x, y) = (x1 - x0, y1 - y0);
        Chord { x, y, length_m: (x * x + y * y).sqrt() }
    }

    /// Time of `n` steps from the vehicle's place.
    fn time_s(&self, n: usize) -> f32 {
        n.checked_sub(1).map_or(0.0, |k| self.points[k].time_s)
    }

    /// The number of a point as a caller sees it, from 1.
    fn number(&self, k: usize) -> Option<u32> {
        u32::try_from(k).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ENVELOPE: Envelope = Envelope {
        acceleration_max_mps2: 2.5,
        deceleration_max_mps2: 5.0,
        lateral_acceleration_max_mps2: 4.0,
        curvature_max_1pm: 0.2,
        jerk_max_mps3: 50.0,
        speed_max_mps: 20.0,
    };
    const STATED: Stated = Stated { speed: true, heading: true };

    /// A path of constant acceleration along an arc, as it is driven.
    fn arc(speed_mps: f32, acceleration_mps2: f32, curvature_1pm: f32, points: usize, step_s: f32) -> Vec<TrajectoryPoint> {
        let point = |k: usize| {
            let time_s = k as f32 * step_s;
            // A vehicle that brakes to a stop stands there.
            let driven_s = if acceleration_mps2 < 0.0 { time_s.min(-speed_mps / acceleration_mps2) } else { time_s };
            let way_m = speed_mps * driven_s + 0.5 * acceleration_mps2 * driven_s * driven_s;
            let angle = way_m * curvature_1pm;
            let (x_m, y_m) =
                if curvature_1pm == 0.0 { (way_m, 0.0) } else { (angle.sin() / curvature_1pm, (1.0 - angle.cos()) / curvature_1pm) };
            let speed_mps = speed_mps + acceleration_mps2 * driven_s;
            TrajectoryPoint { time_s, x_m, y_m, heading_rad: angle, speed_mps, ..TrajectoryPoint::default() }
        };
        (1..=points).map(point).collect()
    }

    fn check(speed_mps: f32, points: &[TrajectoryPoint], stated: Stated, expected: Option<(&str, u32)>) {
        let found = Path { points, stated, speed_mps }.breach(&ENVELOPE);
        assert_eq!(found.map(|breach| (breach.limit, breach.point.unwrap())), expected, "{found:?}");
    }

    #[test]
    fn a_path_at_the_limit_is_legal_however_it_is_sampled() {
        for (points, step_s) in [(20, 0.1), (64, 0.05), (6, 0.5), (4, 1.0), (3, 0.05), (1, 0.1)] {
            for stated in [STATED, Stated::default()] {
                for sign in [-1.0, 1.0] {
                    check(10.0, &arc(10.0, 2.5, 0.0, points.min((4.0 / step_s) as usize), step_s), stated, None);
                    check(15.0, &arc(15.0, -5.0, 0.0, points, step_s), stated, None);
                    check(10.0, &arc(10.0, 0.0, sign * 0.04, points, step_s), stated, None);
                    check(4.0, &arc(4.0, 0.0, sign * 0.2, points, step_s), stated, None);
                    check(0.0, &arc(0.0, 0.0, 0.0, points, step_s), stated, None);
                    check(20.0, &arc(20.0, 0.0, 0.0, points, step_s), stated, None);
                }
            }
        }
    }

    #[test]
    fn a_path_well_beyond_a_limit_is_a_breach_whether_or_not_speed_and_heading_are_stated() {
        for stated in [STATED, Stated::default()] {
            check(10.0, &arc(10.0, 4.0, 0.0, 20, 0.1), stated, Some(("acceleration_max_mps2", 12)));
            check(15.0, &arc(15.0, -8.0, 0.0, 20, 0.1), stated, Some(("deceleration_max_mps2", 9)));
            check(19.0, &arc(19.0, 2.0, 0.0, 20, 0.1), stated, Some(("speed_max_mps", 6)));
        }
        check(10.0, &arc(10.0, 0.0, -0.08, 20, 0.1), STATED, Some(("lateral_acceleration_max_mps2", 5)));
        check(3.0, &arc(3.0, 0.0, 0.4, 20, 0.1), STATED, Some(("curvature_max_1pm", 9)));
    }

    #[test]
    fn a_vehicle_above_the_speed_limit_may_come_back_below_it_but_not_stay_or_go_faster() {
        for stated in [STATED, Stated::default()] {
            for (points, step_s) in [(20, 0.1), (64, 0.05), (6, 0.5), (4, 1.0), (1, 0.1)] {
                // A swing above the limit, and a driver who hands over far above it.
                check(20.04, &arc(20.04, -2.6, 0.0, points, step_s), stated, None);
                check(20.04, &arc(20.04, 0.0, 0.0, points, step_s), stated, None);
                check(22.0, &arc(22.0, -0.5, 0.0, points, step_s), stated, None);
                check(35.0, &arc(35.0, -5.0, 0.0, points, step_s), stated, None);
            }
            check(20.04, &arc(20.04, 2.0, 0.0, 20, 0.1), stated, Some(("speed_max_mps", 1)));
        }
        check(22.0, &arc(22.0, 0.0, 0.0, 20, 0.1), STATED, Some(("speed_max_mps", 5)));
        // The same by its positions alone.
        let mut points = arc(22.0, 0.0, 0.0, 20, 0.1);
        points.iter_mut().for_each(|point| point.speed_mps = 0.0);
        check(22.0, &points, Stated::default(), Some(("speed_max_mps", 18)));
        check(22.0, &arc(22.0, 1.0, 0.0, 20, 0.1), STATED, Some(("speed_max_mps", 2)));
        // Back inside, the limit is what it was.
        let mut points = arc(22.0, -5.0, 0.0, 20, 0.1);
        points[19].speed_mps = 21.5;
        check(22.0, &points, STATED, Some(("speed_max_mps", 20)));
    }

    #[test]
    fn a_path_that_does_not_begin_at_the_vehicle_is_a_breach() {
        let shifted = |x: f32, y: f32| {
            let mut points = arc(10.0, 0.0, 0.0, 20, 0.1);
            points.iter_mut().for_each(|point| (point.x_m, point.y_m) = (point.x_m + x, point.y_m + y));
            points
        };
        check(10.0, &shifted(0.0, 0.0), STATED, None);
        check(10.0, &shifted(2.0, 0.0), STATED, Some(("acceleration_max_mps2", 1)));
        check(10.0, &shifted(-2.0, 0.0), STATED, Some(("deceleration_max_mps2", 2)));
        check(10.0, &shifted(0.0, 3.0), STATED, Some(("acceleration_max_mps2", 1)));
        // Stated speeds of 10 m/s for a vehicle that stands or drives twice as fast.
        check(0.0, &shifted(0.0, 0.0), STATED, Some(("acceleration_max_mps2", 2)));
        check(18.0, &shifted(0.0, 0.0), STATED, Some(("deceleration_max_mps2", 2)));
    }

    #[test]
    fn one_wild_point_is_a_breach() {
        let with = |k: usize, change: fn(&mut TrajectoryPoint)| {
            let mut points = arc(10.0, 0.0, 0.0, 20, 0.1);
            change(&mut points[k]);
            points
        };
        check(10.0, &with(9, |point| point.y_m += 5.0), STATED, Some(("lateral_acceleration_max_mps2", 10)));
        check(10.0, &with(15, |point| point.x_m += 12.0), STATED, Some(("speed_max_mps", 16)));
        check(10.0, &with(15, |point| point.speed_mps += 5.0), STATED, Some(("acceleration_max_mps2", 16)));
        check(10.0, &with(3, |point| point.heading_rad = 1.0), STATED, Some(("lateral_acceleration_max_mps2", 9)));
        check(10.0, &with(3, |point| point.x_std_m = f32::INFINITY), STATED, Some(("finite", 4)));
        check(10.0, &with(3, |point| point.time_s = 0.3), STATED, Some(("time order", 4)));
        check(10.0, &with(0, |point| point.y_m = f32::NAN), STATED, Some(("finite", 1)));
    }

    #[test]
    fn a_path_that_turns_back_is_a_breach() {
        let mut points = arc(10.0, 0.0, 0.0, 20, 0.1);
        points.iter_mut().skip(10).for_each(|point| point.x_m = 20.0 - point.x_m);
        check(10.0, &points, STATED, Some(("lateral_acceleration_max_mps2", 20)));
        let mut behind = arc(10.0, 0.0, 0.0, 20, 0.1);
        behind.iter_mut().for_each(|point| point.x_m = -point.x_m);
        check(10.0, &behind, STATED, Some(("lateral_acceleration_max_mps2", 5)));
    }

    #[test]
    fn scatter_of_a_learned_plan_is_no_breach() {
        // 8 cm and 0.15 m/s from neighbor to neighbor: as accelerations of neighbors they would be 16 and 3 m/s2.
        let mut points = arc(10.0, 1.5, 0.02, 20, 0.1);
        for (k, point) in points.iter_mut().enumerate() {
            let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
            (point.x_m, point.y_m, point.speed_mps) = (point.x_m + sign * 0.04, point.y_m + sign * 0.04, point.speed_mps + sign * 0.075);
        }
        check(10.0, &points, STATED, None);
        // Standing, where every direction is scatter.
        for (k, point) in points.iter_mut().enumerate() {
            (point.x_m, point.y_m) = (0.3 * (k as f32).sin(), 0.3 * (k as f32).cos());
            (point.speed_mps, point.heading_rad) = (0.0, k as f32);
        }
        check(0.0, &points, STATED, None);
    }
}
