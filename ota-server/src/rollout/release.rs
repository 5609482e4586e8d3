//! What a rollout can bring: targets that the offline keys signed.

use serde::{Deserialize, Serialize};
use switchback_signing::{
    keys::Sha256Digest,
    metadata::{MetadataError, TargetMeta, json::canonical},
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
    /// When the metadata that lists it expires; afterwards a vehicle would refuse it.
    pub expires: UnixTime,
    /// The target as the offline keys signed it; the Director repeats it word for word.
    pub target: TargetMeta,
}

impl Release {
    /// The release that a target of the Image repository is. A target without the block that both repositories must agree on is
    /// none: the bundles' bytes, for instance.
    pub fn from_target(path: &str, target: &TargetMeta, expires: UnixTime) -> Result<Option<Self>, MetadataError> {
        let Some(block) = target.shall_match() else { return Ok(None) };
        let custom = target.release()?;
        // Everything that the Director repeats goes into the digest: a change of any of it must reach the vehicles.
        let mut described = canonical(block);
        described.extend(target.length.to_le_bytes());
        described.extend(target.hashes.sha256.iter().flat_map(|sha256| *sha256.as_bytes()));
        let digest = Sha256Digest::of(&described).to_hex();
        Ok(Some(Self {
            name: ReleaseName { model: custom.model, version: custom.version },
            tier: custom.tier.to_string(),
            hardware_ids: custom.hardware_ids.iter().map(ToString::to_string).collect(),
            regions: custom.regions.iter().map(ToString::to_string).collect(),
            counter: custom.release_counter,
            assigned: Assigned { path: path.to_owned(), digest },
            expires,
            target: target.clone(),
        }))
    }

    /// Whether the signed metadata allows the release on `vehicle`.
    #[must_use]
    pub fn fits(&self, vehicle: &Vehicle) -> bool {
        *self.tier == *vehicle.tier
            && self.hardware_ids.iter().any(|id| **id == *vehicle.hardware_id)
            && allows(&self.regions, &vehicle.region)
    }
}
