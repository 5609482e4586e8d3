//! What exactly was wrong in a step, beside the bits of [`Faults`].

use std::sync::Arc;

use switchback_onnx::RunError;

use super::image::FrameUnfit;
use super::{EnvelopeBreach, Faults};

/// The first thing that was wrong in a step; what forbids acting on the answer goes before what does not. The texts name the camera,
/// field or limit and both values.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepFault {
    /// A camera that the model's contract asks for was not supplied.
    #[error("camera {camera_id}, which the model needs, was not supplied")]
    CameraMissing {
        /// Which camera.
        camera_id: u32,
    },
    /// The description of a camera's image does not fit its data.
    #[error("camera {camera_id}: {reason}")]
    CameraUnfit {
        /// Which camera.
        camera_id: u32,
        /// What does not fit.
        reason: FrameUnfit,
    },
    /// A camera's image is too old, or from the future.
    #[error("camera {camera_id}: its image is {age_ms:.1} ms old, -{future_max_ms} to {age_max_ms} ms are allowed")]
    CameraStale {
        /// Which camera.
        camera_id: u32,
        /// Time from its exposure to the step, ms; below zero when the exposure lies after the step.
        age_ms: f32,
        /// How far it may lie in the future, ms.
        future_max_ms: i64,
        /// How old it may be, ms.
        age_max_ms: i64,
    },
    /// A camera delivered the frame before once more. The step is answered all the same.
    #[error("camera {camera_id}: frame {frame_id} was delivered again")]
    CameraRepeated {
        /// Which camera.
        camera_id: u32,
        /// The frame.
        frame_id: u64,
    },
    /// Two cameras lie too far apart in time. The step is answered all the same.
    #[error("cameras {oldest} and {newest} were exposed {apart_ms:.1} ms apart, {apart_max_ms} ms are allowed")]
    CameraSkew {
        /// The camera with the oldest image.
        oldest: u32,
        /// The camera with the newest image.
        newest: u32,
        /// Time between the two exposures, ms.
        apart_ms: f32,
        /// Time that is allowed, ms.
        apart_max_ms: i64,
    },
    /// A value of the ego state is not finite or not plausible.
    #[error("the ego state's {field} is {found}, {max} either way is plausible")]
    EgoInvalid {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f32,
        /// The largest value that a road vehicle can have.
        max: f32,
    },
    /// The ego state was measured too long ago, or in the future.
    #[error("the ego state is {age_ms:.1} ms old, -{future_max_ms} to {age_max_ms} ms are allowed")]
    EgoStale {
        /// Time from its measurement to the step, ms; below zero when it lies after the step.
        age_ms: f32,
        /// How far it may lie in the future, ms.
        future_max_ms: i64,
        /// How old it may be, ms.
        age_max_ms: i64,
    },
    /// The route is not finite.
    #[error("the route's {field} is {found}")]
    RouteInvalid {
        /// The field.
        field: &'static str,
        /// Its value.
        found: f32,
    },
    /// A signal that the model's contract requires was not supplied.
    #[error("signal '{name}', which the model needs, was not supplied")]
    SignalMissing {
        /// Its name in the contract.
        name: Arc<str>,
    },
    /// A signal is not finite.
    #[error("signal '{name}' is {found}")]
    SignalInvalid {
        /// Its name in the contract.
        name: Arc<str>,
        /// Its value.
        found: f32,
    },
    /// ONNX Runtime reported an error.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An output of the model, or the state for its next step, is not finite.
    #[error("the model's output is not finite")]
    NotFinite,
    /// The output is outside the envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeBreach),
    /// An action of a platform that is no road vehicle is outside its range.
    #[error("action {action} is {found}, {min} to {max} is its range")]
    ActionOutOfRange {
        /// Its place in the contract.
        action: usize,
        /// Its value.
        found: f32,
        /// The smallest legal value.
        min: f32,
        /// The largest legal value.
        max: f32,
    },
}

/// Bits, and the first thing that set one of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) faults: Faults,
    pub(crate) cause: Option<StepFault>,
}

impl Found {
    /// Sets the bits of `fault`. Its cause is kept if it is the first, or the first that forbids acting on the answer.
    pub(crate) fn note(&mut self, fault: Faults, cause: StepFault) {
        let forbids = |faults: Faults| faults.intersects(Faults::OF_INPUT | Faults::OF_MODEL);
        if self.cause.is_none() || (forbids(fault) && !forbids(self.faults)) {
            self.cause = Some(cause);
        }
        self.faults.insert(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_that_forbids_an_answer_is_kept() {
        let mut found = Found::default();
        found.note(Faults::CAMERA_REPEATED, StepFault::CameraRepeated { camera_id: 1, frame_id: 7 });
        assert_eq!(found.cause, Some(StepFault::CameraRepeated { camera_id: 1, frame_id: 7 }));
        found.note(Faults::CAMERA_MISSING, StepFault::CameraMissing { camera_id: 2 });
        found.note(Faults::CAMERA_MISSING, StepFault::CameraMissing { camera_id: 3 });
        assert_eq!(found.cause, Some(StepFault::CameraMissing { camera_id: 2 }));
        assert_eq!(found.faults, Faults::CAMERA_REPEATED | Faults::CAMERA_MISSING);
    }
}
