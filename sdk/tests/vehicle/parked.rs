//! A car that stood for a year: everything that it holds has expired, and every key has been replaced since.

use switchback_sdk::vehicle::{EventKind, TrustAnchors, VehicleCallbacks};
use switchback_signing::metadata::RootRole;
use switchback_signing::metadata::vehicle::UpdateState;
use switchback_signing::testing::{NOW, TestRepository};
use switchback_signing::time::UnixTime;

use super::{better, driving};
use crate::common::car::{Car, config};
use crate::common::server::Server;

const A_YEAR_LATER: UnixTime = UnixTime::from_seconds(NOW.seconds() + 366 * 86_400);

fn callbacks() -> VehicleCallbacks {
    VehicleCallbacks { clock: Some(Box::new(|| A_YEAR_LATER.seconds())), ..VehicleCallbacks::default() }
}

/// Every month another key of one of the roles, and today's metadata signed with the newest ones.
fn a_year_passes(server: &Server) {
    let mut state = server.lock();
    state.now = A_YEAR_LATER;
    let repositories = &mut state.repositories;
    for repository in [&mut repositories.director, &mut repositories.image] {
        for month in 0..12 {
            repository.root.expires = NOW.plus_days(30 * (month + 2));
            let roles = [RootRole::Root, RootRole::Timestamp, RootRole::Snapshot, RootRole::Targets];
            repository.rotate(roles[usize::try_from(month).unwrap() % roles.len()]);
        }
        in_life(repository);
    }
    repositories.image.role("vla-ultra").expires = A_YEAR_LATER.plus_days(30);
    repositories.image.publish();
    repositories.director.publish();
}

fn in_life(repository: &mut TestRepository) {
    let later = A_YEAR_LATER.plus_days(30);
    for expires in [&mut repository.targets.expires, &mut repository.snapshot.expires, &mut repository.timestamp.expires] {
        *expires = later;
    }
    repository.root.expires = later;
    repository.root.version += 1;
    repository.publish_root();
}

#[test]
fn a_car_that_was_parked_for_a_year_drives_at_once_and_recovers_by_itself() {
    let (server, store, car) = driving();
    car.vehicle.close();
    a_year_passes(&server);
    server.release(&better(), 2, 0);
    let mut car = Car::open_with(config(&server, store.path()), callbacks());
    assert!(car.step().control_valid, "what it drives with has no date");
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
    car.until_reported(&server, |state| state == UpdateState::Confirmed);
    assert!(server.reports().iter().all(|report| report.attack_detected.is_none()), "it took nothing of this for an attack");
}

#[test]
fn a_car_whose_chain_of_roots_is_broken_says_so_and_goes_on_with_a_root_that_its_software_brings() {
    let (server, store, car) = driving();
    car.vehicle.close();
    let old = config(&server, store.path());
    a_year_passes(&server);
    server.release(&better(), 2, 0);
    server.lock().repositories.director.files.remove("5.root.json");

    let mut car = Car::open_with(old, callbacks());
    assert!(car.step().control_valid);
    let event = car.drive_until(|kind| matches!(kind, EventKind::NotBelieved | EventKind::Update(UpdateState::Refused)), |_| {});
    let reason = event.reason.unwrap();
    assert_eq!(reason.name, "expired");
    let expected = format!("Director: root expired at {} and it is {A_YEAR_LATER}", NOW.plus_days(30 * 4));
    assert!(reason.text.starts_with(&expected), "{}", reason.text);
    assert!(car.step().control_valid, "and drives on");
    car.vehicle.close();

    let mut newer = config(&server, store.path());
    let newest = |repository: &TestRepository| repository.files[&format!("{}.root.json", repository.root.version)].clone();
    let repositories = &server.lock().repositories.clone();
    newer.anchors = TrustAnchors { director_root: newest(&repositories.director), image_root: newest(&repositories.image) };
    let mut car = Car::open_with(newer, callbacks());
    car.reach(UpdateState::Confirmed);
    assert_eq!(car.model().as_deref(), Some("vla-2"));
}
