//! What leaves the server in a file.

use std::sync::Arc;

use switchback_signing::{
    keys::SignerError,
    metadata::{NameError, RootRole, Snapshot, TargetMeta, Timestamp},
    time::UnixTime,
    trust::limits::{SNAPSHOT_BYTES_MAX, TIMESTAMP_BYTES_MAX},
};

use super::{PollError, PublishError, Server, publication::newest_of};
use crate::{
    image::ImageRepository,
    keys::ImageSigners,
    offline::{self, DAYS_MAX, Files, Recipients},
    registry::{NewEvent, RegistryError},
    rollout::{Release, ReleaseName, Withheld, allowed},
    storage::TargetFile,
};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct OfflineOrder {
    /// The release.
    pub release: ReleaseName,
    /// Whom it is for.
    pub recipients: OfflineFor,
    /// How long it may be installed, days.
    pub days: u32,
}

/// Whom an operator wants to send an offline update to.
#[derive(Clone, Debug)]
pub enum OfflineFor {
    /// One vehicle, by its id.
    Vehicle(String),
    /// Every vehicle of a tier in a region.
    Tier {
        /// The tier.
        tier: String,
        /// The region.
        region: String,
    },
}

/// Everything that an offline update consists of but the bytes of its targets.
#[derive(Clone, Debug)]
pub struct OfflineUpdate {
    /// Metadata by its path in the file.
    pub files: Files,
    /// Targets by their path in the Image repository, `FOLDER/HASH.NAME`, with their lengths.
    pub targets: Vec<(String, u64)>,
    /// When the last vehicle can install it.
    pub expires: UnixTime,
    /// The role that ends its life earlier than was asked for, if one does.
    pub limited_by: Option<Arc<str>>,
}

/// Why no offline update is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// There is no such vehicle.
    #[error("there is no vehicle {0}")]
    UnknownVehicle(String),
    /// No tier or region.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It would live too long, or not at all.
    #[error("an offline update lives 1 to {DAYS_MAX} days, not {0}")]
    Days(u32),
    /// The rules allow it to nobody, or not to all of them.
    #[error("{release}: {reason}")]
    Withheld {
        /// The release.
        release: ReleaseName,
        /// Why.
        reason: Withheld,
    },
    /// The Image repository is not complete.
    #[error(transparent)]
    Image(#[from] PublishError),
    /// The newest Director root names no key of this server.
    #[error(transparent)]
    Director(#[from] PollError),
    /// A key that did not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Server {
    /// Makes the metadata of an offline update and writes down for whom. The same conditions hold as for a rollout: an approval in the
    /// region, of these very bytes.
    pub async fn offline_update(&self, order: &OfflineOrder) -> Result<OfflineUpdate, OfflineError> {
        if !(1..=DAYS_MAX).contains(&order.days) {
            return Err(OfflineError::Days(order.days));
        }
        let (now, rules, image) = (self.now(), self.rules.load_full(), self.image.load_full());
        let withheld = |reason| OfflineError::Withheld { release: order.release.clone(), reason };
        let (recipients, releases) = match &order.recipients {
            OfflineFor::Vehicle(id) => {
                let vehicle = self.fleet.find(id).ok_or_else(|| OfflineError::UnknownVehicle(id.clone()))?;
                let (state, addressee) = (vehicle.state.load(), Box::new(vehicle.addressee.clone()));
                let release = Arc::clone(allowed(&order.release, &state.vehicle, &rules, now).map_err(withheld)?);
                let seal = release.encrypted_bundle.zip(state.vehicle.encryption_key);
                let seal = seal.map(|(bundle, to)| self.content_keys.seal_for(&addressee, &to, &bundle));
                let content_key = seal.transpose().map_err(PollError::from)?;
                (Recipients::Vehicle { addressee, content_key }, vec![release])
            }
            OfflineFor::Tier { tier, region } => {
                let scope = offline::scope(tier, region)?;
                let releases = offline::allowed_in(&order.release, &scope, &rules, now).map_err(withheld)?;
                (Recipients::Scope(scope), releases)
            }
        };
        let asked = now.plus_days(order.days.into());
        let first = releases.iter().min_by_key(|release| release.expires).filter(|release| release.expires < asked);
        let (expires, limited_by) = first.map_or((asked, None), |first| (first.expires, Some(Arc::clone(&first.expiring_role))));

        let mut files = Vec::new();
        for root in self.director_roots.load().iter() {
            files.push((format!("director/metadata/{}.root.json", root.version), root.bytes.clone()));
        }
        let signing = self.signing.load_full();
        let director = offline::sign_director(&recipients, &releases, expires, &signing.director_signers()?.signers())?;
        files.extend(director.into_iter().map(|(name, bytes)| (format!("director/metadata/{name}"), bytes)));
        files.extend(self.image_files(&image, signing.image_signers()?, expires).await?);
        let targets = releases.iter().flat_map(|release| stored(release)).collect();
        self.note(order, expires, now).await?;
        Ok(OfflineUpdate { files, targets, expires, limited_by })
    }

    /// The Image repository's metadata: every root, all listings, and a Snapshot and Timestamp that live as long as the file.
    async fn image_files(&self, image: &ImageRepository, signers: &ImageSigners, expires: UnixTime) -> Result<Files, OfflineError> {
        let missing = || PublishError::RootMissing("a Snapshot");
        let snapshot = newest_of::<Snapshot>(image, RootRole::Snapshot, SNAPSHOT_BYTES_MAX).map_err(PublishError::from)?;
        let timestamp = newest_of::<Timestamp>(image, RootRole::Timestamp, TIMESTAMP_BYTES_MAX).map_err(PublishError::from)?;
        let (snapshot, timestamp) = (snapshot.ok_or_else(missing)?.signed, timestamp.ok_or_else(missing)?.signed);
        let mut files = offline::sign_listing(&snapshot, timestamp.version, expires, &*signers.snapshot, &*signers.timestamp)?;
        files.extend(image.listings().map(|file| (format!("{}.{}.json", file.version, file.role), file.bytes.to_vec())));
        let newest_root = image.newest("root").map_or(0, |root| root.version);
        for version in 1..=newest_root {
            if let Some(bytes) = self.registry.image_metadata("root", version).await? {
                files.push((format!("{version}.root.json"), bytes));
            }
        }
        Ok(files.into_iter().map(|(name, bytes)| (format!("image/metadata/{name}"), bytes)).collect())
    }

    async fn note(&self, order: &OfflineOrder, expires: UnixTime, now: UnixTime) -> Result<(), RegistryError> {
        let (vehicle_id, whom) = match &order.recipients {
            OfflineFor::Vehicle(id) => (Some(id.clone()), format!("vehicle {id}")),
            OfflineFor::Tier { tier, region } => (None, format!("tier {tier} in {region}")),
        };
        let text = format!("offline update to {} for {whom}, to be installed before {expires}", order.release);
        let mut change = self.registry.change().await?;
        change.add_event(&NewEvent { kind: "offline_update_made", rollout: None, vehicle_id, text }, now).await?;
        change.commit().await
    }
}

/// Where the bytes of a release lie: its chunk index, its bundle and what it needs for Secondaries.
fn stored(release: &Release) -> Vec<(String, u64)> {
    let of = |path: &str, target: &TargetMeta| Some((TargetFile::of(path, target.hashes.sha256?)?.path(), target.length));
    let bundle = release.target.release().ok().map(|custom| custom.bundle);
    let bundle = bundle.and_then(|bundle| Some((TargetFile::of(&bundle.path, bundle.sha256)?.path(), bundle.length)));
    let companions = release.companions.iter().filter_map(|companion| of(&companion.path, &companion.target));
    of(&release.assigned.path, &release.target).into_iter().chain(bundle).chain(companions).collect()
}
