//! What our releases ask for on top of the Standard: a tier and a region that they are meant for, and software that can run them.

use alloc::string::ToString;

use super::{TrustError, VehicleIdentity, agree::list, image::VerifiedImage, target::VerifiedTarget};
use crate::metadata::{Companion, Custom, EcuAssignment};

/// Takes an image on which both repositories agree for a release to this vehicle.
pub(super) fn release(image: &VerifiedImage, identity: &VehicleIdentity) -> Result<VerifiedTarget, TrustError> {
    let path = image.path();
    let release = image.meta().release().map_err(|problem| TrustError::CustomMalformed { path: path.to_string(), problem })?;
    meant_for(path, &release, identity)?;
    runs_here(path, &release, identity)?;
    VerifiedTarget::new(image, release)
}

/// The release engineers' word on which vehicles may have it, signed offline: the Director cannot widen it.
fn meant_for(path: &str, release: &Custom, identity: &VehicleIdentity) -> Result<(), TrustError> {
    let path = || path.to_string();
    if release.tier != identity.tier {
        return Err(TrustError::WrongTier { path: path(), wanted: release.tier.clone(), tier: identity.tier.clone() });
    }
    if !release.regions.is_empty() && !release.regions.contains(&identity.region) {
        let (wanted, region) = (list(&release.regions), identity.region.clone());
        return Err(TrustError::WrongRegion { path: path(), wanted, region });
    }
    Ok(())
}

/// That every Secondary is assigned what the release needs there, and nothing else (Uptane, 5.3.2.1: dependencies). Otherwise whoever
/// has the Director's keys could put a model beside the calibration of another one, and each of the two would be signed.
pub(super) fn belong_together(
    target: Option<&VerifiedTarget>,
    images: &[VerifiedImage],
    secondaries: &[EcuAssignment],
) -> Result<(), TrustError> {
    for EcuAssignment { ecu_serial, hardware_id } in secondaries {
        let assigned = images.iter().find(|image| image.ecus().contains(ecu_serial) || image.running().contains(ecu_serial));
        let companions = target.map_or(&[][..], |target| &target.release().companions);
        let needed = companions.iter().find(|companion| companion.hardware_id == *hardware_id);
        let release = || target.map_or_else(|| "no release".to_string(), |target| target.path().to_string());
        let ecu_serial = || ecu_serial.clone();
        match (needed, assigned) {
            (None, None) => {}
            (Some(needed), Some(assigned)) if is_the_image(needed, assigned) => {}
            (Some(needed), Some(assigned)) => {
                let (needed, path) = (needed.path.clone(), assigned.path().to_string());
                return Err(TrustError::CompanionDiffers { release: release(), ecu_serial: ecu_serial(), needed, path });
            }
            (Some(needed), None) => {
                let needed = needed.path.clone();
                return Err(TrustError::CompanionMissing { release: release(), ecu_serial: ecu_serial(), needed });
            }
            (None, Some(assigned)) => {
                let path = assigned.path().to_string();
                return Err(TrustError::CompanionUnneeded { release: release(), ecu_serial: ecu_serial(), path });
            }
        }
    }
    Ok(())
}

fn is_the_image(needed: &Companion, assigned: &VerifiedImage) -> bool {
    assigned.path() == needed.path
        && assigned.length() == needed.length
        && assigned.hashes().sha256 == Some(needed.sha256)
        && assigned.release_counter() == Some(needed.release_counter)
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
