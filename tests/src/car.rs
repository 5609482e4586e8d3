//! A vehicle in this process: the real SDK on a real store, driven with made-up frames.

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use switchback_sdk::{
    drive::{CameraFrame, DriveInput, DriveOutput, DriverState, EgoState, Mode, PixelFormat, Route},
    store::Finding,
    update::ActivationPolicy,
    vehicle::{
        Driver, Event, EventKind, Identity, OfflineFileError, Status, TIMESTAMP_AGE_MAX_DEFAULT, Vehicle, VehicleCallbacks, VehicleConfig,
        VehicleError,
    },
};
use switchback_signing::{
    metadata::vehicle::{Reason, UpdateState},
    trust::TrustAnchors,
};
use tempfile::TempDir;

use crate::{
    PATIENCE,
    desk::{Desk, HARDWARE},
    proxy::{Proxy, Request},
};

/// Size of the frames; another one than that of the models' tensors, so that resizing is part of every scenario.
const WIDTH: u32 = 48;
const HEIGHT: u32 = 24;

/// What a car is built from. It outlives the car, as its disk would.
pub struct Garage {
    store: TempDir,
    anchors: (PathBuf, PathBuf),
    identity: Identity,
    token: Option<String>,
    timestamp_age_max: Duration,
}

impl Garage {
    /// A car of this tier in this region, known to the server and provisioned with both roots.
    pub fn new(desk: &Desk, id: &str, tier: &str, region: &str) -> Self {
        let token = desk.enroll(id, tier, region);
        let mut garage = Self::unknown(desk, id, tier, region);
        garage.token = Some(token);
        garage
    }

    /// As [`Garage::new`], but the server has never heard of it.
    pub fn unknown(desk: &Desk, id: &str, tier: &str, region: &str) -> Self {
        let identity = Identity {
            vehicle_id: id.to_owned(),
            ecu_serial: format!("ecu-{id}"),
            hardware_id: HARDWARE.to_owned(),
            tier: tier.to_owned(),
            region: region.to_owned(),
        };
        Self {
            store: TempDir::new().unwrap(),
            anchors: (desk.director_root(), desk.image_root()),
            identity,
            token: None,
            timestamp_age_max: TIMESTAMP_AGE_MAX_DEFAULT,
        }
    }

    /// The car takes itself for one of another tier than the server does.
    pub fn with_tier(mut self, tier: &str) -> Self {
        tier.clone_into(&mut self.identity.tier);
        self
    }

    /// The car asks with a nonce when its Director's Timestamp is older than this.
    pub fn with_timestamp_age_max(mut self, age: Duration) -> Self {
        self.timestamp_age_max = age;
        self
    }

    /// The car's disk.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// The same as words for `rust-vehicle`.
    pub(crate) fn words(&self, server: &str) -> Vec<OsString> {
        let Identity { vehicle_id, ecu_serial, hardware_id, tier, region } = &self.identity;
        let texts = [("--server", server), ("--vehicle-id", vehicle_id), ("--ecu-serial", ecu_serial), ("--hardware-id", hardware_id)];
        let texts = texts.into_iter().chain([("--tier", tier.as_str()), ("--region", region)]);
        let texts = texts.chain(self.token.as_deref().map(|token| ("--token", token)));
        let paths = [("--store", self.store.path()), ("--director-root", &self.anchors.0), ("--image-root", &self.anchors.1)];
        let pairs = texts.map(|(name, value)| [name.into(), value.into()]).chain(paths.map(|(name, path)| [name.into(), path.into()]));
        pairs.flatten().collect()
    }

    /// The configuration that a partner would write.
    pub fn config(&self, server: &str) -> VehicleConfig {
        let read = |path: &Path| std::fs::read(path).unwrap();
        let anchors = TrustAnchors { director_root: read(&self.anchors.0), image_root: read(&self.anchors.1) };
        let mut config = VehicleConfig::new(self.store.path(), server, anchors, self.identity.clone());
        config.enrollment_token.clone_from(&self.token);
        config.poll_interval = Duration::from_secs(1);
        config.timestamp_age_max = self.timestamp_age_max;
        config.activation = ActivationPolicy::Now;
        // A machine that is busy with other tests answers late, and no scenario is about that.
        config.patience.stall = PATIENCE;
        config
    }

    /// Switches the car on.
    pub fn start(&self, server: &str) -> Car {
        Car::open(self.config(server), VehicleCallbacks::default()).unwrap()
    }
}

/// A car that is switched on. Its driver answers a frame whenever the scenario waits for something.
pub struct Car {
    vehicle: Vehicle,
    driver: Driver,
    pixels: Vec<u8>,
    sequence: u64,
    events: VecDeque<Event>,
    /// The answer to the newest frame.
    pub output: DriveOutput,
    /// Frames without a valid answer since there was a first one.
    pub frames_lost: u64,
    /// Frames that the previous model answered because the new one failed.
    pub fell_back: u64,
    /// Curvatures answered, each once, in order.
    pub curvatures: Vec<f32>,
}

impl Car {
    /// Opens a vehicle and takes the first frame.
    pub fn open(config: VehicleConfig, callbacks: VehicleCallbacks) -> Result<Self, VehicleError> {
        let (vehicle, driver) = Vehicle::open(config, callbacks)?;
        let mut car = Self {
            vehicle,
            driver,
            pixels: vec![90; (WIDTH * HEIGHT * 3) as usize],
            sequence: 0,
            events: VecDeque::new(),
            output: DriveOutput::default(),
            frames_lost: 0,
            fell_back: 0,
            curvatures: Vec::new(),
        };
        car.frame();
        Ok(car)
    }

    /// Answers one frame, 50 ms of made-up time after the one before.
    pub fn frame(&mut self) {
        self.sequence += 1;
        let time_ns = self.sequence as i64 * 50_000_000;
        let cameras = [CameraFrame {
            camera_id: 0,
            format: PixelFormat::Rgb8,
            width: WIDTH,
            height: HEIGHT,
            stride_bytes: WIDTH * 3,
            frame_id: self.sequence,
            exposure_ns: time_ns - 5_000_000,
            data: &self.pixels,
        }];
        let input = DriveInput {
            sequence: self.sequence,
            time_ns,
            cameras: &cameras,
            ego: EgoState { time_ns, speed_mps: 10.0, ..EgoState::default() },
            route: Route::default(),
            driver: DriverState::default(),
            signals: &[],
            requested_mode: Mode::Standby,
        };
        self.driver.step(&input, &mut self.output);
        let output = &self.output;
        self.fell_back += u64::from(output.fell_back);
        if output.control_valid {
            if self.curvatures.last() != Some(&output.control.curvature_1pm) {
                self.curvatures.push(output.control.curvature_1pm);
            }
        } else if !self.curvatures.is_empty() {
            self.frames_lost += 1;
        }
    }

    /// The vehicle asks the server now, however long it would have waited after a failure.
    pub fn check_now(&self) {
        self.vehicle.check_now();
    }

    /// Drives until an event that `wanted` accepts, and returns it. Events before it are skipped.
    pub fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + PATIENCE;
        loop {
            self.frame();
            while let Some(event) = self.vehicle.wait_event(Duration::from_millis(2)) {
                self.events.push_back(event.clone());
                if wanted(&event) {
                    return event;
                }
            }
            assert!(Instant::now() < end, "nothing happened; status {:#?}; events {:#?}", self.vehicle.status(), self.events);
        }
    }

    /// Drives until the update is in this state.
    pub fn until_update(&mut self, state: UpdateState) -> Event {
        self.until(|event| event.kind == EventKind::Update(state))
    }

    /// Drives until a release is confirmed, and says which.
    pub fn until_confirmed(&mut self) -> String {
        let release = self.until_update(UpdateState::Confirmed).release.unwrap();
        format!("{} {}", release.model, release.version)
    }

    /// Drives until an update is refused or rolled back, and says why.
    pub fn until_failed(&mut self) -> Reason {
        let failed = [UpdateState::Refused, UpdateState::RolledBack].map(EventKind::Update);
        self.until(|event| failed.contains(&event.kind) || event.kind == EventKind::CheckFailed).reason.unwrap()
    }

    /// Drives until the server was asked once more from now on, and answered.
    pub fn until_checked(&mut self) {
        let seen = self.vehicle.status().checks;
        self.vehicle.check_now();
        let end = Instant::now() + PATIENCE;
        while self.vehicle.status().checks < seen + 2 {
            self.until(|event| event.kind == EventKind::Checked);
            self.vehicle.check_now();
            assert!(Instant::now() < end);
        }
    }

    /// Drives until the vehicle has sent a report that `wanted` accepts, the first `seen` requests aside, and returns it.
    pub fn until_reported(&mut self, proxy: &Proxy, seen: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let requests = proxy.requests();
            let mut reports = requests[seen..].iter().filter(|request| request.is_report()).map(report_in);
            if let Some(report) = reports.find(&wanted) {
                return report;
            }
            assert!(Instant::now() < end, "no such report; status {:#?}", self.vehicle.status());
            self.frame();
        }
    }

    /// Drives until something is not believed, and says why.
    pub fn until_refused(&mut self) -> Reason {
        self.until(|event| event.kind == EventKind::Update(UpdateState::Refused) || event.kind == EventKind::NotBelieved).reason.unwrap()
    }

    /// What the start found on the disk, of what was told so far.
    pub fn found(&mut self) -> Vec<Finding> {
        let told = std::iter::from_fn(|| self.vehicle.wait_event(Duration::ZERO));
        told.filter_map(|event| if let EventKind::Recovered(finding) = event.kind { Some(finding) } else { None }).collect()
    }

    /// Gives the vehicle an offline update.
    pub fn try_offline(&self, file: &Path) -> Result<(), OfflineFileError> {
        self.vehicle.install_offline(file)
    }

    /// As [`Car::try_offline`], of a file that can be read.
    pub fn install_offline(&self, file: &Path) {
        self.try_offline(file).unwrap();
    }

    /// What the SDK says.
    pub fn status(&self) -> Status {
        self.vehicle.status()
    }

    /// Model and version that answer frames.
    pub fn active(&self) -> Option<String> {
        self.status().active.map(|active| format!("{} {}", active.release.model, active.release.version))
    }
}

/// The Primary's own report within the vehicle version manifest that it sent (Uptane Standard, section 5.4.2.1).
fn report_in(request: &Request) -> Value {
    let manifest: Value = serde_json::from_slice(&request.body).unwrap();
    manifest["signed"]["ecu_version_reports"][0]["signed"].clone()
}
