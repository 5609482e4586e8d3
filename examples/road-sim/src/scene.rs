use crate::{EgoState, LANE_CENTER_M, LANE_WIDTH_M, RoadPoint, STEP_S};

/// What the camera sees by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    Day,
    Night,
}

/// Another vehicle, in road coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CarPose {
    /// Middle of the car.
    pub at: RoadPoint,
    pub speed_mps: f64,
    pub braking: Braking,
    pub paint: [u8; 3],
}

/// Whether the brake lights shine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Braking {
    No,
    Yes,
}

impl CarPose {
    pub(crate) const LENGTH_M: f64 = 4.4;
    pub(crate) const WIDTH_M: f64 = 1.8;
}

/// The slower car ahead of us in our lane.
#[derive(Debug, Clone)]
pub(crate) struct LeadCar {
    pub(crate) pose: CarPose,
}

impl LeadCar {
    const CRUISE_MPS: f64 = 7.5;
    const WAITING_MPS: f64 = 4.0;
    const BRAKING_RATE_MPS2: f64 = 0.25;

    pub(crate) fn new(at_m: f64) -> Self {
        let at = RoadPoint { s_m: at_m, d_m: LANE_CENTER_M };
        Self { pose: CarPose { at, speed_mps: Self::CRUISE_MPS, braking: Braking::No, paint: [176, 28, 34] } }
    }

    /// Drives unevenly, as people do, and dawdles until we are near, so that every run meets it.
    pub(crate) fn step(&mut self, ego_s_m: f64) {
        let pose = &mut self.pose;
        let cruise = Self::CRUISE_MPS + 1.5 * (pose.at.s_m / 23.0).sin();
        let wanted = if pose.at.s_m - ego_s_m > 45.0 { Self::WAITING_MPS } else { cruise };
        let change = (wanted - pose.speed_mps).clamp(-1.2 * STEP_S, 1.0 * STEP_S);
        pose.speed_mps += change;
        pose.braking = if change < -Self::BRAKING_RATE_MPS2 * STEP_S { Braking::Yes } else { Braking::No };
        pose.at.s_m += pose.speed_mps * STEP_S;
    }
}

/// What the pedestrian does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PedestrianPhase {
    /// Stands in our lane with raised arms and waves us to stop.
    Waving,
    /// We stand; he still waves for this many seconds.
    Seen { seconds_left: f64 },
    /// Walks off the road to the right.
    Leaving,
}

/// A person in our lane who waves us to stop.
#[derive(Debug, Clone)]
pub(crate) struct Pedestrian {
    pub(crate) at: RoadPoint,
    pub(crate) phase: PedestrianPhase,
}

impl Pedestrian {
    pub(crate) const RADIUS_M: f64 = 0.35;
    const WALK_MPS: f64 = 1.4;
    const WAVES_ON_S: f64 = 2.5;
    /// Nobody needs us nearer than this; a car that stops farther away has not stopped for him.
    const STOPPED_WITHIN_M: f64 = 22.0;
    const STOPPED_BELOW_MPS: f64 = 0.25;
    const GONE_M: f64 = -9.0;

    pub(crate) fn new(at: RoadPoint) -> Self {
        Self { at, phase: PedestrianPhase::Waving }
    }

    pub(crate) fn step(&mut self, ego: &EgoState, ego_s_m: f64) {
        let gap_m = self.at.s_m - ego_s_m;
        let stopped = ego.speed_mps < Self::STOPPED_BELOW_MPS && (0.0..Self::STOPPED_WITHIN_M).contains(&gap_m);
        self.phase = match self.phase {
            PedestrianPhase::Waving if stopped => PedestrianPhase::Seen { seconds_left: Self::WAVES_ON_S },
            PedestrianPhase::Waving => PedestrianPhase::Waving,
            PedestrianPhase::Seen { seconds_left } if seconds_left <= STEP_S => PedestrianPhase::Leaving,
            PedestrianPhase::Seen { seconds_left } => PedestrianPhase::Seen { seconds_left: seconds_left - STEP_S },
            PedestrianPhase::Leaving => PedestrianPhase::Leaving,
        };
        if self.phase == PedestrianPhase::Leaving {
            self.at.d_m = (self.at.d_m - Self::WALK_MPS * STEP_S).max(Self::GONE_M);
        }
    }

    /// True while he stands where we drive.
    pub(crate) fn blocks_lane(&self) -> bool {
        self.at.d_m > LANE_CENTER_M - LANE_WIDTH_M / 2.0 - 0.3
    }
}

/// Cars that come towards us in the other lane, evenly spaced at one speed: their places follow from the time alone.
pub(crate) fn oncoming(every_m: f64, road_m: f64, time_s: f64) -> impl Iterator<Item = CarPose> {
    const SPEED_MPS: f64 = 9.0;
    const FIRST_M: f64 = 70.0;
    const PAINTS: [[u8; 3]; 4] = [[210, 212, 216], [34, 60, 130], [60, 62, 66], [196, 160, 60]];
    let traveled_m = SPEED_MPS * time_s;
    let first = ((traveled_m - FIRST_M) / every_m).floor().max(0.0) as usize;
    (first..)
        .map(move |number| (number, FIRST_M + number as f64 * every_m - traveled_m))
        .skip_while(|(_, s_m)| *s_m < 0.0)
        .take_while(move |(_, s_m)| *s_m < road_m)
        .map(|(number, s_m)| CarPose {
            at: RoadPoint { s_m, d_m: -LANE_CENTER_M },
            speed_mps: -SPEED_MPS,
            braking: Braking::No,
            paint: PAINTS[number % PAINTS.len()],
        })
}
