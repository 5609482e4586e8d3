//! The network and the server misbehave, or the candidate does. The vehicle drives on and says what it saw.

use switchback_sdk::vehicle::EventKind;
use switchback_signing::metadata::vehicle::UpdateState;
use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    proxy::{Fate, Proxy, Request},
    server::Server,
};

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

/// Several chunks' worth of weights.
const WEIGHTS: usize = 3 << 20;

fn of_bundle(request: &Request) -> bool {
    request.path.ends_with(".tar.zst")
}

struct Road {
    server: Server,
    desk: Desk,
    proxy: Proxy,
    garage: Garage,
}

impl Road {
    fn new() -> Self {
        let server = Server::start();
        let desk = Desk::open(&server);
        let proxy = Proxy::start(server.url()).unwrap();
        let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
        Self { server, desk, proxy, garage }
    }
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let road = Road::new();
    road.desk.release(&Straight { weights: WEIGHTS, ..Straight::default() }.write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    road.proxy.set_rule(|request| if of_bundle(request) && request.repeat == 0 { Fate::CutBody(900_000) } else { Fate::Pass });
    let mut car = road.garage.start(road.proxy.url());
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
    let ranges: Vec<Option<u64>> =
        road.proxy.requests().iter().filter(|request| of_bundle(request)).map(|request| request.range_from).collect();
    assert!(ranges.len() >= 2 && ranges[1].is_some_and(|from| from > 0), "{ranges:?}");
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_download_costs_nothing_but_time() {
    let mut road = Road::new();
    road.desk.release(&Straight { weights: WEIGHTS, ..Straight::default() }.write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    road.proxy.set_rule(|request| if of_bundle(request) { Fate::CutBody(700_000) } else { Fate::Pass });
    let mut car = road.garage.start(road.proxy.url());
    car.until(|event| event.kind == EventKind::DownloadPaused);
    road.server.kill();
    road.server.restart();
    road.proxy.set_rule(|_| Fate::Pass);
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
}

#[test]
fn a_bundle_that_is_altered_on_the_way_never_reaches_a_decoder_and_the_next_try_succeeds() {
    let road = Road::new();
    road.desk.release(&Straight { weights: WEIGHTS, ..Straight::default() }.write(), FIRST);
    road.desk.roll_out_until("vla-1", "1.0.0", 100);
    road.proxy.set_rule(|request| if of_bundle(request) { Fate::FlipBit(1000) } else { Fate::Pass });
    let mut car = road.garage.start(road.proxy.url());
    let event = car.until(|event| event.reason.is_some());
    let reason = event.reason.unwrap();
    assert_eq!(reason.name, "chunk_hash", "{reason:?}");
    assert!(!car.output.control_valid, "an altered bundle drives nothing");
    road.proxy.set_rule(|_| Fate::Pass);
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
}

#[test]
fn a_bundle_that_is_shorter_on_the_server_than_signed_installs_nothing_and_the_whole_one_does() {
    let road = Road::new();
    road.desk.release(&Straight::new(0.001).write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    let mut car = road.garage.start(road.server.url());
    car.until_confirmed();
    let bundle = road.desk.release(&Straight { weights: WEIGHTS, ..Straight::new(0.002) }.write(), SECOND);
    let whole = std::fs::read(&bundle.bundle).unwrap();
    let stored = road.server.stored("vla-2-2.0.0.tar.zst");
    let half = whole.len() / 2;
    std::fs::OpenOptions::new().write(true).open(&stored).unwrap().set_len(half as u64).unwrap();
    let id = road.desk.roll_out("vla-2", "2.0.0");

    let reason = car.until(|event| event.kind == EventKind::DownloadPaused).reason.unwrap();
    assert_eq!(reason.name, "wrong_range", "{reason:?}");
    assert!(reason.text.contains(&half.to_string()) && reason.text.contains(&whole.len().to_string()), "{reason:?}");
    assert_eq!((car.active().as_deref(), car.curvatures.as_slice()), (Some("vla-1 1.0.0"), [0.001].as_slice()));
    std::fs::write(&stored, whole).unwrap();
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    assert_eq!((car.frames_lost, road.desk.rollout(id)["state"].as_str()), (0, Some("running")), "the release is not to blame");
}

#[test]
fn an_unreachable_server_stops_no_vehicle() {
    let mut road = Road::new();
    road.desk.release(&Straight::new(0.001).write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    let mut car = road.garage.start(road.server.url());
    car.until_confirmed();
    road.server.kill();
    let reason = car.until(|event| event.kind == EventKind::CheckFailed).reason.unwrap();
    assert_eq!(reason.name, "server_unreachable", "{reason:?}");
    assert!(reason.text.contains("127.0.0.1"), "{reason:?}");
    (0..50).for_each(|_| car.frame());
    assert_eq!(car.frames_lost, 0);
    road.server.restart();
    car.until(|event| event.kind == EventKind::Checked);
}

#[test]
fn a_model_that_fails_in_its_trial_is_replaced_within_the_same_step_and_its_rollout_pauses_itself() {
    let road = Road::new();
    road.desk.release(&Straight::new(0.001).write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    let mut car = road.garage.start(road.server.url());
    car.until_confirmed();

    // Healthy in the self-test and in shadow; not a number after twenty-five steps, in the middle of its trial.
    let trial = vec![("/acceptance/trial_frames", 1000.into())];
    let broken = Straight { curvature_1pm: 0.002, not_finite_from: Some(25), contract: trial, ..Straight::default() };
    road.desk.release(&broken.write(), SECOND);
    let id = road.desk.roll_out("vla-2", "2.0.0");
    let reason = car.until_failed();
    assert_eq!(reason.name, "output_not_finite", "{reason:?}");
    assert_eq!((car.frames_lost, car.fell_back), (0, 1));
    assert_eq!(car.curvatures, [0.001, 0.002, 0.001]);
    assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"));

    car.until_checked();
    let rollout = road.desk.rollout(id);
    assert_eq!((rollout["state"].as_str(), rollout["waves"][0]["failed"].as_u64()), (Some("paused"), Some(1)), "{rollout:#}");
    assert!(rollout["waves"][0]["reasons"].to_string().contains("output_not_finite"), "{rollout:#}");
    // Told off once, it is not tried again, not even after the next ignition.
    drop(car);
    let mut car = road.garage.start(road.server.url());
    car.until_checked();
    assert_eq!(car.curvatures, [0.001]);
}

#[test]
fn a_model_that_steers_elsewhere_is_refused_in_shadow_and_never_drives() {
    let road = Road::new();
    road.desk.release(&Straight::new(0.001).write(), FIRST);
    road.desk.roll_out("vla-1", "1.0.0");
    let mut car = road.garage.start(road.server.url());
    car.until_confirmed();
    // Outside its own envelope: 0.1 per meter at 10 m/s are 10 m/s2 of lateral acceleration.
    road.desk.release(&Straight::new(0.1).write(), SECOND);
    road.desk.roll_out("vla-2", "2.0.0");
    let reason = car.until_failed();
    assert_eq!(reason.name, "shadow_failed", "{reason:?}");
    assert_eq!((car.frames_lost, car.curvatures.as_slice()), (0, [0.001].as_slice()));
    assert_eq!(car.status().update, UpdateState::Refused);
}
