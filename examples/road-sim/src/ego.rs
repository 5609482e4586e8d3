use crate::STEP_S;

/// What a driver asks of the vehicle for one step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Control {
    /// Curvature of the path of the rear axle; positive turns left.
    pub curvature_1_m: f64,
    pub acceleration_mps2: f64,
}

/// Our vehicle: a kinematic bicycle whose origin is the middle of the rear axle.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EgoState {
    pub x_m: f64,
    pub y_m: f64,
    pub heading_rad: f64,
    pub speed_mps: f64,
    pub acceleration_mps2: f64,
    pub curvature_1_m: f64,
}

impl EgoState {
    pub const WHEELBASE_M: f64 = 2.8;
    pub const TRACK_M: f64 = 1.7;
    pub const WIDTH_M: f64 = 1.9;
    /// From the rear axle to the front bumper.
    pub const FRONT_M: f64 = 3.7;
    /// From the rear axle to the rear bumper.
    pub const REAR_M: f64 = 0.9;

    const CURVATURE_MAX_1_M: f64 = 0.18;
    const CURVATURE_RATE_MAX: f64 = 0.25;
    const STEERING_LAG_S: f64 = 0.12;
    const BRAKE_MAX_MPS2: f64 = 7.0;
    const THRUST_MAX_MPS2: f64 = 3.0;
    const DRIVE_LAG_S: f64 = 0.2;

    pub fn yaw_rate_rad_s(&self) -> f64 {
        self.speed_mps * self.curvature_1_m
    }

    /// Angle of the front road wheels.
    pub fn steering_rad(&self) -> f64 {
        (self.curvature_1_m * Self::WHEELBASE_M).atan()
    }

    /// World position of a point given in the vehicle's axes.
    pub fn to_world(&self, forward_m: f64, left_m: f64) -> (f64, f64) {
        let (sin, cos) = self.heading_rad.sin_cos();
        (self.x_m + forward_m * cos - left_m * sin, self.y_m + forward_m * sin + left_m * cos)
    }

    /// The vehicle's axes of a world position: forward, left.
    pub fn from_world(&self, x_m: f64, y_m: f64) -> (f64, f64) {
        let (sin, cos) = self.heading_rad.sin_cos();
        let (dx, dy) = (x_m - self.x_m, y_m - self.y_m);
        (dx * cos + dy * sin, dy * cos - dx * sin)
    }

    /// One step later. Actuators have a lag and limits; a control that is not finite coasts straight, as a real actuator would refuse it.
    #[must_use]
    pub fn after(&self, control: Control) -> Self {
        let mut next = *self;
        let wanted = finite(control.curvature_1_m).clamp(-Self::CURVATURE_MAX_1_M, Self::CURVATURE_MAX_1_M);
        let rate_max = Self::CURVATURE_RATE_MAX * STEP_S;
        next.curvature_1_m += ((wanted - self.curvature_1_m) * lag(Self::STEERING_LAG_S)).clamp(-rate_max, rate_max);
        let push = finite(control.acceleration_mps2).clamp(-Self::BRAKE_MAX_MPS2, Self::THRUST_MAX_MPS2);
        next.acceleration_mps2 += (push - self.acceleration_mps2) * lag(Self::DRIVE_LAG_S);
        next.speed_mps = (self.speed_mps + next.acceleration_mps2 * STEP_S).max(0.0);
        if next.speed_mps == 0.0 {
            next.acceleration_mps2 = next.acceleration_mps2.max(0.0);
        }
        let distance = (self.speed_mps + next.speed_mps) / 2.0 * STEP_S;
        let middle = self.heading_rad + next.curvature_1_m * distance / 2.0;
        next.x_m += distance * middle.cos();
        next.y_m += distance * middle.sin();
        next.heading_rad += next.curvature_1_m * distance;
        next
    }
}

fn lag(seconds: f64) -> f64 {
    STEP_S / (seconds + STEP_S)
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positive_curvature_turns_left() {
        let mut ego = EgoState { speed_mps: 10.0, ..EgoState::default() };
        for _ in 0..20 {
            ego = ego.after(Control { curvature_1_m: 0.05, acceleration_mps2: 0.0 });
        }
        assert!(ego.y_m > 0.5 && ego.heading_rad > 0.2 && ego.yaw_rate_rad_s() > 0.4);
    }

    #[test]
    fn a_control_that_is_not_finite_coasts_straight() {
        let ego = EgoState { speed_mps: 10.0, ..EgoState::default() };
        let next = ego.after(Control { curvature_1_m: f64::NAN, acceleration_mps2: f64::INFINITY });
        assert_eq!((next.heading_rad, next.speed_mps), (0.0, 10.0));
    }
}
