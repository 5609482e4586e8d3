//! What the engine refuses, and why.

use std::path::PathBuf;

use switchback_onnx::{OpenError, RunError, RuntimeError};

use crate::drive::{ContractError, StepFault};

/// A call that the engine cannot follow. Numbers 4100-4119.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// ONNX Runtime is missing or unusable.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The loader thread could not be started.
    #[error("the loader thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The loader thread has ended.
    #[error("the loader thread has ended, so that no model is loaded any more; open the vehicle anew")]
    LoaderGone,
    /// There is a candidate already; it must be activated, or canceled, first.
    #[error("model generation {generation} is still {phase}; one candidate at a time")]
    Busy {
        /// Generation of the model that is on its way.
        generation: u64,
        /// What it is doing.
        phase: super::Phase,
    },
    /// The call needs a candidate or a trial in another phase.
    #[error("cannot {call} while the engine is {phase}")]
    WrongPhase {
        /// What was called.
        call: &'static str,
        /// The phase the engine is in.
        phase: super::Phase,
    },
}

impl EngineError {
    /// The stable number of this error, for C and for the fleet log.
    pub const fn number(&self) -> u16 {
        match self {
            Self::Runtime(error) => error.number(),
            Self::Thread(_) => 4101,
            Self::LoaderGone => 4102,
            Self::Busy { .. } => 4103,
            Self::WrongPhase { .. } => 4104,
        }
    }
}

/// Why a candidate was refused. Numbers 4120-4159, or those of the error within.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is not enough memory for it; found before anything was loaded.
    #[error("the model needs {needed_mib} MiB, {in_use_mib} of {budget_mib} MiB are in use")]
    Memory {
        /// What the contract states.
        needed_mib: u32,
        /// What the models in memory state.
        in_use_mib: u32,
        /// What the engine may use.
        budget_mib: u32,
    },
    /// The contract does not allow the ONNX Runtime of this vehicle.
    #[error("the model runs on ONNX Runtime {range}, the vehicle has {found}")]
    RuntimeVersion {
        /// The contract's range.
        range: String,
        /// The version of the library.
        found: String,
    },
    /// A path in the manifest leads out of the model's directory.
    #[error("path '{path}' in the manifest is not a plain relative path")]
    Path {
        /// The path.
        path: String,
    },
    /// The model could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The contract does not fit the model.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The model failed while it was warmed up.
    #[error("the model failed while it was warmed up")]
    WarmUp(#[source] RunError),
    /// The self-test failed.
    #[error("self-test: {0}")]
    SelfTest(#[from] SelfTestError),
    /// The shadow run failed.
    #[error("shadow: {0}")]
    Shadow(#[from] ShadowFailure),
    /// The vehicle took it back.
    #[error("canceled")]
    Canceled,
    /// Somebody has changed the model's files between their verification and their use.
    #[error("{} was changed after it was verified and before it was loaded: nobody but this program may write there", path.display())]
    Altered {
        /// The file or folder.
        path: PathBuf,
    },
}

impl Refusal {
    /// The stable number of this error, for C and for the fleet log.
    pub const fn number(&self) -> u16 {
        match self {
            Self::Memory { .. } => 4120,
            Self::RuntimeVersion { .. } => 4121,
            Self::Path { .. } => 4122,
            Self::Open(error) => error.number(),
            Self::Contract(error) => error.number(),
            Self::WarmUp(_) => 4123,
            Self::SelfTest(error) => error.number(),
            Self::Shadow(error) => error.number(),
            Self::Canceled => 4124,
            Self::Altered { .. } => 4125,
        }
    }
}

/// Why the self-test failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfTestError {
    /// A file of golden values cannot be read.
    #[error("{} could not be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of golden values is not safetensors, or is absurdly large.
    #[error("{} is not usable: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The manifest promises no case.
    #[error("the manifest has no self-test case")]
    NoCase,
    /// A golden tensor is missing.
    #[error("case {case} has no tensor '{tensor}'")]
    TensorMissing {
        /// The case.
        case: u32,
        /// The tensor.
        tensor: String,
    },
    /// A golden tensor is of another type or size than the model's.
    #[error("case {case}, tensor '{tensor}': golden {found}, the model has {expected}")]
    TensorDiffers {
        /// The case.
        case: u32,
        /// The tensor.
        tensor: String,
        /// Type and shape of the model.
        expected: String,
        /// Type and shape of the golden value.
        found: String,
    },
    /// The model failed.
    #[error("case {case} failed to run on this vehicle, although it ran where the release was made")]
    Run {
        /// The case.
        case: u32,
        /// What ONNX Runtime said.
        #[source]
        source: RunError,
    },
    /// The model answers something else than the release engineer's machine.
    #[error("case {case}, tensor '{tensor}', element {element}: {found} instead of {expected}, tolerance {tolerance}")]
    Differs {
        /// The case.
        case: u32,
        /// The tensor.
        tensor: String,
        /// Index of the element.
        element: usize,
        /// The golden value.
        expected: f32,
        /// The model's value.
        found: f32,
        /// Largest difference allowed.
        tolerance: f32,
    },
}

impl SelfTestError {
    /// The stable number of this error, for C and for the fleet log.
    pub const fn number(&self) -> u16 {
        match self {
            Self::Unreadable { .. } => 4130,
            Self::Malformed { .. } => 4131,
            Self::NoCase => 4132,
            Self::TensorMissing { .. } => 4133,
            Self::TensorDiffers { .. } => 4134,
            Self::Run { .. } => 4135,
            Self::Differs { .. } => 4136,
        }
    }
}

/// Why the candidate failed on live frames.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowFailure {
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An output was not finite.
    #[error("the output is not finite")]
    NotFinite,
    /// An output broke the envelope.
    #[error("the output is outside the envelope")]
    Envelope(#[source] Option<StepFault>),
    /// The vehicle does not supply what the model needs.
    #[error("an input is missing that the active model does not need")]
    Inputs(#[source] Option<StepFault>),
    /// Answers came too late.
    #[error("{late} of {frames} answers came after the deadline of {deadline_ms} ms")]
    Late {
        /// Answers that came too late.
        late: u32,
        /// Frames so far.
        frames: u32,
        /// The contract's deadline.
        deadline_ms: u32,
    },
    /// The model was not confident where the active one was.
    #[error("{low} of {frames} answers were below the minimum confidence")]
    LowConfidence {
        /// Answers without confidence.
        low: u32,
        /// Frames so far.
        frames: u32,
    },
    /// The plan was too far from the active one.
    #[error("{apart} of {frames} plans were too far from the active one, {lateral_m:.2} m beside it where {lateral_max_m} m are allowed")]
    Apart {
        /// Plans too far apart.
        apart: u32,
        /// Frames so far.
        frames: u32,
        /// The largest distance.
        lateral_m: f32,
        /// The contract's limit.
        lateral_max_m: f32,
    },
    /// Outputs broke the envelope while the vehicle was driven, mostly by a human, in a way that puts any answer outside it.
    #[error("{outside} of {frames} answers were outside the envelope as the vehicle was driven")]
    Outside {
        /// Answers outside the envelope.
        outside: u32,
        /// Frames so far.
        frames: u32,
    },
}

impl ShadowFailure {
    /// The stable number of this error, for C and for the fleet log.
    pub const fn number(&self) -> u16 {
        match self {
            Self::Run(_) => 4140,
            Self::NotFinite => 4141,
            Self::Envelope(_) => 4142,
            Self::Inputs(_) => 4143,
            Self::Late { .. } => 4144,
            Self::LowConfidence { .. } => 4145,
            Self::Apart { .. } => 4146,
            Self::Outside { .. } => 4147,
        }
    }
}

/// Why the vehicle returned to the previous model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum RollBackReason {
    /// The run failed.
    #[error("the model failed to run")]
    RunFailed = 1,
    /// An output was not finite.
    #[error("an output was not finite")]
    NotFinite = 2,
    /// An output broke the envelope.
    #[error("an output was outside the envelope")]
    Envelope = 3,
    /// Several answers in a row came too late.
    #[error("answers came after the deadline")]
    Deadline = 4,
    /// The vehicle does not supply what the new model needs, but what the previous one needs.
    #[error("inputs that the model needs are missing")]
    Inputs = 5,
    /// The vehicle asked for it.
    #[error("the vehicle asked for it")]
    Requested = 6,
}

impl RollBackReason {
    /// The stable number of this reason, for C and for the fleet log. 4150-4159.
    pub const fn number(self) -> u16 {
        4150 + self as u16
    }

    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::RunFailed,
            2 => Self::NotFinite,
            3 => Self::Envelope,
            4 => Self::Deadline,
            5 => Self::Inputs,
            _ => Self::Requested,
        }
    }
}
