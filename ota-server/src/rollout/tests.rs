#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;
use switchback_signing::{
    keys::{Sha256Digest, sealing::DecryptionKey},
    metadata::{BundleRef, Custom, HardwareId, Region, TargetMeta, Targets, Tier, Version},
};

use super::*;

const START: UnixTime = UnixTime::from_seconds(1_000_000);
const DAY: i64 = 86_400;

/// A published release for hardware `orin`.
pub(crate) fn release(model: &str, version: &str, tier: &str, counter: u64) -> Release {
    release_in(model, version, tier, counter, &[])
}

fn release_in(model: &str, version: &str, tier: &str, counter: u64, regions: &[&str]) -> Release {
    let custom = Custom {
        release_counter: counter,
        hardware_ids: vec![HardwareId::new("orin").unwrap()],
        tier: Tier::new(tier).unwrap(),
        regions: regions.iter().map(|region| Region::new(*region).unwrap()).collect(),
        contract_version: 1,
        sdk_min: Version::new(0, 1, 0),
        onnxruntime_min: Version::new(1, 23, 0),
        model: model.to_owned(),
        version: version.to_owned(),
        bundle: BundleRef {
            path: format!("{tier}/{model}-{version}.tar.zst"),
            length: 10,
            sha256: Sha256Digest::of(b"bundle"),
            encryption: None,
        },
        companions: Vec::new(),
        extra: BTreeMap::new(),
    };
    let path = format!("{tier}/{model}-{version}.index");
    let mut listed = Targets::new(1, START.plus_days(365));
    listed.targets.insert(path.clone(), TargetMeta::of_release(b"index", &custom));
    Release::from_target(&path, &listed, &format!("vla-{tier}").into(), listed.expires).unwrap().unwrap()
}

fn vehicle(id: &str) -> Vehicle {
    Vehicle {
        id: id.into(),
        tenant: "oem".into(),
        tier: "ultra".into(),
        hardware_id: "orin".into(),
        model_line: "P7".into(),
        region: "eu".into(),
        confirmed_counter: 0,
        gave_up: Vec::new(),
        encryption_key: None,
    }
}

fn wave(percent: f64) -> Wave {
    Wave {
        name: format!("{percent} percent"),
        starts_at: None,
        ends_at: None,
        share: Share::from_percent(percent).unwrap(),
        model_lines: Vec::new(),
    }
}

fn rollout(id: i64, version: &str, waves: Vec<Wave>) -> Rollout {
    Rollout {
        id: RolloutId(id),
        name: format!("rollout {id}"),
        release: ReleaseName { model: "vla".to_owned(), version: version.to_owned() },
        selector: Selector::default(),
        waves,
        salt: format!("salt {id}"),
        state: RolloutState::Running,
        started_at: Some(START),
        failure_limit: FailureLimit { count: Some(1), percent: None, minimum_reports: 1 },
    }
}

fn approval(version: &str) -> Approval {
    Approval {
        id: ApprovalId(1),
        release: ReleaseName { model: "vla".to_owned(), version: version.to_owned() },
        contents: vec![release("vla", version, "ultra", 1).content()],
        region: "eu".to_owned(),
        model_lines: Vec::new(),
        authority: "KBA".to_owned(),
        number: "e1*2026".to_owned(),
        valid_from: START,
        valid_until: None,
    }
}

/// Version 1.0.0 (counter 1) and 2.0.0 (counter 2), both approved and rolled out to everybody.
fn rules() -> Rules {
    Rules {
        rollouts: vec![rollout(1, "1.0.0", vec![wave(100.0)]), rollout(2, "2.0.0", vec![wave(100.0)])],
        approvals: vec![approval("1.0.0"), approval("2.0.0")],
        releases: vec![Arc::new(release("vla", "1.0.0", "ultra", 1)), Arc::new(release("vla", "2.0.0", "ultra", 2))],
    }
}

fn assigned_version(vehicle: &Vehicle, rules: &Rules, now: UnixTime) -> Option<String> {
    Some(assignment(vehicle, rules, now)?.release.name.version.clone())
}

#[test]
fn an_approval_is_of_bytes_and_not_of_a_name() {
    let mut rules = rules();
    let (vehicle, rollout) = (vehicle("v-1"), rules.rollouts[1].clone());
    assert!(verdict(&vehicle, &rollout, &rules, START).is_ok());
    rules.approvals[1].contents[0].sha256 = Sha256Digest::of(b"another index").to_hex();
    assert_eq!(verdict(&vehicle, &rollout, &rules, START), Err(Withheld::OtherContent));
    assert_eq!(unapproved(&rollout, [&vehicle].into_iter(), &rules, START), BTreeMap::from([("eu".to_owned(), 1)]));
    // One more approval, of what is there, lets it through.
    rules.approvals.push(approval("2.0.0"));
    assert!(verdict(&vehicle, &rollout, &rules, START).is_ok());
    rules.approvals.clear();
    assert_eq!(verdict(&vehicle, &rollout, &rules, START), Err(Withheld::NotApproved));
}

#[test]
fn a_region_is_missed_before_its_first_vehicle() {
    let rules = rules();
    let mut rollout = rules.rollouts[0].clone();
    rollout.selector.regions = vec!["eu".to_owned(), "cn".to_owned()];
    assert_eq!(unapproved(&rollout, std::iter::empty(), &rules, START), BTreeMap::from([("cn".to_owned(), 0)]));
}

#[test]
fn contents_contradict_when_the_same_vehicles_would_get_other_bytes() {
    let one = release("vla", "1.0.0", "ultra", 1).content();
    let other = Content { sha256: Sha256Digest::of(b"another index").to_hex(), ..one.clone() };
    assert!(one.contradicts(&other) && !one.contradicts(&one));
    let elsewhere = Content { path: "ultra/vla-1.0.0-b.index".to_owned(), ..other.clone() };
    assert!(one.contradicts(&elsewhere));
    assert!(!one.contradicts(&Content { hardware_ids: vec!["thor".to_owned()], ..elsewhere.clone() }));
    assert!(!one.contradicts(&Content { tier: "ultra-se".to_owned(), ..elsewhere }));
    // The path is the same, whoever it is for.
    assert!(one.contradicts(&Content { tier: "ultra-se".to_owned(), ..other }));
}

/// Ids of those of 10,000 vehicles that a wave has reached.
fn reached(wave: &Wave, now: UnixTime) -> BTreeSet<usize> {
    let rollout = rollout(1, "1.0.0", vec![wave.clone()]);
    (0..10_000).filter(|n| rollout.wave_of(&vehicle(&format!("v-{n}")), now).is_some()).collect()
}

#[test]
fn the_release_with_the_highest_counter_wins_whatever_the_order_of_the_rollouts() {
    let mut rules = rules();
    assert_eq!(assigned_version(&vehicle("a"), &rules, START).as_deref(), Some("2.0.0"));
    rules.rollouts.reverse();
    rules.releases.reverse();
    assert_eq!(assigned_version(&vehicle("a"), &rules, START).as_deref(), Some("2.0.0"));
}

#[test]
fn a_paused_rollout_is_never_assigned_and_the_one_before_it_is() {
    let mut rules = rules();
    let pause = Act::Pause { by: PausedBy::Gate, reason: "3 vehicles failed".to_owned() };
    rules.rollouts[1] = rules.rollouts[1].after(pause, START).unwrap().unwrap();
    assert_eq!(assigned_version(&vehicle("a"), &rules, START).as_deref(), Some("1.0.0"));
    assert_eq!(verdict(&vehicle("a"), &rules.rollouts[1], &rules, START), Err(Withheld::NotRunning));
    rules.rollouts[0].state = RolloutState::Draft;
    assert_eq!(assigned_version(&vehicle("a"), &rules, START), None);
}

#[test]
fn nothing_is_assigned_without_a_valid_approval_for_the_vehicles_market_and_model_line() {
    let withheld = |change: &dyn Fn(&mut Approval), now| {
        let mut rules = rules();
        rules.approvals.iter_mut().for_each(change);
        assigned_version(&vehicle("a"), &rules, now)
    };
    assert_eq!(withheld(&|_| (), START).as_deref(), Some("2.0.0"));
    assert_eq!(withheld(&|approval| approval.region = "cn".to_owned(), START), None);
    assert_eq!(withheld(&|approval| approval.release.version = "3.0.0".to_owned(), START), None);
    assert_eq!(withheld(&|approval| approval.release.model = "other".to_owned(), START), None);
    assert_eq!(withheld(&|approval| approval.model_lines = vec!["G7".to_owned()], START), None);
    assert_eq!(withheld(&|_| (), START.plus_seconds(-1)), None);
    let ends = |approval: &mut Approval| approval.valid_until = Some(START.plus_seconds(10));
    assert_eq!(withheld(&ends, START.plus_seconds(9)).as_deref(), Some("2.0.0"));
    assert_eq!(withheld(&ends, START.plus_seconds(10)), None);
}

#[test]
fn a_release_reaches_only_the_tier_hardware_and_region_that_were_signed() {
    let rules = rules();
    let denied = |change: &dyn Fn(&mut Vehicle)| {
        let mut vehicle = vehicle("a");
        change(&mut vehicle);
        verdict(&vehicle, &rules.rollouts[1], &rules, START).unwrap_err()
    };
    assert_eq!(denied(&|vehicle| vehicle.tier = "ultra-se".into()), Withheld::NotPublished);
    assert_eq!(denied(&|vehicle| vehicle.hardware_id = "other".into()), Withheld::NotPublished);
    let mut abroad = rules.clone();
    abroad.releases = vec![Arc::new(release_in("vla", "2.0.0", "ultra", 2, &["cn"]))];
    let denied = verdict(&vehicle("a"), &abroad.rollouts[1], &abroad, START);
    assert_eq!(denied, Err(Withheld::NotPublished));
}

#[test]
fn a_release_whose_metadata_has_expired_is_not_assigned() {
    let rules = rules();
    let last = START.plus_days(365).plus_seconds(-1);
    assert_eq!(assigned_version(&vehicle("a"), &rules, last).as_deref(), Some("2.0.0"));
    assert_eq!(assigned_version(&vehicle("a"), &rules, last.plus_seconds(1)), None);
    let expired = Withheld::Expired { role: "vla-ultra".into(), at: last.plus_seconds(1) };
    assert_eq!(verdict(&vehicle("a"), &rules.rollouts[1], &rules, last.plus_seconds(1)), Err(expired));
}

#[test]
fn every_word_of_a_selector_counts() {
    let selects = |selector: Selector| selector.selects(&vehicle("a"));
    let words = |word: &str| vec!["x".to_owned(), word.to_owned()];
    assert!(selects(Selector::default()));
    assert!(selects(Selector { tenants: words("oem"), tiers: words("ultra"), ..Selector::default() }));
    assert!(!selects(Selector { tenants: words("other"), ..Selector::default() }));
    assert!(!selects(Selector { tiers: words("ultra-se"), ..Selector::default() }));
    assert!(!selects(Selector { hardware_ids: words("thor"), ..Selector::default() }));
    assert!(!selects(Selector { model_lines: words("G7"), ..Selector::default() }));
    assert!(!selects(Selector { regions: words("cn"), ..Selector::default() }));
}

#[test]
fn a_vehicle_is_never_offered_less_than_it_confirmed() {
    let mut rules = rules();
    rules.rollouts[1].state = RolloutState::Draft;
    let mut newer = vehicle("a");
    newer.confirmed_counter = 2;
    assert_eq!(assigned_version(&newer, &rules, START), None);
    assert_eq!(verdict(&newer, &rules.rollouts[0], &rules, START), Err(Withheld::OlderThanConfirmed));
}

#[test]
fn a_vehicle_that_gave_up_the_newest_release_is_offered_the_next_best_one() {
    let mut rules = rules();
    let mut vehicle = vehicle("a");
    let release = rules.releases[1].name.clone();
    let reason: Arc<str> = "self-test failed".into();
    vehicle.gave_up.push(GaveUp { release: release.clone(), sha256: rules.releases[1].sha256.clone(), reason: Arc::clone(&reason) });
    // Both stand for other bytes than in `release()`, where every index is the same.
    Arc::make_mut(&mut rules.releases[0]).sha256 = Sha256Digest::of(b"the first index").to_hex();
    rules.approvals[0].contents = vec![rules.releases[0].content()];
    assert_eq!(assigned_version(&vehicle, &rules, START).as_deref(), Some("1.0.0"));
    let withheld = verdict(&vehicle, &rules.rollouts[1], &rules, START).unwrap_err();
    assert_eq!(withheld, Withheld::GaveUp { release, reason });
    assert_eq!(withheld.to_string(), "the vehicle gave up vla 2.0.0: self-test failed");
    // Never below what drives it.
    vehicle.confirmed_counter = 2;
    assert_eq!(assigned_version(&vehicle, &rules, START), None);
    // Other bytes are another release.
    vehicle.gave_up[0].sha256 = Sha256Digest::of(b"a third index").to_hex();
    assert_eq!(assigned_version(&vehicle, &rules, START).as_deref(), Some("2.0.0"));
}

#[test]
fn an_encrypted_release_waits_for_a_vehicles_key_and_a_plain_one_does_not() {
    let mut rules = rules();
    let mut encrypted = Release::clone(&rules.releases[1]);
    encrypted.encrypted_bundle = Some(Sha256Digest::of(b"bundle"));
    rules.releases[1] = Arc::new(encrypted);
    let without = vehicle("a");
    assert_eq!(verdict(&without, &rules.rollouts[1], &rules, START), Err(Withheld::NoEncryptionKey));
    // What it can have, it gets.
    let plain = assignment(&without, &rules, START).unwrap();
    assert_eq!((plain.release.name.version.as_str(), plain.seal_to), ("1.0.0", None));
    let key = DecryptionKey::from_seed(&[1; 32]).encryption_key();
    let with = Vehicle { encryption_key: Some(key), ..without };
    let sealed = assignment(&with, &rules, START).unwrap();
    assert_eq!((sealed.release.name.version.as_str(), sealed.seal_to), ("2.0.0", Some(key)));
    let plain = assignment(&Vehicle { confirmed_counter: 0, ..with }, &Rules { rollouts: vec![rules.rollouts[0].clone()], ..rules }, START);
    assert_eq!(plain.unwrap().seal_to, None, "nothing is sealed for a plain release");
}

#[test]
fn a_wave_of_one_model_line_leaves_the_others_alone_until_their_date() {
    let mut rollout = rollout(1, "1.0.0", vec![wave(100.0), wave(100.0)]);
    rollout.waves[0].model_lines = vec!["P7".to_owned()];
    rollout.waves[1].model_lines = vec!["G7".to_owned(), "X9".to_owned()];
    rollout.waves[1].starts_at = Some(START.plus_seconds(DAY));
    let mut g7 = vehicle("g");
    g7.model_line = "G7".into();
    assert_eq!(rollout.wave_of(&vehicle("p"), START), Some(0));
    assert_eq!(rollout.wave_of(&g7, START), None);
    assert_eq!(rollout.wave_for(&g7), Some(1));
    assert_eq!(rollout.wave_of(&g7, START.plus_seconds(DAY)), Some(1));
    let advanced = rollout.after(Act::Advance, START.plus_seconds(5)).unwrap().unwrap();
    assert_eq!(advanced.wave_of(&g7, START.plus_seconds(4)), None);
    assert_eq!(advanced.wave_of(&g7, START.plus_seconds(5)), Some(1));
    assert_eq!(advanced.after(Act::Advance, START.plus_seconds(5)), Err(IllegalMove::NoWaveLeft));
}

#[test]
fn a_wave_fills_evenly_from_its_start_to_its_end() {
    let growing = Wave { ends_at: Some(START.plus_seconds(10 * DAY)), ..wave(50.0) };
    assert!(reached(&growing, START).is_empty());
    for day in 0..=10 {
        let count = reached(&growing, START.plus_seconds(day * DAY)).len() as i64;
        let expected = 500 * day;
        // Four standard deviations of a binomial count around its mean, at most 50 * 4.
        assert!((count - expected).abs() <= 200, "day {day}: {count} of 10000, expected {expected}");
    }
    let full = reached(&growing, START.plus_seconds(10 * DAY));
    assert_eq!(full, reached(&growing, START.plus_seconds(100 * DAY)));
}

#[test]
fn a_pause_does_not_end_in_a_jump() {
    let mut rollout = rollout(1, "1.0.0", vec![wave(100.0)]);
    rollout.waves[0].ends_at = Some(START.plus_seconds(10 * DAY));
    let at = START.plus_seconds(2 * DAY);
    let back = START.plus_seconds(30 * DAY);
    let pause = Act::Pause { by: PausedBy::Operator, reason: "holiday".to_owned() };
    let paused = rollout.after(pause, at).unwrap().unwrap();
    let resumed = paused.after(Act::Resume { note: "back".to_owned() }, back).unwrap().unwrap();
    assert_eq!(resumed.waves[0].share_at(START, back), rollout.waves[0].share_at(START, at));
    let later = resumed.waves[0].share_at(START, back.plus_seconds(8 * DAY));
    assert_eq!(later, Share::from_percent(100.0).unwrap());
}

#[test]
fn only_legal_moves_are_made() {
    let draft = Rollout { state: RolloutState::Draft, started_at: None, ..rollout(1, "1.0.0", vec![wave(1.0)]) };
    let pause = || Act::Pause { by: PausedBy::Operator, reason: "because".to_owned() };
    let resume = |note: &str| Act::Resume { note: note.to_owned() };
    assert_eq!(draft.after(pause(), START), Err(IllegalMove::NotStarted));
    assert_eq!(draft.after(resume("x"), START), Err(IllegalMove::NotPaused));
    assert_eq!(draft.after(Act::Advance, START), Err(IllegalMove::NotRunning));
    let running = draft.after(Act::Start, START).unwrap().unwrap();
    assert_eq!(running.started_at, Some(START));
    assert_eq!(running.after(Act::Start, START), Err(IllegalMove::AlreadyStarted));
    assert_eq!(running.after(resume("x"), START), Err(IllegalMove::NotPaused));
    let paused = running.after(pause(), START).unwrap().unwrap();
    assert_eq!(paused.after(pause(), START), Ok(None));
    assert_eq!(paused.after(resume(" "), START), Err(IllegalMove::NoteMissing));
    assert_eq!(paused.after(Act::Advance, START), Err(IllegalMove::NotRunning));
    let resumed = paused.after(resume("analyzed"), START).unwrap().unwrap();
    assert_eq!(resumed.state, RolloutState::Running);
}

#[test]
fn a_share_outside_its_range_is_refused() {
    for percent in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY, 0.000_01] {
        assert!(Share::from_percent(percent).is_err(), "{percent}");
    }
    assert_eq!(Share::from_percent(0.01).unwrap().percent(), 0.01);
    let text = "a wave's percent is more than 0 and at most 100, not 101";
    assert_eq!(Share::from_percent(101.0).unwrap_err().to_string(), text);
}

#[test]
fn other_vehicles_come_first_in_another_rollout() {
    let first = |salt: &str| (0..1_000).filter(|n| bucket(salt, &format!("v-{n}")) < 100_000).collect::<BTreeSet<_>>();
    let both = first("a").intersection(&first("b")).count();
    // A tenth of a tenth of 1,000 is expected.
    assert!(both < 40, "{both} of 1000 vehicles are among the first tenth twice");
}

proptest! {
    #[test]
    fn waves_nest(small in 0.01_f64..100.0, more in 0.0_f64..100.0, salt in "[a-z]{1,8}", id in "[a-z0-9]{1,17}") {
        let large = (small + more).min(100.0);
        let bucket = bucket(&salt, &id);
        let (small, large) = (Share::from_percent(small).unwrap(), Share::from_percent(large).unwrap());
        prop_assert!(!small.contains(bucket) || large.contains(bucket));
    }

    #[test]
    fn nobody_leaves_a_wave_while_time_goes_on(
        percent in 0.01_f64..=100.0, duration_s in 1_i64..100 * DAY, at in 0_i64..100 * DAY, later in 0_i64..100 * DAY,
    ) {
        let wave = Wave { ends_at: Some(START.plus_seconds(duration_s)), ..wave(percent) };
        let share = |seconds| wave.share_at(START, START.plus_seconds(seconds));
        prop_assert!(share(at) <= share(at + later));
        prop_assert!(share(at + later) <= wave.share);
    }

    #[test]
    fn no_approval_means_never_assigned(id in "[a-z0-9]{1,17}", seconds in -10 * DAY..10 * DAY) {
        let rules = Rules { approvals: Vec::new(), ..rules() };
        prop_assert!(assignment(&vehicle(&id), &rules, START.plus_seconds(seconds)).is_none());
    }
}
