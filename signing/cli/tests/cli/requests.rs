//! Signatures from machines that are on no network: three keyholders, three folders, and a file between them.

use std::fs;

use serde_json::{Value, json};
use switchback_signing::digest::Sha256Digest;

use super::desk::{BUNDLE, Desk};

/// The machine of a keyholder: a folder of its own with one secret key.
fn machine(desk: &Desk, key: &str) -> Desk {
    let machine = Desk::new();
    machine.write("key.pem", desk.read(&format!("base/keys/{key}.pem")));
    fs::remove_file(desk.path(&format!("base/keys/{key}.pem"))).unwrap();
    machine
}

fn carry(from: &Desk, name: &str, to: &Desk, as_name: &str) {
    to.write(as_name, from.read(name));
}

/// A desk without targets keys, its three keyholders' machines, and a request to renew the targets at the desk.
fn three_machines() -> (Desk, [Desk; 3]) {
    let desk = Desk::new();
    desk.init();
    let machines = ["targets-alice", "targets-bob", "targets-carol"].map(|key| machine(&desk, key));
    desk.succeed("targets set-threshold --base base --tier ultra 3");
    desk.succeed("request export --base base --targets --out request.json");
    (desk, machines)
}

#[test]
fn two_of_three_sign_on_machines_of_their_own() {
    let (desk, machines) = three_machines();
    for (number, machine) in machines.iter().take(2).enumerate() {
        carry(&desk, "request.json", machine, "request.json");
        let shown = machine.succeed("request show request.json");
        assert!(shown.contains("vla-ultra: threshold 2 -> 3 of 3") && shown.contains("targets version 2"), "{shown}");
        // Nobody is there to answer.
        let error = machine.run("request sign --key key.pem request.json");
        assert!(
            error.status == 1 && error.stderr.contains("threshold 2 -> 3") && error.stderr.contains("nothing was signed"),
            "{}",
            error.stderr
        );
        let signed = machine.ask("request sign --yes --key key.pem request.json");
        assert_eq!(signed["signatures"][0]["signed"].as_array().unwrap().len(), 1);
        carry(machine, "request.json", &desk, &format!("signed-{number}.json"));
    }
    assert_eq!(desk.ask("request import --base base signed-0.json")["complete"], false);
    let state = desk.ask("request import --base base signed-0.json signed-1.json");
    assert_eq!((&state["complete"], &state["signatures"][0]["signed"]), (&json!(true), &json!(["targets-alice", "targets-bob"])));
}

#[test]
fn a_root_and_a_release_travel_too() {
    let desk = Desk::ready();
    let [root_holder, release_holder] = ["image-root-bob", "release-carol"].map(|key| machine(&desk, key));
    desk.succeed("root expire --base base --repository image --days 700");
    desk.succeed("root sign --base base --repository image --key alice");
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    for (what, holder) in [("--root image", &root_holder), ("--tier ultra", &release_holder)] {
        desk.succeed(&format!("request export --base base {what} --out request.json"));
        carry(&desk, "request.json", holder, "request.json");
        let signed = holder.ask("request sign --yes --key key.pem request.json");
        let changes = signed["changes"].to_string();
        assert!(what != "--tier ultra" || changes.contains("tiny 1.0.0 (ultra) counter 1, hardware drive-a, regions all"), "{changes}");
        carry(holder, "request.json", &desk, "request.json");
        assert_eq!(desk.ask("request combine --base base request.json")["complete"], true, "{what}");
    }
    desk.succeed(&format!("verify --base base {BUNDLE}"));
}

#[test]
fn an_altered_request_is_not_signed() {
    let (desk, [alice, ..]) = three_machines();
    let request: Value = serde_json::from_slice(&desk.read("request.json")).unwrap();
    let check = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut altered = request.clone();
        change(&mut altered);
        alice.write("request.json", altered.to_string());
        let error = alice.refuse("request sign --yes --key key.pem request.json");
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let replace = |field: &'static str, from: &'static str, to: &'static str| {
        move |request: &mut Value| {
            let text = request[field].as_str().unwrap();
            assert!(text.contains(from));
            request[field] = text.replace(from, to).into();
        }
    };
    check(&replace("draft", "\"threshold\":3", "\"threshold\":1"), "its draft has another SHA-256");
    check(&replace("current", "\"version\":1", "\"version\":7"), "the version before has another SHA-256");
    check(&replace("document", "version 2", "version 3"), "it is about another version");
    check(&replace("root", "\"threshold\":2", "\"threshold\":1"), "signatures");
    check(&|request| request["changes"] = json!(["nothing of importance"]), "its list of changes is not what the draft changes");
    check(&|request| request["format"] = json!("switchback-signing-request-2"), "this release reads");
    alice.write("key.pem", desk.read("base/keys/release-alice.pem"));
    check(&|_| {}, "may not sign targets version 2");
}

/// Whoever carries the stick makes up a version before in which everything is already as the draft has it.
#[test]
fn what_a_made_up_version_before_hides_from_the_changes_is_shown_all_the_same() {
    let (desk, [alice, ..]) = three_machines();
    let mut request: Value = serde_json::from_slice(&desk.read("request.json")).unwrap();
    let current = request["draft"].as_str().unwrap().replace("\"version\":2", "\"version\":1");
    request["base_sha256"] = Sha256Digest::of(current.as_bytes()).to_string().into();
    request["current"] = current.into();
    request["changes"] = json!(["version 1 -> 2"]);
    request["names"] = json!({});
    alice.write("request.json", request.to_string());
    let shown = alice.succeed("request show request.json");
    assert!(!shown.contains("threshold 2 -> 3"), "{shown}");
    assert!(shown.contains("it says  role vla-ultra for ultra/*, and nobody after it: 3 of a key without a name (key id "), "{shown}");
    assert!(alice.run("request sign --key key.pem request.json").stderr.contains("nobody after it: 3 of a key without a name"));
    assert_eq!(alice.ask("request show request.json")["rest"].as_array().unwrap().len(), 2, "one line for each role");
}

#[test]
fn a_request_that_the_base_does_not_wait_for_brings_nothing_home() {
    let (desk, [alice, ..]) = three_machines();
    carry(&desk, "request.json", &alice, "request.json");
    alice.succeed("request sign --yes --key key.pem request.json");
    carry(&alice, "request.json", &desk, "signed.json");
    let good = desk.read("base/drafts/targets.json");
    desk.succeed("targets expire --base base --days 10");
    let error = desk.refuse("request import --base base signed.json");
    assert!(error.contains("targets version 2 in the request is not the draft that the base has"), "{error}");
    // Signatures that were tampered with are left behind.
    desk.write("base/drafts/targets.json", &good);
    let mut tampered: Value = serde_json::from_slice(&desk.read("signed.json")).unwrap();
    let mut draft: Value = serde_json::from_str(tampered["draft"].as_str().unwrap()).unwrap();
    draft["signatures"][0]["sig"] = "00".repeat(64).into();
    tampered["draft"] = draft.to_string().into();
    desk.write("tampered.json", tampered.to_string());
    assert_eq!(desk.ask("request import --base base tampered.json")["signatures"][0]["signed"], json!([]));
    // The base moves on.
    desk.write("base/image/2.targets.json", &good);
    let error = desk.refuse("request import --base base signed.json");
    assert!(error.contains("the base has moved on"), "{error}");
}

#[test]
fn what_is_to_be_signed_is_shown_before_anybody_gives_a_passphrase() {
    let (desk, [machine, ..]) = three_machines();
    let error = desk.refuse("request export --base base --targets --out stick/request.json");
    assert!(error.contains("cannot write stick/request.json: No such file") && error.contains("the folder stick is not there"), "{error}");
    carry(&desk, "request.json", &machine, "request.json");
    // Nobody is there to answer, and the key is not even looked for.
    let run = machine.run("request sign --key nowhere.pem request.json");
    assert!(run.stderr.contains("threshold 2 -> 3") && run.stderr.contains("nothing was signed"), "{}", run.stderr);
    // A copy that nobody has signed is taken home.
    let state = desk.ask("request import --base base request.json");
    assert!(state["signed_now_by"].as_str().unwrap().starts_with("nobody new: the copies bring no signature"), "{state}");
}

#[test]
fn the_draft_of_a_role_that_co_signs_travels_too() {
    let desk = Desk::ready();
    for name in ["brand-emil", "brand-frida"] {
        desk.succeed(&format!("key new --unencrypted --out oem {name}"));
    }
    desk.succeed(
        "targets require-cosigner --base base --tier ultra --role oem-brand-ultra --threshold 2 oem/brand-emil.pub.json oem/brand-frida.pub.json",
    );
    for key in ["alice", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    let first = desk.ask(&format!("sign --base base --role oem-brand-ultra --key oem/brand-emil.pem {BUNDLE}"));
    assert_eq!(first["next"], format!("switchback sign --base base --key NAME --role oem-brand-ultra {BUNDLE}"));
    desk.succeed("request export --base base --role oem-brand-ultra --out request.json");
    desk.succeed("request sign --yes --key oem/brand-frida.pem request.json");
    let state = desk.ask("request import --base base request.json");
    assert_eq!((&state["complete"], &state["signed_now_by"]), (&json!(true), &json!("1 new, from copies: 1")));
}
