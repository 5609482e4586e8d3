//! What vehicles send. Parts `manifest` and `report` are signed with the keys of the inventory; an input without parts is read as it
//! stands.

use std::collections::BTreeMap;

use switchback_signing::{
    keys::Signer,
    metadata::{
        EcuSerial, Signed, VehicleId,
        json::{self, Json, canonical},
        vehicle::{EcuReport, EnrollmentRequest, EnrollmentResponse, MANIFEST_BYTES_MAX, VehicleVersionManifest},
    },
    trust::report::{VehicleInventory, verify_manifest},
};

use crate::{Verdict, documents::written, parts, seeds};

pub(crate) fn run(input: &[u8]) -> Verdict {
    let parts = parts::split(input);
    if parts.is_empty() {
        return unsigned(input);
    }
    let manifest = parts::named(&parts, "manifest").unwrap_or_default();
    let reports = parts.iter().filter(|(name, _)| name == "report").zip(1..);
    // Report 1 with key 1 and so on; a third and later ones with the keys again.
    let reports = reports.filter_map(|((_, content), number)| signed(json::parse(content, MANIFEST_BYTES_MAX).ok()?, 1 + (number - 1) % 2));
    let Ok(Json::Object(mut members)) = json::parse(manifest, MANIFEST_BYTES_MAX) else { return Verdict::Refused };
    members.insert("ecu_version_reports".into(), Json::Array(reports.collect()));
    let Some(envelope) = signed(Json::Object(members), 1) else { return Verdict::Refused };
    let bytes = json::to_bytes(&envelope);
    unsigned(&bytes);
    let inventory = inventory();
    let Ok(verified) = verify_manifest(&bytes, &inventory, seeds::NOW) else { return Verdict::Refused };
    assert_eq!(verified.vehicle_id(), &inventory.vehicle_id);
    let reports = || [verified.primary()].into_iter().chain(verified.secondaries());
    let silent = verified.silent().iter().map(|silent| &silent.ecu_serial);
    let mut heard_of: Vec<&EcuSerial> = reports().map(|report| &report.ecu_serial).chain(silent).collect();
    heard_of.sort();
    assert_eq!(heard_of, inventory.ecu_keys.keys().collect::<Vec<_>>(), "every ECU exactly once");
    assert_eq!(verified.primary().ecu_serial, inventory.primary_ecu_serial);
    assert!(reports().all(|report| report.counter > inventory.counters[&report.ecu_serial]), "a replay passed");
    Verdict::Accepted
}

fn unsigned(input: &[u8]) -> Verdict {
    let mut accepted = false;
    if let Ok(request) = EnrollmentRequest::parse(input) {
        assert_eq!(EnrollmentRequest::parse(&request.to_bytes()).expect("what we write we read"), request);
        accepted = true;
    }
    if let Ok(response) = EnrollmentResponse::parse(input) {
        assert_eq!(EnrollmentResponse::parse(&response.to_bytes()).expect("what we write we read"), response);
        accepted = true;
    }
    if let Ok(manifest) = VehicleVersionManifest::parse(input) {
        written(&manifest);
        for envelope in &manifest.signed.ecu_reports {
            if let Ok(report) = Signed::<EcuReport>::from_envelope(envelope.clone()) {
                written(&report);
            }
        }
        accepted = true;
    }
    accepted.into()
}

fn signed(signed: Json, key: u8) -> Option<Json> {
    let key = seeds::key(key);
    let signature = key.sign(&canonical(&signed)).ok()?.to_hex();
    let entry = Json::object([("keyid", Json::string(key.key_id().as_str())), ("sig", Json::string(signature))]);
    Some(Json::object([("signatures", Json::Array(vec![entry])), ("signed", signed)]))
}

/// A Primary and a Secondary; counter 4 was seen of both.
fn inventory() -> VehicleInventory {
    let ecu = |name: &str| EcuSerial::new(name).expect("a serial");
    VehicleInventory {
        vehicle_id: VehicleId::new("v-1").expect("an id"),
        primary_ecu_serial: ecu("ecu-1"),
        ecu_keys: BTreeMap::from([(ecu("ecu-1"), seeds::key(1).public_key()), (ecu("ecu-2"), seeds::key(2).public_key())]),
        counters: BTreeMap::from([(ecu("ecu-1"), 4), (ecu("ecu-2"), 4)]),
    }
}
