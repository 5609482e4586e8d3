//! Who gets which release, when.

use serde_json::json;
use switchback_signing::{
    metadata::vehicle::UpdateState,
    trust::{Installed, Outcome},
};

use crate::{
    folder, published,
    support::{Ceremony, Control, START, TestServer, TestVehicle},
};

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
fn an_operator_learns_who_waits_for_what() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    for name in ["v-eu-1", "v-eu-2"] {
        TestVehicle::enroll(&server, name);
    }
    let mut chinese = TestVehicle::enroll_as(&server, "v-cn", "ultra", "P7", "cn");
    server.approve("1.0.0");
    let waves = json!([{"name": "P7", "percent": 100}, {"name": "rest", "percent": 100, "starts_at": "2099-01-01T00:00:00Z"}]);
    let id = server.draft("1.0.0", &waves, 1);
    assert_eq!(server.rollout(id)["waves"][0]["withheld"], json!({"the rollout is not running": 3}));
    let started = server.ask("POST", &format!("/v1/rollouts/{id}/start"), None);
    let warning = "no approval of vla 1.0.0 is valid in cn now: it is offered to nobody there (1 vehicles wait)";
    assert_eq!(started["warnings"], json!([warning]));
    assert_eq!(server.rollout(id)["waves"][0]["withheld"], json!({"no approval in cn": 1}));
    let approval = json!({"model": "vla", "version": "1.0.0", "region": "cn", "authority": "MIIT", "number": "1",
        "valid_from": "2026-01-01T00:00:00Z"});
    server.ask("POST", "/v1/approvals", Some(&approval));
    assert_eq!(server.rollout(id)["waves"][0]["withheld"], json!({}));
    assert_eq!(chinese.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
}

#[test]
fn a_vehicle_that_lacks_what_the_release_asks_for_is_counted_and_stops_nothing() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    server.approve("2.0.0");
    let id = server.roll_out("2.0.0", 1);
    let mut old = TestVehicle::enroll(&server, "v-1");
    // It has not been told of the release; what it refuses is something else.
    old.refuse(&server, START, None, 155, "sdk_too_old");
    assert_eq!(server.rollout(id)["waves"][0]["not_installable"], 0);
    assert_eq!(old.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    // It finds out before it has a candidate.
    old.refuse(&server, START, None, 155, "sdk_too_old");
    let rollout = server.rollout(id);
    assert_eq!((&rollout["state"], &rollout["gate"]), (&json!("running"), &json!({"confirmed": 0, "failed": 0})));
    let wave = &rollout["waves"][0];
    assert_eq!((&wave["not_installable"], &wave["failed"], &wave["not_blamed"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!(wave["reasons"], json!({"sdk_too_old": 1}));
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
    // The authority has not seen these bytes.
    assert_eq!(small.offered(&server, &ceremony, START), None);
    let view = server.ask("GET", "/v1/vehicles/v-se", None);
    let reason = "the approval in the vehicle's region is of other content than what is published for its tier and hardware";
    assert_eq!(view["rollouts"][0]["withheld"], reason);
    server.approve("1.0.0");
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
fn what_the_release_is_not_to_blame_for_pauses_no_rollout() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    server.approve("1.0.0");
    server.approve("2.0.0");
    let driving = server.roll_out("1.0.0", 1);
    let coming = server.roll_out("2.0.0", 1);
    let gates = || [driving, coming].map(|id| server.rollout(id)).map(|rollout| (rollout["state"].clone(), rollout["gate"].clone()));
    let running = |confirmed, failed| (json!("running"), json!({"confirmed": confirmed, "failed": failed}));
    let paused = (json!("paused"), json!({"confirmed": 0, "failed": 1}));
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    // The first release came before the second was there.
    server.ask("POST", &format!("/v1/rollouts/{coming}/pause"), Some(&json!({"reason": "not yet"})));
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    vehicle.report(&server, START, UpdateState::Confirmed, "1.0.0", 1);
    server.ask("POST", &format!("/v1/rollouts/{coming}/resume"), Some(&json!({"note": "now"})));
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    // Metadata that somebody altered on the way is about no release, least of all about the one that drives.
    vehicle.refuse(&server, START, None, 102, "threshold_not_met");
    assert_eq!(gates(), [running(1, 0), running(0, 0)]);
    // The vehicle has no space: no failure, but people see it.
    vehicle.refuse(&server, START, Some("2.0.0"), 301, "space_missing");
    assert_eq!(gates(), [running(1, 0), running(0, 0)]);
    assert_eq!(server.rollout(coming)["waves"][0]["reasons"], json!({"space_missing": 1}));

    // Its ONNX Runtime does not start: no other model would run either.
    vehicle.refuse(&server, START, Some("2.0.0"), 4005, "not_started");
    assert_eq!(gates(), [running(1, 0), running(0, 0)]);
    let wave = server.rollout(coming)["waves"][0].clone();
    assert_eq!((&wave["failed"], &wave["not_blamed"]), (&json!(0), &json!(1)));

    vehicle.refuse(&server, START, Some("2.0.0"), 4136, "self_test_failed");
    assert_eq!(gates(), [running(1, 0), paused.clone()]);
    server.ask("POST", &format!("/v1/rollouts/{coming}/resume"), Some(&json!({"note": "an old camera"})));
    // It was not tried again: this is the failure from before.
    vehicle.refuse(&server, START, Some("2.0.0"), 503, "quarantined");
    assert_eq!(gates(), [running(1, 0), running(0, 0)]);
    // This one was last heard before its trial: its software went down with the model, and nobody was told until now.
    let mut other = TestVehicle::enroll(&server, "v-2");
    assert_eq!(other.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    other.report(&server, START, UpdateState::Armed, "2.0.0", 2);
    other.refuse(&server, START, Some("2.0.0"), 503, "quarantined");
    assert_eq!(gates(), [running(1, 0), paused]);
    let event = server.rollout(coming)["events"][0]["text"].clone();
    assert_eq!(event, "created: vla 2.0.0 in 1 wave");
}

#[test]
fn a_second_rollout_of_a_release_takes_no_failure_from_the_gate_of_the_first() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    let running = server.roll_out("1.0.0", 2);
    let later = json!([{"name": "later", "percent": 100, "starts_at": "2099-01-01T00:00:00Z"}]);
    let waiting = server.draft_named("later", "1.0.0", &later, 1);
    server.ask("POST", &format!("/v1/rollouts/{waiting}/start"), None);
    let mut fleet = ["v-1", "v-2", "v-3"].map(|name| TestVehicle::enroll(&server, name));
    for vehicle in &mut fleet[..2] {
        assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    }
    // Nobody offered it to this one: whatever it tries, no rollout brought it.
    fleet[2].report(&server, START, UpdateState::Downloading, "1.0.0", 1);
    fleet[2].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    fleet[0].report(&server, START, UpdateState::Refused, "1.0.0", 1);
    let gate = |server: &TestServer, id: i64| {
        let rollout = server.rollout(id);
        (rollout["state"].clone(), rollout["gate"]["failed"].clone(), rollout["waves"][0]["offered"].clone())
    };
    assert_eq!(gate(&server, running), (json!("running"), json!(1), json!(2)));
    assert_eq!(gate(&server, waiting), (json!("running"), json!(0), json!(0)));

    // Who offered it is still known after a restart.
    drop(server);
    let server = TestServer::start(data.path());
    fleet[1].report(&server, START, UpdateState::RolledBack, "1.0.0", 1);
    assert_eq!(gate(&server, running), (json!("paused"), json!(2), json!(2)));
    assert_eq!(gate(&server, waiting), (json!("running"), json!(0), json!(0)));

    // The second rollout begins: what the vehicles report from now on is its own.
    server.ask("POST", &format!("/v1/rollouts/{waiting}/advance"), None);
    let mut newcomer = TestVehicle::enroll(&server, "v-4");
    assert_eq!(newcomer.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    newcomer.report(&server, START, UpdateState::RolledBack, "1.0.0", 1);
    assert_eq!(gate(&server, waiting), (json!("paused"), json!(1), json!(1)));
}

#[test]
fn what_another_rollout_brings_on_is_told_to_its_gate_without_new_metadata() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = published(&server);
    server.approve("1.0.0");
    let first = server.roll_out("1.0.0", 1);
    let second = server.draft_named("second", "1.0.0", &json!([{"name": "all", "percent": 100}]), 1);
    server.ask("POST", &format!("/v1/rollouts/{second}/start"), None);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    let timestamp = |vehicle: &TestVehicle| vehicle.director(&server, START, "timestamp.json", &[]).body;
    let before = timestamp(&vehicle);
    server.ask("POST", &format!("/v1/rollouts/{first}/pause"), Some(&json!({"reason": "the second one goes on"})));
    assert_eq!(timestamp(&vehicle), before);
    vehicle.report(&server, START, UpdateState::RolledBack, "1.0.0", 1);
    let failed = [first, second].map(|id| server.rollout(id)["gate"]["failed"].clone());
    assert_eq!(failed, [json!(0), json!(1)]);
}

#[test]
fn a_vehicle_that_rolled_back_the_newest_release_gets_the_older_one_and_people_see_why() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = published(&server);
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    for version in ["1.0.0", "2.0.0"] {
        server.approve(version);
        server.roll_out(version, 10);
    }
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    // It was late in shadow: that hangs on the moment, and the vehicle tries again.
    vehicle.refuse(&server, START, Some("2.0.0"), 4144, "shadow_failed");
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
    vehicle.report(&server, START, UpdateState::RolledBack, "2.0.0", 2);
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    // The rollouts go on, for the others.
    assert_eq!(TestVehicle::enroll(&server, "v-2").offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));

    drop(server);
    let server = TestServer::start(data.path());
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    let view = server.ask("GET", "/v1/vehicles/v-1", None);
    assert_eq!(view["rollouts"][1]["withheld"], "the vehicle gave up vla 2.0.0: self_test_failed, in words");
    assert_eq!(view["gave_up"][0]["release"], json!({"model": "vla", "version": "2.0.0"}));
    let rollout = server.rollout(view["rollouts"][1]["id"].as_i64().unwrap());
    assert_eq!(rollout["waves"][0]["withheld"], json!({"the vehicle gave the release up": 1}));
}

#[test]
fn a_release_whose_metadata_has_expired_says_so_wherever_somebody_looks() {
    let data = folder();
    let server = TestServer::start(data.path());
    let mut ceremony = Ceremony::begin(&server);
    ceremony.release_expires = START.plus_days(30);
    ceremony.publish(&server, "1.0.0", "ultra", 1);
    server.approve("1.0.0");
    let id = server.draft("1.0.0", &json!([{"name": "all", "percent": 100}]), 1);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    assert_eq!(server.rollout(id)["warnings"], json!([]));
    server.clock.turn(30 * 86_400);
    let (now, at) = (server.clock.now(), server.clock.now().to_string());
    let warning = format!(
        "vla 1.0.0 is offered to nobody of tier ultra: the metadata of role vla-ultra expired at {at}; \
         sign it anew with `switchback sign --renew ultra` and publish it"
    );
    let started = server.ask("POST", &format!("/v1/rollouts/{id}/start"), None);
    assert_eq!(started["warnings"], json!([warning]));
    let rollout = server.rollout(id);
    assert_eq!(rollout["warnings"], json!([warning]));
    assert_eq!(rollout["waves"][0]["withheld"], json!({format!("the metadata of role vla-ultra expired at {at}"): 1}));
    let withheld = server.ask("GET", "/v1/vehicles/v-1", None)["rollouts"][0]["withheld"].as_str().unwrap().to_owned();
    assert!(withheld.starts_with(&format!("the metadata of role vla-ultra expired at {at}; `switchback sign --renew")), "{withheld}");

    ceremony.release_expires = START.plus_days(60);
    let (path, bytes) = ceremony.sign_release("1.0.0", "ultra", 1, &[0, 1]);
    assert_eq!(server.control_bytes("PUT", &path, &bytes).status, 200);
    assert_eq!(server.rollout(id)["warnings"], json!([]));
    assert_eq!(vehicle.offered(&server, &ceremony, now).as_deref(), Some("1.0.0"));
}

#[test]
fn words_of_a_rollout_that_nothing_knows_are_told() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    TestVehicle::enroll(&server, "v-1");
    let create = |name: &str, selector: serde_json::Value, line: &str| {
        let rollout = json!({
            "name": name, "release": {"model": "vla", "version": "1.0.0"}, "selector": selector,
            "waves": [{"name": "all", "percent": 100, "model_lines": [line]}], "failure_limit": {"count": 1},
        });
        server.ask("POST", "/v1/rollouts", Some(&rollout))["warnings"].clone()
    };
    let right = json!({"tenants": ["oem"], "tiers": ["ultra"], "hardware_ids": ["orin"], "regions": ["eu"]});
    assert_eq!(create("right", right, "P7"), json!([]));
    let wrong = json!({"tenants": ["ome"], "tiers": ["ultra", "utlra"], "hardware_ids": ["orni"], "regions": ["ue"]});
    let told = |kind: &str, word: &str, known: &str| format!("no vehicle, release or approval knows the {kind} {word}; they know {known}");
    let expected = [
        told("tenant", "ome", "oem"),
        told("tier", "utlra", "ultra"),
        told("hardware", "orni", "orin"),
        told("model line", "7P", "P7"),
        told("region", "ue", "eu"),
    ];
    assert_eq!(create("wrong", wrong, "7P"), json!(expected));
}

#[test]
fn the_same_approval_is_recorded_once() {
    let data = folder();
    let server = TestServer::start(data.path());
    published(&server);
    let id = server.approve("1.0.0");
    let mut approval = json!({"model": "vla", "version": "1.0.0", "region": "eu", "authority": "KBA", "number": "e1*2027",
        "valid_from": "2026-02-01T00:00:00Z"});
    let again = server.control("POST", "/v1/approvals", Some(&approval));
    let detail = format!("approval {id} says the same already: vla 1.0.0 in eu by KBA, number e1*2027");
    assert_eq!((again.status, again.problem().as_str(), &again.json()["detail"]), (409, "approval_exists", &json!(detail)));
    // A decision that begins earlier, or has another number, is another one.
    approval["valid_from"] = json!("2025-01-01T00:00:00Z");
    server.ask("POST", "/v1/approvals", Some(&approval));
    approval["number"] = json!("e1*2028");
    server.ask("POST", "/v1/approvals", Some(&approval));
    server.ask("DELETE", &format!("/v1/approvals/{id}"), None);
    assert_eq!(server.ask("GET", "/v1/approvals", None)["approvals"].as_array().unwrap().len(), 2);
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
