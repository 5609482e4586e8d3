//! Rollback, freeze and mix-and-match of timestamp, snapshot and targets.

use super::*;
use crate::{
    digest::Sha256Digest,
    metadata::{Hashes, MetaFile},
};

/// The Director's files of before and after its next publication, with the vehicle that saw the later ones.
fn before_and_after() -> (TestRepositories, TestRepositories, TestVehicle) {
    let (before, _) = world();
    let (mut after, mut vehicle) = world();
    after.director.publish();
    assert_installs(vehicle.check(&after, NOW));
    (before, after, vehicle)
}

#[test]
fn an_old_timestamp_is_refused() {
    let (before, _, vehicle) = before_and_after();
    assert_refused(
        &before,
        &vehicle,
        "105 older_version (rollback attack): Director: timestamp version 2 is older than the trusted version 3",
    );
}

#[test]
fn an_old_snapshot_under_a_new_timestamp_is_refused() {
    let (mut before, after, vehicle) = before_and_after();
    before.director.timestamp.version = after.director.timestamp.version;
    before.director.publish_timestamp();
    assert_refused(
        &before,
        &vehicle,
        "105 older_version (rollback attack): Director: snapshot version 2 is older than the trusted version 3",
    );
}

#[test]
fn old_targets_under_a_new_snapshot_are_refused() {
    let (_, mut after, vehicle) = before_and_after();
    let old = MetaFile::of(2, &after.director.files["2.targets.json"]);
    after.director.snapshot.meta.insert("targets.json".into(), old);
    after.director.publish_snapshot();
    assert_refused(
        &after,
        &vehicle,
        "105 older_version (rollback attack): Director: targets.json version 2 is older than the trusted version 3",
    );
}

#[test]
fn a_vehicle_that_lost_its_snapshot_still_refuses_old_targets() {
    let (_, mut after, mut vehicle) = before_and_after();
    let old = MetaFile::of(2, &after.director.files["2.targets.json"]);
    after.director.snapshot.meta.insert("targets.json".into(), old);
    after.director.publish_snapshot();
    vehicle.disk.remove(Repository::Director, "snapshot.json");
    assert_refused(
        &after,
        &vehicle,
        "105 older_version (rollback attack): Director: targets version 2 is older than the trusted version 3",
    );
}

#[test]
fn a_snapshot_that_drops_a_role_is_refused() {
    let (mut repositories, vehicle) = checked_world();
    repositories.image.snapshot.meta.remove("vla-ultra.json");
    repositories.image.publish_snapshot();
    assert_refused(
        &repositories,
        &vehicle,
        "106 file_removed (rollback attack): Image repository: the snapshot no longer lists vla-ultra.json, which the trusted one does",
    );
}

#[test]
fn a_role_that_no_snapshot_lists_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.image.snapshot.meta.remove("vla-ultra.json");
    repositories.image.publish_snapshot();
    assert_refused(
        &repositories,
        &vehicle,
        "107 file_unlisted (mix-and-match attack): Image repository: the snapshot does not list vla-ultra.json",
    );
}

#[test]
fn targets_of_another_version_length_or_digest_than_the_snapshot_lists_are_refused() {
    let check = |change: fn(&mut MetaFile), expected: &str| {
        let (mut repositories, vehicle) = world();
        let bytes = repositories.director.files["2.targets.json"].clone();
        repositories.director.files.insert("9.targets.json".into(), bytes);
        change(repositories.director.snapshot.meta.get_mut("targets.json").unwrap());
        repositories.director.publish_snapshot();
        assert_refused(&repositories, &vehicle, expected);
    };
    check(
        |listed| listed.version = 9,
        "108 other_version (mix-and-match attack): Director: targets version 2 where the snapshot lists version 9",
    );
    let length = world().0.director.files["2.targets.json"].len();
    check(
        |listed| listed.length = Some(listed.length.unwrap() + 1),
        &alloc::format!("109 other_length (mix-and-match attack): Director: targets has {length} bytes where {} are listed", length + 1),
    );
    let digest = Sha256Digest::of(&world().0.director.files["2.targets.json"]);
    let listed = Sha256Digest::of(b"another");
    check(
        |listed| listed.hashes.sha256 = Some(Sha256Digest::of(b"another")),
        &alloc::format!("110 other_digest (mix-and-match attack): Director: targets has SHA-256 {digest} where {listed} is listed"),
    );
}

#[test]
fn a_snapshot_of_another_version_than_the_timestamp_lists_is_refused() {
    let (mut repositories, vehicle) = world();
    let bytes = repositories.director.files["2.snapshot.json"].clone();
    repositories.director.files.insert("9.snapshot.json".into(), bytes);
    repositories.director.timestamp.snapshot.version = 9;
    repositories.director.publish_timestamp();
    assert_refused(
        &repositories,
        &vehicle,
        "108 other_version (mix-and-match attack): Director: snapshot version 2 where the timestamp lists version 9",
    );
}

/// Two snapshots of one version, both signed: only the one that the timestamp means is taken.
#[test]
fn a_snapshot_of_other_bytes_than_the_timestamp_lists_is_refused() {
    let (mut repositories, vehicle) = world();
    let listed = Sha256Digest::of(&repositories.director.files["2.snapshot.json"]);
    let mut twin = repositories.director.snapshot.clone();
    twin.expires = twin.expires.plus_days(1);
    let bytes = repositories.director.sign("snapshot", &twin);
    let found = Sha256Digest::of(&bytes);
    repositories.director.files.insert("2.snapshot.json".into(), bytes);
    assert_refused(
        &repositories,
        &vehicle,
        &alloc::format!("110 other_digest (mix-and-match attack): Director: snapshot has SHA-256 {found} where {listed} is listed"),
    );
}

/// Whoever holds the timestamp key alone cannot make a snapshot.
#[test]
fn a_snapshot_that_the_timestamp_lists_but_the_snapshot_key_did_not_sign_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.director.signers.insert("snapshot".into(), Vec::from(["director-timestamp".into()]));
    repositories.director.publish_snapshot();
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: snapshot version 3 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}

#[test]
fn a_vehicle_that_lost_its_snapshot_still_refuses_an_older_one() {
    let (mut before, after, mut vehicle) = before_and_after();
    before.director.timestamp.version = after.director.timestamp.version;
    before.director.publish_timestamp();
    vehicle.disk.remove(Repository::Director, "snapshot.json");
    assert_refused(
        &before,
        &vehicle,
        "105 older_version (rollback attack): Director: snapshot version 2 is older than the trusted version 3",
    );
}

#[test]
fn a_timestamp_without_the_snapshots_digest_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.director.timestamp.snapshot.hashes = Hashes::default();
    repositories.director.publish_timestamp();
    assert_refused(
        &repositories,
        &vehicle,
        "111 digest_missing (mix-and-match attack): Director: no SHA-256 or SHA-512 of snapshot is listed",
    );
}

#[test]
fn each_role_is_held_against_its_own_expiry() {
    let check = |change: fn(&mut TestRepositories), role: &str| {
        let (mut repositories, vehicle) = world();
        change(&mut repositories);
        assert_refused(
            &repositories,
            &vehicle,
            &alloc::format!(
                "112 expired (freeze attack): {role} expired at 2027-01-15T08:00:00Z and it is 2027-01-15T08:00:00Z; it must be signed anew, or the clock is wrong"
            ),
        );
    };
    check(
        |world| {
            world.director.timestamp.expires = NOW;
            world.director.publish();
        },
        "Director: timestamp",
    );
    check(
        |world| {
            world.director.snapshot.expires = NOW;
            world.director.publish();
        },
        "Director: snapshot",
    );
    check(
        |world| {
            world.image.targets.expires = NOW;
            world.image.publish();
        },
        "Image repository: targets",
    );
    check(
        |world| {
            world.image.role("vla-ultra").expires = NOW;
            world.image.publish();
        },
        "Image repository: vla-ultra",
    );
}

#[test]
fn an_expired_timestamp_does_not_replace_the_one_that_is_held() {
    let (mut repositories, mut vehicle) = checked_world();
    let held = vehicle.disk.clone();
    repositories.director.timestamp.expires = NOW;
    repositories.director.publish_timestamp();
    assert!(matches!(vehicle.refusal(&repositories, NOW), TrustError::Expired { .. }));
    assert_eq!(vehicle.disk, held);
}

#[test]
fn a_repository_that_is_frozen_is_noticed_when_the_timestamp_expires() {
    let (repositories, mut vehicle) = checked_world();
    assert_error(
        &vehicle.refusal(&repositories, NOW.plus_days(1)),
        "112 expired (freeze attack): Director: timestamp expired at 2027-01-16T08:00:00Z and it is 2027-01-16T08:00:00Z; it must be signed anew, or the clock is wrong",
    );
}

#[test]
fn a_snapshot_that_was_altered_on_disk_is_fetched_again() {
    let (repositories, mut vehicle) = checked_world();
    vehicle.disk.insert(Repository::Director, "snapshot.json", b"{}".to_vec());
    assert_installs(vehicle.check(&repositories, NOW));
    assert!(vehicle.log().contains("get Director 2.snapshot.json"), "{}", vehicle.log());
}
