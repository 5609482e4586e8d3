//! What Uptane adds to TUF: the Director's word on this vehicle's ECUs, the Image repository's word on the images, and both must agree.
//!
//! All of it is the Standard's and holds for any image of any vehicle; what our releases ask for on top is in [`super::release`].

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Repository, TrustError,
    cache::TARGETS_FILE,
    image::{Listed, Unshared, VerifiedImage},
    uptane::{Ecu, OtherEcus, VehicleEcus},
    verify::Fresh,
};
use crate::metadata::{HardwareId, Hashes, MetadataError, OfflineScope, TargetMeta, Targets, VehicleId};

/// An image that the Director assigns to ECUs of this vehicle.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) meta: TargetMeta,
    /// Those that do not run it yet.
    pub(super) ecus: Vec<Ecu>,
    /// Those that do.
    pub(super) running: Vec<Ecu>,
}

impl Wanted {
    /// The kinds of computer that the image must fit.
    pub(super) fn hardware_ids(&self) -> Vec<HardwareId> {
        self.ecus.iter().chain(&self.running).map(|ecu| ecu.hardware_id.clone()).collect()
    }
}

/// What the Director's targets say about the vehicle.
#[derive(Debug)]
pub(super) struct Assignments {
    pub(super) vehicle_id: Option<VehicleId>,
    /// In the order of the target paths, also what every ECU concerned runs already.
    pub(super) wanted: Vec<Wanted>,
}

/// Reads the Director's targets (Uptane, 5.4.4.6, steps 6 to 8): no delegations, this vehicle, no ECU twice, no unknown ECU.
pub(super) fn assignments(targets: &Fresh<Targets>, vehicle: &VehicleEcus) -> Result<Assignments, TrustError> {
    let targets = targets.role();
    if targets.delegations.as_ref().is_some_and(|delegations| !delegations.roles.is_empty() || delegations.bins.is_some()) {
        return Err(TrustError::DirectorDelegates);
    }
    if let Some(ours) = &vehicle.offline
        && let Some(found) = targets.scope().map_err(malformed_targets)?
    {
        return for_scope(targets, &found, ours, vehicle);
    }
    let vehicle_id = this_vehicle(targets, vehicle.vehicle_id.as_ref())?;
    let mut assigned = BTreeMap::new();
    let mut wanted = Vec::new();
    for (path, meta) in &targets.targets {
        let (mut ecus, mut running) = (Vec::new(), Vec::new());
        for listed in meta.ecus().map_err(|problem| malformed(path, problem))? {
            if let Some(first) = assigned.insert(listed.ecu_serial.clone(), path) {
                let (first, second) = (first.clone(), path.clone());
                return Err(TrustError::EcuTwice { ecu_serial: listed.ecu_serial, first, second });
            }
            let Some(ecu) = vehicle.ecus.iter().find(|ecu| ecu.ecu_serial == listed.ecu_serial) else {
                match vehicle.others {
                    OtherEcus::Refused => return Err(TrustError::UnknownEcu { ecu_serial: listed.ecu_serial, path: path.clone() }),
                    OtherEcus::Ignored => continue,
                }
            };
            if let Some(found) = listed.hardware_id.filter(|found| *found != ecu.hardware_id) {
                let (ecu_serial, expected) = (listed.ecu_serial, ecu.hardware_id.clone());
                return Err(TrustError::OtherEcuHardware { ecu_serial, found, expected });
            }
            if is_new(meta, ecu) { ecus.push(ecu.clone()) } else { running.push(ecu.clone()) }
        }
        wanted.push(Wanted { path: path.clone(), meta: meta.clone(), ecus, running });
    }
    Ok(Assignments { vehicle_id, wanted })
}

/// Whether an ECU has yet to install an image.
///
/// The Standard stops already when the Director's snapshot has not changed. We go on when the image that it wants is not installed, because
/// an installation may have been interrupted after its metadata was persisted.
fn is_new(meta: &TargetMeta, ecu: &Ecu) -> bool {
    meta.hashes.sha256.is_none() || meta.hashes.sha256 != ecu.installed.image_sha256
}

/// Reads the Director's targets of an offline update for many vehicles: each image is for the ECUs whose kind it names.
fn for_scope(targets: &Targets, found: &OfflineScope, ours: &OfflineScope, vehicle: &VehicleEcus) -> Result<Assignments, TrustError> {
    if found != ours {
        let (OfflineScope { tier: found_tier, region: found_region }, OfflineScope { tier, region }) = (found.clone(), ours.clone());
        return Err(TrustError::OtherScope { found_tier, found_region, tier, region });
    }
    let mut assigned = BTreeMap::new();
    let mut wanted = Vec::new();
    for (path, meta) in &targets.targets {
        let hardware_ids = meta.hardware_ids().map_err(|problem| malformed(path, problem))?.unwrap_or_default();
        let (mut ecus, mut running) = (Vec::new(), Vec::new());
        for ecu in vehicle.ecus.iter().filter(|ecu| hardware_ids.contains(&ecu.hardware_id)) {
            if let Some(first) = assigned.insert(&ecu.ecu_serial, path) {
                let (first, second) = (first.clone(), path.clone());
                return Err(TrustError::EcuTwice { ecu_serial: ecu.ecu_serial.clone(), first, second });
            }
            if is_new(meta, ecu) { ecus.push(ecu.clone()) } else { running.push(ecu.clone()) }
        }
        // What is for other computers of the tier.
        if !ecus.is_empty() || !running.is_empty() {
            wanted.push(Wanted { path: path.clone(), meta: meta.clone(), ecus, running });
        }
    }
    Ok(Assignments { vehicle_id: vehicle.vehicle_id.clone(), wanted })
}

fn malformed_targets(problem: MetadataError) -> TrustError {
    TrustError::Malformed { repository: Repository::Director, file_name: TARGETS_FILE.to_string(), problem }
}

fn this_vehicle(targets: &Targets, expected: Option<&VehicleId>) -> Result<Option<VehicleId>, TrustError> {
    let named = targets.vehicle_ids().map_err(malformed_targets)?;
    let Some(first) = named.first() else {
        // Images name their ECUs; without any, only the vehicle's name keeps another vehicle's empty list from being replayed.
        return if targets.targets.is_empty() { Err(TrustError::VehicleUnnamed) } else { Ok(None) };
    };
    let expected = expected.unwrap_or(first);
    match named.iter().find(|found| *found != expected) {
        Some(found) => Err(TrustError::OtherVehicle { found: found.clone(), expected: expected.clone() }),
        None => Ok(Some(expected.clone())),
    }
}

/// Compares the Director's target with the Image repository's and both with the ECUs (Uptane, 5.4.4.2, step 10 and 5.4.4.7).
pub(super) fn agree(wanted: Wanted, image: TargetMeta, consistent_snapshot: bool) -> Result<VerifiedImage, TrustError> {
    let Wanted { path, meta: director, ecus, running } = wanted;
    let hashes = same_bytes(&path, &director, &image)?;
    same_description(&path, &director, &image)?;
    let problem = |problem| malformed(&path, problem);
    let hardware_ids = image.hardware_ids().map_err(problem)?;
    // A counter that only the Director lists is no more than its word, but not to look at it would let it go back.
    let release_counter = match image.release_counter().map_err(problem)? {
        Some(counter) => Some(counter),
        None => director.release_counter().map_err(problem)?,
    };
    for ecu in ecus.iter().chain(&running) {
        if let Some(wanted) = hardware_ids.as_ref().filter(|ids| !ids.contains(&ecu.hardware_id)) {
            let (wanted, hardware_id) = (list(wanted), ecu.hardware_id.clone());
            return Err(TrustError::WrongHardware { path, wanted, hardware_id });
        }
        let (found, floor) = (release_counter.unwrap_or_default(), ecu.installed.floor.0);
        if found < floor {
            return Err(TrustError::ReleaseBelowFloor { path, found, floor });
        }
    }
    let [ecus, running] = [ecus, running].map(|ecus| ecus.into_iter().map(|ecu| ecu.ecu_serial).collect());
    let unshared = Unshared { content_key: director.content_key().cloned(), delta: director.delta().cloned() };
    VerifiedImage::new(path, TargetMeta { hashes, ..image }, Listed { ecus, running }, release_counter, unshared, consistent_snapshot)
}

/// The same length, and the same digest by every algorithm that both list. What only one of them lists is checked on the bytes as well.
fn same_bytes(path: &str, director: &TargetMeta, image: &TargetMeta) -> Result<Hashes, TrustError> {
    let path = || path.to_string();
    for (repository, meta) in [(Repository::Director, director), (Repository::Image, image)] {
        if !meta.hashes.is_known() {
            return Err(TrustError::TargetDigestMissing { repository, path: path(), wanted: "SHA-256 or SHA-512" });
        }
    }
    if director.length != image.length {
        return Err(TrustError::TargetLengthDiffers { path: path(), director: director.length, image: image.length });
    }
    match director.hashes.agree(&image.hashes) {
        Err(digests) => Err(TrustError::TargetDigestDiffers { path: path(), digests }),
        Ok(None) => {
            let wanted = if director.hashes.sha256.is_some() { "SHA-256" } else { "SHA-512" };
            Err(TrustError::TargetDigestMissing { repository: Repository::Image, path: path(), wanted })
        }
        Ok(Some(hashes)) => Ok(hashes),
    }
}

/// The custom metadata that both must say alike (Uptane, 5.2.3.1): a block of its own where one of them has it, else the known fields
/// that both list.
fn same_description(path: &str, director: &TargetMeta, image: &TargetMeta) -> Result<(), TrustError> {
    let differs = |director: Option<String>, image: Option<String>| {
        let text = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_string());
        Err(TrustError::CustomDiffers { path: path.to_string(), director: text(director), image: text(image) })
    };
    if director.shall_match() != image.shall_match() {
        let text = |meta: &TargetMeta| meta.shall_match().map(ToString::to_string);
        return differs(text(director), text(image));
    }
    let problem = |problem| malformed(path, problem);
    let counters = (director.release_counter().map_err(problem)?, image.release_counter().map_err(problem)?);
    if let (Some(director), Some(image)) = counters
        && director != image
    {
        let text = |counter: u64| Some(alloc::format!("release counter {counter}"));
        return differs(text(director), text(image));
    }
    let hardware = (director.hardware_ids().map_err(problem)?, image.hardware_ids().map_err(problem)?);
    if let (Some(director), Some(image)) = &hardware
        && director != image
    {
        let text = |ids: &_| Some(alloc::format!("hardware {}", list(ids)));
        return differs(text(director), text(image));
    }
    Ok(())
}

fn malformed(path: &str, problem: MetadataError) -> TrustError {
    TrustError::CustomMalformed { path: path.to_string(), problem }
}

/// Names separated by commas.
pub(super) fn list<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    items.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
