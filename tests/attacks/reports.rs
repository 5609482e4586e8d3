//! Reports in another's name, of another time, or of half a vehicle: what the Director does not believe.

use switchback_signing::{
    metadata::vehicle::{EcuReport, Reason, ReportPayload, SilentEcu, VehicleVersionManifest, sign_manifest, sign_report},
    metadata::{EcuSerial, VehicleId},
    testing::{NOW, identity, key, public},
    time::UnixTime,
    trust::report::{VehicleInventory, verify_manifest},
};

fn serial(name: &str) -> EcuSerial {
    EcuSerial::new(name).unwrap()
}

/// A vehicle of two ECUs, each with its key, that has reported up to number 7.
fn inventory() -> VehicleInventory {
    let ecus = [identity().ecu_serial, serial("ecu-2")];
    VehicleInventory {
        vehicle_id: identity().vehicle_id,
        primary_ecu_serial: identity().ecu_serial,
        ecu_keys: ecus.iter().map(|ecu| (ecu.clone(), public(ecu.as_str()))).collect(),
        counters: ecus.into_iter().map(|ecu| (ecu, 7)).collect(),
    }
}

fn report(ecu: &str, counter: u64, time: UnixTime) -> EcuReport {
    EcuReport { ecu_serial: serial(ecu), installed: None, attack_detected: None, time, counter, payload: ReportPayload::idle() }
}

/// The Director's answer to reports, each with the name of the key that signs it, in a manifest that `signer` signs.
fn send(reports: &[(EcuReport, &str)], signer: &str, vehicle: &str) -> Result<(), &'static str> {
    send_of(reports, &[], identity().ecu_serial.as_str(), signer, vehicle)
}

/// The same of another Primary, and with ECUs that are said to give no report.
fn send_of(reports: &[(EcuReport, &str)], silent: &[&str], primary: &str, signer: &str, vehicle: &str) -> Result<(), &'static str> {
    let reason = Reason { number: 615, name: "secondary_silent".into(), text: "nobody on the bus".into() };
    let manifest = VehicleVersionManifest {
        vehicle_id: VehicleId::new(vehicle).unwrap(),
        primary_ecu_serial: serial(primary),
        ecu_reports: reports.iter().map(|(report, signer)| sign_report(report, &key(signer)).unwrap()).collect(),
        silent_ecus: silent.iter().map(|ecu| SilentEcu { ecu_serial: serial(ecu), reason: reason.clone() }).collect(),
    };
    let bytes = sign_manifest(&manifest, &key(signer)).unwrap();
    verify_manifest(&bytes, &inventory(), NOW).map(drop).map_err(|error| error.name())
}

/// Who is silent is said by the Primary alone, once, and of ECUs that there are.
#[test]
fn a26_a_primary_cannot_say_of_others_what_it_likes() {
    let own = [(report("ecu-1", 8, NOW), "ecu-1")];
    let both = [own[0].clone(), (report("ecu-2", 8, NOW), "ecu-2")];
    let other = [(report("ecu-2", 8, NOW), "ecu-2")];
    assert_eq!(send_of(&own, &["ecu-2"], "ecu-1", "ecu-1", "v-1"), Ok(()));
    for (answer, expected) in [
        (send_of(&both, &[], "ecu-2", "ecu-2", "v-1"), "manifest_other_primary"),
        (send_of(&own, &["ecu-2", "ecu-3"], "ecu-1", "ecu-1", "v-1"), "manifest_unknown_ecu"),
        (send_of(&other, &["ecu-1"], "ecu-1", "ecu-1", "v-1"), "manifest_primary_silent"),
        (send_of(&own, &["ecu-2", "ecu-2"], "ecu-1", "ecu-1", "v-1"), "manifest_ecu_twice"),
        (send_of(&both, &["ecu-2"], "ecu-1", "ecu-1", "v-1"), "manifest_ecu_twice"),
    ] {
        assert_eq!(answer, Err(expected));
    }
    assert_eq!(send_of(&both, &[], "ecu-1", "ecu-1", "v-1"), Ok(()), "the vehicle reports on");
}

#[test]
fn a26_a_forged_replayed_or_incomplete_report_is_not_believed() {
    let (first, second) = ((report("ecu-1", 8, NOW), "ecu-1"), (report("ecu-2", 8, NOW), "ecu-2"));
    let honest = [first.clone(), second.clone()];
    assert_eq!(send(&honest, "ecu-1", "v-1"), Ok(()));
    let replayed = [(report("ecu-1", 7, NOW), "ecu-1"), second.clone()];
    let from_the_future = [(report("ecu-1", 8, NOW.plus_days(2)), "ecu-1"), second.clone()];
    let unknown = [first.clone(), second.clone(), (report("ecu-3", 8, NOW), "ecu-3")];
    let alone = [first.clone()];
    let as_another_ecu = [first.clone(), (second.0.clone(), "ecu-1")];
    let twice = [first.clone(), first.clone(), second];
    let answers = [
        (send(&honest, "thief", "v-1"), "manifest_signature"),
        (send(&as_another_ecu, "ecu-1", "v-1"), "manifest_signature"),
        (send(&honest, "ecu-1", "v-2"), "manifest_other_vehicle"),
        (send(&replayed, "ecu-1", "v-1"), "manifest_replayed"),
        (send(&from_the_future, "ecu-1", "v-1"), "manifest_from_the_future"),
        (send(&alone, "ecu-1", "v-1"), "manifest_ecu_missing"),
        (send(&unknown, "ecu-1", "v-1"), "manifest_unknown_ecu"),
        (send(&twice, "ecu-1", "v-1"), "manifest_ecu_twice"),
    ];
    for (answer, expected) in answers {
        assert_eq!(answer, Err(expected));
    }
    assert_eq!(send(&honest, "ecu-1", "v-1"), Ok(()), "the vehicle reports on");
}
