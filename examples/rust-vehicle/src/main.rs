//! A vehicle in Rust: drives the road simulator with whatever model is installed, and takes updates on the way.
//!
//! What is particular to the library is in [`open_vehicle`] (how a vehicle is opened), [`Drive::frame`] (how one frame is answered, and
//! what to do when the answer must not be used) and [`Drive::tell_events`] (how the program follows an update). The rest is a camera, a
//! clock and a log.
#![forbid(unsafe_code)]

mod frame_log;
mod options;
mod trip;

use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use switchback_sdk::drive::{DriveOutput, Mode};
use switchback_sdk::update::ActivationPolicy;
use switchback_sdk::vehicle::{Driver, Event, EventKind, Identity, TrustAnchors, UpdateState, Vehicle, VehicleCallbacks, VehicleConfig};

use frame_log::{FrameLog, Row, text};
use options::{Activate, Options};
use trip::Trip;

/// As the C example: the drive ended before `--until-version` was confirmed.
const NOT_REACHED: u8 = 3;

/// The server does not know the vehicle: nothing will ever be assigned to it.
const NOT_ENROLLED: u8 = 4;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(end @ (End::Refused | End::NotEnrolled)) => {
            let (vehicle, server) = (&options.vehicle_id, &options.server);
            let problem = if end == End::Refused {
                "did not enroll at the server; is the --token unused, and for this --vehicle-id?"
            } else if options.token.is_none() {
                "is not known to the server, or the server could not be reached; a first start needs a --token"
            } else {
                "did not enroll: the server could not be reached"
            };
            eprintln!("rust-vehicle: {vehicle} {problem} ({server})");
            ExitCode::from(NOT_ENROLLED)
        }
        Ok(End::Time) if options.until_version.is_some() => ExitCode::from(NOT_REACHED),
        Ok(End::Time | End::Stopped | End::Confirmed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust-vehicle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<End> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (vehicle, driver) = open_vehicle(options)?;
    let log = options.log.as_deref().map(|path| FrameLog::create(path).with_context(|| format!("write {}", path.display()))).transpose()?;
    let mut drive =
        Drive { vehicle, driver, log, trip: Trip::new(options.seed, options.night), tally: Tally::default(), started: Instant::now() };
    let end = drive.run(options, &stop)?;
    println!("{}", drive.summary(options, end));
    Ok(end)
}

/// A vehicle is opened with what the factory gave it: who it is, whom it trusts, and where the server is.
fn open_vehicle(options: &Options) -> Result<(Vehicle, Driver)> {
    let read = |path: &std::path::Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let anchors = TrustAnchors { director_root: read(&options.director_root)?, image_root: read(&options.image_root)? };
    let identity = Identity {
        vehicle_id: options.vehicle_id.clone(),
        ecu_serial: options.ecu_serial.clone(),
        hardware_id: options.hardware_id.clone(),
        tier: options.tier.clone(),
        region: options.region.clone(),
    };
    let mut config = VehicleConfig::new(&options.store, &options.server, anchors, identity);
    config.enrollment_token = options.token.clone();
    config.poll_interval = Duration::from_millis(options.poll_ms);
    if let Some(bytes) = options.checkpoint_bytes {
        config.checkpoint_bytes = bytes;
    }
    config.engine.runtime_path = Some(options.runtime.clone());
    config.activation = match options.activate {
        Activate::Now => ActivationPolicy::Now,
        Activate::Standstill => ActivationPolicy::NextStandstill,
        Activate::Disengaged => ActivationPolicy::NextDisengaged,
    };
    // The defaults do for the callbacks: every verified release is welcome, the clock is the system's, and the steps tell speed and mode.
    Vehicle::open(config, VehicleCallbacks::default()).context("cannot open the vehicle")
}

/// Why a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Time,
    Confirmed,
    /// The server refused the token.
    Refused,
    /// Until the end, no answer of the server to this vehicle.
    NotEnrolled,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Time => "time",
            Self::Confirmed => "confirmed",
            Self::Refused | Self::NotEnrolled => "not-enrolled",
        }
    }
}

struct Drive {
    vehicle: Vehicle,
    driver: Driver,
    log: Option<FrameLog>,
    trip: Trip,
    tally: Tally,
    started: Instant,
}

/// What the drive looked like.
#[derive(Default)]
struct Tally {
    frames: u64,
    missed: u64,
    off_lane: u64,
    swaps: u64,
    fall_backs: u64,
    /// Frames without a usable answer since the first model drove.
    invalid: u64,
    has_driven: bool,
    confirmed: Option<String>,
    last: DriveOutput,
}

impl Drive {
    fn run(&mut self, options: &Options, stop: &AtomicBool) -> Result<End> {
        let period = Duration::from_secs_f64(1.0 / options.hz);
        let mut due = Instant::now();
        loop {
            self.frame(due, period)?;
            let is_enrolled = self.tell_events();
            if !is_enrolled {
                return Ok(End::Refused);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            if options.until_version.is_some() && options.until_version == self.tally.confirmed {
                return Ok(End::Confirmed);
            }
            if options.seconds.is_some_and(|seconds| self.started.elapsed().as_secs_f64() >= seconds) {
                return Ok(if self.vehicle.status().enrolled { End::Time } else { End::NotEnrolled });
            }
            // The next frame is due one period after this one was, however long this one took. Late frames are dropped, not queued.
            due += period;
            while due + period < Instant::now() {
                due += period;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    /// One frame: look, ask the library, act.
    fn frame(&mut self, due: Instant, period: Duration) -> Result<()> {
        let seen = self.trip.observe();
        let cameras = [self.trip.camera(&seen)];
        // Until a model has answered, the driver drives and the function stands by.
        let mode = if self.tally.has_driven { Mode::Engaged } else { Mode::Standby };
        let mut answer = DriveOutput::default();
        self.driver.step(&self.trip.input(&seen, &cameras, mode), &mut answer);
        let missed = (Instant::now().saturating_duration_since(due).as_secs_f64() / period.as_secs_f64()) as u64;

        self.tally.has_driven |= answer.control_valid;
        self.tally.add(&answer, missed, self.trip.world().status().off_lane);
        if let Some(log) = &mut self.log {
            let time_s = due.saturating_duration_since(self.started).as_secs_f64();
            log.write(&Row { time_s, trip: &self.trip, answer: &answer, missed })?;
        }
        if self.tally.has_driven {
            self.trip.follow(&answer);
        } else {
            self.trip.drive_by_hand();
        }
        Ok(())
    }

    /// One line for everything that became of an update; `false` when the server refused the token. A real vehicle would drive on with
    /// the model that it has and be enrolled at the workshop; here there is nothing more to see.
    fn tell_events(&mut self) -> bool {
        let mut is_enrolled = true;
        while let Some(event) = self.vehicle.next_event() {
            if let (EventKind::Update(UpdateState::Confirmed), Some(release)) = (&event.kind, &event.release) {
                self.tally.confirmed = Some(release.version.clone());
            }
            is_enrolled &= event.kind != EventKind::EnrollmentFailed;
            if event.kind != EventKind::Checked {
                let _ = writeln!(std::io::stdout(), "{:8.2} s  {}", self.started.elapsed().as_secs_f64(), line(&event));
            }
        }
        is_enrolled
    }

    fn summary(&self, options: &Options, end: End) -> serde_json::Value {
        let (tally, status) = (&self.tally, self.vehicle.status());
        json!({
            "vehicle": options.vehicle_id,
            "tier": options.tier,
            "model_line": options.model_line,
            "end": end.name(),
            "seconds": (self.started.elapsed().as_secs_f64() * 100.0).round() / 100.0,
            "roads": self.trip.roads(),
            "frames": tally.frames,
            "missed_frames": tally.missed,
            "off_lane_frames": tally.off_lane,
            "invalid_frames": tally.invalid,
            "swaps": tally.swaps,
            "fallbacks": tally.fall_backs,
            "model": text(&tally.last.model.name),
            "version": text(&tally.last.model.version),
            "generation": tally.last.model.generation,
            "update": status.update.name(),
            "reason": status.reason.map(|reason| reason.text),
        })
    }
}

impl Tally {
    fn add(&mut self, answer: &DriveOutput, missed: u64, off_lane: bool) {
        self.frames += 1;
        self.missed += missed;
        self.swaps += u64::from(answer.swapped);
        self.fall_backs += u64::from(answer.fell_back);
        self.off_lane += u64::from(self.has_driven && off_lane);
        self.invalid += u64::from(self.has_driven && !answer.control_valid);
        self.last = *answer;
    }
}

/// `shadow       vla-2 2.0.0  why, if it failed`, as the C example prints it.
fn line(event: &Event) -> String {
    let name = name(&event.kind);
    let (model, version) = event.release.as_ref().map_or(("-", "-"), |release| (release.model.as_str(), release.version.as_str()));
    let reason = match &event.kind {
        EventKind::Recovered(finding) => format!("{finding:?}"),
        _ => event.reason.as_ref().map(|reason| reason.text.clone()).unwrap_or_default(),
    };
    format!("{name:<12} {model} {version}  {reason}").trim_end().to_owned()
}

/// The names that the C library gives them.
fn name(kind: &EventKind) -> String {
    match kind {
        EventKind::Update(state) => return state.name().replace('_', "-"),
        EventKind::Checked => "checked",
        EventKind::CheckFailed => "check-failed",
        EventKind::NotBelieved => "not-believed",
        EventKind::DownloadPaused => "download-paused",
        EventKind::Enrolled => "enrolled",
        EventKind::EnrollmentFailed => "enrollment-failed",
        EventKind::Recovered(_) => "recovered",
        EventKind::ModelLost => "model-lost",
        EventKind::ModelRestored => "model-restored",
        EventKind::ClockBehind => "clock-behind",
        EventKind::DeltaNotUsed => "delta-not-used",
        _ => "other",
    }
    .to_owned()
}
