//! What the partner's software hands to a driving step.
//!
//! Axes follow ISO 8855: x forward, y left, z up, origin at the middle of the rear axle on the ground; positive curvature, yaw rate
//! and steering turn left. Units are SI. Times are nanoseconds of the caller's monotonic clock.

/// Everything that one driving step looks at.
#[derive(Clone, Copy, Debug)]
pub struct DriveInput<'a> {
    /// Number of the step, rising by one; a repeated or falling number is a fault.
    pub sequence: u64,
    /// The caller's monotonic time now, ns.
    pub time_ns: i64,
    /// The newest frame of each camera.
    pub cameras: &'a [CameraFrame<'a>],
    /// The vehicle's own motion.
    pub ego: EgoState,
    /// The navigation command and its surroundings.
    pub route: Route,
    /// What is known of the driver.
    pub driver: DriverState,
    /// Floats by name for what the contract asks for beyond the fields above.
    pub signals: &'a [Signal<'a>],
    /// What the driver or the vehicle asks the driving function to do.
    pub requested_mode: Mode,
}

/// One camera image.
#[derive(Clone, Copy, Debug)]
pub struct CameraFrame<'a> {
    /// Camera id as the contract numbers them.
    pub camera_id: u32,
    /// How `data` is laid out.
    pub format: PixelFormat,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Bytes from one row to the next; of the luma plane for [`PixelFormat::Nv12`], whose chroma plane has the same stride.
    pub stride_bytes: u32,
    /// Number of the frame as the camera counts them; a repeated number means that the camera hangs.
    pub frame_id: u64,
    /// Middle of the exposure, ns of the caller's monotonic clock.
    pub exposure_ns: i64,
    /// The pixels; at least `stride_bytes * height` bytes, half as much again for [`PixelFormat::Nv12`].
    pub data: &'a [u8],
}

/// Layout of a camera image in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PixelFormat {
    /// Three bytes a pixel: red, green, blue.
    Rgb8 = 1,
    /// A plane of luma, then interleaved chroma (U, V) at half resolution; ITU-R BT.709, limited range.
    Nv12 = 2,
}

/// The vehicle's own motion at the time of the step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EgoState {
    /// Time of measurement, ns of the caller's monotonic clock.
    pub time_ns: i64,
    /// Longitudinal speed, m/s.
    pub speed_mps: f32,
    /// Longitudinal acceleration, m/s2.
    pub acceleration_mps2: f32,
    /// Lateral acceleration, m/s2, left positive.
    pub lateral_acceleration_mps2: f32,
    /// Yaw rate, rad/s, left positive.
    pub yaw_rate_radps: f32,
    /// Road-wheel angle, rad, left positive.
    pub steering_rad: f32,
}

/// The navigation command and its surroundings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Route {
    /// What navigation asks for.
    pub command: RouteCommand,
    /// Distance to where the command applies, m.
    pub distance_m: f32,
    /// Speed limit, m/s; 0 when unknown.
    pub speed_limit_mps: f32,
}

/// What navigation asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteCommand {
    /// Follow the lane.
    #[default]
    Follow = 0,
    /// Turn or bear left.
    Left = 1,
    /// Turn or bear right.
    Right = 2,
    /// Straight on at a junction.
    Straight = 3,
    /// Stop at the destination.
    Stop = 4,
}

/// What is known of the driver (names after COVESA VSS).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DriverState {
    /// Hands are on the wheel.
    pub hands_on_wheel: Option<bool>,
    /// Eyes are on the road.
    pub eyes_on_road: Option<bool>,
    /// Probability that the driver attends, 0 to 1.
    pub attentive_probability: Option<f32>,
    /// The driver steers, brakes or accelerates against the function.
    pub overrides: bool,
}

/// A float by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal<'a> {
    /// Name as in the contract.
    pub name: &'a str,
    /// Value in the unit that the contract's author states.
    pub value: f32,
}

/// What the driving function does, or is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Nobody acts on the output; the model runs so that it is ready.
    #[default]
    Standby = 0,
    /// The vehicle acts on the output.
    Engaged = 1,
}
