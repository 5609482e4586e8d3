//! What a driving step answers.

use core::ffi::c_char;
use core::mem::size_of;

use switchback_sdk::drive::{
    DriveOutput, Faults, IntentCode, MinimalRisk, Mode, ModelIdentity, TakeoverLevel, TakeoverReason, TrajectoryPoint,
};

use crate::input::{SWB_MODE_ENGAGED, SWB_MODE_STANDBY, swb_drive_input};
use crate::memory::CallerStruct;

/// Length of `swb_drive_output.trajectory`.
pub const SWB_TRAJECTORY_POINTS_MAX: usize = 64;
/// Length of `swb_drive_output.actions`.
pub const SWB_ACTIONS_MAX: usize = 32;
/// Length of the texts in `swb_model_identity`, the closing zero included.
pub const SWB_IDENTITY_TEXT_BYTES: usize = 32;

/// Fault: there is no model.
pub const SWB_FAULT_NO_MODEL: u64 = 0x1;
/// Fault: a camera that the contract asks for was not supplied, or its description does not fit its data (stride, `data_len`, odd NV12).
pub const SWB_FAULT_CAMERA_MISSING: u64 = 0x2;
/// Fault: a camera image is older than allowed, or from the future.
pub const SWB_FAULT_CAMERA_STALE: u64 = 0x4;
/// Fault: a camera delivered the same frame again.
pub const SWB_FAULT_CAMERA_REPEATED: u64 = 0x8;
/// Fault: the ego state is not finite or not plausible.
pub const SWB_FAULT_EGO_INVALID: u64 = 0x10;
/// Fault: a signal that the contract requires was not supplied or is not finite.
pub const SWB_FAULT_SIGNAL_MISSING: u64 = 0x20;
/// Fault: the sequence number did not rise.
pub const SWB_FAULT_SEQUENCE: u64 = 0x40;
/// Fault: ONNX Runtime reported an error.
pub const SWB_FAULT_RUN_FAILED: u64 = 0x80;
/// Fault: the model's output is not finite.
pub const SWB_FAULT_NOT_FINITE: u64 = 0x100;
/// Fault: the model's control or trajectory is outside the envelope that its contract states; `swb_last_error` says which limit and where.
pub const SWB_FAULT_ENVELOPE: u64 = 0x200;
/// Fault: the answer came after the deadline.
pub const SWB_FAULT_DEADLINE_MISSED: u64 = 0x400;
/// Fault: the model's confidence is below the contract's minimum.
pub const SWB_FAULT_LOW_CONFIDENCE: u64 = 0x800;
/// Fault: the images of two cameras lie too far apart in time.
pub const SWB_FAULT_CAMERA_SKEW: u64 = 0x1000;
/// Fault: the ego state was measured too long ago.
pub const SWB_FAULT_EGO_STALE: u64 = 0x2000;
/// Fault: the route is not finite.
pub const SWB_FAULT_ROUTE_INVALID: u64 = 0x4000;
/// Fault: the call itself was refused (NULL, size, value, another thread inside); no model was asked. The result and `swb_last_error` say why.
pub const SWB_FAULT_CALL: u64 = 0x100000000;

/// Intent: the model states none.
pub const SWB_INTENT_UNKNOWN: u32 = 0;
/// Intent: keep the lane at the desired speed.
pub const SWB_INTENT_KEEP_LANE: u32 = 1;
/// Intent: follow a vehicle ahead.
pub const SWB_INTENT_FOLLOW: u32 = 2;
/// Intent: slow down or stop for somebody or something on the road.
pub const SWB_INTENT_YIELD: u32 = 3;
/// Intent: stop because a person signals so.
pub const SWB_INTENT_GESTURE_STOP: u32 = 4;
/// Intent: change to the left lane or turn left.
pub const SWB_INTENT_LEFT: u32 = 5;
/// Intent: change to the right lane or turn right.
pub const SWB_INTENT_RIGHT: u32 = 6;
/// Intent: standing still.
pub const SWB_INTENT_STANDSTILL: u32 = 7;

/// Takeover level: nothing is asked.
pub const SWB_TAKEOVER_NONE: u32 = 0;
/// Takeover level: the driver should get ready.
pub const SWB_TAKEOVER_PREPARE: u32 = 1;
/// Takeover level: the driver must take over within the budget.
pub const SWB_TAKEOVER_REQUEST: u32 = 2;
/// Takeover level: the driver must take over now.
pub const SWB_TAKEOVER_IMMEDIATE: u32 = 3;

/// Takeover reason: nothing is asked.
pub const SWB_TAKEOVER_REASON_NONE: u32 = 0;
/// Takeover reason: the model's confidence is below the contract's minimum.
pub const SWB_TAKEOVER_REASON_LOW_CONFIDENCE: u32 = 1;
/// Takeover reason: an input was missing, stale or not plausible.
pub const SWB_TAKEOVER_REASON_INPUT: u32 = 2;
/// Takeover reason: the model failed.
pub const SWB_TAKEOVER_REASON_MODEL: u32 = 3;
/// Takeover reason: the answer came too late.
pub const SWB_TAKEOVER_REASON_DEADLINE: u32 = 4;
/// Takeover reason: there is no model.
pub const SWB_TAKEOVER_REASON_NO_MODEL: u32 = 5;
/// Takeover reason: the library could not be asked (see `SWB_FAULT_CALL`).
pub const SWB_TAKEOVER_REASON_CALL: u32 = 100;

/// Minimal risk manoeuvre: nothing is asked.
pub const SWB_MINIMAL_RISK_NONE: u32 = 0;
/// Minimal risk manoeuvre: type 1 of ISO 23793-1, stop straight ahead.
pub const SWB_MINIMAL_RISK_STRAIGHT_STOP: u32 = 1;
/// Minimal risk manoeuvre: type 2 of ISO 23793-1, stop within the lane.
pub const SWB_MINIMAL_RISK_IN_LANE_STOP: u32 = 2;

/// One point of the planned path, in the vehicle's axes at the time of the frame.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_trajectory_point {
    /// Time after the frame, s.
    pub time_s: f32,
    /// Forward, m.
    pub x_m: f32,
    /// Left, m.
    pub y_m: f32,
    /// Heading relative to the vehicle at the time of the frame, rad, left positive.
    pub heading_rad: f32,
    /// Speed, m/s.
    pub speed_mps: f32,
    /// Standard deviation of `x_m`, m; 0 when the model states none.
    pub x_std_m: f32,
    /// Standard deviation of `y_m`, m; 0 when the model states none.
    pub y_std_m: f32,
}

/// Exactly which model it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_model_identity {
    /// Name, UTF-8, closed by a zero byte; cut when longer.
    pub name: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// Version, UTF-8, closed by a zero byte; cut when longer.
    pub version: [c_char; SWB_IDENTITY_TEXT_BYTES],
    /// SHA-256 of the bundle's chunk index, the file that was signed.
    pub sha256: [u8; 32],
    /// Release counter: rises with every release of the model; a vehicle never goes below the one that it confirmed.
    pub release_counter: u64,
    /// Rises with every model that this vehicle loads, also with the same one after a restart. 0: no model.
    pub generation: u64,
}

/// The answer of one driving step. Set `struct_size` once; the step writes everything else, every time.
///
/// When `control_valid` is 0, nothing in it may move the vehicle except `takeover_level` and `minimal_risk`, which are requests to the vehicle's
/// own software.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct swb_drive_output {
    /// `sizeof(swb_drive_output)`, set by the caller.
    pub struct_size: usize,
    /// Sequence number of the input that it answers; 0 when the input could not be read.
    pub sequence: u64,
    /// Frame id of the front camera's image, also of one that could not be used; 0 when there was none.
    pub frame_id: u64,
    /// Exposure of the oldest image that was used, ns of the caller's monotonic clock.
    pub exposure_ns: i64,
    /// End of validity, ns of the caller's monotonic clock. Never act on the output later than this. 0 when `control_valid` is 0.
    pub valid_until_ns: i64,
    /// What went wrong in this step: bits `SWB_FAULT_...`. Bits can be set while `control_valid` is 1.
    pub faults: u64,
    /// Time inside the model, ns.
    pub run_ns: u64,
    /// Time of the whole step, ns.
    pub total_ns: u64,
    /// Path curvature to drive now, 1/m, left positive. Only meaningful when `control_valid` is 1.
    pub curvature_1pm: f32,
    /// Longitudinal acceleration to apply now, m/s2. Only meaningful when `control_valid` is 1.
    pub acceleration_mps2: f32,
    /// The model's own confidence, 0 to 1.
    pub confidence: f32,
    /// Probability of `intent`, 0 to 1.
    pub intent_probability: f32,
    /// What the model intends to do: `SWB_INTENT_...`.
    pub intent: u32,
    /// How urgently the driver must take over: `SWB_TAKEOVER_...`.
    pub takeover_level: u32,
    /// Why: `SWB_TAKEOVER_REASON_...`.
    pub takeover_reason: u32,
    /// Time that the driver has, ms; 0 when nothing is asked.
    pub takeover_budget_ms: u32,
    /// The minimal risk manoeuvre that the vehicle should carry out: `SWB_MINIMAL_RISK_...`. The library asks, the vehicle acts.
    /// It asks once the last valid output has run out, not in the first step without one. Once asked for, a manoeuvre stays asked for, also
    /// in steps whose `control_valid` is 1 again and at standstill, until the driver overrides (`swb_driver_state.overrides`) or the requested mode is
    /// `SWB_MODE_STANDBY` (UN R157: it ends with the driver).
    pub minimal_risk: u32,
    /// Mode that this output is meant for: `SWB_MODE_...`.
    pub mode: u32,
    /// 1: curvature, acceleration and trajectory come from a model, are finite and keep the contract's envelope: the control as it stands, the
    /// trajectory in the speeds, accelerations and curvatures that its points imply from the vehicle's present motion on. 0: do not use them.
    pub control_valid: u8,
    /// 1: the first output of a model that was just swapped in.
    pub swapped: u8,
    /// 1: the new model failed in this very step and the previous one answered.
    pub fell_back: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of valid points in `trajectory`.
    pub trajectory_len: u32,
    /// The planned path, in order of time. It keeps the envelope over windows of half a second and of one second; neighboring points scatter.
    pub trajectory: [swb_trajectory_point; SWB_TRAJECTORY_POINTS_MAX],
    /// Named actions of a platform that is no road vehicle, in the contract's order.
    pub actions: [f32; SWB_ACTIONS_MAX],
    /// Number of valid values in `actions`.
    pub actions_len: u32,
    /// Zero.
    pub reserved2: u32,
    /// The model that answered; its `generation` is 0 when none did.
    pub model: swb_model_identity,
}

// SAFETY: `repr(C)`, its size first; integers, floats and arrays and structs of these.
unsafe impl CallerStruct for swb_drive_output {
    const NAME: &'static str = "swb_drive_output";
    const SIZE_MIN: usize = 2152;
}

impl From<TrajectoryPoint> for swb_trajectory_point {
    fn from(point: TrajectoryPoint) -> Self {
        Self {
            time_s: point.time_s,
            x_m: point.x_m,
            y_m: point.y_m,
            heading_rad: point.heading_rad,
            speed_mps: point.speed_mps,
            x_std_m: point.x_std_m,
            y_std_m: point.y_std_m,
        }
    }
}

impl From<&ModelIdentity> for swb_model_identity {
    fn from(identity: &ModelIdentity) -> Self {
        Self {
            name: identity.name.map(|byte| byte as c_char),
            version: identity.version.map(|byte| byte as c_char),
            sha256: identity.sha256,
            release_counter: identity.release_counter,
            generation: identity.generation,
        }
    }
}

impl From<&DriveOutput> for swb_drive_output {
    fn from(output: &DriveOutput) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            sequence: output.sequence,
            frame_id: output.frame_id,
            exposure_ns: output.exposure_ns,
            valid_until_ns: output.valid_until_ns,
            faults: output.faults.bits(),
            run_ns: output.run_ns,
            total_ns: output.total_ns,
            curvature_1pm: output.control.curvature_1pm,
            acceleration_mps2: output.control.acceleration_mps2,
            confidence: output.confidence,
            intent_probability: output.intent_probability,
            intent: output.intent as u32,
            takeover_level: output.takeover.level as u32,
            takeover_reason: output.takeover.reason as u32,
            takeover_budget_ms: output.takeover.budget_ms,
            minimal_risk: output.minimal_risk as u32,
            mode: output.mode as u32,
            control_valid: output.control_valid.into(),
            swapped: output.swapped.into(),
            fell_back: output.fell_back.into(),
            reserved: 0,
            trajectory_len: output.trajectory_points,
            trajectory: output.trajectory.map(Into::into),
            actions: output.actions,
            actions_len: output.actions_len,
            reserved2: 0,
            model: (&output.model).into(),
        }
    }
}

impl swb_drive_output {
    /// The answer when the SDK could not be asked at all.
    ///
    /// The vehicle may be driving on the last output, so silence is not an option: the driver must take over now, and until then the
    /// vehicle should stop straight ahead, since no lane is known. Only in standby nobody acts on outputs and nothing is asked.
    pub(crate) fn refused(input: Option<&swb_drive_input>) -> Self {
        let answer =
            Self { sequence: input.map_or(0, |input| input.sequence), faults: SWB_FAULT_CALL, ..Self::from(&DriveOutput::default()) };
        if input.is_some_and(|input| input.requested_mode == SWB_MODE_STANDBY) {
            return answer;
        }
        Self {
            takeover_level: SWB_TAKEOVER_IMMEDIATE,
            takeover_reason: SWB_TAKEOVER_REASON_CALL,
            minimal_risk: SWB_MINIMAL_RISK_STRAIGHT_STOP,
            mode: SWB_MODE_ENGAGED,
            ..answer
        }
    }
}

/// The numbers of the header are literals for its reader; here they are held to those of the SDK.
const _: () = {
    use switchback_sdk::drive;

    assert!(size_of::<swb_drive_output>() == <swb_drive_output as CallerStruct>::SIZE_MIN);
    assert!(SWB_TRAJECTORY_POINTS_MAX == drive::TRAJECTORY_POINTS_MAX);
    assert!(SWB_ACTIONS_MAX == drive::ACTIONS_MAX);
    assert!(SWB_IDENTITY_TEXT_BYTES == drive::IDENTITY_TEXT_BYTES);

    assert!(SWB_FAULT_NO_MODEL == Faults::NO_MODEL.bits());
    assert!(SWB_FAULT_CAMERA_MISSING == Faults::CAMERA_MISSING.bits());
    assert!(SWB_FAULT_CAMERA_STALE == Faults::CAMERA_STALE.bits());
    assert!(SWB_FAULT_CAMERA_REPEATED == Faults::CAMERA_REPEATED.bits());
    assert!(SWB_FAULT_EGO_INVALID == Faults::EGO_INVALID.bits());
    assert!(SWB_FAULT_SIGNAL_MISSING == Faults::SIGNAL_MISSING.bits());
    assert!(SWB_FAULT_SEQUENCE == Faults::SEQUENCE.bits());
    assert!(SWB_FAULT_RUN_FAILED == Faults::RUN_FAILED.bits());
    assert!(SWB_FAULT_NOT_FINITE == Faults::NOT_FINITE.bits());
    assert!(SWB_FAULT_ENVELOPE == Faults::ENVELOPE.bits());
    assert!(SWB_FAULT_DEADLINE_MISSED == Faults::DEADLINE_MISSED.bits());
    assert!(SWB_FAULT_LOW_CONFIDENCE == Faults::LOW_CONFIDENCE.bits());
    assert!(SWB_FAULT_CAMERA_SKEW == Faults::CAMERA_SKEW.bits());
    assert!(SWB_FAULT_EGO_STALE == Faults::EGO_STALE.bits());
    assert!(SWB_FAULT_ROUTE_INVALID == Faults::ROUTE_INVALID.bits());

    assert!(SWB_INTENT_UNKNOWN == IntentCode::Unknown as u32);
    assert!(SWB_INTENT_KEEP_LANE == IntentCode::KeepLane as u32);
    assert!(SWB_INTENT_FOLLOW == IntentCode::Follow as u32);
    assert!(SWB_INTENT_YIELD == IntentCode::Yield as u32);
    assert!(SWB_INTENT_GESTURE_STOP == IntentCode::GestureStop as u32);
    assert!(SWB_INTENT_LEFT == IntentCode::Left as u32);
    assert!(SWB_INTENT_RIGHT == IntentCode::Right as u32);
    assert!(SWB_INTENT_STANDSTILL == IntentCode::Standstill as u32);

    assert!(SWB_TAKEOVER_NONE == TakeoverLevel::None as u32);
    assert!(SWB_TAKEOVER_PREPARE == TakeoverLevel::Prepare as u32);
    assert!(SWB_TAKEOVER_REQUEST == TakeoverLevel::Request as u32);
    assert!(SWB_TAKEOVER_IMMEDIATE == TakeoverLevel::Immediate as u32);

    assert!(SWB_TAKEOVER_REASON_NONE == TakeoverReason::None as u32);
    assert!(SWB_TAKEOVER_REASON_LOW_CONFIDENCE == TakeoverReason::LowConfidence as u32);
    assert!(SWB_TAKEOVER_REASON_INPUT == TakeoverReason::Input as u32);
    assert!(SWB_TAKEOVER_REASON_MODEL == TakeoverReason::Model as u32);
    assert!(SWB_TAKEOVER_REASON_DEADLINE == TakeoverReason::Deadline as u32);
    assert!(SWB_TAKEOVER_REASON_NO_MODEL == TakeoverReason::NoModel as u32);

    assert!(SWB_MINIMAL_RISK_NONE == MinimalRisk::None as u32);
    assert!(SWB_MINIMAL_RISK_STRAIGHT_STOP == MinimalRisk::StraightStop as u32);
    assert!(SWB_MINIMAL_RISK_IN_LANE_STOP == MinimalRisk::InLaneStop as u32);

    assert!(SWB_MODE_STANDBY == Mode::Standby as u32);
    assert!(SWB_MODE_ENGAGED == Mode::Engaged as u32);
};
