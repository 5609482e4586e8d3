//! The road under the C vehicle, as far as its own log tells where it is.

use switchback_road_sim::{LANE_CENTER_M, LANE_WIDTH_M, RoadPoint, STEP_S, Scenario, World};

use crate::fleet::{C_ROAD_LENGTH_M, Spec};
use crate::frames::Frame;

/// A road that turns with at most this radius counts as a bend.
pub(crate) const BEND_RADIUS_MAX_M: f64 = 150.0;
/// The swap may come this much earlier or later than foreseen.
const TOLERANCE_S: f64 = 0.8;

pub(crate) struct HeroRoad {
    world: World,
}

impl HeroRoad {
    pub(crate) fn of(spec: &Spec) -> Self {
        let scenario = Scenario { length_m: f64::from(C_ROAD_LENGTH_M), ..Scenario::new(spec.seed) };
        Self { world: World::new(scenario) }
    }

    /// Distance along the road after these frames, from their speeds: the C program is not told where it is.
    pub(crate) fn reckon(&self, frames: &[Frame]) -> f64 {
        frames.iter().fold(self.world.status().progress_m, |s_m, frame| {
            // The middle line is longer than our lane where the road turns to our side.
            s_m + frame.speed_mps * STEP_S / (1.0 - self.curvature_at(s_m) * LANE_CENTER_M)
        })
    }

    pub(crate) fn curvature_at(&self, s_m: f64) -> f64 {
        self.world.road().at(s_m).curvature_1_m
    }

    /// Whether the road turns to one side for as long as the swap may come early or late.
    pub(crate) fn is_bend_around(&self, s_m: f64, speed_mps: f64) -> bool {
        let (from, to) = (s_m - speed_mps * TOLERANCE_S, s_m + speed_mps * TOLERANCE_S);
        let turns = |part: u32| self.curvature_at(from + (to - from) * f64::from(part) / 20.0);
        let sharp = |curvature: f64| curvature.abs() * BEND_RADIUS_MAX_M >= 1.0;
        (0..=20).all(|part| sharp(turns(part)) && turns(part).signum() == turns(0).signum())
    }

    /// Right edge, middle line and left edge.
    pub(crate) fn edges(&self) -> [Vec<(f64, f64)>; 3] {
        [-LANE_WIDTH_M, 0.0, LANE_WIDTH_M].map(|d_m| {
            let place = |meter: u32| self.world.road().place(RoadPoint { s_m: f64::from(meter), d_m });
            (0..C_ROAD_LENGTH_M).map(place).map(|(x, y, _)| (x, y)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fleet;

    #[test]
    fn the_c_vehicles_road_has_a_bend_at_least_every_100_meters() {
        let road = HeroRoad::of(&fleet()[0]);
        for from in (60..900).step_by(20) {
            assert!((from..from + 100).any(|s_m| road.is_bend_around(f64::from(s_m), 7.5)), "from {from} m");
        }
    }

    #[test]
    fn reckoning_by_speed_follows_the_road() {
        let spec = &fleet()[0];
        let road = HeroRoad::of(spec);
        let mut world = World::new(Scenario { length_m: f64::from(C_ROAD_LENGTH_M), ..Scenario::new(spec.seed) });
        let mut frames = Vec::new();
        for _ in 0..600 {
            frames.push(Frame { speed_mps: world.ego().speed_mps, ..Frame::default() });
            world.step(world.expert().control);
        }
        let (reckoned, true_m) = (road.reckon(&frames), world.status().progress_m);
        assert!((reckoned - true_m).abs() < 3.0, "{reckoned} {true_m}");
    }
}
