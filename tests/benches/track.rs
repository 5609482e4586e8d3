//! A vehicle on a straight track: frames and ego state for the engine, and models packed by the real program.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use switchback_sdk::{
    drive::{CameraFrame, DriveInput, DriveOutput, DriverState, EgoState, Mode, PixelFormat, Route},
    engine::{Driver, Engine, EngineConfig, EngineEvent, Entry, ModelFiles, SwapWhen, Witness},
};
use switchback_signing::digest::Sha256Digest;
use switchback_tests::{
    desk::{self, Bundle, Named},
    model::{ModelFolder, Straight},
    unpack::unpack,
};
use tempfile::TempDir;

/// Width and height of the frames; those of the model's tensor, so that no resizing is measured.
const WIDTH: u32 = 16;
const HEIGHT: u32 = 8;

/// Nobody else writes where the benches unpack.
#[derive(Debug)]
struct Unaltered;

impl Witness for Unaltered {
    fn altered(&self) -> Option<PathBuf> {
        None
    }
}

pub(crate) struct Track {
    pub(crate) engine: Engine,
    driver: Driver,
    pixels: Vec<u8>,
    start: std::time::Instant,
    sequence: u64,
    pub(crate) output: DriveOutput,
}

impl Track {
    pub(crate) fn new() -> Self {
        let (engine, driver) = Engine::start(EngineConfig::default()).expect("make bench provides ONNX Runtime");
        let pixels = vec![127; (WIDTH * HEIGHT * 3) as usize];
        Self { engine, driver, pixels, start: std::time::Instant::now(), sequence: 0, output: DriveOutput::default() }
    }

    /// One frame, exposed this moment.
    pub(crate) fn step(&mut self) {
        self.sequence += 1;
        let time_ns = self.start.elapsed().as_nanos() as i64;
        let cameras = [CameraFrame {
            camera_id: 0,
            format: PixelFormat::Rgb8,
            width: WIDTH,
            height: HEIGHT,
            stride_bytes: WIDTH * 3,
            frame_id: self.sequence,
            exposure_ns: time_ns,
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
    }

    /// Loads a model and lets it drive at once.
    pub(crate) fn drive(&mut self, files: ModelFiles) {
        self.engine.load(files).unwrap();
        self.wait(|event| matches!(event, EngineEvent::Armed { .. }));
        self.engine.activate(SwapWhen::Anytime).unwrap();
        self.wait(|event| matches!(event, EngineEvent::Confirmed { .. }));
    }

    /// Steps until an event that `wanted` accepts.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&EngineEvent) -> bool) {
        loop {
            self.step();
            if let Some(event) = self.engine.wait_event(Duration::from_millis(1)) {
                let failed = matches!(event, EngineEvent::Refused { .. } | EngineEvent::RolledBack { .. });
                assert!(!failed, "{event:?}");
                if wanted(&event) {
                    return;
                }
            }
        }
    }
}

/// A packed and unpacked model.
pub(crate) struct Packed {
    pub(crate) bundle: Bundle,
    unpacked: TempDir,
}

impl Packed {
    /// A model with this many weights that it does not use, and a short shadow and trial.
    pub(crate) fn new(counter: u64, weights: usize) -> Self {
        let acceptance = [("/acceptance/shadow_frames", json!(2)), ("/acceptance/trial_frames", json!(2)), ("/memory_mib", json!(64))];
        let model = Straight { curvature_1pm: 0.001 * counter as f32, weights, contract: acceptance.into(), ..Straight::default() };
        Self::of(&model.write(), counter)
    }

    pub(crate) fn of(model: &ModelFolder, counter: u64) -> Self {
        let unpacked = TempDir::new().unwrap();
        let bundle = desk::pack(model, Named { model: "bench", version: &counter.to_string(), counter, tier: "ultra" }, unpacked.path());
        Self { bundle, unpacked }
    }

    pub(crate) fn files(&self, generation: u64, entry: Entry) -> ModelFiles {
        let directory = self.unpacked.path().join(format!("generation-{generation}"));
        let manifest = unpack(&self.bundle, &directory);
        let sha256 = *Sha256Digest::of(&std::fs::read(&self.bundle.index).unwrap()).as_bytes();
        ModelFiles { directory: Path::canonicalize(&directory).unwrap(), manifest, sha256, generation, entry, witness: Arc::new(Unaltered) }
    }
}
