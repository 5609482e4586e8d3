use super::*;
use crate::{
    digest::Sha256Digest,
    metadata::{RootRole, json::Json},
};

#[test]
fn a_first_check_goes_through_both_repositories_in_the_order_of_the_standard() {
    let (repositories, mut vehicle) = world();
    let target = assert_installs(vehicle.check(&repositories, NOW));
    assert_eq!((target.path(), target.length(), target.sha256()), (INDEX, 5, Sha256Digest::of(b"index")));
    assert_eq!(target.release().title(), "vla-2 5.0.0 (ultra)");
    assert_eq!(target.fetch_path(), alloc::format!("ultra/{}.vla-2-2.0.0.index", Sha256Digest::of(b"index")));
    assert_eq!(target.bundle_fetch_path(), alloc::format!("ultra/{}.vla-2.tar.zst", Sha256Digest::of(b"bundle")));
    insta::assert_snapshot!(vehicle.log(), @r"
    get Director 2.root.json
    get Director timestamp.json
    put Director timestamp.json
    get Director 2.snapshot.json
    put Director snapshot.json
    get Director 2.targets.json
    put Director targets.json
    get Image repository 2.root.json
    get Image repository timestamp.json
    put Image repository timestamp.json
    get Image repository 2.snapshot.json
    put Image repository snapshot.json
    get Image repository 2.targets.json
    put Image repository targets.json
    get Image repository 2.vla-ultra.json
    put Image repository vla-ultra.json
    ");
}

#[test]
fn a_poll_without_news_asks_the_director_for_two_files() {
    let (mut repositories, mut vehicle) = checked_world();
    vehicle.installed.image_sha256 = Some(Sha256Digest::of(b"index"));
    assert_eq!(vehicle.check(&repositories, NOW), Outcome::NothingNew);
    insta::assert_snapshot!(vehicle.log(), @r"
    get Director 2.root.json
    get Director timestamp.json
    ");
    repositories.director.publish_timestamp();
    assert_eq!(vehicle.check(&repositories, NOW), Outcome::NothingNew);
    insta::assert_snapshot!(vehicle.log(), @r"
    get Director 2.root.json
    get Director timestamp.json
    put Director timestamp.json
    ");
}

#[test]
fn an_installation_that_was_interrupted_is_offered_again_without_fetching_targets_again() {
    let (repositories, mut vehicle) = checked_world();
    assert_installs(vehicle.check(&repositories, NOW));
    insta::assert_snapshot!(vehicle.log(), @r"
    get Director 2.root.json
    get Director timestamp.json
    get Image repository 2.root.json
    get Image repository timestamp.json
    ");
}

#[test]
fn a_vehicle_that_is_assigned_nothing_does_not_ask_the_image_repository() {
    let repositories = TestRepositories::new();
    let mut vehicle = TestVehicle::new(&repositories);
    assert_eq!(vehicle.check(&repositories, NOW), Outcome::NothingNew);
    assert!(!vehicle.log().contains("Image"), "{}", vehicle.log());
}

#[test]
fn metadata_is_stored_as_it_was_received() {
    let (mut repositories, mut vehicle) = world();
    repositories.director.timestamp.extra.insert("x-unknown".into(), Json::string("kept and signed"));
    repositories.director.publish_timestamp();
    let served = repositories.director.files["timestamp.json"].clone();
    let spaced: Vec<u8> = served.iter().flat_map(|&byte| if byte == b',' { b" ,\n".to_vec() } else { Vec::from([byte]) }).collect();
    repositories.director.files.insert("timestamp.json".into(), spaced.clone());
    assert_installs(vehicle.check(&repositories, NOW));
    assert_eq!(vehicle.disk.get(Repository::Director, "timestamp.json"), Some(spaced.as_slice()));
}

#[test]
fn a_timestamp_of_the_same_version_changes_nothing() {
    let (mut repositories, mut vehicle) = checked_world();
    let held = repositories.director.files["timestamp.json"].clone();
    repositories.director.timestamp.version -= 1;
    repositories.director.timestamp.expires = NOW.plus_days(300);
    repositories.director.publish_timestamp();
    assert_ne!(repositories.director.files["timestamp.json"], held);
    assert_installs(vehicle.check(&repositories, NOW));
    assert_eq!(vehicle.disk.get(Repository::Director, "timestamp.json"), Some(held.as_slice()));
}

#[test]
fn power_loss_before_any_write_leaves_a_vehicle_that_can_update() {
    let (mut repositories, vehicle) = checked_world();
    repositories.image.rotate(RootRole::Timestamp);
    repositories.director.rotate(RootRole::Snapshot);
    repositories.publish_release(INDEX, b"index of another release");
    repositories.assign(INDEX);
    for cut in 0.. {
        let mut vehicle = vehicle.clone();
        let ended = vehicle.check_until_write(NOW, |request| repositories.fetch(request), cut);
        if ended.is_some() {
            assert_eq!(cut, 13, "two roots, four deletions, three and four files");
            return;
        }
        assert_installs(vehicle.check(&repositories, NOW));
    }
}

#[test]
fn a_repository_without_consistent_snapshots_is_read_under_plain_names() {
    let (mut repositories, _) = world();
    repositories.image.root.consistent_snapshot = false;
    repositories.image.publish_root();
    let versioned: Vec<_> = repositories.image.files.clone().into_iter().filter(|(name, _)| name.starts_with("2.")).collect();
    for (name, bytes) in versioned {
        repositories.image.files.insert(name[2..].into(), bytes);
        repositories.image.files.remove(&name);
    }
    let mut vehicle = TestVehicle::new(&repositories);
    let target = assert_installs(vehicle.check(&repositories, NOW));
    assert_eq!(target.fetch_path(), INDEX);
    assert!(vehicle.log().contains("get Image repository vla-ultra.json"), "{}", vehicle.log());
}

#[test]
fn a_file_that_cannot_be_had_is_named_and_does_not_end_the_root_chain() {
    let (repositories, vehicle) = world();
    let check = |failing: &str, failure: FetchFailure, expected: &str| {
        let outcome = vehicle.clone().check_with(NOW, |request| match request.file_name == failing {
            true => Err(failure.clone()),
            false => repositories.fetch(request),
        });
        match outcome {
            Outcome::Refused(error) => assert_error(&error, expected),
            outcome => panic!("{outcome:?}"),
        }
    };
    check(
        "2.root.json",
        FetchFailure::Unreachable { reason: "HTTP status 503".into() },
        "114 unreachable (drop-request attack): Director: 2.root.json could not be fetched: HTTP status 503",
    );
    check(
        "2.snapshot.json",
        FetchFailure::NotFound,
        "115 file_missing (drop-request attack): Director: 2.snapshot.json does not exist there",
    );
    check(
        "timestamp.json",
        FetchFailure::TooLong,
        "113 endless_data (endless data attack): Director: timestamp.json has more than the 16384 bytes that may be read",
    );
}

#[test]
fn a_transport_that_ignores_the_limit_is_caught_as_well() {
    let (repositories, vehicle) = world();
    let check = |endless: &str, length_max: usize| {
        let outcome = vehicle.clone().check_with(NOW, |request| {
            let mut bytes = repositories.fetch(request)?;
            if request.file_name == endless {
                bytes.resize(length_max + 1, b' ');
            }
            Ok(bytes)
        });
        let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
        assert_error(
            &error,
            &alloc::format!(
                "113 endless_data (endless data attack): Director: {endless} has more than the {length_max} bytes that may be read"
            ),
        );
    };
    check("timestamp.json", 16_384);
    check("2.snapshot.json", repositories.director.files["2.snapshot.json"].len());
}

#[test]
fn a_listed_length_is_all_that_is_read_and_cannot_raise_the_limit() {
    let (mut repositories, mut vehicle) = world();
    let mut limits = Vec::new();
    vehicle.check_with(NOW, |request| {
        limits.push((request.file_name.clone(), request.length_max));
        repositories.fetch(request)
    });
    let length = repositories.director.files["2.targets.json"].len() as u64;
    assert!(limits.contains(&("2.targets.json".into(), length)));
    repositories.director.snapshot.meta.get_mut("targets.json").unwrap().length = Some(1 << 60);
    repositories.director.publish_snapshot();
    let mut asked = 0;
    TestVehicle::new(&repositories).check_with(NOW, |request| {
        asked = request.length_max;
        repositories.fetch(request)
    });
    assert_eq!(asked, limits::TARGETS_BYTES_MAX);
}

#[test]
fn a_caller_that_answers_what_was_not_asked_ends_the_check() {
    let (repositories, vehicle) = world();
    let start = || MetadataCheck::start(vehicle.disk.clone(), vehicle.identity.clone(), vehicle.installed, NOW);
    let expected = "199 out_of_order (no attack): the caller answered an action that the check had not asked for";
    let end = |mut check: MetadataCheck| match check.next() {
        Action::Finished(Outcome::Refused(error)) => assert_error(&error, expected),
        action => panic!("{action:?}"),
    };
    let mut check = start();
    check.persisted();
    end(check);
    let mut check = start();
    check.fetched(Err(FetchFailure::NotFound));
    check.fetched(Ok(repositories.director.files["timestamp.json"].clone()));
    // The write of the timestamp is still to be answered.
    check.fetched(Ok(repositories.director.files["2.snapshot.json"].clone()));
    check.persisted();
    end(check);
}

#[test]
fn a_vehicle_without_an_anchor_says_so() {
    let (repositories, mut vehicle) = world();
    let director_root = vehicle.disk.get(Repository::Director, "root.json").unwrap().to_vec();
    vehicle.disk = MetadataCache::default();
    vehicle.disk.insert(Repository::Director, "root.json", director_root);
    assert_error(
        &vehicle.refusal(&repositories, NOW),
        "117 anchor_missing (no attack): Image repository: the vehicle holds no root metadata; it must be provisioned again",
    );
}
