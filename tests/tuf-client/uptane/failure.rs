//! What is said when something was refused or did not work.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use switchback_sdk::fetch::FetchError;
use switchback_signing::{
    metadata::MetadataError,
    trust::{Attack, TrustError},
};
use thiserror::Error;

/// Why nothing was installed. Numbers from 100 on are those of a vehicle's reasons; the ones below are this program's.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{} holds no root metadata of both repositories; run `tuf-client uptane init` first", base.display())]
    NotInitialized { base: PathBuf },
    #[error("{} holds another root already; to provision anew, begin with an empty folder", path.display())]
    ProvisionedOtherwise { path: PathBuf },
    #[error("{}: {problem:#}", path.display())]
    Disk { path: PathBuf, problem: anyhow::Error },
    #[error("{}: {problem}", path.display())]
    Map { path: PathBuf, problem: MetadataError },
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Network(#[from] FetchError),
}

impl Failure {
    fn number(&self) -> u32 {
        match self {
            Self::Usage(_) => 1,
            Self::NotInitialized { .. } => 2,
            Self::ProvisionedOtherwise { .. } => 3,
            Self::Disk { .. } => 4,
            Self::Map { .. } => 5,
            Self::Trust(error) => error.number(),
            Self::Network(error) => error.number(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::NotInitialized { .. } => "not_initialized",
            Self::ProvisionedOtherwise { .. } => "provisioned_otherwise",
            Self::Disk { .. } => "disk",
            Self::Map { .. } => "repository_map",
            Self::Trust(error) => error.name(),
            Self::Network(error) => error.name(),
        }
    }

    fn attack(&self) -> Option<Attack> {
        match self {
            Self::Trust(error) => error.attack(),
            // An image that is announced longer than the metadata lists.
            Self::Network(FetchError::WrongRange { length, found, .. }) => {
                let announced = found.strip_suffix(" bytes").and_then(|bytes| bytes.parse::<u64>().ok());
                announced.is_some_and(|announced| announced > *length).then_some(Attack::EndlessData)
            }
            Self::Network(error) => error.attack(),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let (text, attack) = (self.to_string(), self.attack().map(Attack::name));
        json!({"number": self.number(), "name": self.name(), "attack": attack, "text": text.trim_end()})
    }
}

/// What the file system says about a path.
pub(super) fn disk(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::Disk { path: path.clone(), problem: error.into() }
}
