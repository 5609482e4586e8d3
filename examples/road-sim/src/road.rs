use crate::Rng;

const SAMPLE_M: f64 = 0.5;
/// Beyond this heading the next bend turns back, so that a road never meets itself.
const HEADING_MAX_RAD: f64 = 0.9;

/// The middle line of a two-lane road: straights, clothoids and arcs, sampled every half meter.
#[derive(Debug, Clone)]
pub struct Road {
    samples: Vec<RoadSample>,
}

/// The middle line at one distance.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoadSample {
    pub x_m: f64,
    pub y_m: f64,
    pub heading_rad: f64,
    pub curvature_1_m: f64,
}

/// A place told in road coordinates: distance along the middle line, offset to its left.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RoadPoint {
    pub s_m: f64,
    pub d_m: f64,
}

impl Road {
    /// The road of `seed`, at least `length_m` long.
    pub fn from_seed(seed: u64, length_m: f64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0_0AD);
        let mut builder = Builder::default();
        builder.clothoid(rng.uniform(20.0, 45.0), 0.0, 0.0);
        while builder.length_m() < length_m {
            builder.bend(&mut rng);
        }
        Self { samples: builder.samples }
    }

    pub fn length_m(&self) -> f64 {
        (self.samples.len() - 1) as f64 * SAMPLE_M
    }

    /// The middle line at `s_m`, interpolated; clamped to the road's ends.
    pub fn at(&self, s_m: f64) -> RoadSample {
        let position = (s_m / SAMPLE_M).clamp(0.0, (self.samples.len() - 1) as f64);
        let index = (position as usize).min(self.samples.len() - 2);
        let t = position - index as f64;
        let (a, b) = (&self.samples[index], &self.samples[index + 1]);
        let mix = |from: f64, to: f64| from + (to - from) * t;
        RoadSample {
            x_m: mix(a.x_m, b.x_m),
            y_m: mix(a.y_m, b.y_m),
            heading_rad: mix(a.heading_rad, b.heading_rad),
            curvature_1_m: mix(a.curvature_1_m, b.curvature_1_m),
        }
    }

    /// World position and road heading of a place on the road.
    pub fn place(&self, point: RoadPoint) -> (f64, f64, f64) {
        let sample = self.at(point.s_m);
        let (sin, cos) = sample.heading_rad.sin_cos();
        (sample.x_m - sin * point.d_m, sample.y_m + cos * point.d_m, sample.heading_rad)
    }

    /// Road coordinates of a world position near `hint_s_m`, by a few Newton steps along the middle line.
    pub fn project(&self, x_m: f64, y_m: f64, hint_s_m: f64) -> RoadPoint {
        let mut point = RoadPoint { s_m: hint_s_m, d_m: 0.0 };
        for _ in 0..4 {
            let sample = self.at(point.s_m);
            let (sin, cos) = sample.heading_rad.sin_cos();
            let (dx, dy) = (x_m - sample.x_m, y_m - sample.y_m);
            point.d_m = dy * cos - dx * sin;
            let stretch = (1.0 - sample.curvature_1_m * point.d_m).max(0.2);
            point.s_m = (point.s_m + (dx * cos + dy * sin) / stretch).clamp(0.0, self.length_m());
        }
        point
    }
}

#[derive(Default)]
struct Builder {
    samples: Vec<RoadSample>,
    last: RoadSample,
}

impl Builder {
    fn length_m(&self) -> f64 {
        self.samples.len() as f64 * SAMPLE_M
    }

    /// Straight or not, then into a bend, along it and out of it. A clothoid joins them, as on a real road: steering stays continuous.
    fn bend(&mut self, rng: &mut Rng) {
        if rng.chance(0.6) {
            self.clothoid(rng.uniform(10.0, 60.0), 0.0, 0.0);
        }
        let sharp = rng.uniform(0.0, 1.0);
        let radius_m = 48.0 + 170.0 * sharp * sharp;
        let turn_rad = rng.uniform(0.35, 1.1);
        let side = self.side(rng, turn_rad);
        let curvature = side / radius_m;
        let ease_m = rng.uniform(18.0, 32.0);
        self.clothoid(ease_m, 0.0, curvature);
        self.clothoid((turn_rad * radius_m - ease_m).max(8.0), curvature, curvature);
        self.clothoid(ease_m, curvature, 0.0);
    }

    fn side(&self, rng: &mut Rng, turn_rad: f64) -> f64 {
        let side = if rng.chance(0.5) { 1.0 } else { -1.0 };
        let after = self.last.heading_rad + side * turn_rad;
        if after.abs() > HEADING_MAX_RAD { -self.last.heading_rad.signum() } else { side }
    }

    fn clothoid(&mut self, length_m: f64, from_1_m: f64, to_1_m: f64) {
        let steps = (length_m / SAMPLE_M).ceil() as usize;
        for step in 0..steps {
            self.samples.push(self.last);
            let curvature = from_1_m + (to_1_m - from_1_m) * (step as f64 + 0.5) / steps as f64;
            let middle = self.last.heading_rad + curvature * SAMPLE_M / 2.0;
            self.last.x_m += middle.cos() * SAMPLE_M;
            self.last.y_m += middle.sin() * SAMPLE_M;
            self.last.heading_rad += curvature * SAMPLE_M;
            self.last.curvature_1_m = curvature;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_road_projects_back_to_itself() {
        let road = Road::from_seed(11, 500.0);
        for step in 1..45 {
            let point = RoadPoint { s_m: f64::from(step) * 10.0, d_m: f64::from(step % 7) - 3.0 };
            let (x, y, _) = road.place(point);
            let found = road.project(x, y, point.s_m + 3.0);
            assert!((found.s_m - point.s_m).abs() < 0.05, "{found:?} {point:?}");
            assert!((found.d_m - point.d_m).abs() < 0.02, "{found:?} {point:?}");
        }
    }

    #[test]
    fn curvature_never_jumps_and_bends_are_drivable() {
        for seed in 0..50 {
            let road = Road::from_seed(seed, 800.0);
            for pair in road.samples.windows(2) {
                assert!((pair[1].curvature_1_m - pair[0].curvature_1_m).abs() < 0.0012, "seed {seed}");
                assert!(pair[0].curvature_1_m.abs() < 1.0 / 45.0, "seed {seed}");
            }
        }
    }
}
