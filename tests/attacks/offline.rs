//! Updates that come in a file: of the other kind, for somebody else, or with an inside that is not what it says.

use std::{collections::BTreeMap, path::PathBuf};

use switchback_sdk::vehicle::EventKind;
use switchback_signing::{
    metadata::{OfflineScope, Region, TargetMeta, Tier, json::Json},
    testing::{TestRepositories, TestRepository},
    trust::Attack::{self, ArbitrarySoftware, Freeze, MixAndMatch},
};

use super::scene::{BOTH, Scene, index_path, seen};

/// A tar record.
const BLOCK: usize = 512;

/// Marks a repository's metadata as those of an offline update.
fn mark(repository: &mut TestRepository) {
    repository.timestamp = repository.timestamp.clone().for_offline_update();
    repository.publish();
}

/// The Director's targets name a scope in place of the vehicle, and these releases.
fn for_scope(all: &mut TestRepositories, tier: &str, region: &str, releases: &[u64]) {
    let scope = OfflineScope { tier: Tier::new(tier).unwrap(), region: Region::new(region).unwrap() };
    let listed: Vec<(String, TargetMeta)> =
        releases.iter().map(|counter| (index_path(*counter), all.image.role("vla-ultra").targets[&index_path(*counter)].clone())).collect();
    let targets = &mut all.director.targets;
    *targets = targets.clone().for_scope(&scope);
    targets.vehicle_id = None;
    targets.targets = listed.into_iter().collect();
}

/// A member of an archive as `tar` writes it.
fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let (folder, name) = name.rsplit_once('/').unwrap();
    let mut bytes = vec![0; BLOCK];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    bytes[156] = b'0';
    bytes[257..263].copy_from_slice(b"ustar\0");
    bytes[345..345 + folder.len()].copy_from_slice(folder.as_bytes());
    sum_up(&mut bytes);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Makes the checksum of a header right.
fn sum_up(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// The repositories and the bytes behind them, as a file.
fn archive(all: &TestRepositories, blobs: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let metadata = [("director", &all.director.files), ("image", &all.image.files)];
    let metadata =
        metadata.into_iter().flat_map(|(of, files)| files.iter().map(move |(name, bytes)| (format!("{of}/metadata/{name}"), bytes)));
    let targets = blobs.iter().map(|(path, bytes)| (format!("image/targets/{path}"), bytes));
    let members = metadata.chain(targets).map(|(name, bytes)| member(&name, bytes));
    members.chain([vec![0; 2 * BLOCK]]).collect::<Vec<_>>().concat()
}

/// Somebody puts a file on the vehicle's stick: its repositories begin with what the vehicle has seen last, with release 3 beside it.
fn stick(scene: &mut Scene, change: impl FnOnce(&mut TestRepositories)) -> PathBuf {
    scene.attack(|_| {});
    let (mut all, blobs) = {
        let state = scene.server.lock();
        (state.repositories.clone(), state.blobs.clone())
    };
    change(&mut all);
    let path = scene.store.path().with_extension("stick.tar");
    std::fs::write(&path, archive(&all, &blobs)).unwrap();
    path
}

/// The vehicle refuses what it is given in a file, and says so.
#[track_caller]
fn refuses(change: impl FnOnce(&mut TestRepositories), number: u32, name: &str, attack: Attack) {
    let mut scene = Scene::new();
    let path = stick(&mut scene, change);
    scene.car.vehicle.install_offline(&path).unwrap();
    scene.meets(number, name).is_reported(number, name, attack).recovers();
    std::fs::remove_file(path).unwrap();
}

/// Who has an offline update copies its Timestamp, which lives for months, to vehicles that are on line: they would stay where they are
/// until it ends.
#[test]
fn a04_metadata_of_an_offline_update_is_not_believed_over_the_network() {
    for repository in BOTH {
        let mut scene = Scene::new();
        scene.attack(|all| mark(repository(all)));
        scene.refuses(118, "offline_mark", Freeze).recovers();
    }
}

/// The other way round: what the network said once, on a stick, without an end that was chosen for a stick.
#[test]
fn a04_metadata_of_the_network_is_not_believed_from_a_file() {
    for repository in BOTH {
        refuses(|all| mark(repository(all)), 118, "offline_mark", Freeze);
    }
}

/// A file whose versions are at their end: what comes over the network afterwards is not older for that.
#[test]
fn a11_the_versions_in_a_file_are_no_measure_for_the_network() {
    let mut scene = Scene::new();
    let path = stick(&mut scene, |all| {
        *all = seen();
        for repository in BOTH {
            let repository = repository(all);
            (repository.snapshot.version, repository.timestamp.version) = (u64::from(u32::MAX), u64::from(u32::MAX));
            mark(repository);
        }
    });
    scene.car.vehicle.install_offline(&path).unwrap();
    let event = scene.car.drive_until(|kind| matches!(kind, EventKind::Checked | EventKind::NotBelieved | EventKind::CheckFailed), |_| {});
    assert_eq!(event.reason.as_ref().map(|reason| reason.number), Some(613), "{event:?}");
    scene.recovers();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a16_an_offline_update_for_other_vehicles_is_refused() {
    for (tier, region) in [("ultra-se", "eu"), ("ultra", "cn")] {
        let change = |all: &mut TestRepositories| {
            for_scope(all, tier, region, &[3]);
            BOTH.into_iter().for_each(|repository| mark(repository(all)));
        };
        refuses(change, 136, "other_scope", MixAndMatch);
    }
}

/// Conditions that are not understood are not ignored.
#[test]
fn a16_an_offline_update_with_an_unknown_condition_is_refused() {
    let change = |all: &mut TestRepositories| {
        for_scope(all, "ultra", "eu", &[3]);
        let Some(Json::Object(scope)) = all.director.targets.custom.get_mut("offlineUpdate") else { panic!("there is a scope") };
        scope.insert("modelLine".into(), Json::string("coupe"));
        BOTH.into_iter().for_each(|repository| mark(repository(all)));
    };
    refuses(change, 101, "metadata_malformed", ArbitrarySoftware);
}

#[test]
fn a17_an_offline_update_of_two_images_for_one_ecu_is_refused() {
    let change = |all: &mut TestRepositories| {
        for_scope(all, "ultra", "eu", &[2, 3]);
        BOTH.into_iter().for_each(|repository| mark(repository(all)));
    };
    refuses(change, 133, "ecu_twice", MixAndMatch);
}

/// Archives whose inside leads out of them, or that two readers unpack differently.
#[test]
fn a22_an_offline_update_that_is_no_plain_archive_is_refused() {
    let mut scene = Scene::new();
    let path = stick(&mut scene, |all| BOTH.into_iter().for_each(|repository| mark(repository(all))));
    let honest = std::fs::read(&path).unwrap();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = honest.clone();
        change(&mut bytes);
        bytes
    };
    let many: Vec<u8> = (0..4097).flat_map(|number| member(&format!("image/{number}"), b"")).collect();
    let archives = [
        (changed(|bytes| bytes[0] ^= 1), "no tar header, or a damaged one"),
        (
            changed(|bytes| {
                bytes[156] = b'2';
                sum_up(bytes);
            }),
            "something else than a plain file",
        ),
        (
            changed(|bytes| {
                bytes[124..135].copy_from_slice(b"77777777777");
                sum_up(bytes);
            }),
            "a member that goes on beyond the end",
        ),
        (changed(|bytes| bytes.truncate(bytes.len() - 2 * BLOCK)), "the end is missing"),
        (twice(&honest), "a member for the second time"),
        ([many, vec![0; 2 * BLOCK]].concat(), "more members than an update has"),
    ];
    for (bytes, problem) in archives {
        std::fs::write(&path, bytes).unwrap();
        let error = scene.car.vehicle.install_offline(&path).expect_err(problem);
        assert_eq!((error.number(), error.name()), (441, "offline_file_malformed"));
        assert!(error.to_string().contains(problem), "{error}");
    }
    scene.recovers();
    std::fs::remove_file(path).unwrap();
}

/// The archive with its first member in front of it once more.
fn twice(archive: &[u8]) -> Vec<u8> {
    let length = std::str::from_utf8(&archive[124..135]).unwrap();
    let length = usize::from_str_radix(length, 8).unwrap().next_multiple_of(BLOCK);
    [&archive[..BLOCK + length], archive].concat()
}
