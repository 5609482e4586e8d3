//! What the Director, or a thief of its keys, may not do: choose what nobody has signed, or what is not meant for this vehicle.

use switchback_signing::{
    digest::{Sha256Digest, Sha512Digest},
    metadata::{
        Custom, DelegatedRole, Delegations, EcuAssignment, EcuSerial, HardwareId, Hashes, Region, TargetMeta, Tier, VehicleId, Version,
        json::Json,
    },
    testing::{TestRepositories, identity, public},
    trust::Attack::{ArbitrarySoftware, MixAndMatch},
};

use super::scene::{Scene, attack, index_path};

/// What the engineers list as release 3.
pub(super) fn listed(all: &mut TestRepositories) -> TargetMeta {
    all.image.role("vla-ultra").targets[&index_path(3)].clone()
}

/// The engineers sign release 3 with other words, and the Director assigns it.
pub(super) fn described(all: &mut TestRepositories, change: impl FnOnce(&mut Custom)) {
    let meta = listed(all);
    let mut release = meta.release().unwrap();
    change(&mut release);
    all.publish_target(&index_path(3), TargetMeta { custom: TargetMeta::of_release(b"", &release).custom, ..meta });
    all.assign(&index_path(3));
}

fn ecu(serial: &str, hardware: &str) -> EcuAssignment {
    EcuAssignment { ecu_serial: EcuSerial::new(serial).unwrap(), hardware_id: HardwareId::new(hardware).unwrap() }
}

#[test]
fn a10_the_director_alone_cannot_make_a_release() {
    attack(|all| {
        let meta = listed(all);
        all.assign_target("ultra/of-the-thief.index", meta);
    })
    .refused_as(140, "target_unknown", ArbitrarySoftware);
}

#[test]
fn a10_the_director_alone_cannot_change_a_release() {
    let mut scene = attack(|all| {
        let mut meta = listed(all);
        meta.hashes = TargetMeta::of_digest(0, Sha256Digest::of(b"of the thief")).hashes;
        all.assign_target(&index_path(3), meta);
    });
    scene.refuses(144, "target_digest_differs", ArbitrarySoftware);
    scene.attack(|all| {
        let mut meta = listed(all);
        meta.length += 1;
        all.assign_target(&index_path(3), meta);
    });
    scene.refused_as(143, "target_length_differs", ArbitrarySoftware);
}

/// All keys of the Image repository are stolen; the Director still assigns what it knows.
#[test]
fn a10_the_image_repository_alone_cannot_change_a_release() {
    attack(|all| {
        let mut meta = listed(all);
        meta.hashes = TargetMeta::of_digest(0, Sha256Digest::of(b"of the thief")).hashes;
        all.publish_target(&index_path(3), meta);
    })
    .refused_as(144, "target_digest_differs", ArbitrarySoftware);
}

#[test]
fn a10_a_release_that_is_described_in_two_ways_is_refused() {
    attack(|all| {
        let meta = listed(all);
        let mut release = meta.release().unwrap();
        release.regions = vec![Region::new("eu").unwrap()];
        all.assign_target(&index_path(3), TargetMeta { custom: TargetMeta::of_release(b"", &release).custom, ..meta });
    })
    .refused_as(145, "custom_differs", MixAndMatch);
}

/// Digests that only one of the two lists, or that nobody here can compute: they could be of two files.
#[test]
fn a10_digests_that_the_repositories_do_not_share_are_refused() {
    let unknown = || Hashes { other: [("blake2b".to_owned(), Json::string("00"))].into(), ..Hashes::default() };
    let sha512 = || Hashes { sha512: Some(Sha512Digest::of(b"of the thief")), ..Hashes::default() };
    for hashes in [unknown(), sha512()] {
        let scene = attack(|all| {
            let meta = TargetMeta { hashes, ..listed(all) };
            all.assign_target(&index_path(3), meta);
        });
        scene.refused_as(142, "target_digest_missing", ArbitrarySoftware);
    }
}

/// Of several digests every one counts: between the repositories, and for the bytes.
#[test]
fn a10_every_digest_that_is_listed_is_checked() {
    let with = |meta: &TargetMeta, sha512: &[u8]| {
        let hashes = Hashes { sha512: Some(Sha512Digest::of(sha512)), ..meta.hashes.clone() };
        TargetMeta { hashes, ..meta.clone() }
    };
    attack(|all| {
        let meta = listed(all);
        all.publish_target(&index_path(3), with(&meta, b"one file"));
        all.assign_target(&index_path(3), with(&meta, b"another one"));
    })
    .refused_as(144, "target_digest_differs", ArbitrarySoftware);
    attack(|all| {
        let meta = with(&listed(all), b"one file");
        all.publish_target(&index_path(3), meta);
        all.assign(&index_path(3));
    })
    .refused_as(161, "index_digest_differs", ArbitrarySoftware);
}

/// A release for software that this vehicle does not have: no attack by itself, but what would become of it nobody has tried.
#[test]
fn a16_a_release_for_other_software_is_refused() {
    type Change = fn(&mut Custom);
    let changes: [(Change, u32, &str); 3] = [
        (|release| release.contract_version = 99, 154, "contract_unknown"),
        (|release| release.sdk_min = Version::new(99, 0, 0), 155, "sdk_too_old"),
        (|release| release.onnxruntime_min = Version::new(99, 0, 0), 156, "runtime_too_old"),
    ];
    for (change, number, name) in changes {
        let mut scene = attack(|all| described(all, change));
        scene.car.vehicle.check_now();
        scene.meets(number, name).recovers();
    }
}

#[test]
fn a15_metadata_of_another_vehicle_is_refused() {
    attack(|all| {
        all.director.targets.vehicle_id = Some(VehicleId::new("v-2").unwrap());
        all.director.publish();
    })
    .refused_as(131, "other_vehicle", MixAndMatch);
}

#[test]
fn a15_empty_targets_that_name_no_vehicle_are_refused() {
    attack(|all| {
        all.director.targets.vehicle_id = None;
        all.director.targets.targets.clear();
        all.director.publish();
    })
    .refused_as(132, "vehicle_unnamed", MixAndMatch);
}

#[test]
fn a16_a_release_for_other_hardware_is_refused() {
    attack(|all| described(all, |release| release.hardware_ids = vec![HardwareId::new("orin").unwrap()])).refused_as(
        150,
        "wrong_hardware",
        ArbitrarySoftware,
    );
}

#[test]
fn a16_a_release_for_another_tier_is_refused() {
    attack(|all| described(all, |release| release.tier = Tier::new("ultra-se").unwrap())).refused_as(151, "wrong_tier", ArbitrarySoftware);
}

#[test]
fn a16_a_release_for_another_region_is_refused() {
    attack(|all| described(all, |release| release.regions = vec![Region::new("cn").unwrap()])).refused_as(
        152,
        "wrong_region",
        ArbitrarySoftware,
    );
}

#[test]
fn a17_two_images_for_one_ecu_are_refused() {
    attack(|all| {
        let own = EcuAssignment { ecu_serial: identity().ecu_serial, hardware_id: identity().hardware_id };
        let second = all.image.role("vla-ultra").targets[&index_path(2)].clone().assigned_to(&own);
        all.director.targets.targets.insert(index_path(2), second);
        all.director.publish();
    })
    .refused_as(133, "ecu_twice", MixAndMatch);
}

#[test]
fn a17_an_image_for_an_ecu_that_is_not_in_this_vehicle_is_refused() {
    let mut scene = Scene::new();
    for (assignment, number, name, attack) in
        [(ecu("ecu-9", "thor"), 134, "unknown_ecu", MixAndMatch), (ecu("ecu-1", "orin"), 135, "other_ecu_hardware", ArbitrarySoftware)]
    {
        scene.attack(|all| {
            let meta = listed(all).assigned_to(&assignment);
            all.director.targets.targets.insert(index_path(3), meta);
            all.director.publish();
        });
        scene.refuses(number, name, attack);
    }
    scene.recovers();
}

#[test]
fn a18_a_director_that_delegates_is_refused() {
    attack(|all| {
        let mut delegations = Delegations::default();
        delegations.add(DelegatedRole::new("friend", 1, &[public("thief")], &["*"]), &[public("thief")]);
        all.director.targets.delegations = Some(delegations);
        all.director.publish();
    })
    .refused_as(130, "director_delegates", ArbitrarySoftware);
}

#[test]
fn a22_a_target_path_that_could_leave_its_folder_is_refused() {
    let mut scene = Scene::new();
    for path in ["ultra/../../etc/passwd", "ultra/.hidden", "ultra//x", "ultra/a\\b", "ultra/a?b#c", "ultra/%2e%2e%2fx"] {
        scene.attack(|all| {
            let mut delegations = Delegations::default();
            let all_engineers = ["alice", "bob", "carol"].map(public);
            delegations.add(DelegatedRole::new("vla-ultra", 2, &all_engineers, &["ultra/*", "ultra/*/*", "ultra/*/*/*/*"]), &all_engineers);
            all.image.targets.delegations = Some(delegations);
            let meta = listed(all);
            all.publish_target(path, meta);
            all.assign(path);
        });
        scene.refuses(141, "target_path", ArbitrarySoftware);
    }
    scene.attack(|all| described(all, |release| release.bundle.path = "../../../etc/shadow".into()));
    scene.refused_as(141, "target_path", ArbitrarySoftware);
}
