//! The root chain: appointed by the old keys and by the new, one version at a time.

use super::*;
use crate::{
    metadata::{Root, RootRole},
    testing::{key, public},
};

#[test]
fn a_chain_of_rotations_is_followed_to_its_end() {
    let (mut repositories, mut vehicle) = checked_world();
    for role in [RootRole::Root, RootRole::Targets, RootRole::Snapshot, RootRole::Timestamp, RootRole::Root] {
        repositories.director.rotate(role);
    }
    repositories.director.publish();
    assert_installs(vehicle.check(&repositories, NOW));
    assert_eq!(vehicle.disk.get(Repository::Director, "root.json"), Some(repositories.director.files["6.root.json"].as_slice()));
}

#[test]
fn a_root_that_the_disk_has_damaged_does_not_lock_the_vehicle_out() {
    let (mut repositories, mut vehicle) = checked_world();
    repositories.director.rotate(RootRole::Root);
    repositories.director.publish();
    assert_installs(vehicle.check(&repositories, NOW));
    let newest = repositories.director.files["2.root.json"].clone();
    let mut flipped = newest.clone();
    flipped[newest.len() / 2] ^= 1;
    for damaged in [Vec::new(), newest[..newest.len() / 2].to_vec(), flipped] {
        vehicle.disk.insert(Repository::Director, "root.json", damaged);
        assert_installs(vehicle.check(&repositories, NOW));
        assert_eq!(vehicle.disk.get(Repository::Director, "root.json"), Some(newest.as_slice()));
    }
}

#[test]
fn a_root_that_the_software_brings_counts_when_it_is_newer_than_the_one_on_the_disk() {
    let (mut repositories, mut vehicle) = checked_world();
    repositories.director.rotate(RootRole::Root);
    repositories.director.rotate(RootRole::Timestamp);
    repositories.director.publish();
    let TrustAnchors { image_root, .. } = repositories.anchors();
    let director_root = repositories.director.files["3.root.json"].clone();
    // The chain from the old root is broken; the new software was delivered with a root behind the gap.
    repositories.director.files.remove("2.root.json");
    let mut disk = MetadataCache::provision(&TrustAnchors { director_root, image_root });
    for (repository, file_name, bytes) in vehicle.disk.iter() {
        disk.insert(repository, file_name, bytes.to_vec());
    }
    disk.insert(Repository::Director, "root.json", repositories.director.files["1.root.json"].clone());
    vehicle.disk = disk;
    assert_installs(vehicle.check(&repositories, NOW));
}

#[test]
fn a_root_that_only_the_new_keys_signed_is_refused() {
    let (mut repositories, vehicle) = checked_world();
    repositories.director.root.version = 2;
    repositories.director.root.set_role(RootRole::Root, 1, &[public("thief")]);
    repositories.director.signers.insert("root".into(), Vec::from(["thief".into()]));
    repositories.director.publish_root();
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: root version 2 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}

#[test]
fn a_root_that_only_the_old_keys_signed_is_refused() {
    let (mut repositories, vehicle) = checked_world();
    repositories.director.root.version = 2;
    repositories.director.root.set_role(RootRole::Root, 1, &[public("new")]);
    repositories.director.publish_root();
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: root version 2 carries 0 of the 1 valid signatures that root version 2 requires",
    );
}

#[test]
fn a_root_that_skips_a_version_or_repeats_one_is_refused() {
    for (version, text) in [(3, "root version 3"), (1, "root version 1")] {
        let (mut repositories, vehicle) = checked_world();
        repositories.director.root.version = version;
        let bytes = repositories.director.sign("root", &repositories.director.root);
        repositories.director.files.insert("2.root.json".into(), bytes);
        assert_refused(
            &repositories,
            &vehicle,
            &alloc::format!("103 root_version (rollback attack): Director: {text} where version 2 must follow"),
        );
    }
}

#[test]
fn the_root_of_the_other_repository_is_refused() {
    let (mut repositories, vehicle) = checked_world();
    repositories.image.rotate(RootRole::Timestamp);
    let foreign = repositories.image.files["2.root.json"].clone();
    repositories.director.files.insert("2.root.json".into(), foreign);
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: root version 2 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}

#[test]
fn more_roots_than_one_check_follows_are_kept_and_continued_by_the_next_check() {
    let (mut repositories, mut vehicle) = world();
    for version in 2..=300 {
        repositories.director.root.version = version;
        repositories.director.publish_root();
    }
    assert_error(
        &vehicle.refusal(&repositories, NOW),
        "104 too_many_roots (endless data attack): Director: more than 256 new root versions; those up to 257 are kept, check again to go on",
    );
    assert_installs(vehicle.check(&repositories, NOW));
}

#[test]
fn an_expired_root_is_followed_but_not_trusted_at_the_end() {
    let (mut repositories, vehicle) = world();
    let late = NOW.plus_days(366);
    assert_error(
        &vehicle.clone().refusal(&repositories, late),
        "112 expired (freeze attack): Director: root expired at 2028-01-15T08:00:00Z and it is 2028-01-16T08:00:00Z; it must be signed anew, or the clock is wrong",
    );
    for repository in [&mut repositories.director, &mut repositories.image] {
        for expires in [&mut repository.targets.expires, &mut repository.snapshot.expires, &mut repository.timestamp.expires] {
            *expires = late.plus_days(1);
        }
        repository.root.version = 2;
        repository.root.expires = late.plus_days(1);
        repository.publish_root();
    }
    repositories.image.role("vla-ultra").expires = late.plus_days(1);
    repositories.image.publish();
    repositories.director.publish();
    assert_installs(vehicle.clone().check(&repositories, late));
}

/// A thief of the timestamp key pushes the version to its end; revoking the key lets honest, smaller versions in again.
#[test]
fn after_a_fast_forward_attack_rotating_the_key_recovers_the_vehicle() {
    let (mut repositories, mut vehicle) = checked_world();
    let honest = repositories.director.timestamp.version;
    repositories.director.timestamp.version = i64::MAX as u64 - 1;
    repositories.director.publish_timestamp();
    assert_installs(vehicle.check(&repositories, NOW));

    repositories.director.timestamp.version = honest;
    repositories.director.publish_timestamp();
    assert_error(
        &vehicle.clone().refusal(&repositories, NOW),
        "105 older_version (rollback attack): Director: timestamp version 3 is older than the trusted version 9223372036854775807",
    );
    repositories.director.rotate(RootRole::Timestamp);
    repositories.director.publish_timestamp();
    assert_installs(vehicle.check(&repositories, NOW));
    insta::assert_snapshot!(vehicle.log.iter().take(5).cloned().collect::<Vec<_>>().join("\n"), @r"
    get Director 2.root.json
    delete Director timestamp.json
    delete Director snapshot.json
    put Director root.json
    get Director 3.root.json
    ");
}

#[test]
fn a_key_that_joins_a_role_does_not_make_the_vehicle_forget() {
    let (mut repositories, mut vehicle) = checked_world();
    repositories.director.root.version = 2;
    let both = [public("director-timestamp"), public("second")];
    repositories.director.root.set_role(RootRole::Timestamp, 1, &both);
    repositories.director.publish_root();
    assert_installs(vehicle.check(&repositories, NOW));
    assert!(!vehicle.log().contains("delete"), "{}", vehicle.log());
}

#[test]
fn what_a_revoked_key_signed_is_refused_at_the_next_check() {
    let (mut repositories, vehicle) = checked_world();
    let stolen = repositories.director.files["timestamp.json"].clone();
    repositories.director.rotate(RootRole::Timestamp);
    repositories.director.files.insert("timestamp.json".into(), stolen);
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: timestamp version 2 carries 0 of the 1 valid signatures that root version 2 requires",
    );
}

#[test]
fn an_anchor_that_was_damaged_before_it_was_provisioned_is_refused() {
    let (repositories, mut vehicle) = world();
    let mut damaged: Root = repositories.director.root.clone();
    damaged.expires = NOW.plus_days(9_999);
    let bytes = crate::metadata::sign(&damaged, &[&key("nobody")]).unwrap();
    vehicle.disk = MetadataCache::provision(&TrustAnchors { director_root: bytes, ..repositories.anchors() });
    assert_error(
        &vehicle.refusal(&repositories, NOW),
        "102 threshold_not_met (arbitrary software attack): Director: root version 1 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}
