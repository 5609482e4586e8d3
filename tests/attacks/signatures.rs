//! Signatures that are missing, too few, repeated, renamed, revoked, malleable, or of another role, scheme or repository.

use std::slice;

use switchback_signing::{
    keys::{KeyId, KeyObject, PublicKey},
    metadata::{self, DelegatedRole, Delegations, MetaFile, RoleKeys, RootRole},
    testing::{TestRepositories, TestRepository, key, public},
    trust::Attack::{ArbitrarySoftware, EndlessData, Rollback},
};

use super::scene::{Scene, attack};

const BELOW: (u32, &str) = (102, "threshold_not_met");

/// Changes a file that is served, without signing it again.
pub(super) fn edit(repository: &mut TestRepository, file_name: &str, change: impl Fn(String) -> String) {
    let text = change(String::from_utf8(repository.files[file_name].clone()).unwrap());
    repository.files.insert(file_name.into(), text.into_bytes());
}

/// A root version 2 with the text changed, signed by the root key: what its thief could publish.
fn second_root(repository: &mut TestRepository, change: impl Fn(String) -> String) {
    repository.root.version = 2;
    repository.publish_root();
    edit(repository, "2.root.json", |text| {
        let changed = change(text);
        let signed = metadata::add_signature(changed.as_bytes(), changed.len(), &key("director-root"));
        // Text that no honest program would sign is served as it is.
        signed.map_or(changed, |bytes| String::from_utf8(bytes).unwrap())
    });
}

/// The entry of a key among the keys of a root.
fn key_entry<'a>(text: &'a str, id: &str) -> &'a str {
    let start = text.find(&format!(r#""{id}":{{"#)).expect("the key is listed");
    &text[start..start + text[start..].find("}}").unwrap() + 2]
}

/// Signs the release engineers' role with these keys.
fn engineers(all: &mut TestRepositories, signers: &[&str]) {
    all.image.signers.insert("vla-ultra".into(), signers.iter().map(ToString::to_string).collect());
    all.image.publish();
}

#[test]
fn a12_signatures_below_the_threshold_are_refused() {
    let mut scene = Scene::new();
    for signers in [&["bob"][..], &["bob", "mallory"], &[]] {
        scene.attack(|all| engineers(all, signers));
        scene.refuses(BELOW.0, BELOW.1, ArbitrarySoftware);
    }
    scene.recovers();
}

#[test]
fn a12_a_threshold_of_zero_is_refused() {
    attack(|all| second_root(&mut all.director, |text| text.replace(r#""threshold":1"#, r#""threshold":0"#))).refused_as(
        101,
        "metadata_malformed",
        ArbitrarySoftware,
    );
}

#[test]
fn a12_the_same_signature_twice_is_refused() {
    attack(|all| engineers(all, &["alice", "alice"])).refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

/// The delegation gives one engineer's key under two names, so that one person could reach a threshold of two.
#[test]
fn a12_one_key_under_two_key_ids_counts_once() {
    attack(|all| {
        let bob = public("bob");
        let mut role = DelegatedRole::new("vla-ultra", 2, slice::from_ref(&bob), &["ultra/*"]);
        role.keys = RoleKeys::new(vec![bob.key_id(), KeyId::new("alias")], 2);
        let mut delegations = Delegations::default();
        delegations.add(role, slice::from_ref(&bob));
        delegations.keys.insert(KeyId::new("alias"), KeyObject::from(&bob));
        all.image.targets.delegations = Some(delegations);
        engineers(all, &["bob"]);
        let file = format!("{}.vla-ultra.json", all.image.snapshot.meta["vla-ultra.json"].version);
        edit(&mut all.image, &file, |text| {
            let entry = text.split_once('[').unwrap().1.split_once(']').unwrap().0;
            text.replace(entry, &format!("{entry},{}", entry.replace(bob.key_id().as_str(), "alias")))
        });
        let listed = MetaFile::of(all.image.snapshot.meta["vla-ultra.json"].version, &all.image.files[&file]);
        all.image.snapshot.meta.insert("vla-ultra.json".into(), listed);
        all.image.publish_snapshot();
    })
    .refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

/// One key id in a role's list twice, which a client that counts names would count twice.
#[test]
fn a12_a_key_id_that_is_listed_twice_is_refused() {
    attack(|all| {
        let bob = public("bob");
        let mut role = DelegatedRole::new("vla-ultra", 2, slice::from_ref(&bob), &["ultra/*"]);
        role.keys = RoleKeys::new(vec![bob.key_id(), bob.key_id()], 2);
        let mut delegations = Delegations::default();
        delegations.add(role, &[bob]);
        all.image.targets.delegations = Some(delegations);
        engineers(all, &["bob"]);
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

#[test]
fn a13_a_key_id_that_names_another_key_does_not_help() {
    attack(|all| {
        let (honest, thief) = (public("director-timestamp").key_id(), public("thief").key_id());
        all.director.signers.insert("timestamp".into(), vec!["thief".into()]);
        all.director.publish_timestamp();
        edit(&mut all.director, "timestamp.json", |text| text.replace(thief.as_str(), honest.as_str()));
    })
    .refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

/// Two keys under one id: which of them counts would depend on the reader.
#[test]
fn a13_two_keys_under_one_key_id_are_refused() {
    attack(|all| {
        let (honest, thief) = (public("director-timestamp"), public("thief"));
        second_root(&mut all.director, |text| {
            let id = honest.key_id();
            let to_hex = |key: &PublicKey| hex(key.as_bytes());
            let entry = key_entry(&text, id.as_str());
            text.replace(entry, &format!("{entry},{}", entry.replace(&to_hex(&honest), &to_hex(&thief))))
        });
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

#[test]
fn a14_metadata_of_one_role_is_not_taken_for_another() {
    let mut scene = Scene::new();
    for (shown, name) in [("timestamp.json", "snapshot"), ("timestamp.json", "targets"), ("2.root.json", "targets")] {
        scene.attack(|all| {
            let newest = all.director.snapshot.version;
            let other = all.director.files[&format!("{newest}.{name}.json")].clone();
            all.director.files.insert(shown.into(), other);
        });
        scene.refuses(101, "metadata_malformed", ArbitrarySoftware);
    }
    scene.recovers();
}

/// A thief of the snapshot and timestamp keys lists the snapshot in place of the targets.
#[test]
fn a14_a_snapshot_in_place_of_targets_is_refused() {
    attack(|all| {
        let director = &mut all.director;
        let version = director.snapshot.version;
        let snapshot = director.files[&format!("{version}.snapshot.json")].clone();
        director.snapshot.meta.insert("targets.json".into(), MetaFile::of(version + 1, &snapshot));
        director.files.insert(format!("{}.targets.json", version + 1), snapshot);
        director.publish_snapshot();
    })
    .refused_as(101, "metadata_malformed", ArbitrarySoftware);
}

#[test]
fn a14_metadata_of_one_repository_is_not_taken_for_the_others() {
    let mut scene = attack(|all| all.director.files = all.image.files.clone());
    scene.refuses(BELOW.0, BELOW.1, ArbitrarySoftware);
    scene.attack(|all| all.image.files = all.director.files.clone());
    scene.refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

#[test]
fn a14_the_root_of_the_other_repository_is_refused() {
    let scene = attack(|all| {
        all.image.rotate(RootRole::Timestamp);
        all.director.files.insert("2.root.json".into(), all.image.files["2.root.json"].clone());
        all.image.files.remove("2.root.json");
    });
    scene.refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

#[test]
fn a20_a_root_that_skips_a_version_is_refused() {
    attack(|all| {
        all.director.root.version = 3;
        let skipping = all.director.sign("root", &all.director.root);
        all.director.files.insert("2.root.json".into(), skipping);
    })
    .refused_as(103, "root_version", Rollback);
}

#[test]
fn a20_a_root_without_the_signatures_of_the_old_keys_is_refused() {
    attack(|all| {
        all.director.root.version = 2;
        all.director.root.set_role(RootRole::Root, 1, &[public("thief")]);
        all.director.signers.insert("root".into(), vec!["thief".into()]);
        all.director.publish_root();
    })
    .refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

#[test]
fn a20_a_root_without_the_signatures_of_its_own_keys_is_refused() {
    attack(|all| {
        all.director.root.version = 2;
        all.director.root.set_role(RootRole::Root, 1, &[public("new")]);
        all.director.publish_root();
    })
    .refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

/// A thief of the root key publishes roots without end; each check follows so many, keeps them, and goes on from there next time.
#[test]
fn a20_roots_without_end_are_followed_a_part_at_a_time() {
    let mut scene = attack(|all| {
        for version in 2..=300 {
            all.director.root.version = version;
            all.director.publish_root();
        }
    });
    scene.now_honest();
    scene.refused_as(104, "too_many_roots", EndlessData);
}

/// A thief has the Director's timestamp key; a new root without it, and what it signed is worth nothing from the next check on.
#[test]
fn a27_what_a_revoked_key_signed_is_refused_at_the_next_check() {
    let mut scene = attack(|all| {
        let stolen = all.director.files["timestamp.json"].clone();
        all.director.rotate(RootRole::Timestamp);
        all.director.files.insert("timestamp.json".into(), stolen);
    });
    scene.now_honest();
    scene.refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

#[test]
fn a27_targets_that_a_revoked_key_signed_are_refused() {
    let mut scene = attack(|all| {
        all.director.rotate(RootRole::Targets);
        all.director.signers.insert("targets".into(), vec!["director-targets".into()]);
        all.director.publish();
    });
    scene.refuses(BELOW.0, BELOW.1, ArbitrarySoftware);
    scene.attack(|all| {
        all.director.rotate(RootRole::Targets);
        all.director.publish();
    });
    scene.now_honest();
    scene.recovers();
}

/// A root version 2 in which the timestamp's key is written in another way: what a thief of the root key could publish.
fn with_timestamp_key(director: &mut TestRepository, from: &str, to: &str) {
    let id = public("director-timestamp").key_id();
    second_root(director, |text| {
        let entry = key_entry(&text, id.as_str());
        assert!(entry.contains(from), "{entry}");
        text.replace(entry, &entry.replace(from, to))
    });
}

/// What a thief of the root key has published stays; the next root takes it back.
fn recovers_from_second_root(scene: &mut Scene, second_root: impl Fn(&mut TestRepository)) {
    scene.attack(|all| {
        second_root(&mut all.director);
        all.director.root.version = 3;
        all.director.publish_root();
    });
    scene.now_honest();
    scene.recovers();
}

/// A scheme that nobody knows, or that is no signature at all, never counts towards a threshold.
#[test]
fn a28_a_key_of_another_scheme_is_never_counted() {
    for scheme in ["none", "hmac-sha256"] {
        let other = format!(r#""scheme":"{scheme}""#);
        let second_root = |director: &mut TestRepository| with_timestamp_key(director, r#""scheme":"ed25519""#, &other);
        let mut scene = attack(|all| second_root(&mut all.director));
        scene.refuses(BELOW.0, BELOW.1, ArbitrarySoftware);
        recovers_from_second_root(&mut scene, second_root);
    }
}

/// The order of the group of Ed25519, little endian.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0x10,
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The signature of the first entry.
fn signature(text: &str) -> &str {
    text.split_once(r#""sig":""#).unwrap().1.split('"').next().unwrap()
}

/// The group's order added to S: other bytes that a lenient library takes for the same signature.
#[test]
fn a30_a_malleable_signature_is_refused() {
    attack(|all| {
        edit(&mut all.director, "timestamp.json", |text| {
            let mut bytes = from_hex(signature(&text));
            let mut carry = 0_u16;
            for (byte, order) in bytes[32..].iter_mut().zip(GROUP_ORDER) {
                carry += u16::from(*byte) + u16::from(order);
                *byte = (carry & 0xff) as u8;
                carry >>= 8;
            }
            assert_eq!(carry, 0, "S + L fits, so that only a check of its size can tell");
            text.replace(signature(&text), &hex(&bytes))
        });
    })
    .refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

/// A key of small order, with the neutral element as R and 0 as S: a lenient library takes that for its signature on anything.
#[test]
fn a30_a_key_of_small_order_signs_nothing() {
    let neutral = [&[1][..], &[0; 31]].concat();
    let honest = hex(public("director-timestamp").as_bytes());
    let second_root = |director: &mut TestRepository| with_timestamp_key(director, &honest, &hex(&neutral));
    let mut scene = attack(|all| {
        second_root(&mut all.director);
        let universal = hex(&[&neutral[..], &[0; 32]].concat());
        edit(&mut all.director, "timestamp.json", |text| text.replace(signature(&text), &universal));
    });
    scene.refuses(BELOW.0, BELOW.1, ArbitrarySoftware);
    recovers_from_second_root(&mut scene, second_root);
}

/// Thieves of every online key of the Image repository are still no engineers.
#[test]
fn a10_the_online_keys_cannot_sign_for_the_engineers() {
    attack(|all| engineers(all, &["image-targets", "image-snapshot", "image-timestamp"])).refused_as(BELOW.0, BELOW.1, ArbitrarySoftware);
}

/// Another spelling of the same point: were it taken, one key could count twice towards a threshold.
#[test]
fn a30_a_second_spelling_of_a_point_is_no_key() {
    // The points whose y is below 19 can also be written as y + p; those that are on the curve and not of small order.
    let spellings = |y: u8| {
        let first: [u8; 32] = std::array::from_fn(|at| if at == 0 { y } else { 0 });
        let second: [u8; 32] = std::array::from_fn(|at| match at {
            0 => 0xed + y,
            31 => 0x7f,
            _ => 0xff,
        });
        (first, second)
    };
    let points: Vec<_> = (2..18).map(spellings).filter(|(first, _)| PublicKey::ed25519(*first).is_ok()).collect();
    assert!(!points.is_empty());
    for (_, second) in points {
        assert!(PublicKey::ed25519(second).is_err(), "{second:02x?}");
    }
}
