//! A vehicle with a camera unit beside the driving computer: model and calibration change together or not at all.

use std::path::Path;

use switchback_sdk::vehicle::{EventKind, VehicleCallbacks, VehicleError};
use switchback_signing::digest::Sha256Digest;
use switchback_signing::metadata::vehicle::UpdateState::{self, Confirmed, Downloading, Refused, RolledBack, Shadow, Trial};
use tempfile::TempDir;

use super::better;
use crate::common::camera::{Broken, Camera};
use crate::common::car::{Car, callbacks, config, power_cut};
use crate::common::server::Server;
use crate::common::stick;
use crate::common::{From, Road, SPEED_BREAKS_MPS};

/// A vehicle with a camera, each with its own disk.
struct Vehicle {
    server: Server,
    store: TempDir,
    camera_disk: TempDir,
    camera: Camera,
    car: Car,
}

fn with_camera(camera: &Camera) -> VehicleCallbacks {
    VehicleCallbacks { secondaries: vec![Box::new(camera.clone())], ..callbacks() }
}

fn open(server: &Server, store: &Path, camera_disk: &Path) -> (Camera, Car) {
    let anchors = server.lock().repositories.anchors();
    let camera = Camera::open(camera_disk, &anchors);
    let car = Car::open_with(config(server, store), with_camera(&camera));
    (camera, car)
}

/// Release 1 drives with calibration 1.
fn driving() -> Vehicle {
    let (server, store, camera_disk) = (Server::default(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    server.release_with(&Road::default(), 1, b"calibration 1");
    let (camera, mut car) = open(&server, store.path(), camera_disk.path());
    car.reach(Confirmed);
    car.until_reported(&server, |state| state == Confirmed);
    assert_eq!(camera.running().as_deref(), Some("calibration 1"));
    Vehicle { server, store, camera_disk, camera, car }
}

impl Vehicle {
    fn runs(&self, model: &str, calibration: &str) {
        assert_eq!((self.car.model().as_deref(), self.camera.running().as_deref()), (Some(model), Some(calibration)));
    }

    /// Drives until the camera's report says this about itself.
    fn until_camera_says(&mut self, said: impl Fn(UpdateState, Option<Sha256Digest>) -> bool) {
        let server = self.server.clone();
        self.car.drive_while(|| {
            let reports = &server.lock().secondary_reports;
            !reports.iter().any(|report| said(report.payload.update, report.installed.as_ref().map(|image| image.sha256)))
        });
    }

    /// Both are switched off and on again, with what is on their disks.
    fn restart(self) -> Self {
        let Self { server, store, camera_disk, camera, car } = self;
        drop((car, camera));
        let (camera, car) = open(&server, store.path(), camera_disk.path());
        Self { server, store, camera_disk, camera, car }
    }
}

#[test]
fn model_and_calibration_change_together_and_each_ecu_reports() {
    let mut vehicle = driving();
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Shadow);
    // Staged, and nothing else yet.
    assert_eq!(vehicle.camera.running().as_deref(), Some("calibration 1"));
    vehicle.car.reach(Trial);
    assert_eq!(vehicle.camera.running().as_deref(), Some("calibration 2"));
    vehicle.car.reach(Confirmed);
    vehicle.runs("vla-2", "calibration 2");
    vehicle.until_camera_says(|state, image| state == Confirmed && image == Some(Sha256Digest::of(b"calibration 2")));
    let state = vehicle.server.lock();
    assert_eq!(state.secondaries[0].ecu_serial.as_str(), "cam-1");
    let on_trial = state.secondary_reports.iter().rfind(|report| report.payload.update == Trial).unwrap();
    assert_eq!(on_trial.installed.as_ref().unwrap().path, "ultra/cam-1.cal", "what it starts with is still the old one");
    assert!(state.silent.is_empty());
}

#[test]
fn a_file_brings_model_and_calibration_together_to_a_vehicle_without_a_network() {
    let mut vehicle = driving();
    let stick = tempfile::tempdir().unwrap();
    let file = stick.path().join("update.tar");
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    stick::write(&vehicle.server, &file);
    vehicle.server.lock().down = true;
    vehicle.camera.set_broken(&[Broken::Stage]);
    vehicle.car.vehicle.install_offline(&file).unwrap();
    let event = vehicle.car.drive_until(|kind| *kind == EventKind::Update(Refused), |_| {});
    assert_eq!(event.reason.unwrap().text, "ECU cam-1 (cam-a): flash worn out (900)");
    vehicle.runs("vla-1", "calibration 1");

    vehicle.camera.set_broken(&[]);
    vehicle.car.vehicle.install_offline(&file).unwrap();
    vehicle.car.reach(Trial);
    assert_eq!(vehicle.camera.running().as_deref(), Some("calibration 2"));
    vehicle.car.reach(Confirmed);
    vehicle.runs("vla-2", "calibration 2");
}

#[test]
fn what_the_director_assigns_meanwhile_does_not_part_the_files_model_from_its_calibration() {
    let mut vehicle = driving();
    let stick = tempfile::tempdir().unwrap();
    let file = stick.path().join("update.tar");
    let assigned = vehicle.server.lock().repositories.clone();
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    stick::write(&vehicle.server, &file);
    vehicle.server.lock().repositories = assigned;
    vehicle.car.vehicle.install_offline(&file).unwrap();
    // Nothing is new, says the Director, for whichever ECU.
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Trial);
    assert!(vehicle.car.events.iter().any(|event| event.kind == EventKind::Checked && event.reason.is_none()));
    assert_eq!(vehicle.camera.running().as_deref(), Some("calibration 2"));
    vehicle.car.reach(Confirmed);
    vehicle.runs("vla-2", "calibration 2");
}

#[test]
fn a_file_brings_a_camera_that_was_exchanged_what_it_lacks() {
    let Vehicle { server, store, car, camera, camera_disk } = driving();
    drop((car, camera, camera_disk));
    let (stick, new_disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = stick.path().join("update.tar");
    stick::write(&server, &file);
    server.lock().down = true;
    let (camera, mut car) = open(&server, store.path(), new_disk.path());
    // Before the first frame nobody knows whether the driving function is engaged.
    for _ in 0..3 {
        car.step();
    }
    car.vehicle.install_offline(&file).unwrap();
    let event = car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    assert_eq!((event.reason, camera.running().as_deref()), (None, Some("calibration 1")));
    car.vehicle.install_offline(&file).unwrap();
    let event = car.drive_until(|kind| *kind == EventKind::Checked, |_| {});
    assert_eq!(event.reason.unwrap().name, "offline_nothing_new", "the same file once more");
}

#[test]
fn a_camera_that_refuses_its_image_keeps_the_model_from_driving() {
    for (broken, expected) in [(Broken::Stage, Downloading), (Broken::Activate, Trial)] {
        let mut vehicle = driving();
        vehicle.camera.set_broken(&[broken]);
        vehicle.server.release_with(&better(), 2, b"calibration 2");
        vehicle.car.vehicle.check_now();
        let event = vehicle.car.drive_until(
            |kind| *kind == EventKind::Update(Refused),
            |output| assert_eq!(output.model.name(), "vla-1", "the camera refuses"),
        );
        let reason = event.reason.unwrap();
        assert_eq!((reason.number, reason.text.as_str()), (614, "ECU cam-1 (cam-a): flash worn out (900)"));
        assert!(!vehicle.car.states().iter().skip_while(|state| **state != Confirmed).any(|state| *state == expected));
        vehicle.runs("vla-1", "calibration 1");
        vehicle.car.until_reported(&vehicle.server, |state| state == Refused);
        let report = vehicle.server.reports().pop().unwrap();
        assert_eq!(report.payload.reason.unwrap().number, 614);

        vehicle.camera.set_broken(&[]);
        vehicle.car.vehicle.check_now();
        vehicle.car.reach(Confirmed);
        vehicle.runs("vla-2", "calibration 2");
    }
}

#[test]
fn a_camera_that_does_not_answer_is_named_and_waited_for() {
    let mut vehicle = driving();
    vehicle.camera.set_broken(&[Broken::Silent]);
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    let event = vehicle.car.drive_until(|kind| *kind == EventKind::DownloadPaused, |_| {});
    let reason = event.reason.unwrap();
    assert_eq!((reason.number, reason.text.as_str()), (615, "ECU cam-1 (cam-a): no answer: nobody on the bus (in a test)"));
    let server = vehicle.server.clone();
    vehicle.car.drive_while(|| server.lock().silent.is_empty());
    assert_eq!(server.lock().silent[0].ecu_serial.as_str(), "cam-1");
    vehicle.camera.set_broken(&[]);
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Confirmed);
    vehicle.runs("vla-2", "calibration 2");
}

#[test]
fn a_report_that_the_camera_did_not_sign_does_not_silence_the_vehicle() {
    let mut vehicle = driving();
    vehicle.camera.set_broken(&[Broken::Report]);
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Confirmed);
    let server = vehicle.server.clone();
    vehicle.car.drive_while(|| server.lock().silent.is_empty());
    let silent = server.lock().silent.last().unwrap().clone();
    assert_eq!(silent.reason.text, "no answer: its report cannot be used: its key has not signed it");
}

#[test]
fn a_model_that_is_taken_back_takes_its_calibration_with_it() {
    let mut vehicle = driving();
    vehicle.server.release_with(&better().breaking_by_speed(From::NotFinite), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Trial);
    assert_eq!(vehicle.camera.running().as_deref(), Some("calibration 2"));
    vehicle.car.speed_mps = SPEED_BREAKS_MPS;
    vehicle.car.reach(RolledBack);
    vehicle.runs("vla-1", "calibration 1");
}

#[test]
fn a_power_cut_in_the_trial_ends_it_on_both() {
    let mut vehicle = driving();
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Trial);
    let (store, camera_disk) = (power_cut(vehicle.store.path()), power_cut(vehicle.camera_disk.path()));
    let server = vehicle.server.clone();
    drop(vehicle);
    let (camera, mut car) = open(&server, store.path(), camera_disk.path());
    let before = camera.clone();
    car.drive_while(|| before.running().as_deref() != Some("calibration 1"));
    // And then it goes on, by itself, to the same end.
    car.vehicle.check_now();
    car.reach(Confirmed);
    assert_eq!((car.model().as_deref(), camera.running().as_deref()), (Some("vla-2"), Some("calibration 2")));
}

#[test]
fn a_camera_that_did_not_hear_of_the_confirmation_hears_of_it_after_the_restart() {
    let mut vehicle = driving();
    vehicle.server.release_with(&better(), 2, b"calibration 2");
    vehicle.car.vehicle.check_now();
    vehicle.car.reach(Trial);
    vehicle.camera.set_broken(&[Broken::Settle]);
    vehicle.car.reach(Confirmed);
    let mut vehicle = vehicle.restart();
    vehicle.until_camera_says(|state, image| state == Confirmed && image == Some(Sha256Digest::of(b"calibration 2")));
    vehicle.runs("vla-2", "calibration 2");
}

#[test]
fn a_camera_that_lost_its_image_is_given_it_again_while_the_model_drives_on() {
    let vehicle = driving();
    // The flash was replaced, the key is in another chip.
    let Vehicle { server, store, camera_disk, camera, car } = vehicle;
    drop((car, camera));
    let repaired = tempfile::tempdir().unwrap();
    std::fs::create_dir(repaired.path().join("keys")).unwrap();
    std::fs::copy(camera_disk.path().join("keys/vehicle.json"), repaired.path().join("keys/vehicle.json")).unwrap();
    // Its reports go on from where the server knows them.
    server.lock().secondary_reports.clear();
    let (camera, mut car) = open(&server, store.path(), repaired.path());
    let looked_at = camera.clone();
    car.drive_while(|| looked_at.running().is_none());
    assert_eq!((car.model().as_deref(), camera.running().as_deref()), (Some("vla-1"), Some("calibration 1")));
    assert!(!car.states().contains(&Downloading), "the model was not touched");
}

#[test]
fn a_vehicle_whose_camera_was_exchanged_enrolls_anew() {
    let vehicle = driving();
    let Vehicle { server, store, car, camera, camera_disk: _old } = vehicle;
    drop((car, camera));
    server.lock().secondary_reports.clear();
    let another = tempfile::tempdir().unwrap();
    let (camera, mut car) = open(&server, store.path(), another.path());
    car.drive_until(|kind| *kind == EventKind::Enrolled, |_| {});
    use switchback_sdk::vehicle::SecondaryEcu as _;
    assert_eq!(server.lock().secondaries[0], camera.identity());
    let looked_at = camera.clone();
    car.drive_while(|| looked_at.running().as_deref() != Some("calibration 1"));
    drop((car, camera, looked_at));
    // Known from now on: no token is used up again.
    server.lock().token = "another".into();
    let (_camera, car) = open(&server, store.path(), another.path());
    assert!(car.vehicle.status().enrolled);
}

#[test]
fn two_ecus_of_one_serial_are_no_vehicle() {
    let (server, store) = (Server::default(), tempfile::tempdir().unwrap());
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let anchors = server.lock().repositories.anchors();
    let cameras = [Camera::open(first.path(), &anchors), Camera::open(second.path(), &anchors)];
    let secondaries = cameras.into_iter().map(|camera| Box::new(camera) as _).collect();
    let refused = switchback_sdk::vehicle::Vehicle::open(config(&server, store.path()), VehicleCallbacks { secondaries, ..callbacks() });
    match refused {
        Err(error @ VehicleError::Config { .. }) => {
            assert_eq!(error.to_string(), "callbacks.secondaries: two ECUs of the vehicle have the serial cam-1");
        }
        other => panic!("{other:?}"),
    }
}
