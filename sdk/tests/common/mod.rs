//! Models written by the tests, the files around them, and a vehicle that drives them.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod camera;
pub(crate) mod car;
pub(crate) mod server;
pub(crate) mod stick;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use switchback_onnx::ElementType::{F32, I64};
use switchback_onnx::model_builder::{Attribute, ModelBuilder};
use switchback_onnx::{ElementType, RecurrentPair, Runtime, Session, SessionOptions};
use switchback_sdk::drive::{Clock, DriveInput, DriveOutput, DriverState, EgoState, Mode, Route};
use switchback_sdk::engine::{Driver, Engine, EngineConfig, EngineEvent, Entry, ModelFiles, Phase, SwapWhen, Witness};
use switchback_signing::bundle::contract::Contract;
use switchback_signing::bundle::manifest::{Manifest, Release, SelfTest};
use tempfile::TempDir;

/// What a road model does from a certain number on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Never,
    NotFinite(u32),
    Envelope(u32),
    RunFails(u32),
}

/// Which number that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measure {
    /// Runs since the recurrent state was zero. Only for models that break before they see a frame: how many runs there are in shadow
    /// is for the machine to decide, and a machine that leaves frames out starts the state anew.
    Runs,
    /// The vehicle's speed, m/s: the model breaks when the test says so, in whatever phase it is then.
    Speed,
}

/// At this speed, m/s, a model that breaks by speed still works: the vehicles of the tests drive at it.
pub(crate) const SPEED_MPS: f32 = 10.0;
/// At this speed it does not.
pub(crate) const SPEED_BREAKS_MPS: f32 = 12.0;

/// A model of a road vehicle that plans `lateral_m` to the left per meter ahead and answers a fixed control.
#[derive(Clone, Debug)]
pub(crate) struct Road {
    pub(crate) breaks: From,
    pub(crate) breaks_by: Measure,
    pub(crate) slope: f32,
    pub(crate) control: [f32; 2],
    /// None: a thousandth of the number of runs since the state was zero.
    pub(crate) confidence: Option<f32>,
    pub(crate) signal: Option<&'static str>,
    pub(crate) contract: Value,
}

impl Default for Road {
    fn default() -> Self {
        let contract = json!({
            "contract_version": 1, "platform": "road_vehicle",
            "inputs": [
                { "tensor": "ego", "dtype": "f32", "shape": [1, 2], "source": { "ego": { "fields": ["speed_mps", "acceleration_mps2"] } } }
            ],
            "outputs": [
                { "tensor": "trajectory", "dtype": "f32", "shape": [1, 20, 4],
                  "meaning": { "trajectory": { "step_s": 0.1, "fields": ["x_m", "y_m", "heading_rad", "speed_mps"] } } },
                { "tensor": "control", "dtype": "f32", "shape": [1, 2], "meaning": { "control": { "fields": ["curvature_1pm", "acceleration_mps2"] } } },
                { "tensor": "confidence", "dtype": "f32", "shape": [1, 1], "meaning": "confidence" },
                { "tensor": "intent", "dtype": "f32", "shape": [1, 3], "meaning": { "intent": { "classes": ["keep_lane", "yield", "left"] } } },
                { "tensor": "words", "dtype": "i64", "shape": [1, 2], "meaning": { "language": { "vocabulary": ["keep", "the", "lane"] } } }
            ],
            "recurrent": [{ "input": "count", "output": "count_next", "dtype": "f32", "shape": [1] }],
            "runtime": { "onnxruntime_min": "1.23" }, "memory_mib": 16, "deadline_ms": 50, "step_ms": 50, "confidence_min": 0.2,
            "envelope": { "acceleration_max_mps2": 3.0, "deceleration_max_mps2": 8.0, "lateral_acceleration_max_mps2": 4.0,
              "curvature_max_1pm": 0.2, "jerk_max_mps3": 20.0, "speed_max_mps": 40.0 },
            "acceptance": { "default_tolerance": 0.001, "shadow_frames": 5, "shadow_lateral_max_m": 0.5, "trial_frames": 10 }
        });
        Self {
            breaks: From::Never,
            breaks_by: Measure::Runs,
            slope: 0.0,
            control: [0.01, 0.5],
            confidence: Some(0.9),
            signal: None,
            contract,
        }
    }
}

impl Road {
    /// The same with one number of the contract changed, by JSON pointer.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        *self.contract.pointer_mut(pointer).expect("the pointer exists") = value;
        self
    }

    /// Breaks on trial: as soon as the test drives at [`SPEED_BREAKS_MPS`], and not before.
    pub(crate) fn breaking_by_speed(self, breaks: fn(u32) -> From) -> Self {
        // No trial ends by itself before the test has ended it.
        Self { breaks: breaks(11), breaks_by: Measure::Speed, ..self }.with("/acceptance/trial_frames", json!(1_000_000))
    }

    /// The graph, and the contract with the signal if there is one.
    pub(crate) fn build(&self) -> (ModelBuilder, Contract) {
        let mut contract = self.contract.clone();
        let per_speed: Vec<f32> = (1..=20).map(|k| 0.1 * k as f32).flat_map(|t| [t, t * self.slope, 0.0, 1.0]).collect();
        let mut graph = ModelBuilder::new()
            .input("ego", F32, &[1, 2])
            .input("count", F32, &[1])
            .output("trajectory", F32, &[1, 20, 4])
            .output("control", F32, &[1, 2])
            .output("confidence", F32, &[1, 1])
            .output("intent", F32, &[1, 3])
            .output("words", I64, &[1, 2])
            .output("count_next", F32, &[1])
            .f32s("one", &[1], &[1.0])
            .f32s("per_speed", &[1, 20, 4], &per_speed)
            .f32s("control_fixed", &[1, 2], &self.control)
            .f32s("intents", &[1, 3], &[0.7, 0.2, 0.1])
            .i64s("tokens", &[1, 2], &[2, 99])
            .i64s("first", &[1], &[0])
            .i64s("cube", &[3], &[1, 1, 1])
            .i64s("square", &[2], &[1, 1])
            .node("Add", &["count", "one"], &["count_next"])
            .node_with("Gather", &["ego", "first"], &["speed"], &[("axis", Attribute::Int(1))])
            .node("Reshape", &["speed", "cube"], &["speed_cube"])
            .node("Mul", &["per_speed", "speed_cube"], &["trajectory"])
            .node("Identity", &["intents"], &["intent"])
            .node("Identity", &["tokens"], &["words"]);
        graph = match self.confidence {
            Some(confidence) => graph.f32s("sure", &[1, 1], &[confidence]).node("Identity", &["sure"], &["confidence"]),
            None => graph.f32s("thousandth", &[1, 1], &[0.001]).node("Mul", &["count_next", "thousandth"], &["confidence"]),
        };
        graph = match self.breaks_by {
            Measure::Runs => graph.node("Identity", &["count_next"], &["measured"]),
            Measure::Speed => graph.i64s("line", &[1], &[1]).node("Reshape", &["speed", "line"], &["measured"]),
        };
        graph = match self.breaks {
            From::Never => graph.node("Identity", &["control_fixed"], &["control"]),
            From::NotFinite(first) => breaking(graph, first, f32::NAN),
            From::Envelope(first) => breaking(graph, first, 100.0),
            From::RunFails(first) => graph
                .f32s("table", &[first as usize, 2], &[self.control; 64].concat()[..2 * first as usize])
                .f32s("minus_one", &[1], &[-1.0])
                .node("Add", &["measured", "minus_one"], &["rows_before"])
                .node_with("Cast", &["rows_before"], &["row"], &[("to", Attribute::Int(7))])
                .node_with("Gather", &["table", "row"], &["control"], &[("axis", Attribute::Int(0))]),
        };
        if let Some(signal) = self.signal {
            graph = graph.input("extra", F32, &[1, 1]);
            let extra =
                json!({ "tensor": "extra", "dtype": "f32", "shape": [1, 1], "source": { "signals": { "signals": [{ "name": signal }] } } });
            contract["inputs"].as_array_mut().unwrap().push(extra);
        }
        (graph, serde_json::from_value(contract).expect("the contract parses"))
    }

    pub(crate) fn files(&self, generation: u64, entry: Entry) -> Files {
        let (graph, contract) = self.build();
        Files::write(&graph.build(), contract, 2, generation, entry)
    }
}

fn breaking(graph: ModelBuilder, first: u32, value: f32) -> ModelBuilder {
    graph
        .f32s("healthy", &[1], &[first as f32 - 0.5])
        .f32s("broken", &[1], &[value])
        .node("Greater", &["measured", "healthy"], &["is_broken"])
        .node("Where", &["is_broken", "broken", "control_fixed"], &["control"])
}

/// A model that answers its one input, as named actions: what the tests see is what was filled in.
pub(crate) fn echo(element: ElementType, shape: &[usize], source: Value) -> (ModelBuilder, Contract) {
    let elements: usize = shape.iter().product();
    let graph = ModelBuilder::new()
        .input("x", element, shape)
        .output("actions", F32, &[1, elements])
        .i64s("flat", &[2], &[1, elements as i64])
        .node_with("Cast", &["x"], &["x_float"], &[("to", Attribute::Int(1))])
        .node("Reshape", &["x_float", "flat"], &["actions"]);
    let actions: Vec<Value> = (0..elements).map(|a| json!({ "name": format!("a{a}"), "min": -1e6, "max": 1e6 })).collect();
    let contract = json!({
        "contract_version": 1, "platform": "other",
        "inputs": [{ "tensor": "x", "dtype": element.name(), "shape": shape, "source": source }],
        "outputs": [{ "tensor": "actions", "dtype": "f32", "shape": [1, elements], "meaning": { "actions": { "actions": actions } } }],
        "runtime": { "onnxruntime_min": "1.23" }, "memory_mib": 1, "deadline_ms": 50, "step_ms": 50,
        "acceptance": { "default_tolerance": 0.0, "shadow_frames": 1, "shadow_lateral_max_m": 0.5, "trial_frames": 1 }
    });
    (graph, serde_json::from_value(contract).expect("the contract parses"))
}

/// A model's directory, gone when dropped.
pub(crate) struct Files {
    pub(crate) directory: TempDir,
    pub(crate) files: ModelFiles,
}

impl Files {
    /// Writes the model, runs it on made-up inputs and records what it answers, as `switchback pack` does.
    pub(crate) fn write(graph: &[u8], contract: Contract, cases: u32, generation: u64, entry: Entry) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("selftest")).unwrap();
        std::fs::write(base.join("model.onnx"), graph).unwrap();
        record(&base, &contract, cases);
        let manifest = Manifest {
            format: 1,
            release: Release {
                model: format!("test-{generation}"),
                version: "1.0.0".to_owned(),
                release_counter: generation,
                tier: "ultra".to_owned(),
                hardware_ids: vec!["ecu".to_owned()],
            },
            files: Vec::new(),
            model: "model.onnx".to_owned(),
            self_test: SelfTest { inputs: INPUTS.to_owned(), outputs: OUTPUTS.to_owned(), cases },
            notes: Default::default(),
            ml_bom: None,
            rxswin: Vec::new(),
            contract,
        };
        Self {
            files: ModelFiles {
                directory: base,
                manifest,
                sha256: [generation as u8; 32],
                generation,
                entry,
                witness: Arc::new(Unaltered),
            },
            directory,
        }
    }

    pub(crate) fn path(&self, member: &str) -> PathBuf {
        self.files.directory.join(member)
    }
}

/// For models that nobody but the test can reach.
#[derive(Debug)]
pub(crate) struct Unaltered;

impl Witness for Unaltered {
    fn altered(&self) -> Option<PathBuf> {
        None
    }
}

pub(crate) const INPUTS: &str = "selftest/inputs.safetensors";
pub(crate) const OUTPUTS: &str = "selftest/outputs.safetensors";

fn record(base: &std::path::Path, contract: &Contract, cases: u32) {
    let recurrent: Vec<RecurrentPair> =
        contract.recurrent.iter().map(|pair| RecurrentPair { input: pair.input.clone(), output: pair.output.clone() }).collect();
    let options = SessionOptions { recurrent, ..SessionOptions::default() };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    // A model that ONNX Runtime refuses has no golden values; the engine refuses it before it looks for them.
    if let Ok(mut session) = Session::open(&Runtime::load(None).unwrap(), &base.join("model.onnx"), &options) {
        for case in 0..cases {
            let count = session.inputs().len();
            for index in 0..count {
                let info = session.inputs().nth(index).unwrap().clone();
                if contract.recurrent.iter().any(|pair| pair.input == info.name) {
                    continue;
                }
                if let Ok(values) = session.input_as_mut::<f32>(index) {
                    values.iter_mut().enumerate().for_each(|(i, value)| *value = 1.0 + (i as f32 + case as f32) / 8.0);
                }
                inputs.push((format!("{case}/{}", info.name), info.element_type, info.shape, session.input(index).to_vec()));
            }
            session.run().unwrap();
            for (index, info) in session.outputs().enumerate() {
                outputs.push((format!("{case}/{}", info.name), info.element_type, info.shape.clone(), session.output(index).to_vec()));
            }
        }
    }
    write_tensors(&base.join(INPUTS), &inputs);
    write_tensors(&base.join(OUTPUTS), &outputs);
}

pub(crate) type NamedTensor = (String, ElementType, Vec<usize>, Vec<u8>);

pub(crate) fn write_tensors(path: &std::path::Path, tensors: &[NamedTensor]) {
    let views = tensors.iter().map(|(name, element, shape, bytes)| {
        let dtype = match element {
            ElementType::U8 => Dtype::U8,
            ElementType::F16 => Dtype::F16,
            ElementType::Bf16 => Dtype::BF16,
            ElementType::I32 => Dtype::I32,
            I64 => Dtype::I64,
            _ => Dtype::F32,
        };
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A clock that a test moves: each reading adds `tick_ns`.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    now_ns: AtomicU64,
    pub(crate) tick_ns: AtomicU64,
}

impl TestClock {
    pub(crate) fn pass(&self, time: Duration) {
        self.now_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(self.tick_ns.load(Ordering::Relaxed), Ordering::Relaxed)
    }
}

/// An engine and a driver that drive at 20 Hz of made-up time.
pub(crate) struct Vehicle {
    pub(crate) engine: Engine,
    pub(crate) driver: Driver,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sequence: u64,
    pub(crate) mode: Mode,
    pub(crate) speed_mps: f32,
    pub(crate) output: DriveOutput,
    held: Vec<Files>,
}

pub(crate) const STEP_NS: i64 = 50_000_000;

/// How long a test waits for what must happen. Nothing hangs on it but how soon a fault shows: what is waited for takes milliseconds,
/// and on a machine that stalls as long as it stalls.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

impl Vehicle {
    pub(crate) fn new() -> Self {
        Self::with(EngineConfig::default())
    }

    pub(crate) fn with(config: EngineConfig) -> Self {
        let clock = Arc::new(TestClock::default());
        let (engine, driver) = Engine::start_with_clock(config, clock.clone()).expect("sdk/onnx/get-onnxruntime.sh provides the library");
        Self {
            engine,
            driver,
            clock,
            sequence: 0,
            mode: Mode::Engaged,
            speed_mps: SPEED_MPS,
            output: DriveOutput::default(),
            held: Vec::new(),
        }
    }

    /// A vehicle that already drives `model` as generation 1.
    pub(crate) fn driving(model: &Road) -> Self {
        let mut vehicle = Self::new();
        vehicle.start(model.files(1, Entry::Confirmed));
        vehicle
    }

    /// Loads and activates a model that was confirmed before.
    pub(crate) fn start(&mut self, files: Files) {
        let generation = files.files.generation;
        // Nobody engages a vehicle that has no model yet; it would ask for a stop, and go on asking.
        self.mode = Mode::Standby;
        self.load(files);
        self.expect(|event| matches!(event, EngineEvent::Armed { .. }));
        self.engine.activate(SwapWhen::Anytime).unwrap();
        self.expect(|event| matches!(event, EngineEvent::Confirmed { .. }));
        self.mode = Mode::Engaged;
        assert_eq!(self.driver.active_model().unwrap().generation, generation);
    }

    pub(crate) fn load(&mut self, files: Files) {
        self.engine.load(files.files.clone()).unwrap();
        self.held.push(files);
    }

    /// Brings a candidate up to its trial: loaded, in shadow, armed, activated, swapped.
    pub(crate) fn begin_trial(&mut self, files: Files) {
        self.load(files);
        self.expect(|event| matches!(event, EngineEvent::Armed { .. }));
        self.engine.activate(SwapWhen::Anytime).unwrap();
        self.expect(|event| matches!(event, EngineEvent::Swapped { .. }));
    }

    /// Brings a candidate so far that it lies ready for the next frame.
    pub(crate) fn order(&mut self, files: Files, when: SwapWhen) {
        self.load(files);
        self.expect(|event| matches!(event, EngineEvent::Armed { .. }));
        self.engine.activate(when).unwrap();
        self.wait_for(Phase::Activating);
    }

    /// Waits for the loader, without a frame.
    pub(crate) fn wait_for(&self, phase: Phase) {
        let begun = Instant::now();
        while self.engine.status().phase != phase {
            assert!(begun.elapsed() < PATIENCE, "the engine is {:?}", self.engine.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn input(&self) -> DriveInput<'static> {
        let time_ns = 1_000_000_000 + self.sequence as i64 * STEP_NS;
        DriveInput {
            sequence: self.sequence,
            time_ns,
            cameras: &[],
            ego: EgoState { time_ns, speed_mps: self.speed_mps, ..EgoState::default() },
            route: Route::default(),
            driver: DriverState::default(),
            signals: &[],
            requested_mode: self.mode,
        }
    }

    pub(crate) fn step(&mut self) -> &DriveOutput {
        self.step_with(|_| {})
    }

    pub(crate) fn step_with(&mut self, change: impl FnOnce(&mut DriveInput<'static>)) -> &DriveOutput {
        self.sequence += 1;
        let mut input = self.input();
        change(&mut input);
        self.driver.step(&input, &mut self.output);
        &self.output
    }

    /// Drives until the next event.
    pub(crate) fn event(&mut self) -> EngineEvent {
        self.event_with(|_| {})
    }

    pub(crate) fn event_with(&mut self, mut look: impl FnMut(&DriveOutput)) -> EngineEvent {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(event) = self.engine.wait_event(Duration::from_millis(3)) {
                return event;
            }
            look(self.step());
        }
        panic!("no event; the engine is {:?}", self.engine.status());
    }

    /// Drives until an event that `wanted` accepts; a refusal or a roll back that it does not accept fails the test.
    pub(crate) fn expect(&mut self, wanted: impl Fn(&EngineEvent) -> bool) -> EngineEvent {
        loop {
            let event = self.event();
            if wanted(&event) {
                return event;
            }
            let failed = matches!(event, EngineEvent::Refused { .. } | EngineEvent::RolledBack { .. });
            assert!(!failed, "{event:?}");
        }
    }
}
