//! Delegations that lead in circles, without end, past a terminating role, or to a role that somebody else appointed.

use switchback_signing::{
    digest::Sha256Digest,
    metadata::{Agreement, DelegatedRole, Delegations, Hashes, Region, RoleKeys, RootRole, SuccinctRoles, TargetMeta},
    testing::{TestRepositories, public},
    trust::Attack::{self, ArbitrarySoftware, EndlessData, MixAndMatch},
};

use super::{
    scene::{Scene, attack, index_path},
    words::reworded,
};

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

/// Nobody but its bin may list a path: what the bin does not list, nobody behind the bins does.
#[test]
fn a19_a_bin_cannot_be_escaped() {
    let scene = attack(|all| {
        let keys = RoleKeys::new(vec![public("bin").key_id()], 1);
        let bins = SuccinctRoles { keys, bit_length: 1, name_prefix: "bin".into(), extra: Default::default() };
        let own = bins.name_of(&index_path(3));
        all.image.add_role(&own, &["bin"]);
        tree(all, &[to("a", "ultra/*"), to("b", "ultra/*")], &[], "b");
        let keys = delegations(&[to("bin", "")]).unwrap().keys;
        all.image.role("a").delegations = Some(Delegations { keys, bins: Some(bins), ..Delegations::default() });
        all.image.publish();
    });
    is_refused_as(scene, 140, "target_unknown", ArbitrarySoftware);
}

/// The engineers' release must be co-signed by the OEM, which lists it as `word` says.
fn cosigned(all: &mut TestRepositories, word: impl FnOnce(TargetMeta) -> Option<TargetMeta>) {
    let release = all.image.role("vla-ultra").targets[&index_path(3)].clone();
    let delegations = all.image.targets.delegations.as_mut().unwrap();
    delegations.add(to("oem", "ultra/*"), &[public("oem")]);
    delegations.require_agreement(&["vla-ultra", "oem"], 2).unwrap();
    all.image.add_role("oem", &["oem"]);
    all.image.role("oem").targets.extend(word(release).map(|word| (index_path(3), word)));
}

fn agreement(roles: &[&str], roles_min: u64) -> Agreement {
    Agreement { roles: roles.iter().map(ToString::to_string).collect(), roles_min, extra: Default::default() }
}

/// Whoever has the engineers' keys and not the OEM's, or the other way round.
#[test]
fn a10_a_release_that_the_cosigner_did_not_sign_alike_is_refused() {
    let words: [fn(TargetMeta) -> Option<TargetMeta>; 4] = [
        |_| None,
        |word| Some(TargetMeta { length: word.length + 1, ..word }),
        |word| Some(TargetMeta { hashes: Hashes::of_sha256(Sha256Digest::of(b"of the thief")), ..word }),
        |word| {
            let mut release = word.release().unwrap();
            release.regions = vec![Region::new("eu").unwrap()];
            Some(TargetMeta { custom: TargetMeta::of_release(b"", &release).custom, ..word })
        },
    ];
    for word in words {
        let scene = attack(|all| {
            cosigned(all, word);
            all.image.publish();
        });
        is_refused_as(scene, 120, "roles_disagree", ArbitrarySoftware);
    }
}

/// A role behind those that must agree lists what one of them alone has signed.
#[test]
fn a10_a_cosigner_cannot_be_walked_around() {
    let scene = attack(|all| {
        cosigned(all, |_| None);
        let release = all.image.role("vla-ultra").targets[&index_path(3)].clone();
        all.image.targets.delegations.as_mut().unwrap().add(to("friend", "ultra/*"), &[public("friend")]);
        all.image.add_role("friend", &["friend"]);
        list(all, "friend", release);
    });
    is_refused_as(scene, 120, "roles_disagree", ArbitrarySoftware);
}

/// One of the engineers would speak for the OEM as well, whose word would not be needed.
#[test]
fn a12_one_key_for_two_roles_that_must_agree_is_refused() {
    let scene = attack(|all| {
        let release = all.image.role("vla-ultra").targets[&index_path(3)].clone();
        let delegations = all.image.targets.delegations.as_mut().unwrap();
        delegations.add(DelegatedRole::new("oem", 1, &[public("alice")], &["ultra/*"]), &[public("alice")]);
        delegations.agreements.push(agreement(&["vla-ultra", "oem"], 2));
        all.image.add_role("oem", &["alice"]);
        list(all, "oem", release);
    });
    is_refused_as(scene, 101, "metadata_malformed", ArbitrarySoftware);
}

/// Each of so many roles would be asked, one after the other, for every release.
#[test]
fn a08_an_agreement_of_more_roles_than_there_may_be_is_refused() {
    let scene = attack(|all| {
        let names: Vec<String> = (0..16).map(|number| format!("oem-{number}")).collect();
        for name in &names {
            all.image.targets.delegations.as_mut().unwrap().add(to(name, "ultra/*"), &[public(name)]);
            all.image.add_role(name, &[name]);
        }
        let roles: Vec<&str> = ["vla-ultra"].into_iter().chain(names.iter().map(String::as_str)).collect();
        all.image.targets.delegations.as_mut().unwrap().agreements.push(agreement(&roles, 1));
        all.image.publish();
    });
    is_refused_as(scene, 101, "metadata_malformed", ArbitrarySoftware);
}

/// One of the roles that must agree is named a second time by itself, or more of them must agree than there are.
#[test]
fn a23_an_agreement_that_can_be_understood_in_two_ways_is_refused() {
    let min = r#""min_roles_in_agreement":2"#;
    let alone = format!(
        r#""roles":[{{"keyids":["{}"],"name":"oem","paths":["ultra/*"],"terminating":false,"threshold":1}},{{{min}"#,
        public("oem").key_id()
    );
    for (from, to) in [(format!(r#""roles":[{{{min}"#), alone), (min.to_owned(), min.replace('2', "3"))] {
        let scene = attack(|all| {
            cosigned(all, Some);
            all.image.publish();
            reworded(&mut all.image, "targets", &from, &to);
        });
        is_refused_as(scene, 101, "metadata_malformed", ArbitrarySoftware);
    }
}
