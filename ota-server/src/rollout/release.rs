//! What a rollout can bring: targets that the offline keys signed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use switchback_signing::{
    keys::Sha256Digest,
    metadata::{Companion, HardwareId, MetadataError, TargetMeta, Targets, json::canonical},
    time::UnixTime,
};

use super::{Vehicle, selector::allows};
use crate::director::Assigned;

/// Name of a release: one model in one version, for all tiers it was built for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseName {
    /// Model, such as `vla-2`.
    pub model: String,
    /// Version, such as `2.0.0`.
    pub version: String,
}

impl core::fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.model, self.version)
    }
}

/// The bytes that a release consists of for some vehicles. Everything else hangs from the chunk index: it holds the digests of the
/// bundle, of its manifest and of every chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Path of the chunk index in the Image repository.
    pub path: String,
    /// SHA-256 of the chunk index, hexadecimal.
    pub sha256: String,
    /// Tier that it was built for.
    pub tier: String,
    /// Driving computers that it was built for.
    pub hardware_ids: Vec<String>,
}

impl Content {
    /// Whether the two are different bytes for the same vehicles, or under the same path.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let same_vehicles = self.tier == other.tier && self.hardware_ids.iter().any(|id| other.hardware_ids.contains(id));
        self.sha256 != other.sha256 && (self.path == other.path || same_vehicles)
    }
}

/// One signed target of a release: the chunk index for the vehicles of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Name of the release.
    pub name: ReleaseName,
    /// Tier that it was built for.
    pub tier: String,
    /// Driving computers that may run it; with none listed it fits no vehicle.
    pub hardware_ids: Vec<String>,
    /// Regions that it may run in; empty: all.
    pub regions: Vec<String>,
    /// Rises with every release to a tier.
    pub counter: u64,
    /// Path and digest, as the Director remembers what it assigned.
    pub assigned: Assigned,
    /// SHA-256 of the chunk index, hexadecimal.
    pub sha256: String,
    /// When the metadata that lists it expires; afterwards a vehicle would refuse it.
    pub expires: UnixTime,
    /// The role that expires then.
    pub expiring_role: Arc<str>,
    /// The target as the offline keys signed it; the Director repeats it word for word.
    pub target: TargetMeta,
    /// What vehicles' other ECUs must run beside it.
    pub companions: Vec<CompanionImage>,
    /// Its bundle, when that is encrypted: the SHA-256 by which its content key is known.
    pub encrypted_bundle: Option<Sha256Digest>,
}

/// An image for the Secondaries of one kind, as the role that lists the release lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompanionImage {
    /// Which Secondaries.
    pub hardware_id: HardwareId,
    /// Path in the Image repository.
    pub path: String,
    /// The target as the offline keys signed it.
    pub target: TargetMeta,
}

impl Release {
    /// The release that a target of the Image repository is. A target without the block that both repositories must agree on is
    /// none: the bundles' bytes, for instance; so is the image of a Secondary, which comes with a release that needs it. Neither is one
    /// without SHA-256, by which people and vehicles know its bytes; nor one whose companions its role does not list, which was refused
    /// at the door.
    pub fn from_target(path: &str, listed: &Targets, expiring_role: &Arc<str>, expires: UnixTime) -> Result<Option<Self>, MetadataError> {
        let Some(target) = listed.targets.get(path).filter(|target| target.is_release()) else { return Ok(None) };
        let (Some(block), Some(sha256)) = (target.shall_match(), target.hashes.sha256) else { return Ok(None) };
        let custom = target.release()?;
        let companion = |companion: &Companion| {
            let (hardware_id, path) = (companion.hardware_id.clone(), companion.path.clone());
            Some(CompanionImage { target: listed.targets.get(&path)?.clone(), hardware_id, path })
        };
        let Some(companions) = custom.companions.iter().map(companion).collect::<Option<Vec<_>>>() else { return Ok(None) };
        // Everything that the Director repeats goes into the digest: a change of any of it must reach the vehicles.
        let mut described = canonical(block);
        described.extend(target.length.to_le_bytes());
        described.extend(sha256.as_bytes());
        // Path, length and digest of a companion are in the block above.
        companions.iter().filter_map(|companion| companion.target.shall_match()).for_each(|block| described.extend(canonical(block)));
        let digest = Sha256Digest::of(&described).to_hex();
        Ok(Some(Self {
            name: ReleaseName { model: custom.model, version: custom.version },
            tier: custom.tier.to_string(),
            hardware_ids: custom.hardware_ids.iter().map(ToString::to_string).collect(),
            regions: custom.regions.iter().map(ToString::to_string).collect(),
            counter: custom.release_counter,
            assigned: Assigned { path: path.to_owned(), digest },
            sha256: sha256.to_hex(),
            expires,
            expiring_role: Arc::clone(expiring_role),
            target: target.clone(),
            companions,
            encrypted_bundle: custom.bundle.encryption.map(|_| custom.bundle.sha256),
        }))
    }

    /// Its bytes, as approvals remember them.
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            path: self.assigned.path.clone(),
            sha256: self.sha256.clone(),
            tier: self.tier.clone(),
            hardware_ids: self.hardware_ids.clone(),
        }
    }

    /// Whether the signed metadata allows the release on `vehicle`.
    #[must_use]
    pub fn fits(&self, vehicle: &Vehicle) -> bool {
        *self.tier == *vehicle.tier
            && self.hardware_ids.iter().any(|id| **id == *vehicle.hardware_id)
            && allows(&self.regions, &vehicle.region)
    }
}
