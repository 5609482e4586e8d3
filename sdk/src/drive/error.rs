//! Why a contract cannot be used with a model.

use switchback_signing::bundle::contract::ElementType;

/// The contract and the model's tensors do not fit, or the contract contradicts itself. Numbers 4200-4219.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The contract names a tensor that the model does not have.
    #[error("the contract's {role} '{tensor}' is not in the model, which has: {found}")]
    TensorMissing {
        /// Where in the contract: `input`, `output`, `recurrent input` or `recurrent output`.
        role: &'static str,
        /// The tensor that the contract names.
        tensor: String,
        /// The names that the model has.
        found: String,
    },
    /// The model has an input that the contract does not fill.
    #[error("the model's input '{tensor}' is not in the contract")]
    InputUnlisted {
        /// The tensor.
        tensor: String,
    },
    /// The contract names a tensor or a meaning more than once.
    #[error("the contract names {what} more than once")]
    Repeated {
        /// What is repeated.
        what: String,
    },
    /// Element type or shape differ between the contract and the model.
    #[error("tensor '{tensor}' is {expected} in the contract and {found} in the model")]
    TensorDiffers {
        /// The tensor.
        tensor: String,
        /// Type and shape in the contract.
        expected: String,
        /// Type and shape in the model.
        found: String,
    },
    /// The shape does not fit what the contract puts into the tensor.
    #[error("tensor '{tensor}' must have the shape {expected} for its {meaning}, it has {found:?}")]
    ShapeUnfit {
        /// The tensor.
        tensor: String,
        /// What the tensor is for.
        meaning: &'static str,
        /// The shape that would fit, in words.
        expected: String,
        /// The shape in the contract.
        found: Vec<u32>,
    },
    /// The element type cannot hold what the contract puts into the tensor.
    #[error("tensor '{tensor}' cannot hold its {meaning} as {found:?}")]
    TypeUnfit {
        /// The tensor.
        tensor: String,
        /// What the tensor is for.
        meaning: &'static str,
        /// Its element type.
        found: ElementType,
    },
    /// A number in the contract makes no sense.
    #[error("{what} of tensor '{tensor}' is {found}, {expected}")]
    ValueUnfit {
        /// The tensor.
        tensor: String,
        /// Which number.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A road vehicle needs this part of the contract.
    #[error("the contract of a road vehicle has no {part}")]
    PartMissing {
        /// Which part.
        part: &'static str,
    },
    /// The contract is of a version that this release does not know.
    #[error("the contract is of version {found}, this release knows version {known}")]
    VersionUnknown {
        /// Version of the contract.
        found: u32,
        /// Version known here.
        known: u32,
    },
}

impl ContractError {
    /// The stable number of this error, for C and for the fleet log.
    pub const fn number(&self) -> u16 {
        match self {
            Self::TensorMissing { .. } => 4200,
            Self::InputUnlisted { .. } => 4201,
            Self::Repeated { .. } => 4202,
            Self::TensorDiffers { .. } => 4203,
            Self::ShapeUnfit { .. } => 4204,
            Self::TypeUnfit { .. } => 4205,
            Self::ValueUnfit { .. } => 4206,
            Self::PartMissing { .. } => 4207,
            Self::VersionUnknown { .. } => 4208,
        }
    }
}
