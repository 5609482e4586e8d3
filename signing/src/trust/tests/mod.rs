#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agreement;
mod chain;
mod content_keys;
mod delegations;
mod freshness;
mod index;
mod multi_role;
mod offline;
mod publishing;
mod reports;
mod several_ecus;
mod signatures;
mod tuf_only;
mod versions;
mod workflow;

use alloc::{collections::BTreeSet, string::ToString, vec::Vec};

use super::*;
use crate::testing::{NOW, TestRepositories, TestVehicle};

const INDEX: &str = "ultra/vla-2-2.0.0.index";

/// Repositories with one release, assigned to the vehicle, and the vehicle before its first check.
fn world() -> (TestRepositories, TestVehicle) {
    let mut repositories = TestRepositories::new();
    repositories.publish_release(INDEX, b"index");
    repositories.assign(INDEX);
    let vehicle = TestVehicle::new(&repositories);
    (repositories, vehicle)
}

/// The same, after the vehicle's first check.
fn checked_world() -> (TestRepositories, TestVehicle) {
    let (repositories, mut vehicle) = world();
    assert_installs(vehicle.check(&repositories, NOW));
    (repositories, vehicle)
}

#[track_caller]
fn assert_installs(outcome: Outcome) -> VerifiedTarget {
    match outcome {
        Outcome::Install(target) => target,
        outcome => panic!("expected a release to install, found {outcome:?}"),
    }
}

/// Pins an error's number, name, attack and text in one line.
#[track_caller]
fn assert_error(error: &TrustError, expected: &str) {
    let attack = error.attack().map_or("no attack".to_string(), |attack| attack.to_string());
    assert_eq!(alloc::format!("{} {} ({attack}): {error}", error.number(), error.name()), expected);
}

/// Runs a check that must be refused, and makes sure that the vehicle updates again once the repositories are in honest hands.
#[track_caller]
fn assert_refused(attacked: &TestRepositories, vehicle: &TestVehicle, expected: &str) {
    let mut vehicle = vehicle.clone();
    assert_error(&vehicle.refusal(attacked, NOW), expected);
    let (mut honest, _) = world();
    let held = |repository| vehicle.disk.get(repository, "root.json");
    let TrustAnchors { director_root, image_root } = honest.anchors();
    if (held(Repository::Director), held(Repository::Image)) != (Some(&director_root), Some(&image_root)) {
        // Keys were rotated, or the roots were others from the start; the tests of the chain follow that through.
        return;
    }
    for _ in 0..8 {
        honest.director.publish();
        honest.image.publish();
    }
    (vehicle.installed, vehicle.identity) = (Installed::default(), crate::testing::identity());
    assert_installs(vehicle.check(&honest, NOW));
}

#[test]
fn numbers_and_names_are_given_once() {
    let source = include_str!("../facts.rs");
    let rows = source.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("Self::")?
            .split_once("=> (")?
            .1
            .split_once(", Some")
            .or_else(|| line.split_once("=> (")?.1.split_once(", None"))
    });
    let facts: Vec<&str> = rows.map(|(fact, _)| fact).collect();
    let (numbers, names): (BTreeSet<&str>, BTreeSet<&str>) = facts.iter().filter_map(|fact| fact.split_once(", ")).unzip();
    assert_eq!((numbers.len(), names.len()), (facts.len(), facts.len()));
    assert!(facts.len() >= 45, "{facts:?}");
    assert!(numbers.iter().all(|number| number.len() == 3 && number.starts_with('1')), "{numbers:?}");
}
