//! Publishing and the control plane.

use serde_json::{Value, json};

use super::{
    desk::{BUNDLE, Desk},
    server::Server,
};

fn signed_desk(server: &Server) -> Desk {
    let desk = Desk::with_server(&server.url);
    desk.init();
    desk.pack("1.0.0", 1);
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    desk
}

/// Without hashes in target names.
fn plain(paths: &[String]) -> Vec<String> {
    let plain = |path: &String| match path.strip_prefix("/v1/image/targets/ultra/") {
        Some(name) => format!("targets {}", name.split_once('.').unwrap().1),
        None => path.trim_start_matches("/v1/").to_owned(),
    };
    paths.iter().map(plain).collect()
}

#[test]
fn a_release_below_its_threshold_is_not_published() {
    let server = Server::start();
    let desk = signed_desk(&server);
    let error = desk.refuse("publish --base base");
    assert!(error.contains("vla-ultra version 1 cannot be published: it has 1 of 2 signatures"), "{error}");
    assert!(error.contains("1 more of release-bob, release-carol"), "{error}");
    assert_eq!(server.seen().len(), 0, "nothing was sent");
}

#[test]
fn a_signed_release_is_published_bytes_first() {
    let server = Server::start();
    let desk = signed_desk(&server);
    desk.succeed(&format!("sign --base base --key bob {BUNDLE}"));
    let draft = desk.read("base/drafts/vla-ultra.json");
    desk.succeed("publish --base base");
    let puts = server.take_puts();
    let expected = [
        "image/metadata/1.root.json",
        "director/root/1.root.json",
        "image/metadata/1.targets.json",
        "targets tiny-1.0.0.index",
        "targets tiny-1.0.0.tar.zst",
        "image/metadata/1.vla-ultra.json",
    ];
    assert_eq!(plain(&puts), expected);
    assert!(server.file("/v1/image/metadata/1.vla-ultra.json").unwrap() == draft);
    assert!(server.file(&puts[4]).unwrap() == desk.read(BUNDLE));
    assert!(desk.read("base/image/1.vla-ultra.json") == draft, "the draft became the newest version");
    assert!(!desk.path("base/drafts/vla-ultra.json").exists());

    // Again: everything is there. (The Director's root is private and always sent; the server knows it.)
    desk.succeed("publish --base base");
    assert_eq!(plain(&server.take_puts()), ["director/root/1.root.json"]);

    // The next release lists the first one too, and sends only what is new.
    desk.pack("1.1.0", 2);
    let next = "dist/ultra/tiny-1.1.0.tar.zst";
    let error = desk.refuse(&format!("sign --base base --key alice {BUNDLE}"));
    assert!(error.contains("the release counter 1 is not above 1, the counter of tiny 1.0.0 (ultra)"), "{error}");
    for key in ["bob", "carol"] {
        desk.succeed(&format!("sign --base base --key {key} {next}"));
    }
    desk.succeed("publish --base base");
    let expected =
        ["director/root/1.root.json", "targets tiny-1.1.0.index", "targets tiny-1.1.0.tar.zst", "image/metadata/2.vla-ultra.json"];
    assert_eq!(plain(&server.take_puts()), expected);
    let metadata: Value = serde_json::from_slice(&server.file("/v1/image/metadata/2.vla-ultra.json").unwrap()).unwrap();
    assert_eq!(metadata["signed"]["targets"].as_object().unwrap().len(), 4);
}

#[test]
fn an_interrupted_publication_goes_on_where_it_stopped() {
    let server = Server::start();
    let desk = signed_desk(&server);
    desk.succeed(&format!("sign --base base --key bob {BUNDLE}"));
    server.fail_once("tiny-1.0.0.tar.zst");
    let error = desk.refuse("publish --base base");
    assert!(error.contains("the server answered 500"), "{error}");
    assert!(!plain(&server.take_puts()).contains(&"image/metadata/1.vla-ultra.json".to_owned()), "no vehicle heard of it");
    desk.succeed("publish --base base");
    let expected = ["director/root/1.root.json", "targets tiny-1.0.0.tar.zst", "image/metadata/1.vla-ultra.json"];
    assert_eq!(plain(&server.take_puts()), expected);
}

#[test]
fn a_bundle_that_moved_is_named_again() {
    let server = Server::start();
    let desk = signed_desk(&server);
    desk.succeed(&format!("sign --base base --key bob {BUNDLE}"));
    std::fs::rename(desk.path("dist"), desk.path("archive")).unwrap();
    let error = desk.refuse("publish --base base");
    assert!(error.contains("name the bundle where it is now"), "{error}");
    desk.succeed("publish --base base archive/ultra/tiny-1.0.0.tar.zst");
}

#[test]
fn two_bases_that_diverged_are_noticed() {
    let server = Server::start();
    let desk = signed_desk(&server);
    desk.succeed(&format!("sign --base base --key bob {BUNDLE}"));
    server.answer("GET /v1/image/metadata/1.vla-ultra.json", 200, "{}");
    let error = desk.refuse("publish --base base");
    assert!(error.contains("the server has another 1.vla-ultra.json than the base"), "{error}");
}

#[test]
fn a_role_is_renewed_before_it_expires() {
    let server = Server::start();
    let desk = signed_desk(&server);
    assert!(
        desk.refuse("sign --base base --key alice --renew ultra-se").contains("nothing of vla-ultra-se has been published from this base")
    );
    desk.succeed(&format!("sign --base base --key bob {BUNDLE}"));
    desk.succeed("publish --base base");
    desk.succeed("sign --base base --key alice --renew ultra --days 60");
    let renewed = desk.ask("sign --base base --key carol --renew ultra");
    assert_eq!((&renewed["version"], &renewed["complete"]), (&json!(2), &json!(true)));
    desk.succeed("publish --base base");
    desk.succeed(&format!("verify --base base {BUNDLE}"));
}

#[test]
fn the_roots_certify_the_keys_of_a_running_server() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    desk.succeed("key new --unencrypted --out operator online");
    let key: Value = serde_json::from_slice(&desk.read("operator/online.pub.json")).unwrap();
    let keys = json!({"image": {"snapshot": key, "timestamp": key}, "director": {"targets": key, "snapshot": key, "timestamp": key}});
    server.answer("GET /v1/online-keys", 200, &keys.to_string());
    desk.succeed("init --base base --unencrypted --tiers ultra --signers dora --threshold 1");
    let root = String::from_utf8(desk.read("base/director/1.root.json")).unwrap();
    assert!(root.contains(key["keyval"]["public"].as_str().unwrap()));
    assert_eq!(server.seen()[0].token.as_deref(), Some("Bearer secret-token"));

    desk.succeed("key new --unencrypted --out operator next");
    let next: Value = serde_json::from_slice(&desk.read("operator/next.pub.json")).unwrap();
    let new = json!({"image": {"snapshot": next, "timestamp": next}, "director": {"targets": next, "snapshot": next, "timestamp": next}});
    server.answer("POST /v1/online-keys", 201, &new.to_string());
    desk.succeed("root online-keys --base base --repository director --new --replace");
    let draft = String::from_utf8(desk.read("base/drafts/director.root.json")).unwrap();
    assert!(draft.contains(next["keyval"]["public"].as_str().unwrap()));
    let asked = server.seen().into_iter().find(|request| request.path == "/v1/online-keys" && request.method == "POST").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&asked.body).unwrap(), json!({"replace": true}));
}

/// What the server holds and has signed is part of the calendar; that it cannot sign is a failure.
#[test]
fn the_status_tells_of_the_servers_online_keys() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    desk.init();
    let id = "ab12".repeat(16);
    let named = |file: &str, role: &str| {
        let root: Value = serde_json::from_slice(&desk.read(file)).unwrap();
        root["signed"]["roles"][role]["keyids"].clone()
    };
    let role = |file: &str, name: &str, held: Value| json!({"named": named(file, name), "held": held});
    let signs = json!([{"key_id": id, "use": "signs"}]);
    let mut image = role("base/image/1.root.json", "timestamp", signs.clone());
    (image["version"], image["expires"]) = (json!(7), json!("2027-01-20T08:00:00Z"));
    let waits = json!([{"key_id": id, "use": "signs"}, {"key_id": "cd34".repeat(16), "use": "waits"}]);
    let root = json!({"version": 1, "expires": "2028-01-15T08:00:00Z"});
    let mut keys = json!({
        "image": {"root": root, "problem": null, "roles": {"timestamp": image}},
        "director": {"root": root, "problem": null, "roles": {"targets": role("base/director/1.root.json", "targets", waits)}},
        "sets": {"vehicles": 3, "signed": 2, "by_other_keys": 1, "expired": 0, "targets_expire": "2027-02-14T08:00:00Z",
            "timestamp_expires": null},
    });
    server.answer("GET /v1/keys", 200, &keys.to_string());
    let told = desk.succeed("status --base base");
    for expected in [
        "image timestamp 7",
        "2027-01-20T08:00:00Z",
        "ab12ab12ab12 signs, cd34cd34cd34 waits for its root",
        "metadata of the Director for 2 of 3 vehicles, the first expires at 2027-02-14T08:00:00Z",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
    assert_eq!(desk.ask("status --base base")["server"]["sets"]["by_other_keys"], 1);
    // The server of another base, or of a copy of this one that has gone on.
    let mut other = keys.clone();
    other["image"]["roles"]["timestamp"]["named"] = json!([id]);
    server.answer("GET /v1/keys", 200, &other.to_string());
    let error = desk.run("status --base base");
    let expected = "version 1 of the Image repository root names other keys for timestamp on the server than in the base";
    assert!(error.status == 1 && error.stderr.contains(expected) && error.stderr.contains("SWITCHBACK_SERVER"), "{}", error.stderr);
    (other["image"]["root"]["version"], other["image"]["root"]["expires"]) = (json!(3), json!("2028-01-15T08:00:00Z"));
    server.answer("GET /v1/keys", 200, &other.to_string());
    let error = desk.run("status --base base").stderr;
    assert!(error.contains("the server has version 3 of the Image repository root, the base has version 1"), "{error}");
    keys["director"]["problem"] = json!("the Director root version 2 names others");
    server.answer("GET /v1/keys", 200, &keys.to_string());
    let refused = desk.run("status --base base");
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("the server cannot sign: the Director root version 2 names others"), "{}", refused.stderr);
    assert!(refused.stderr.contains("root online-keys"), "{}", refused.stderr);
}

#[test]
fn approvals_are_added_listed_and_revoked() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    let approval = json!({"id": 4, "model": "vla-2", "version": "2.0.0", "region": "eu", "model_lines": [], "authority": "KBA",
        "number": "E1-7", "valid_from": "2027-01-01T00:00:00Z", "valid_until": null,
        "contents": [{"path": "ultra/vla-2-2.0.0.index", "tier": "ultra", "sha256": "ab12", "hardware_ids": ["drive-a"]}]});
    server.answer("POST /v1/approvals", 201, &approval.to_string());
    server.answer("GET /v1/approvals", 200, &json!({"approvals": [approval]}).to_string());
    server.answer("DELETE /v1/approvals/4", 204, "");
    let add = "approval add --model vla-2 --version 2.0.0 --region eu --authority KBA --number E1-7 --valid-from 2027-01-01T00:00:00Z";
    assert!(desk.succeed(add).contains("vla-2 2.0.0"));
    let sent: Value = serde_json::from_slice(&server.seen()[0].body).unwrap();
    let expected = json!({"model": "vla-2", "version": "2.0.0", "region": "eu", "model_lines": [], "authority": "KBA", "number": "E1-7",
        "valid_from": "2027-01-01T00:00:00Z", "valid_until": null});
    assert_eq!(sent, expected);
    let listed = desk.succeed("approval list");
    assert!(listed.contains("KBA") && listed.contains("ultra ab12"), "{listed}");
    assert_eq!(desk.ask("approval list")["approvals"][0]["contents"][0]["path"], "ultra/vla-2-2.0.0.index");
    assert_eq!(desk.ask("approval revoke 4"), json!({"revoked": 4}));
}

#[test]
fn a_rollout_is_created_moved_and_watched() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    let mut rollout = json!({"id": 1, "name": "spring", "release": {"model": "vla-2", "version": "2.0.0"}, "state": "draft", "waves": []});
    server.answer("POST /v1/rollouts", 201, &rollout.to_string());
    let create = "rollout create --name spring --model vla-2 --version 2.0.0 --tiers ultra --regions eu,cn \
        --wave name=canary,percent=5,model-lines=P7+G7 --wave name=all,percent=100 --failure-count 3 --failure-percent 10 --minimum-reports 5";
    let created = desk.succeed(create);
    assert!(created.contains("switchback rollout start 1"), "{created}");
    assert!(created.contains("the waves canary, all open together, at the start"), "{created}");
    let sent: Value = serde_json::from_slice(&server.seen()[0].body).unwrap();
    assert_eq!(
        sent["selector"],
        json!({"tenants": [], "tiers": ["ultra"], "hardware_ids": [], "model_lines": [], "regions": ["eu", "cn"]})
    );
    assert_eq!(sent["waves"][0], json!({"name": "canary", "percent": 5.0, "model_lines": ["P7", "G7"]}));
    assert_eq!(sent["failure_limit"], json!({"count": 3, "percent": 10, "minimum_reports": 5}));

    let staged = desk.succeed(&create.replace("name=all,percent=100", "name=all,percent=100,starts-at=2027-03-01T06:00:00Z"));
    assert!(!staged.contains("together"), "{staged}");

    rollout["state"] = json!("paused");
    rollout["paused_by"] = json!("gate");
    rollout["paused_reason"] = json!("3 vehicles failed, the limit is 3");
    for act in ["start", "pause", "resume", "advance"] {
        server.answer(&format!("POST /v1/rollouts/1/{act}"), 200, &rollout.to_string());
    }
    desk.succeed("rollout start 1");
    rollout["warnings"] = json!(["no approval of vla-2 2.0.0 is valid in cn now"]);
    server.answer("POST /v1/rollouts/1/start", 200, &rollout.to_string());
    let started = desk.succeed("rollout start 1");
    assert!(started.contains("\nwarning: no approval of vla-2 2.0.0 is valid in cn now"), "{started}");
    assert_eq!(desk.ask("rollout start 1")["warnings"][0], "no approval of vla-2 2.0.0 is valid in cn now");
    desk.succeed("rollout pause 1 --reason snow");
    desk.succeed("rollout resume 1 --note thawed");
    let bodies: Vec<String> = server.seen()[4..].iter().map(|seen| String::from_utf8(seen.body.clone()).unwrap()).collect();
    assert_eq!(bodies, ["{}", r#"{"reason":"snow"}"#, r#"{"note":"thawed"}"#]);

    rollout["waves"] = json!([{"name": "canary", "percent": 5.0, "selected": 20, "reached": 20, "offered": 18, "confirmed": 10, "failed": 3,
        "reasons": {"self_test": 3}, "withheld": {"no approval in cn": 2}, "not_installable": 4, "not_blamed": 5}]);
    rollout["events"] = json!([{"at": "2027-03-01T06:00:00Z", "text": "paused by the gate: 3 vehicles failed, the limit is 3"}]);
    rollout["gate"] = json!({"confirmed": 10, "failed": 3});
    server.answer("GET /v1/rollouts/1", 200, &rollout.to_string());
    let status = desk.succeed("rollout status 1");
    for part in [
        "paused by the gate: 3 vehicles failed",
        "[==========!!!.......]",
        "self_test 3",
        "2027-03-01T06:00:00Z",
        "gate     10 confirmed, 3 failed since",
        "\nwithheld: no approval in cn (2)\n",
        "\nnot installable: the vehicle lacks",
        "to blame for (5)",
    ] {
        assert!(status.contains(part), "{part}\n{status}");
    }
    assert_eq!(desk.ask("rollout status 1")["gate"]["failed"], 3, "what the program does not know is passed on");
}

#[test]
fn vehicles_are_enrolled_and_listed_over_several_pages() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    server.answer(
        "POST /v1/enrollment-tokens",
        201,
        r#"{"token": "t0ken", "expires_at": "2027-01-08T00:00:00Z",
        "replaced": true, "warnings": ["an older token of v1 is worthless now"]}"#,
    );
    let enroll = "vehicle enroll v1 --tenant acme --tier ultra --hardware drive-a --model-line P7 --region eu";
    let enrolled = desk.succeed(enroll);
    assert!(enrolled.contains("t0ken") && enrolled.contains("\nwarning: an older token of v1 is worthless now\n"), "{enrolled}");
    let enrolled = desk.ask(enroll);
    assert_eq!((&enrolled["token"], &enrolled["replaced"]), (&json!("t0ken"), &json!(true)));
    server.answer("GET /v1/vehicles?limit=1000&after=", 200, r#"{"vehicles": [{"vehicle_id": "v1", "region": "eu"}], "next": "v1"}"#);
    let second = json!({"vehicles": [{"vehicle_id": "v2", "installed": {"length": 1191, "path": "ultra/vla-1-1.0.0.index", "update": "confirmed",
        "release": {"model": "vla-1", "version": "1.0.0"}, "sha256": "ab"}}], "next": null});
    server.answer("GET /v1/vehicles?limit=1000&after=v1", 200, &second.to_string());
    assert_eq!(desk.ask("vehicle list")["vehicles"].as_array().unwrap().len(), 2);
    let listed = desk.succeed("vehicle list");
    assert!(listed.contains("v2") && listed.contains("  vla-1 1.0.0 (confirmed)  ") && !listed.contains("sha256"), "{listed}");
    let shown = json!({"vehicle_id": "v1", "tier": "ultra", "rollouts": [{"id": 1, "name": "spring", "release": {"model": "vla-2", "version": "2.0.0"},
        "offered": false, "withheld": "no wave has reached the vehicle yet"}]});
    server.answer("GET /v1/vehicles/v1", 200, &shown.to_string());
    assert!(desk.succeed("vehicle show v1").contains("withheld: no wave has reached the vehicle yet"));
}

#[test]
fn the_servers_own_words_reach_the_user() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    let problem = r#"{"type": "urn:switchback:problem:illegal_move", "title": "Conflict", "status": 409,
        "detail": "rollout 1: it is running already", "hint": "nothing has to be done"}"#;
    server.answer("POST /v1/rollouts/1/start", 409, problem);
    let error = desk.refuse("rollout start 1");
    assert!(error.contains("the server refused (409): rollout 1: it is running already"), "{error}");
    assert!(error.contains("hint: nothing has to be done"), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let unreachable = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let desk = Desk::with_server(&unreachable);
    let error = desk.refuse("rollout list");
    assert!(error.contains(&format!("{unreachable}/ cannot be reached")) && error.contains("is the server running"), "{error}");
    let error = desk.refuse("rollout list --server http://ota.example");
    assert!(error.contains("http://ota.example is not encrypted"), "{error}");
}
