//! Deltas: only what vehicles could use is told to them. That it reaches one is a scenario of `tests/`.

use serde_json::json;
use switchback_signing::keys::Sha256Digest;

use crate::{
    folder, published,
    support::{Ceremony, Control, TestServer, http},
};

/// An index of a delta that leaves the one chunk to the full bundle (`signing::bundle::delta`).
fn index(full: &Sha256Digest) -> Vec<u8> {
    let mut bytes = b"SWBD".to_vec();
    for field in [1_u16, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [1_u32, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(full.as_bytes());
    bytes.extend(Sha256Digest::of(b"base").as_bytes());
    bytes.extend(Sha256Digest::of(b"manifest").as_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend([0; 32]);
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(Sha256Digest::of(b"").as_bytes());
    bytes.extend([0; 38]);
    bytes
}

#[test]
fn a_delta_is_refused_unless_vehicles_could_use_it() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let put = |name: &str, bytes: &[u8]| {
        let path = format!("ultra/{}.{name}", Sha256Digest::of(bytes));
        server.control_bytes("PUT", &format!("/v1/deltas/{path}"), b"").problem()
    };
    let upload = |name: &str, bytes: &[u8]| assert_eq!(Ceremony::upload(&server, &format!("ultra/{name}"), bytes).status, 201);
    assert_eq!(put("x.delta.index", b"nowhere"), "delta_missing");
    assert_eq!(put("vla-1.0.0.index", &Ceremony::index("1.0.0", "ultra")), "delta_name_malformed");
    upload("x.delta.index", b"no delta");
    assert_eq!(put("x.delta.index", b"no delta"), "delta_refused");
    let of_nothing = index(&Sha256Digest::of(b"unpublished"));
    upload("x.delta.index", &of_nothing);
    assert_eq!(put("x.delta.index", &of_nothing), "delta_without_release");
    // What stands for an index in these tests is none, and a delta cannot be joined to it.
    let unreadable = index(&Sha256Digest::of(&Ceremony::index("1.0.0", "ultra")));
    upload("x.delta.index", &unreadable);
    assert_eq!(put("x.delta.index", &unreadable), "delta_refused");
    assert_eq!(server.ask("GET", "/v1/deltas", None), json!({"deltas": []}));
}

#[test]
fn a_delta_is_withdrawn_by_its_two_ends_and_by_nobody_without_the_token() {
    let data = folder();
    let server = TestServer::start(data.path());
    let [release, base] = [b"release", b"base..."].map(|bytes| Sha256Digest::of(bytes));
    assert_eq!(server.control("DELETE", &format!("/v1/deltas/{release}/{base}"), None).status, 404);
    assert_eq!(server.control("DELETE", &format!("/v1/deltas/{release}/x"), None).problem(), "sha256_malformed");
    for (method, path) in [("GET", "/v1/deltas".to_owned()), ("DELETE", format!("/v1/deltas/{release}/{base}"))] {
        assert_eq!(http::request(server.address(), method, &path, &[], &[]).status, 401, "{method}");
    }
}
