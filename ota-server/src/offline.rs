//! What the Director says in an offline update. Pure: it decides for whom one may be made and makes the documents.
//!
//! Such a set is signed by the online keys like any other and can say no more than they can: a release that the offline keys signed, for
//! vehicles for which it is approved. It lives longer, so its Timestamps carry the mark by which a vehicle takes them from a file alone.

use std::{collections::BTreeSet, sync::Arc};

use switchback_signing::{
    keys::{Signer, SignerError, sealing::SealedContentKey},
    metadata::{MetaFile, NameError, OfflineScope, Region, Snapshot, Targets, Tier, Timestamp, sign},
    time::UnixTime,
};

use crate::{
    director::{Addressee, Signers, targets},
    rollout::{Release, ReleaseName, Rules, Vehicle, Withheld, allowed},
};

/// Longest life of an offline update, days: a quarter of a year lies in a workshop's drawer; what is older should be made anew.
pub const DAYS_MAX: u32 = 92;

/// Whom an offline update is for.
#[derive(Clone, Debug)]
pub enum Recipients {
    /// One vehicle.
    Vehicle {
        /// Which one.
        addressee: Box<Addressee>,
        /// The release's content key, sealed for it, when the release is encrypted.
        content_key: Option<SealedContentKey>,
    },
    /// Every vehicle of a tier in a region.
    Scope(OfflineScope),
}

/// Signed metadata: name and content of each file.
pub type Files = Vec<(String, Vec<u8>)>;

/// The releases of this name that every vehicle of a tier in a region may have, one for each kind of driving computer.
pub fn allowed_in(name: &ReleaseName, scope: &OfflineScope, rules: &Rules, now: UnixTime) -> Result<Vec<Arc<Release>>, Withheld> {
    let of_tier = rules.releases.iter().filter(|release| release.name == *name && release.tier == scope.tier.as_str());
    let hardware_ids: BTreeSet<&str> = of_tier.flat_map(|release| release.hardware_ids.iter().map(String::as_str)).collect();
    if hardware_ids.is_empty() {
        return Err(Withheld::NotPublished);
    }
    let mut releases: Vec<Arc<Release>> = Vec::new();
    for hardware_id in hardware_ids {
        // Of no model line: an approval that holds for some lines does not hold for all vehicles of the tier.
        let any = Vehicle {
            id: "".into(),
            tenant: "".into(),
            tier: scope.tier.as_str().into(),
            hardware_id: hardware_id.into(),
            model_line: "".into(),
            region: scope.region.as_str().into(),
            confirmed_counter: 0,
            gave_up: Vec::new(),
            encryption_key: None,
        };
        let release = allowed(name, &any, rules, now).map_err(|withheld| match withheld {
            // Sealed for every vehicle of the tier, the file would say who they are, and not open for one that enrolls after it was made.
            Withheld::NoEncryptionKey => Withheld::EncryptedForMany,
            withheld => withheld,
        })?;
        if !releases.iter().any(|known| known.sha256 == release.sha256) {
            releases.push(Arc::clone(release));
        }
    }
    Ok(releases)
}

/// The tier and region of a request.
pub fn scope(tier: &str, region: &str) -> Result<OfflineScope, NameError> {
    Ok(OfflineScope { tier: Tier::new(tier)?, region: Region::new(region)? })
}

/// The Director's three roles for `recipients`.
pub fn sign_director(
    recipients: &Recipients,
    releases: &[Arc<Release>],
    expires: UnixTime,
    signers: &Signers<'_>,
) -> Result<Files, SignerError> {
    // A vehicle holds these against no other set: each file stands alone, and what guards against an old one is its expiry and the
    // release counter.
    const VERSION: u64 = 1;
    let targets = match recipients {
        Recipients::Vehicle { addressee, content_key } => {
            targets(addressee, releases.first().map(|release| &**release), content_key.as_ref(), VERSION, expires)
        }
        Recipients::Scope(scope) => {
            let mut targets = Targets::new(VERSION, expires).for_scope(scope);
            for release in releases {
                let companions = release.companions.iter().map(|companion| (companion.path.clone(), companion.target.clone()));
                targets.targets.insert(release.assigned.path.clone(), release.target.clone());
                targets.targets.extend(companions);
            }
            targets
        }
    };
    let targets = sign(&targets, &[signers.targets])?;
    let mut snapshot = Snapshot::new(VERSION, expires);
    snapshot.meta.insert("targets.json".to_owned(), MetaFile::of(VERSION, &targets));
    let mut signed = sign_listing(&snapshot, VERSION, expires, signers.snapshot, signers.timestamp)?;
    signed.push((format!("{VERSION}.targets.json"), targets));
    Ok(signed)
}

/// A Snapshot and its Timestamp, with the life of an offline update.
pub fn sign_listing(
    snapshot: &Snapshot,
    timestamp_version: u64,
    expires: UnixTime,
    snapshot_key: &dyn Signer,
    timestamp_key: &dyn Signer,
) -> Result<Files, SignerError> {
    let snapshot = Snapshot { expires, ..snapshot.clone() };
    let bytes = sign(&snapshot, &[snapshot_key])?;
    let timestamp = Timestamp::new(timestamp_version, expires, MetaFile::of(snapshot.version, &bytes)).for_offline_update();
    let timestamp = sign(&timestamp, &[timestamp_key])?;
    Ok(vec![(format!("{}.snapshot.json", snapshot.version), bytes), ("timestamp.json".to_owned(), timestamp)])
}
