//! Small driving models, written by the tests: a camera, an ego state and a control that tells who answered.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use switchback_onnx::{
    ElementType::{F32, U8},
    model_builder::ModelBuilder,
};
use tempfile::TempDir;

use crate::workspace;

/// A folder with what `switchback pack` needs.
pub struct ModelFolder {
    folder: PathBuf,
    own: Option<TempDir>,
    added: Vec<String>,
}

/// A model that answers a fixed control and plans straight on.
#[derive(Clone, Debug)]
pub struct Straight {
    /// Curvature that it answers, 1/m: different models answer different ones, so that a test sees who drives.
    pub curvature_1pm: f32,
    /// Counts its steps and answers not-a-number from this one on, the self-test's steps included.
    pub not_finite_from: Option<u32>,
    /// Weights that it carries along and never reads, so that its bundle has some length; 4 bytes each.
    pub weights: usize,
    /// Changes to its contract: JSON pointer and value.
    pub contract: Vec<(&'static str, Value)>,
}

impl Default for Straight {
    fn default() -> Self {
        Self { curvature_1pm: 0.001, not_finite_from: None, weights: 0, contract: Vec::new() }
    }
}

impl Straight {
    /// A model that answers this curvature.
    pub fn new(curvature_1pm: f32) -> Self {
        Self { curvature_1pm, ..Self::default() }
    }

    /// Writes the folder.
    pub fn write(&self) -> ModelFolder {
        let own = TempDir::new().unwrap();
        let folder = own.path().to_owned();
        std::fs::write(folder.join("model.onnx"), self.graph().build()).unwrap();
        std::fs::write(folder.join("contract.json"), serde_json::to_vec_pretty(&self.contract()).unwrap()).unwrap();
        ModelFolder { folder, own: Some(own), added: Vec::new() }
    }

    fn graph(&self) -> ModelBuilder {
        let path: Vec<f32> = (1..=20).map(|k| 0.1 * k as f32).flat_map(|t| [t, 0.0, 0.0, 1.0]).collect();
        let limit = self.not_finite_from.map_or(f32::MAX, |step| step as f32);
        let ballast: Vec<f32> = noise(self.curvature_1pm.to_bits().into(), self.weights).into_iter().map(f32::from).collect();
        ModelBuilder::new()
            .f32s("ballast", &[self.weights], &ballast)
            .input("camera_front", U8, &[1, 8, 16, 3])
            .input("ego", F32, &[1, 1])
            .input("count", F32, &[1, 1])
            .output("trajectory", F32, &[1, 20, 4])
            .output("control", F32, &[1, 2])
            .output("count_next", F32, &[1, 1])
            .f32s("one", &[1, 1], &[1.0])
            .f32s("limit", &[1, 1], &[limit])
            .f32s("path", &[1, 20, 4], &path)
            .f32s("fine", &[1, 2], &[self.curvature_1pm, 0.0])
            .f32s("broken", &[1, 2], &[f32::NAN, f32::NAN])
            .i64s("cube", &[3], &[1, 1, 1])
            .node("Reshape", &["ego", "cube"], &["speed"])
            .node("Mul", &["path", "speed"], &["trajectory"])
            .node("Add", &["count", "one"], &["count_next"])
            .node("Less", &["count", "limit"], &["healthy"])
            .node("Where", &["healthy", "fine", "broken"], &["control"])
    }

    fn contract(&self) -> Value {
        let mut contract = json!({
            "contract_version": 1, "platform": "road_vehicle",
            "inputs": [
                { "tensor": "camera_front", "dtype": "u8", "shape": [1, 8, 16, 3], "source": { "camera": { "camera_id": 0, "layout": "nhwc", "color": "rgb" } } },
                { "tensor": "ego", "dtype": "f32", "shape": [1, 1], "source": { "ego": { "fields": ["speed_mps"] } } }
            ],
            "outputs": [
                { "tensor": "trajectory", "dtype": "f32", "shape": [1, 20, 4],
                  "meaning": { "trajectory": { "step_s": 0.1, "fields": ["x_m", "y_m", "heading_rad", "speed_mps"] } } },
                { "tensor": "control", "dtype": "f32", "shape": [1, 2], "meaning": { "control": { "fields": ["curvature_1pm", "acceleration_mps2"] } } }
            ],
            "recurrent": [{ "input": "count", "output": "count_next", "dtype": "f32", "shape": [1, 1] }],
            "runtime": { "onnxruntime_min": "1.23" }, "memory_mib": 16, "deadline_ms": 2000, "step_ms": 50,
            "envelope": { "acceleration_max_mps2": 3.0, "deceleration_max_mps2": 8.0, "lateral_acceleration_max_mps2": 4.0,
              "curvature_max_1pm": 0.2, "jerk_max_mps3": 20.0, "speed_max_mps": 40.0 },
            "acceptance": { "default_tolerance": 0.001, "shadow_frames": 5, "shadow_lateral_max_m": 0.5, "trial_frames": 10 }
        });
        for (pointer, value) in &self.contract {
            *contract.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in the contract")) = value.clone();
        }
        contract
    }
}

impl ModelFolder {
    /// A trained model of `examples/models`.
    pub fn example(name: &str) -> Self {
        Self { folder: workspace().join("examples/models").join(name), own: None, added: Vec::new() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.own.as_ref().map_or(&self.folder, TempDir::path)
    }

    /// The ONNX graph.
    pub fn graph(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// The contract.
    pub fn contract(&self) -> PathBuf {
        self.folder.join("contract.json")
    }

    /// Recorded inputs for the self-test, if there are any.
    pub fn inputs(&self) -> Option<PathBuf> {
        Some(self.folder.join("selftest-inputs.safetensors")).filter(|path| path.exists())
    }

    /// External data.
    pub fn data(&self) -> Vec<PathBuf> {
        let added = self.added.iter().map(|name| self.folder.join(name));
        Some(self.folder.join("model.onnx.data")).filter(|path| path.exists()).into_iter().chain(added).collect()
    }

    /// External data that the graph does not read.
    pub fn add_data(&mut self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.join(name), content).unwrap();
        self.added.push(name.to_owned());
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
