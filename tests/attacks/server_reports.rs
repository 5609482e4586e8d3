//! Reports in another's name, of another time, or of half a vehicle, posted to the real server.

use switchback_signing::{
    keys::Ed25519Signer,
    metadata::{EcuSerial, vehicle::EcuReport},
};
use switchback_tests::paper::{PaperVehicle, ask, now};

use super::server_scene::{Field, ID};

#[test]
fn a26_the_server_believes_no_forged_replayed_or_incomplete_report() {
    let mut field = Field::new();
    let paper = PaperVehicle::enroll(&field.desk, field.server.url(), "paper-1");
    let thief = Ed25519Signer::from_seed([66; 32]);
    let report = |counter| paper.report(counter, now());
    let own = |counter| paper.manifest(&[(report(counter), &paper.key)], &paper.key);
    let first = own(5);
    assert_eq!(paper.send_manifest_of("paper-1", &first).status, 200);
    let (counter, known) = (|| field.desk.vehicle("paper-1")["report_counter"].clone(), field.desk.vehicle(ID));
    assert_eq!(counter(), 5);

    let from_the_future = paper.report(6, now().plus_days(2));
    let other_ecu = EcuReport { ecu_serial: EcuSerial::new("ecu-9").unwrap(), ..report(6) };
    let refused = [
        ("signed by another key", paper.manifest(&[(report(6), &paper.key)], &thief), 422, "manifest_signature"),
        ("with a report by another key", paper.manifest(&[(report(6), &thief)], &paper.key), 422, "manifest_signature"),
        ("without the Primary", paper.manifest(&[], &paper.key), 422, "manifest_ecu_missing"),
        (
            "with an ECU that nobody knows",
            paper.manifest(&[(report(6), &paper.key), (other_ecu, &thief)], &paper.key),
            422,
            "manifest_unknown_ecu",
        ),
        ("with an ECU twice", paper.manifest(&[(report(6), &paper.key), (report(7), &paper.key)], &paper.key), 422, "manifest_ecu_twice"),
        ("from the future", paper.manifest(&[(from_the_future, &paper.key)], &paper.key), 422, "manifest_from_the_future"),
        ("sent twice", first, 409, "manifest_replayed"),
        ("of a lower counter", own(4), 409, "manifest_replayed"),
        ("no manifest at all", b"{}".to_vec(), 400, "manifest_malformed"),
    ];
    for (what, manifest, status, problem) in refused {
        let answer = paper.send_manifest_of("paper-1", &manifest);
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{what}");
        assert_eq!(counter(), 5, "{what}");
    }
    // In the name of the vehicle that drives: with the wrong key, and with no key at all.
    let answer = paper.send_manifest_of(ID, &own(100));
    assert_eq!((answer.status, answer.problem().as_str()), (401, "signature_invalid"));
    let answer = ask(field.server.url(), "PUT", &format!("/v1/director/{ID}/manifest"), &[], &own(100));
    assert_eq!(answer.status, 401);
    assert_eq!(field.desk.vehicle(ID)["installed"], known["installed"]);
    // Each kind is written down once for the vehicle that it is about, however often it comes.
    let told = |id: &str| -> Vec<String> {
        let vehicle = field.desk.vehicle(id);
        let events = vehicle["attacks"].as_array().unwrap().iter().filter(|event| event["kind"] == "report_refused");
        events.map(|event| event["text"].as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
    };
    let kinds = [
        "manifest_signature",
        "manifest_ecu_missing",
        "manifest_unknown_ecu",
        "manifest_ecu_twice",
        "manifest_from_the_future",
        "manifest_replayed",
        "manifest_malformed",
    ];
    assert_eq!(told("paper-1"), kinds);
    assert_eq!(told(ID), ["signature_invalid"]);

    assert_eq!(paper.send_manifest_of("paper-1", &own(6)).status, 200, "the vehicle reports on");
    assert_eq!(counter(), 6);
    field.offer(2);
    field.takes(2);
}
