//! The key that content keys are sealed to: made once, told to the server, and never in the way of a start.

use switchback_signing::{keys::sealing::EncryptionKey, metadata::vehicle::UpdateState};

use super::driving;
use crate::common::{car::Car, server::Server};

/// By the newest report.
fn reported(server: &Server) -> Option<EncryptionKey> {
    server.reports().last().and_then(|report| report.payload.encryption_key)
}

#[test]
fn a_vehicle_makes_its_key_once_and_tells_the_server_with_its_enrollment_and_each_report() {
    let (server, store, car) = driving();
    let key = server.lock().encryption_key.expect("it enrolled with a key");
    assert_eq!(reported(&server), Some(key));
    drop(car);
    let before = server.reports().len();
    let mut car = Car::open(&server, store.path());
    car.drive_while(|| server.reports().len() == before);
    assert_eq!(reported(&server), Some(key), "the same after a restart");
}

#[test]
fn a_vehicle_without_its_key_makes_another_and_its_next_report_tells_the_server() {
    let (server, store, car) = driving();
    let mut last = reported(&server);
    drop(car);
    let file = store.path().join("keys/vehicle-encryption.json");
    // As a vehicle from before there were such keys, and one whose disk has lost some bytes of it.
    for content in [None, Some("{\"keytype\":\"x25519\"")] {
        match content {
            None => std::fs::remove_file(&file).unwrap(),
            Some(content) => std::fs::write(&file, content).unwrap(),
        }
        let before = server.reports().len();
        let mut car = Car::open(&server, store.path());
        assert!(car.step().control_valid, "the model drives all the same");
        car.drive_while(|| server.reports().len() == before);
        assert!(reported(&server).is_some() && reported(&server) != last, "{content:?}");
        assert_eq!(server.reports().last().map(|report| report.payload.update), Some(UpdateState::Confirmed));
        last = reported(&server);
    }
}
