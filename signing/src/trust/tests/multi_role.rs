//! Roles that are believed only together (Uptane, 5.4.4.7): release engineers and an automaker that co-signs.

use alloc::string::String;

use super::{
    delegations::{search, to, tree},
    *,
};
use crate::metadata::DelegatedRole;

/// Roles `a`, `b`, `c` of which `roles_min` must agree, then `later`; listed are counters by role.
fn agreeing(roles_min: u64, inner: &[(&str, &[DelegatedRole])], listing: &[(&str, u64)], terminating: bool) -> TestRepositories {
    let member = |name: &str| DelegatedRole { terminating, ..to(name, "ultra/*") };
    let mut repositories = tree(&[member("a"), member("b"), member("c"), to("later", "ultra/*")], inner, listing);
    let delegations = repositories.image.targets.delegations.as_mut().unwrap();
    delegations.require_agreement(&["a", "b", "c"], roles_min).unwrap();
    repositories.image.publish();
    repositories
}

#[track_caller]
fn check(repositories: &TestRepositories, roles: &str, expected: Result<u64, &str>) {
    let (visited, found) = search(repositories);
    assert_eq!(visited.join(" "), roles);
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(error), Err(expected)) => assert_error(&error, expected),
        (found, expected) => panic!("expected {expected:?}, found {found:?}"),
    }
}

const ONLY_ONE: &str = "120 roles_disagree (arbitrary software attack): 2 of the roles a, b, c must list ultra/vla-2-2.0.0.index alike, but only 1 do; the others must sign it as well";
const UNLISTED: &str =
    "140 target_unknown (arbitrary software attack): the Image repository does not list ultra/vla-2-2.0.0.index for this hardware";

#[test]
fn a_release_that_enough_roles_list_alike_is_found() {
    check(&agreeing(2, &[], &[("a", 7), ("b", 7)], false), "a b c", Ok(7));
    check(&agreeing(2, &[], &[("b", 7), ("c", 7)], false), "a b c", Ok(7));
    check(&agreeing(3, &[], &[("a", 7), ("b", 7), ("c", 7)], true), "a b c", Ok(7));
    check(&agreeing(1, &[], &[("c", 7)], false), "a b c", Ok(7));
}

/// Whoever holds the keys of one role alone installs nothing, and nobody behind the roles can speak in their place.
#[test]
fn a_role_without_the_others_is_not_believed() {
    for listing in [&[("a", 7)][..], &[("c", 7), ("later", 7)], &[("a", 7), ("b", 8), ("later", 7)]] {
        check(&agreeing(2, &[], listing, false), "a b c", Err(ONLY_ONE));
    }
}

#[test]
fn of_two_sets_that_agree_the_one_with_the_earliest_role_wins() {
    let member = |name: &str| to(name, "ultra/*");
    let listing = [("a", 8), ("b", 7), ("c", 7), ("d", 8)];
    let mut repositories = tree(&[member("a"), member("b"), member("c"), member("d")], &[], &listing);
    repositories.image.targets.delegations.as_mut().unwrap().require_agreement(&["a", "b", "c", "d"], 2).unwrap();
    repositories.image.publish();
    check(&repositories, "a b c d", Ok(8));
}

#[test]
fn where_none_of_them_lists_the_path_the_next_delegation_is_asked_unless_they_end_the_search() {
    check(&agreeing(2, &[], &[("later", 7)], false), "a b c later", Ok(7));
    check(&agreeing(2, &[], &[("later", 7)], true), "a b c", Err(UNLISTED));
}

#[test]
fn what_a_role_has_delegated_is_its_word_and_ends_no_other_roles_search() {
    let inner: &[(&str, &[DelegatedRole])] = &[("a", &[DelegatedRole { terminating: true, ..to("a1", "ultra/*") }])];
    check(&agreeing(2, inner, &[("a1", 7), ("c", 7)], false), "a a1 b c", Ok(7));
    check(&agreeing(2, inner, &[("b", 7), ("c", 7)], false), "a a1 b c", Ok(7));
    check(&agreeing(2, inner, &[("a1", 7), ("b", 8)], false), "a a1 b c", Err(ONLY_ONE));
}

#[test]
fn a_cycle_through_an_agreement_ends() {
    let inner: &[(&str, &[DelegatedRole])] = &[("b", &[to("a", "ultra/*")]), ("a", &[to("b", "ultra/*"), to("a", "ultra/*")])];
    check(&agreeing(2, inner, &[("later", 7)], false), "a b c later", Ok(7));
}

/// A signature below a role's threshold is no word of that role.
#[test]
fn each_role_of_an_agreement_needs_its_own_keys() {
    let mut repositories = agreeing(2, &[], &[("a", 7), ("b", 7)], false);
    repositories.image.signers.insert("b".into(), Vec::from([String::from("a")]));
    repositories.image.publish();
    let (_, found) = search(&repositories);
    assert!(matches!(found, Err(TrustError::ThresholdNotMet { valid: 0, .. })), "{found:?}");
}
