//! A vehicle with a camera unit beside its driving computer: signed, published, rolled out, installed and reported by the real programs.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};
use switchback_sdk::vehicle::{ModelledSecondary, SecondaryIdentity, TrustAnchors, VehicleCallbacks};
use switchback_tests::{
    PATIENCE,
    car::{Car, Garage},
    desk::{Desk, Named},
    model::Straight,
    server::Server,
};
use tempfile::TempDir;

const FIRST: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const SECOND: Named<'static> = Named { model: "vla-2", version: "2.0.0", counter: 2, tier: "ultra" };

/// A camera unit of the vehicle, with a disk of its own.
fn camera(desk: &Desk, vehicle_id: &str, disk: &Path) -> ModelledSecondary {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let anchors = TrustAnchors { director_root: read(&desk.director_root()), image_root: read(&desk.image_root()) };
    let identity = SecondaryIdentity {
        vehicle_id: vehicle_id.into(),
        ecu_serial: format!("cam-{vehicle_id}"),
        hardware_id: "cam-a".into(),
        tier: "ultra".into(),
        region: "eu".into(),
    };
    ModelledSecondary::open(disk, &identity, &anchors).unwrap()
}

fn start(garage: &Garage, url: &str, camera: ModelledSecondary) -> Car {
    let callbacks = VehicleCallbacks { secondaries: vec![Box::new(camera)], ..VehicleCallbacks::default() };
    Car::open(garage.config(url), callbacks).unwrap()
}

fn calibration(folder: &TempDir, number: u32) -> std::path::PathBuf {
    let path = folder.path().join(format!("cam-a-{number}.cal"));
    std::fs::write(&path, format!("calibration {number}")).unwrap();
    path
}

/// What the server says about a vehicle's camera as soon as it says so.
fn camera_until(desk: &Desk, car: &mut Car, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let camera = desk.vehicle(id)["secondaries"][0].clone();
        if wanted(&camera) {
            return camera;
        }
        assert!(begun.elapsed() < PATIENCE, "the camera came to nothing else than {camera:#}");
        car.frame();
    }
}

#[test]
fn a_release_and_the_calibration_that_it_needs_reach_the_two_ecus_of_a_vehicle_together() {
    let (server, files) = (Server::start(), TempDir::new().unwrap());
    let desk = Desk::open(&server);
    desk.release_with(&Straight::new(0.001).write(), FIRST, &[("cam-a", &calibration(&files, 1))]);
    desk.roll_out("vla-1", "1.0.0");
    let (garage, disk) = (Garage::new(&desk, "p7-1", "ultra", "eu"), TempDir::new().unwrap());
    let mut car = start(&garage, server.url(), camera(&desk, "p7-1", disk.path()));
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
    let known = camera_until(&desk, &mut car, "p7-1", |camera| camera["installed"]["update"] == "confirmed");
    assert_eq!((&known["ecu_serial"], &known["installed"]["path"]), (&json!("cam-p7-1"), &json!("ultra/cam-a-1.cal")));
    assert_eq!(known["trouble"], Value::Null);

    desk.release_with(&Straight::new(0.002).write(), SECOND, &[("cam-a", &calibration(&files, 2))]);
    let rollout = desk.roll_out("vla-2", "2.0.0");
    // A vehicle without a camera is not kept from the release by what cameras need.
    let alone = Garage::new(&desk, "p7-2", "ultra", "eu");
    let mut alone = alone.start(server.url());
    assert_eq!(alone.until_confirmed(), "vla-2 2.0.0");
    assert_eq!(car.until_confirmed(), "vla-2 2.0.0");
    camera_until(&desk, &mut car, "p7-1", |camera| camera["installed"]["path"] == "ultra/cam-a-2.cal");
    let status = desk.rollout_until(rollout, |rollout| rollout["gate"]["confirmed"] == 2);
    assert_eq!(status["gate"]["failed"], 0, "{status:#}");
    assert_eq!((car.frames_lost, alone.frames_lost), (0, 0));
    drop((car, alone));
    let camera = camera(&desk, "p7-1", disk.path());
    assert_eq!(camera.running().unwrap().as_deref(), Some(&b"calibration 2"[..]));
}

#[test]
fn a_file_for_a_tier_brings_both_ecus_what_belongs_together() {
    let (server, files) = (Server::start(), TempDir::new().unwrap());
    let desk = Desk::open(&server);
    desk.release_with(&Straight::new(0.001).write(), FIRST, &[("cam-a", &calibration(&files, 1))]);
    let file = files.path().join("ultra-eu.tar");
    let words = ["offline", "create", "--model", "vla-1", "--version", "1.0.0", "--tier", "ultra", "--region", "eu"];
    desk.succeed(&words, &[("--out", &file)]);
    // The server has never heard of this vehicle, and nobody listens where it looks for one.
    let (garage, disk) = (Garage::unknown(&desk, "p7-9", "ultra", "eu"), TempDir::new().unwrap());
    let mut car = start(&garage, "http://127.0.0.1:9", camera(&desk, "p7-9", disk.path()));
    car.install_offline(&file);
    assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
    drop(car);
    let camera = camera(&desk, "p7-9", disk.path());
    assert_eq!(camera.running().unwrap().as_deref(), Some(&b"calibration 1"[..]));
}
