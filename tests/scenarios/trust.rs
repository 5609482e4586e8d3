//! What is not meant for a vehicle, or not fresh, or not signed, is refused by name.

use switchback_sdk::vehicle::{EventKind, VehicleCallbacks};
use switchback_tests::{
    car::{Car, Garage},
    desk::{Desk, Named},
    model::Straight,
    proxy::{Fate, Proxy},
    server::Server,
};

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };

fn road() -> (Server, Desk) {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    desk.roll_out_until("vla-1", "1.0.0", 100);
    (server, desk)
}

#[test]
fn a_release_for_another_tier_is_refused_by_the_vehicle_even_when_the_director_assigns_it() {
    let (server, desk) = road();
    // The Director takes it for an Ultra; what it was built as is decided in the vehicle.
    let garage = Garage::new(&desk, "se-1", "ultra", "eu").with_tier("ultra-se");
    let mut car = garage.start(server.url());
    let reason = car.until_failed();
    assert!(reason.text.contains("tier ultra") && reason.text.contains("ultra-se"), "{reason:?}");
    assert!(car.active().is_none());
}

#[test]
fn a_timestamp_that_is_older_than_the_trusted_one_is_refused_as_a_rollback() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(proxy.url());
    car.until_confirmed();
    let path = "/v1/director/p7-1/metadata/timestamp.json";
    let old = proxy.recorded(path);
    desk.release(&Straight::new(0.002).write(), Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
    desk.roll_out("vla-2", "2.0.0");
    car.until_confirmed();
    proxy.set_rule(move |request| if request.path == path { Fate::Answer(200, old.clone()) } else { Fate::Pass });
    let reason =
        car.until(|event| matches!(event.kind, EventKind::NotBelieved | EventKind::CheckFailed) || event.reason.is_some()).reason.unwrap();
    assert!(reason.text.contains("older than the trusted version"), "{reason:?}");
    assert_eq!(car.active().as_deref(), Some("vla-2 2.0.0"));
    proxy.set_rule(|_| Fate::Pass);
    car.until(|event| event.kind == EventKind::Checked);
}

#[test]
fn expired_metadata_is_refused_and_the_vehicle_says_what_has_expired() {
    let (server, desk) = road();
    let proxy = Proxy::start(server.url()).unwrap();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    garage.start(proxy.url()).until_confirmed();
    // Two years later, and the network brings nothing newer.
    proxy.set_rule(|request| if request.path.contains(".root.json") { Fate::Answer(404, Vec::new()) } else { Fate::Pass });
    let later = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 + 2 * 365 * 86_400;
    let callbacks = VehicleCallbacks { clock: Some(Box::new(move || later)), ..VehicleCallbacks::default() };
    let mut car = Car::open(garage.config(proxy.url()), callbacks).unwrap();
    let reason = car.until(|event| event.reason.is_some()).reason.unwrap();
    assert!(reason.text.contains("root expired at"), "{reason:?}");
    assert!(car.output.control_valid, "the confirmed model drives on: {:?} {:#?}", car.output.faults, car.status());
}

#[test]
fn one_altered_byte_in_any_metadata_file_is_refused() {
    let (server, desk) = road();
    for file in ["timestamp.json", "snapshot.json", "targets.json", "vla-ultra.json", ".index"] {
        let proxy = Proxy::start(server.url()).unwrap();
        let garage = Garage::new(&desk, &format!("p7-{}", file.replace('.', "-").trim_start_matches('-')), "ultra", "eu");
        proxy.set_rule(move |request| if request.path.ends_with(file) { Fate::FlipBit(40) } else { Fate::Pass });
        let mut car = garage.start(proxy.url());
        let event = car.until(|event| event.reason.is_some());
        assert!(car.active().is_none(), "{file}: {event:?}");
        proxy.set_rule(|_| Fate::Pass);
        assert_eq!(car.until_confirmed(), "vla-1 1.0.0", "{file}");
    }
}

#[test]
fn a_vehicle_with_something_else_than_a_root_as_its_anchor_does_not_open() {
    let (server, desk) = road();
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut config = garage.config(server.url());
    config.anchors.image_root = b"\x7fELF".to_vec();
    let error = Car::open(config, VehicleCallbacks::default()).err().unwrap();
    assert_eq!(error.number(), 600);
    assert!(error.to_string().starts_with("anchors: Image repository: root.json"), "{error}");
}
