//! The dialect of aktualizr, the known C++ implementation of Uptane, and of its `uptane-generator`.
//!
//! It differs from TUF 1.0 in the names of types (`Root`), in keys without a scheme, in signatures in base64, in what it leaves out, and
//! in what it signs: JSON with its escapes, where TUF signs the OLPC form. Whoever signed is asked no less: what is verified are the
//! bytes that aktualizr signs. No TUF 1.0 metadata is taken for this dialect, because the capital letter in the type gives it away.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{SPEC_VERSION, json::Json};
use crate::keys::encoding::{from_base64, from_hex, to_hex};

/// Types of documents with their names in TUF 1.0.
const TYPES: [(&str, &str); 4] = [("Root", "root"), ("Timestamp", "timestamp"), ("Snapshot", "snapshot"), ("Targets", "targets")];

/// Types of keys with type and scheme in TUF 1.0.
const KEYS: [(&str, &str, &str); 2] = [("ED25519", "ed25519", "ed25519"), ("RSA", "rsa", "rsassa-pss-sha256")];

/// Translates a file into TUF 1.0, if it is in this dialect, and gives the bytes that its signatures cover.
pub(super) fn translate(signed: &mut Json, signatures: &mut [Json]) -> Option<Vec<u8>> {
    let (_, name) = TYPES.into_iter().find(|(dialect, _)| signed.member("_type").and_then(Json::as_str) == Some(dialect))?;
    let message = format!("{signed}").into_bytes();
    let Json::Object(members) = signed else { return None };
    members.insert("_type".to_string(), Json::string(name));
    insert_if_absent(members, "spec_version", || Json::string(SPEC_VERSION));
    if name == "root" {
        insert_if_absent(members, "consistent_snapshot", || Json::Bool(false));
    }
    translate_keys(members);
    if let Some(Json::Object(delegations)) = members.get_mut("delegations") {
        translate_keys(delegations);
    }
    signatures.iter_mut().for_each(translate_signature);
    Some(message)
}

fn translate_keys(members: &mut BTreeMap<String, Json>) {
    let Some(Json::Object(keys)) = members.get_mut("keys") else { return };
    for key in keys.values_mut() {
        let keytype = key.member("keytype").and_then(Json::as_str);
        let known = KEYS.into_iter().find(|(dialect, ..)| keytype == Some(dialect));
        if let (Some((_, keytype, scheme)), Json::Object(key)) = (known, key) {
            key.insert("keytype".to_string(), Json::string(keytype));
            insert_if_absent(key, "scheme", || Json::string(scheme));
        }
    }
}

fn translate_signature(entry: &mut Json) {
    let text = entry.member("sig").and_then(Json::as_str);
    // The signature of a known key has more than one length in neither form, so that no text is both.
    let bytes = text.filter(|text| from_hex(text).is_none()).and_then(from_base64);
    if let (Some(bytes), Json::Object(entry)) = (bytes, entry) {
        entry.insert("sig".to_string(), Json::String(to_hex(&bytes)));
    }
}

fn insert_if_absent(members: &mut BTreeMap<String, Json>, name: &str, value: impl FnOnce() -> Json) {
    if !members.contains_key(name) {
        members.insert(name.to_string(), value());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        keys::{KeyId, Signer, encoding::to_base64},
        metadata::{Root, RootRole, Signed, Targets},
        testing::key,
    };

    /// A file as `uptane-generator` writes it: `signed` is compact JSON with sorted keys.
    fn file(signed: &str, signature: impl Fn(&[u8]) -> String) -> String {
        let signature = signature(key("alice").sign(signed.as_bytes()).unwrap().as_bytes());
        alloc::format!(r#"{{"signatures":[{{"keyid":"k","method":"ed25519","sig":"{signature}"}}],"signed":{signed}}}"#)
    }

    fn root() -> String {
        let public = to_hex(key("alice").public_key().as_bytes());
        let role = r#"{"keyids":["k"],"threshold":1}"#;
        alloc::format!(
            r#"{{"_type":"Root","expires":"2030-07-04T16:33:27Z","keys":{{"k":{{"keytype":"ED25519","keyval":{{"public":"{public}"}}}}}},"roles":{{"root":{role},"snapshot":{role},"targets":{role},"timestamp":{role}}},"version":1}}"#
        )
    }

    #[test]
    fn a_root_of_the_generator_is_read_and_its_signature_verified() {
        let file = file(&root(), to_base64);
        let signed = Signed::<Root>::parse(file.as_bytes(), 10_000).unwrap();
        assert!(!signed.signed.consistent_snapshot && signed.signed.roles.contains_key(&RootRole::Timestamp));
        let alice = key("alice").public_key();
        assert_eq!(signed.signed.keys[&KeyId::new("k")].public_key(), Some(&alice));
        assert_eq!(signed.verify(&KeyId::new("k"), &alice), Ok(()));
        let changed = file.replace("2030", "2031");
        let changed = Signed::<Root>::parse(changed.as_bytes(), 10_000).unwrap();
        assert!(changed.verify(&KeyId::new("k"), &alice).is_err());
    }

    /// A line break is signed as its escape, unlike in the canonical form of TUF.
    #[test]
    fn what_is_signed_is_json_with_its_escapes() {
        let targets = r#"{"_type":"Targets","custom":{"text":"a\nb"},"expires":"2030-07-04T16:33:27Z","targets":{},"version":1}"#;
        let signed = Signed::<Targets>::parse(file(targets, to_base64).as_bytes(), 10_000).unwrap();
        assert_eq!(signed.message(), targets.as_bytes());
        assert_eq!(signed.verify(&KeyId::new("k"), &key("alice").public_key()), Ok(()));
    }

    #[test]
    fn one_role_is_not_taken_for_another_in_this_dialect_either() {
        let error = Signed::<Targets>::parse(file(&root(), to_base64).as_bytes(), 10_000).unwrap_err();
        assert_eq!(error.to_string(), "this is root metadata where targets metadata was expected");
    }
}
