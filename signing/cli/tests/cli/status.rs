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
        text.contains("switchback targets expire --days 90") && text.contains("2 of targets-alice, targets-bob, targets-carol"),
        "{text}"
    );
    assert!(text.contains("draft of vla-ultra version 1: targets version 1: 1 of 2 signatures (release-alice;"), "{text}");
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
    assert!(run.stderr.contains("switchback targets expire --days 90"), "{}", run.stderr);

    // Renewed by draft and signatures, and no longer urgent once it is the newest.
    desk.succeed("targets expire --base base --days 300");
    for key in ["alice", "bob"] {
        desk.succeed(&format!("targets sign --base base --key {key}"));
    }
    let waiting = desk.run("status --base base --days 120");
    assert!(waiting.status == 1 && waiting.stdout.contains("draft of targets version 2: complete"), "{}", waiting.stdout);
    std::fs::rename(desk.path("base/drafts/targets.json"), desk.path("base/image/2.targets.json")).unwrap();
    desk.succeed("status --base base --days 120");
}
