//! What vehicles ask for and what they report.

use serde_json::json;
use switchback_signing::{
    keys::{Ed25519Signer, Signer},
    metadata::vehicle::UpdateState,
    time::UnixTime,
    trust::{Installed, Outcome},
};

use crate::{
    folder, published,
    support::{Control, START, TestServer, TestVehicle, http},
};

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
    let known = server.control("POST", "/v1/enrollment-tokens", Some(&again));
    assert_eq!(known.problem(), "already_enrolled");
    assert!(known.json()["hint"].as_str().unwrap().contains("enroll --replace"), "{}", known.text());
}

#[test]
fn a_vehicle_that_lost_its_store_comes_back_with_a_token_that_replaces_its_key() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    server.roll_out("1.0.0", 1);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    vehicle.report(&server, START, UpdateState::Confirmed, "1.0.0", 1);
    let mut token =
        json!({"vehicle_id": "v-1", "tenant": "oem", "tier": "ultra", "hardware_id": "orin", "model_line": "P7", "region": "eu"});
    token["replace"] = json!(true);
    let issued = server.ask("POST", "/v1/enrollment-tokens", Some(&token))["token"].as_str().unwrap().to_owned();
    // Until the token is used the old key is good.
    vehicle.report(&server, START, UpdateState::Idle, "1.0.0", 0);
    let mut anew = TestVehicle { key: Ed25519Signer::from_seed([99; 32]), ..TestVehicle::new("v-1", "ultra", "eu") };
    assert_eq!(anew.enroll_with(&server, &issued).status, 200);
    assert_eq!(anew.enroll_with(&server, &issued).status, 200, "it may have lost power before it read the answer");
    assert_eq!(vehicle.director(&server, START, "timestamp.json", &[]).problem(), "signature_invalid");
    assert_eq!(anew.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    // It counts its reports from the beginning, and its floor stands.
    anew.report(&server, START, UpdateState::Downloading, "1.0.0", 1);
    drop(server);
    let server = TestServer::start(data.path());
    anew.report(&server, START, UpdateState::Armed, "1.0.0", 1);
    let view = server.ask("GET", "/v1/vehicles/v-1", None);
    assert_eq!((&view["report_counter"], &view["confirmed_counter"]), (&json!(2), &json!(1)));
    token["vehicle_id"] = json!("v-2");
    assert_eq!(server.control("POST", "/v1/enrollment-tokens", Some(&token)).problem(), "not_enrolled");
}

#[test]
fn a_vehicle_enrolls_only_a_key_that_it_holds() {
    let data = folder();
    let server = TestServer::start(data.path());
    let token = TestVehicle::token(&server, "v-1", "ultra", "P7", "eu");
    let (vehicle, other) = (TestVehicle::new("v-1", "ultra", "eu"), TestVehicle::new("v-2", "ultra", "eu"));
    let foreign = vehicle.enroll_key(&server, &token, &other.key.public_key(), START);
    assert_eq!((foreign.status, foreign.problem().as_str()), (401, "signature_invalid"));
    assert_eq!(vehicle.enroll_key(&server, &token, &vehicle.key.public_key(), START.plus_seconds(-301)).problem(), "signature_invalid");
    let body = br#"{"token": "x"}"#;
    assert_eq!(http::request(server.address(), "POST", "/v1/vehicles/enroll", &[], body).problem(), "enrollment_malformed");
    // None of that used the token up.
    assert_eq!(vehicle.enroll_with(&server, &token).status, 200);
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()) && token.len() == 64, "{token}");
}

#[test]
fn an_operator_learns_of_slips_of_the_pen() {
    let data = folder();
    let server = TestServer::start(data.path());
    let issue = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut vehicle =
            json!({"vehicle_id": "v-1", "tenant": "oem", "tier": "ultra", "hardware_id": "orin", "model_line": "P7", "region": "eu"});
        change(&mut vehicle);
        server.control("POST", "/v1/enrollment-tokens", Some(&vehicle))
    };
    let warnings = |response: crate::support::Response| (response.json()["replaced"].clone(), response.json()["warnings"].clone());
    // Nothing is published, so nothing is known to be wrong.
    assert_eq!(warnings(issue(&|vehicle| vehicle["tier"] = json!("ulta"))), (json!(false), json!([])));
    published(&server);
    server.approve("1.0.0");
    let tier = issue(&|vehicle| vehicle["tier"] = json!("ulta"));
    assert_eq!((tier.status, tier.problem().as_str()), (422, "tier_unknown"));
    assert_eq!(tier.json()["detail"], "the Image repository knows no tier ulta; it knows ultra, ultra-se");
    let replaces = "an older token of v-1 that was still good is worthless now";
    assert_eq!(warnings(issue(&|_| ())), (json!(true), json!([replaces])));
    let expected = [
        "no release, approval or rollout knows the hardware orion; they know orin",
        "no release, approval or rollout knows the region ue; they know eu",
    ];
    let slips = issue(&|vehicle| {
        vehicle["vehicle_id"] = json!("v-2");
        vehicle["hardware_id"] = json!("orion");
        vehicle["region"] = json!("ue");
    });
    assert_eq!((slips.status, warnings(slips)), (201, (json!(false), json!(expected))));
}

#[test]
fn a_vehicle_that_reports_without_end_is_told_to_wait() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    for _ in 0..120 {
        vehicle.report(&server, START, UpdateState::Idle, "1.0.0", 0);
    }
    let more = vehicle.manifest(START, UpdateState::Idle, "1.0.0", 0);
    let refused = vehicle.send(&server, START, &more);
    assert_eq!((refused.status, refused.problem().as_str(), refused.headers["retry-after"].as_str()), (429, "too_many_reports", "60"));
    // It is the vehicle's own budget.
    TestVehicle::enroll(&server, "v-2").report(&server, START, UpdateState::Idle, "1.0.0", 0);
    server.clock.turn(60);
    let now = server.clock.now();
    assert_eq!(vehicle.send(&server, now, &more).status, 200);
    // A clock that was set back locks nobody out.
    server.clock.turn(-7 * 86_400);
    let now = server.clock.now();
    vehicle.report(&server, now, UpdateState::Idle, "1.0.0", 0);
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
    let made_at = |time: UnixTime| format!("\"timestamp-{}\"", time.seconds());
    assert_eq!(etag(&server, &vehicle), made_at(START));
    server.clock.turn(12 * 3600);
    assert_eq!(etag(&server, &vehicle), made_at(START));
    server.clock.turn(1);
    assert_eq!(etag(&server, &vehicle), made_at(START.plus_seconds(12 * 3600 + 1)));
    // A vehicle that was parked for two months finds everything fresh, in both repositories.
    server.clock.turn(60 * 86_400);
    server.runtime.block_on(server.server.refresh_image_metadata()).unwrap();
    let now = server.clock.now();
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"));
    drop(server);
    let server = TestServer::start_at(data.path(), now);
    assert_eq!(etag(&server, &vehicle), made_at(now));
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"));
}

#[test]
fn a_vehicle_that_asks_with_a_nonce_is_answered_with_it_and_one_that_asks_without_end_waits() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let vehicle = TestVehicle::enroll(&server, "v-1");
    let ask = |file: &str, headers: &[(&str, &str)]| vehicle.director(&server, server.clock.now(), file, headers);
    let freshness = |answer: &crate::support::Response| {
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.json()["signed"]["freshness"].clone(), answer.json()["signed"]["version"].clone())
    };
    let nonce = |number: u32| format!("{number:032x}");
    let question = |number: u32| format!("timestamp.json?nonce={}", nonce(number));
    let first = ask("timestamp.json", &[]);
    let version = START.seconds();
    assert_eq!(freshness(&first), (json!({"signedAt": START.to_string()}), json!(version)));
    // Each question has its own answer, also from a client that says what it has.
    for number in 1..=32 {
        let answer = ask(&question(number), &[("if-none-match", "\"timestamp-1\"")]);
        let expected = json!({"signedAt": START.to_string(), "nonce": nonce(number)});
        assert_eq!(freshness(&answer), (expected, json!(version + i64::from(number))));
    }
    // From then on the answer is the one that counts, and polls without a nonce sign nothing.
    let newest = ask("timestamp.json", &[]);
    assert_eq!(freshness(&newest).1, json!(version + 32));
    assert_eq!(ask("timestamp.json", &[("if-none-match", &newest.headers["etag"])]).status, 304);
    let more = ask(&question(33), &[]);
    assert_eq!((more.status, more.problem().as_str(), more.headers["retry-after"].as_str()), (429, "too_many_questions", "300"));
    assert_eq!(ask("timestamp.json", &[]).status, 200);
    server.clock.turn(300);
    assert_eq!(freshness(&ask(&question(33), &[])).0["nonce"], json!(nonce(33)));
    let malformed = ask("timestamp.json?nonce=7", &[]);
    assert_eq!((malformed.status, malformed.problem().as_str()), (400, "nonce_malformed"));
    // Nobody else makes the Director sign for this vehicle.
    let stranger = TestVehicle { key: Ed25519Signer::from_seed([99; 32]), ..TestVehicle::new("v-1", "ultra", "eu") };
    assert_eq!(stranger.director(&server, server.clock.now(), &question(34), &[]).status, 401);
}

#[test]
fn an_attack_that_a_vehicle_reports_is_told_with_the_vehicle() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (mut one, two) = (TestVehicle::enroll(&server, "v-1"), TestVehicle::enroll(&server, "v-2"));
    one.report(&server, START, UpdateState::Confirmed, "1.0.0", 1);
    let attacks = |vehicle: &TestVehicle| server.ask("GET", &format!("/v1/vehicles/{}", vehicle.id), None)["attacks"].clone();
    assert_eq!(attacks(&one), json!([]));
    one.report_attack(&server, START, 111, "older_version");
    // As long as it goes on, the vehicle says so with every poll.
    one.report_attack(&server, START, 111, "older_version");
    one.report_attack(&server, START, 112, "expired");
    let told = attacks(&one);
    let texts: Vec<&str> = told.as_array().unwrap().iter().map(|attack| attack["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["older_version (111): older_version, in words", "expired (112): expired, in words"]);
    assert_eq!((&told[0]["kind"], &told[0]["at"]), (&json!("attack_reported"), &json!(START.to_string())));
    assert_eq!(attacks(&two), json!([]));
}

/// Whoever has the key of one vehicle has something new to tell with every report, as long as a report can be.
#[test]
fn a_vehicle_cannot_fill_the_disk_with_events() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    let attacks = |vehicle: &TestVehicle| {
        let told = server.ask("GET", &format!("/v1/vehicles/{}", vehicle.id), None)["attacks"].clone();
        told.as_array().unwrap().iter().map(|attack| attack["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        for name in ["older_version", "expired"] {
            vehicle.report_attack(&server, START, 111, name);
        }
    }
    assert_eq!(attacks(&vehicle).len(), 2, "one after the other, again and again");
    for number in 0..40 {
        vehicle.report_attack(&server, START, number, &format!("{number}{}", "x".repeat(3_000)));
    }
    let told = attacks(&vehicle);
    assert_eq!(told.len(), 32);
    assert!(told.iter().all(|text| text.len() <= 2_000), "and nobody needs to read more than that");
    server.clock.turn(3_601);
    let later = server.clock.now();
    vehicle.report_attack(&server, later, 111, "older_version");
    assert_eq!(attacks(&vehicle).len(), 33, "it is heard again after a while");
}

/// Somebody in between has shown it what was signed for its neighbor, later than its own: Snapshot and Timestamp name no vehicle.
#[test]
fn a_vehicle_that_was_shown_its_neighbors_metadata_takes_its_own_again() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    server.roll_out("1.0.0", 1);
    let (mut vehicle, neighbor) = (TestVehicle::enroll(&server, "v-1"), TestVehicle::enroll(&server, "v-2"));
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    server.clock.turn(60);
    let now = server.clock.now();
    let Outcome::Refused(error) = vehicle.check_as(&server, &neighbor, now) else { panic!("it was not refused") };
    assert_eq!(error.name(), "other_vehicle");
    let Outcome::Refused(error) = vehicle.check(&server, &ceremony, now, Installed::default()) else { panic!("it was not refused") };
    assert_eq!(error.name(), "older_version");
    vehicle.report_attack(&server, now, error.number(), error.name());
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"), "within the same second");
}
