use switchback_road_sim::{Control, Observation, STEP_NS, Scenario, World};
use switchback_sdk::drive;

/// One road after the other. Time and frame numbers go on where a road ends, as a camera's do.
pub(crate) struct Trip {
    world: World,
    seed: u64,
    night: bool,
    step: u64,
    roads: u32,
    last_curvature_1pm: f64,
}

impl Trip {
    /// Braking when the driving function has no answer, m/s2: the minimal risk manoeuvre is the vehicle's, not the SDK's.
    const FALLBACK_BRAKING_MPS2: f64 = 2.5;

    pub(crate) fn new(seed: u64, night: bool) -> Self {
        Self { world: road(seed, night), seed, night, step: 0, roads: 1, last_curvature_1pm: 0.0 }
    }

    /// What the vehicle's sensors say now.
    pub(crate) fn observe(&self) -> Observation {
        self.world.observe()
    }

    /// The camera as the SDK wants it: borrowed, nothing is copied.
    pub(crate) fn camera<'a>(&self, observation: &'a Observation) -> drive::CameraFrame<'a> {
        let frame = &observation.frame;
        drive::CameraFrame {
            camera_id: 0,
            format: drive::PixelFormat::Rgb8,
            width: frame.width as u32,
            height: frame.height as u32,
            stride_bytes: frame.width as u32 * 3,
            frame_id: self.step + 1,
            exposure_ns: self.time_ns(),
            data: &frame.rgb,
        }
    }

    /// Everything else that the SDK wants to know.
    pub(crate) fn input<'a>(&self, seen: &Observation, cameras: &'a [drive::CameraFrame<'a>], mode: drive::Mode) -> drive::DriveInput<'a> {
        let ego = &seen.ego;
        drive::DriveInput {
            sequence: self.step + 1,
            time_ns: self.time_ns(),
            cameras,
            ego: drive::EgoState {
                time_ns: self.time_ns(),
                speed_mps: ego.speed_mps as f32,
                acceleration_mps2: ego.acceleration_mps2 as f32,
                lateral_acceleration_mps2: (ego.speed_mps * ego.yaw_rate_rad_s()) as f32,
                yaw_rate_radps: ego.yaw_rate_rad_s() as f32,
                steering_rad: ego.steering_rad() as f32,
            },
            route: drive::Route { command: route_command(seen), distance_m: 0.0, speed_limit_mps: 0.0 },
            driver: drive::DriverState::default(),
            signals: &[],
            requested_mode: mode,
        }
    }

    /// The driver drives, as long as there has been no model.
    pub(crate) fn drive_by_hand(&mut self) {
        self.advance(self.world.expert().control);
    }

    /// The vehicle acts on the model's answer; without a valid one it brakes in its bend.
    pub(crate) fn follow(&mut self, output: &drive::DriveOutput) {
        let control = if output.control_valid {
            let drive::Control { curvature_1pm, acceleration_mps2 } = output.control;
            Control { curvature_1_m: f64::from(curvature_1pm), acceleration_mps2: f64::from(acceleration_mps2) }
        } else {
            Control { curvature_1_m: self.last_curvature_1pm, acceleration_mps2: -Self::FALLBACK_BRAKING_MPS2 }
        };
        self.last_curvature_1pm = control.curvature_1_m;
        self.advance(control);
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn roads(&self) -> u32 {
        self.roads
    }

    /// Simulated time serves as the vehicle's monotonic clock: at a slower pace a frame is as old as it would be at full rate.
    fn time_ns(&self) -> i64 {
        (self.step as i64 + 1) * STEP_NS
    }

    fn advance(&mut self, control: Control) {
        self.world.step(control);
        self.step += 1;
        if self.world.status().done {
            self.roads += 1;
            self.seed += 1000;
            self.world = road(self.seed, self.night);
        }
    }
}

fn road(seed: u64, night: bool) -> World {
    let scenario = Scenario::new(seed);
    World::new(if night { scenario.at_night() } else { scenario })
}

fn route_command(seen: &Observation) -> drive::RouteCommand {
    use switchback_road_sim::RouteCommand as Road;
    match seen.route {
        Road::Follow => drive::RouteCommand::Follow,
        Road::Left => drive::RouteCommand::Left,
        Road::Right => drive::RouteCommand::Right,
        Road::Stop => drive::RouteCommand::Stop,
    }
}
