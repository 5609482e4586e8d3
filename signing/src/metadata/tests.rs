#![allow(clippy::unwrap_used, clippy::expect_used)]
use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{
    json::Json,
    vehicle::{EcuReport, EnrolledSecondary, EnrollmentRequest, EnrollmentResponse, ReportPayload, SECONDARIES_MAX, sign_report},
    *,
};
use crate::{
    keys::{KeyObject, PublicKey, Sha256Digest, Signature, Signer, SignerError, sealing::DecryptionKey},
    testing::{NOW, TestRepositories, custom, key, public},
    time::UnixTime,
};

/// Reads metadata, writes it again, and compares what was read and what the signatures cover.
fn assert_kept<T: Document + PartialEq + core::fmt::Debug>(bytes: &[u8]) {
    let read = Signed::<T>::parse(bytes, bytes.len()).unwrap();
    let written = sign(&read.signed, &[]).unwrap();
    let again = Signed::<T>::parse(&written, written.len()).unwrap();
    assert_eq!(again.message(), read.message());
    assert_eq!((again.signed, again.signatures.len()), (read.signed, 0));
}

#[test]
fn what_is_read_is_written_the_same_with_its_unknown_fields() {
    let unknown = r#""x-note":{"b":[1,null],"a":"\u00e9"},"#;
    let mut repositories = TestRepositories::new();
    repositories.publish_release("ultra/a.index", b"a");
    repositories.assign("ultra/a.index");
    let text = |name: &str| String::from_utf8(repositories.image.files[name].clone()).unwrap();
    let extended = |name: &str| text(name).replace(r#""_type""#, &alloc::format!(r#"{unknown}"_type""#));
    assert_kept::<Root>(extended("1.root.json").as_bytes());
    assert_kept::<Timestamp>(extended("timestamp.json").as_bytes());
    assert_kept::<Snapshot>(extended("2.snapshot.json").as_bytes());
    assert_kept::<Targets>(extended("2.targets.json").as_bytes());
    assert_kept::<Targets>(extended("2.vla-ultra.json").replace(r#""length""#, r#""x":1,"length""#).as_bytes());
    assert_kept::<Targets>(&repositories.director.files["2.targets.json"]);
}

/// Fields that other tools write and we do not.
#[test]
fn metadata_of_other_tools_is_kept() {
    let root = r#"{"signatures":[],"signed":{"_type":"root","spec_version":"1.0.31","version":3,"expires":"2030-01-01T00:00:00Z",
        "keys":{"a":{"keytype":"ecdsa","scheme":"ecdsa-sha2-nistp256","keyid_hash_algorithms":["sha256"],"keyval":{"public":"-----BEGIN\n"}}},
        "roles":{"root":{"keyids":["a"],"threshold":1},"timestamp":{"keyids":[],"threshold":1},"snapshot":{"keyids":["gone"],"threshold":2},
        "targets":{"keyids":["a"],"threshold":1,"x":1},"mirrors":{"keyids":["a"],"threshold":1}}}}"#;
    let read = Signed::<Root>::parse(root.as_bytes(), root.len()).unwrap().signed;
    assert!(!read.consistent_snapshot && read.keys.values().all(|key| key.public_key().is_none()));
    assert_kept::<Root>(root.replace(r#""version":3"#, r#""version":3,"consistent_snapshot":false"#).as_bytes());
    let snapshot = r#"{"signatures":[],"signed":{"_type":"snapshot","spec_version":"1.0.31","version":1,"expires":"2030-01-01T00:00:00Z",
        "meta":{"targets.json":{"version":1,"hashes":{"blake3":"00"}},"a.json":{"version":2}}}}"#;
    assert_kept::<Snapshot>(snapshot.as_bytes());
    let targets = r#"{"signatures":[],"signed":{"_type":"targets","spec_version":"1.0.31","version":1,"expires":"2030-01-01T00:00:00Z",
        "targets":{"a":{"length":1,"hashes":{"blake3":"00","blake2b-256":"1"}}},"custom":{"x":1,"vehicleId":"v-1"},
        "delegations":{"keys":{},"roles":[{"name":"h","keyids":[],"threshold":1,"terminating":true,"path_hash_prefixes":["0","f1"]}]}}}"#;
    assert_kept::<Targets>(targets.as_bytes());
}

#[track_caller]
fn check(change: impl Fn(&str) -> String, expected: &str) {
    let mut repositories = TestRepositories::new();
    repositories.publish_release("ultra/a.index", b"a");
    let text = String::from_utf8(repositories.image.files["2.targets.json"].clone()).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text, "the test changes something");
    let error = Signed::<Targets>::parse(changed.as_bytes(), 4_096).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_error_names_the_field_and_what_it_should_be() {
    check(|text| text.replace(r#""version":2"#, r#""version":0"#), "signed.version is not an integer from 1 on");
    check(|text| text.replace(r#""version":2"#, r#""version":-2"#), "signed.version is not an integer from 0 on");
    check(|text| text.replace(r#""version":2"#, r#""version":"2""#), "signed.version is not an integer from 0 on");
    check(|text| text.replace(r#""version":2,"#, "").replace(r#","version":2"#, ""), "signed.version is missing");
    check(|text| text.replace("Z\"", "+00:00\""), "signed.expires is not a time of the form 2027-01-31T23:59:59Z");
    check(|text| text.replace(SPEC_VERSION, "2.0.0"), "signed.spec_version is not a 1.x version of the TUF specification");
    check(|text| text.replace(r#""threshold":2"#, r#""threshold":0"#), "signed.delegations.roles[].threshold is not an integer from 1 on");
    check(|text| text.replace("vla-ultra", "targets"), "signed.delegations.roles[].name is not the name of a delegated role");
    check(
        |text| text.replace(r#""paths":"#, r#""path_hash_prefixes":["0"],"paths":"#),
        "signed.delegations.roles[].paths is not given, or else path_hash_prefixes, and not both",
    );
    check(|text| text.replace(r#""_type":"targets""#, r#""_type":"root""#), "this is root metadata where targets metadata was expected");
    check(
        |text| text.replace(r#""keyids":["#, r#""keyids":["a","a","#),
        "signed.delegations.roles[].keyids is not a list of distinct key ids",
    );
    check(
        |text| text.replace("{\"signatures\"", "{\"signatures\":[],\"signatures\""),
        "not strict JSON: duplicate key \"signatures\" at line 1 column 245",
    );
    check(|text| text.repeat(9), "11241 bytes where at most 4096 are allowed");
}

#[test]
fn a_release_description_survives_a_round_trip_and_names_what_is_wrong() {
    let release = custom(5);
    assert_eq!(Custom::from_json(release.to_json()), Ok(release.clone()));
    let without = |name: &str| {
        let Json::Object(mut members) = release.to_json() else { panic!() };
        members.remove(name);
        Custom::from_json(Json::Object(members)).unwrap_err().to_string()
    };
    assert_eq!(without("tier"), "custom.shallMatch.tier is missing");
    assert_eq!(without("bundle"), "custom.shallMatch.bundle is missing");
}

#[test]
fn signers_sign_one_after_the_other_and_only_once() {
    let snapshot = Snapshot::new(1, NOW.plus_days(1));
    let alone = sign(&snapshot, &[&key("alice")]).unwrap();
    let both = add_signature(&alone, 4_096, &key("bob")).unwrap();
    let again = add_signature(&both, 4_096, &key("alice")).unwrap();
    let read = Signed::<Snapshot>::parse(&again, 4_096).unwrap();
    assert_eq!((read.signatures.len(), &read.signed), (2, &snapshot));
    for name in ["alice", "bob"] {
        assert_eq!(read.verify(&public(name).key_id(), &public(name)), Ok(()));
    }
    assert!(read.verify(&public("carol").key_id(), &public("carol")).is_err());
    let error = add_signature(b"[]", 4_096, &key("alice")).unwrap_err();
    assert_eq!(error.to_string(), "file is not an object");
}

#[test]
fn signatures_made_apart_come_together_on_the_same_content_only() {
    let snapshot = Snapshot::new(3, NOW);
    let copies = ["alice", "bob", "mallory"].map(|name| sign(&snapshot, &[&key(name)]).unwrap());
    let accept = |entry: &SignatureEntry| entry.key_id != public("mallory").key_id();
    let merged = copies.iter().fold(copies[0].clone(), |merged, copy| merge_signatures(&merged, copy, 4_096, accept).unwrap());
    let read = Signed::<Snapshot>::parse(&merged, 4_096).unwrap();
    let ids: Vec<&KeyId> = read.signatures.iter().map(|entry| &entry.key_id).collect();
    assert_eq!(ids, [&public("alice").key_id(), &public("bob").key_id()]);
    assert_eq!(read.verify(&public("bob").key_id(), &public("bob")), Ok(()));
    let other = sign(&Snapshot::new(4, NOW), &[&key("carol")]).unwrap();
    assert_eq!(merge_signatures(&merged, &other, 4_096, accept), Err(MergeError::Differs));
}

#[test]
fn a_token_that_was_pulled_out_stops_the_signing() {
    struct PulledOut;
    impl Signer for PulledOut {
        fn public_key(&self) -> PublicKey {
            public("token")
        }
        fn sign(&self, _: &[u8]) -> Result<Signature, SignerError> {
            Err(SignerError { key_id: KeyId::new("token-7"), reason: "the token was removed".into() })
        }
    }
    let error = sign(&Snapshot::new(1, NOW), &[&PulledOut]).unwrap_err();
    assert_eq!(error.to_string(), "key token-7 could not sign: the token was removed");
}

#[test]
fn enrollment_survives_a_round_trip_and_hides_its_token() {
    let identity = crate::testing::identity();
    let request = EnrollmentRequest {
        token: "one-time-secret".into(),
        vehicle_id: identity.vehicle_id.clone(),
        ecu_serial: identity.ecu_serial,
        hardware_id: identity.hardware_id,
        public_key: public("vehicle"),
        sdk_version: identity.sdk_version,
        secondaries: vec![camera("ecu-2")],
        encryption_key: Some(DecryptionKey::from_seed(&[1; 32]).encryption_key()),
    };
    assert!(EnrollmentRequest::parse(&request.to_bytes()).unwrap() == request);
    assert!(!alloc::format!("{request:?}").contains("one-time-secret"));
    let response = EnrollmentResponse { vehicle_id: identity.vehicle_id };
    assert_eq!(EnrollmentResponse::parse(&response.to_bytes()), Ok(response));
    assert_eq!(EnrollmentRequest::parse(b"{}").unwrap_err().to_string(), "request.public_key is missing");
}

fn camera(ecu_serial: &str) -> EnrolledSecondary {
    EnrolledSecondary {
        ecu_serial: EcuSerial::new(ecu_serial).unwrap(),
        hardware_id: HardwareId::new("cam-a").unwrap(),
        public_key: public("camera"),
    }
}

#[test]
fn an_enrollment_names_each_ecu_once_and_no_more_than_there_is_room_for() {
    let identity = crate::testing::identity();
    let request = |secondaries: Vec<EnrolledSecondary>| EnrollmentRequest {
        token: "one-time-secret".into(),
        vehicle_id: identity.vehicle_id.clone(),
        ecu_serial: identity.ecu_serial.clone(),
        hardware_id: identity.hardware_id.clone(),
        public_key: public("vehicle"),
        sdk_version: identity.sdk_version,
        secondaries,
        encryption_key: None,
    };
    let longest = |number: usize| camera(&alloc::format!("{number:0>length$}", length = NAME_BYTES_MAX));
    let most: Vec<_> = (0..SECONDARIES_MAX).map(longest).collect();
    assert!(EnrollmentRequest::parse(&request(most.clone()).to_bytes()).unwrap() == request(most));
    let more = (0..=SECONDARIES_MAX).map(|number| camera(&alloc::format!("camera-{number}"))).collect();
    for (secondaries, expected) in [
        (vec![camera("ecu-2"), camera("ecu-2")], "request.secondaries is not a list of ECUs with serials of their own"),
        (vec![camera("ecu-1")], "request.secondaries is not a list of ECUs with serials of their own"),
        (more, "request.secondaries is not a list of at most 10 ECUs"),
    ] {
        assert_eq!(EnrollmentRequest::parse(&request(secondaries).to_bytes()).unwrap_err().to_string(), expected);
    }
    let alone = String::from_utf8(request(Vec::new()).to_bytes()).unwrap();
    assert!(!alone.contains("secondaries"), "a vehicle of one ECU says what it always said: {alone}");
    assert!(!alone.contains("encryption_key"), "a vehicle without a key to seal to says what it always said: {alone}");
}

#[test]
fn a_key_to_seal_to_is_one_that_secrets_can_be_sealed_to() {
    let to = DecryptionKey::from_seed(&[1; 32]).encryption_key();
    let payload = ReportPayload { encryption_key: Some(to), ..ReportPayload::idle() };
    let report = |payload: &ReportPayload| {
        let report = EcuReport {
            ecu_serial: EcuSerial::new("ecu-1").unwrap(),
            installed: None,
            attack_detected: None,
            time: NOW,
            counter: 1,
            payload: payload.clone(),
        };
        sign_report(&report, &key("vehicle")).unwrap().to_string()
    };
    let read = |text: &str| Signed::<EcuReport>::parse(text.as_bytes(), 10_000).map(|report| report.signed.payload.encryption_key);
    let text = report(&payload);
    assert_eq!(read(&text), Ok(Some(to)));
    assert_eq!(read(&report(&ReportPayload::idle())), Ok(None));
    let public = Sha256Digest::from_bytes(*to.as_bytes()).to_hex();
    for (found, replaced) in [(public.as_str(), "00".repeat(32)), ("hpke-base-", "rot13-".into()), (public.as_str(), "1".into())] {
        let error = read(&text.replace(found, &replaced)).unwrap_err().to_string();
        assert_eq!(error, "signed.payload.encryption_key is not an acceptable x25519 public key", "{replaced}");
    }
}

#[test]
fn a_release_names_what_the_other_ecus_must_run_and_one_without_says_nothing_of_it() {
    let companion = |hardware_id: &str| Companion {
        hardware_id: HardwareId::new(hardware_id).unwrap(),
        path: "ultra/cam-2.cal".into(),
        length: 3,
        sha256: Sha256Digest::of(b"cal"),
        release_counter: 5,
    };
    let release = Custom { companions: vec![companion("cam-a"), companion("cam-b")], ..custom(5) };
    assert_eq!(Custom::from_json(release.to_json()), Ok(release));
    let twice = Custom { companions: vec![companion("cam-a"), companion("cam-a")], ..custom(5) };
    let error = Custom::from_json(twice.to_json()).unwrap_err();
    assert_eq!(error.to_string(), "custom.shallMatch.companions is not a list with one image for each hardware id");
    assert!(!custom(5).to_json().to_string().contains("companions"));
}

/// Whoever is offered a bundle must know that it cannot read it, and an unknown method is nothing to pass over.
#[test]
fn the_method_of_encryption_is_named_in_the_block_and_an_unknown_one_is_refused() {
    let mut release = custom(5);
    assert!(!release.to_json().to_string().contains("encryption"));
    release.bundle.encryption = Some(EncryptionMethod::Aes256GcmChunks);
    let text = release.to_json().to_string();
    assert!(text.contains(r#""encryption":"A256GCM-chunks""#), "{text}");
    assert_eq!(Custom::from_json(release.to_json()), Ok(release));
    let other = json::parse(text.replace("A256GCM-chunks", "A128CTR").as_bytes(), text.len()).unwrap();
    assert_eq!(
        Custom::from_json(other).unwrap_err().to_string(),
        "custom.shallMatch.bundle.encryption is not A256GCM-chunks, the one method of encryption that this release knows"
    );
}

#[test]
fn an_image_for_a_secondary_is_told_from_a_release() {
    let block = EcuImage { release_counter: 5, hardware_ids: vec![HardwareId::new("cam-a").unwrap()] };
    let image = TargetMeta::of_image(b"cal", &block);
    assert!(!image.is_release() && !TargetMeta::of_digest(3, Sha256Digest::of(b"cal")).is_release());
    assert_eq!(image.ecu_image(), Ok(block));
    let release = TargetMeta::of_release(b"index", &custom(5));
    assert!(release.is_release());
    assert_eq!(release.ecu_image().unwrap().release_counter, 5);
}

#[test]
fn every_state_of_an_update_has_its_own_name() {
    use super::vehicle::UpdateState;
    for state in [UpdateState::Idle, UpdateState::Shadow, UpdateState::Confirmed, UpdateState::RolledBack, UpdateState::Refused] {
        assert_eq!(state.name().parse(), Ok(state));
    }
    assert_eq!("flying".parse::<UpdateState>().unwrap_err().to_string(), "update is not the state of an update");
}

#[test]
fn keys_that_no_role_names_any_more_leave_the_root() {
    let mut root = Root::new(1, UnixTime::MAX);
    root.set_role(RootRole::Timestamp, 1, &[public("old")]);
    root.set_role(RootRole::Timestamp, 1, &[public("new")]);
    assert_eq!(root.keys.values().collect::<Vec<_>>(), [&KeyObject::from(&public("new"))]);
}

#[test]
fn a_key_joins_and_leaves_a_role_once_whatever_others_call_it() {
    let mut root = Root::new(1, UnixTime::MAX);
    root.set_role(RootRole::Root, 1, &[public("alice")]);
    // Another tool wrote this root and named the key as it liked.
    let alice = root.keys.remove(&public("alice").key_id()).unwrap();
    root.keys.insert(KeyId::new("first"), alice);
    root.roles.insert(RootRole::Root, RoleKeys::new([KeyId::new("first")].into(), 1));
    assert!(!root.add_key(RootRole::Root, &public("alice")), "it would count once, and look like two");
    assert!(root.add_key(RootRole::Root, &public("bob")));
    assert!(root.remove_key(RootRole::Root, &public("alice")));
    assert!(!root.remove_key(RootRole::Root, &public("alice")));
    assert_eq!(root.keys.values().collect::<Vec<_>>(), [&KeyObject::from(&public("bob"))]);

    let mut delegations = Delegations::default();
    for name in ["vla-ultra", "vla-lite"] {
        delegations.add(DelegatedRole::new(name, 1, &[public("carol")], &["x/*"]), &[public("carol")]);
    }
    assert!(delegations.add_key("vla-ultra", &public("dora")) && !delegations.add_key("vla-gone", &public("dora")));
    assert!(delegations.remove_key("vla-ultra", &public("carol")));
    assert_eq!(delegations.keys.len(), 2, "carol still signs for the other role");
    assert_eq!(delegations.roles[0].keys.key_ids, [public("dora").key_id()]);
}

#[test]
fn roles_that_must_agree_are_one_entry_of_the_file() {
    let role = |name: &str, pattern: &str| DelegatedRole::new(name, 1, &[public(name)], &[pattern]);
    let mut targets = Targets::new(1, UnixTime::MAX);
    let mut delegations = Delegations::default();
    for (name, pattern) in [("vla-ultra", "ultra/*"), ("vla-lite", "lite/*"), ("oem-brand", "ultra/*")] {
        delegations.add(role(name, pattern), &[public(name)]);
    }
    delegations.require_agreement(&["vla-ultra", "oem-brand"], 2).unwrap();
    targets.delegations = Some(delegations.clone());
    let bytes = sign(&targets, &[]).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(r#""roles":[{"min_roles_in_agreement":2,"paths":["ultra/*"],"roles":[{"keyids":["#), "{text}");
    assert_eq!(text.matches("ultra/*").count(), 1);
    assert_eq!(Signed::<Targets>::parse(&bytes, bytes.len()).unwrap().signed, targets);

    let mut without = delegations.clone();
    assert!(without.remove("oem-brand") && !without.remove("oem-brand"));
    assert_eq!((without.roles.len(), without.agreements.len(), without.keys.len()), (1, 0, 1), "the other is not believed alone");
    let names: Vec<&str> = delegations.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["vla-ultra", "oem-brand", "vla-lite"]);
    for (names, roles_min, expected) in [
        (&["vla-ultra", "vla-lite"][..], 2, "roles is not a list of roles with the same paths, hardware and end"),
        (&["vla-ultra"][..], 1, "roles is not a list of at least two roles"),
        (&["vla-ultra", "oem-brand"][..], 3, "min_roles_in_agreement is not an integer from 1 to the number of roles"),
        (&["vla-ultra", "oem-brand"][..], 0, "min_roles_in_agreement is not an integer from 1 to the number of roles"),
    ] {
        let error = delegations.clone().require_agreement(names, roles_min).unwrap_err().to_string();
        assert_eq!(error, format!("signed.delegations.roles[].{expected}"));
    }
    // One person who would be believed as two.
    let mut shared = delegations.clone();
    assert!(shared.add_key("oem-brand", &public("vla-ultra")));
    let alone = "signed.delegations.roles[].roles is not a list of roles that share no key: one key would count for two";
    assert_eq!(shared.check_agreements().unwrap_err().to_string(), alone);
    assert_eq!(shared.require_agreement(&["vla-ultra", "oem-brand"], 2).unwrap_err().to_string(), alone);
    let bytes = sign(&Targets { delegations: Some(shared), ..targets.clone() }, &[]).unwrap();
    assert_eq!(Signed::<Targets>::parse(&bytes, bytes.len()).unwrap_err().to_string(), alone);
    let crowded = |roles: usize, patterns: usize| {
        let member = |number: usize| format!(r#"{{"name":"r{number}","keyids":[],"threshold":1}}"#);
        let (members, paths) = ((0..roles).map(member).collect::<Vec<_>>().join(","), vec![r#""ultra/*""#; patterns].join(","));
        let entry = format!(r#"{{"min_roles_in_agreement":1,"terminating":false,"paths":[{paths}],"roles":[{members}]}}"#);
        let begin = text.split_once(r#"{"min_roles_in_agreement""#).unwrap().0;
        let end = text.rsplit_once(r#"},{"keyids""#).unwrap().1;
        Signed::<Targets>::parse(format!(r#"{begin}{entry},{{"keyids"{end}"#).as_bytes(), 5_000_000)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(crowded(16, 1_000), Ok(()));
    for (roles, patterns) in [(17, 1), (2, 1_001)] {
        let expected = "signed.delegations.roles[] is not an agreement of at most 16 roles over 1000 patterns";
        assert_eq!(crowded(roles, patterns).unwrap_err(), expected);
    }
    for (from, to, expected) in [
        ("\"min_roles_in_agreement\":2", "\"min_roles_in_agreement\":0", "min_roles_in_agreement is not an integer from 1 on"),
        (
            "\"min_roles_in_agreement\":2",
            "\"min_roles_in_agreement\":3",
            "min_roles_in_agreement is not an integer from 1 to the number of roles",
        ),
        ("\"name\":\"oem-brand\"", "\"name\":\"targets\"", "roles[].name is not the name of a delegated role"),
    ] {
        let error = Signed::<Targets>::parse(text.replace(from, to).as_bytes(), 10_000).unwrap_err().to_string();
        assert_eq!(error, format!("signed.delegations.roles[].{expected}"));
    }
    for name in ["vla-ultra", "vla-lite"] {
        let twice = text.replace("\"name\":\"oem-brand\"", &format!("\"name\":\"{name}\""));
        let error = Signed::<Targets>::parse(twice.as_bytes(), 10_000).unwrap_err().to_string();
        assert_eq!(error, "signed.delegations.roles is not a list that names each role of an agreement once");
    }
}
