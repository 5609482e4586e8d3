//! Delegations that lead in circles, without end, past a terminating role, or to a role that somebody else appointed.

use switchback_signing::{
    metadata::{DelegatedRole, Delegations, RootRole, TargetMeta},
    testing::{TestRepositories, public},
    trust::Attack::{self, ArbitrarySoftware, EndlessData, MixAndMatch},
};

use super::scene::{Scene, attack, index_path};

/// A delegation to `name` under the key of the same name.
fn to(name: &str, pattern: &str) -> DelegatedRole {
    DelegatedRole::new(name, 1, &[public(name)], &[pattern])
}

fn delegations(roles: &[DelegatedRole]) -> Option<Delegations> {
    let mut delegations = Delegations::default();
    for role in roles {
        delegations.add(role.clone(), &[public(&role.name)]);
    }
    Some(delegations)
}

/// The Image repository delegates as given, from the top and from inner roles, and `listing` lists release 3 in place of the engineers.
fn tree(all: &mut TestRepositories, top: &[DelegatedRole], inner: &[(&str, &[DelegatedRole])], listing: &str) {
    let release = all.image.role("vla-ultra").targets.remove(&index_path(3)).unwrap();
    all.image.targets.delegations = delegations(top);
    for role in top.iter().chain(inner.iter().flat_map(|(_, roles)| *roles)) {
        all.image.add_role(&role.name, &[&role.name]);
    }
    for (name, roles) in inner {
        all.image.role(name).delegations = delegations(roles);
    }
    list(all, listing, release);
}

/// Whoever can write such delegations has the Image repository's targets, snapshot and timestamp keys. A new root revokes the snapshot's,
/// which also takes back that the snapshot once listed the thief's roles.
#[track_caller]
fn is_refused_as(mut scene: Scene, number: u32, name: &str, attack: Attack) {
    scene.refuses(number, name, attack);
    scene.attack(|all| {
        all.image.rotate(RootRole::Snapshot);
        all.image.publish();
    });
    scene.now_honest();
    scene.recovers();
}

fn list(all: &mut TestRepositories, role: &str, release: TargetMeta) {
    all.image.role(role).targets.insert(index_path(3), release);
    all.image.publish();
}

#[test]
fn a10_a_supplier_cannot_list_what_is_not_delegated_to_it() {
    let scene = attack(|all| tree(all, &[to("supplier", "ultra-se/*")], &[], "supplier"));
    is_refused_as(scene, 140, "target_unknown", ArbitrarySoftware);
}

#[test]
fn a19_a_cycle_of_delegations_ends() {
    let scene = attack(|all| {
        tree(all, &[to("a", "ultra/*"), to("c", "none/*")], &[("a", &[to("b", "ultra/*")]), ("b", &[to("a", "ultra/*")])], "c");
    });
    is_refused_as(scene, 140, "target_unknown", ArbitrarySoftware);
}

#[test]
fn a19_delegations_without_end_are_refused() {
    let scene = attack(|all| {
        let names: Vec<String> = (0..40).map(|number| format!("role-{number}")).collect();
        let next: Vec<[DelegatedRole; 1]> = names.iter().skip(1).map(|name| [to(name, "ultra/*")]).collect();
        let inner: Vec<(&str, &[DelegatedRole])> = names.iter().zip(&next).map(|(name, next)| (name.as_str(), &next[..])).collect();
        tree(all, &[to("role-0", "ultra/*")], &inner, "role-39");
    });
    is_refused_as(scene, 116, "too_many_delegations", EndlessData);
}

/// Who comes after a terminating role is not asked, be it in the same list or in an outer one.
#[test]
fn a19_a_terminating_role_cannot_be_escaped() {
    let mut last = to("a1", "ultra/*");
    last.terminating = true;
    let scene = attack(|all| tree(all, &[to("a", "ultra/*"), to("b", "ultra/*")], &[("a", &[last])], "b"));
    is_refused_as(scene, 140, "target_unknown", ArbitrarySoftware);
}

/// The vehicle holds the role, signed by the engineers; the targets now appoint others for it, who have not signed.
#[test]
fn a19_a_role_that_is_held_is_verified_anew_for_each_delegator() {
    let scene = attack(|all| {
        let others = ["dave", "erin"].map(public);
        let mut delegations = Delegations::default();
        delegations.add(DelegatedRole::new("vla-ultra", 2, &others, &["ultra/*"]), &others);
        all.image.targets.delegations = Some(delegations);
        all.image.publish();
    });
    is_refused_as(scene, 102, "threshold_not_met", ArbitrarySoftware);
}

#[test]
fn a19_a_role_that_no_snapshot_lists_is_refused() {
    let scene = attack(|all| {
        tree(all, &[to("a", "ultra/*")], &[], "a");
        all.image.snapshot.meta.remove("a.json");
        all.image.publish_snapshot();
    });
    is_refused_as(scene, 107, "file_unlisted", MixAndMatch);
}
