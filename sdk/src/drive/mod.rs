//! The driving step: frames and ego state in, trajectory and control out.

mod input;
mod output;

pub use input::{CameraFrame, DriveInput, DriverState, EgoState, Mode, PixelFormat, Route, RouteCommand, Signal};
pub use output::{
    ACTIONS_MAX, Control, DriveOutput, Faults, IDENTITY_TEXT_BYTES, IntentCode, MinimalRisk, ModelIdentity, TRAJECTORY_POINTS_MAX,
    Takeover, TakeoverLevel, TakeoverReason, TrajectoryPoint,
};
