//! Thresholds, key ids, and bytes that were changed on the way.

use alloc::string::String;

use proptest::prelude::*;

use super::*;
use crate::{
    keys::{KeyId, KeyObject},
    metadata::{DelegatedRole, Delegations, MetaFile, RoleKeys},
    testing::{TestRepository, public},
};

const BELOW: &str = "102 threshold_not_met (arbitrary software attack): Image repository: vla-ultra version 3 carries 1 of the 2 valid signatures that targets version 3 requires";

fn engineers_sign(signers: &[&str]) -> TestRepositories {
    let (mut repositories, _) = world();
    repositories.image.signers.insert("vla-ultra".into(), signers.iter().map(ToString::to_string).collect());
    repositories.image.publish();
    repositories
}

#[test]
fn one_engineer_alone_is_below_the_threshold() {
    let (_, vehicle) = world();
    assert_refused(&engineers_sign(&["bob"]), &vehicle, BELOW);
    assert_refused(&engineers_sign(&["bob", "mallory"]), &vehicle, BELOW);
    assert_installs(vehicle.clone().check(&engineers_sign(&["carol", "bob"]), NOW));
}

#[test]
fn two_signatures_under_one_key_id_make_the_file_unreadable() {
    let (_, vehicle) = world();
    let key_id = public("bob").key_id();
    assert_refused(
        &engineers_sign(&["alice", "bob", "bob"]),
        &vehicle,
        &alloc::format!(
            "101 metadata_malformed (arbitrary software attack): Image repository: vla-ultra.json: two signatures carry the key id {key_id}"
        ),
    );
}

/// One engineer's key under a second name must not make two engineers.
#[test]
fn one_key_under_two_key_ids_counts_once() {
    let (mut repositories, vehicle) = world();
    let mut delegations = Delegations::default();
    let mut role = DelegatedRole::new("vla-ultra", 2, &[public("bob")], &["ultra/*"]);
    role.keys = RoleKeys::new(Vec::from([public("bob").key_id(), KeyId::new("alias")]), 2);
    delegations.add(role, &[public("bob")]);
    delegations.keys.insert(KeyId::new("alias"), KeyObject::from(&public("bob")));
    repositories.image.targets.delegations = Some(delegations);
    repositories.image.signers.insert("vla-ultra".into(), Vec::from(["bob".into()]));
    repositories.image.publish();
    edit(&mut repositories.image, "3.vla-ultra.json", |text| {
        let entry = text.split_once("[").unwrap().1.split_once("]").unwrap().0;
        let alias = entry.replace(public("bob").key_id().as_str(), "alias");
        text.replace(entry, &alloc::format!("{entry},{alias}"))
    });
    let listed = MetaFile::of(3, &repositories.image.files["3.vla-ultra.json"]);
    repositories.image.snapshot.meta.insert("vla-ultra.json".into(), listed);
    repositories.image.publish_snapshot();
    assert_refused(&repositories, &vehicle, BELOW);
}

/// A declared key id is a name and no more: a repository that computes it in another way is read all the same.
#[test]
fn a_key_id_that_we_would_compute_differently_is_accepted() {
    let (mut repositories, _) = world();
    let ours = public("director-timestamp").key_id();
    edit_root(&mut repositories.director, |text| text.replace(ours.as_str(), "timestamp-key-2026"));
    edit(&mut repositories.director, "timestamp.json", |text| text.replace(ours.as_str(), "timestamp-key-2026"));
    assert_installs(TestVehicle::new(&repositories).check(&repositories, NOW));
}

/// A key id that lies about which key it names gives the named key nothing.
#[test]
fn a_key_id_that_names_another_key_does_not_help() {
    let (mut repositories, _) = world();
    let (honest, thief) = (public("director-timestamp").key_id(), public("thief").key_id());
    repositories.director.signers.insert("timestamp".into(), Vec::from(["thief".into()]));
    repositories.director.publish_timestamp();
    edit(&mut repositories.director, "timestamp.json", |text| text.replace(thief.as_str(), honest.as_str()));
    assert_refused(
        &repositories,
        &TestVehicle::new(&repositories),
        "102 threshold_not_met (arbitrary software attack): Director: timestamp version 3 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}

#[test]
fn keys_and_signatures_of_unknown_schemes_are_ignored_and_never_counted() {
    let (mut repositories, _) = world();
    let timestamp = public("director-timestamp").key_id();
    edit_root(&mut repositories.director, |text| {
        let unknown = r#""keys":{"future":{"keytype":"ml-dsa","keyval":{"public":"?"},"scheme":"ml-dsa-65"},"#;
        let named = alloc::format!(r#""timestamp":{{"keyids":["future","{timestamp}""#);
        text.replace(r#""keys":{"#, unknown).replace(&alloc::format!(r#""timestamp":{{"keyids":["{timestamp}""#), &named)
    });
    edit(&mut repositories.director, "timestamp.json", |text| {
        text.replace(r#""signatures":["#, r#""signatures":[{"keyid":"future","sig":""},{"keyid":"?","sig":"not hex"},"#)
    });
    assert_installs(TestVehicle::new(&repositories).check(&repositories, NOW));
    edit(&mut repositories.director, "timestamp.json", |text| text.replace(timestamp.as_str(), "nobody"));
    assert!(matches!(TestVehicle::new(&repositories).refusal(&repositories, NOW), TrustError::ThresholdNotMet { valid: 0, .. }));
}

#[test]
fn a_threshold_of_zero_is_no_threshold() {
    let (mut repositories, _) = world();
    edit_root(&mut repositories.director, |text| text.replace(r#""threshold":1"#, r#""threshold":0"#));
    assert_refused(
        &repositories,
        &TestVehicle::new(&repositories),
        "101 metadata_malformed (arbitrary software attack): Director: root.json: signed.roles.root.threshold is not an integer from 1 on",
    );
}

#[test]
fn metadata_of_one_role_is_not_taken_for_another() {
    let (mut repositories, vehicle) = world();
    let snapshot = repositories.director.files["2.snapshot.json"].clone();
    repositories.director.files.insert("timestamp.json".into(), snapshot);
    assert_refused(
        &repositories,
        &vehicle,
        "101 metadata_malformed (arbitrary software attack): Director: timestamp.json: this is snapshot metadata where timestamp metadata was expected",
    );
}

/// Even with all four roles under one key, a repository's metadata says nothing in the other.
#[test]
fn metadata_of_one_repository_is_not_taken_for_the_others() {
    let (mut repositories, vehicle) = world();
    repositories.director.files = repositories.image.files.clone();
    assert_refused(
        &repositories,
        &vehicle,
        "102 threshold_not_met (arbitrary software attack): Director: timestamp version 2 carries 0 of the 1 valid signatures that root version 1 requires",
    );
}

/// Changes a served file without signing it again.
fn edit(repository: &mut TestRepository, file_name: &str, change: impl Fn(String) -> String) {
    let text = change(String::from_utf8(repository.files[file_name].clone()).unwrap());
    repository.files.insert(file_name.into(), text.into_bytes());
}

/// Changes the text of the first root and signs it again.
fn edit_root(repository: &mut TestRepository, change: impl Fn(String) -> String) {
    edit(repository, "1.root.json", |text| {
        let changed = change(text);
        let bytes = crate::metadata::add_signature(changed.as_bytes(), changed.len(), &crate::testing::key("director-root"));
        String::from_utf8(bytes.unwrap_or_else(|_| changed.into_bytes())).unwrap()
    });
}

proptest! {
    /// The heart of it: whatever bit of whatever file is flipped on the way, the vehicle refuses.
    #[test]
    fn one_changed_bit_in_any_file_is_refused(file in 0_usize..7, bit: prop::sample::Index) {
        let (repositories, mut vehicle) = world();
        let mut number = 0;
        let mut spelling_only = false;
        let outcome = vehicle.check_with(NOW, |request| {
            let mut bytes = repositories.fetch(request)?;
            if number == file {
                let original = bytes.clone();
                let at = bit.index(bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
                // A hexadecimal digit in capitals is the same signature.
                spelling_only = bytes.eq_ignore_ascii_case(&original) && at / 8 < find(&original, b"\"signed\"");
            }
            number += 1;
            Ok(bytes)
        });
        prop_assert!(spelling_only || matches!(outcome, Outcome::Refused(_)), "{:?}", outcome);
        prop_assert!(number > file, "the file was asked for");
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}
