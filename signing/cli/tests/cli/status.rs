//! The expiry calendar.

use serde_json::{Value, json};

use super::desk::{BUNDLE, Desk};

#[test]
fn the_calendar_says_what_expires_when_and_who_must_sign() {
    let desk = Desk::ready();
    desk.succeed(&format!("sign --base base --key alice {BUNDLE}"));
    let status = desk.ask("status --base base");
    assert_eq!(status["urgent"], 0);
    let roles: Vec<&str> = status["roles"].as_array().unwrap().iter().map(|role| role["role"].as_str().unwrap()).collect();
    assert_eq!(roles[0], "targets", "the soonest comes first: {roles:?}");
    assert!(roles.contains(&"Image repository root") && roles.contains(&"Director root"), "{roles:?}");
    assert_eq!(status["roles"][0]["signers"], json!(["targets-alice", "targets-bob", "targets-carol"]));
    assert_eq!(status["drafts"][0]["document"], "vla-ultra");
    let text = desk.succeed("status --base base");
    assert!(
        text.contains("switchback targets expire --base base --days 90") && text.contains("2 of targets-alice, targets-bob, targets-carol"),
        "{text}"
    );
    assert!(text.contains("draft of vla-ultra version 1: targets version 1: 1 of 2 signatures (release-alice;"), "{text}");
    assert!(text.contains("next: switchback sign --base base --key NAME BUNDLE"), "{text}");
}

#[test]
fn what_expires_soon_fails_the_daily_job_and_still_prints_the_calendar() {
    let desk = Desk::new();
    desk.init();
    let run = desk.run("--json status --base base --days 120");
    assert_eq!(run.status, 1);
    let status: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&status["urgent"], &status["roles"][0]["urgency"]), (&json!(1), &json!("soon")));
    assert_eq!(status["roles"][1]["urgency"], "valid");
    assert!(run.stderr.contains("1 of 3 roles expire within 120 days or have expired, first targets at"), "{}", run.stderr);
    let steps = "renew it: `switchback targets expire --base base --days 90`, then 2 of targets-alice, targets-bob, targets-carol: \
                 `switchback targets sign --base base --key NAME`, then `switchback publish --base base`";
    assert!(run.stderr.contains(steps), "{}", run.stderr);

    // Renewed by draft and signatures, and no longer urgent once it is the newest.
    desk.succeed("targets expire --base base --days 300");
    let alice = desk.ask("targets sign --base base --key alice");
    assert_eq!(alice["next"], "switchback targets sign --base base --key NAME");
    // Nobody is told to begin again, which would throw her signature away.
    let half = desk.run("status --base base --days 120").stderr;
    assert!(half.contains("hint: complete the draft of version 2") && !half.contains("expire --base"), "{half}");
    assert!(half.contains("1 of 2 signatures (targets-alice; 1 more of targets-bob, targets-carol)"), "{half}");
    let bob = desk.ask("targets sign --base base --key bob");
    assert_eq!(bob["next"], "switchback publish --base base");
    let waiting = desk.run("status --base base --days 120");
    assert!(waiting.status == 1 && waiting.stdout.contains("draft of targets version 2: complete"), "{}", waiting.stdout);
    assert!(waiting.stderr.contains("version 2 is complete, send it: `switchback publish --base base`"), "{}", waiting.stderr);
    std::fs::rename(desk.path("base/drafts/targets.json"), desk.path("base/image/2.targets.json")).unwrap();
    desk.succeed("status --base base --days 120");
}

#[test]
fn the_commands_that_come_next_can_be_typed_as_they_stand() {
    let desk = Desk::ready();
    let next = |arguments: &str| desk.ask(arguments)["next"].as_str().unwrap().to_owned();
    assert_eq!(
        next("root expire --base base --repository director --days 300"),
        "switchback root sign --base base --repository director --key NAME"
    );
    desk.succeed("key new --unencrypted --out stick image-root-dora");
    desk.succeed("root add-key --base base --repository image --role root stick/image-root-dora.pub.json");
    for leaving in ["alice", "bob"] {
        desk.succeed(&format!("root remove-key --base base --repository image --role root image-root-{leaving}"));
    }
    desk.succeed("root sign --base base --repository image --key carol");
    // The new set is complete; of the one before it somebody is missing.
    let next_of_dora = next("root sign --base base --repository image --key stick/image-root-dora.pem");
    assert_eq!(next_of_dora, "switchback root cross-sign --base base --repository image --key NAME");
    assert_eq!(next("root cross-sign --base base --repository image --key bob"), "switchback publish --base base");

    let error = desk.refuse("publish --base base");
    assert!(
        error.contains("hint: the next keyholder signs: `switchback root sign --base base --repository director --key NAME`"),
        "{error}"
    );
    let sign = format!("switchback sign --base base --key NAME {BUNDLE}");
    assert_eq!(next(&format!("sign --base base --key alice {BUNDLE}")), sign);
    assert_eq!(next(&format!("sign --base base --key bob {BUNDLE}")), "switchback publish --base base");
}

#[test]
fn a_draft_that_is_in_the_way_is_described_with_what_to_do_about_it() {
    let desk = Desk::ready();
    let error = desk.refuse("sign --base base --key alice --renew ultra");
    assert!(error.contains("nothing of vla-ultra has been published from this base"), "{error}");
    for key in ["alice", "bob"] {
        desk.succeed(&format!("sign --base base --key {key} {BUNDLE}"));
    }
    // As if it had been published.
    std::fs::rename(desk.path("base/drafts/vla-ultra.json"), desk.path("base/image/1.vla-ultra.json")).unwrap();
    let second = desk.pack("2.0.0", 2);
    let second = second.display();
    desk.succeed(&format!("sign --base base --key carol {second}"));
    let error = desk.refuse("sign --base base --key alice --renew ultra");
    for expected in [
        "a draft of vla-ultra version 2 with ultra/tiny-2.0.0.index and ultra/tiny-2.0.0.tar.zst is in the way: 1 of 2 signatures (release-carol;",
        &format!("first `switchback sign --base base --key NAME {}`", second),
        "until it is complete, and `switchback publish --base base`, which gives the tier a later expiry as well",
        "or throw it away with the signature of release-carol by --discard-draft",
    ] {
        assert!(error.contains(expected), "{expected:?} is not in\n{error}");
    }
    desk.succeed(&format!("sign --base base --key bob {second}"));
    let error = desk.refuse("sign --base base --key alice --renew ultra");
    assert!(error.contains("hint: first `switchback publish --base base`, which gives"), "{error}");

    // The other way round: a renewal waits, and a bundle is to be signed.
    desk.succeed("sign --base base --key alice --renew ultra --discard-draft");
    let error = desk.refuse(&format!("sign --base base --key bob {second}"));
    assert!(error.contains("a draft of vla-ultra version 2 that only renews it is in the way"), "{error}");
    assert!(error.contains("first `switchback sign --base base --key NAME --renew ultra` until"), "{error}");
}
