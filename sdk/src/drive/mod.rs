//! The driving step: frames and ego state in, trajectory and control out.
//!
//! A model states what it wants and what it answers in its contract; [`crate::engine`] runs it. Here is the rest of a step: filling
//! tensors from a [`DriveInput`], reading a [`DriveOutput`] out of them, and deciding whether anybody may act on it.

mod clock;
mod envelope;
mod error;
mod fault;
mod image;
mod input;
mod inputs;
mod model;
mod output;
mod outputs;
mod path;
mod takeover;

pub use clock::{Clock, MonotonicClock};
pub(crate) use envelope::Bearing;
pub use envelope::EnvelopeBreach;
pub use error::ContractError;
pub(crate) use fault::Found;
pub use fault::StepFault;
pub use image::FrameUnfit;
pub use input::{CameraFrame, DriveInput, DriverState, EgoState, Mode, PixelFormat, Route, RouteCommand, Signal};
pub(crate) use inputs::InputLimits;
pub(crate) use model::{Before, Model, Staging, budget_ns, onnx_element, recurrent_pairs};
pub use output::{
    ACTIONS_MAX, Control, DriveOutput, Faults, IDENTITY_TEXT_BYTES, IntentCode, MinimalRisk, ModelIdentity, TRAJECTORY_POINTS_MAX,
    Takeover, TakeoverLevel, TakeoverReason, TrajectoryPoint,
};
pub(crate) use outputs::value_at;
pub(crate) use takeover::{Situation, TakeoverLogic};
