//! What a driving step looks at.

use core::ffi::c_char;
use core::mem::size_of;
use core::slice;

use switchback_sdk::drive::{CameraFrame, DriveInput, DriverState, EgoState, Mode, PixelFormat, Route, RouteCommand, Signal};

use crate::memory::{self, CallerStruct};
use crate::result::Refusal;

/// Most cameras that one step takes.
pub const SWB_CAMERAS_MAX: usize = 16;
/// Most named signals that one step takes.
pub const SWB_SIGNALS_MAX: usize = 64;

/// Pixel format: three bytes a pixel, red, green, blue.
pub const SWB_PIXEL_FORMAT_RGB8: u32 = 1;
/// Pixel format: a plane of luma, then interleaved chroma (U, V) at half resolution; ITU-R BT.709, limited range. Width and height are even.
pub const SWB_PIXEL_FORMAT_NV12: u32 = 2;

/// Mode: nobody acts on the output; the model runs so that it is ready.
pub const SWB_MODE_STANDBY: u32 = 0;
/// Mode: the vehicle acts on the output.
pub const SWB_MODE_ENGAGED: u32 = 1;

/// Route command: follow the lane.
pub const SWB_ROUTE_FOLLOW: u32 = 0;
/// Route command: turn or bear left.
pub const SWB_ROUTE_LEFT: u32 = 1;
/// Route command: turn or bear right.
pub const SWB_ROUTE_RIGHT: u32 = 2;
/// Route command: straight on at a junction.
pub const SWB_ROUTE_STRAIGHT: u32 = 3;
/// Route command: stop at the destination.
pub const SWB_ROUTE_STOP: u32 = 4;

/// Answer to a yes-or-no question: not known. Zero, so that a zeroed struct claims nothing.
pub const SWB_UNKNOWN: u8 = 0;
/// Answer to a yes-or-no question: yes.
pub const SWB_YES: u8 = 1;
/// Answer to a yes-or-no question: no.
pub const SWB_NO: u8 = 2;

/// One camera image, of any size: it is scaled to what the model reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_camera_frame {
    /// `sizeof(swb_camera_frame)`; the same in every element of an array.
    pub struct_size: usize,
    /// Camera id as the model's contract numbers them.
    pub camera_id: u32,
    /// How `data` is laid out: `SWB_PIXEL_FORMAT_...`.
    pub format: u32,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Bytes from one row to the next; of the luma plane for NV12, whose chroma plane has the same stride.
    pub stride_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// Number of the frame as the camera counts them; a repeated number means that the camera hangs.
    pub frame_id: u64,
    /// Middle of the exposure, ns of the caller's monotonic clock.
    pub exposure_ns: i64,
    /// The pixels: at least `stride_bytes * height` bytes, half as much again for NV12. Read during the step only.
    pub data: *const u8,
    /// Bytes at `data`.
    pub data_len: usize,
}

/// The vehicle's own motion at the time of the step. Every value must be finite.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_ego_state {
    /// `sizeof(swb_ego_state)`.
    pub struct_size: usize,
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
    /// Zero.
    pub reserved: u32,
}

/// The navigation command and its surroundings. All zero: follow the lane, speed limit unknown.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_route {
    /// `sizeof(swb_route)`.
    pub struct_size: usize,
    /// What navigation asks for: `SWB_ROUTE_...`.
    pub command: u32,
    /// Distance to where the command applies, m.
    pub distance_m: f32,
    /// Speed limit, m/s; 0 when unknown.
    pub speed_limit_mps: f32,
    /// Zero.
    pub reserved: u32,
}

/// What is known of the driver (names after COVESA VSS). All zero: nothing is known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_driver_state {
    /// `sizeof(swb_driver_state)`.
    pub struct_size: usize,
    /// Whether hands are on the wheel: `SWB_UNKNOWN`, `SWB_YES` or `SWB_NO`.
    pub hands_on_wheel: u8,
    /// Whether eyes are on the road: `SWB_UNKNOWN`, `SWB_YES` or `SWB_NO`.
    pub eyes_on_road: u8,
    /// 1: the driver steers, brakes or accelerates against the function.
    pub overrides: u8,
    /// 1: `attentive_probability` is measured.
    pub attentive_known: u8,
    /// Probability that the driver attends, 0 to 1.
    pub attentive_probability: f32,
}

/// A float by name, for what a model's contract asks for beyond the other fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_signal {
    /// `sizeof(swb_signal)`; the same in every element of an array.
    pub struct_size: usize,
    /// Name as in the contract, UTF-8. Read during the step only.
    pub name: *const c_char,
    /// Value in the unit that the contract's author states.
    pub value: f32,
    /// Zero.
    pub reserved: u32,
}

/// Everything that one driving step looks at. All that it points to is read during the step only and stays the caller's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_drive_input {
    /// `sizeof(swb_drive_input)`.
    pub struct_size: usize,
    /// Number of the step, rising by one; a repeated or falling number is a fault.
    pub sequence: u64,
    /// The caller's monotonic time now, ns.
    pub time_ns: i64,
    /// The newest frame of each camera: an array of `cameras_len` elements; NULL when there are none.
    pub cameras: *const swb_camera_frame,
    /// Number of cameras, at most `SWB_CAMERAS_MAX`.
    pub cameras_len: u32,
    /// What the driver or the vehicle asks the driving function to do: `SWB_MODE_...`.
    pub requested_mode: u32,
    /// The vehicle's own motion. Not NULL.
    pub ego: *const swb_ego_state,
    /// The navigation command; NULL when there is no navigation: follow the lane, speed limit unknown.
    pub route: *const swb_route,
    /// What is known of the driver; NULL: nothing.
    pub driver: *const swb_driver_state,
    /// Named signals: an array of `signals_len` elements; NULL when there are none.
    pub signals: *const swb_signal,
    /// Number of signals, at most `SWB_SIGNALS_MAX`.
    pub signals_len: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: `repr(C)`, the size first; integers, floats and raw pointers.
unsafe impl CallerStruct for swb_camera_frame {
    const NAME: &'static str = "swb_camera_frame";
    const SIZE_MIN: usize = 64;
}
// SAFETY: as above.
unsafe impl CallerStruct for swb_ego_state {
    const NAME: &'static str = "swb_ego_state";
    const SIZE_MIN: usize = 40;
}
// SAFETY: as above.
unsafe impl CallerStruct for swb_route {
    const NAME: &'static str = "swb_route";
    const SIZE_MIN: usize = 24;
}
// SAFETY: as above.
unsafe impl CallerStruct for swb_driver_state {
    const NAME: &'static str = "swb_driver_state";
    const SIZE_MIN: usize = 16;
}
// SAFETY: as above.
unsafe impl CallerStruct for swb_signal {
    const NAME: &'static str = "swb_signal";
    const SIZE_MIN: usize = 24;
}
// SAFETY: as above.
unsafe impl CallerStruct for swb_drive_input {
    const NAME: &'static str = "swb_drive_input";
    const SIZE_MIN: usize = 80;
}

/// Where the arrays of a step lie while it runs: on the stack, because the step allocates nothing.
pub(crate) struct StepArrays<'a> {
    cameras: [CameraFrame<'a>; SWB_CAMERAS_MAX],
    signals: [Signal<'a>; SWB_SIGNALS_MAX],
}

impl StepArrays<'_> {
    pub(crate) fn new() -> Self {
        const NO_CAMERA: CameraFrame<'_> = CameraFrame {
            camera_id: 0,
            format: PixelFormat::Rgb8,
            width: 0,
            height: 0,
            stride_bytes: 0,
            frame_id: 0,
            exposure_ns: 0,
            data: &[],
        };
        Self { cameras: [NO_CAMERA; SWB_CAMERAS_MAX], signals: [Signal { name: "", value: 0.0 }; SWB_SIGNALS_MAX] }
    }
}

impl swb_drive_input {
    /// The SDK's view of the caller's input.
    ///
    /// # Safety
    /// *pointer*, *struct_size* and *text* of everything that the input points to, for as long as `'a`.
    pub(crate) unsafe fn convert<'a>(&self, arrays: &'a mut StepArrays<'a>) -> Result<DriveInput<'a>, Refusal> {
        // SAFETY: passed on, here and below.
        let cameras = unsafe { cameras(self, &mut arrays.cameras) }?;
        // SAFETY: as above.
        let signals = unsafe { signals(self, &mut arrays.signals) }?;
        // SAFETY: as above.
        let ego = unsafe { memory::read("swb_drive_input.ego", self.ego) }?;
        // SAFETY: as above.
        let route = unsafe { memory::read_optional("swb_drive_input.route", self.route) }?;
        // SAFETY: as above.
        let driver = unsafe { memory::read_optional("swb_drive_input.driver", self.driver) }?;
        Ok(DriveInput {
            sequence: self.sequence,
            time_ns: self.time_ns,
            cameras,
            ego: ego.convert(),
            route: route.map_or(Ok(Route::default()), |route| route.convert())?,
            driver: driver.map_or(Ok(DriverState::default()), |driver| driver.convert())?,
            signals,
            requested_mode: mode(self.requested_mode)?,
        })
    }
}

/// # Safety
/// *pointer* and *struct_size* of the input's cameras.
unsafe fn cameras<'a>(input: &swb_drive_input, space: &'a mut [CameraFrame<'a>]) -> Result<&'a [CameraFrame<'a>], Refusal> {
    let length = length("swb_drive_input.cameras_len", input.cameras_len, space.len())?;
    // SAFETY: passed on.
    let frames = unsafe { memory::read_array("swb_drive_input.cameras", input.cameras, length) }?;
    for (place, frame) in space.iter_mut().zip(frames) {
        // SAFETY: passed on.
        *place = unsafe { frame?.convert() }?;
    }
    Ok(&space[..length])
}

/// # Safety
/// *pointer*, *struct_size* and *text* of the input's signals.
unsafe fn signals<'a>(input: &swb_drive_input, space: &'a mut [Signal<'a>]) -> Result<&'a [Signal<'a>], Refusal> {
    let length = length("swb_drive_input.signals_len", input.signals_len, space.len())?;
    // SAFETY: passed on.
    let signals = unsafe { memory::read_array("swb_drive_input.signals", input.signals, length) }?;
    for (place, signal) in space.iter_mut().zip(signals) {
        let signal = signal?;
        *place = Signal {
            // SAFETY: passed on.
            name: unsafe { memory::text("swb_signal.name", signal.name) }?.ok_or(Refusal::Null { what: "swb_signal.name" })?,
            value: signal.value,
        };
    }
    Ok(&space[..length])
}

fn length(what: &'static str, stated: u32, most: usize) -> Result<usize, Refusal> {
    let length = stated as usize;
    if length > most {
        return Err(Refusal::Value { what, value: stated.into() });
    }
    Ok(length)
}

impl swb_camera_frame {
    /// # Safety
    /// *pointer*: `data` points to `data_len` bytes that nobody writes for as long as `'a`.
    unsafe fn convert<'a>(&self) -> Result<CameraFrame<'a>, Refusal> {
        if self.data.is_null() && self.data_len != 0 {
            return Err(Refusal::CameraNull { camera_id: self.camera_id });
        }
        // A slice may not be longer than this; a size that wrapped below zero ends here.
        if isize::try_from(self.data_len).is_err() {
            return Err(self.refused("data_len", self.data_len as u64));
        }
        Ok(CameraFrame {
            camera_id: self.camera_id,
            format: match self.format {
                SWB_PIXEL_FORMAT_RGB8 => PixelFormat::Rgb8,
                SWB_PIXEL_FORMAT_NV12 => PixelFormat::Nv12,
                _ => return Err(self.refused("format", self.format.into())),
            },
            width: self.width,
            height: self.height,
            stride_bytes: self.stride_bytes,
            frame_id: self.frame_id,
            exposure_ns: self.exposure_ns,
            data: if self.data_len == 0 {
                &[]
            } else {
                // SAFETY: *pointer*, checked against NULL and the longest length above.
                unsafe { slice::from_raw_parts(self.data, self.data_len) }
            },
        })
    }
}

impl swb_camera_frame {
    fn refused(&self, field: &'static str, value: u64) -> Refusal {
        Refusal::CameraValue { camera_id: self.camera_id, field, value }
    }
}

impl swb_ego_state {
    fn convert(&self) -> EgoState {
        EgoState {
            time_ns: self.time_ns,
            speed_mps: self.speed_mps,
            acceleration_mps2: self.acceleration_mps2,
            lateral_acceleration_mps2: self.lateral_acceleration_mps2,
            yaw_rate_radps: self.yaw_rate_radps,
            steering_rad: self.steering_rad,
        }
    }
}

impl swb_route {
    fn convert(&self) -> Result<Route, Refusal> {
        Ok(Route {
            command: match self.command {
                SWB_ROUTE_FOLLOW => RouteCommand::Follow,
                SWB_ROUTE_LEFT => RouteCommand::Left,
                SWB_ROUTE_RIGHT => RouteCommand::Right,
                SWB_ROUTE_STRAIGHT => RouteCommand::Straight,
                SWB_ROUTE_STOP => RouteCommand::Stop,
                _ => {
                    return Err(Refusal::Value { what: "swb_route.command", value: self.command.into() });
                }
            },
            distance_m: self.distance_m,
            speed_limit_mps: self.speed_limit_mps,
        })
    }
}

impl swb_driver_state {
    fn convert(&self) -> Result<DriverState, Refusal> {
        Ok(DriverState {
            hands_on_wheel: answer("swb_driver_state.hands_on_wheel", self.hands_on_wheel)?,
            eyes_on_road: answer("swb_driver_state.eyes_on_road", self.eyes_on_road)?,
            attentive_probability: flag("swb_driver_state.attentive_known", self.attentive_known)?.then_some(self.attentive_probability),
            overrides: flag("swb_driver_state.overrides", self.overrides)?,
        })
    }
}

fn mode(number: u32) -> Result<Mode, Refusal> {
    match number {
        SWB_MODE_STANDBY => Ok(Mode::Standby),
        SWB_MODE_ENGAGED => Ok(Mode::Engaged),
        _ => Err(Refusal::Value { what: "swb_drive_input.requested_mode", value: number.into() }),
    }
}

fn answer(what: &'static str, number: u8) -> Result<Option<bool>, Refusal> {
    match number {
        SWB_UNKNOWN => Ok(None),
        SWB_YES => Ok(Some(true)),
        SWB_NO => Ok(Some(false)),
        _ => Err(Refusal::Value { what, value: number.into() }),
    }
}

pub(crate) fn flag(what: &'static str, number: u8) -> Result<bool, Refusal> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Refusal::Value { what, value: number.into() }),
    }
}

/// The sizes that version 1 of the ABI promised.
const _: () = {
    assert!(size_of::<swb_camera_frame>() == <swb_camera_frame as CallerStruct>::SIZE_MIN);
    assert!(size_of::<swb_ego_state>() == <swb_ego_state as CallerStruct>::SIZE_MIN);
    assert!(size_of::<swb_route>() == <swb_route as CallerStruct>::SIZE_MIN);
    assert!(size_of::<swb_driver_state>() == <swb_driver_state as CallerStruct>::SIZE_MIN);
    assert!(size_of::<swb_signal>() == <swb_signal as CallerStruct>::SIZE_MIN);
    assert!(size_of::<swb_drive_input>() == <swb_drive_input as CallerStruct>::SIZE_MIN);
    assert!(PixelFormat::Rgb8 as u32 == SWB_PIXEL_FORMAT_RGB8);
    assert!(PixelFormat::Nv12 as u32 == SWB_PIXEL_FORMAT_NV12);
    assert!(RouteCommand::Follow as u32 == SWB_ROUTE_FOLLOW);
    assert!(RouteCommand::Left as u32 == SWB_ROUTE_LEFT);
    assert!(RouteCommand::Right as u32 == SWB_ROUTE_RIGHT);
    assert!(RouteCommand::Straight as u32 == SWB_ROUTE_STRAIGHT);
    assert!(RouteCommand::Stop as u32 == SWB_ROUTE_STOP);
};
