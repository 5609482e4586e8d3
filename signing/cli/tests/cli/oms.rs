//! OpenSSF Model Signing: what a signature is over, and what is refused. That others read it is tested where Python is.

use serde_json::{Value, json};

use super::desk::{Desk, Run};

/// A desk with a model's folder and P-256 keys of two people.
fn desk() -> Desk {
    let desk = Desk::new();
    for (name, content) in [("a.txt", "a"), ("sub/b.txt", "b"), ("sub-x", "x"), (".git/config", "ours"), (".gitignore", "*")] {
        desk.write(&format!("model/{name}"), content);
    }
    for name in ["dora", "emil"] {
        desk.succeed(&format!("key new --unencrypted --scheme ecdsa-sha2-nistp256 {name}"));
    }
    desk
}

const SIGN: &str = "sign --oms model/model.sig --key dora.pem model";
const VERIFY: &str = "verify --oms model/model.sig --public-key dora.pub.json model";

#[test]
fn a_models_folder_is_signed_and_checked() {
    let desk = desk();
    let signed = desk.ask(SIGN);
    assert_eq!((&signed["model"], &signed["files"]), (&json!("model"), &json!(3)));
    let verified = desk.ask(VERIFY);
    assert_eq!(verified["digest"], signed["digest"]);
    // What the signer left out is shown to whoever relies on the signature.
    assert!(verified["ignored"].as_array().unwrap().contains(&json!(".gitignore")), "{verified}");
    assert!(desk.succeed(VERIFY).contains("not signed  .git, .gitattributes"));
    // What git keeps beside the model is not the model, and the signature is not part of what it signs.
    desk.write("model/.git/HEAD", "main");
    desk.succeed(VERIFY);
    let check = |expected: &str| {
        let error = desk.refuse(VERIFY);
        assert!(error.contains(expected), "{error}");
    };
    desk.write("model/sub/c.txt", "c");
    check("model is not the model that was signed: sub/c.txt was not signed");
    std::fs::rename(desk.path("model/sub/b.txt"), desk.path("model/sub/c.txt")).unwrap();
    check("sub/b.txt is missing; sub/c.txt was not signed");
    std::fs::rename(desk.path("model/sub/c.txt"), desk.path("model/sub/b.txt")).unwrap();
    desk.write("model/a.txt", "b");
    check("a.txt has SHA-256 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d, signed is ca978112");
}

#[test]
fn a_signature_of_another_kind_key_or_content_is_refused() {
    let desk = desk();
    desk.succeed(SIGN);
    let error = desk.refuse(&VERIFY.replace("dora", "emil"));
    assert!(error.contains("it was made by another key"), "{error}");
    desk.succeed("key new --unencrypted frida");
    for command in [SIGN.replace("dora", "frida"), VERIFY.replace("dora", "frida")] {
        let error = desk.refuse(&command);
        assert!(error.contains("OMS knows ECDSA keys only") && error.contains("--scheme ecdsa-sha2-nistp256"), "{error}");
    }
    let good: Value = serde_json::from_slice(&desk.read("model/model.sig")).unwrap();
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut bundle = good.clone();
        change(&mut bundle);
        desk.write("model/model.sig", bundle.to_string());
        let error = desk.refuse(VERIFY);
        assert!(error.contains(expected), "{error}");
    };
    // The statement with one file less, and its digest made to fit: only the signature tells.
    check(&|bundle| bundle["dsseEnvelope"]["payload"] = json!("e30="), "the signature does not verify under this key");
    check(&|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("text/plain"), "the payload's type is \"text/plain\"");
    check(
        &|bundle| bundle["mediaType"] = json!("x"),
        "the bundle's media type is \"x\", only \"application/vnd.dev.sigstore.bundle.v0.3+json\"",
    );
    check(&|bundle| bundle["verificationMaterial"] = json!({"certificate": {}}), "only signatures by a key are read");
    check(&|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]), "it holds 0 signatures");
    check(&|bundle| *bundle = json!([]), "an OMS signature is a Sigstore bundle");
    let Run { status, stderr, .. } = desk.run("verify --oms model/model.sig model");
    assert!(status == 2 && stderr.contains("--public-key"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_link_is_not_part_of_a_model() {
    let desk = desk();
    std::os::unix::fs::symlink("/etc/hostname", desk.path("model/link")).unwrap();
    let error = desk.refuse(SIGN);
    assert!(error.contains("link is neither a file nor a folder") && error.contains("links are not followed"), "{error}");
}

#[test]
fn a_bundle_is_signed_as_what_it_unpacks_to() {
    let desk = Desk::ready();
    desk.succeed("key new --unencrypted --scheme ecdsa-sha2-nistp256 dora");
    let bundle = super::desk::BUNDLE;
    let signed = desk.ask(&format!("sign --oms tiny.sig --key dora.pem {bundle}"));
    assert_eq!(signed["model"], "tiny-1.0.0");
    let verify = "verify --oms tiny.sig --public-key dora.pub.json";
    desk.succeed(&format!("{verify} {bundle}"));
    let tar = zstd::decode_all(&desk.read(bundle)[..]).unwrap();
    tar::Archive::new(&tar[..]).unpack(desk.path("unpacked")).unwrap();
    assert_eq!(desk.ask(&format!("{verify} unpacked"))["digest"], signed["digest"]);
    desk.write("unpacked/model.onnx", "another");
    assert!(desk.refuse(&format!("{verify} unpacked")).contains("model.onnx has SHA-256"));
}
