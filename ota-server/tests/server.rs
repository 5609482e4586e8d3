//! The server's promises, on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::json;
use support::{Ceremony, Control, Program, START, TestServer, TestVehicle, http};
use switchback_signing::{
    keys::{Ed25519Signer, Sha256Digest, Signer},
    metadata::vehicle::UpdateState,
    time::UnixTime,
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

fn system_now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixTime::from_seconds(since.as_secs().try_into().unwrap())
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
fn a_token_enrolls_one_vehicle_once() {
    let data = folder();
    let server = TestServer::start(data.path());
    let token = TestVehicle::token(&server, "v-1", "ultra", "P7", "eu");
    let vehicle = TestVehicle::new("v-1", "ultra", "eu");
    let other = TestVehicle::new("v-2", "ultra", "eu");
    assert_eq!(other.enroll_with(&server, &token).problem(), "token_of_another_vehicle");
    assert_eq!(vehicle.enroll_with(&server, "guessed").problem(), "token_invalid");
    assert_eq!(vehicle.enroll_with(&server, &token).status, 200);

    let thief = TestVehicle { key: Ed25519Signer::from_seed([99; 32]), ..TestVehicle::new("v-1", "ultra", "eu") };
    let refused = thief.enroll_with(&server, &token);
    assert_eq!((refused.status, refused.problem().as_str()), (403, "token_invalid"));
    // The vehicle itself may have lost power before it read the answer.
    assert_eq!(vehicle.enroll_with(&server, &token).status, 200);

    let again = json!({"vehicle_id": "v-1", "tenant": "oem", "tier": "ultra", "hardware_id": "orin", "model_line": "P7", "region": "eu"});
    assert_eq!(server.control("POST", "/v1/enrollment-tokens", Some(&again)).problem(), "already_enrolled");
}

#[test]
fn a_token_is_worthless_after_its_week_or_when_a_newer_one_exists() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (vehicle, older) = (TestVehicle::new("v-1", "ultra", "eu"), TestVehicle::token(&server, "v-1", "ultra", "P7", "eu"));
    let newer = TestVehicle::token(&server, "v-1", "ultra", "P7", "eu");
    assert_eq!(vehicle.enroll_with(&server, &older).problem(), "token_invalid");
    server.clock.turn(7 * 86_400);
    assert_eq!(vehicle.enroll_with(&server, &newer).problem(), "token_invalid");
}

#[test]
fn a_request_that_the_enrolled_key_did_not_sign_just_now_is_refused() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let vehicle = TestVehicle::enroll(&server, "v-1");
    let path = "/v1/director/v-1/metadata/timestamp.json";
    let unsigned = http::request(server.address(), "GET", path, &[], &[]);
    assert_eq!((unsigned.status, unsigned.problem().as_str()), (401, "signature_invalid"));
    let thief = TestVehicle { key: Ed25519Signer::from_seed([99; 32]), ..TestVehicle::new("v-1", "ultra", "eu") };
    assert_eq!(thief.director(&server, START, "timestamp.json", &[]).problem(), "signature_invalid");
    assert_eq!(vehicle.director(&server, START.plus_seconds(-301), "timestamp.json", &[]).problem(), "signature_invalid");
    assert_eq!(vehicle.director(&server, START.plus_seconds(300), "timestamp.json", &[]).status, 200);
    let other = TestVehicle::enroll(&server, "v-2");
    assert_eq!(other.request(&server, START, "GET", path, &[], &[]).problem(), "signature_invalid");
    let stranger = TestVehicle::new("v-3", "ultra", "eu").director(&server, START, "timestamp.json", &[]);
    assert_eq!((stranger.status, stranger.problem().as_str()), (401, "vehicle_unknown"));
}

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
    let stranger = ceremony.engineers[0].public_key();
    refused(
        &format!("{image}/1.root.json"),
        &ceremony.signed_image_root(1, &stranger, &stranger, ceremony.expires),
        "online_keys_not_certified",
        "the Image repository root does not name this server's key, with threshold 1, for the role snapshot",
    );
    refused(
        "/v1/director/root/1.root.json",
        &ceremony.image_root(),
        "online_keys_not_certified",
        "the Director root does not name this server's key, with threshold 1, for the role targets",
    );
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
fn nothing_new_is_answered_without_a_single_sql_statement() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let vehicle = TestVehicle::enroll(&server, "v-1");
    let first = vehicle.director(&server, START, "timestamp.json", &[]);
    let etag = first.headers["etag"].clone();
    // Whoever would ask the database now gets an error.
    server.runtime.block_on(server.server.close());
    let second = vehicle.director(&server, START, "timestamp.json", &[("if-none-match", &etag)]);
    assert_eq!((second.status, second.body.len(), &second.headers["etag"]), (304, 0, &etag));
    assert_eq!(vehicle.director(&server, START, "timestamp.json", &[]).body, first.body);
}

#[test]
fn a_pause_holds_for_the_next_poll_and_after_it_the_older_release_is_assigned_again() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    server.approve("1.0.0");
    server.approve("2.0.0");
    server.roll_out("1.0.0", 1);
    let id = server.roll_out("2.0.0", 1);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    let empty = server.control("POST", &format!("/v1/rollouts/{id}/pause"), None);
    assert_eq!(empty.problem(), "request_malformed");
    server.ask("POST", &format!("/v1/rollouts/{id}/pause"), Some(&json!({"reason": "field report 17"})));
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    let rollout = server.rollout(id);
    assert_eq!(
        (&rollout["state"], &rollout["paused_by"], &rollout["paused_reason"]),
        (&json!("paused"), &json!("operator"), &json!("field report 17"))
    );

    let silent = server.control("POST", &format!("/v1/rollouts/{id}/resume"), Some(&json!({"note": " "})));
    assert_eq!(silent.problem(), "request_malformed");
    server.ask("POST", &format!("/v1/rollouts/{id}/resume"), Some(&json!({"note": "the report was about a tire"})));
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
}

#[test]
fn nobody_is_offered_a_release_that_is_not_approved_for_their_market() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    let mut european = TestVehicle::enroll(&server, "v-eu");
    let mut chinese = TestVehicle::enroll_as(&server, "v-cn", "ultra", "P7", "cn");
    server.roll_out("1.0.0", 1);
    assert_eq!(european.offered(&server, &ceremony, START), None);
    let approval = server.approve("1.0.0");
    assert_eq!(european.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    assert_eq!(chinese.offered(&server, &ceremony, START), None);
    let view = server.ask("GET", "/v1/vehicles/v-cn", None);
    let reason = "no approval of this release is valid in the vehicle's region";
    assert_eq!((&view["rollouts"][0]["offered"], &view["rollouts"][0]["withheld"]), (&json!(false), &json!(reason)));
    server.ask("DELETE", &format!("/v1/approvals/{approval}"), None);
    assert_eq!(european.offered(&server, &ceremony, START), None);
    assert_eq!(server.control("DELETE", &format!("/v1/approvals/{approval}"), None).status, 404);
}

#[test]
fn a_vehicle_of_another_tier_is_never_offered_the_release() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    server.approve("1.0.0");
    server.roll_out("1.0.0", 1);
    let mut small = TestVehicle::enroll_as(&server, "v-se", "ultra-se", "P7", "eu");
    assert_eq!(small.offered(&server, &ceremony, START), None);
    // One name, one rollout, one target for each tier.
    ceremony.publish(&server, "1.0.0", "ultra-se", 1);
    let Outcome::Install(target) = small.check(&server, &ceremony, START, Installed::default()) else { panic!() };
    assert_eq!(target.path(), "ultra-se/vla-1.0.0.index");
}

#[test]
fn waves_open_on_their_dates_and_earlier_when_somebody_says_so() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    let waves = json!([
        {"name": "P7", "percent": 100, "model_lines": ["P7"]},
        {"name": "G7", "percent": 100, "model_lines": ["G7"], "starts_at": START.plus_seconds(100).to_string()},
        {"name": "X9", "percent": 100, "model_lines": ["X9"], "starts_at": START.plus_days(30).to_string()},
    ]);
    let id = server.draft("1.0.0", &waves, 1);
    let mut vehicles = ["P7", "G7", "X9"].map(|line| TestVehicle::enroll_as(&server, &format!("v-{line}"), "ultra", line, "eu"));
    let mut offered = || {
        let now = server.clock.now();
        vehicles.each_mut().map(|vehicle| vehicle.offered(&server, &ceremony, now).is_some())
    };
    assert_eq!(offered(), [false, false, false]);
    server.ask("POST", &format!("/v1/rollouts/{id}/start"), None);
    assert_eq!(offered(), [true, false, false]);
    server.clock.turn(100);
    assert_eq!(offered(), [true, true, false]);
    server.ask("POST", &format!("/v1/rollouts/{id}/advance"), None);
    assert_eq!(offered(), [true, true, true]);
    assert_eq!(server.control("POST", &format!("/v1/rollouts/{id}/advance"), None).problem(), "illegal_move");
    assert_eq!(server.control("POST", &format!("/v1/rollouts/{id}/start"), None).problem(), "illegal_move");
}

#[test]
fn enough_failures_pause_the_rollout_before_the_vehicle_that_reported_gets_its_answer() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    let id = server.roll_out("1.0.0", 2);
    let mut fleet = ["v-1", "v-2", "v-3", "v-4"].map(|name| TestVehicle::enroll(&server, name));
    for vehicle in &mut fleet[..3] {
        assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    }
    fleet[0].report(&server, START, UpdateState::Confirmed, "1.0.0", 1);
    fleet[1].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    // The same vehicle once more is no second failure.
    fleet[1].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    assert_eq!(server.rollout(id)["state"], "running");
    fleet[2].report(&server, START, UpdateState::RolledBack, "1.0.0", 1);
    assert_eq!(fleet[3].offered(&server, &ceremony, START), None);

    let rollout = server.rollout(id);
    assert_eq!((&rollout["state"], &rollout["paused_by"]), (&json!("paused"), &json!("gate")));
    assert_eq!(rollout["paused_reason"], "failed vehicles: 2, the limit is 2");
    assert_eq!(rollout["waves"][0]["reasons"], json!({"self_test_failed": 2}));
    assert_eq!(rollout["waves"][0]["failed"], 2);
    let last = rollout["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["kind"], &last["text"]),
        (&json!("rollout_paused"), &json!("paused by the gate: failed vehicles: 2, the limit is 2"))
    );

    // Resuming counts from zero: the failures that were looked into do not stop it again, new ones do.
    server.ask("POST", &format!("/v1/rollouts/{id}/resume"), Some(&json!({"note": "two test cars with old cameras"})));
    assert_eq!(fleet[3].offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    fleet[3].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    assert_eq!(server.rollout(id)["state"], "running");
    fleet[1].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    assert_eq!(server.rollout(id)["state"], "paused");
}

#[test]
fn a_report_is_accepted_once_and_only_from_its_vehicle() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    let first = vehicle.manifest(START, UpdateState::Idle, "1.0.0", 0);
    assert_eq!(vehicle.send(&server, START, &first).status, 200);
    let replayed = vehicle.send(&server, START, &first);
    assert_eq!((replayed.status, replayed.problem().as_str()), (409, "manifest_replayed"));
    vehicle.counter = 0;
    let reused = vehicle.manifest(START, UpdateState::Confirmed, "1.0.0", 1);
    assert_eq!(vehicle.send(&server, START, &reused).problem(), "manifest_replayed");

    // Signed by another vehicle's key, though sent through a channel of this one.
    let mut thief = TestVehicle { key: Ed25519Signer::from_seed([99; 32]), counter: 10, ..TestVehicle::new("v-1", "ultra", "eu") };
    let forged = thief.manifest(START, UpdateState::Confirmed, "1.0.0", 1);
    assert_eq!(vehicle.send(&server, START, &forged).problem(), "manifest_signature");
    let mut other = TestVehicle::enroll(&server, "v-2");
    let foreign = other.manifest(START, UpdateState::Confirmed, "1.0.0", 1);
    assert_eq!(vehicle.send(&server, START, &foreign).problem(), "manifest_other_vehicle");
    let future = vehicle.manifest(START.plus_seconds(301), UpdateState::Idle, "1.0.0", 1);
    assert_eq!(vehicle.send(&server, START, &future).problem(), "manifest_from_the_future");
    assert_eq!(vehicle.send(&server, START, b"{}").problem(), "manifest_malformed");
    assert_eq!(server.ask("GET", "/v1/vehicles/v-1", None)["report_counter"], 1);
}

#[test]
fn metadata_is_renewed_before_it_expires_and_its_versions_only_rise() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    server.roll_out("1.0.0", 1);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    let etag = |server: &TestServer, vehicle: &TestVehicle| {
        vehicle.director(server, server.clock.now(), "timestamp.json", &[]).headers["etag"].clone()
    };
    assert!(vehicle.offered(&server, &ceremony, START).is_some());
    assert_eq!(etag(&server, &vehicle), "\"timestamp-1\"");
    server.clock.turn(12 * 3600);
    assert_eq!(etag(&server, &vehicle), "\"timestamp-1\"");
    server.clock.turn(1);
    assert_eq!(etag(&server, &vehicle), "\"timestamp-2\"");
    // A vehicle that was parked for two months finds everything fresh, in both repositories.
    server.clock.turn(60 * 86_400);
    server.runtime.block_on(server.server.refresh_image_metadata()).unwrap();
    let now = server.clock.now();
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"));
    drop(server);
    let server = TestServer::start_at(data.path(), now);
    assert_eq!(etag(&server, &vehicle), "\"timestamp-3\"");
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let data = folder();
    let program = Program::start(data.path());
    let mut ceremony = Ceremony::begin(&program);
    ceremony.publish(&program, "1.0.0", "ultra", 1);
    ceremony.publish(&program, "2.0.0", "ultra", 2);
    program.approve("1.0.0");
    program.approve("2.0.0");
    program.roll_out("1.0.0", 1);
    let id = program.roll_out("2.0.0", 1);
    let now = system_now();
    let (mut one, mut two) = (TestVehicle::enroll(&program, "v-1"), TestVehicle::enroll(&program, "v-2"));
    assert_eq!(one.offered(&program, &ceremony, now).as_deref(), Some("2.0.0"));
    let last = one.manifest(now, UpdateState::RolledBack, "2.0.0", 2);
    assert_eq!(one.send(&program, now, &last).status, 200);
    program.kill();

    let program = Program::start(data.path());
    assert_eq!(program.rollout(id)["paused_reason"], "failed vehicles: 1, the limit is 1");
    assert_eq!(one.send(&program, now, &last).problem(), "manifest_replayed");
    assert_eq!(one.offered(&program, &ceremony, now).as_deref(), Some("1.0.0"));
    assert_eq!(two.offered(&program, &ceremony, now).as_deref(), Some("1.0.0"));
    let again = program.ask("GET", "/v1/online-keys", None);
    assert_eq!(again, ceremony.online);
    program.ask("POST", &format!("/v1/rollouts/{id}/resume"), Some(&json!({"note": "one bad camera"})));
    program.kill();

    let program = Program::start(data.path());
    assert_eq!(program.rollout(id)["state"], "running");
    assert_eq!(two.offered(&program, &ceremony, now).as_deref(), Some("2.0.0"));
}

#[test]
fn an_upload_that_a_kill_interrupted_leaves_nothing_behind() {
    let data = folder();
    let objects = data.path().join("objects/targets/ultra");
    std::fs::create_dir_all(&objects).unwrap();
    let (part, whole) = (objects.join("aa.vla.tar.zst#1"), objects.join("bb.vla.tar.zst"));
    std::fs::write(&part, b"half").unwrap();
    std::fs::write(&whole, b"whole").unwrap();
    let _server = TestServer::start(data.path());
    assert_eq!((part.exists(), whole.exists()), (false, true));
}

#[test]
fn the_program_stops_when_it_is_asked_and_two_do_not_share_a_folder() {
    let data = folder();
    let program = Program::start(data.path());
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_switchback-server"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another switchback-server is using"), "{text}");
    assert!(program.terminate());
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_switchback-server"))
        .args(["online-keys", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(keys["director"]["targets"]["keytype"], "ed25519");
    assert!(!text.contains(&std::fs::read_to_string(data.path().join("admin.token")).unwrap()));
}

#[cfg(unix)]
#[test]
fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let data = folder();
    let _server = TestServer::start(data.path());
    let keys = std::fs::read_dir(data.path().join("keys")).unwrap().map(|entry| entry.unwrap().path());
    for path in keys.chain([data.path().join("admin.token")]) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn the_control_plane_needs_its_token_on_every_route() {
    let data = folder();
    let server = TestServer::start(data.path());
    let routes = [
        ("GET", "/v1/online-keys"),
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

#[test]
fn a_rollout_that_cannot_be_meant_is_refused_with_the_reason() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let create = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut rollout = json!({
            "name": "x", "release": {"model": "vla", "version": "1.0.0"}, "selector": {"tiers": ["ultra"]},
            "waves": [{"name": "all", "percent": 100}], "failure_limit": {"count": 1},
        });
        change(&mut rollout);
        let response = server.control("POST", "/v1/rollouts", Some(&rollout));
        (response.status, response.json()["detail"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status: u16, detail: &str, change: &dyn Fn(&mut serde_json::Value)| {
        assert_eq!(create(change), (status, detail.to_owned()));
    };
    refused(409, "the Image repository holds no release vla 9.0.0", &|rollout| rollout["release"]["version"] = json!("9.0.0"));
    refused(422, "a wave's percent is more than 0 and at most 100, not 101", &|rollout| rollout["waves"][0]["percent"] = json!(101));
    refused(422, "a failure limit states a count, a percent, or both", &|rollout| rollout["failure_limit"] = json!({}));
    refused(422, "a rollout has 1 to 100 waves", &|rollout| rollout["waves"] = json!([]));
    let unknown = create(&|rollout| rollout["wave"] = json!([]));
    assert!(unknown.0 == 422 && unknown.1.starts_with("unknown field `wave`"), "{unknown:?}");
    assert_eq!(create(&|_| ()).0, 201);
    refused(409, "a rollout named \"x\" exists already", &|_| ());
}
