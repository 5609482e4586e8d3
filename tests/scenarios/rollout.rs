//! Who gets a release, and when.

use switchback_sdk::vehicle::EventKind;
use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    server::Server,
};

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };

#[test]
fn no_vehicle_without_approval_or_of_another_tier_gets_the_release() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    let id = desk.roll_out("vla-1", "1.0.0");
    let selected = Garage::new(&desk, "eu-1", "ultra", "eu");
    let others = [Garage::new(&desk, "cn-1", "ultra", "cn"), Garage::new(&desk, "se-1", "ultra-se", "eu")];
    let mut car = selected.start(server.url());
    car.until_confirmed();
    car.until_checked();
    for other in &others {
        let mut car = other.start(server.url());
        car.until_checked();
        assert!(car.active().is_none() && car.status().candidate.is_none(), "{:#?}", car.status());
    }
    let rollout = desk.rollout(id);
    assert_eq!((rollout["waves"][0]["offered"].as_u64(), rollout["waves"][0]["confirmed"].as_u64()), (Some(1), Some(1)), "{rollout:#}");
    // The approval is the only thing that was missing.
    desk.approve("vla-1", "1.0.0", "cn");
    others[0].start(server.url()).until_confirmed();
}

#[test]
fn a_paused_rollout_offers_nothing_and_goes_on_after_a_resume() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    let id = desk.roll_out("vla-1", "1.0.0").to_string();
    desk.succeed(&["rollout", "pause", &id, "--reason", "rain in the mountains"], &[]);
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(server.url());
    car.until_checked();
    assert!(car.active().is_none());
    desk.succeed(&["rollout", "resume", &id, "--note", "the sun is out"], &[]);
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
}

#[test]
fn an_unknown_vehicle_and_a_used_token_are_turned_away() {
    let server = Server::start();
    let desk = Desk::open(&server);
    let stranger = Garage::unknown(&desk, "x-1", "ultra", "eu");
    let reason = stranger.start(server.url()).until(|event| event.reason.is_some()).reason.unwrap();
    assert_eq!(reason.name, "request_refused", "{reason:?}");
    assert!(reason.text.contains("no vehicle x-1 is enrolled here"), "{reason:?}");

    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    garage.start(server.url()).until_checked();
    // A thief with the same token and another key.
    std::fs::remove_dir_all(garage.store()).unwrap();
    std::fs::create_dir(garage.store()).unwrap();
    let event = garage.start(server.url()).until(|event| event.reason.is_some());
    assert_eq!(event.kind, EventKind::EnrollmentFailed, "{event:?}");
    assert!(event.reason.as_ref().unwrap().text.contains("token"), "{event:?}");
}
