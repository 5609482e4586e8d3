//! Keys change while the fleet drives.

use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    server::Server,
};

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

/// One car drives through the rotation, one is parked during it, and one leaves the factory with the roots of before.
#[test]
fn vehicles_go_on_updating_when_the_servers_online_keys_are_replaced() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    desk.roll_out("vla-1", "1.0.0");
    let [driving, parked] = ["p7-1", "p7-2"].map(|id| Garage::new(&desk, id, "ultra", "eu"));
    let mut car = driving.start(server.url());
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
    let mut other = parked.start(server.url());
    assert_eq!(other.until_confirmed(), "vla-1 1.0.0");
    drop(other);

    let held = |base: &std::path::Path| desk.succeed(&["status"], &[("--base", base)])["server"]["director"]["roles"]["targets"].clone();
    let before = held(&desk.base());
    desk.rotate_online_keys(&[]);
    let after = held(&desk.base());
    assert_eq!((before["held"][0]["use"].as_str(), after["held"][0]["use"].as_str()), (Some("signs"), Some("signs")));
    assert_ne!(before["named"], after["named"]);
    car.until_checked();

    desk.release(&Straight::new(0.002).write(), SECOND);
    desk.roll_out("vla-2", "2.0.0");
    let new = Garage::new(&desk, "p7-3", "ultra", "eu");
    for car in [&mut car, &mut parked.start(server.url()), &mut new.start(server.url())] {
        assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
        assert_eq!(car.frames_lost, 0);
    }
    let sets = desk.succeed(&["status"], &[("--base", &desk.base())])["server"]["sets"].clone();
    assert_eq!((&sets["vehicles"], &sets["by_other_keys"]), (&3.into(), &0.into()));
}

/// From the moment of publication on: also for a vehicle that was assigned the release and has not asked since.
#[test]
fn a_release_of_a_tier_that_was_removed_is_offered_to_nobody_and_nobody_takes_that_for_an_attack() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), FIRST);
    desk.roll_out("vla-1", "1.0.0");
    let [driving, new] = ["p7-1", "p7-2"].map(|id| Garage::new(&desk, id, "ultra", "eu"));
    let mut car = driving.start(server.url());
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");

    desk.succeed(&["targets", "remove-tier", "--tier", "ultra"], &[("--base", &desk.base())]);
    for key in ["alice", "bob"] {
        desk.succeed(&["targets", "sign", "--key", key], &[("--base", &desk.base())]);
    }
    desk.publish();
    let mut late = new.start(server.url());
    for (car, drives) in [(&mut car, Some("vla-1 1.0.0")), (&mut late, None)] {
        car.until_checked();
        assert_eq!((car.active().as_deref(), car.status().reason), (drives, None));
    }
    assert_eq!(desk.vehicle("p7-1")["attacks"], serde_json::json!([]));
}
