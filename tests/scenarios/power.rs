//! The vehicle's program is killed at every stage of an update and at random instants, as power loss would.

use std::{
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use switchback_tests::{
    car::Garage,
    desk::{Desk, Named},
    model::{Straight, noise},
    server::Server,
    vehicle::VehicleProgram,
};
use tempfile::TempDir;

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
    let before = TempDir::new().unwrap();
    copy(garage.store(), before.path());

    let second = Straight { weights: 3 << 20, ..Straight::new(0.002) };
    desk.release(&second.write(), Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
    desk.roll_out("vla-2", "2.0.0");
    // And what the next start must tell of it: that stage was cut off, or the one after it, where a fast machine is done with it before the kill.
    let stages: [(&str, &[&str]); 7] = [
        ("offered", &[]),
        ("downloading", &["DownloadInterrupted", "LeftoversRemoved"]),
        ("staged", &["LoadInterrupted", "ShadowInterrupted"]),
        ("self-tested", &["ShadowInterrupted", "TrialInterrupted"]),
        ("shadow", &["ShadowInterrupted", "TrialInterrupted"]),
        ("armed", &[]),
        ("trial", &["TrialInterrupted"]),
    ];
    for (stage, expected) in stages {
        let kill = || {
            // Each stage on a disk of its own: the third cut-off of one kind in a row gives the release up, as it must.
            restore(before.path(), &garage);
            let mut program = VehicleProgram::start(&garage, server.url(), "2.0.0");
            program.until(stage, "");
            program.kill();

            let begun = Instant::now();
            let mut car = garage.start(NOWHERE);
            println!("killed while {stage}: the first frame after the next start was answered within {:?}", begun.elapsed());
            assert!(car.output.control_valid, "killed while {stage}: {:?} {:#?}", car.output.faults, car.status());
            assert_eq!(car.active().as_deref(), Some("vla-1 1.0.0"), "killed while {stage}");
            format!("{:?}", car.found())
        };
        // A stage may be over when the kill arrives, or not have touched the disk.
        let told =
            (0..KILLS_IN_ONE_STAGE).map(|_| kill()).any(|found| expected.is_empty() || expected.iter().any(|one| found.contains(one)));
        assert!(told, "killed {KILLS_IN_ONE_STAGE} times while {stage}, and the next start never told of {expected:?}");
    }
    let mut program = VehicleProgram::start(&garage, server.url(), "2.0.0");
    program.until("confirmed", "");
    program.kill();
    assert_eq!(garage.start(NOWHERE).active().as_deref(), Some("vla-2 2.0.0"), "what was confirmed is never lost");
}

/// Kills after which it is no bad luck any more that none of them hit its stage.
const KILLS_IN_ONE_STAGE: usize = 20;

/// Kills in one run of the test; `SWITCHBACK_KILLS=500` makes it a long one.
const KILLS: usize = 20;

/// The third load or trial in a row that is cut off gives the release up, as it must: see `sdk/tests`. So each disk sees two kills.
const KILLS_IN_ONE_UPDATE: usize = 2;

#[test]
fn a_vehicle_that_is_killed_at_random_instants_of_an_update_starts_on_a_complete_model_and_finishes_the_update() {
    let kills = number("SWITCHBACK_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = number("SWITCHBACK_SEED").unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    println!("the same instants again: SWITCHBACK_SEED={seed} SWITCHBACK_KILLS={kills}");
    let server = Server::start();
    let desk = Desk::open(&server);
    desk.release(&Straight::new(0.001).write(), Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" });
    desk.roll_out("vla-1", "1.0.0");
    let garage = Garage::new(&desk, "p7-1", "ultra", "eu");
    VehicleProgram::start(&garage, server.url(), "1.0.0").until_reached();
    let before = TempDir::new().unwrap();
    copy(garage.store(), before.path());

    let second = Straight { weights: 3 << 20, ..Straight::new(0.002) };
    desk.release(&second.write(), Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" });
    desk.roll_out("vla-2", "2.0.0");
    let started = Instant::now();
    VehicleProgram::start(&garage, server.url(), "2.0.0").until_reached();
    let undisturbed = started.elapsed();

    // A quarter more than an update takes on this machine now, so that the end of it is hit as well.
    let instants = noise(seed, 2 * kills)
        .chunks(2)
        .map(|two| undisturbed.mul_f64(f64::from(u16::from_le_bytes([two[0], two[1]])) / 52_429.0))
        .collect::<Vec<_>>();
    for instants in instants.chunks(KILLS_IN_ONE_UPDATE) {
        restore(before.path(), &garage);
        let mut drives = String::new();
        for (kill, instant) in instants.iter().enumerate() {
            let mut program = VehicleProgram::start(&garage, server.url(), "2.0.0");
            program.run_for(*instant);
            program.kill();
            let when = format!("seed {seed}, kill {kill} at {instant:?}, after\n{}", program.told().join("\n"));
            drives = starts_on_a_complete_model(&garage, &when);
            assert!(drives == "vla-2 2.0.0" || !program.has_told("confirmed"), "what was confirmed was lost: {when}");
        }
        if drives == "vla-1 1.0.0" {
            let summary = VehicleProgram::start(&garage, server.url(), "2.0.0").until_reached();
            assert_eq!((&summary["model"], &summary["invalid_frames"]), (&"vla-2".into(), &0.into()), "seed {seed}: {summary:#}");
        }
    }
}

/// The next ignition, with nobody to ask: the first frame is answered, by the model that says so.
fn starts_on_a_complete_model(garage: &Garage, when: &str) -> String {
    let car = garage.start(NOWHERE);
    assert!(car.output.control_valid, "{when}: {:?} {:#?}", car.output.faults, car.status());
    let drives = car.active().unwrap();
    let curvature_1pm = match drives.as_str() {
        "vla-1 1.0.0" => 0.001,
        "vla-2 2.0.0" => 0.002,
        other => panic!("{other} drives: {when}"),
    };
    assert_eq!(car.curvatures, [curvature_1pm], "{drives}: {when}");
    drives
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// The disk as it was.
fn restore(before: &Path, garage: &Garage) {
    std::fs::remove_dir_all(garage.store()).unwrap();
    copy(before, garage.store());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
