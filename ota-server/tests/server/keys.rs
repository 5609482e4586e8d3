//! The server's online keys: held, made anew, and named by the next roots.

use serde_json::{Value, json};
use switchback_signing::{
    keys::{Ed25519Signer, Signer, file::parse_public},
    trust::{Installed, Outcome},
};

use crate::{
    folder, published,
    support::{Ceremony, Control, Program, Response, START, TestServer, TestVehicle, http},
};

const IMAGE_ROOT: &str = "/v1/image/metadata/2.root.json";
const DIRECTOR_ROOT: &str = "/v1/director/root/2.root.json";

fn new_keys(server: &impl Control, replace: bool) -> Response {
    server.control("POST", "/v1/online-keys", Some(&json!({ "replace": replace })))
}

/// Version 1.0.0 is rolled out to a vehicle.
fn driving(server: &impl Control) -> (Ceremony, TestVehicle) {
    let (ceremony, mut vehicle) = (published(server), TestVehicle::enroll(server, "v-1"));
    server.approve("1.0.0");
    server.roll_out("1.0.0", 1);
    assert_eq!(vehicle.offered(server, &ceremony, START).as_deref(), Some("1.0.0"));
    (ceremony, vehicle)
}

/// The ceremony's next roots name the new online keys of the server.
fn rotate(server: &impl Control, ceremony: &mut Ceremony) {
    assert_eq!(new_keys(server, false).status, 201);
    ceremony.learn_online_keys(server);
    publish_roots(server, ceremony);
}

fn publish_roots(server: &impl Control, ceremony: &Ceremony) {
    for (path, bytes) in [(IMAGE_ROOT, ceremony.image_root_at(2)), (DIRECTOR_ROOT, ceremony.director_root_at(2))] {
        let response = server.control_bytes("PUT", path, &bytes);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        assert_eq!(response.json()["warnings"], json!([]), "{path}");
    }
}

fn key_id(online: &Value, repository: &str, role: &str) -> Value {
    json!(parse_public(online[repository][role].to_string().as_bytes()).unwrap().key_id().as_str())
}

/// Versions of Snapshot and Timestamp that the Image repository shows.
fn timestamp(server: &impl Control) -> Value {
    http::request(server.address(), "GET", "/v1/image/metadata/timestamp.json", &[], &[]).json()["signed"].clone()
}

#[test]
fn vehicles_go_on_when_the_online_keys_are_replaced() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (mut ceremony, mut vehicle) = driving(&server);
    let before = timestamp(&server);

    rotate(&server, &mut ceremony);
    let after = timestamp(&server);
    let version = |timestamp: &Value| timestamp["version"].as_u64().unwrap();
    assert_eq!(version(&after), version(&before) + 1, "signed anew at once, not when it grows old");
    // What the vehicle holds of before is worth nothing under the new roots, and nothing was published meanwhile.
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
    let Outcome::Install(target) = vehicle.check(&server, &ceremony, START, Installed::default()) else { panic!() };
    assert_eq!(target.release().version, "1.0.0");
    ceremony.publish(&server, "2.0.0", "ultra", 2);
    server.approve("2.0.0");
    server.roll_out("2.0.0", 1);
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("2.0.0"));
}

#[test]
fn one_repository_after_the_other_can_get_new_keys() {
    let data = folder();
    let server = TestServer::start(data.path());
    let (mut ceremony, mut vehicle) = driving(&server);
    assert_eq!(new_keys(&server, false).status, 201);
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"), "the old keys sign until a root names others");
    ceremony.learn_online_keys(&server);
    for (path, bytes) in [(DIRECTOR_ROOT, ceremony.director_root_at(2)), (IMAGE_ROOT, ceremony.image_root_at(2))] {
        assert_eq!(server.control_bytes("PUT", path, &bytes).status, 200, "{path}");
        assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"), "{path}");
    }
}

#[test]
fn the_operator_sees_which_keys_are_held_named_and_in_use() {
    let data = folder();
    let server = TestServer::start(data.path());
    let keys = || server.ask("GET", "/v1/keys", None);
    let first = server.ask("GET", "/v1/online-keys", None);
    let role = |keys: &Value| keys["director"]["roles"]["targets"].clone();
    assert_eq!(
        (role(&keys()), keys()["director"]["root"].clone()),
        (json!({"named": [], "held": [{"key_id": key_id(&first, "director", "targets"), "use": "not_named"}]}), Value::Null)
    );
    let mut ceremony = published(&server);
    let mut vehicle = TestVehicle::enroll(&server, "v-1");
    TestVehicle::enroll(&server, "v-2");
    assert_eq!(vehicle.offered(&server, &ceremony, START), None);
    let held = keys();
    let old = key_id(&first, "director", "targets");
    assert_eq!(role(&held), json!({"named": [old], "held": [{"key_id": old, "use": "signs"}]}));
    assert_eq!(held["director"]["root"], json!({"version": 1, "expires": ceremony.expires.to_string()}));
    assert_eq!(held["image"]["problem"], Value::Null);
    let published = &held["image"]["roles"]["timestamp"];
    assert_eq!((&published["version"], &published["expires"]), (&timestamp(&server)["version"], &timestamp(&server)["expires"]));
    assert_eq!(held["image"]["roles"]["snapshot"]["expires"], json!(START.plus_days(30).to_string()));
    let sets = json!({
        "vehicles": 2, "signed": 1, "by_other_keys": 0, "expired": 0,
        "targets_expire": START.plus_days(30).to_string(), "timestamp_expires": START.plus_days(1).to_string(),
    });
    assert_eq!(held["sets"], sets);

    assert_eq!(new_keys(&server, false).status, 201);
    ceremony.learn_online_keys(&server);
    let new = key_id(&ceremony.online, "director", "targets");
    assert_ne!(new, old);
    assert_eq!(role(&keys())["held"], json!([{"key_id": old, "use": "signs"}, {"key_id": new, "use": "waits"}]));
    publish_roots(&server, &ceremony);
    assert_eq!(role(&keys()), json!({"named": [new], "held": [{"key_id": new, "use": "signs"}]}), "the old key is gone");
    assert_eq!(keys()["sets"]["by_other_keys"], 1);
    assert_eq!(vehicle.offered(&server, &ceremony, START), None);
    assert_eq!(keys()["sets"]["by_other_keys"], 0);
    server.clock.turn(31 * 86_400);
    assert_eq!((&keys()["sets"]["expired"], &keys()["sets"]["targets_expire"]), (&json!(1), &Value::Null));
}

/// A ceremony may be under way with the keys that wait; and a thief of the whole machine has those too.
#[test]
fn new_keys_that_wait_are_dropped_only_on_demand() {
    let data = folder();
    let server = TestServer::start(data.path());
    let first = server.ask("GET", "/v1/online-keys", None);
    let made = new_keys(&server, false);
    assert_eq!(made.status, 201);
    assert_ne!(made.json(), first);
    assert_eq!(server.ask("GET", "/v1/online-keys", None), made.json());
    let refused = new_keys(&server, false);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "online_keys_pending"));
    let waiting = key_id(&made.json(), "image", "snapshot");
    let text = format!(
        "there are new online keys already that no root names yet, among them {} for the role snapshot of the Image repository",
        waiting.as_str().unwrap()
    );
    assert_eq!(refused.json()["detail"], text);
    assert!(refused.json()["hint"].as_str().unwrap().contains("root online-keys --new --replace"));
    assert_eq!(server.ask("GET", "/v1/online-keys", None), made.json());
    let others = new_keys(&server, true);
    assert_eq!(others.status, 201);
    assert_ne!(others.json(), made.json());
}

#[test]
fn a_root_that_names_keys_which_the_server_does_not_hold_is_refused_with_both() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = Ceremony::new(&server);
    let stranger = ceremony.engineers[0].public_key();
    let root = ceremony.signed_image_root(1, &stranger, &stranger, ceremony.expires);
    let refused = server.control_bytes("PUT", "/v1/image/metadata/1.root.json", &root);
    assert_eq!((refused.status, refused.problem().as_str()), (422, "online_keys_not_certified"));
    let held = key_id(&ceremony.online, "image", "snapshot");
    let text = format!(
        "the Image repository root version 1 names, for the role snapshot with threshold 1, key {}; this server holds key {}",
        stranger.key_id().as_str(),
        held.as_str().unwrap()
    );
    assert_eq!(refused.json()["detail"], text);
    assert!(refused.json()["hint"].as_str().unwrap().contains("--without-online-keys"));
    assert_eq!(server.ask("GET", "/v1/keys", None)["image"]["root"], Value::Null);
    let refused = server.control_bytes("PUT", "/v1/director/root/1.root.json", &ceremony.image_root());
    assert_eq!(refused.problem(), "online_keys_not_certified");
}

/// Stolen keys are revoked at once, with the keys of a server that is still being set up. When it is, vehicles go on.
#[test]
fn an_emergency_does_not_wait_for_the_server_with_the_new_keys() {
    let (data, elsewhere) = (folder(), folder());
    let server = TestServer::start(data.path());
    let (mut ceremony, mut vehicle) = driving(&server);
    ceremony.learn_online_keys(&TestServer::start(elsewhere.path()));

    for (path, bytes) in [(IMAGE_ROOT, ceremony.image_root_at(2)), (DIRECTOR_ROOT, ceremony.director_root_at(2))] {
        assert_eq!(server.control_bytes("PUT", path, &bytes).problem(), "online_keys_not_certified");
        let accepted = server.control_bytes("PUT", &format!("{path}?uncertified=accept"), &bytes);
        assert_eq!(accepted.status, 200, "{}", accepted.text());
        let warning = accepted.json()["warnings"][0].as_str().unwrap().to_owned();
        assert!(warning.starts_with("vehicles take this root and then get nothing new until"), "{warning}");
        assert!(warning.contains("this server holds key"), "{warning}");
    }
    let asked = vehicle.director(&server, START, "timestamp.json", &[]);
    assert_eq!((asked.status, asked.problem().as_str()), (503, "online_keys_not_certified"));
    assert_eq!(vehicle.director(&server, START, "2.root.json", &[]).body, ceremony.director_root_at(2));
    let (path, bytes) = ceremony.sign_release("1.0.0", "ultra", 1, &[0, 1]);
    let path = path.replace("1.vla-ultra", "2.vla-ultra");
    assert!(server.control_bytes("PUT", &path, &bytes).status >= 400);
    let told = server.ask("GET", "/v1/keys", None);
    for repository in ["image", "director"] {
        assert!(told[repository]["problem"].as_str().unwrap().contains("this server holds key"), "{told}");
    }
    drop(server);

    // The new keys arrive, with the data of before.
    let (from, to) = (elsewhere.path().join("keys"), data.path().join("keys"));
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let server = TestServer::start(data.path());
    assert_eq!(server.ask("GET", "/v1/keys", None)["image"]["problem"], Value::Null);
    server.runtime.block_on(server.server.refresh_image_metadata()).unwrap();
    assert_eq!(vehicle.offered(&server, &ceremony, START).as_deref(), Some("1.0.0"));
}

/// The chain of a server that is no more leads to keys of this one: only its end has to.
#[test]
fn the_chain_of_a_dead_server_is_published_on_a_new_one() {
    let (dead, data) = (folder(), folder());
    let mut ceremony = Ceremony::new(&TestServer::start(dead.path()));
    let server = TestServer::start(data.path());
    let first = [("/v1/image/metadata/1.root.json", ceremony.image_root()), ("/v1/director/root/1.root.json", ceremony.director_root())];
    for (path, bytes) in first {
        assert_eq!(server.control_bytes("PUT", path, &bytes).problem(), "online_keys_not_certified");
        assert_eq!(server.control_bytes("PUT", &format!("{path}?uncertified=accept"), &bytes).status, 200);
    }
    assert_eq!(
        server.control_bytes("PUT", "/v1/image/metadata/1.targets.json", &ceremony.targets(1)).problem(),
        "online_keys_not_certified"
    );
    ceremony.learn_online_keys(&server);
    publish_roots(&server, &ceremony);
    assert_eq!(server.control_bytes("PUT", "/v1/image/metadata/1.targets.json", &ceremony.targets(1)).status, 200);
    assert_eq!(server.control_bytes("PUT", &format!("{IMAGE_ROOT}?uncertified=perhaps"), b"x").problem(), "query_malformed");
}

/// Between the root in the database and the new name of the key's file.
#[test]
fn a_kill_after_a_rotation_leaves_the_server_with_the_keys_that_the_roots_name() {
    let data = folder();
    let program = Program::start(data.path());
    let mut ceremony = Ceremony::begin(&program);
    let old = data.path().join("keys/director-timestamp.json");
    let before = std::fs::read(&old).unwrap();
    rotate(&program, &mut ceremony);
    program.kill();
    let next = data.path().join("keys/director-timestamp.next.json");
    assert!(!next.exists(), "the new key has taken the place of the old one");
    std::fs::rename(&old, &next).unwrap();
    std::fs::write(&old, before).unwrap();

    let program = Program::start(data.path());
    let told = program.ask("GET", "/v1/keys", None);
    assert_eq!(told["director"]["problem"], Value::Null);
    let mut held = told["director"]["roles"]["timestamp"]["held"].as_array().unwrap().clone();
    let only = held.pop().unwrap();
    assert_eq!((held.len(), &only["use"]), (0, &json!("signs")));
    assert_eq!(only["key_id"], key_id(&ceremony.online, "director", "timestamp"));
    assert!(!next.exists());
}

#[test]
fn new_keys_are_made_without_a_running_server_too() {
    let data = folder();
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_switchback-server"));
        command.arg("online-keys").args(more).arg("--data-dir").arg(data.path()).output().unwrap()
    };
    let keys = |more: &[&str]| -> Value {
        let output = run(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = keys(&[]);
    assert_eq!(keys(&[]), first);
    let new = keys(&["--new"]);
    assert_ne!(new, first);
    let refused = String::from_utf8(run(&["--new"]).stderr).unwrap();
    assert!(refused.contains("no root names yet") && refused.contains("--replace"), "{refused}");
    assert_ne!(keys(&["--new", "--replace"]), new);
    let program = Program::start(data.path());
    let refused = String::from_utf8(run(&["--new", "--replace"]).stderr).unwrap();
    assert!(refused.contains("another switchback-server is using"), "{refused}");
    assert!(refused.contains("switchback root online-keys --new"), "{refused}");
    assert!(program.terminate());
}

#[test]
fn a_key_of_which_a_root_wants_two_cannot_sign() {
    let data = folder();
    let server = TestServer::start(data.path());
    let ceremony = Ceremony::new(&server);
    let mut root = switchback_signing::metadata::Root::new(1, ceremony.expires);
    let held = |role: &str| parse_public(ceremony.online["image"][role].to_string().as_bytes()).unwrap();
    let other = Ed25519Signer::from_seed([9; 32]).public_key();
    use switchback_signing::metadata::RootRole;
    root.set_role(RootRole::Root, 1, &[ceremony.root.public_key()]);
    root.set_role(RootRole::Targets, 1, &[ceremony.targets.public_key()]);
    root.set_role(RootRole::Snapshot, 1, &[held("snapshot")]);
    root.set_role(RootRole::Timestamp, 2, &[held("timestamp"), other]);
    let bytes = switchback_signing::metadata::sign(&root, &[&ceremony.root]).unwrap();
    let refused = server.control_bytes("PUT", "/v1/image/metadata/1.root.json", &bytes);
    assert_eq!(refused.problem(), "online_keys_not_certified");
    assert!(refused.json()["detail"].as_str().unwrap().contains("for the role timestamp with threshold 2"), "{}", refused.text());
}
