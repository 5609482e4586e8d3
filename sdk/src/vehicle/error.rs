//! Why a vehicle cannot be opened.

use std::io;

use switchback_signing::keys::{SignerError, file::KeyFileError};
use thiserror::Error;

use crate::{engine::EngineError, fetch::FetchError, store::StoreError};

/// Why a vehicle cannot be opened. Numbers are stable: 600 to 699 belong to the vehicle itself, the others to the part that failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VehicleError {
    /// A field of the configuration cannot be used.
    #[error("{field}: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The vehicle's own key in the store cannot be read.
    #[error("the vehicle's key in the store cannot be used; restore keys/vehicle.json, or remove it and enroll the vehicle anew")]
    Key(#[source] KeyFileError),
    /// The vehicle's key does not sign its report. Told as an event: a vehicle drives without reports too.
    #[error("the vehicle's key does not sign the report; check the token or service that holds it")]
    Signer(#[source] SignerError),
    /// The system gives no random numbers, without which no key can be made.
    #[error("the system gives no random numbers: {reason}")]
    Random {
        /// What the system says.
        reason: String,
    },
    /// The update thread cannot be started.
    #[error("the update thread cannot be started; is there memory, and may the program have one more thread?")]
    Thread(#[source] io::Error),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address of the server, or TLS.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// ONNX Runtime or the engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl VehicleError {
    /// Stable number for the C interface and the fleet log; never reused.
    pub fn number(&self) -> u32 {
        match self {
            Self::Config { .. } => 600,
            Self::Key(_) => 601,
            Self::Signer(_) => 602,
            Self::Random { .. } => 603,
            Self::Thread(_) => 604,
            Self::Store(error) => error.number(),
            Self::Fetch(error) => error.number(),
            Self::Engine(error) => error.number().into(),
        }
    }
}
