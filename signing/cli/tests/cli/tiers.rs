//! Tiers that come and go after the first ceremony.

use std::fs;

use serde_json::{Value, json};

use super::{
    desk::{Desk, PACK},
    server::Server,
};

#[test]
fn a_tier_that_is_added_has_releases_and_one_that_is_removed_has_none() {
    let server = Server::start();
    let desk = Desk::with_server(&server.url);
    desk.init();
    desk.model();
    desk.succeed("key new --unencrypted --out dora release-dora");
    let add = "targets add-tier --base base --tier lite --threshold 2";
    let draft = desk.ask(&format!("{add} release-alice dora/release-dora.pub.json"));
    let changes = draft["changes"].to_string();
    assert!(changes.contains("+ role vla-lite for lite/*") && changes.contains("vla-lite: + release-dora"), "{changes}");
    for key in ["alice", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    desk.succeed(&format!("{} --version 1.0.0 --release-counter 1", PACK.replace("--tier ultra", "--tier lite")));
    for key in ["alice", "dora/release-dora.pem"] {
        desk.succeed(&format!("sign --base base --key {key} dist/lite/tiny-1.0.0.tar.zst"));
    }
    desk.succeed("publish --base base");
    let puts = server.take_puts();
    let at = |name: &str| puts.iter().position(|put| put.ends_with(name)).unwrap_or_else(|| panic!("{name} in {puts:?}"));
    assert!(at("2.targets.json") < at("1.vla-lite.json"), "the delegation first: {puts:?}");

    desk.succeed("targets remove-tier --base base --tier lite");
    desk.succeed("targets remove-tier --base base --tier ultra-se");
    for key in ["carol", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    desk.succeed("publish --base base");
    let targets: Value = serde_json::from_slice(&desk.read("base/image/3.targets.json")).unwrap();
    let delegations = &targets["signed"]["delegations"];
    assert_eq!(delegations["roles"].as_array().unwrap().iter().map(|role| &role["name"]).collect::<Vec<_>>(), [&json!("vla-ultra")]);
    assert_eq!(delegations["keys"].as_object().unwrap().len(), 3, "dora's key is gone with the only role that it had");
    let error = desk.refuse("sign --base base --key alice dist/lite/tiny-1.0.0.tar.zst");
    assert!(error.contains("delegates to no role vla-lite"), "{error}");
}

#[test]
fn a_tier_that_could_not_be_signed_or_is_there_already_is_refused() {
    let desk = Desk::ready();
    let check = |arguments: &str, expected: &str| {
        let error = desk.refuse(arguments);
        assert!(error.contains(expected), "{error}");
        assert!(!desk.path("base/drafts/targets.json").exists(), "no draft is begun");
    };
    let add = "targets add-tier --base base --threshold";
    check(&format!("{add} 1 --tier ultra release-alice"), "targets version 2 delegates to vla-ultra already");
    check(&format!("{add} 3 --tier lite release-alice release-bob"), "3 of 2");
    check(&format!("{add} 2 --tier lite release-alice release-alice"), "is a key of vla-lite already");
    check(&format!("{add} 1 --tier Lite release-alice"), "upper-case letters");
    check(&format!("{add} 1 --tier lite release-nobody"), "the base knows no key \"release-nobody\"");
    check("targets remove-tier --base base --tier lite", "delegates to no role vla-lite");
    desk.succeed(&format!("sign --base base --key alice {}", super::desk::BUNDLE));
    check("targets remove-tier --base base --tier ultra", "vla-ultra.json is waiting for signatures");
    fs::remove_file(desk.path("base/drafts/vla-ultra.json")).unwrap();
    desk.succeed("targets remove-tier --base base --tier ultra");
}
