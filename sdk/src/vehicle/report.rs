//! What the vehicle tells the server: its signed version manifest.

use std::{collections::BTreeMap, ops::Range};

use switchback_signing::{
    keys::{Signer, SignerError, sealing::EncryptionKey},
    metadata::{
        json::Json,
        vehicle::{
            EcuReport, InstalledImage, Reason, ReleaseRef, ReportPayload, SilentEcu, UpdateState, VehicleVersionManifest, sign_manifest,
            sign_report,
        },
    },
    time::UnixTime,
    trust::VehicleIdentity,
};

use crate::store::{Occupant, Store, StoreError};

/// Report numbers that are taken from the store at a time. One write of the state for a thousand reports; a crash skips the rest.
const COUNTERS_RESERVED: u64 = 1000;

/// Numbers for reports: rising, never used twice.
#[derive(Debug)]
pub(super) struct Counters {
    reserved: Range<u64>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { reserved: 0..0 }
    }

    /// The next number, from 1 on.
    pub(super) fn next(&mut self, store: &mut Store) -> Result<u64, StoreError> {
        if self.reserved.is_empty() {
            self.reserved = store.reserve_report_counters(COUNTERS_RESERVED)?;
        }
        Ok(self.reserved.next().map_or(0, |number| number + 1))
    }

    /// The server has seen this number: its memory of the vehicle is longer than the vehicle's own.
    pub(super) fn skip(&mut self) {
        self.reserved = 0..0;
    }
}

/// What goes into one report.
pub(super) struct Facts<'a> {
    pub(super) identity: &'a VehicleIdentity,
    /// What the vehicle starts with.
    pub(super) installed: Option<&'a Occupant>,
    /// What drives now.
    pub(super) active: Option<ReleaseRef>,
    pub(super) candidate: Option<ReleaseRef>,
    pub(super) update: UpdateState,
    pub(super) reason: Option<Reason>,
    pub(super) attack: Option<Reason>,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) encryption_key: EncryptionKey,
    pub(super) number: u64,
    pub(super) now: UnixTime,
    /// What the vehicle's other ECUs have signed, and those that gave nothing.
    pub(super) secondaries: (Vec<Json>, Vec<SilentEcu>),
}

/// Signs the report of the Primary, and the manifest around it.
pub(super) fn manifest(facts: Facts<'_>, key: &dyn Signer) -> Result<Vec<u8>, SignerError> {
    let installed = facts.installed.map(|occupant| InstalledImage {
        path: occupant.target.clone(),
        length: occupant.index_length,
        sha256: occupant.index_sha256,
    });
    let report = EcuReport {
        ecu_serial: facts.identity.ecu_serial.clone(),
        installed,
        attack_detected: facts.attack,
        time: facts.now,
        counter: facts.number,
        payload: ReportPayload {
            release: facts.active,
            candidate: facts.candidate,
            update: facts.update,
            reason: facts.reason,
            counters: facts.counters,
            encryption_key: Some(facts.encryption_key),
        },
    };
    let (reports, silent_ecus) = facts.secondaries;
    let ecu_reports = [sign_report(&report, key)?].into_iter().chain(reports).collect();
    let manifest = VehicleVersionManifest {
        vehicle_id: facts.identity.vehicle_id.clone(),
        primary_ecu_serial: facts.identity.ecu_serial.clone(),
        ecu_reports,
        silent_ecus,
    };
    sign_manifest(&manifest, key)
}

pub(super) fn release_of(occupant: &Occupant) -> ReleaseRef {
    ReleaseRef { model: occupant.model.clone(), version: occupant.version.clone(), release_counter: occupant.release_counter }
}
