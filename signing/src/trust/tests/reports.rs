//! What the Director believes of a vehicle's report.

use alloc::collections::BTreeMap;

use super::{
    report::{ReportError, VehicleInventory, VerifiedManifest, verify_manifest},
    *,
};
use crate::{
    keys::sealing::DecryptionKey,
    metadata::{
        EcuSerial, VehicleId,
        vehicle::{
            EcuReport, InstalledImage, Reason, ReleaseRef, ReportPayload, SilentEcu, UpdateState, VehicleVersionManifest, sign_manifest,
            sign_report,
        },
    },
    testing::{identity, key, public},
};

fn inventory() -> VehicleInventory {
    VehicleInventory {
        vehicle_id: identity().vehicle_id,
        primary_ecu_serial: identity().ecu_serial,
        ecu_keys: BTreeMap::from([(identity().ecu_serial, public("vehicle")), (EcuSerial::new("ecu-2").unwrap(), public("camera"))]),
        counters: BTreeMap::from([(identity().ecu_serial, 6)]),
    }
}

fn ecu_report(ecu: &str) -> EcuReport {
    let installed = InstalledImage { path: INDEX.into(), length: 5, sha256: crate::digest::Sha256Digest::of(b"index") };
    let release = ReleaseRef { model: "vla-2".into(), version: "2.0.0".into(), release_counter: 5 };
    let reason = TrustError::DirectorDelegates.reason();
    EcuReport {
        ecu_serial: EcuSerial::new(ecu).unwrap(),
        installed: Some(installed),
        attack_detected: Some(reason.clone()),
        time: NOW,
        counter: 7,
        payload: ReportPayload {
            release: Some(release.clone()),
            candidate: Some(ReleaseRef { release_counter: 6, ..release }),
            update: UpdateState::RolledBack,
            reason: Some(Reason { number: 300, ..reason }),
            counters: BTreeMap::from([("steps".into(), 1_000)]),
            encryption_key: Some(DecryptionKey::from_seed(&[1; 32]).encryption_key()),
        },
    }
}

fn honest() -> [(EcuReport, &'static str); 2] {
    [(ecu_report("ecu-1"), "vehicle"), (ecu_report("ecu-2"), "camera")]
}

fn send(reports: &[(EcuReport, &str)], signer: &str, vehicle: &str, primary: &str) -> Result<Vec<EcuReport>, ReportError> {
    send_with(reports, &[], signer, vehicle, primary).map(|verified| [&[verified.primary().clone()], verified.secondaries()].concat())
}

fn send_with(
    reports: &[(EcuReport, &str)],
    silent: &[&str],
    signer: &str,
    vehicle: &str,
    primary: &str,
) -> Result<VerifiedManifest, ReportError> {
    let manifest = VehicleVersionManifest {
        vehicle_id: VehicleId::new(vehicle).unwrap(),
        primary_ecu_serial: EcuSerial::new(primary).unwrap(),
        ecu_reports: reports.iter().map(|(report, signer)| sign_report(report, &key(signer)).unwrap()).collect(),
        silent_ecus: silent.iter().map(|ecu| silent_ecu(ecu)).collect(),
    };
    let bytes = sign_manifest(&manifest, &key(signer)).unwrap();
    verify_manifest(&bytes, &inventory(), NOW)
}

fn silent_ecu(ecu: &str) -> SilentEcu {
    let reason = Reason { number: 615, name: "secondary_silent".into(), text: "no answer".into() };
    SilentEcu { ecu_serial: EcuSerial::new(ecu).unwrap(), reason }
}

#[track_caller]
fn check(reports: &[(EcuReport, &str)], expected: &str) {
    let error = send(reports, "vehicle", "v-1", "ecu-1").unwrap_err();
    assert_eq!(alloc::format!("{}: {error}", error.name()), expected);
}

#[test]
fn an_honest_report_arrives_whole() {
    let reports = send(&honest(), "vehicle", "v-1", "ecu-1").unwrap();
    assert_eq!(reports, honest().map(|(report, _)| report));
}

#[test]
fn a_report_in_another_name_is_refused() {
    let text = |result: Result<Vec<EcuReport>, ReportError>| {
        let error = result.unwrap_err();
        alloc::format!("{}: {error}", error.name())
    };
    assert_eq!(
        text(send(&honest(), "vehicle", "v-2", "ecu-1")),
        "manifest_other_vehicle: the manifest is of vehicle v-2, but it was sent by v-1"
    );
    assert_eq!(
        text(send(&honest(), "camera", "v-1", "ecu-2")),
        "manifest_other_primary: the manifest names ecu-2 as the Primary, but the inventory ecu-1"
    );
    assert_eq!(text(send(&honest(), "camera", "v-1", "ecu-1")), "manifest_signature: no valid signature of ECU ecu-1");
    let [primary, (camera, _)] = honest();
    check(&[primary, (camera, "vehicle")], "manifest_signature: no valid signature of ECU ecu-2");
}

#[test]
fn every_ecu_reports_once() {
    let [primary, camera] = honest();
    check(core::slice::from_ref(&primary), "manifest_ecu_missing: ECU ecu-2 is in the inventory but does not report");
    check(&[primary.clone(), camera.clone(), camera.clone()], "manifest_ecu_twice: ECU ecu-2 reports twice");
    check(
        &[primary, camera, (ecu_report("ecu-3"), "vehicle")],
        "manifest_unknown_ecu: ECU ecu-3 reports but is not in the inventory of this vehicle",
    );
}

#[test]
fn an_ecu_that_does_not_answer_is_named_and_no_report_stands_in_for_it() {
    let [primary, camera] = honest();
    let verified = send_with(core::slice::from_ref(&primary), &["ecu-2"], "vehicle", "v-1", "ecu-1").unwrap();
    assert_eq!(verified.silent(), [silent_ecu("ecu-2")]);
    assert_eq!((verified.primary(), verified.secondaries()), (&primary.0, &[][..]));
    let refused = |reports: &[(EcuReport, &str)], silent: &[&str]| {
        ToString::to_string(&send_with(reports, silent, "vehicle", "v-1", "ecu-1").unwrap_err())
    };
    assert_eq!(refused(&[primary.clone(), camera.clone()], &["ecu-2"]), "ECU ecu-2 reports twice");
    assert_eq!(refused(core::slice::from_ref(&primary), &["ecu-2", "ecu-2"]), "ECU ecu-2 reports twice");
    assert_eq!(refused(core::slice::from_ref(&primary), &["ecu-3"]), "ECU ecu-3 reports but is not in the inventory of this vehicle");
    assert_eq!(refused(&[camera], &["ecu-1"]), "the Primary ecu-1 sends the manifest but says that it gives no report");
}

#[test]
fn a_report_that_was_seen_before_or_comes_from_the_future_is_refused() {
    let [(primary, signer), camera] = honest();
    check(
        &[(EcuReport { counter: 6, ..primary.clone() }, signer), camera.clone()],
        "manifest_replayed: ECU ecu-1 reports with counter 6, but 6 was seen already",
    );
    check(
        &[(EcuReport { time: NOW.plus_seconds(301), ..primary }, signer), camera],
        "manifest_from_the_future: ECU ecu-1 reports for 2027-01-15T08:05:01Z, but it is 2027-01-15T08:00:00Z",
    );
}

#[test]
fn bytes_that_are_no_manifest_are_refused() {
    let error = verify_manifest(b"{}", &inventory(), NOW).unwrap_err();
    assert_eq!(error.to_string(), "the vehicle version manifest is malformed: file.signatures is missing");
    assert_eq!(error.name(), "manifest_malformed");
}
