//! Updates that come in a file: marked, for one vehicle or for a tier, with a life of their own.

use super::*;
use crate::{
    metadata::{OfflineScope, Region, RootRole, TargetMeta, Tier},
    testing::{custom, identity},
};

/// Repositories as they are copied into a file for vehicle `v-1`.
fn file() -> (TestRepositories, TestVehicle) {
    let (mut repositories, vehicle) = world();
    mark(&mut repositories);
    (repositories, vehicle)
}

fn mark(repositories: &mut TestRepositories) {
    for repository in [&mut repositories.director, &mut repositories.image] {
        repository.timestamp = repository.timestamp.clone().for_offline_update();
        repository.publish();
    }
}

fn scope(tier: &str, region: &str) -> OfflineScope {
    OfflineScope { tier: Tier::new(tier).unwrap(), region: Region::new(region).unwrap() }
}

/// The same for every vehicle of a tier in a region.
fn file_for(tier: &str, region: &str) -> (TestRepositories, TestVehicle) {
    let (mut repositories, vehicle) = world();
    let mut targets = repositories.director.targets.clone().for_scope(&scope(tier, region));
    targets.vehicle_id = None;
    targets.targets = [(INDEX.to_string(), TargetMeta::of_release(b"index", &custom(5)))].into();
    repositories.director.targets = targets;
    mark(&mut repositories);
    (repositories, vehicle)
}

/// Runs the check of a file as the vehicle's library does: on the disk goes what the check says.
fn check(vehicle: &mut TestVehicle, file: &TestRepositories) -> Outcome {
    let (identity, installed) = (vehicle.identity.clone(), vehicle.installed);
    let mut check = MetadataCheck::of_offline_update(vehicle.disk.clone(), identity, installed, Vec::new(), NOW);
    loop {
        match check.next() {
            Action::Fetch(request) => check.fetched(file.fetch(&request)),
            Action::Persist { repository, file_name, bytes } => {
                vehicle.disk.insert(repository, &file_name, bytes);
                check.persisted();
            }
            Action::Remove { repository, file_name } => {
                vehicle.disk.remove(repository, &file_name);
                check.persisted();
            }
            Action::Finished(outcome) => {
                assert_eq!(check.into_cache(), vehicle.disk, "what came in a file is no measure for the next check over the network");
                return outcome;
            }
        }
    }
}

#[track_caller]
fn refused(vehicle: &TestVehicle, file: &TestRepositories, expected: &str) {
    match check(&mut vehicle.clone(), file) {
        Outcome::Refused(error) => assert_error(&error, expected),
        outcome => panic!("expected a refusal, found {outcome:?}"),
    }
}

#[test]
fn a_file_for_this_vehicle_or_its_tier_is_believed() {
    for (file, mut vehicle) in [file(), file_for("ultra", "eu")] {
        let target = assert_installs(check(&mut vehicle, &file));
        assert_eq!((target.path(), target.release().release_counter), (INDEX, 5));
        vehicle.installed.image_sha256 = Some(target.sha256());
        assert_eq!(check(&mut vehicle, &file), Outcome::NothingNew);
    }
}

#[test]
fn what_a_file_says_is_no_measure_for_the_network_and_the_other_way_round() {
    let (online, mut vehicle) = checked_world();
    // Made long ago: its versions are lower than what the vehicle holds.
    let (old, _) = file();
    let mut newer = online.clone();
    (0..5).for_each(|_| newer.director.publish());
    assert_installs(vehicle.check(&newer, NOW));
    let held = vehicle.disk.clone();
    assert_installs(check(&mut vehicle, &old));
    assert_eq!(vehicle.disk, held, "only roots are kept of what came in a file");
    assert_installs(vehicle.check(&newer, NOW));
}

#[test]
fn marked_metadata_is_believed_from_a_file_alone() {
    let (file, vehicle) = file();
    assert_refused(
        &file,
        &vehicle,
        "118 offline_mark (freeze attack): Director: the timestamp is an offline update's, and came over the network; it is believed only where it belongs",
    );
    let (online, vehicle) = world();
    refused(
        &vehicle,
        &online,
        "118 offline_mark (freeze attack): Director: the timestamp is no offline update's, and came in a file; it is believed only where it belongs",
    );
    // Nor is the mark of the one repository enough for the other.
    let (mut half, vehicle) = world();
    half.director.timestamp = half.director.timestamp.clone().for_offline_update();
    half.director.publish();
    refused(
        &vehicle,
        &half,
        "118 offline_mark (freeze attack): Image repository: the timestamp is no offline update's, and came in a file; it is believed only where it belongs",
    );
}

#[test]
fn a_file_for_others_is_refused() {
    let expected = |tier: &str, region: &str| {
        alloc::format!(
            "136 other_scope (mix-and-match attack): the offline update is for tier {tier} in region {region}, but this vehicle is ultra in eu"
        )
    };
    for (tier, region) in [("ultra-se", "eu"), ("ultra", "cn")] {
        let (file, vehicle) = file_for(tier, region);
        refused(&vehicle, &file, &expected(tier, region));
    }
    let (file, mut vehicle) = file();
    vehicle.identity.vehicle_id = crate::metadata::VehicleId::new("v-2").unwrap();
    refused(&vehicle, &file, "131 other_vehicle (mix-and-match attack): the Director's targets are for vehicle v-1, but this is v-2");
    // A scope that says more than this version knows.
    let (mut unknown, vehicle) = file_for("ultra", "eu");
    let scope = unknown.director.targets.custom.get_mut("offlineUpdate").unwrap();
    if let crate::metadata::json::Json::Object(members) = scope {
        members.insert("modelLine".into(), crate::metadata::json::Json::string("P7"));
    }
    unknown.director.publish();
    refused(
        &vehicle,
        &unknown,
        "101 metadata_malformed (arbitrary software attack): Director: targets.json: modelLine is not known to this version; update the vehicle's software first",
    );
}

#[test]
fn a_scope_reaches_only_computers_that_the_engineers_named() {
    let (file, mut vehicle) = file_for("ultra", "eu");
    vehicle.identity.hardware_id = crate::metadata::HardwareId::new("orin").unwrap();
    assert_eq!(check(&mut vehicle, &file), Outcome::NothingNew);
    let (mut twice, vehicle) = file_for("ultra", "eu");
    twice.director.targets.targets.insert("ultra/another.index".into(), TargetMeta::of_release(b"2", &custom(6)));
    twice.director.publish();
    refused(
        &vehicle,
        &twice,
        "133 ecu_twice (mix-and-match attack): the Director assigns both ultra/another.index and ultra/vla-2-2.0.0.index to ECU ecu-1",
    );
    assert_eq!(identity().hardware_id.as_str(), "thor");
}

#[test]
fn a_file_is_held_to_the_floor_to_its_expiry_and_to_the_newest_roots() {
    let (file, mut vehicle) = file_for("ultra", "eu");
    vehicle.installed.floor = ReleaseFloor(6);
    refused(
        &vehicle,
        &file,
        "153 release_below_floor (rollback attack): ultra/vla-2-2.0.0.index has release counter 5, below 6 of the confirmed release",
    );
    let (mut expired, vehicle) = file_for("ultra", "eu");
    expired.director.timestamp.expires = NOW;
    expired.director.publish();
    refused(
        &vehicle,
        &expired,
        "112 expired (freeze attack): Director: timestamp expired at 2027-01-15T08:00:00Z and it is 2027-01-15T08:00:00Z; it must be signed anew, or the clock is wrong",
    );
    // A newer root in the file is kept: from then on the keys that it revoked sign nothing, in files and on the network.
    let (mut rotated, mut vehicle) = checked_world();
    let stolen = rotated.clone();
    rotated.director.rotate(RootRole::Timestamp);
    mark(&mut rotated);
    assert_installs(check(&mut vehicle, &rotated));
    let mut thief = stolen;
    thief.director.files.insert("2.root.json".into(), rotated.director.files["2.root.json"].clone());
    assert_error(
        &vehicle.refusal(&thief, NOW),
        "102 threshold_not_met (arbitrary software attack): Director: timestamp version 2 carries 0 of the 1 valid signatures that root version 2 requires",
    );
}
