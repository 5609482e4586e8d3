//! The search through delegated roles: order, terminating roles, hardware, cycles, limits.

use alloc::string::String;

use super::*;
use crate::{
    metadata::{DelegatedRole, Delegations, HardwareId, TargetMeta},
    testing::{custom, public},
};

/// A delegation to `name` under the key of the same name.
pub(super) fn to(name: &str, pattern: &str) -> DelegatedRole {
    DelegatedRole::new(name, 1, &[public(name)], &[pattern])
}

fn delegations(roles: &[DelegatedRole]) -> Option<Delegations> {
    let mut delegations = Delegations::default();
    for role in roles {
        delegations.add(role.clone(), &[public(&role.name)]);
    }
    Some(delegations)
}

/// Repositories whose top-level targets delegate as given; `listing` are roles that list the release, with a counter each.
pub(super) fn tree(top: &[DelegatedRole], inner: &[(&str, &[DelegatedRole])], listing: &[(&str, u64)]) -> TestRepositories {
    let (mut repositories, _) = world();
    repositories.image.targets.delegations = delegations(top);
    let names = top.iter().chain(inner.iter().flat_map(|(_, roles)| *roles)).map(|role| role.name.clone());
    for name in names.collect::<BTreeSet<_>>() {
        repositories.image.add_role(&name, &[&name]);
    }
    for (name, roles) in inner {
        repositories.image.role(name).delegations = delegations(roles);
    }
    for (name, counter) in listing {
        repositories.image.role(name).targets.insert(INDEX.into(), TargetMeta::of_release(b"index", &custom(*counter)));
    }
    repositories.image.publish();
    let assigned = listing.first().map_or(5, |(_, counter)| *counter);
    repositories.assign_target(INDEX, TargetMeta::of_release(b"index", &custom(assigned)));
    repositories
}

/// The delegated roles that a vehicle fetched, in order, and the counter it found.
pub(super) fn search(repositories: &TestRepositories) -> (Vec<String>, Result<u64, TrustError>) {
    let mut vehicle = TestVehicle::new(repositories);
    let outcome = vehicle.check(repositories, NOW);
    let fetched = vehicle.log.iter().filter_map(|line| line.strip_prefix("put Image repository ")?.strip_suffix(".json"));
    let roles = fetched.filter(|name| !["timestamp", "snapshot", "targets"].contains(name)).map(ToString::to_string).collect();
    let found = match outcome {
        Outcome::Install(target) => Ok(target.release().release_counter),
        Outcome::Refused(error) => Err(error),
        Outcome::NothingNew => panic!("something was assigned"),
    };
    (roles, found)
}

#[test]
fn roles_are_searched_depth_first_in_the_order_of_the_delegator_and_no_further_than_needed() {
    let repositories = tree(
        &[to("a", "ultra/*"), to("other-tier", "ultra-se/*"), to("b", "ultra/*"), to("c", "ultra/*")],
        &[("a", &[to("a1", "ultra/*.tar.zst"), to("a2", "ultra/*.index")])],
        &[("b", 7), ("c", 8)],
    );
    let (roles, found) = search(&repositories);
    assert_eq!((roles.join(" "), found), ("a a2 b".into(), Ok(7)));
}

#[test]
fn an_inner_role_comes_before_a_later_outer_role() {
    let repositories = tree(&[to("a", "ultra/*"), to("b", "ultra/*")], &[("a", &[to("a1", "ultra/*")])], &[("a1", 7), ("b", 8)]);
    let (roles, found) = search(&repositories);
    assert_eq!((roles.join(" "), found), ("a a1".into(), Ok(7)));
}

#[test]
fn nobody_is_asked_after_a_terminating_role() {
    let mut a = to("a", "ultra/*");
    a.terminating = true;
    let repositories = tree(&[a, to("b", "ultra/*")], &[("a", &[to("a1", "ultra/*")])], &[("b", 5)]);
    let (roles, found) = search(&repositories);
    assert_eq!(roles.join(" "), "a a1");
    assert_error(
        &found.unwrap_err(),
        "140 target_unknown (arbitrary software attack): the Image repository does not list ultra/vla-2-2.0.0.index for this hardware",
    );
}

/// A terminating role inside a branch ends the whole search, outer roles included.
#[test]
fn a_terminating_role_inside_a_branch_cannot_be_escaped() {
    let mut a1 = to("a1", "ultra/*");
    a1.terminating = true;
    let repositories = tree(&[to("a", "ultra/*"), to("b", "ultra/*")], &[("a", &[a1])], &[("b", 5)]);
    let (roles, found) = search(&repositories);
    assert_eq!(roles.join(" "), "a a1");
    assert!(matches!(found, Err(TrustError::TargetUnknown { .. })));
}

#[test]
fn a_delegation_for_other_hardware_is_not_followed() {
    let (mut orin, mut thor) = (to("orin", "ultra/*"), to("thor", "ultra/*"));
    orin.hardware_ids = Vec::from([HardwareId::new("orin").unwrap()]);
    thor.hardware_ids = Vec::from([HardwareId::new("thor").unwrap()]);
    let repositories = tree(&[orin, thor], &[], &[("thor", 7), ("orin", 8)]);
    let (roles, found) = search(&repositories);
    assert_eq!((roles.join(" "), found), ("thor".into(), Ok(7)));
}

#[test]
fn a_role_that_lists_a_path_outside_its_delegation_is_not_believed() {
    let repositories = tree(&[to("supplier", "ultra-se/*")], &[], &[("supplier", 5)]);
    let (roles, found) = search(&repositories);
    assert!(roles.is_empty() && matches!(found, Err(TrustError::TargetUnknown { .. })), "{roles:?} {found:?}");
}

#[test]
fn a_cycle_of_delegations_ends() {
    let repositories =
        tree(&[to("a", "ultra/*")], &[("a", &[to("b", "ultra/*")]), ("b", &[to("a", "ultra/*"), to("c", "ultra/*")])], &[("c", 7)]);
    let (roles, found) = search(&repositories);
    assert_eq!((roles.join(" "), found), ("a b c".into(), Ok(7)));
}

#[test]
fn more_roles_than_a_search_visits_are_refused() {
    let many: Vec<_> = (0..40).map(|number| to(&alloc::format!("role-{number}"), "ultra/*")).collect();
    let (roles, found) = search(&tree(&many, &[], &[("role-39", 5)]));
    assert_eq!(roles.len(), limits::DELEGATED_ROLES_MAX);
    assert_error(
        &found.unwrap_err(),
        "116 too_many_delegations (endless data attack): Image repository: the search for ultra/vla-2-2.0.0.index met more than 32 delegated roles",
    );
}

/// What one delegator's key signed is not believed on the word of another delegator, not even from the vehicle's own disk.
#[test]
fn a_held_role_is_verified_anew_when_the_delegators_keys_change() {
    let (mut repositories, mut vehicle) = checked_world();
    let mut delegations = Delegations::default();
    let successors = ["dave", "erin"].map(public);
    delegations.add(DelegatedRole::new("vla-ultra", 2, &successors, &["ultra/*"]), &successors);
    repositories.image.targets.delegations = Some(delegations);
    repositories.image.publish();
    assert_error(
        &vehicle.refusal(&repositories, NOW),
        "102 threshold_not_met (arbitrary software attack): Image repository: vla-ultra version 3 carries 0 of the 2 valid signatures that targets version 3 requires",
    );
    repositories.image.signers.insert("vla-ultra".into(), ["dave", "erin"].map(ToString::to_string).to_vec());
    repositories.image.publish();
    assert_installs(vehicle.check(&repositories, NOW));
}

#[test]
fn a_role_name_with_slashes_stays_a_file_in_the_folder() {
    let repositories = tree(&[to("../vla?#", "ultra/*")], &[], &[("../vla?#", 5)]);
    let mut vehicle = TestVehicle::new(&repositories);
    let outcome = vehicle.check_with(NOW, |request| {
        let unquoted = request.file_name.replace("..%2Fvla%3F%23", "../vla?#");
        assert!(!request.file_name.contains(['/', '?', '#']), "{}", request.file_name);
        repositories.fetch(&FetchRequest { file_name: unquoted, ..request.clone() })
    });
    assert_installs(outcome);
    assert!(vehicle.disk.get(Repository::Image, "..%2Fvla%3F%23.json").is_some());
}
