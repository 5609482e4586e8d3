use super::{Lens, Mood, View};
use crate::LANE_WIDTH_M;
use crate::paint::{Canvas, Rgb, mix, scale};
use crate::rng::texture;

/// Beyond this the ground is a plain hazy green.
const FAR_M: f32 = 150.0;
const EDGE_M: f32 = LANE_WIDTH_M as f32;
/// Half the width of a painted line; a bit wider than real ones so that 64 rows show it.
const LINE_M: f32 = 0.09;
const DASH_EVERY_M: f32 = 9.0;
const DASH_M: f32 = 4.0;

pub(super) fn paint(canvas: &mut Canvas, lens: &Lens, mood: &Mood, view: &View<'_>) {
    let course = Course::ahead_of(view);
    let mut near_index = 0;
    for row in (0..canvas.height).rev() {
        let below_px = row as f32 + 0.5 - lens.horizon_px;
        if below_px <= 0.0 {
            break;
        }
        let depth_m = Lens::HEIGHT_M * lens.focal_px / below_px;
        let crossing = if depth_m < FAR_M { course.crossing(depth_m, &mut near_index) } else { None };
        let middle_px = lens.middle_px;
        for (column, pixel) in canvas.row_mut(row).iter_mut().enumerate() {
            let left_m = (middle_px - column as f32 - 0.5) * depth_m / lens.focal_px;
            let surface = match crossing.and_then(|index| course.locate(index, depth_m, left_m)) {
                Some((s_m, d_m)) => surface(mood, s_m, d_m, depth_m),
                None => mood.grass,
            };
            *pixel = mood.seen(surface, depth_m, left_m);
        }
    }
}

fn surface(mood: &Mood, s_m: f32, d_m: f32, depth_m: f32) -> Rgb {
    let aside = d_m.abs();
    let grain = |per_m: f32| texture((s_m * per_m) as i32, (d_m * per_m).floor() as i32) - 0.5;
    let fade = 1.0 / (1.0 + depth_m * 0.06);
    if (aside - (EDGE_M - 0.12)).abs() < LINE_M || (aside < LINE_M && s_m.rem_euclid(DASH_EVERY_M) < DASH_M) {
        [0.93, 0.93, 0.90]
    } else if aside < EDGE_M + 0.35 {
        scale(mood.asphalt, 1.0 + 0.22 * grain(3.0) * fade)
    } else if aside < EDGE_M + 1.1 {
        scale([0.52, 0.47, 0.38], 1.0 + 0.35 * grain(2.5) * fade)
    } else {
        let patch = texture((s_m / 6.0) as i32, (d_m / 4.0).floor() as i32);
        scale(mix(mood.grass, [0.45, 0.42, 0.20], 0.3 * patch * fade), 1.0 + 0.4 * grain(1.5) * fade)
    }
}

/// The middle line ahead in the camera's axes.
struct Course {
    start_s_m: f64,
    points: Vec<Point>,
}

#[derive(Clone, Copy)]
struct Point {
    forward_m: f32,
    left_m: f32,
    sin: f32,
    cos: f32,
}

impl Course {
    const SPACING_M: f32 = 0.5;
    const BEHIND_M: f64 = 6.0;
    /// A road that turns away more than this hides behind the trees.
    const TURNED_AWAY_COS: f32 = 0.2;
    const NEWTON_STEPS: usize = 2;
    /// Farther from the middle line there is nothing but grass.
    const ROADSIDE_M: f32 = 14.0;

    fn ahead_of(view: &View<'_>) -> Self {
        let start_s_m = view.ego_s_m - Self::BEHIND_M;
        let count = ((FAR_M * 1.3 + Self::BEHIND_M as f32) / Self::SPACING_M) as usize;
        let points = (0..count)
            .map(|index| {
                let sample = view.road.at(start_s_m + index as f64 * f64::from(Self::SPACING_M));
                let (forward, left) = view.ego.from_world(sample.x_m, sample.y_m);
                let (sin, cos) = (sample.heading_rad - view.ego.heading_rad).sin_cos();
                let forward_m = (forward - Lens::FORWARD_M) as f32;
                Point { forward_m, left_m: left as f32, sin: sin as f32, cos: cos as f32 }
            })
            .collect();
        Self { start_s_m, points }
    }

    /// Index at which the middle line is this far ahead. Rows come from near to far, so the search goes on from the last one.
    fn crossing(&self, depth_m: f32, index: &mut usize) -> Option<usize> {
        while self.points.get(*index)?.forward_m < depth_m {
            if self.points[*index].cos < Self::TURNED_AWAY_COS {
                return None;
            }
            *index += 1;
        }
        Some(*index)
    }

    /// Road coordinates of a place on the ground, starting from a point of the middle line at the same depth.
    fn locate(&self, index: usize, depth_m: f32, left_m: f32) -> Option<(f32, f32)> {
        let mut at = index as f32;
        let mut d_m = 0.0;
        for _ in 0..=Self::NEWTON_STEPS {
            let clamped = at.clamp(0.0, self.points.len() as f32 - 1.001);
            let (a, b) = (self.points[clamped as usize], self.points[clamped as usize + 1]);
            let t = clamped.fract();
            let lerp = |from: f32, to: f32| from + (to - from) * t;
            let (dx, dy) = (depth_m - lerp(a.forward_m, b.forward_m), left_m - lerp(a.left_m, b.left_m));
            let (sin, cos) = (lerp(a.sin, b.sin), lerp(a.cos, b.cos));
            d_m = dy * cos - dx * sin;
            if d_m.abs() > Self::ROADSIDE_M {
                return None;
            }
            at = clamped + (dx * cos + dy * sin) / Self::SPACING_M;
        }
        // The distance is needed within a texture's period only; f32 would lose the grain on a long road.
        Some(((self.start_s_m + f64::from(at * Self::SPACING_M)) as f32, d_m))
    }
}
