//! The Director's word, the Image repository's word, and the vehicle that they must fit.

use super::*;
use crate::{
    digest::{Sha256Digest, Sha512Digest},
    metadata::{
        Custom, DelegatedRole, Delegations, EcuAssignment, EcuSerial, HardwareId, Hashes, Region, TargetMeta, Tier, VehicleId, Version,
    },
    testing::{custom, identity, public},
};

/// The Director changes its own targets, validly signed.
#[track_caller]
fn director_says(change: impl Fn(&mut crate::metadata::Targets), expected: &str) {
    let (mut repositories, vehicle) = world();
    change(&mut repositories.director.targets);
    repositories.director.publish();
    assert_refused(&repositories, &vehicle, expected);
}

fn ecu(serial: &str, hardware: &str) -> EcuAssignment {
    EcuAssignment { ecu_serial: EcuSerial::new(serial).unwrap(), hardware_id: HardwareId::new(hardware).unwrap() }
}

fn target(content: &[u8]) -> TargetMeta {
    TargetMeta::of_release(content, &custom(5))
}

#[test]
fn a_director_that_delegates_is_refused() {
    director_says(
        |targets| {
            let mut delegations = Delegations::default();
            delegations.add(DelegatedRole::new("helper", 1, &[public("helper")], &["*"]), &[public("helper")]);
            targets.delegations = Some(delegations);
        },
        "130 director_delegates (arbitrary software attack): the Director's targets delegate, which Uptane forbids",
    );
}

#[test]
fn another_vehicles_targets_are_refused() {
    director_says(
        |targets| targets.vehicle_id = Some(VehicleId::new("v-2").unwrap()),
        "131 other_vehicle (mix-and-match attack): the Director's targets are for vehicle v-2, but this is v-1",
    );
    director_says(
        |targets| {
            targets.vehicle_id = None;
            targets.targets.clear();
        },
        "132 vehicle_unnamed (mix-and-match attack): the Director's targets list nothing and name no vehicle, so they could be another vehicle's",
    );
}

#[test]
fn an_ecu_is_assigned_one_image_and_is_in_this_vehicle() {
    director_says(
        |targets| {
            targets.targets.insert("ultra/another.index".into(), target(b"2").assigned_to(&ecu("ecu-1", "thor")));
        },
        "133 ecu_twice (mix-and-match attack): the Director assigns both ultra/another.index and ultra/vla-2-2.0.0.index to ECU ecu-1",
    );
    director_says(
        |targets| {
            targets.targets.insert("ultra/another.index".into(), target(b"2").assigned_to(&ecu("ecu-9", "thor")));
        },
        "134 unknown_ecu (mix-and-match attack): the Director assigns ultra/another.index to ECU ecu-9, which is not in this vehicle",
    );
    director_says(
        |targets| {
            targets.targets.insert(INDEX.into(), target(b"index").assigned_to(&ecu("ecu-1", "orin")));
        },
        "135 other_ecu_hardware (arbitrary software attack): the Director takes ECU ecu-1 for orin, but it is thor",
    );
    director_says(
        |targets| {
            targets.targets.insert(INDEX.into(), target(b"index"));
        },
        "146 custom_malformed (arbitrary software attack): ultra/vla-2-2.0.0.index: custom.ecuIdentifiers is missing",
    );
}

/// Whoever holds the Director's keys alone cannot bring software of their own.
#[test]
fn what_the_image_repository_does_not_list_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.assign_target("ultra/malware.index", target(b"malware"));
    assert_refused(
        &repositories,
        &vehicle,
        "140 target_unknown (arbitrary software attack): the Image repository does not list ultra/malware.index for this hardware",
    );
}

#[test]
fn bytes_that_the_two_repositories_describe_differently_are_refused() {
    let check = |director: TargetMeta, expected: &str| {
        let (mut repositories, vehicle) = world();
        repositories.assign_target(INDEX, director);
        assert_refused(&repositories, &vehicle, expected);
    };
    check(
        target(b"index of somebody else"),
        "143 target_length_differs (arbitrary software attack): ultra/vla-2-2.0.0.index has 22 bytes for the Director and 5 for the Image repository",
    );
    let (director, image) = (Sha256Digest::of(b"INDEX"), Sha256Digest::of(b"index"));
    check(
        target(b"INDEX"),
        &alloc::format!(
            "144 target_digest_differs (arbitrary software attack): ultra/vla-2-2.0.0.index has SHA-256 {director} for the Director and {image} for the Image repository"
        ),
    );
    let other = std::collections::BTreeMap::from([("blake3".into(), crate::metadata::json::Json::string("00"))]);
    let hashes = Hashes { other, ..Hashes::default() };
    check(
        TargetMeta { hashes, ..target(b"index") },
        "142 target_digest_missing (arbitrary software attack): Director: ultra/vla-2-2.0.0.index has no SHA-256 or SHA-512",
    );
    let sha512 = Some(Sha512Digest::of(b"index"));
    check(
        TargetMeta { hashes: Hashes { sha512, ..Hashes::default() }, ..target(b"index") },
        "142 target_digest_missing (arbitrary software attack): Image repository: ultra/vla-2-2.0.0.index has no SHA-512",
    );
}

/// A Director's thief relabels an old or foreign release; the offline block does not follow.
#[test]
fn a_description_that_the_two_repositories_do_not_share_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.assign_target(INDEX, TargetMeta::of_release(b"index", &custom(6)));
    let error = vehicle.clone().refusal(&repositories, NOW);
    assert_eq!((error.number(), error.name(), error.attack()), (145, "custom_differs", Some(Attack::MixAndMatch)));
    let text = error.to_string();
    assert!(text.starts_with(r#"ultra/vla-2-2.0.0.index is described by the Director with {"bundle":{"#), "{text}");
    assert!(text.contains(r#""releaseCounter":6"#) && text.ends_with(r#""version":"5.0.0"}"#), "{text}");
    repositories.assign_target(INDEX, TargetMeta::of_digest(5, Sha256Digest::of(b"index")));
    let text = vehicle.clone().refusal(&repositories, NOW).to_string();
    assert!(text.starts_with("ultra/vla-2-2.0.0.index is described by the Director with nothing and by the Image"), "{text}");
}

#[test]
fn a_target_without_a_release_is_refused() {
    let (mut repositories, vehicle) = world();
    repositories.publish_target(INDEX, TargetMeta::of_digest(5, Sha256Digest::of(b"index")));
    repositories.assign(INDEX);
    assert_refused(
        &repositories,
        &vehicle,
        "146 custom_malformed (arbitrary software attack): ultra/vla-2-2.0.0.index: custom.shallMatch is missing",
    );
}

#[test]
fn a_target_path_that_could_leave_its_folder_is_refused() {
    let (anybodys, ours) = ("a relative path without empty segments, . and ..", "segments of A-Z a-z 0-9 . _ - joined by /");
    for (path, rule) in [
        ("ultra/..", anybodys),
        ("ultra/", anybodys),
        ("ultra/a\\b", anybodys),
        ("ultra/.hidden", ours),
        ("ultra/a b", ours),
        ("ultra/%2e%2e", ours),
    ] {
        let (mut repositories, vehicle) = world();
        repositories.publish_release(path, b"index");
        repositories.assign(path);
        assert_refused(
            &repositories,
            &vehicle,
            &alloc::format!("141 target_path (arbitrary software attack): {path:?} is not an acceptable target path ({rule})"),
        );
    }
}

/// Both repositories agree, but the release is not for this vehicle.
#[track_caller]
fn release_says(change: impl Fn(&mut Custom), expected: Option<&str>) {
    let (mut repositories, mut vehicle) = world();
    let mut release = custom(5);
    change(&mut release);
    repositories.publish_target(INDEX, TargetMeta::of_release(b"index", &release));
    repositories.assign(INDEX);
    vehicle.installed.floor = ReleaseFloor(5);
    match expected {
        Some(expected) => assert_refused(&repositories, &vehicle, expected),
        None => assert_eq!(assert_installs(vehicle.check(&repositories, NOW)).release(), &release),
    }
}

#[test]
fn a_release_for_another_vehicle_is_refused() {
    release_says(
        |release| release.hardware_ids = Vec::from([HardwareId::new("orin").unwrap(), HardwareId::new("thor-2").unwrap()]),
        Some("150 wrong_hardware (arbitrary software attack): ultra/vla-2-2.0.0.index is for hardware orin, thor-2, but this is thor"),
    );
    release_says(
        |release| release.tier = Tier::new("ultra-se").unwrap(),
        Some("151 wrong_tier (arbitrary software attack): ultra/vla-2-2.0.0.index is for tier ultra-se, but this vehicle is ultra"),
    );
    release_says(
        |release| release.regions = Vec::from([Region::new("cn").unwrap()]),
        Some("152 wrong_region (arbitrary software attack): ultra/vla-2-2.0.0.index is for regions cn, but this vehicle is in eu"),
    );
    release_says(|release| release.regions = Vec::from([Region::new("cn").unwrap(), identity().region]), None);
    release_says(|release| release.hardware_ids.push(HardwareId::new("orin").unwrap()), None);
}

#[test]
fn a_release_below_the_confirmed_one_is_refused() {
    release_says(
        |release| release.release_counter = 4,
        Some("153 release_below_floor (rollback attack): ultra/vla-2-2.0.0.index has release counter 4, below 5 of the confirmed release"),
    );
    release_says(|release| release.release_counter = 5, None);
}

#[test]
fn a_release_that_this_software_cannot_run_is_refused() {
    release_says(
        |release| release.contract_version = 2,
        Some(
            "154 contract_unknown (no attack): ultra/vla-2-2.0.0.index needs model contract version 2; this vehicle knows 1; update the vehicle's software first",
        ),
    );
    release_says(
        |release| release.sdk_min = Version::new(0, 1, 1),
        Some(
            "155 sdk_too_old (no attack): ultra/vla-2-2.0.0.index needs switchback 0.1.1, this is 0.1.0; update the vehicle's software first",
        ),
    );
    release_says(
        |release| release.onnxruntime_min = Version::new(1, 24, 0),
        Some(
            "156 runtime_too_old (no attack): ultra/vla-2-2.0.0.index needs ONNX Runtime 1.24.0, this is 1.23.0; update the vehicle's software first",
        ),
    );
}

/// The Image repository's keys alone reach no vehicle.
#[test]
fn what_the_director_does_not_assign_is_not_installed() {
    let mut repositories = TestRepositories::new();
    repositories.publish_release("ultra/malware.index", b"malware");
    let mut vehicle = TestVehicle::new(&repositories);
    assert_eq!(vehicle.check(&repositories, NOW), Outcome::NothingNew);
}
