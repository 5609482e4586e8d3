//! Publishing: what people signed offline is checked as a vehicle would check it, and the two online roles follow by themselves.

use std::sync::Arc;

use switchback_signing::{
    keys::{Ed25519Signer, Sha256Digest, Signer, SignerError},
    metadata::{Document, MetadataError, Role, RootRole, Signed, Snapshot, TargetMeta, Targets, Timestamp, sign},
    time::UnixTime,
    trust::{
        Repository, TrustError,
        limits::{SNAPSHOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX},
        publish::{Publication, SnapshotEntry, check_delegated, check_root_step, check_targets, next_snapshot, next_timestamp},
    },
};

use super::{PollError, Server, online::Signing, polls::versioned, to_the_end};
use crate::{
    director::ages,
    image::{ImageFile, ImageRepository, TARGETS},
    keys::{ImageSigners, NotCertified},
    registry::{NewEvent, RegistryError, StoredMetadata, StoredRoot},
    rollout::Content,
    storage::{StorageError, TargetFile},
};

/// Longest metadata file that is accepted, bytes.
pub const METADATA_BYTES_MAX: usize = TARGETS_BYTES_MAX as usize;

/// Why metadata was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Not a file that is uploaded.
    #[error("{0:?} is not a metadata file that can be uploaded here")]
    NameMalformed(String),
    /// The name says another version than the file.
    #[error("the file is {role} version {found}, its name says version {named}")]
    NameDiffers {
        /// The role.
        role: String,
        /// Version in the file.
        found: u64,
        /// Version in the name.
        named: u64,
    },
    /// A vehicle would refuse it.
    #[error(transparent)]
    NotTrusted(#[from] TrustError),
    /// It cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The root names other keys for a role that this server signs.
    #[error(transparent)]
    KeysNotCertified(NotCertified),
    /// There is nothing to check it against.
    #[error("{0} must be published first")]
    RootMissing(&'static str),
    /// Bytes that the metadata lists are not there.
    #[error("the bytes of target {path} (sha256 {sha256}, {length} bytes) have not been uploaded")]
    TargetMissing {
        /// The target.
        path: String,
        /// Its hash.
        sha256: String,
        /// Its length.
        length: u64,
    },
    /// Vehicles could not open it.
    #[error("release {path} is encrypted, and the server has no content key for its bundle (sha256 {sha256})")]
    ContentKeyMissing {
        /// The release.
        path: String,
        /// Its bundle.
        sha256: Sha256Digest,
    },
    /// The target could never be downloaded.
    #[error("target {path} cannot be served: {reason}")]
    TargetUnusable {
        /// The target.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// Other bytes under a name that people decided about.
    #[error(
        "{path}: release {release} has the chunk index {listed} here, and is known with {known}; its content was approved or rolled out \
         and cannot change"
    )]
    OtherContent {
        /// The release.
        release: String,
        /// The target in the new file.
        path: String,
        /// SHA-256 of its chunk index.
        listed: String,
        /// SHA-256 of the chunk index that is known.
        known: String,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An online key could not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// What to do with a root under which this server can sign nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncertified {
    /// Refuse it: most likely nobody meant to stop all updates.
    #[default]
    Refuse,
    /// Publish it. What it revokes must be revoked although the server with the new keys is not there yet, or it is a link of the chain
    /// to a newer root.
    Accept,
}

/// What an upload led to.
#[derive(Clone, Debug)]
pub struct Published {
    /// The role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Version of the Snapshot that lists it.
    pub snapshot_version: Option<u64>,
    /// Version of the Timestamp of that Snapshot.
    pub timestamp_version: Option<u64>,
    /// What is legal but probably not meant.
    pub warnings: Vec<String>,
}

impl Server {
    /// One file of the Image repository by the name under which it is served.
    pub async fn image_metadata(&self, file: &str) -> Result<Option<ImageFile>, RegistryError> {
        let image = self.image.load();
        if file == "timestamp.json" {
            return Ok(image.newest(RootRole::Timestamp.name()).cloned());
        }
        let Some((role, version)) = versioned(file).filter(|(role, _)| *role != RootRole::Timestamp.name()) else {
            return Ok(None);
        };
        if let Some(newest) = image.newest(role).filter(|newest| newest.version == version) {
            return Ok(Some(newest.clone()));
        }
        let stored = self.registry.image_metadata(role, version).await?;
        Ok(stored.map(|bytes| ImageFile { role: role.to_owned(), version, bytes: bytes.into() }))
    }

    /// Checks metadata of the Image repository, publishes it, and makes the Snapshot and Timestamp that go with it.
    pub async fn publish_image_metadata(
        self: &Arc<Self>,
        file: &str,
        bytes: Vec<u8>,
        uncertified: Uncertified,
    ) -> Result<Published, PublishError> {
        let (server, file) = (Arc::clone(self), file.to_owned());
        to_the_end(async move { server.publish_image(&file, bytes, uncertified).await }).await
    }

    async fn publish_image(&self, file: &str, bytes: Vec<u8>, uncertified: Uncertified) -> Result<Published, PublishError> {
        let malformed = || PublishError::NameMalformed(file.to_owned());
        let (role, named) = versioned(file).ok_or_else(malformed)?;
        let _control = self.control.lock().await;
        let (image, now) = (self.image.load_full(), self.now());
        // The same file once more: the answer to the first upload was lost.
        if image.newest(role).is_some_and(|newest| newest.version == named && *newest.bytes == *bytes) {
            return published(&image, role, now);
        }
        let signing = match role {
            "root" => {
                let trusted = image.newest("root").map(|file| &*file.bytes);
                let root = check_root_step(Repository::Image, trusted, &bytes, now)?;
                same_version(role, root.version, named)?;
                self.signing.load().under(Repository::Image, root)
            }
            "snapshot" | "timestamp" => return Err(malformed()),
            _ => {
                let targets = check_listing(&image, role, &bytes, now)?;
                same_version(role, targets.version, named)?;
                self.check_bytes(&targets).await?;
                Signing::clone(&self.signing.load())
            }
        };
        let signers = signing.image_signers();
        let mut files = vec![StoredMetadata { role: role.to_owned(), version: named, bytes }];
        let staged = image.with(&files).map_err(|(_, error)| error)?;
        self.check_contents(&image, &staged).await?;
        let mut warning = None;
        match (signers, role) {
            // Before the first listing there is nothing to sign.
            (Ok(_), "root") if image.newest(RootRole::Snapshot.name()).is_none() => {}
            // Also after a root: what the keys of the one before have signed may be worth nothing from now on.
            (Ok(signers), _) => files.extend(self.online_roles(&staged, Some(role), signers, now)?),
            (Err(error), "root") if uncertified == Uncertified::Accept => warning = Some(cannot_sign(&error)),
            (Err(error), _) => return Err(error),
        }
        self.store_image(&image, files, Some(format!("published {role} version {named}")), now).await?;
        self.signing.store(Arc::new(signing.settled()));
        tracing::info!(role, version = named, "image metadata published");
        let mut published = published(&self.image.load(), role, now)?;
        published.warnings.extend(warning);
        Ok(published)
    }

    /// Checks the Director's next root and publishes it.
    pub async fn publish_director_root(
        self: &Arc<Self>,
        file: &str,
        bytes: Vec<u8>,
        uncertified: Uncertified,
    ) -> Result<Published, PublishError> {
        let (server, file) = (Arc::clone(self), file.to_owned());
        to_the_end(async move { server.publish_director(&file, bytes, uncertified).await }).await
    }

    async fn publish_director(&self, file: &str, bytes: Vec<u8>, uncertified: Uncertified) -> Result<Published, PublishError> {
        let malformed = || PublishError::NameMalformed(file.to_owned());
        let (_, named) = versioned(file).filter(|(role, _)| *role == "root").ok_or_else(malformed)?;
        let _control = self.control.lock().await;
        let (roots, now) = (self.director_roots.load_full(), self.now());
        let mut result =
            Published { role: "root".to_owned(), version: named, snapshot_version: None, timestamp_version: None, warnings: Vec::new() };
        if roots.iter().any(|root| root.version == named && root.bytes == bytes) {
            return Ok(result);
        }
        let trusted = roots.last().map(|root| root.bytes.as_slice());
        let root = check_root_step(Repository::Director, trusted, &bytes, now)?;
        same_version("root", root.version, named)?;
        let signing = self.signing.load().under(Repository::Director, root.clone());
        match (signing.director_signers(), uncertified) {
            (Err(PollError::NotCertified(error)), Uncertified::Refuse) => return Err(PublishError::KeysNotCertified(error)),
            (Err(error), _) => result.warnings.push(cannot_sign(&error)),
            (Ok(_), _) => {}
        }
        let new = StoredRoot { version: root.version, bytes };
        let mut change = self.registry.change().await?;
        change.add_director_root(&new, now).await?;
        change.add_event(&metadata_event(format!("published Director root version {named}")), now).await?;
        change.commit().await?;
        let mut roots = Vec::clone(&roots);
        roots.push(new);
        // From here on what the old keys signed for a vehicle is signed anew when it asks.
        self.signing.store(Arc::new(signing.settled()));
        self.director_roots.store(Arc::new(roots));
        tracing::info!(version = named, "Director root published");
        Ok(result)
    }

    /// Signs Snapshot and Timestamp of the Image repository anew when less than half of their life remains, or when other keys signed
    /// them than those of now: the server may have got its keys after the root that names them.
    pub async fn refresh_image_metadata(&self) -> Result<(), PublishError> {
        let _control = self.control.lock().await;
        let (image, now) = (self.image.load_full(), self.now());
        let Some(snapshot) = newest_of::<Snapshot>(&image, RootRole::Snapshot, SNAPSHOT_BYTES_MAX)? else { return Ok(()) };
        let Some(timestamp) = newest_of::<Timestamp>(&image, RootRole::Timestamp, TIMESTAMP_BYTES_MAX)? else { return Ok(()) };
        let (lifetimes, signing) = (self.config.lifetimes, self.signing.load_full());
        // That the server cannot sign was told when it came to be so.
        let Ok(signers) = signing.image_signers() else { return Ok(()) };
        let by_other_keys = !is_signed_by(&snapshot, &signers.snapshot) || !is_signed_by(&timestamp, &signers.timestamp);
        let (snapshot, timestamp) = (snapshot.signed, timestamp.signed);
        let files = if by_other_keys || ages(snapshot.expires.seconds(), lifetimes.targets_s, now) {
            self.online_roles(&image, None, signers, now)?
        } else if ages(timestamp.expires.seconds(), lifetimes.timestamp_s, now) {
            let bytes = image.newest(RootRole::Snapshot.name()).map(|file| Arc::clone(&file.bytes)).unwrap_or_default();
            vec![self.next_timestamp(Some(&timestamp), &snapshot, &bytes, &signers.timestamp, now)?]
        } else {
            return Ok(());
        };
        self.store_image(&image, files, None, now).await
    }

    /// Version and expiry of the newest Snapshot or Timestamp.
    pub(super) fn image_expiry(&self, role: RootRole) -> Option<(u64, UnixTime)> {
        let image = self.image.load();
        let version_and_expiry = match role {
            RootRole::Snapshot => {
                let snapshot = newest_of::<Snapshot>(&image, role, SNAPSHOT_BYTES_MAX).ok()??.signed;
                (snapshot.version, snapshot.expires)
            }
            RootRole::Timestamp => {
                let timestamp = newest_of::<Timestamp>(&image, role, TIMESTAMP_BYTES_MAX).ok()??.signed;
                (timestamp.version, timestamp.expires)
            }
            RootRole::Root | RootRole::Targets => return None,
        };
        Some(version_and_expiry)
    }

    /// Every target that is listed, and every bundle behind an index, must be there before a vehicle can hear of it.
    async fn check_bytes(&self, targets: &Targets) -> Result<(), PublishError> {
        for (path, target) in &targets.targets {
            self.check_target(path, target).await?;
            if target.is_release() {
                let bundle = target.release()?.bundle;
                self.check_target(&bundle.path, &TargetMeta::of_digest(bundle.length, bundle.sha256)).await?;
                if bundle.encryption.is_some() && !self.has_content_key(&bundle.sha256) {
                    return Err(PublishError::ContentKeyMissing { path: path.clone(), sha256: bundle.sha256 });
                }
            }
        }
        Ok(())
    }

    /// What was approved or rolled out keeps its bytes: an approval of "2.0.0" must not come to mean another 2.0.0.
    async fn check_contents(&self, image: &ImageRepository, staged: &ImageRepository) -> Result<(), PublishError> {
        let rules = self.rules.load();
        for release in staged.releases() {
            let name = &release.name;
            let mut known: Vec<Content> = staged.contents(name).collect();
            known.extend(self.registry.approvals_ever(name).await?.into_iter().flat_map(|approval| approval.contents));
            if rules.rollouts.iter().any(|rollout| rollout.release == *name) {
                known.extend(image.contents(name));
            }
            let listed = release.content();
            if let Some(known) = known.into_iter().find(|known| known.contradicts(&listed)) {
                let Content { path, sha256: listed, .. } = listed;
                return Err(PublishError::OtherContent { release: name.to_string(), path, listed, known: known.sha256 });
            }
        }
        Ok(())
    }

    async fn check_target(&self, path: &str, target: &TargetMeta) -> Result<(), PublishError> {
        let unusable = |reason| PublishError::TargetUnusable { path: path.to_owned(), reason };
        let sha256 = target.hashes.sha256.ok_or_else(|| unusable("it has no SHA-256"))?;
        let file = TargetFile::of(path, sha256).ok_or_else(|| unusable("its path is not FOLDER/NAME of A-Z a-z 0-9 . _ -"))?;
        match self.storage.length(&file).await? {
            Some(length) if length == target.length => Ok(()),
            Some(_) => Err(unusable("its length is not that of the bytes with its hash")),
            None => {
                let (path, length) = (path.to_owned(), target.length);
                Err(PublishError::TargetMissing { path, sha256: sha256.to_hex(), length })
            }
        }
    }

    /// The next Snapshot and Timestamp, with the newest file of `changed`, or of all listings when there is no Snapshot yet.
    fn online_roles(
        &self,
        image: &ImageRepository,
        changed: Option<&str>,
        signers: &ImageSigners,
        now: UnixTime,
    ) -> Result<Vec<StoredMetadata>, PublishError> {
        let previous = newest_of::<Snapshot>(image, RootRole::Snapshot, SNAPSHOT_BYTES_MAX)?.map(|file| file.signed);
        let timestamp = newest_of::<Timestamp>(image, RootRole::Timestamp, TIMESTAMP_BYTES_MAX)?.map(|file| file.signed);
        let entries: Vec<SnapshotEntry<'_>> = image
            .listings()
            .filter(|file| previous.is_none() || changed == Some(file.role.as_str()))
            .map(|file| SnapshotEntry { role: &file.role, version: file.version, bytes: &file.bytes })
            .collect();
        let expires = now.plus_seconds(self.config.lifetimes.targets_s);
        let snapshot = next_snapshot(Repository::Image, previous.as_ref(), &entries, expires)?;
        let file = signed(&snapshot, RootRole::Snapshot, &signers.snapshot)?;
        let timestamp = self.next_timestamp(timestamp.as_ref(), &snapshot, &file.bytes, &signers.timestamp, now)?;
        Ok(vec![file, timestamp])
    }

    fn next_timestamp(
        &self,
        previous: Option<&Timestamp>,
        snapshot: &Snapshot,
        snapshot_bytes: &[u8],
        signer: &Ed25519Signer,
        now: UnixTime,
    ) -> Result<StoredMetadata, PublishError> {
        let expires = now.plus_seconds(self.config.lifetimes.timestamp_s);
        let timestamp = next_timestamp(previous, snapshot, snapshot_bytes, expires);
        signed(&timestamp, RootRole::Timestamp, signer)
    }

    /// Makes files durable, then visible: to downloads and to the rules at once.
    async fn store_image(
        &self,
        image: &ImageRepository,
        files: Vec<StoredMetadata>,
        event: Option<String>,
        now: UnixTime,
    ) -> Result<(), PublishError> {
        let next = image.with(&files).map_err(|(_, error)| error)?;
        let mut change = self.registry.change().await?;
        for file in &files {
            change.add_image_metadata(file, now).await?;
        }
        if let Some(text) = event {
            change.add_event(&metadata_event(text), now).await?;
        }
        change.commit().await?;
        let releases = next.releases().to_vec();
        self.image.store(Arc::new(next));
        self.change_rules(|rules| rules.releases = releases);
        Ok(())
    }
}

/// Checks `targets` or a delegated role.
fn check_listing(image: &ImageRepository, role: &str, bytes: &[u8], now: UnixTime) -> Result<Targets, PublishError> {
    let root = image.newest("root").ok_or(PublishError::RootMissing("the root metadata"))?;
    let previous = image.newest(role).map(|file| &*file.bytes);
    let to = Publication { repository: Repository::Image, root: &root.bytes, previous, now };
    if role == TARGETS {
        return Ok(check_targets(bytes, &to)?);
    }
    let delegator = image.targets().map_err(|(_, error)| error)?;
    let delegator = delegator.ok_or(PublishError::RootMissing("the top-level targets metadata"))?;
    Ok(check_delegated(role, &delegator, bytes, &to)?)
}

fn same_version(role: &str, found: u64, named: u64) -> Result<(), PublishError> {
    if found == named {
        return Ok(());
    }
    Err(PublishError::NameDiffers { role: role.to_owned(), found, named })
}

fn signed<T: Role + Document>(role: &T, kind: RootRole, key: &Ed25519Signer) -> Result<StoredMetadata, PublishError> {
    Ok(StoredMetadata { role: kind.name().to_owned(), version: role.version(), bytes: sign(role, &[key])? })
}

pub(super) fn newest_of<T: Document>(image: &ImageRepository, role: RootRole, bytes_max: u64) -> Result<Option<Signed<T>>, MetadataError> {
    let Some(file) = image.newest(role.name()) else { return Ok(None) };
    Ok(Some(Signed::<T>::parse(&file.bytes, bytes_max as usize)?))
}

fn is_signed_by<T: Document>(file: &Signed<T>, key: &Ed25519Signer) -> bool {
    let key = key.public_key();
    file.verify(&key.key_id(), &key).is_ok()
}

fn cannot_sign(error: &impl std::fmt::Display) -> String {
    format!("vehicles take this root and then get nothing new until the server has the keys that it names: {error}")
}

fn published(image: &ImageRepository, role: &str, now: UnixTime) -> Result<Published, PublishError> {
    let version = |role: RootRole| image.newest(role.name()).map(|file| file.version);
    let broken = image.broken_delegations(now).map_err(|(_, error)| error)?;
    let mut warnings: Vec<String> =
        broken.into_iter().map(|(role, reason)| format!("vehicles will find nothing in {role}: {reason}")).collect();
    warnings.extend(targets_warning(image, now));
    Ok(Published {
        role: role.to_owned(),
        version: image.newest(role).map_or(0, |file| file.version),
        snapshot_version: version(RootRole::Snapshot),
        timestamp_version: version(RootRole::Timestamp),
        warnings,
    })
}

/// A new root may have replaced the keys of `targets`.
fn targets_warning(image: &ImageRepository, now: UnixTime) -> Option<String> {
    let (root, targets) = (image.newest("root")?, image.newest(TARGETS)?);
    let to = Publication { repository: Repository::Image, root: &root.bytes, previous: None, now };
    let error = check_targets(&targets.bytes, &to).err()?;
    Some(format!("vehicles will refuse the published targets metadata: {error}"))
}

fn metadata_event(text: String) -> NewEvent {
    NewEvent { kind: "metadata_published", rollout: None, vehicle_id: None, text }
}
