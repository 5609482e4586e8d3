//! Whoever has the vehicle's disk for a while: what lies on it is held against what is signed, each time.

use std::{fs, path::Path};

use switchback_sdk::vehicle::EventKind;
use switchback_signing::{
    metadata::{Hashes, MetaFile, RootRole, json::Json, sign},
    testing::{NOW, TestRepositories, TestVehicle, key},
    trust::{Attack::MixAndMatch, MetadataCache, Outcome, Repository},
};

use super::scene::{BOTH, Scene, earlier, seen};

/// The slot of the model that drives.
fn with_slot(store: &Path, change: impl FnOnce(&Path)) {
    let mut slots = fs::read_dir(store.join("slots")).unwrap().map(|entry| entry.unwrap().path());
    let is_active = |slot: &std::path::PathBuf| fs::read_to_string(slot.join("manifest.json")).is_ok_and(|text| text.contains("vla-2"));
    change(&slots.find(is_active).unwrap());
}

/// The vehicle stands, and somebody changes the model that it will load.
#[test]
fn a25_a_model_that_was_altered_while_the_vehicle_stood_is_not_loaded() {
    type Change = fn(&Path);
    let changes: [(Change, u32, &str); 5] = [
        (|slot| edit(&slot.join("model.onnx"), |bytes| *bytes.last_mut().unwrap() ^= 1), 330, "content_hash"),
        (|slot| edit(&slot.join("model.onnx"), |bytes| bytes.extend([0xc0, 0x3e, 0x01])), 331, "content_length"),
        (|slot| fs::remove_file(slot.join("selftest/inputs.safetensors")).unwrap(), 332, "content_missing"),
        (|slot| fs::write(slot.join("weights.bin"), b"of nobody").unwrap(), 333, "content_foreign"),
        (|slot| edit(&slot.join("manifest.json"), |bytes| bytes.push(b'\n')), 330, "content_hash"),
    ];
    for (change, number, name) in changes {
        let mut scene = Scene::new().restart_after(|store| with_slot(store, change));
        let event = scene
            .car
            .drive_until(|kind| matches!(kind, EventKind::ModelLost | EventKind::Checked), |output| assert!(!output.control_valid));
        let reason = event.reason.unwrap_or_else(|| panic!("the model was loaded, not {name}"));
        assert_eq!((event.kind, reason.number, reason.name.as_str()), (EventKind::ModelLost, number, name), "{reason:?}");
        scene.recovers();
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// A vehicle after its check of the repositories.
fn vehicle_of(all: &TestRepositories) -> TestVehicle {
    let mut vehicle = TestVehicle::new(all);
    assert!(matches!(vehicle.check(all, NOW), Outcome::Install(_)));
    vehicle
}

/// What no key of the repository has signed is no measure, wherever it lies: otherwise one write would be the end of all updates.
#[test]
fn a11_a_version_that_was_written_on_the_disk_holds_nothing_up() {
    for (repository, of) in BOTH.into_iter().zip([Repository::Director, Repository::Image]) {
        let mut all = seen();
        let mut vehicle = vehicle_of(&all);
        let (mut timestamp, mut snapshot) = (repository(&mut all).timestamp.clone(), repository(&mut all).snapshot.clone());
        (timestamp.version, snapshot.version) = (u64::from(u32::MAX), u64::from(u32::MAX));
        let snapshot = sign(&snapshot, &[&key("thief")]).unwrap();
        timestamp.snapshot = MetaFile::of(u64::from(u32::MAX), &snapshot);
        vehicle.disk.insert(of, "timestamp.json", sign(&timestamp, &[&key("thief")]).unwrap());
        vehicle.disk.insert(of, "snapshot.json", snapshot);
        repository(&mut all).publish();
        assert!(matches!(vehicle.check(&all, NOW), Outcome::Install(_)));
    }
}

/// The disk is given back a root whose keys were stolen and revoked, by somebody who also keeps the newer ones from the vehicle. It was
/// manufactured with a newer one.
#[test]
fn a07_an_old_root_on_the_disk_is_not_gone_back_to() {
    let old = seen();
    let mut new = old.clone();
    new.director.rotate(RootRole::Timestamp);
    new.director.publish();
    let mut anchors = new.anchors();
    anchors.director_root = new.director.files["2.root.json"].clone();
    let mut vehicle = vehicle_of(&old);
    vehicle.disk = MetadataCache::provision(&anchors);
    vehicle.disk.insert(Repository::Director, "root.json", old.director.files["1.root.json"].clone());
    let error = vehicle.clone().refusal(&old, NOW);
    assert_eq!((error.number(), error.name()), (102, "threshold_not_met"), "{error}");
    assert!(matches!(vehicle.check(&new, NOW), Outcome::Install(_)));
}

/// Without the timestamp that it had, the vehicle still has the snapshot.
#[test]
fn a07_an_old_snapshot_is_refused_by_a_vehicle_that_lost_its_timestamp() {
    for (repository, of) in BOTH.into_iter().zip([Repository::Director, Repository::Image]) {
        let mut all = seen();
        let mut vehicle = vehicle_of(&all);
        vehicle.disk.remove(of, "timestamp.json");
        *repository(&mut all) = repository(&mut earlier()).clone();
        let error = vehicle.clone().refusal(&all, NOW);
        assert_eq!((error.number(), error.name()), (105, "older_version"), "{error}");
        assert!(error.to_string().contains(": snapshot version"), "{error}");
        let mut honest = seen();
        BOTH.into_iter().for_each(|repository| repository(&mut honest).publish());
        assert!(matches!(vehicle.check(&honest, NOW), Outcome::Install(_)));
    }
}

/// Without the targets that it had, the vehicle still has the snapshot that listed them.
#[test]
fn a07_old_targets_are_refused_by_a_vehicle_that_lost_the_newer_ones() {
    for (repository, of) in BOTH.into_iter().zip([Repository::Director, Repository::Image]) {
        let mut all = seen();
        let mut vehicle = vehicle_of(&all);
        vehicle.disk.remove(of, "targets.json");
        let old = repository(&mut earlier()).snapshot.meta["targets.json"].clone();
        repository(&mut all).snapshot.meta.insert("targets.json".into(), old);
        repository(&mut all).publish_snapshot();
        let error = vehicle.clone().refusal(&all, NOW);
        assert_eq!((error.number(), error.name()), (105, "older_version"), "{error}");
        assert!(error.to_string().contains(": targets.json version"), "{error}");
        let mut honest = seen();
        (0..2).for_each(|_| repository(&mut honest).publish());
        assert!(matches!(vehicle.check(&honest, NOW), Outcome::Install(_)));
    }
}

/// A snapshot that lists digests which nobody here can compute vouches for nothing.
#[test]
fn a09_a_file_whose_listed_digests_are_unknown_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let listed = repository(all).snapshot.meta.get_mut("targets.json").unwrap();
            listed.hashes = Hashes { other: [("blake2b".to_owned(), Json::string("00"))].into(), ..Hashes::default() };
            repository(all).publish_snapshot();
        });
        scene.refuses(111, "digest_missing", MixAndMatch);
    }
    scene.recovers();
}
