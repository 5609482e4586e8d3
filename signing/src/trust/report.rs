//! The Director's check of what a vehicle reports (Uptane Standard, 5.3.2.1: "Director checks the vehicle version manifest").

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use thiserror::Error;

use crate::{
    keys::PublicKey,
    metadata::{
        EcuSerial, MetadataError, Signed, VehicleId,
        vehicle::{EcuReport, SilentEcu, VehicleVersionManifest},
    },
    time::UnixTime,
};

/// What the Director's inventory knows about a vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleInventory {
    /// The vehicle.
    pub vehicle_id: VehicleId,
    /// Its Primary.
    pub primary_ecu_serial: EcuSerial,
    /// Every ECU with the key it enrolled with, the Primary among them.
    pub ecu_keys: BTreeMap<EcuSerial, PublicKey>,
    /// Highest counter that each ECU has reported.
    pub counters: BTreeMap<EcuSerial, u64>,
}

/// A manifest whose signatures, vehicle, ECUs and counters have been checked. Only [`verify_manifest`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedManifest {
    vehicle_id: VehicleId,
    primary: EcuReport,
    secondaries: Vec<EcuReport>,
    silent: Vec<SilentEcu>,
}

/// A manifest that the Director does not believe.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Not a manifest, or not a report inside it.
    #[error("the vehicle version manifest is malformed: {0}")]
    Malformed(MetadataError),
    /// Another vehicle's manifest.
    #[error("the manifest is of vehicle {found}, but it was sent by {expected}")]
    OtherVehicle {
        /// Vehicle in the manifest.
        found: VehicleId,
        /// Vehicle that sent it.
        expected: VehicleId,
    },
    /// Another Primary than the one that enrolled.
    #[error("the manifest names {found} as the Primary, but the inventory {expected}")]
    OtherPrimary {
        /// Primary in the manifest.
        found: EcuSerial,
        /// Primary in the inventory.
        expected: EcuSerial,
    },
    /// A manifest or report without the signature of its ECU.
    #[error("no valid signature of ECU {ecu_serial}")]
    Signature {
        /// The ECU that should have signed.
        ecu_serial: EcuSerial,
    },
    /// An ECU that the inventory does not know.
    #[error("ECU {ecu_serial} reports but is not in the inventory of this vehicle")]
    UnknownEcu {
        /// The ECU.
        ecu_serial: EcuSerial,
    },
    /// Two reports of one ECU.
    #[error("ECU {ecu_serial} reports twice")]
    EcuTwice {
        /// The ECU.
        ecu_serial: EcuSerial,
    },
    /// An ECU of the inventory that does not report.
    #[error("ECU {ecu_serial} is in the inventory but does not report")]
    EcuMissing {
        /// The ECU.
        ecu_serial: EcuSerial,
    },
    /// A Primary that is said to be silent, by itself.
    #[error("the Primary {ecu_serial} sends the manifest but says that it gives no report")]
    PrimarySilent {
        /// The Primary.
        ecu_serial: EcuSerial,
    },
    /// A report that was seen before.
    #[error("ECU {ecu_serial} reports with counter {found}, but {seen} was seen already")]
    Replayed {
        /// The ECU.
        ecu_serial: EcuSerial,
        /// Counter in the report.
        found: u64,
        /// Highest counter so far.
        seen: u64,
    },
    /// A report from the future.
    #[error("ECU {ecu_serial} reports for {time}, but it is {now}")]
    FromTheFuture {
        /// The ECU.
        ecu_serial: EcuSerial,
        /// Time in the report.
        time: UnixTime,
        /// The server's time.
        now: UnixTime,
    },
}

/// How far ahead of the server's clock an ECU's time may be, seconds: what the request signature allows as well.
const AHEAD_SECONDS_MAX: i64 = crate::keys::http::SKEW_SECONDS_MAX;

impl ReportError {
    /// Stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "manifest_malformed",
            Self::OtherVehicle { .. } => "manifest_other_vehicle",
            Self::OtherPrimary { .. } => "manifest_other_primary",
            Self::Signature { .. } => "manifest_signature",
            Self::UnknownEcu { .. } => "manifest_unknown_ecu",
            Self::EcuTwice { .. } => "manifest_ecu_twice",
            Self::EcuMissing { .. } => "manifest_ecu_missing",
            Self::PrimarySilent { .. } => "manifest_primary_silent",
            Self::Replayed { .. } => "manifest_replayed",
            Self::FromTheFuture { .. } => "manifest_from_the_future",
        }
    }
}

impl VerifiedManifest {
    /// The vehicle.
    pub fn vehicle_id(&self) -> &VehicleId {
        &self.vehicle_id
    }

    /// What the Primary says of itself.
    pub fn primary(&self) -> &EcuReport {
        &self.primary
    }

    /// One report for each Secondary of the inventory that is not [silent](Self::silent).
    pub fn secondaries(&self) -> &[EcuReport] {
        &self.secondaries
    }

    /// Secondaries of the inventory that gave no report: nothing that the manifest says is theirs.
    pub fn silent(&self) -> &[SilentEcu] {
        &self.silent
    }
}

/// Checks a manifest against the inventory: the right vehicle and Primary, the Primary's signature, each ECU's own signature, every
/// ECU exactly once, counters that rise, no time from the future. A Secondary that does not answer is in it as such: one that is left
/// out is an attack.
///
/// # Errors
/// [`ReportError`] naming the first thing that does not hold; the manifest is then to be dropped.
pub fn verify_manifest(bytes: &[u8], inventory: &VehicleInventory, now: UnixTime) -> Result<VerifiedManifest, ReportError> {
    let manifest = VehicleVersionManifest::parse(bytes).map_err(ReportError::Malformed)?;
    let VehicleVersionManifest { vehicle_id, primary_ecu_serial, ecu_reports, silent_ecus } = &manifest.signed;
    if *vehicle_id != inventory.vehicle_id {
        return Err(ReportError::OtherVehicle { found: vehicle_id.clone(), expected: inventory.vehicle_id.clone() });
    }
    if *primary_ecu_serial != inventory.primary_ecu_serial {
        let (found, expected) = (primary_ecu_serial.clone(), inventory.primary_ecu_serial.clone());
        return Err(ReportError::OtherPrimary { found, expected });
    }
    signed_by(&manifest, primary_ecu_serial, inventory)?;
    let (mut primary, mut secondaries) = (None, Vec::new());
    let mut seen = BTreeSet::new();
    for SilentEcu { ecu_serial, .. } in silent_ecus {
        if !inventory.ecu_keys.contains_key(ecu_serial) {
            return Err(ReportError::UnknownEcu { ecu_serial: ecu_serial.clone() });
        }
        if ecu_serial == primary_ecu_serial {
            return Err(ReportError::PrimarySilent { ecu_serial: ecu_serial.clone() });
        }
        if !seen.insert(ecu_serial.clone()) {
            return Err(ReportError::EcuTwice { ecu_serial: ecu_serial.clone() });
        }
    }
    for envelope in ecu_reports {
        let report = verify_report(Signed::from_envelope(envelope.clone()).map_err(ReportError::Malformed)?, inventory, now)?;
        if !seen.insert(report.ecu_serial.clone()) {
            return Err(ReportError::EcuTwice { ecu_serial: report.ecu_serial });
        }
        if report.ecu_serial == *primary_ecu_serial {
            primary = Some(report);
        } else {
            secondaries.push(report);
        }
    }
    if let Some(missing) = inventory.ecu_keys.keys().find(|ecu| !seen.contains(*ecu)) {
        return Err(ReportError::EcuMissing { ecu_serial: missing.clone() });
    }
    let primary = primary.ok_or_else(|| ReportError::EcuMissing { ecu_serial: primary_ecu_serial.clone() })?;
    Ok(VerifiedManifest { vehicle_id: vehicle_id.clone(), primary, secondaries, silent: silent_ecus.clone() })
}

fn verify_report(report: Signed<EcuReport>, inventory: &VehicleInventory, now: UnixTime) -> Result<EcuReport, ReportError> {
    let ecu_serial = report.signed.ecu_serial.clone();
    signed_by(&report, &ecu_serial, inventory)?;
    let report = report.signed;
    if let Some(&seen) = inventory.counters.get(&ecu_serial).filter(|&&seen| report.counter <= seen) {
        return Err(ReportError::Replayed { ecu_serial, found: report.counter, seen });
    }
    if report.time > now.plus_seconds(AHEAD_SECONDS_MAX) {
        return Err(ReportError::FromTheFuture { ecu_serial, time: report.time, now });
    }
    Ok(report)
}

fn signed_by<T: crate::metadata::Document>(
    signed: &Signed<T>,
    ecu_serial: &EcuSerial,
    inventory: &VehicleInventory,
) -> Result<(), ReportError> {
    let unknown = || ReportError::UnknownEcu { ecu_serial: ecu_serial.clone() };
    let key = inventory.ecu_keys.get(ecu_serial).ok_or_else(unknown)?;
    let invalid = |_| ReportError::Signature { ecu_serial: ecu_serial.clone() };
    signed.verify(&key.key_id(), key).map_err(invalid)
}
