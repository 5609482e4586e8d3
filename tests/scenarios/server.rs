//! The server dies, and knows everything afterwards.

use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    server::Server,
};

#[test]
fn everything_that_was_acknowledged_survives_a_kill() {
    let mut server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" });
    let id = desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    let mut car = garage.start(server.url());
    car.until_confirmed();
    car.until_checked();
    let (rollout, vehicle) = (desk.rollout(id), desk.vehicle("p7-1"));
    assert_eq!((&rollout["waves"][0]["confirmed"], &vehicle["installed"]["path"]), (&1.into(), &"ultra/vla-1-1.0.0.index".into()));
    server.kill();
    server.restart();
    assert_eq!(desk.rollout(id)["waves"], rollout["waves"]);
    assert_eq!(desk.vehicle("p7-1")["installed"], vehicle["installed"]);
    car.until_checked();
}
