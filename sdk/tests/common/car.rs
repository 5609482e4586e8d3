//! A whole vehicle in a test: its configuration, its program that drives and looks on, and its disk after a power cut.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::server::Server;
use super::{PATIENCE, SPEED_MPS};
use switchback_sdk::drive::{DriveInput, DriveOutput, DriverState, EgoState, Mode, Route};
use switchback_sdk::vehicle::{Driver, Event, EventKind, Identity, Vehicle, VehicleCallbacks, VehicleConfig};
use switchback_signing::metadata::vehicle::UpdateState;
use switchback_signing::testing::{NOW, identity};
use tempfile::TempDir;

/// A vehicle that drives at the pace of its machine.
pub(crate) struct Car {
    pub(crate) vehicle: Vehicle,
    pub(crate) driver: Driver,
    pub(crate) mode: Mode,
    pub(crate) speed_mps: f32,
    pub(crate) sequence: u64,
    pub(crate) output: DriveOutput,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn config(server: &Server, store: &Path) -> VehicleConfig {
    let known = identity();
    let identity = Identity {
        vehicle_id: known.vehicle_id.to_string(),
        ecu_serial: known.ecu_serial.to_string(),
        hardware_id: known.hardware_id.to_string(),
        tier: known.tier.to_string(),
        region: known.region.to_string(),
    };
    let mut config = VehicleConfig::new(store, "https://server", server.lock().repositories.anchors(), identity);
    config.transport = Some(Arc::new(server.clone()));
    config.enrollment_token = Some("one-time".into());
    config
}

pub(crate) fn callbacks() -> VehicleCallbacks {
    VehicleCallbacks { clock: Some(Box::new(|| NOW.seconds())), ..VehicleCallbacks::default() }
}

impl Car {
    pub(crate) fn open(server: &Server, store: &Path) -> Self {
        Self::open_with(config(server, store), callbacks())
    }

    pub(crate) fn open_with(config: VehicleConfig, callbacks: VehicleCallbacks) -> Self {
        let (vehicle, driver) = Vehicle::open(config, callbacks).expect("sdk/onnx/get-onnxruntime.sh provides the library");
        Self { vehicle, driver, mode: Mode::Standby, speed_mps: SPEED_MPS, sequence: 0, output: DriveOutput::default(), events: Vec::new() }
    }

    pub(crate) fn step(&mut self) -> &DriveOutput {
        self.sequence += 1;
        let time_ns = 1_000_000_000 + self.sequence as i64 * super::STEP_NS;
        let input = DriveInput {
            sequence: self.sequence,
            time_ns,
            cameras: &[],
            ego: EgoState { time_ns, speed_mps: self.speed_mps, ..EgoState::default() },
            route: Route::default(),
            driver: DriverState::default(),
            signals: &[],
            requested_mode: self.mode,
        };
        self.driver.step(&input, &mut self.output);
        &self.output
    }

    /// Drives until an event that `wanted` accepts, and hands every output to `look`.
    pub(crate) fn drive_until(&mut self, wanted: impl Fn(&EventKind) -> bool, mut look: impl FnMut(&DriveOutput)) -> Event {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(event) = self.vehicle.wait_event(Duration::from_millis(3)) {
                self.events.push(event.clone());
                if wanted(&event.kind) {
                    return event;
                }
                continue;
            }
            look(self.step());
        }
        panic!("no such event; the vehicle is {:#?}\nafter {:#?}", self.vehicle.status(), self.events);
    }

    pub(crate) fn reach(&mut self, state: UpdateState) -> Event {
        self.drive_until(|kind| *kind == EventKind::Update(state), |_| {})
    }

    pub(crate) fn states(&self) -> Vec<UpdateState> {
        let state = |event: &Event| match event.kind {
            EventKind::Update(state) => Some(state),
            _ => None,
        };
        self.events.iter().filter_map(state).collect()
    }

    /// Drives until the server holds a report that `wanted` accepts.
    pub(crate) fn until_reported(&mut self, server: &Server, wanted: impl Fn(UpdateState) -> bool) {
        self.drive_while(|| !server.reports().iter().any(|report| wanted(report.payload.update)));
    }

    /// Drives for as long as `waiting` says so; events are kept.
    pub(crate) fn drive_while(&mut self, waiting: impl Fn() -> bool) {
        let begun = Instant::now();
        while waiting() {
            assert!(begun.elapsed() < PATIENCE, "the vehicle is {:#?}\nafter {:#?}", self.vehicle.status(), self.events);
            self.step();
            if let Some(event) = self.vehicle.wait_event(Duration::from_millis(3)) {
                self.events.push(event);
            }
        }
    }

    pub(crate) fn model(&self) -> Option<String> {
        self.vehicle.status().active.map(|active| active.release.model)
    }
}

/// What a power cut leaves: the store as it is at this moment, on another disk.
///
/// The vehicle may go on writing meanwhile, so the records come before the slots: a disk on which more is written than the records
/// say is one that a power cut can leave, the reverse is not.
pub(crate) fn power_cut(store: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(|entry| (entry.file_type().unwrap().is_dir(), entry.file_name()));
        for entry in entries {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else if let Err(error) = std::fs::copy(entry.path(), target) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}: only what was removed meanwhile may be missing");
            }
        }
    }
    let disk = tempfile::tempdir().unwrap();
    copy(store, disk.path());
    disk
}
