//! Bundles that only those who have their content key read.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use switchback_signing::bundle::ContentKey;

use super::{
    desk::{BUNDLE, Desk, PACK, files_below, model},
    server::Server,
};

const KEY: &str = "dist/ultra/tiny-1.0.0.content-key.jwk";

/// A desk with a base and an encrypted bundle.
fn ready() -> (Desk, Value) {
    ready_at(Desk::new())
}

fn ready_at(desk: Desk) -> (Desk, Value) {
    desk.init();
    desk.model();
    let packed = desk.ask(&format!("{PACK} --version 1.0.0 --release-counter 1 --encrypt"));
    (desk, packed)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|found| found == part)
}

#[test]
fn an_encrypted_bundle_has_its_key_beside_it_and_nothing_readable_in_it() {
    let (desk, packed) = ready();
    assert_eq!(files_below(&desk.path("dist")), ["ultra/tiny-1.0.0.content-key.jwk", "ultra/tiny-1.0.0.index", "ultra/tiny-1.0.0.tar.zst"]);
    assert_eq!((&packed["encryption"], &packed["content_key"]), (&"A256GCM-chunks".into(), &KEY.into()));
    assert_eq!(fs::metadata(desk.path(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    ContentKey::from_jwk(&desk.read(KEY)).unwrap();
    let (bundle, index) = (desk.read(BUNDLE), desk.read("dist/ultra/tiny-1.0.0.index"));
    let secrets: [&[u8]; 4] = [b"Smoother in bends", b"manifest.json", b"contract_version", &model(false)[..64]];
    assert!(secrets.iter().all(|secret| !has(&bundle, secret) && !has(&index, secret)));
    assert!(zstd::decode_all(bundle.as_slice()).is_err());
}

#[test]
fn an_encrypted_bundle_is_inspected_verified_and_signed_with_its_key() {
    let (desk, _) = ready();
    for key in ["alice", "bob"] {
        desk.succeed(&format!("sign --base base --key {key} {BUNDLE}"));
    }
    let draft = String::from_utf8(desk.read("base/drafts/vla-ultra.json")).unwrap();
    assert!(draft.contains(r#""encryption":"A256GCM-chunks""#), "{draft}");
    desk.succeed("request export --base base --tier ultra --out request.json");
    assert!(desk.succeed("request show request.json").contains("; encrypted, A256GCM-chunks"), "whoever signs elsewhere sees it");
    let verified = desk.ask(&format!("verify --base base {BUNDLE}"));
    assert_eq!((&verified["encryption"], &verified["release"]), (&"A256GCM-chunks".into(), &"tiny 1.0.0".into()));
    let inspected = desk.ask(&format!("inspect {BUNDLE}"));
    assert_eq!((&inspected["encryption"], &inspected["manifest"]["release"]["model"]), (&"A256GCM-chunks".into(), &"tiny".into()));
    assert!(desk.succeed(&format!("inspect {BUNDLE}")).contains("A256GCM-chunks"));
}

#[test]
fn without_the_right_key_nobody_looks_into_an_encrypted_bundle() {
    let (desk, _) = ready();
    fs::rename(desk.path(KEY), desk.path("key.jwk")).unwrap();
    for command in ["inspect", "verify", "sign --base base --key alice"] {
        let error = desk.refuse(&format!("{command} {BUNDLE}"));
        assert!(error.contains("is encrypted (A256GCM-chunks) and no content key was given"), "{error}");
        assert!(error.contains("name it with --content-key"), "{error}");
        desk.succeed(&format!("{command} --content-key key.jwk {BUNDLE}"));
    }
    desk.write("other.jwk", ContentKey::from_bytes([1; 32]).to_jwk().as_bytes());
    let error = desk.refuse(&format!("verify --content-key other.jwk {BUNDLE}"));
    assert!(error.contains("chunk 0 is the signed one but was not encrypted under the content key that was given"), "{error}");
    assert!(error.contains("hint: name the key"), "{error}");
    desk.write("broken.jwk", "{}");
    let error = desk.refuse(&format!("verify --content-key broken.jwk {BUNDLE}"));
    assert!(error.contains("broken.jwk: not a content key: \"kty\" is not \"oct\""), "{error}");
    let plain = desk.pack("1.0.1", 2);
    let error = desk.refuse(&format!("verify --content-key key.jwk {}", plain.display()));
    assert!(error.contains("a content key was given for a bundle that is not encrypted"), "{error}");
}

/// Under one key, two bundles would have the same nonces.
#[test]
fn each_bundle_has_a_key_of_its_own_and_no_key_is_lost() {
    let (desk, _) = ready();
    let (key, bundle) = (desk.read(KEY), desk.read(BUNDLE));
    let again = format!("{PACK} --version 1.0.0 --release-counter 1 --encrypt");
    assert!(desk.refuse(&again).contains("dist/ultra/tiny-1.0.0.index exists"));
    fs::remove_file(desk.path(BUNDLE)).unwrap();
    fs::remove_file(desk.path("dist/ultra/tiny-1.0.0.index")).unwrap();
    for pack in [again.as_str(), &again.replace(" --encrypt", "")] {
        let error = desk.refuse(pack);
        assert!(
            error.contains(&format!("{KEY} exists")) && error.contains("may be the only key to a bundle that was published"),
            "{error}"
        );
    }
    assert!(desk.read(KEY) == key, "the key is as it was");
    fs::rename(desk.path("dist"), desk.path("first")).unwrap();
    desk.succeed(&again);
    assert!(desk.read(KEY) != key && desk.read(BUNDLE) != bundle);
}

#[test]
fn a_bundle_that_was_not_written_leaves_no_key_behind() {
    let desk = Desk::new();
    desk.model();
    let pack = format!("{PACK} --version 1.0.0 --release-counter 1 --encrypt").replace("drive-a", "Drive_A!");
    assert!(desk.refuse(&pack).contains("release.hardware_ids[0]"));
    assert_eq!(files_below(&desk.path("dist")), Vec::<String>::new());
}

#[test]
fn an_encrypted_bundle_is_signed_for_other_tools_by_what_is_in_it() {
    let (desk, _) = ready();
    desk.succeed("key new --unencrypted --scheme ecdsa-sha2-nistp256 dora");
    desk.succeed(&format!("sign --oms tiny.sig --key dora.pem {BUNDLE}"));
    fs::rename(desk.path(KEY), desk.path("key.jwk")).unwrap();
    desk.succeed(&format!("verify --oms tiny.sig --public-key dora.pub.json --content-key key.jwk {BUNDLE}"));
}

/// The bundle's key, as a server gets it.
fn sent_key(server: &Server) -> Vec<(String, Vec<u8>)> {
    let puts = server.seen().into_iter().filter(|seen| seen.method == "PUT");
    puts.filter(|seen| seen.path.starts_with("/v1/content-keys/")).map(|seen| (seen.path, seen.body)).collect()
}

#[test]
fn the_key_of_an_encrypted_release_is_published_before_the_metadata_that_lists_it() {
    let server = Server::start();
    let (desk, packed) = ready_at(Desk::with_server(&server.url));
    for key in ["alice", "bob"] {
        desk.succeed(&format!("sign --base base --key {key} {BUNDLE}"));
    }
    // Not the key of this bundle, and none at all.
    let key = desk.read(KEY);
    desk.write(KEY, ContentKey::from_bytes([1; 32]).to_jwk().as_bytes());
    let error = desk.refuse("publish --base base");
    assert!(error.contains("was not encrypted under the content key that was given"), "{error}");
    fs::remove_file(desk.path(KEY)).unwrap();
    let error = desk.refuse("publish --base base");
    assert!(error.contains("is encrypted (A256GCM-chunks) and no content key was given") && error.contains("--content-key"), "{error}");
    assert!(
        sent_key(&server).is_empty() && server.file("/v1/image/metadata/1.vla-ultra.json").is_none(),
        "nothing points to the bundle yet"
    );

    desk.write("key.jwk", &key);
    let printed = desk.succeed("publish --base base --content-key key.jwk");
    let text = String::from_utf8(key.clone()).unwrap();
    assert!(printed.contains("content-keys/ultra/tiny-1.0.0.tar.zst") && !printed.contains(text.split('"').nth(11).unwrap()), "{printed}");
    let path = format!("/v1/content-keys/{}", packed["bundle_sha256"].as_str().unwrap());
    assert_eq!(sent_key(&server), [(path.clone(), key.clone())]);
    let order: Vec<String> = server.take_puts();
    let at = |path: &str| order.iter().position(|put| put == path).unwrap();
    assert!(at(&path) < at("/v1/image/metadata/1.vla-ultra.json"), "{order:?}");

    // Sent once; and again, beside its bundle, to a server that has lost it.
    desk.succeed("publish --base base");
    assert!(sent_key(&server).is_empty());
    server.lose(&path);
    let printed = desk.succeed("publish --base base");
    assert!(printed.contains("warning: ") && printed.contains("no content key was given"), "{printed}");
    fs::rename(desk.path("key.jwk"), desk.path(KEY)).unwrap();
    desk.succeed("publish --base base");
    assert_eq!(sent_key(&server), [(path, key)]);
}
