//! Deltas: publishers bring them, and vehicles are told of the one from what they have.

use std::{collections::BTreeMap, sync::Arc};

use switchback_signing::{
    bundle::{
        BundleError, ChunkIndex,
        delta::{DELTA_INDEX_LENGTH_MAX, Delta, DeltaIndex},
        index::INDEX_LENGTH_MAX,
    },
    keys::Sha256Digest,
    metadata::DeltaRef,
};

use super::{Server, to_the_end};
use crate::{
    director::{Installed, Shortcut},
    registry::{NewEvent, RegistryError},
    rollout::Assignment,
    storage::{StorageError, TargetFile},
};

/// Deltas of one release. More than recent releases of a tier nobody has in the field.
const DELTAS_PER_RELEASE_MAX: usize = 64;

/// Why a delta was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// No index under this name.
    #[error("{0} was not uploaded")]
    Missing(String),
    /// The name is not one of a delta's index.
    #[error("{0} is not the name of a delta's index: it ends in .delta.index")]
    Name(String),
    /// It cannot be read, or does not fit the release that it names.
    #[error("{path} is refused")]
    Refused {
        /// Its path among the targets.
        path: String,
        /// Why.
        source: BundleError,
    },
    /// No published release has this chunk index.
    #[error("the delta restores the chunk index with sha256 {0}, which no published release has")]
    NoRelease(Sha256Digest),
    /// A release has as many as it may.
    #[error("the release has {DELTAS_PER_RELEASE_MAX} deltas already")]
    TooMany,
    /// The bytes cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Deltas in memory: by release and then by base, both by the SHA-256 of their chunk index.
#[derive(Clone, Debug, Default)]
pub struct Deltas(BTreeMap<Sha256Digest, BTreeMap<Sha256Digest, Arc<DeltaRef>>>);

impl Deltas {
    pub(super) fn of(stored: Vec<(Sha256Digest, DeltaRef)>) -> Self {
        let mut deltas = Self::default();
        for (release, delta) in stored {
            deltas.insert(release, delta);
        }
        deltas
    }

    fn insert(&mut self, release: Sha256Digest, delta: DeltaRef) {
        self.0.entry(release).or_default().insert(delta.base_sha256, Arc::new(delta));
    }

    /// The way from what a vehicle reported to what it is assigned.
    pub(super) fn shortcut(&self, installed: Option<&Installed>, assignment: Option<&Assignment>) -> Shortcut {
        let Some((installed, assignment)) = installed.zip(assignment) else { return Shortcut::None };
        if installed.sha256 == assignment.release.sha256 {
            return Shortcut::Arrived;
        }
        // Nearly always: no delta at all, and then nothing is parsed.
        let deltas = if self.0.is_empty() { None } else { assignment.release.target.hashes.sha256.and_then(|sha256| self.0.get(&sha256)) };
        let delta = deltas.and_then(|deltas| deltas.get(&Sha256Digest::parse(&installed.sha256)?));
        delta.map_or(Shortcut::None, |delta| Shortcut::Delta(Arc::clone(delta)))
    }
}

impl Server {
    /// Takes a delta whose index and data lie among the targets. The same once more changes nothing; another one from the same base takes
    /// its place.
    pub async fn add_delta(self: &Arc<Self>, folder: &str, file: &str) -> Result<(Sha256Digest, DeltaRef), DeltaError> {
        let (release, delta) = self.read_delta(folder, file).await?;
        let (server, stored) = (Arc::clone(self), delta.clone());
        to_the_end(async move { server.store_delta(release, stored).await }).await?;
        Ok((release, delta))
    }

    /// Vehicles are not told of the delta any more. Its bytes stay for those that were.
    pub async fn remove_delta(self: &Arc<Self>, release: Sha256Digest, base: Sha256Digest) -> Result<bool, DeltaError> {
        let server = Arc::clone(self);
        to_the_end(async move {
            let _control = server.control.lock().await;
            let mut change = server.registry.change().await?;
            if !change.remove_delta(&release, &base).await? {
                return Ok(false);
            }
            let text = format!("the delta from {base} to {release} was withdrawn");
            change.add_event(&NewEvent { kind: "delta_withdrawn", rollout: None, vehicle_id: None, text }, server.now()).await?;
            change.commit().await?;
            let mut deltas = Deltas::clone(&server.deltas.load());
            if let Some(of_release) = deltas.0.get_mut(&release) {
                of_release.remove(&base);
            }
            deltas.0.retain(|_, of_release| !of_release.is_empty());
            server.deltas.store(Arc::new(deltas));
            Ok(true)
        })
        .await
    }

    /// All deltas that vehicles may be told of, each with the release that it restores.
    #[must_use]
    pub fn deltas(&self) -> Vec<(Sha256Digest, Arc<DeltaRef>)> {
        let deltas = self.deltas.load();
        let all = deltas.0.iter().flat_map(|(release, deltas)| deltas.values().map(move |delta| (*release, Arc::clone(delta))));
        all.collect()
    }

    /// Reads what vehicles will read, and asks of it what they ask.
    async fn read_delta(&self, folder: &str, file: &str) -> Result<(Sha256Digest, DeltaRef), DeltaError> {
        let name = format!("{folder}/{file}");
        let index_file = TargetFile::parse(folder, file).ok_or_else(|| DeltaError::Name(name.clone()))?;
        let path = index_file.target_path();
        if !DeltaRef::is_index_path(&path) {
            return Err(DeltaError::Name(name));
        }
        let refused = |source| DeltaError::Refused { path: path.clone(), source };
        let bytes = self.stored(&index_file, DELTA_INDEX_LENGTH_MAX as u64).await?.ok_or(DeltaError::Missing(name))?;
        let index = DeltaIndex::parse(&bytes).map_err(refused)?;
        let full_sha256 = index.full_index_sha256();
        let rules = self.rules.load_full();
        let release = rules.releases.iter().find(|release| release.target.hashes.sha256 == Some(full_sha256));
        let release = release.ok_or(DeltaError::NoRelease(full_sha256))?;
        let full_file = TargetFile::of(&release.assigned.path, full_sha256).ok_or(DeltaError::NoRelease(full_sha256))?;
        let full = self.stored(&full_file, INDEX_LENGTH_MAX as u64).await?.ok_or(DeltaError::NoRelease(full_sha256))?;
        let full = ChunkIndex::parse(&full).map_err(refused)?;
        let delta = Delta::new(index, &full).map_err(refused)?;
        let reference = DeltaRef {
            base_sha256: delta.base().index_sha256,
            path: path.clone(),
            length: bytes.len() as u64,
            sha256: index_file.sha256(),
        };
        let data = TargetFile::of(reference.data_path(), delta.data_sha256()).ok_or_else(|| DeltaError::Name(path.clone()))?;
        match self.storage.length(&data).await? {
            Some(length) if length == delta.data_length() => Ok((full_sha256, reference)),
            _ => Err(DeltaError::Missing(data.path())),
        }
    }

    async fn stored(&self, file: &TargetFile, length_max: u64) -> Result<Option<Vec<u8>>, StorageError> {
        match self.storage.length(file).await? {
            Some(length) if length <= length_max => Ok(Some(self.storage.open(file, None).await?.bytes().await?.to_vec())),
            _ => Ok(None),
        }
    }

    async fn store_delta(&self, release: Sha256Digest, delta: DeltaRef) -> Result<(), DeltaError> {
        let _control = self.control.lock().await;
        let mut deltas = Deltas::clone(&self.deltas.load());
        if let Some(known) = deltas.0.get(&release) {
            if known.get(&delta.base_sha256).is_some_and(|known| **known == delta) {
                return Ok(());
            }
            if known.len() >= DELTAS_PER_RELEASE_MAX && !known.contains_key(&delta.base_sha256) {
                return Err(DeltaError::TooMany);
            }
        }
        let now = self.now();
        let mut change = self.registry.change().await?;
        change.save_delta(&release, &delta, now).await?;
        let text = format!("{} brings vehicles from {} to {release}", delta.path, delta.base_sha256);
        change.add_event(&NewEvent { kind: "delta_stored", rollout: None, vehicle_id: None, text }, now).await?;
        change.commit().await?;
        tracing::info!(delta.path = %delta.path, "delta stored");
        deltas.insert(release, delta);
        self.deltas.store(Arc::new(deltas));
        Ok(())
    }
}
