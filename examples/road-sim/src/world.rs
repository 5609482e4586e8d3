use crate::expert::Expert;
use crate::render::{self, View};
use crate::scene::{LeadCar, Pedestrian, oncoming};
use crate::{CarPose, Control, EgoState, Frame, LANE_CENTER_M, LANE_WIDTH_M, Light, PedestrianPhase, Road, RoadPoint, STEP_NS, STEP_S};

/// Everything that decides a run; two worlds of equal scenarios answer equal controls with equal pixels.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub light: Light,
    /// Distance of the destination, where the route commands a stop.
    pub length_m: f64,
    /// Where the slower car ahead starts, if there is one.
    pub lead_at_m: Option<f64>,
    /// Spacing of the oncoming cars, if there are any.
    pub oncoming_every_m: Option<f64>,
    /// Where the pedestrian stands, if there is one.
    pub pedestrian_at_m: Option<f64>,
    pub width: usize,
    pub height: usize,
}

impl Scenario {
    /// A day with oncoming traffic and a lead car. The models are trained for this camera size.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            light: Light::Day,
            length_m: 500.0,
            lead_at_m: Some(70.0),
            oncoming_every_m: Some(90.0),
            pedestrian_at_m: None,
            width: 128,
            height: 64,
        }
    }

    #[must_use]
    pub fn at_night(mut self) -> Self {
        self.light = Light::Night;
        self
    }

    /// A pedestrian at this distance. The lead car starts behind him, so that we are the one he waves at.
    #[must_use]
    pub fn with_pedestrian(mut self, at_m: f64) -> Self {
        self.pedestrian_at_m = Some(at_m);
        self.lead_at_m = self.lead_at_m.map(|_| at_m + 40.0);
        self
    }

    #[must_use]
    pub fn without_lead(mut self) -> Self {
        self.lead_at_m = None;
        self
    }
}

/// What the navigation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteCommand {
    Follow = 0,
    Left = 1,
    Right = 2,
    Stop = 3,
}

impl RouteCommand {
    pub const COUNT: usize = 4;

    pub fn one_hot(self) -> [f32; Self::COUNT] {
        let mut out = [0.0; Self::COUNT];
        out[self as usize] = 1.0;
        out
    }
}

/// What the vehicle's sensors say at one step.
#[derive(Debug, Clone)]
pub struct Observation {
    pub sequence: u64,
    pub time_ns: i64,
    pub frame: Frame,
    pub ego: EgoState,
    pub route: RouteCommand,
}

/// What an onlooker sees; no driver is given this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    pub time_ns: i64,
    /// Offset of the rear axle from the middle of our lane, left positive.
    pub lateral_offset_m: f64,
    /// A wheel is outside our lane now.
    pub off_lane: bool,
    pub collided: bool,
    /// We stopped for the pedestrian and he let us go on; false without a pedestrian.
    pub stopped_for_pedestrian: bool,
    pub progress_m: f64,
    /// Destination reached, standing at it, or collided.
    pub done: bool,
}

/// The road, everybody on it, and our vehicle.
#[derive(Debug, Clone)]
pub struct World {
    scenario: Scenario,
    pub(crate) road: Road,
    pub(crate) ego: EgoState,
    pub(crate) place: RoadPoint,
    pub(crate) lead: Option<LeadCar>,
    pub(crate) pedestrian: Option<Pedestrian>,
    pub(crate) sequence: u64,
    collided: bool,
}

impl World {
    /// The road goes on behind the destination so that the camera never sees its end.
    const RUN_OUT_M: f64 = 250.0;
    const STOP_COMMAND_BEFORE_END_M: f64 = 60.0;
    const START_M: f64 = 5.0;
    const PEDESTRIAN_IN_LANE_M: f64 = -0.35;

    pub fn new(scenario: Scenario) -> Self {
        let road = Road::from_seed(scenario.seed, scenario.length_m + Self::RUN_OUT_M);
        let d_m = LANE_CENTER_M + Self::PEDESTRIAN_IN_LANE_M;
        let mut world = Self {
            ego: EgoState::default(),
            place: RoadPoint::default(),
            lead: scenario.lead_at_m.map(LeadCar::new),
            pedestrian: scenario.pedestrian_at_m.map(|s_m| Pedestrian::new(RoadPoint { s_m, d_m })),
            sequence: 0,
            collided: false,
            road,
            scenario,
        };
        world.place_ego(Self::START_M, 0.0, 0.0, 8.0);
        world
    }

    /// Puts our vehicle on the road: offset from the middle of our lane, heading against the road's, and speed.
    pub fn place_ego(&mut self, s_m: f64, lateral_m: f64, heading_error_rad: f64, speed_mps: f64) {
        self.place = RoadPoint { s_m, d_m: LANE_CENTER_M + lateral_m };
        let (x_m, y_m, road_heading) = self.road.place(self.place);
        let heading_rad = road_heading + heading_error_rad;
        let curvature_1_m = self.road.at(s_m).curvature_1_m;
        self.ego = EgoState { x_m, y_m, heading_rad, speed_mps, acceleration_mps2: 0.0, curvature_1_m };
    }

    pub fn step(&mut self, control: Control) {
        self.ego = self.ego.after(control);
        self.place = self.road.project(self.ego.x_m, self.ego.y_m, self.place.s_m);
        if let Some(lead) = &mut self.lead {
            lead.step(self.place.s_m);
        }
        if let Some(pedestrian) = &mut self.pedestrian {
            pedestrian.step(&self.ego, self.place.s_m);
        }
        self.sequence += 1;
        self.collided |= self.touches_somebody();
    }

    pub fn observe(&self) -> Observation {
        Observation {
            sequence: self.sequence,
            time_ns: self.time_ns(),
            frame: self.render(self.scenario.width, self.scenario.height),
            ego: self.ego,
            route: self.route(),
        }
    }

    /// The camera's image at any size.
    pub fn render(&self, width: usize, height: usize) -> Frame {
        let cars: Vec<CarPose> = self.cars().collect();
        let view = View {
            road: &self.road,
            ego: &self.ego,
            ego_s_m: self.place.s_m,
            cars: &cars,
            pedestrian: self.pedestrian.as_ref(),
            light: self.scenario.light,
            seed: self.scenario.seed,
            time_s: self.time_s(),
        };
        render::render(&view, width, height)
    }

    /// What a driver who knows everything would do now.
    pub fn expert(&self) -> Expert {
        Expert::of(self)
    }

    pub fn status(&self) -> Status {
        let progress_m = self.place.s_m;
        let arrived = self.route() == RouteCommand::Stop && self.ego.speed_mps < 0.2;
        Status {
            time_ns: self.time_ns(),
            lateral_offset_m: self.place.d_m - LANE_CENTER_M,
            off_lane: self.wheel_outside_lane(),
            collided: self.collided,
            stopped_for_pedestrian: self.pedestrian.as_ref().is_some_and(|p| p.phase == PedestrianPhase::Leaving),
            progress_m,
            done: self.collided || arrived || progress_m >= self.scenario.length_m,
        }
    }

    pub fn route(&self) -> RouteCommand {
        if self.place.s_m < self.scenario.length_m - Self::STOP_COMMAND_BEFORE_END_M { RouteCommand::Follow } else { RouteCommand::Stop }
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    pub fn road(&self) -> &Road {
        &self.road
    }

    pub fn ego(&self) -> &EgoState {
        &self.ego
    }

    /// Everybody else who drives.
    pub fn cars(&self) -> impl Iterator<Item = CarPose> {
        let every_m = self.scenario.oncoming_every_m;
        let oncoming = every_m.into_iter().flat_map(|every_m| oncoming(every_m, self.road.length_m(), self.time_s()));
        self.lead.iter().map(|lead| lead.pose).chain(oncoming)
    }

    fn time_s(&self) -> f64 {
        self.sequence as f64 * STEP_S
    }

    fn time_ns(&self) -> i64 {
        self.sequence as i64 * STEP_NS
    }

    fn wheel_outside_lane(&self) -> bool {
        let half = EgoState::TRACK_M / 2.0;
        [(0.0, half), (0.0, -half), (EgoState::WHEELBASE_M, half), (EgoState::WHEELBASE_M, -half)].into_iter().any(|(forward_m, left_m)| {
            let (x, y) = self.ego.to_world(forward_m, left_m);
            let d_m = self.road.project(x, y, self.place.s_m + forward_m).d_m;
            (d_m - LANE_CENTER_M).abs() > LANE_WIDTH_M / 2.0
        })
    }

    fn touches_somebody(&self) -> bool {
        let reach_m = |along_m: f64| -EgoState::REAR_M - along_m..EgoState::FRONT_M + along_m;
        let car = self.cars().any(|car| {
            let (forward, left) = self.in_ego_axes(car.at);
            reach_m(CarPose::LENGTH_M / 2.0).contains(&forward) && left.abs() < (CarPose::WIDTH_M + EgoState::WIDTH_M) / 2.0
        });
        let person = self.pedestrian.as_ref().is_some_and(|pedestrian| {
            let (forward, left) = self.in_ego_axes(pedestrian.at);
            reach_m(Pedestrian::RADIUS_M).contains(&forward) && left.abs() < Pedestrian::RADIUS_M + EgoState::WIDTH_M / 2.0
        });
        car || person
    }

    fn in_ego_axes(&self, place: RoadPoint) -> (f64, f64) {
        let (x, y, _) = self.road.place(place);
        self.ego.from_world(x, y)
    }
}
