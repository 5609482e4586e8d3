//! What goes into the Image repository, and how it comes out.

use serde_json::json;
use switchback_signing::keys::Sha256Digest;

use crate::{
    folder, published,
    support::{Ceremony, Control, TestServer, http},
};

#[test]
fn metadata_that_a_vehicle_would_refuse_is_refused_at_the_door() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = Ceremony::new(&server);
    let refused = |path: &str, bytes: &[u8], code: &str, detail: &str| {
        let response = server.control_bytes("PUT", path, bytes);
        let json = response.json();
        assert_eq!((response.problem().as_str(), json["detail"].as_str().unwrap()), (code, detail), "{path}");
    };
    let image = "/v1/image/metadata";
    let (path, bytes) = ceremony.sign_release("1.0.0", "ultra", 1, &[0, 1]);
    refused(&path, &bytes, "root_missing", "the root metadata must be published first");
    assert_eq!(server.control_bytes("PUT", &format!("{image}/1.root.json"), &ceremony.image_root()).status, 200);
    refused(&path, &bytes, "root_missing", "the top-level targets metadata must be published first");
    refused(
        &format!("{image}/2.targets.json"),
        &ceremony.targets(1),
        "metadata_name_differs",
        "the file is targets version 1, its name says version 2",
    );
    assert_eq!(server.control_bytes("PUT", &format!("{image}/1.targets.json"), &ceremony.targets(1)).status, 200);
    for name in ["timestamp.json", "1.snapshot.json", "1.timestamp.json", "root.json", "01.root.json", "x"] {
        let response = server.control_bytes("PUT", &format!("{image}/{name}"), &ceremony.targets(1));
        assert_eq!(response.problem(), "metadata_name_malformed", "{name}");
    }
    let index = Ceremony::index("1.0.0", "ultra");
    refused(
        &path,
        &bytes,
        "target_missing",
        &format!(
            "the bytes of target ultra/vla-1.0.0.index (sha256 {}, {} bytes) have not been uploaded",
            Sha256Digest::of(&index),
            index.len()
        ),
    );
    let (path, half) = ceremony.sign_release("1.0.0", "ultra", 1, &[0]);
    refused(
        &path,
        &half,
        "metadata_refused",
        "Image repository: vla-ultra version 2 carries 1 of the 2 valid signatures that targets version 1 requires",
    );
    assert_eq!(server.ask("GET", "/v1/releases", None), json!({"releases": []}));
}

#[test]
fn a_version_is_published_once_and_the_same_upload_again_is_no_error() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    let before = http::request(server.address(), "GET", "/v1/image/metadata/timestamp.json", &[], &[]).body;
    let same = server.control_bytes("PUT", "/v1/image/metadata/1.targets.json", &ceremony.targets(1));
    assert_eq!(same.status, 200);
    ceremony.expires = ceremony.expires.plus_seconds(-1);
    let other = server.control_bytes("PUT", "/v1/image/metadata/1.targets.json", &ceremony.targets(1));
    assert_eq!(other.problem(), "metadata_refused");
    let after = http::request(server.address(), "GET", "/v1/image/metadata/timestamp.json", &[], &[]).body;
    assert_eq!(before, after);
}

#[test]
fn bytes_that_do_not_hash_to_their_name_are_not_stored() {
    let data = folder();
    let server = TestServer::start(data.path());
    let path = format!("/v1/image/targets/ultra/{}.a.tar.zst", Sha256Digest::of(b"what was signed"));
    assert_eq!(server.control_bytes("PUT", &path, b"something else").problem(), "wrong_hash");
    assert_eq!(http::request(server.address(), "GET", &path, &[], &[]).status, 404);
    let large = vec![7; (16 << 20) + 1];
    let path = format!("/v1/image/targets/ultra/{}.a.tar.zst", Sha256Digest::of(&large));
    assert_eq!(server.control_bytes("PUT", &path, &large).problem(), "too_long");
    assert_eq!(server.control_bytes("PUT", "/v1/image/targets/ultra/a.tar.zst", b"x").problem(), "target_name_malformed");
    let left: Vec<_> = walk(&data.path().join("objects"));
    assert!(left.is_empty(), "{left:?}");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let data = folder();
    let server = TestServer::start(data.path());
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(Ceremony::upload(&server, "ultra/big.tar.zst", &bytes).status, 201);
    assert_eq!(Ceremony::upload(&server, "ultra/big.tar.zst", &bytes).status, 200);
    let hash = Sha256Digest::of(&bytes);
    let path = format!("/v1/image/targets/ultra/{hash}.big.tar.zst");
    let get = |headers: &[(&str, &str)]| http::request(server.address(), "GET", &path, headers, &[]);
    let whole = get(&[]);
    let etag = format!("\"{hash}\"");
    assert_eq!((whole.status, &whole.headers["etag"], &whole.headers["accept-ranges"]), (200, &etag, &"bytes".to_owned()));
    assert!(whole.headers["cache-control"].contains("immutable"));
    assert_eq!(whole.body, bytes);

    let rest = get(&[("range", "bytes=1000000-"), ("if-range", &etag)]);
    assert_eq!((rest.status, rest.headers["content-range"].as_str()), (206, "bytes 1000000-2999999/3000000"));
    assert_eq!(rest.body, bytes[1_000_000..]);
    assert_eq!(get(&[("range", "bytes=5-5")]).body, bytes[5..6]);
    assert_eq!(get(&[("range", "bytes=-7")]).body, bytes[2_999_993..]);
    let changed = get(&[("range", "bytes=1000000-"), ("if-range", "\"another\"")]);
    assert_eq!((changed.status, changed.body.len()), (200, 3_000_000));
    let beyond = get(&[("range", "bytes=3000000-")]);
    assert_eq!((beyond.status, beyond.headers["content-range"].as_str()), (416, "bytes */3000000"));
    let known = get(&[("if-none-match", &etag)]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = http::request(server.address(), "HEAD", &path, &[], &[]);
    assert_eq!((head.status, head.headers["content-length"].as_str(), head.body.len()), (200, "3000000", 0));
}

#[test]
fn what_was_approved_or_rolled_out_keeps_its_bytes() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    let index = Ceremony::index("1.0.0", "ultra");
    let mut put = |text: &str| {
        let other = text.as_bytes();
        assert_eq!(Ceremony::upload(&server, "ultra/vla-1.0.0.index", other).status, 201);
        let (path, bytes) = ceremony.sign_content("1.0.0", "ultra", 1, &[0, 1], other);
        (Sha256Digest::of(other), server.control_bytes("PUT", &path, &bytes))
    };
    // Nobody has decided anything about it: a mistake can be mended.
    let (mended, response) = put("mended index");
    assert_eq!(response.status, 200, "{}", response.text());
    let approval = server.approve("1.0.0");
    let listed = server.ask("GET", "/v1/approvals", None)["approvals"][0]["contents"].clone();
    let content = json!({"path": "ultra/vla-1.0.0.index", "sha256": mended.to_hex(), "tier": "ultra", "hardware_ids": ["orin"]});
    assert_eq!(listed, json!([content]));
    let refused = |(other, response): (Sha256Digest, crate::support::Response)| {
        assert_eq!((response.status, response.problem().as_str()), (409, "release_content_differs"));
        let expected = format!(
            "ultra/vla-1.0.0.index: release vla 1.0.0 has the chunk index {other} here, and is known with {mended}; its content was \
             approved or rolled out and cannot change"
        );
        assert_eq!(response.json()["detail"], expected);
    };
    refused(put("another index"));
    // An approval that was revoked was given all the same.
    server.ask("DELETE", &format!("/v1/approvals/{approval}"), None);
    refused(put("a third index"));
    assert_ne!(Sha256Digest::of(&index), mended);
}

#[test]
fn a_rollout_binds_the_bytes_too() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    server.draft("1.0.0", &json!([{"name": "all", "percent": 100}]), 1);
    let other = b"another index";
    assert_eq!(Ceremony::upload(&server, "ultra/vla-1.0.0.index", other).status, 201);
    let (path, bytes) = ceremony.sign_content("1.0.0", "ultra", 1, &[0, 1], other);
    assert_eq!(server.control_bytes("PUT", &path, &bytes).problem(), "release_content_differs");
}

#[test]
fn what_nobody_has_seen_cannot_be_approved() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let approval = json!({"model": "vla", "version": "9.0.0", "region": "eu", "authority": "KBA", "number": "1",
        "valid_from": "2026-01-01T00:00:00Z"});
    let refused = server.control("POST", "/v1/approvals", Some(&approval));
    assert_eq!((refused.status, refused.problem().as_str()), (409, "release_not_published"));
    assert_eq!(refused.json()["detail"], "the Image repository holds no release vla 9.0.0");
    assert!(refused.json()["hint"].as_str().unwrap().starts_with("publish the signed metadata of the release first"));
    assert_eq!(server.ask("GET", "/v1/approvals", None), json!({"approvals": []}));
}
