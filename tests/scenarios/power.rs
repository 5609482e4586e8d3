//! The vehicle's program is killed at every stage of an update, as power loss would.

use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::Straight,
    server::Server,
    vehicle::VehicleProgram,
};

/// Nobody listens on the discard port of this machine.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn a_vehicle_that_is_killed_at_any_stage_of_an_update_starts_on_a_complete_model_and_finishes_the_update() {
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" });
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    garage.start(server.url()).until_confirmed();

    let second = Straight { weights: 3 << 20, ..Straight::new(0.002) };
    desk.release(&second.write(), Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
    desk.roll_out("vla-2", "2.0.0");
    for stage in ["offered", "downloading", "staged", "self-tested", "shadow", "armed", "trial"] {
        let mut program = VehicleProgram::start(&garage, server.url(), "2.0.0");
        program.until(stage, "");
        program.kill();

        let car = garage.start(NOWHERE);
        assert!(car.output.control_valid, "killed while {stage}: {:?} {:#?}", car.output.faults, car.status());
        assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"), "killed while {stage}");
    }
    let mut program = VehicleProgram::start(&garage, server.url(), "2.0.0");
    program.until("confirmed", "");
    program.kill();
    assert_eq!(garage.start(NOWHERE).active().as_deref(), Some("vla-2 2.0.0"), "what was confirmed is never lost");
}
