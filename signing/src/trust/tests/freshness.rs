//! Whether what a Director shows is of today, before it expires.

use super::*;
use crate::{
    metadata::{Freshness, Nonce, RootRole, Signed, Timestamp},
    testing::TestRepository,
    time::UnixTime,
};

const HOUR_S: i64 = 3_600;
const CHALLENGE: Challenge = Challenge { nonce: Nonce::new([0xab; 16]), age_s_max: 4 * HOUR_S as u64 };
/// Of the first question of all.
const EARLIER: Nonce = Nonce::new([0xcd; 16]);
const OTHER: Nonce = Nonce::new([0xef; 16]);

/// A check at a time; the Director answers with `answer`, told the nonce that it was asked with. Returns how it ended and whether it was asked
/// with one.
fn check(
    vehicle: &mut TestVehicle,
    repositories: &mut TestRepositories,
    now: UnixTime,
    answer: impl Fn(&mut TestRepository, Option<Nonce>),
) -> (Outcome, bool) {
    let mut asked = false;
    let outcome = vehicle.check_with(now, |request| {
        if (request.repository, request.file_name.as_str()) == (Repository::Director, "timestamp.json") {
            asked |= request.nonce.is_some();
            answer(&mut repositories.director, request.nonce);
        } else {
            assert_eq!(request.nonce, None, "{request:?}");
        }
        repositories.fetch(request)
    });
    (outcome, asked)
}

/// Signs when it is asked with a nonce and else shows what it has, as our server does.
fn honest(now: UnixTime) -> impl Fn(&mut TestRepository, Option<Nonce>) {
    move |director, nonce| {
        if nonce.is_some() {
            director.sign_freshness(now, nonce);
        }
    }
}

/// A replay of whatever there was.
fn replay(_: &mut TestRepository, _: Option<Nonce>) {}

/// A vehicle that holds a timestamp of [`NOW`] by a Director that answers nonces.
fn fresh_world() -> (TestRepositories, TestVehicle) {
    let (mut repositories, mut vehicle) = world();
    repositories.director.sign_freshness(NOW, None);
    vehicle.challenge = Some(Challenge { nonce: EARLIER, age_s_max: u64::MAX });
    let (outcome, asked) = check(&mut vehicle, &mut repositories, NOW, honest(NOW));
    assert_installs(outcome);
    assert!(asked, "a vehicle that holds nothing knows of no age");
    vehicle.challenge = Some(CHALLENGE);
    (repositories, vehicle)
}

#[test]
fn a_nonce_is_asked_with_when_the_timestamp_was_signed_long_ago_and_not_before() {
    let (repositories, vehicle) = fresh_world();
    for (age_s, expected) in [
        (0, false),
        (4 * HOUR_S - 1, false),
        (4 * HOUR_S, true),
        (23 * HOUR_S, true),
        // Somebody has set a clock; so far in the future it cannot have been signed.
        (-4 * HOUR_S + 1, false),
        (-4 * HOUR_S, true),
    ] {
        let now = NOW.plus_seconds(age_s);
        let (outcome, asked) = check(&mut vehicle.clone(), &mut repositories.clone(), now, honest(now));
        assert_installs(outcome);
        assert_eq!(asked, expected, "{age_s} s");
    }
    let mut always = TestVehicle { challenge: Some(Challenge { age_s_max: 0, ..CHALLENGE }), ..vehicle.clone() };
    assert!(check(&mut always, &mut repositories.clone(), NOW, honest(NOW)).1);
    let mut never = TestVehicle { challenge: None, ..vehicle };
    assert!(!check(&mut never, &mut repositories.clone(), NOW.plus_seconds(23 * HOUR_S), honest(NOW)).1);
}

#[test]
fn the_answer_is_kept_and_not_asked_for_again_until_it_is_old_itself() {
    let (mut repositories, mut vehicle) = fresh_world();
    let later = NOW.plus_seconds(5 * HOUR_S);
    assert_installs(check(&mut vehicle, &mut repositories, later, honest(later)).0);
    let held = Signed::<Timestamp>::parse(vehicle.disk.get(Repository::Director, "timestamp.json").unwrap(), 10_000).unwrap().signed;
    assert_eq!(held.freshness().unwrap(), Some(Freshness { signed_at: later, nonce: Some(CHALLENGE.nonce) }));
    vehicle.challenge = Some(Challenge { nonce: OTHER, ..CHALLENGE });
    let (outcome, asked) = check(&mut vehicle, &mut repositories, later.plus_seconds(HOUR_S), replay);
    assert_installs(outcome);
    assert!(!asked);
    assert_eq!(vehicle.log().matches("put Director").count(), 0, "{}", vehicle.log());
}

#[test]
fn an_answer_without_the_nonce_of_the_question_is_a_freeze_attack_and_leaves_nothing() {
    let (repositories, vehicle) = fresh_world();
    let later = NOW.plus_seconds(5 * HOUR_S);
    let asked = "and the vehicle asked with abababababababababababababababab: it is from before the question; look who is between the vehicle \
                 and the server";
    let refused = |answer: fn(&mut TestRepository, Option<Nonce>), found: &str| {
        let (mut vehicle, mut attacked) = (vehicle.clone(), repositories.clone());
        let before = vehicle.disk.clone();
        let (outcome, _) = check(&mut vehicle, &mut attacked, later, answer);
        let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
        assert_error(&error, &alloc::format!("121 nonce_differs (freeze attack): Director: the timestamp {found} {asked}"));
        assert_eq!(vehicle.disk, before);
        let mut repositories = repositories.clone();
        assert_installs(check(&mut vehicle, &mut repositories, later, honest(later)).0);
    };
    // What the vehicle holds. It is no answer that it was one once, to another question.
    refused(replay, "version 4, signed at 2027-01-15T08:00:00Z, carries the nonce cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd");
    let newer = |director: &mut TestRepository, _: Option<Nonce>| director.sign_freshness(NOW.plus_seconds(60), None);
    refused(newer, "version 5, signed at 2027-01-15T08:01:00Z, carries no nonce");
    let of_another_question = |director: &mut TestRepository, _: Option<Nonce>| director.sign_freshness(NOW.plus_seconds(61), Some(OTHER));
    refused(of_another_question, "version 5, signed at 2027-01-15T08:01:01Z, carries the nonce efefefefefefefefefefefefefefefef");
}

#[test]
fn a_director_that_answers_no_nonces_is_believed_until_its_timestamp_expires() {
    let (mut repositories, mut vehicle) = world();
    vehicle.challenge = Some(CHALLENGE);
    let (outcome, asked) = check(&mut vehicle, &mut repositories, NOW, replay);
    assert_installs(outcome);
    assert!(asked);
    let (outcome, asked) = check(&mut vehicle, &mut repositories, NOW.plus_seconds(23 * HOUR_S), replay);
    assert_installs(outcome);
    assert!(!asked, "it does not know what that is");
    // It learns to answer, and is asked from then on; and it is put back to what it was, which nobody but itself can sign.
    repositories.director.sign_freshness(NOW, None);
    assert_installs(check(&mut vehicle, &mut repositories, NOW, replay).0);
    let later = NOW.plus_seconds(5 * HOUR_S);
    repositories.director.timestamp.extra.clear();
    repositories.director.publish_timestamp();
    let (outcome, asked) = check(&mut vehicle, &mut repositories, later, replay);
    assert_installs(outcome);
    assert!(asked);
}

#[test]
fn what_cannot_be_read_of_an_answer_is_refused() {
    let (mut repositories, mut vehicle) = fresh_world();
    for (said, problem) in [
        ("{}", "signed.freshness.signedAt is missing"),
        (r#"{"signedAt":"2027-01-15T08:00:00Z","nonce":"ab"}"#, "signed.freshness.nonce is not 32 hexadecimal digits"),
    ] {
        let said = crate::metadata::json::parse(said.as_bytes(), 1000).unwrap();
        repositories.director.timestamp.extra.insert("freshness".into(), said);
        repositories.director.publish_timestamp();
        let (outcome, _) = check(&mut vehicle, &mut repositories, NOW.plus_seconds(5 * HOUR_S), replay);
        let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
        assert_error(&error, &alloc::format!("101 metadata_malformed (arbitrary software attack): Director: timestamp.json: {problem}"));
    }
}

/// The vehicle has followed the chain of roots, and while it asks for the next file the online keys are rotated.
#[test]
fn keys_that_are_rotated_in_the_middle_of_a_check_are_no_attack() {
    for role in [RootRole::Timestamp, RootRole::Snapshot, RootRole::Targets] {
        for image in [false, true] {
            let (mut repositories, mut vehicle) = checked_world();
            let mut rotated = repositories.clone();
            for repositories in [&mut repositories, &mut rotated] {
                let repository = if image { &mut repositories.image } else { &mut repositories.director };
                repository.publish();
            }
            let repository = if image { &mut rotated.image } else { &mut rotated.director };
            repository.rotate(role);
            repository.publish();
            let name = if image { Repository::Image } else { Repository::Director };
            let mut at_end = false;
            let outcome = vehicle.check_with(NOW, |request| {
                let answer = if at_end { rotated.fetch(request) } else { repositories.fetch(request) };
                at_end |= request.repository == name && request.file_name == "2.root.json";
                answer
            });
            assert_installs(outcome);
            assert_eq!(vehicle.log().matches(&alloc::format!("get {name} 2.root.json")).count(), 2, "{}", vehicle.log());
        }
    }
}

#[test]
fn the_end_of_the_chain_is_looked_for_once_more_and_then_it_is_an_attack() {
    let (mut repositories, mut vehicle) = checked_world();
    repositories.director.signers.insert("timestamp".into(), Vec::from(["thief".into()]));
    repositories.director.publish();
    let expected = "102 threshold_not_met (arbitrary software attack): Director: timestamp version 3 carries 0 of the 1 valid signatures that \
                    root version 1 requires";
    assert_error(&vehicle.refusal(&repositories, NOW), expected);
    insta::assert_snapshot!(vehicle.log(), @r"
    get Director 2.root.json
    get Director timestamp.json
    get Director 2.root.json
    ");
    // Whoever keeps the vehicle from looking hides nothing by it.
    let mut roots_asked = 0;
    let outcome = vehicle.check_with(NOW, |request| {
        roots_asked += usize::from(request.file_name == "2.root.json");
        if roots_asked == 2 { Err(FetchFailure::Unreachable { reason: "cut".into() }) } else { repositories.fetch(request) }
    });
    let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
    assert_error(&error, expected);
}
