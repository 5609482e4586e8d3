//! What can go wrong, by whose fault it is: the library, the model, or one run.
//!
//! Every variant has a number that never changes and is never reused: 4001-4019 the runtime, 4020-4039
//! opening a model, 4040-4049 running it.

use std::path::PathBuf;

use crate::tensor::ElementType;

/// ONNX Runtime itself is missing or cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The loader could not open the file.
    #[error(
        "could not open ONNX Runtime at {}: {reason}; set ORT_DYLIB_PATH to libonnxruntime.so.1 of version 1.23 or later", path.display()
    )]
    NotOpened {
        /// The path that was tried.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The file is a shared library, but not ONNX Runtime.
    #[error("{} is not ONNX Runtime: it has no OrtGetApiBase", path.display())]
    NotOnnxRuntime {
        /// The path that was opened.
        path: PathBuf,
    },
    /// The library is older than the oldest that we support, or does not say which version it is.
    #[error(
        "ONNX Runtime at {} is version {found}, at least 1.{} is needed; set ORT_DYLIB_PATH to such a one", path.display(), crate::runtime::MINIMUM_MINOR
    )]
    TooOld {
        /// The path that was opened.
        path: PathBuf,
        /// The version it stated.
        found: String,
    },
    /// A process can use one ONNX Runtime only, and another one is already open.
    #[error("ONNX Runtime is already open from {}, {} cannot be opened beside it", open.display(), asked.display())]
    OtherAlreadyOpen {
        /// The library in use.
        open: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// The library was opened and refused to start.
    #[error("ONNX Runtime at {} did not start: {reason}", path.display())]
    NotStarted {
        /// The path that was opened.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
}

/// A model cannot be turned into a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("model {} does not exist", path.display())]
    ModelNotFound {
        /// The path given.
        path: PathBuf,
    },
    /// ONNX Runtime does not accept the model.
    #[error("ONNX Runtime refused model {}: {reason}", path.display())]
    Refused {
        /// The model.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// A dimension is not known before the run. Buffers are bound once, so every shape must be fixed.
    #[error(
        "tensor '{tensor}' has the dynamic dimension '{dimension}' at position {position}; only a batch dimension at position 0 may be dynamic, it is bound as 1"
    )]
    DynamicDimension {
        /// The tensor.
        tensor: String,
        /// The dimension's name, or `?` when it has none.
        dimension: String,
        /// Its position in the shape.
        position: usize,
    },
    /// The tensor has no elements, or more bytes than [`crate::TensorInfo::MAX_BYTES`].
    #[error("tensor '{tensor}' has the shape {shape:?}, which is empty or too large")]
    ShapeOutOfRange {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The tensor is of a type that cannot be bound to a fixed buffer, such as a string or a sequence.
    #[error("tensor '{tensor}' is of the unsupported type {found}")]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// Its type, as ONNX Runtime prints it.
        found: String,
    },
    /// A recurrent pair names a tensor that the model does not have, or names one twice.
    #[error("recurrent pair '{output}' -> '{input}': {reason}")]
    RecurrentPair {
        /// The input that receives the state.
        input: String,
        /// The output that produces it.
        output: String,
        /// What is wrong with the pair.
        reason: String,
    },
}

/// One run failed. The outputs and the recurrent state for the next run are those from before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ONNX Runtime could not run the model: {reason}")]
pub struct RunError {
    /// What ONNX Runtime said.
    pub reason: String,
}

/// A typed view was asked for that the tensor has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor '{tensor}' holds {found}, not {asked}")]
pub struct WrongElement {
    /// The tensor.
    pub tensor: String,
    /// The element type asked for.
    pub asked: ElementType,
    /// The element type it has.
    pub found: ElementType,
}

impl RuntimeError {
    /// The stable number of this error, for C and for the fleet log.
    #[must_use]
    pub const fn number(&self) -> u16 {
        match self {
            Self::NotOpened { .. } => 4001,
            Self::NotOnnxRuntime { .. } => 4002,
            Self::TooOld { .. } => 4003,
            Self::OtherAlreadyOpen { .. } => 4004,
            Self::NotStarted { .. } => 4005,
        }
    }
}

impl OpenError {
    /// The stable number of this error, for C and for the fleet log.
    #[must_use]
    pub const fn number(&self) -> u16 {
        match self {
            Self::ModelNotFound { .. } => 4020,
            Self::Refused { .. } => 4021,
            Self::DynamicDimension { .. } => 4022,
            Self::ShapeOutOfRange { .. } => 4023,
            Self::UnsupportedType { .. } => 4024,
            Self::RecurrentPair { .. } => 4025,
        }
    }
}

impl RunError {
    /// The stable number of this error, for C and for the fleet log.
    #[must_use]
    pub const fn number(&self) -> u16 {
        4040
    }
}

impl WrongElement {
    /// The stable number of this error, for C and for the fleet log.
    #[must_use]
    pub const fn number(&self) -> u16 {
        4041
    }
}
