//! What the server and the command line refuse before a vehicle has to.

use super::{
    publish::{Publication, SnapshotEntry, check_delegated, check_root_step, check_targets, next_snapshot, next_timestamp},
    *,
};
use crate::{
    digest::Sha256Digest,
    metadata::{Companion, DelegatedRole, EcuImage, HardwareId, MetaFile, RootRole, Snapshot, TargetMeta, Targets, sign},
    testing::{custom, key, public},
};

fn to<'a>(repositories: &'a TestRepositories, previous: Option<&'a [u8]>) -> Publication<'a> {
    Publication { repository: Repository::Image, root: &repositories.image.files["1.root.json"], previous, now: NOW }
}

/// The role `vla-ultra` with one more target, signed by two engineers.
fn role_with(repositories: &mut TestRepositories, path: &str, target: TargetMeta) -> Vec<u8> {
    let mut role = repositories.image.role("vla-ultra").clone();
    role.version += 1;
    role.targets.insert(path.into(), target);
    repositories.image.sign("vla-ultra", &role)
}

#[test]
fn what_a_vehicle_would_accept_may_be_published() {
    let (mut repositories, _) = world();
    let (old_targets, old_role) =
        (repositories.image.files["1.targets.json"].clone(), repositories.image.files["2.vla-ultra.json"].clone());
    let targets = check_targets(&repositories.image.files["2.targets.json"], &to(&repositories, Some(&old_targets))).unwrap();
    let release = TargetMeta::of_release(b"next", &custom(6));
    let new_role = role_with(&mut repositories, "ultra/vla-3.index", release);
    let role = check_delegated("vla-ultra", &targets, &new_role, &to(&repositories, Some(&old_role))).unwrap();
    assert_eq!(role.version, 3);

    let previous = Snapshot { version: 2, ..repositories.image.snapshot.clone() };
    let entry = SnapshotEntry { role: "vla-ultra", version: role.version, bytes: &new_role };
    let snapshot = next_snapshot(Repository::Image, Some(&previous), &[entry], NOW.plus_days(7)).unwrap();
    assert_eq!((snapshot.version, snapshot.meta.len()), (3, 2));
    assert_eq!(snapshot.meta["vla-ultra.json"], MetaFile::of(3, &new_role));
    let bytes = sign(&snapshot, &[&key("image-snapshot")]).unwrap();
    let timestamp = next_timestamp(Some(&repositories.image.timestamp), &snapshot, &bytes, NOW.plus_days(1));
    assert_eq!((timestamp.version, timestamp.snapshot), (repositories.image.timestamp.version + 1, MetaFile::of(3, &bytes)));
}

#[test]
fn a_snapshot_that_takes_a_role_back_is_not_made() {
    let (repositories, _) = world();
    let entry = SnapshotEntry { role: "targets", version: 1, bytes: b"" };
    assert_error(
        &next_snapshot(Repository::Image, Some(&repositories.image.snapshot), &[entry], NOW).unwrap_err(),
        "105 older_version (rollback attack): Image repository: targets.json version 1 is older than the trusted version 2",
    );
}

#[test]
fn a_version_is_published_once() {
    let (repositories, _) = world();
    let published = repositories.image.files["2.targets.json"].clone();
    assert_error(
        &check_targets(&published, &to(&repositories, Some(&published))).unwrap_err(),
        "105 older_version (rollback attack): Image repository: targets version 2 is older than the trusted version 3",
    );
}

#[test]
fn a_role_is_held_to_its_delegation() {
    let (mut repositories, _) = world();
    let targets = repositories.image.targets.clone();
    let outside = role_with(&mut repositories, "ultra-se/vla-3.index", TargetMeta::of_release(b"3", &custom(6)));
    assert_error(
        &check_delegated("vla-ultra", &targets, &outside, &to(&repositories, None)).unwrap_err(),
        "170 outside_delegation (arbitrary software attack): role vla-ultra lists ultra-se/vla-3.index, which its delegation does not cover",
    );
    assert_error(
        &check_delegated("oem-x", &targets, &outside, &to(&repositories, None)).unwrap_err(),
        "171 role_unknown (arbitrary software attack): targets do not delegate to a role oem-x",
    );
    let nobody = Targets::new(1, NOW.plus_days(1));
    assert!(matches!(check_delegated("vla-ultra", &nobody, &outside, &to(&repositories, None)), Err(TrustError::RoleUnknown { .. })));
    let unsafe_path = role_with(&mut repositories, "ultra/..", TargetMeta::of_digest(1, Sha256Digest::of(b"1")));
    assert!(matches!(check_delegated("vla-ultra", &targets, &unsafe_path, &to(&repositories, None)), Err(TrustError::TargetPath { .. })));
    repositories.image.signers.insert("vla-ultra".into(), Vec::from(["alice".into()]));
    let lonely = role_with(&mut repositories, "ultra/vla-3.index", TargetMeta::of_release(b"3", &custom(6)));
    assert!(matches!(
        check_delegated("vla-ultra", &targets, &lonely, &to(&repositories, None)),
        Err(TrustError::ThresholdNotMet { valid: 1, threshold: 2, .. })
    ));
}

#[test]
fn expired_metadata_is_not_published() {
    let (mut repositories, _) = world();
    repositories.image.targets.expires = NOW;
    repositories.image.publish();
    assert!(matches!(
        check_targets(&repositories.image.files["3.targets.json"], &to(&repositories, None)),
        Err(TrustError::Expired { .. })
    ));
}

#[test]
fn a_threshold_that_nobody_can_reach_is_not_published() {
    let (mut repositories, _) = world();
    let keys = [public("alice"), public("bob")];
    repositories.image.targets.delegations.as_mut().unwrap().add(DelegatedRole::new("vla-se", 3, &keys, &["se/*"]), &keys);
    repositories.image.publish();
    assert_error(
        &check_targets(&repositories.image.files["3.targets.json"], &to(&repositories, None)).unwrap_err(),
        "172 threshold_unreachable (no attack): role vla-se needs 3 signatures but names 2 usable keys",
    );
    repositories.image.root.set_role(RootRole::Targets, 2, &[public("alice")]);
    repositories.image.publish_root();
    assert!(matches!(
        check_root_step(Repository::Image, None, &repositories.image.files["1.root.json"], NOW),
        Err(TrustError::ThresholdUnreachable { keys: 1, threshold: 2, .. })
    ));
}

#[test]
fn a_root_is_published_as_the_next_link_of_the_chain() {
    let (mut repositories, _) = world();
    let first = repositories.image.files["1.root.json"].clone();
    assert_eq!(check_root_step(Repository::Image, None, &first, NOW).unwrap().version, 1);
    repositories.image.rotate(RootRole::Root);
    let second = repositories.image.files["2.root.json"].clone();
    assert_eq!(check_root_step(Repository::Image, Some(&first), &second, NOW).unwrap().version, 2);
    assert_error(
        &check_root_step(Repository::Image, Some(&first), &first, NOW).unwrap_err(),
        "103 root_version (rollback attack): Image repository: root version 1 where version 2 must follow",
    );
}

#[test]
fn a_release_is_published_with_what_it_needs_or_not_at_all() {
    let cam_a = || HardwareId::new("cam-a").unwrap();
    let needs =
        Companion { hardware_id: cam_a(), path: "ultra/cam-2.cal".into(), length: 3, sha256: Sha256Digest::of(b"cal"), release_counter: 6 };
    let block = EcuImage { release_counter: 6, hardware_ids: alloc::vec![cam_a()] };
    let image = |block: &EcuImage| TargetMeta::of_image(b"cal", block);
    let publish = |image: Option<TargetMeta>| {
        let (mut repositories, _) = world();
        if let Some(image) = image {
            let role = repositories.image.role("vla-ultra");
            role.targets.insert("ultra/cam-2.cal".into(), image);
        }
        let custom = crate::metadata::Custom { companions: alloc::vec![needs.clone()], ..custom(6) };
        let role = role_with(&mut repositories, "ultra/vla-3.index", TargetMeta::of_release(b"3", &custom));
        let targets = repositories.image.targets.clone();
        check_delegated("vla-ultra", &targets, &role, &to(&repositories, None)).map(|role| role.targets.len())
    };
    assert!(publish(Some(image(&block))).is_ok());
    let other_hardware = EcuImage { hardware_ids: alloc::vec![HardwareId::new("cam-b").unwrap()], ..block.clone() };
    for (image, problem) in [
        (None, "does not list"),
        (Some(TargetMeta::of_image(b"cal of another model", &block)), "lists with other bytes"),
        (Some(image(&other_hardware)), "lists for other hardware"),
        (Some(image(&EcuImage { release_counter: 5, ..block.clone() })), "lists with another release counter"),
    ] {
        let expected = alloc::format!(
            "180 companion_unlisted (mix-and-match attack): ultra/vla-3.index needs ultra/cam-2.cal on cam-a, which vla-ultra {problem}"
        );
        assert_error(&publish(image).unwrap_err(), &expected);
    }
    let long = Companion { length: 16 * 1024 * 1024 + 1, ..needs.clone() };
    let release = TargetMeta::of_release(b"3", &crate::metadata::Custom { companions: alloc::vec![long], ..custom(6) });
    let (mut repositories, _) = world();
    let (role, targets) = (role_with(&mut repositories, "ultra/vla-3.index", release), repositories.image.targets.clone());
    assert_error(
        &check_delegated("vla-ultra", &targets, &role, &to(&repositories, None)).unwrap_err(),
        "184 companion_too_long (endless data attack): ultra/cam-2.cal has 16777217 bytes, and an image for a Secondary at most 16777216",
    );
    let bytes_alone = TargetMeta::of_digest(3, Sha256Digest::of(b"cal"));
    assert!(matches!(publish(Some(bytes_alone)), Err(TrustError::CustomMalformed { path, .. }) if path == "ultra/cam-2.cal"));
}
