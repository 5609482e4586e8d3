//! What Uptane adds to TUF: the Director's word for this vehicle, the Image repository's word on the release, and both must agree.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Installed, Repository, TrustError, VehicleIdentity,
    target::{Findings, VerifiedTarget},
    verify::Fresh,
};
use crate::{
    digest::Sha256Digest,
    metadata::{Custom, TargetMeta, Targets},
};

/// The image that the Director assigns to this vehicle's Primary.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) meta: TargetMeta,
}

/// Reads the Director's targets (Uptane, 5.4.4.6, steps 6 to 8): no delegations, this vehicle, no ECU twice, no unknown ECU.
pub(super) fn wanted(targets: &Fresh<Targets>, identity: &VehicleIdentity) -> Result<Option<Wanted>, TrustError> {
    let targets = targets.role();
    if targets.delegations.as_ref().is_some_and(|delegations| !delegations.roles.is_empty()) {
        return Err(TrustError::DirectorDelegates);
    }
    match &targets.vehicle_id {
        Some(found) if *found != identity.vehicle_id => {
            return Err(TrustError::OtherVehicle { found: found.clone(), expected: identity.vehicle_id.clone() });
        }
        // Images name their ECUs; without any, only the vehicle's name keeps another vehicle's empty list from being replayed.
        None if targets.targets.is_empty() => return Err(TrustError::VehicleUnnamed),
        _ => {}
    }
    let mut assigned = BTreeMap::new();
    for (path, meta) in &targets.targets {
        let malformed = |problem| TrustError::CustomMalformed { path: path.clone(), problem };
        for ecu in meta.ecus().map_err(malformed)? {
            if ecu.ecu_serial != identity.ecu_serial {
                return Err(TrustError::UnknownEcu { ecu_serial: ecu.ecu_serial, path: path.clone() });
            }
            if ecu.hardware_id != identity.hardware_id {
                let (found, expected) = (ecu.hardware_id, identity.hardware_id.clone());
                return Err(TrustError::OtherEcuHardware { ecu_serial: ecu.ecu_serial, found, expected });
            }
            if let Some((first, _)) = assigned.insert(ecu.ecu_serial.clone(), (path, meta)) {
                let (first, second) = (first.clone(), path.clone());
                return Err(TrustError::EcuTwice { ecu_serial: ecu.ecu_serial, first, second });
            }
        }
    }
    Ok(assigned.remove(&identity.ecu_serial).map(|(path, meta)| Wanted { path: path.clone(), meta: meta.clone() }))
}

/// Compares the Director's target with the Image repository's and both with the vehicle (Uptane, 5.4.4.2, step 10 and 5.4.4.7).
pub(super) fn agree(
    wanted: Wanted,
    image: &TargetMeta,
    identity: &VehicleIdentity,
    installed: &Installed,
    consistent_snapshot: bool,
) -> Result<VerifiedTarget, TrustError> {
    let Wanted { path, meta: director } = wanted;
    let sha256 = same_bytes(&path, &director, image)?;
    // Bytes that have both SHA-512 digests, where each repository lists one, cannot exist unless they are the same.
    let also = [director.hashes.sha512, image.hashes.sha512];
    if director.shall_match() != image.shall_match() {
        let text = |meta: &TargetMeta| meta.shall_match().map_or_else(|| "nothing".to_string(), |json| format!("{json}"));
        return Err(TrustError::CustomDiffers { path, director: text(&director), image: text(image) });
    }
    let release = image.release().map_err(|problem| TrustError::CustomMalformed { path: path.clone(), problem })?;
    meant_for(&path, &release, identity)?;
    runs_here(&path, &release, identity)?;
    let (found, floor) = (release.release_counter, installed.floor.0);
    if found < floor {
        return Err(TrustError::ReleaseBelowFloor { path, found, floor });
    }
    VerifiedTarget::new(Findings { path, length: image.length, sha256, also, release, consistent_snapshot })
}

fn same_bytes(path: &str, director: &TargetMeta, image: &TargetMeta) -> Result<Sha256Digest, TrustError> {
    let path = || path.to_string();
    let digest = |repository, meta: &TargetMeta| {
        meta.hashes.sha256.ok_or_else(|| TrustError::TargetDigestMissing { repository, path: path(), wanted: "SHA-256" })
    };
    let (director_sha256, image_sha256) = (digest(Repository::Director, director)?, digest(Repository::Image, image)?);
    if director.length != image.length {
        return Err(TrustError::TargetLengthDiffers { path: path(), director: director.length, image: image.length });
    }
    if director_sha256 != image_sha256 {
        return Err(TrustError::TargetDigestDiffers { path: path(), director: director_sha256, image: image_sha256 });
    }
    Ok(image_sha256)
}

/// The release engineers' word on which vehicles may have it, signed offline: the Director cannot widen it.
fn meant_for(path: &str, release: &Custom, identity: &VehicleIdentity) -> Result<(), TrustError> {
    let path = || path.to_string();
    if !release.hardware_ids.contains(&identity.hardware_id) {
        let (wanted, hardware_id) = (list(&release.hardware_ids), identity.hardware_id.clone());
        return Err(TrustError::WrongHardware { path: path(), wanted, hardware_id });
    }
    if release.tier != identity.tier {
        return Err(TrustError::WrongTier { path: path(), wanted: release.tier.clone(), tier: identity.tier.clone() });
    }
    if !release.regions.is_empty() && !release.regions.contains(&identity.region) {
        let (wanted, region) = (list(&release.regions), identity.region.clone());
        return Err(TrustError::WrongRegion { path: path(), wanted, region });
    }
    Ok(())
}

/// Whether the software in this vehicle can run the release.
fn runs_here(path: &str, release: &Custom, identity: &VehicleIdentity) -> Result<(), TrustError> {
    let path = || path.to_string();
    if !identity.contract_versions.contains(&release.contract_version) {
        let known = list(&identity.contract_versions);
        return Err(TrustError::ContractUnknown { path: path(), found: release.contract_version, known });
    }
    if identity.sdk_version < release.sdk_min {
        return Err(TrustError::SdkTooOld { path: path(), wanted: release.sdk_min, found: identity.sdk_version });
    }
    if identity.onnxruntime_version < release.onnxruntime_min {
        let (wanted, found) = (release.onnxruntime_min, identity.onnxruntime_version);
        return Err(TrustError::RuntimeTooOld { path: path(), wanted, found });
    }
    Ok(())
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
