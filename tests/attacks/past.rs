//! What was true once is shown as news, or never brought up to date: freeze, rollback, mix-and-match, fast-forward.

use std::{fs, time::Duration};

use switchback_sdk::vehicle::ProvisionedFile;
use switchback_signing::{
    metadata::{RootRole, TargetMeta},
    testing::{NOW, TestRepositories, TestRepository, TestVehicle},
    time::UnixTime,
    trust::{
        Attack::{ArbitrarySoftware, Freeze, MixAndMatch, Rollback},
        Outcome, Repository,
    },
};

use super::{
    common::{
        server::{Server, answer},
        stick,
    },
    scene::{Scene, attack, earlier, index_path, seen},
};

/// Both repositories, one after the other.
const BOTH: [fn(&mut TestRepositories) -> &mut TestRepository; 2] = [|all| &mut all.director, |all| &mut all.image];

#[test]
fn a04_a_frozen_repository_is_noticed_when_its_timestamp_expires() {
    let mut scene = attack(|all| *all = seen());
    scene.days_pass(2);
    scene.refused_as(112, "expired", Freeze);
}

/// The Timestamp would be good for 19 hours more.
#[test]
fn a04_a_set_that_is_replayed_before_it_expires_is_noticed() {
    let mut scene = Scene::new();
    scene.director_answers_nonces();
    scene.checks();
    // Now the server has release 3, and somebody in between shows what there was.
    scene.attack(|_| {});
    replay_timestamp(&mut scene);
    // What nobody has asked about is no news for a while.
    scene.hours_pass(3);
    scene.checks();
    scene.hours_pass(5);
    scene.refused_as(121, "nonce_differs", Freeze);
}

/// Whatever the Director is asked with, the vehicle is shown what it holds.
fn replay_timestamp(scene: &mut Scene) {
    let recorded = scene.recorded_timestamp();
    scene.intercept(move |url| url.contains("/director/v-1/metadata/timestamp.json").then(|| answer(Some(recorded.clone()))));
}

/// The same by somebody who also stops the vehicle's clock, so that nothing grows old by it.
#[test]
fn a04_a_clock_that_stands_still_hides_no_replay() {
    let mut scene = Scene::with(|config| config.timestamp_age_max = Duration::from_secs(1));
    scene.director_answers_nonces();
    scene.checks();
    scene.attack(|_| {});
    replay_timestamp(&mut scene);
    scene.refuses_in_the_end(121, "nonce_differs", Freeze);
    scene.recovers();
}

/// Each server before this one takes no notice of the question, and says in no Timestamp that it would.
#[test]
fn a04_a_director_that_answers_no_nonces_is_believed_until_its_timestamp_expires() {
    let mut scene = attack(|all| *all = seen());
    scene.hours_pass(23);
    scene.checks();
    scene.hours_pass(25);
    scene.refused_as(112, "expired", Freeze);
}

/// The Image repository's Timestamp is the same for everybody and answers nobody. A Director that is not frozen assigns what the frozen one does
/// not list: it is refused as what it might be, and the release is kept back until somebody looks, or until the Timestamp expires.
#[test]
fn a04_an_image_repository_that_is_frozen_keeps_a_release_back_and_is_noticed() {
    let mut scene = attack(|all| all.image = seen().image);
    scene.refuses(140, "target_unknown", ArbitrarySoftware);
    scene.days_pass(2);
    scene.refused_as(112, "expired", Freeze);
}

#[test]
fn a04_each_role_is_held_against_its_own_expiry() {
    let freezes: [fn(&mut TestRepository) -> &mut UnixTime; 3] = [
        |repository| &mut repository.timestamp.expires,
        |repository| &mut repository.snapshot.expires,
        |repository| &mut repository.targets.expires,
    ];
    let mut scene = Scene::new();
    for repository in BOTH {
        for expires in freezes {
            scene.attack(|all| {
                *expires(repository(all)) = NOW;
                repository(all).publish();
            });
            scene.refuses(112, "expired", Freeze);
        }
    }
    scene.attack(|all| {
        all.image.role("vla-ultra").expires = NOW;
        all.image.publish();
    });
    scene.refused_as(112, "expired", Freeze);
}

fn refuses_old_timestamps(scene: &mut Scene) {
    for repository in BOTH {
        scene.attack(|all| {
            let old = repository(&mut earlier()).files["timestamp.json"].clone();
            repository(all).files.insert("timestamp.json".into(), old);
        });
        scene.refuses(105, "older_version", Rollback);
    }
}

/// The very first check of a vehicle is answered with what was signed before it left the factory.
#[test]
fn a07_a_first_check_does_not_fall_behind_what_the_vehicle_was_provisioned_with() {
    for (at, repository) in [(Repository::Director, BOTH[0]), (Repository::Image, BOTH[1])] {
        let timestamp = |all: &mut TestRepositories| repository(all).files["timestamp.json"].clone();
        let scene = attack(|all| {
            let old = timestamp(&mut earlier());
            repository(all).files.insert("timestamp.json".into(), old);
        });
        let mut scene = scene.restart_with(|store, config| {
            for folder in ["metadata-director", "metadata-image"] {
                fs::remove_dir_all(store.join(folder)).unwrap();
            }
            let bytes = timestamp(&mut seen());
            config.provisioned.metadata = vec![ProvisionedFile { repository: at, name: "timestamp.json".into(), bytes }];
        });
        scene.meets(105, "older_version").is_reported(105, "older_version", Rollback);
        scene.recovers();
    }
}

/// Whoever has a stick in the vehicle for a moment, and the network afterwards: the file is refused, or brings nothing, and yet it must not
/// take the place of what the vehicle has seen over the network.
#[test]
fn a07_a_file_does_not_make_a_vehicle_forget_what_is_old() {
    let mut scene = Scene::new();
    let file = scene.store.path().join("stick.tar");
    for (repositories, number, name) in [(earlier(), 153, "release_below_floor"), (TestRepositories::new(), 102, "threshold_not_met")] {
        let other = Server::default();
        other.lock().repositories = repositories;
        if number == 102 {
            // Roots that nobody here knows, and nothing else that verifies.
            let files = &mut other.lock().repositories.director;
            files.signers.insert("timestamp".into(), vec!["thief".into()]);
        }
        stick::write(&other, &file);
        scene.car.vehicle.install_offline(&file).unwrap();
        scene.meets(number, name);
        refuses_old_timestamps(&mut scene);
    }
    scene.recovers();
}

#[test]
fn a07_an_old_timestamp_is_refused() {
    let mut scene = Scene::new();
    refuses_old_timestamps(&mut scene);
    scene.recovers();
}

/// A thief of the timestamp key.
#[test]
fn a07_an_old_snapshot_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            repository(all).timestamp.snapshot = repository(&mut earlier()).timestamp.snapshot.clone();
            repository(all).publish_timestamp();
        });
        scene.refuses(105, "older_version", Rollback);
    }
    scene.recovers();
}

/// A thief of the snapshot and timestamp keys.
#[test]
fn a07_old_targets_are_refused() {
    let mut scene = Scene::new();
    for (repository, file) in [(BOTH[0], "targets.json"), (BOTH[1], "targets.json"), (BOTH[1], "vla-ultra.json")] {
        scene.attack(|all| {
            let old = repository(&mut earlier()).snapshot.meta[file].clone();
            repository(all).snapshot.meta.insert(file.into(), old);
            repository(all).publish_snapshot();
        });
        scene.refuses(105, "older_version", Rollback);
    }
    scene.recovers();
}

#[test]
fn a07_an_old_root_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let old = repository(all).files["1.root.json"].clone();
            repository(all).files.insert("2.root.json".into(), old);
        });
        scene.refuses(103, "root_version", Rollback);
    }
    scene.recovers();
}

/// A thief of the Director's keys assigns what everybody has signed once.
#[test]
fn a07_a_release_below_the_confirmed_one_is_refused() {
    attack(|all| all.assign(&index_path(1))).refused_as(153, "release_below_floor", Rollback);
}

/// A thief of the Director's keys writes a new counter on an old release.
#[test]
fn a07_an_old_release_with_a_new_counter_is_refused() {
    attack(|all| {
        let mut old = all.image.role("vla-ultra").targets[&index_path(1)].clone();
        old.custom = all.image.role("vla-ultra").targets[&index_path(3)].custom.clone();
        all.assign_target(&index_path(1), old);
    })
    .refused_as(145, "custom_differs", MixAndMatch);
}

#[test]
fn a07_the_image_of_an_old_release_under_the_new_name_is_refused() {
    let mut scene = Scene::new();
    let mut old = Vec::new();
    scene.replace("vla-1-1.0.0.index", |bytes| old = bytes.clone());
    scene.replace("vla-3-3.0.0.index", |bytes| {
        assert_eq!(bytes.len(), old.len(), "only the digest can tell");
        *bytes = old;
    });
    scene.refused_as(161, "index_digest_differs", ArbitrarySoftware);
}

/// The server mixes files that were all signed, but never belonged together.
#[test]
fn a09_a_file_of_another_moment_is_refused() {
    let mut scene = Scene::new();
    for (repository, file) in
        [(BOTH[0], "snapshot"), (BOTH[0], "targets"), (BOTH[1], "snapshot"), (BOTH[1], "targets"), (BOTH[1], "vla-ultra")]
    {
        scene.attack(|all| {
            let all = repository(all);
            let newest = all.snapshot.version;
            let old = all.files[&format!("{}.{file}.json", newest - 1)].clone();
            all.files.insert(format!("{newest}.{file}.json"), old);
        });
        scene.refuses(110, "other_digest", MixAndMatch);
    }
    scene.recovers();
}

/// A thief of the snapshot and timestamp keys lists one version and gives out another.
#[test]
fn a09_a_version_that_is_not_the_listed_one_is_refused() {
    let mut scene = Scene::new();
    for repository in BOTH {
        scene.attack(|all| {
            let all = repository(all);
            let mut listed = all.snapshot.meta["targets.json"].clone();
            let bytes = all.files[&format!("{}.targets.json", listed.version)].clone();
            listed.version += 1;
            all.files.insert(format!("{}.targets.json", listed.version), bytes);
            all.snapshot.meta.insert("targets.json".into(), listed);
            all.publish_snapshot();
        });
        scene.refuses(108, "other_version", MixAndMatch);
    }
    scene.recovers();
}

#[test]
fn a09_a_snapshot_that_drops_a_role_is_refused() {
    attack(|all| {
        all.image.snapshot.meta.remove("vla-ultra.json");
        all.image.publish_snapshot();
    })
    .refused_as(106, "file_removed", Rollback);
}

/// The release engineers were tricked into signing the index of one bundle with the name of another.
#[test]
fn a09_an_index_with_the_bundle_of_another_release_is_refused() {
    attack(|all| {
        let bundle_of = |all: &mut TestRepositories, counter| all.image.role("vla-ultra").targets[&index_path(counter)].release().unwrap();
        let (mut release, other) = (bundle_of(all, 3), bundle_of(all, 2));
        release.bundle = other.bundle;
        let listed = all.image.role("vla-ultra").targets[&index_path(3)].clone();
        let mixed = TargetMeta { custom: TargetMeta::of_release(b"", &release).custom, ..listed };
        all.publish_target(&index_path(3), mixed);
        all.assign(&index_path(3));
    })
    .refused_as(163, "index_of_other_bundle", MixAndMatch);
}

/// Everything is signed, but the metadata speaks of another release than the bundle itself.
#[test]
fn a09_a_bundle_of_another_release_than_the_metadata_says_is_refused() {
    let mut scene = attack(|all| {
        let listed = all.image.role("vla-ultra").targets[&index_path(3)].clone();
        let mut release = listed.release().unwrap();
        release.release_counter = 4;
        let mixed = TargetMeta { custom: TargetMeta::of_release(b"", &release).custom, ..listed };
        all.publish_target(&index_path(3), mixed);
        all.assign(&index_path(3));
    });
    scene.refuses(504, "manifest_differs", MixAndMatch).recovers_with_another_release();
}

/// The power is cut before each write of metadata in turn, with keys replaced on top: what is on the disk is never half of two states.
#[test]
fn a24_power_loss_at_any_write_of_metadata_leaves_a_vehicle_that_can_update() {
    let (before, mut after) = (earlier(), seen());
    for repository in BOTH {
        for role in [RootRole::Root, RootRole::Timestamp, RootRole::Snapshot, RootRole::Targets] {
            repository(&mut after).rotate(role);
        }
        repository(&mut after).publish();
    }
    let mut vehicle = TestVehicle::new(&before);
    assert!(matches!(vehicle.check(&before, NOW), Outcome::Install(_)));
    let whole = |outcome: &Outcome| matches!(outcome, Outcome::Install(target) if target.path() == index_path(2));
    let mut cuts = 0;
    // A check that ends was not cut: every write has had its turn.
    while let Some(outcome) = {
        let mut vehicle = vehicle.clone();
        let ended = vehicle.check_until_write(NOW, |request| after.fetch(request), cuts);
        ended.is_none().then(|| vehicle.check(&after, NOW))
    } {
        assert!(whole(&outcome), "cut before write {cuts}: {outcome:?}");
        cuts += 1;
    }
    assert!(cuts > 12, "roots, timestamps, snapshots and targets of both repositories are written, not {cuts} files");
}

/// A thief of a key pushes version numbers to their end, so that nothing honest is ever newer; a new key takes that back.
#[test]
fn a11_after_a_fast_forward_a_new_key_lets_honest_versions_in_again() {
    for role in [RootRole::Timestamp, RootRole::Snapshot] {
        let mut scene = Scene::new();
        scene.server.lock().repositories = {
            let mut all = seen();
            if role == RootRole::Snapshot {
                all.director.snapshot.version = u64::from(u32::MAX);
                all.director.publish_snapshot();
            }
            all.director.timestamp.version = u64::from(u32::MAX);
            all.director.publish_timestamp();
            all
        };
        scene.checks();
        scene.attack(|_| {});
        scene.refuses(105, "older_version", Rollback);
        scene.attack(|all| {
            all.director.rotate(RootRole::Timestamp);
            all.director.rotate(role);
            all.director.publish();
        });
        scene.now_honest();
        scene.recovers();
    }
}
