//! What the functions answer, by number and name.

use core::ffi::{CStr, c_char};

use switchback_sdk::drive::StepFault;

use crate::version::{SWB_ABI_MAJOR, SWB_ABI_MINOR};

/// Result: done.
pub const SWB_OK: i32 = 0;
/// Result: a pointer that must not be NULL is NULL.
pub const SWB_ERROR_NULL: i32 = 1;
/// Result: the `struct_size` of a struct is missing, too small for any version of this ABI, or absurdly large.
pub const SWB_ERROR_STRUCT_SIZE: i32 = 2;
/// Result: a number is none of those that the header lists, a count is above its limit, or a text is not UTF-8.
pub const SWB_ERROR_VALUE: i32 = 3;
/// Result: another thread is inside the same function of the same vehicle.
pub const SWB_ERROR_BUSY: i32 = 4;
/// Result: a defect of the library was caught. The handle answers SWB_ERROR_POISONED from now on; free it and open another.
pub const SWB_ERROR_PANIC: i32 = 5;
/// Result: an earlier call on this handle ended in SWB_ERROR_PANIC.
pub const SWB_ERROR_POISONED: i32 = 6;
/// Result: the program was compiled with the header of an ABI that this library does not have.
pub const SWB_ERROR_ABI: i32 = 7;
/// Result: a file that the config names cannot be read.
pub const SWB_ERROR_FILE: i32 = 8;
/// Result: the call came from within a callback, which must not call the library. Nothing was done.
pub const SWB_ERROR_IN_CALLBACK: i32 = 9;
/// Result of a step: there is no model to ask. The output says what the driver must do.
pub const SWB_ERROR_NO_MODEL: i32 = 20;
/// Result of a step: an input is missing, stale or not plausible; `faults` in the output says which.
pub const SWB_ERROR_INPUT: i32 = 21;
/// Result of a step: the model failed and no other could answer; `faults` in the output says how.
pub const SWB_ERROR_MODEL: i32 = 22;
/// Result of a step: the answer came too late to be used.
pub const SWB_ERROR_DEADLINE: i32 = 23;

/// First of the numbers about trust: metadata, signatures, versions.
pub const SWB_ERROR_TRUST: i32 = 100;
/// First of the numbers about the bundle, its chunk index and its manifest.
pub const SWB_ERROR_BUNDLE: i32 = 200;
/// First of the numbers about the vehicle's disk.
pub const SWB_ERROR_STORE: i32 = 300;
/// First of the numbers about the network and the server.
pub const SWB_ERROR_FETCH: i32 = 400;
/// First of the numbers about decisions on an update: denied, superseded, withdrawn, given up.
pub const SWB_ERROR_UPDATE: i32 = 500;
/// First of the numbers about opening a vehicle: its configuration, its key.
pub const SWB_ERROR_VEHICLE: i32 = 600;
/// First of the numbers about ONNX Runtime and the model's file.
pub const SWB_ERROR_RUNTIME: i32 = 4000;
/// First of the numbers about the engine: loading, self-test, shadow, trial.
pub const SWB_ERROR_ENGINE: i32 = 4100;

/// The first thing that was wrong in a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Known(StepFault),
    /// The model before failed without saying why.
    #[error("no cause is known")]
    Unknown,
}

impl From<Option<StepFault>> for Cause {
    fn from(fault: Option<StepFault>) -> Self {
        fault.map_or(Self::Unknown, Self::Known)
    }
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{what} is NULL")]
    Null { what: &'static str },
    #[error("{what}.struct_size is {stated}, at least {least} is needed")]
    StructSize { what: &'static str, stated: usize, least: usize },
    #[error("{what} cannot be {value}")]
    Value { what: &'static str, value: u64 },
    #[error("swb_camera_frame.data of camera {camera_id} is NULL")]
    CameraNull { camera_id: u32 },
    #[error("swb_camera_frame.{field} of camera {camera_id} cannot be {value}")]
    CameraValue { camera_id: u32, field: &'static str, value: u64 },
    #[error("{what} is not UTF-8")]
    NotText { what: &'static str },
    #[error("another thread is inside {function} for this vehicle")]
    Busy { function: &'static str },
    #[error("defect in libswitchback: {text}")]
    Panic { text: String },
    #[error("an earlier call on this vehicle met a defect in libswitchback; free the vehicle and open another")]
    Poisoned,
    #[error("the call came from within a callback, which must not call the library")]
    InCallback,
    #[error("the program was compiled for ABI {}.{}, this library has {SWB_ABI_MAJOR}.{SWB_ABI_MINOR}", wanted >> 16, wanted & 0xffff)]
    Abi { wanted: u32 },
    #[error("cannot read {what} {path}")]
    File { what: &'static str, path: String, source: std::io::Error },
    #[error(transparent)]
    Vehicle(#[from] switchback_sdk::vehicle::VehicleError),
    #[error(transparent)]
    Offline(#[from] switchback_sdk::vehicle::OfflineFileError),
    #[error("no model is active")]
    NoModel,
    #[error("an input of the step cannot be used (faults {faults:#x})")]
    Input { faults: u64, source: Cause },
    #[error("the model failed (faults {faults:#x})")]
    Model { faults: u64, source: Cause },
    #[error("the answer of the step came too late (faults {faults:#x})")]
    Deadline { faults: u64 },
}

impl Refusal {
    pub(crate) fn number(&self) -> i32 {
        match self {
            Self::Null { .. } | Self::CameraNull { .. } => SWB_ERROR_NULL,
            Self::StructSize { .. } => SWB_ERROR_STRUCT_SIZE,
            Self::Value { .. } | Self::CameraValue { .. } | Self::NotText { .. } => SWB_ERROR_VALUE,
            Self::Busy { .. } => SWB_ERROR_BUSY,
            Self::Panic { .. } => SWB_ERROR_PANIC,
            Self::Poisoned => SWB_ERROR_POISONED,
            Self::InCallback => SWB_ERROR_IN_CALLBACK,
            Self::Abi { .. } => SWB_ERROR_ABI,
            Self::File { .. } => SWB_ERROR_FILE,
            Self::Vehicle(error) => number(error.number()),
            Self::Offline(error) => number(error.number()),
            Self::NoModel => SWB_ERROR_NO_MODEL,
            Self::Input { .. } => SWB_ERROR_INPUT,
            Self::Model { .. } => SWB_ERROR_MODEL,
            Self::Deadline { .. } => SWB_ERROR_DEADLINE,
        }
    }
}

/// Numbers of the SDK are small; one that is not would be a defect, and reads as "unknown result".
pub(crate) fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The name of a result number as this header spells it, such as "SWB_ERROR_NULL"; for a number of the SDK the part that it belongs to.
///
/// The text is the library's and lives as long as the library is loaded; do not free it. Never NULL. Any thread. Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn swb_result_name(result: i32) -> *const c_char {
    name(result).as_ptr()
}

fn name(result: i32) -> &'static CStr {
    match result {
        SWB_OK => c"SWB_OK",
        SWB_ERROR_NULL => c"SWB_ERROR_NULL",
        SWB_ERROR_STRUCT_SIZE => c"SWB_ERROR_STRUCT_SIZE",
        SWB_ERROR_VALUE => c"SWB_ERROR_VALUE",
        SWB_ERROR_BUSY => c"SWB_ERROR_BUSY",
        SWB_ERROR_PANIC => c"SWB_ERROR_PANIC",
        SWB_ERROR_POISONED => c"SWB_ERROR_POISONED",
        SWB_ERROR_ABI => c"SWB_ERROR_ABI",
        SWB_ERROR_FILE => c"SWB_ERROR_FILE",
        SWB_ERROR_IN_CALLBACK => c"SWB_ERROR_IN_CALLBACK",
        SWB_ERROR_NO_MODEL => c"SWB_ERROR_NO_MODEL",
        SWB_ERROR_INPUT => c"SWB_ERROR_INPUT",
        SWB_ERROR_MODEL => c"SWB_ERROR_MODEL",
        SWB_ERROR_DEADLINE => c"SWB_ERROR_DEADLINE",
        100..200 => c"SWB_ERROR_TRUST",
        200..300 => c"SWB_ERROR_BUNDLE",
        300..400 => c"SWB_ERROR_STORE",
        400..500 => c"SWB_ERROR_FETCH",
        500..600 => c"SWB_ERROR_UPDATE",
        600..700 => c"SWB_ERROR_VEHICLE",
        4000..4100 => c"SWB_ERROR_RUNTIME",
        4100..4200 => c"SWB_ERROR_ENGINE",
        _ => c"unknown result",
    }
}
