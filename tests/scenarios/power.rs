//! The vehicle's program is killed at every stage of an update, as power loss would.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use switchback_tests::{
    car::Garage,
    desk::{Desk, HARDWARE, Named},
    model::Straight,
    programs::program,
    server::Server,
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
        let mut program = Program::start(&desk, &garage, server.url());
        program.read_until(stage);
        program.child.kill().unwrap();
        program.child.wait().unwrap();

        let car = garage.start(NOWHERE);
        assert!(car.output.control_valid, "killed while {stage}: {:?} {:#?}", car.output.faults, car.status());
        assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"), "killed while {stage}");
    }
    let mut program = Program::start(&desk, &garage, server.url());
    program.read_until("confirmed");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert_eq!(garage.start(NOWHERE).active().as_deref(), Some("vla-2 2.0.0"), "what was confirmed is never lost");
}

/// The example vehicle as a process, on the disk of a garage.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(desk: &Desk, garage: &Garage, server: &str) -> Self {
        let mut child = Command::new(program("rust-vehicle"))
            .args(["--vehicle-id", "p7-1", "--ecu-serial", "ecu-p7-1", "--hardware-id", HARDWARE, "--tier", "ultra", "--region", "eu"])
            .args(["--activate", "now", "--poll-ms", "200", "--seconds", "120", "--server", server])
            .arg("--store")
            .arg(garage.store())
            .arg("--director-root")
            .arg(desk.director_root())
            .arg("--image-root")
            .arg(desk.image_root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads events until one of this name; the program ends by itself when it never comes.
    fn read_until(&mut self, event: &str) {
        let mut told = String::new();
        while self.lines.read_line(&mut told).unwrap() > 0 {
            if told.lines().last().is_some_and(|line| line.split_whitespace().any(|word| word == event)) {
                return;
            }
        }
        panic!("the vehicle never said {event:?}, but:\n{told}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
