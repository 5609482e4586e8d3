use std::sync::Arc;

use switchback_signing::metadata::Nonce;
use tokio::sync::oneshot;

use super::{Server, WriterWork};
use crate::{
    content_keys::ContentKeysError,
    director::{self, Terms},
    fleet::FleetVehicle,
    keys::NotCertified,
    metadata_cache::CacheKey,
    registry::RegistryError,
    rollout::assignment,
};

/// A file of the Director repository as one vehicle sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectorFile {
    /// `N.root.json`, the same for all.
    Root(u64),
    /// `timestamp.json`.
    Timestamp,
    /// `N.snapshot.json`.
    Snapshot(u64),
    /// `N.targets.json`.
    Targets(u64),
}

impl DirectorFile {
    /// From the last part of a request's path.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "timestamp.json" {
            return Some(Self::Timestamp);
        }
        match versioned(name)? {
            ("root", version) => Some(Self::Root(version)),
            ("snapshot", version) => Some(Self::Snapshot(version)),
            ("targets", version) => Some(Self::Targets(version)),
            _ => None,
        }
    }
}

/// Role and version of `N.ROLE.json`. Only the one spelling that we link to: no sign, no leading zero.
pub(super) fn versioned(name: &str) -> Option<(&str, u64)> {
    let (digits, role) = name.strip_suffix(".json")?.split_once('.')?;
    let version: u64 = digits.parse().ok()?;
    (version > 0 && version.to_string() == digits).then_some((role, version))
}

/// Why a vehicle got no metadata.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// No root certifies the Director's online keys yet.
    #[error("the Director has no root metadata yet")]
    NoRoot,
    /// The newest root names other online keys.
    #[error(transparent)]
    NotCertified(NotCertified),
    /// The vehicle makes the Director sign more often than any vehicle needs.
    #[error("the vehicle asks with nonces more often than every five minutes for too long; wait {wait_s} s")]
    TooManyQuestions {
        /// How long it waits, seconds.
        wait_s: u64,
    },
    /// There is no such version.
    #[error("there is no such version")]
    NotFound,
    /// The new metadata could not be made durable, so that it must not be seen.
    #[error("new metadata could not be stored")]
    NotDurable,
    /// What is assigned is encrypted, and its content key is not there or not sealed.
    #[error(transparent)]
    ContentKey(#[from] ContentKeysError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Server {
    /// Version of the Timestamp that `vehicle` gets now. When nothing changed and it does not ask with a nonce, this is a look at memory; else
    /// new metadata is signed and made durable first.
    pub async fn timestamp_version(&self, vehicle: &Arc<FleetVehicle>, nonce: Option<Nonce>) -> Result<u64, PollError> {
        let now = self.now();
        self.fleet.note_seen(vehicle, now);
        let signing = self.signing.load();
        let signers = signing.director_signers()?.signers();
        let state = vehicle.state.load();
        let rules = self.rules.load();
        let assignment = assignment(&state.vehicle, &rules, now);
        if nonce.is_some() {
            vehicle.take_question(now).map_err(|wait_s| PollError::TooManyQuestions { wait_s })?;
        }
        let terms = Terms { lifetimes: self.config.lifetimes, signers: &signers, now, nonce };
        let shortcut = self.deltas.load().shortcut(state.installed.as_ref(), assignment.as_ref());
        let due = director::Due { assignment: assignment.as_ref(), shortcut: &shortcut };
        let work = director::work(state.held.as_ref(), due, &terms);
        match (work, &state.held) {
            (director::Work::Keep, Some(held)) => Ok(held.timestamp_version),
            (director::Work::Keep | director::Work::Attribute | director::Work::Timestamp | director::Work::All, _) => {
                self.renew(vehicle, nonce).await
            }
        }
    }

    /// The bytes of one version of one role that the Director signed for `vehicle`.
    pub async fn director_metadata(&self, vehicle: &FleetVehicle, role: &'static str, version: u64) -> Result<Arc<[u8]>, PollError> {
        let key = CacheKey { vehicle_id: Arc::clone(&vehicle.state.load().vehicle.id), role, version };
        if let Some(bytes) = self.director_cache.find(&key) {
            return Ok(bytes);
        }
        let stored = self.registry.director_metadata(&key.vehicle_id, role, version).await?;
        let bytes: Arc<[u8]> = stored.ok_or(PollError::NotFound)?.into();
        self.director_cache.insert(key, Arc::clone(&bytes));
        Ok(bytes)
    }

    /// The bytes of one version of the Director's root.
    pub fn director_root(&self, version: u64) -> Result<Vec<u8>, PollError> {
        let roots = self.director_roots.load();
        let root = roots.iter().find(|root| root.version == version);
        Ok(root.ok_or(PollError::NotFound)?.bytes.clone())
    }

    async fn renew(&self, vehicle: &Arc<FleetVehicle>, nonce: Option<Nonce>) -> Result<u64, PollError> {
        let (reply, answer) = oneshot::channel();
        let work = WriterWork::Renew { vehicle: Arc::clone(vehicle), nonce, reply };
        self.writer.send(work).await.map_err(|_| PollError::NotDurable)?;
        let held = answer.await.map_err(|_| PollError::NotDurable)??;
        Ok(held.timestamp_version)
    }
}
