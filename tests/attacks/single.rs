//! Attacks in whose way a single check stands: a thief of one key, a disk that has lost a file, digests that fit where words do not.

use switchback_signing::{
    metadata::{Hashes, RootRole},
    testing::{NOW, TestRepositories, TestVehicle, public},
    trust::{
        Attack::{ArbitrarySoftware, MixAndMatch, Rollback},
        Outcome, Repository,
    },
};

use super::scene::{BOTH, Scene, earlier, index_path, seen};

/// The timestamp that is shown lists no digest of the snapshot: then any snapshot of that version would do.
#[test]
fn a09_a_timestamp_without_a_digest_of_the_snapshot_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            repository(all).timestamp.snapshot.hashes = Hashes::default();
            repository(all).publish_timestamp();
        });
        scene.refuses(111, "digest_missing", MixAndMatch);
    }
    scene.recovers();
}

/// A thief of the timestamp key lists the right bytes under another version: the next honest version would be older.
#[test]
fn a09_a_snapshot_of_another_version_than_the_timestamp_lists_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let all = repository(all);
            let bytes = all.files[&format!("{}.snapshot.json", all.snapshot.version)].clone();
            all.timestamp.snapshot.version += 1;
            all.files.insert(format!("{}.snapshot.json", all.timestamp.snapshot.version), bytes);
            all.publish_timestamp();
        });
        scene.refuses(108, "other_version", MixAndMatch);
    }
    scene.recovers();
}

/// The same with the length.
#[test]
fn a09_a_file_of_another_length_than_is_listed_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let listed = &mut repository(all).timestamp.snapshot.length;
            *listed = listed.map(|length| length + 1);
            repository(all).publish_timestamp();
        });
        scene.refuses(109, "other_length", MixAndMatch);
    }
    scene.recovers();
}

/// A thief of the timestamp key signs a snapshot with it.
#[test]
fn a14_a_snapshot_that_another_role_has_signed_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let stolen = repository(all).signers["timestamp"].clone();
            repository(all).signers.insert("snapshot".into(), stolen);
            repository(all).publish_snapshot();
        });
        scene.refuses(102, "threshold_not_met", ArbitrarySoftware);
    }
    scene.recovers();
}

/// One key for two roles, as small teams have it, and a snapshot that says all that a timestamp says.
#[test]
fn a14_a_snapshot_that_reads_like_a_timestamp_is_refused() {
    let mut scene = Scene::new();
    scene.attack(|all| {
        let director = &mut all.director;
        let listed = director.timestamp.snapshot.clone();
        director.snapshot.meta = [("snapshot.json".to_owned(), listed)].into();
        director.snapshot.version = director.timestamp.version + 1;
        let keys = director.signers["timestamp"].clone();
        director.signers.insert("snapshot".into(), keys);
        let polyglot = director.sign("snapshot", &director.snapshot);
        director.files.insert("timestamp.json".into(), polyglot);
    });
    scene.refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

/// A vehicle after its check of the repositories as they were at first, and those repositories.
fn before() -> (TestRepositories, TestVehicle) {
    let before = seen();
    let mut vehicle = TestVehicle::new(&before);
    assert!(matches!(vehicle.check(&before, NOW), Outcome::Install(_)));
    (before, vehicle)
}

fn refused_as_older(vehicle: &TestVehicle, shown: &TestRepositories, what: &str) {
    let error = vehicle.clone().refusal(shown, NOW);
    assert_eq!((error.number(), error.name()), (105, "older_version"), "{error}");
    // Several checks would do in the end; the first one stops it before anything of it is kept.
    assert!(error.to_string().contains(what), "{error}");
    // And takes what is honest afterwards.
    let mut honest = seen();
    for repository in BOTH {
        (0..8).for_each(|_| repository(&mut honest).publish());
    }
    assert!(matches!(vehicle.clone().check(&honest, NOW), Outcome::Install(target) if target.path() == index_path(2)));
}

/// Whoever can delete a file of the vehicle must not be able to turn it back by that: what is left says enough.
#[test]
fn a07_an_old_snapshot_is_refused_by_a_vehicle_that_lost_the_newer_one() {
    let (repositories, mut vehicle) = before();
    vehicle.disk.remove(Repository::Director, "snapshot.json");
    let mut shown = earlier();
    shown.director.timestamp.version = repositories.director.timestamp.version;
    shown.director.publish_timestamp();
    refused_as_older(&vehicle, &shown, ": snapshot version");
}

#[test]
fn a07_old_targets_are_refused_by_a_vehicle_that_lost_its_snapshot() {
    for (repository, of) in BOTH.into_iter().zip([Repository::Director, Repository::Image]) {
        let (mut shown, mut vehicle) = before();
        vehicle.disk.remove(of, "snapshot.json");
        let old = repository(&mut earlier()).snapshot.meta["targets.json"].clone();
        repository(&mut shown).snapshot.meta.insert("targets.json".into(), old);
        repository(&mut shown).publish_snapshot();
        refused_as_older(&vehicle, &shown, ": targets version");
    }
}

/// A root on the disk that was altered is not taken for an anchor, and the one of the provisioning leads to the newest again.
#[test]
fn a20_a_root_that_was_altered_on_the_disk_is_not_followed() {
    let (repositories, mut vehicle) = before();
    let honest = String::from_utf8(repositories.director.files["1.root.json"].clone()).unwrap();
    let hex = |name: &str| public(name).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let thief = honest.replace(&hex("director-timestamp"), &hex("thief"));
    assert_ne!(thief, honest);
    vehicle.disk.insert(Repository::Director, "root.json", thief.into_bytes());
    let mut newer = repositories.clone();
    newer.director.publish();
    assert!(matches!(vehicle.check(&newer, NOW), Outcome::Install(_)));
}

/// A thief of the snapshot key alone pushes its version to its end. The timestamp's key is not replaced, and what it signed lists that
/// version: with the snapshot's key replaced, both must be forgotten.
#[test]
fn a11_after_a_fast_forward_of_the_snapshot_its_new_key_is_enough() {
    let mut scene = Scene::new();
    scene.server.lock().repositories = {
        let mut all = seen();
        all.director.snapshot.version = u64::from(u32::MAX);
        all.director.publish_snapshot();
        all
    };
    scene.checks();
    scene.attack(|_| {});
    scene.refuses(105, "older_version", Rollback);
    scene.attack(|all| {
        all.director.rotate(RootRole::Snapshot);
        all.director.publish();
    });
    scene.now_honest();
    scene.recovers();
}
