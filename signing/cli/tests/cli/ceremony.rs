//! Keys, roots and signatures.

use std::fs;

use serde_json::Value;
use switchback_signing::{
    keys::pem::SecretKey,
    metadata::{HardwareId, Signed, TargetMeta, Targets, sign},
};

use super::desk::{BUNDLE, Desk, files_below};

#[test]
fn a_ceremony_makes_a_base_with_distinct_keys_for_every_purpose() {
    let desk = Desk::new();
    desk.init();
    let keys = desk.ask("key list --base base");
    let keys = keys.as_array().unwrap();
    assert_eq!(keys.len(), 12, "three signers, four purposes");
    let ids: std::collections::BTreeSet<&str> = keys.iter().map(|key| key["key_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 12);
    let signs = |name: &str| keys.iter().find(|key| key["name"] == name).unwrap()["signs"].to_string();
    assert_eq!(signs("image-root-alice"), r#"["image root (2 needed)"]"#);
    assert_eq!(signs("director-root-bob"), r#"["director root (2 needed)"]"#);
    assert_eq!(signs("release-carol"), r#"["vla-ultra (2 needed)","vla-ultra-se (2 needed)"]"#);
    assert!(desk.succeed("key list --base base").contains("release-alice"));
    assert_eq!(files_below(&desk.path("base/image")), ["1.root.json", "1.targets.json"]);
    let root: Value = serde_json::from_slice(&desk.read("base/image/1.root.json")).unwrap();
    assert_eq!(root["signed"]["roles"]["root"]["threshold"], 2);
    assert_eq!(root["signed"]["roles"]["timestamp"]["threshold"], 1);
    let targets: Value = serde_json::from_slice(&desk.read("base/image/1.targets.json")).unwrap();
    assert_eq!(targets["signed"]["targets"], serde_json::json!({}));
    assert_eq!(targets["signed"]["delegations"]["roles"][1]["paths"], serde_json::json!(["ultra-se/*"]));
}

#[cfg(unix)]
#[test]
fn secret_keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    desk.succeed("key new --unencrypted --out keys dora");
    let mode = |name: &str| fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys/dora.pem"), 0o600);
    assert!(!String::from_utf8(desk.read("keys/dora.pub.json")).unwrap().contains("private"));
    let error = desk.refuse("key new --unencrypted --out keys dora");
    assert!(error.contains("keys/dora.pem exists"), "{error}");
}

#[test]
fn a_ceremony_that_could_never_sign_is_refused() {
    let desk = Desk::new();
    desk.write("online.json", "{}");
    let init = "init --base base --unencrypted --tiers ultra --online-keys online.json";
    let check = |arguments: &str, expected: &str| {
        let error = desk.refuse(arguments);
        assert!(error.contains(expected), "{error}");
        assert!(!desk.path("base").exists(), "no half base is left behind");
    };
    check(&format!("{init} --threshold 4"), "4 of 3 signers can never sign");
    check(&format!("{init} --signers alice,alice"), "the signer alice is named twice");
    check(&format!("{init} --signers Alice,bob"), "\"Alice\" is no name for a key");
    check(init, "online.json: the key of image.snapshot is missing");
    check("init --base base --unencrypted --tiers ultra", "no server is named");
    desk.init();
    assert!(desk.refuse(init).contains("base is not empty"));
}

#[test]
fn two_of_three_keyholders_sign_a_release_one_after_the_other() {
    let desk = Desk::ready();
    let first = desk.ask(&format!("sign --base base --key alice {BUNDLE}"));
    assert_eq!((&first["complete"], &first["version"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(first["signed_by"], serde_json::json!(["release-alice"]));
    let error = desk.refuse(&format!("verify --base base {BUNDLE}"));
    assert!(error.contains("vla-ultra version 1 has 1 of 2 signatures (release-alice; 1 more of release-bob, release-carol)"), "{error}");

    // Twice the same keyholder is one keyholder.
    assert_eq!(desk.ask(&format!("sign --base base --key alice {BUNDLE}"))["complete"], false);

    let second = desk.ask(&format!("sign --base base --key release-carol {BUNDLE}"));
    assert_eq!(second["complete"], true);
    let verified = desk.ask(&format!("verify --base base {BUNDLE}"));
    assert_eq!(verified["signed"]["signed_by"], serde_json::json!(["release-alice", "release-carol"]));
    assert_eq!(verified["signed"]["missing"], serde_json::json!(["release-bob"]));
    assert!(desk.succeed(&format!("verify --base base {BUNDLE}")).contains("2 of 2 signatures"));
}

#[test]
fn a_key_may_live_on_a_medium_of_its_own() {
    let desk = Desk::ready();
    fs::create_dir(desk.path("stick")).unwrap();
    fs::rename(desk.path("base/keys/release-bob.pem"), desk.path("stick/bob.pem")).unwrap();
    let error = desk.refuse(&format!("sign --base base --key bob {BUNDLE}"));
    assert!(error.contains("the secret half of release-bob is not in base/keys"), "{error}");
    let signed = desk.ask(&format!("sign --base base --key stick/bob.pem {BUNDLE}"));
    assert_eq!(signed["signed_by"], serde_json::json!(["release-bob"]));
}

#[test]
fn a_key_of_another_purpose_signs_no_release() {
    let desk = Desk::ready();
    for key in ["image-root-alice", "base/keys/targets-alice.pem", "operator/director-targets.pem"] {
        let error = desk.refuse(&format!("sign --base base --key {key} {BUNDLE}"));
        assert!(error.contains("may not sign vla-ultra") && error.contains("release-alice, release-bob, release-carol"), "{error}");
    }
    let error = desk.refuse(&format!("sign --base base --key mallory {BUNDLE}"));
    assert!(error.contains("no key of \"mallory\" may sign vla-ultra"), "{error}");
    assert!(!desk.path("base/drafts/vla-ultra.json").exists());
}

#[test]
fn a_tampered_bundle_is_not_signed() {
    let desk = Desk::ready();
    let mut bytes = desk.read(BUNDLE);
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    desk.write(BUNDLE, bytes);
    assert!(desk.refuse(&format!("sign --base base --key alice {BUNDLE}")).contains("the index says"));
    assert!(!desk.path("base/drafts/vla-ultra.json").exists());
}

#[test]
fn another_build_of_a_signed_release_is_refused() {
    let desk = Desk::ready();
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    fs::remove_dir_all(desk.path("dist")).unwrap();
    desk.write("NOTES.md", "# Something else\n");
    desk.pack("1.0.0", 1);
    let error = desk.refuse(&format!("sign --base base --key bob {BUNDLE}"));
    assert!(error.contains("the draft and the bundle differ: ultra/tiny-1.0.0.index is"), "{error}");
    let error = desk.refuse(&format!("verify --base base {BUNDLE}"));
    assert!(error.contains("this is another build of the release"), "{error}");
}

#[test]
fn a_draft_that_says_more_than_the_keyholder_agrees_to_is_not_signed() {
    let desk = Desk::ready();
    desk.succeed(&format!("sign --base base --key alice --regions eu {BUNDLE}"));
    let error = desk.refuse(&format!("sign --base base --key bob --regions eu,cn {BUNDLE}"));
    assert!(error.contains("the draft says about tiny 1.0.0 (ultra) something else"), "{error}");
    desk.succeed(&format!("sign --base base --key bob --regions eu {BUNDLE}"));
}

#[test]
fn a_keyholder_who_lists_a_bundle_for_other_hardware_gets_no_second_signature() {
    let desk = Desk::ready();
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    // Alice, or whoever has her key, widens the release to hardware that the manifest does not name.
    let draft = desk.read("base/drafts/vla-ultra.json");
    let mut targets = Signed::<Targets>::parse(&draft, draft.len()).unwrap().signed;
    let index = targets.targets.get_mut("ultra/tiny-1.0.0.index").unwrap();
    let mut custom = index.release().unwrap();
    custom.hardware_ids.push(HardwareId::new("drive-z").unwrap());
    *index = TargetMeta::of_release(&desk.read("dist/ultra/tiny-1.0.0.index"), &custom);
    let alice = String::from_utf8(desk.read("base/keys/release-alice.pem")).unwrap();
    let alice = SecretKey::from_pem(&alice, None).unwrap();
    desk.write("base/drafts/vla-ultra.json", sign(&targets, &[&alice]).unwrap());

    for command in ["sign --base base --key bob", "verify --base base"] {
        let error = desk.refuse(&format!("{command} {BUNDLE}"));
        assert!(error.contains("what is said about tiny 1.0.0 (ultra) is not what its manifest says"), "{error}");
    }
}

#[test]
fn a_release_waits_for_the_one_before_it() {
    let desk = Desk::ready();
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    desk.pack("1.1.0", 2);
    let error = desk.refuse("sign --base base --key alice dist/ultra/tiny-1.1.0.tar.zst");
    assert!(
        error.contains("a draft of vla-ultra version 1 with ultra/tiny-1.0.0.index and ultra/tiny-1.0.0.tar.zst is in the way"),
        "{error}"
    );
    let signed = desk.ask("sign --base base --key alice --discard-draft dist/ultra/tiny-1.1.0.tar.zst");
    assert_eq!(signed["release"], "tiny 1.1.0");
}

#[test]
fn a_bundle_for_a_tier_that_nobody_delegated_is_refused() {
    let desk = Desk::new();
    desk.init();
    desk.model();
    let pack = super::desk::PACK.replace("--tier ultra", "--tier lite");
    desk.succeed(&format!("{pack} --version 1.0.0 --release-counter 1"));
    let error = desk.refuse("sign --base base --key alice dist/lite/tiny-1.0.0.tar.zst");
    assert!(error.contains("targets version 1 delegates to no role vla-lite"), "{error}");
}

#[test]
fn wrong_usage_has_an_exit_status_of_its_own() {
    let desk = Desk::new();
    for arguments in ["", "fly", "sign", "rollout create --name x", "verify --base", "pack --cases 0"] {
        let run = desk.run(arguments);
        assert_eq!(run.status, 2, "switchback {arguments}\n{}", run.stderr);
    }
    let help = desk.succeed("--help");
    assert!(help.contains("switchback rollout status 1"), "{help}");
    let error = desk.run("--json sign --base nowhere --key alice x.tar.zst");
    let error: Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(error["error"]["message"], "nowhere is no base directory: it has no image/1.root.json");
    assert!(error["error"]["hint"].as_str().unwrap().contains("switchback init"));
}
