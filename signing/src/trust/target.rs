use alloc::{
    boxed::Box,
    string::{String, ToString},
};

use super::{
    Repository, TrustError, VehicleIdentity,
    image::{VerifiedImage, check_path, consistent},
    limits::COMPANION_BYTES_MAX,
};
use crate::{
    bundle::{
        BundleError, ChunkIndex, ContentKey,
        delta::{BaseRelease, Delta, DeltaIndex},
    },
    digest::Sha256Digest,
    keys::sealing::{DecryptionKey, Recipient, SealedContentKey},
    metadata::{Custom, DeltaRef, Hashes, MetadataError, object::wrong},
};

/// Proof that Director and Image repository agree on a release, and that it is meant for this vehicle.
///
/// Only a [`super::MetadataCheck`] that went through every step makes one; installing demands it. It cannot be cloned, parsed or
/// built, so that no path leads around the check.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedTarget {
    path: String,
    length: u64,
    sha256: Sha256Digest,
    /// Every digest that one of the two repositories lists (Uptane, 5.4.4.8: every hash is checked).
    hashes: Hashes,
    release: Box<Custom>,
    /// What the Director gives to open the bundle with, when it is encrypted.
    content_key: Option<SealedContentKey>,
    /// What the Director gives to save bytes with: nothing that is not understood stands in the way of the release.
    delta: Option<Box<Result<DeltaRef, MetadataError>>>,
    consistent_snapshot: bool,
}

impl VerifiedTarget {
    pub(super) fn new(image: &VerifiedImage, release: Custom) -> Result<Self, TrustError> {
        let (path, hashes) = (image.path().to_string(), image.hashes().clone());
        let mut companions = release.companions.iter();
        for path in [&path, &release.bundle.path].into_iter().chain(companions.clone().map(|companion| &companion.path)) {
            check_path(path)?;
        }
        companions.try_for_each(|companion| check_length(&companion.path, companion.length))?;
        let Some(sha256) = hashes.sha256 else {
            return Err(TrustError::TargetDigestMissing { repository: Repository::Image, path, wanted: "SHA-256" });
        };
        let content_key = image.unshared().content_key.as_ref().filter(|_| release.bundle.encryption.is_some());
        let content_key = content_key.map(|json| SealedContentKey::from_json(json.clone(), "custom.contentKey")).transpose();
        let content_key = content_key.map_err(|problem| TrustError::CustomMalformed { path: path.clone(), problem })?;
        let delta = image.unshared().delta.clone().map(|json| {
            let delta = DeltaRef::from_json(json, "custom.delta")?;
            let below = check_path(&delta.path);
            below.map(|()| delta).map_err(|_| wrong("custom.delta.index.path", "the path of a target"))
        });
        let (length, consistent_snapshot) = (image.length(), image.consistent_snapshot());
        Ok(Self { path, length, sha256, hashes, release: Box::new(release), content_key, delta: delta.map(Box::new), consistent_snapshot })
    }

    /// Target path of the chunk index, such as `ultra/vla-2-2.0.0.index`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Length of the chunk index, bytes. Nothing longer need be read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the chunk index.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// What both repositories say about the release.
    pub fn release(&self) -> &Custom {
        &self.release
    }

    /// Where the chunk index lies below the Image repository's `targets/`, such as `ultra/HASH.vla-2-2.0.0.index`.
    pub fn fetch_path(&self) -> String {
        self.consistent(&self.path, self.sha256)
    }

    /// Where the bundle lies below the Image repository's `targets/`.
    pub fn bundle_fetch_path(&self) -> String {
        self.consistent(&self.release.bundle.path, self.release.bundle.sha256)
    }

    /// Takes the fetched bytes of the chunk index for what the metadata says they are (Uptane, 5.4.4.8: verify images).
    ///
    /// # Errors
    /// [`TrustError`] when length or digest differ, when the signed index cannot be read, or when it is of another bundle.
    pub fn verify_index(&self, bytes: &[u8]) -> Result<ChunkIndex, TrustError> {
        let path = || self.path.clone();
        let found = bytes.len() as u64;
        if found != self.length {
            return Err(TrustError::IndexLength { path: path(), found, listed: self.length });
        }
        self.hashes.verify(bytes).map_err(|digests| TrustError::IndexDigest { path: path(), digests })?;
        let index = ChunkIndex::parse(bytes).map_err(|problem| TrustError::IndexMalformed { path: path(), problem })?;
        let (found, listed) = (index.bundle_sha256(), self.release.bundle.sha256);
        if found != listed || index.bundle_length() != self.release.bundle.length {
            return Err(TrustError::IndexOfOtherBundle { path: path(), found, listed });
        }
        let (found, listed) = (index.encryption(), self.release.bundle.encryption);
        if found != listed {
            return Err(TrustError::IndexEncryptionDiffers { path: path(), found, listed });
        }
        Ok(index)
    }

    /// Opens the key of the bundle with the vehicle's own, or says that there is none because anybody may read the bundle.
    ///
    /// # Errors
    /// [`TrustError`] when the bundle is encrypted and the Director gives no key for it, or one that is not for this vehicle, this ECU
    /// and this bundle.
    pub fn content_key(&self, own: &DecryptionKey, identity: &VehicleIdentity) -> Result<Option<ContentKey>, TrustError> {
        if self.release.bundle.encryption.is_none() {
            return Ok(None);
        }
        let Some(sealed) = &self.content_key else {
            return Err(TrustError::ContentKeyMissing { path: self.path.clone() });
        };
        let VehicleIdentity { vehicle_id, ecu_serial, .. } = identity;
        let opened = own.open(sealed, Recipient::Vehicle { vehicle_id, ecu_serial }, &self.release.bundle.sha256);
        opened.map(Some).map_err(|_| {
            let (path, vehicle_id, ecu_serial) = (self.path.clone(), vehicle_id.clone(), ecu_serial.clone());
            TrustError::ContentKeyUnopened { path, vehicle_id, ecu_serial }
        })
    }

    /// A delta from what the vehicle has, when the Director names one.
    ///
    /// # Errors
    /// [`MetadataError`] when it names one in words that are not understood. The release can be installed without.
    pub fn delta(&self) -> Result<Option<&DeltaRef>, &MetadataError> {
        self.delta.as_deref().map(Result::as_ref).transpose()
    }

    /// Where the index of a delta lies below the Image repository's `targets/`.
    pub fn delta_index_fetch_path(&self, delta: &DeltaRef) -> String {
        self.consistent(&delta.path, delta.sha256)
    }

    /// Where the data of a delta lies below the Image repository's `targets/`.
    pub fn delta_data_fetch_path(&self, delta: &DeltaRef, index: &Delta) -> String {
        self.consistent(delta.data_path(), index.data_sha256())
    }

    /// Takes the fetched bytes of a delta's index for what the Director says they are, as a delta of the bundle of `full` from this base.
    ///
    /// # Errors
    /// [`BundleError`] when they are other bytes, cannot be read, or are of another bundle or base. The release can be installed without.
    pub fn verify_delta(&self, delta: &DeltaRef, bytes: &[u8], full: &ChunkIndex, base: &BaseRelease) -> Result<Delta, BundleError> {
        let found = Sha256Digest::of(bytes);
        if found != delta.sha256 {
            return Err(BundleError::DeltaIndex {
                field: "its SHA-256".into(),
                expected: delta.sha256.to_string(),
                found: found.to_string(),
            });
        }
        let delta = Delta::new(DeltaIndex::parse(bytes)?, full)?;
        delta.base().check(base)?;
        Ok(delta)
    }

    fn consistent(&self, path: &str, sha256: Sha256Digest) -> String {
        if self.consistent_snapshot { consistent(path, &sha256.to_hex()) } else { path.to_string() }
    }
}

/// That a Primary can hold the image while it hands it on.
pub(super) fn check_length(path: &str, length: u64) -> Result<(), TrustError> {
    let length_max = COMPANION_BYTES_MAX;
    if length > length_max {
        return Err(TrustError::CompanionTooLong { path: path.to_string(), length, length_max });
    }
    Ok(())
}
