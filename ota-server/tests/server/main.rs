//! The server's promises, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod connections;
mod content_keys;
mod deltas;
mod devices;
mod keys;
mod program;
mod publication;
mod rollouts;
mod secondaries;
mod support;

use serde_json::json;
use support::{Ceremony, Control, START, TestServer, TestVehicle, http};
use switchback_signing::{
    metadata::vehicle::UpdateState,
    trust::{Installed, Outcome, ReleaseFloor},
};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Version 1.0.0 of tier `ultra` is published.
fn published(server: &impl Control) -> Ceremony {
    let mut ceremony = Ceremony::begin(server);
    ceremony.publish(server, "1.0.0", "ultra", 1);
    ceremony
}

#[test]
fn a_release_travels_from_the_ceremony_to_a_vehicle_that_verifies_it() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START), None);
    server.approve("1.0.0");
    let id = server.roll_out("1.0.0", 1);

    let Outcome::Install(target) = vehicle.check(&server, &ceremony, START, Installed::default()) else { panic!() };
    let path = format!("/v1/image/targets/{}", target.fetch_path());
    let index = http::request(server.address(), "GET", &path, &[], &[]);
    assert_eq!((index.status, index.body), (200, Ceremony::index("1.0.0", "ultra")));
    let bundle = format!("/v1/image/targets/{}", target.bundle_fetch_path());
    assert_eq!(http::request(server.address(), "GET", &bundle, &[], &[]).status, 200);

    vehicle.report(&server, START, UpdateState::Confirmed, "1.0.0", 1);
    let installed = Installed { floor: ReleaseFloor(1), image_sha256: Some(target.sha256()) };
    assert_eq!(vehicle.check(&server, &ceremony, START, installed), Outcome::NothingNew);
    let rollout = server.rollout(id);
    assert_eq!(rollout["gate"], json!({"confirmed": 1, "failed": 0}));
    let wave = &rollout["waves"][0];
    assert_eq!((&wave["selected"], &wave["reached"], &wave["offered"], &wave["confirmed"]), (&json!(1), &json!(1), &json!(1), &json!(1)));
    let kinds: Vec<&str> = rollout["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["rollout_created", "rollout_started"]);
}

#[test]
fn the_control_plane_needs_its_token_on_every_route() {
    let data = folder();
    let server = TestServer::start(data.path());
    let routes = [
        ("GET", "/v1/online-keys"),
        ("POST", "/v1/online-keys"),
        ("GET", "/v1/keys"),
        ("PUT", "/v1/image/metadata/1.root.json"),
        ("PUT", "/v1/image/targets/a/b"),
        ("PUT", "/v1/director/root/1.root.json"),
        ("POST", "/v1/enrollment-tokens"),
        ("GET", "/v1/vehicles"),
        ("GET", "/v1/vehicles/v-1"),
        ("GET", "/v1/releases"),
        ("GET", "/v1/approvals"),
        ("POST", "/v1/approvals"),
        ("DELETE", "/v1/approvals/1"),
        ("GET", "/v1/rollouts"),
        ("POST", "/v1/rollouts"),
        ("GET", "/v1/rollouts/1"),
        ("POST", "/v1/rollouts/1/start"),
    ];
    for (method, path) in routes {
        for authorization in ["", "Bearer ", "Bearer wrong", "Basic abc"] {
            let response = http::request(server.address(), method, path, &[("authorization", authorization)], &[]);
            assert_eq!((response.status, response.problem().as_str()), (401, "token_invalid"), "{method} {path}");
        }
    }
}

#[test]
fn everything_that_comes_in_has_a_limit() {
    let data = folder();
    let server = TestServer::start(data.path());
    let vehicle = TestVehicle::enroll(&server, "v-1");
    let long = vec![b' '; 64 * 1024 + 1];
    assert_eq!(vehicle.send(&server, START, &long).problem(), "too_long");
    assert_eq!(http::request(server.address(), "POST", "/v1/vehicles/enroll", &[], &long).problem(), "too_long");
    assert_eq!(server.control_bytes("POST", "/v1/rollouts", &vec![b' '; 256 * 1024 + 1]).problem(), "too_long");
    let header = "x".repeat(20_000);
    assert_eq!(http::request(server.address(), "GET", "/healthz", &[("x-long", &header)], &[]).status, 431);
    let many: Vec<(String, &str)> = (0..100).map(|n| (format!("x-{n}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(http::request(server.address(), "GET", "/healthz", &many, &[]).status, 431);
    let waves: Vec<_> = (0..101).map(|n| json!({"name": n.to_string(), "percent": 1})).collect();
    let rollout = json!({"name": "x", "release": {"model": "vla", "version": "1.0.0"}, "waves": waves, "failure_limit": {"count": 1}});
    assert_eq!(server.control("POST", "/v1/rollouts", Some(&rollout)).problem(), "request_malformed");
}
