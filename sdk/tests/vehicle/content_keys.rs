//! The key that content keys are sealed to: made once, told to the server, and never in the way of a start. And what it is for.

use switchback_signing::{
    bundle::ContentKey,
    keys::sealing::{DecryptionKey, EncryptionKey, Recipient, SealedContentKey},
    metadata::{VehicleId, vehicle::UpdateState},
    testing::identity,
};

use super::{better, driving};
use crate::common::{
    car::{Car, power_cut},
    server::Server,
};

fn key() -> ContentKey {
    ContentKey::from_bytes([7; 32])
}

/// Publishes release 2, encrypted.
fn publish(server: &Server, weight_bytes: usize) {
    server.release_encrypted(&better(), 2, weight_bytes, &key());
}

/// Assigns it with this key, sealed to `to` for a vehicle.
fn assign(server: &Server, key: &ContentKey, to: EncryptionKey, vehicle_id: &str) {
    let (identity, vehicle_id) = (identity(), VehicleId::new(vehicle_id).unwrap());
    let mut state = server.lock();
    let path = "ultra/vla-2-2.0.0.index";
    let target = state.repositories.image.role("vla-ultra").targets[path].clone();
    let recipient = Recipient::Vehicle { vehicle_id: &vehicle_id, ecu_serial: &identity.ecu_serial };
    let sealed = SealedContentKey::seal(key, &to, recipient, &target.release().unwrap().bundle.sha256, &[9; 32]).unwrap();
    state.repositories.assign_target(path, target.with_content_key(&sealed));
}

fn own(server: &Server) -> EncryptionKey {
    server.lock().encryption_key.expect("it enrolled with a key")
}

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

#[test]
fn an_encrypted_release_is_opened_with_the_vehicles_key_and_drives() {
    let (server, store, mut car) = driving();
    publish(&server, 2 << 20);
    assign(&server, &key(), own(&server), "v-1");
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
    drop(car);
    let disk = std::fs::read_dir(store.path().join("keys")).unwrap();
    let held: Vec<Vec<u8>> = disk.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(held.len() > 1 && !held.iter().any(|file| file.windows(32).any(|bytes| bytes == [7; 32])), "no content key is on the disk");
    assert_eq!(Car::open(&server, store.path()).model().as_deref(), Some("vla-2"));
}

#[test]
fn a_power_cut_in_the_middle_of_an_encrypted_bundle_goes_on_where_it_was() {
    let (server, store, mut car) = driving();
    publish(&server, 6 << 20);
    assign(&server, &key(), own(&server), "v-1");
    server.lock().breaks_after = Some(4 << 20);
    car.vehicle.check_now();
    car.drive_until(|kind| matches!(kind, switchback_sdk::vehicle::EventKind::DownloadPaused), |_| {});
    let disk = power_cut(store.path());
    drop(car);
    server.lock().down = false;
    server.lock().ranges.clear();
    let mut car = Car::open(&server, disk.path());
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
    assert!(server.lock().ranges[0] > 1 << 20, "{:?}", server.lock().ranges);
}

#[test]
fn a_content_key_that_does_not_open_is_refused_by_name_before_anybody_is_asked_and_the_next_one_does() {
    let (server, _store, mut car) = driving();
    let stranger = DecryptionKey::from_seed(&[2; 32]).encryption_key();
    publish(&server, 0);
    for (to, vehicle_id) in [(stranger, "v-1"), (own(&server), "v-2")] {
        server.lock().ranges.clear();
        assign(&server, &key(), to, vehicle_id);
        car.vehicle.check_now();
        let reported = server.reports().len();
        if vehicle_id == "v-1" {
            let reason = car.reach(UpdateState::Refused).reason.unwrap();
            assert_eq!((reason.number, reason.name.as_str()), (191, "content_key_unopened"), "{}", reason.text);
        }
        let attacked = |server: &Server| server.reports()[reported..].iter().any(|report| report.attack_detected.is_some());
        car.drive_while(|| !attacked(&server));
        let attack = server.reports()[reported..].iter().find_map(|report| report.attack_detected.clone()).unwrap();
        assert!(attack.number == 191 && attack.text.starts_with("mix-and-match attack: "), "{attack:?}");
        assert!(server.lock().ranges.is_empty(), "no byte of the bundle was asked for");
        assert!(car.step().control_valid);
        assert_eq!(car.model().as_deref(), Some("vla-1"));
    }
    let since: Vec<_> = car.states().into_iter().rev().take_while(|state| *state != UpdateState::Confirmed).collect();
    assert!(!since.contains(&UpdateState::Offered), "{since:?}");
    assign(&server, &key(), own(&server), "v-1");
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}

#[test]
fn a_content_key_of_another_bundle_opens_nothing_and_the_right_one_does() {
    let (server, _store, mut car) = driving();
    publish(&server, 0);
    assign(&server, &ContentKey::from_bytes([8; 32]), own(&server), "v-1");
    car.vehicle.check_now();
    let reason = car.reach(UpdateState::Refused).reason.unwrap();
    assert_eq!(reason.name, "content_key_wrong", "{}", reason.text);
    assert!(car.step().control_valid);
    assign(&server, &key(), own(&server), "v-1");
    car.vehicle.check_now();
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}
