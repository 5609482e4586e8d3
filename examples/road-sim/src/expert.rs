use crate::scene::CarPose;
use crate::{Control, EgoState, LANE_CENTER_M, RoadPoint, RouteCommand, STEP_S, World};

/// Points of the planned path.
pub const TRAJECTORY_POINTS: usize = 20;
/// Time between two points of the planned path.
pub const TRAJECTORY_STEP_S: f64 = 0.1;

/// What the driver is about to do, in the order of the models' intent output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Intent {
    KeepLane = 0,
    Follow = 1,
    GestureStop = 2,
    Standstill = 3,
}

/// The answer of a driver who knows the whole world: what the models learn to imitate from pixels.
#[derive(Debug, Clone)]
pub struct Expert {
    pub control: Control,
    pub intent: Intent,
    /// Free distance to what we brake for, limited to [`Expert::CLEAR_M`].
    pub gap_m: f64,
    /// Road curvature 1.5 s ahead.
    pub preview_1_m: f64,
    /// x, y, heading, speed in the vehicle's axes; point `k` is `(k + 1) * TRAJECTORY_STEP_S` from now.
    pub trajectory: [[f64; 4]; TRAJECTORY_POINTS],
}

impl Expert {
    pub const CLEAR_M: f64 = 60.0;
    const CRUISE_MPS: f64 = 11.0;
    const LATERAL_MPS2: f64 = 1.9;
    const STEER_AHEAD_S: f64 = 0.22;

    pub(crate) fn of(world: &World) -> Self {
        let hazard = Hazard::of(world);
        let control = drive(world, &world.ego, world.place, &hazard);
        let preview_s = world.place.s_m + (1.5 * world.ego.speed_mps).max(6.0);
        Self {
            control,
            intent: hazard.intent,
            gap_m: hazard.gap_m.min(Self::CLEAR_M),
            preview_1_m: world.road.at(preview_s).curvature_1_m,
            trajectory: plan(world, hazard),
        }
    }
}

/// The one thing ahead that limits our speed most.
#[derive(Debug, Clone, Copy)]
struct Hazard {
    intent: Intent,
    gap_m: f64,
    speed_mps: f64,
}

impl Hazard {
    const STAND_OFF_M: f64 = 5.5;
    const HEADWAY_S: f64 = 0.9;
    const BRAKE_MPS2: f64 = 1.8;

    fn of(world: &World) -> Self {
        let bumper_m = world.place.s_m + EgoState::FRONT_M;
        let mut worst = Self { intent: Intent::KeepLane, gap_m: f64::INFINITY, speed_mps: 0.0 };
        if let Some(lead) = &world.lead {
            let gap_m = lead.pose.at.s_m - CarPose::LENGTH_M / 2.0 - bumper_m;
            worst = worst.or(Self { intent: Intent::Follow, gap_m, speed_mps: lead.pose.speed_mps });
        }
        if let Some(pedestrian) = world.pedestrian.as_ref().filter(|p| p.blocks_lane()) {
            let gap_m = pedestrian.at.s_m - bumper_m;
            worst = worst.or(Self { intent: Intent::GestureStop, gap_m, speed_mps: 0.0 });
        }
        if world.route() == RouteCommand::Stop && worst.gap_m > Self::STAND_OFF_M {
            worst.intent = Intent::Standstill;
        }
        worst
    }

    /// The other one, if it is ahead and near enough to matter and nearer than this.
    fn or(self, other: Self) -> Self {
        let matters = other.gap_m > -CarPose::LENGTH_M && other.gap_m < 45.0 && other.gap_m < self.gap_m;
        if matters { other } else { self }
    }

    /// The highest speed from which comfortable braking still keeps the distance.
    fn speed_allowed_mps(&self) -> f64 {
        let reserve_m = self.gap_m - Self::STAND_OFF_M - Self::HEADWAY_S * self.speed_mps;
        let room = 2.0 * Self::BRAKE_MPS2 * reserve_m.max(0.0);
        let closing = (room + self.speed_mps * self.speed_mps).sqrt();
        if reserve_m < 0.0 { (self.speed_mps + 0.4 * reserve_m).max(0.0) } else { closing }
    }
}

fn drive(world: &World, ego: &EgoState, place: RoadPoint, hazard: &Hazard) -> Control {
    Control { curvature_1_m: steer(world, ego, place), acceleration_mps2: accelerate(world, ego, place, hazard) }
}

/// Lane keeping: the road's curvature a little ahead, and a damped return to the middle of the lane.
fn steer(world: &World, ego: &EgoState, place: RoadPoint) -> f64 {
    let road = world.road.at(place.s_m);
    let ahead = world.road.at(place.s_m + Expert::STEER_AHEAD_S * ego.speed_mps);
    let offset_m = place.d_m - LANE_CENTER_M;
    let heading_error = wrapped(ego.heading_rad - road.heading_rad);
    let reach_m = (0.85 * ego.speed_mps).max(6.0);
    let lane_curvature = ahead.curvature_1_m / (1.0 - ahead.curvature_1_m * LANE_CENTER_M);
    let back = -offset_m / (reach_m * reach_m) - 1.8 * heading_error / reach_m;
    (lane_curvature + back).clamp(-0.12, 0.12)
}

fn accelerate(world: &World, ego: &EgoState, place: RoadPoint, hazard: &Hazard) -> f64 {
    if world.route() == RouteCommand::Stop {
        return -1.6;
    }
    let wanted = bend_speed_mps(world, place.s_m).min(hazard.speed_allowed_mps());
    (1.1 * (wanted - ego.speed_mps)).clamp(-4.0, 1.4)
}

/// The speed that keeps lateral acceleration comfortable here and, braking gently, in the bends to come.
fn bend_speed_mps(world: &World, s_m: f64) -> f64 {
    (0..10)
        .map(|step| f64::from(step) * 4.0)
        .map(|ahead_m| {
            let curvature = world.road.at(s_m + ahead_m).curvature_1_m.abs().max(1e-4);
            (Expert::LATERAL_MPS2 / curvature + 2.0 * ahead_m).sqrt()
        })
        .fold(Expert::CRUISE_MPS, f64::min)
}

/// The path that this driver would follow if everybody else kept his speed.
fn plan(world: &World, mut hazard: Hazard) -> [[f64; 4]; TRAJECTORY_POINTS] {
    let steps_per_point = (TRAJECTORY_STEP_S / STEP_S).round() as usize;
    let (mut ego, mut place) = (world.ego, world.place);
    std::array::from_fn(|_| {
        for _ in 0..steps_per_point {
            let control = drive(world, &ego, place, &hazard);
            let from_m = place.s_m;
            ego = ego.after(control);
            place = world.road.project(ego.x_m, ego.y_m, place.s_m);
            hazard.gap_m += hazard.speed_mps * STEP_S - (place.s_m - from_m);
        }
        let (x, y) = world.ego.from_world(ego.x_m, ego.y_m);
        [x, y, ego.heading_rad - world.ego.heading_rad, ego.speed_mps]
    })
}

fn wrapped(angle_rad: f64) -> f64 {
    use std::f64::consts::PI;
    (angle_rad + PI).rem_euclid(2.0 * PI) - PI
}
