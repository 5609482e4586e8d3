//! A release engineer's desk: a folder of its own, the program, and a small model.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use switchback_onnx::{ElementType::F32, model_builder::ModelBuilder};
use tempfile::TempDir;

pub(crate) struct Desk {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// Whether a test can be made with what is installed. With `CI` set it must, so that nothing is left out unseen; elsewhere the test says that
/// it is left out.
pub(crate) fn available(found: bool, missing: &str) -> bool {
    assert!(found || std::env::var_os("CI").is_none(), "{missing}");
    if !found {
        // Past the test harness, which swallows what a test that passes prints.
        let _ = writeln!(std::io::stderr(), "left out in {}: {missing}", std::thread::current().name().unwrap_or("a test"));
    }
    found
}

/// Whether OpenSSL's program is there.
pub(crate) fn openssl_is_there() -> bool {
    available(Command::new("openssl").arg("version").output().is_ok(), "openssl is not there; on Debian: apt-get install openssl")
}

/// Runs OpenSSL's program in the desk's folder, for what it prints.
pub(crate) fn openssl(desk: &Desk, arguments: &str) -> String {
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(desk.path("")).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What one run of the program left behind.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// A desk that talks to a server.
    pub(crate) fn with_server(url: &str) -> Self {
        let mut desk = Self::new();
        desk.write("token", "secret-token\n");
        desk.environment.push(("SWITCHBACK_SERVER".into(), url.into()));
        desk.environment.push(("SWITCHBACK_TOKEN_FILE".into(), desk.path("token").display().to_string()));
        desk
    }

    /// Sets a variable of the program's environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs the program in the desk's folder. Arguments are split at spaces.
    pub(crate) fn run(&self, arguments: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
        command.current_dir(self.folder.path()).args(arguments.split_whitespace());
        for name in ["SERVER", "TOKEN_FILE", "PASSPHRASE", "PASSPHRASE_FILE"] {
            command.env_remove(format!("SWITCHBACK_{name}"));
        }
        command.stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        Run {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs what must succeed, for what it says.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, 0, "switchback {arguments}\n{}{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Runs what must succeed, for its JSON.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &str) -> Value {
        let stdout = self.succeed(&format!("--json {arguments}"));
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Runs what must be refused, for its reason.
    #[track_caller]
    pub(crate) fn refuse(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, 1, "switchback {arguments}\n{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout, "", "a refusal prints no result");
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        run.stderr
    }

    /// A base with 2-of-3 keyholders.
    pub(crate) fn init(&self) {
        self.online_keys();
        self.succeed("init --base base --unencrypted --tiers ultra,ultra-se --online-keys online.json");
    }

    /// The online keys that a server's operator would hand over.
    fn online_keys(&self) {
        let key = |name: &str| {
            self.succeed(&format!("key new --unencrypted --out operator {name}"));
            serde_json::from_slice::<Value>(&self.read(&format!("operator/{name}.pub.json"))).unwrap()
        };
        let online = json!({
            "image": {"snapshot": key("image-snapshot"), "timestamp": key("image-timestamp")},
            "director": {"targets": key("director-targets"), "snapshot": key("director-snapshot"), "timestamp": key("director-timestamp")},
        });
        self.write("online.json", online.to_string());
    }

    /// A model and its contract.
    pub(crate) fn model(&self) {
        self.write("model.onnx", model(false));
        self.write("contract.json", serde_json::to_vec(&contract()).unwrap());
        self.write("NOTES.md", "# Smoother in bends\n");
    }

    /// Packs the model as version `version` with the release counter `counter`.
    #[track_caller]
    pub(crate) fn pack(&self, version: &str, counter: u64) -> PathBuf {
        if !self.path("model.onnx").exists() {
            self.model();
        }
        self.succeed(&format!("{PACK} --version {version} --release-counter {counter}"));
        self.path(&format!("dist/ultra/tiny-{version}.tar.zst"))
    }

    /// A desk with the server's online keys and no base.
    pub(crate) fn ready_online() -> Self {
        let desk = Self::new();
        desk.online_keys();
        desk
    }

    /// A desk with a base and a packed bundle, `dist/ultra/tiny-1.0.0.tar.zst`.
    pub(crate) fn ready() -> Self {
        let desk = Self::new();
        desk.init();
        desk.pack("1.0.0", 1);
        desk
    }
}

/// The bundle of [`Desk::ready`].
pub(crate) const BUNDLE: &str = "dist/ultra/tiny-1.0.0.tar.zst";

/// `pack` without version and counter.
pub(crate) const PACK: &str =
    "pack --model model.onnx --contract contract.json --name tiny --tier ultra --hardware drive-a --notes en=NOTES.md --out dist";

/// A model of two weights: control is the motion plus the state, the state is the control before. `poisoned` has no finite control.
pub(crate) fn model(poisoned: bool) -> Vec<u8> {
    let builder = graph();
    let builder = match poisoned {
        true => builder.node("Log", &["minus_one"], &["nowhere"]).node("Add", &["nowhere", "ego"], &["control"]),
        false => builder.node("Add", &["ego", "state_in"], &["control"]),
    };
    builder.build()
}

/// The sound model with weights that change nothing, so that there is something to download.
pub(crate) fn heavy_model(weights: &[f32]) -> Vec<u8> {
    graph().node("Add", &["ego", "state_in"], &["control"]).f32s("ballast", &[weights.len()], weights).build()
}

fn graph() -> ModelBuilder {
    ModelBuilder::new()
        .input("ego", F32, &[1, 2])
        .input("state_in", F32, &[1, 2])
        .output("trajectory", F32, &[1, 2, 2])
        .output("control", F32, &[1, 2])
        .output("state_out", F32, &[1, 2])
        .f32s("gain", &[1, 2, 2], &[1.0, 0.0, 2.0, 0.0])
        .f32s("minus_one", &[1, 2], &[-1.0, -1.0])
        .node("Mul", &["gain", "ego"], &["trajectory"])
        .node("Add", &["ego", "state_in"], &["state_out"])
}

pub(crate) fn contract() -> Value {
    json!({
        "contract_version": 1,
        "platform": "road_vehicle",
        "inputs": [{"tensor": "ego", "dtype": "f32", "shape": [1, 2], "source": {"ego": {"fields": ["speed_mps", "yaw_rate_radps"]}}}],
        "outputs": [
            {"tensor": "trajectory", "dtype": "f32", "shape": [1, 2, 2], "meaning": {"trajectory": {"step_s": 0.1, "fields": ["x_m", "y_m"]}}},
            {"tensor": "control", "dtype": "f32", "shape": [1, 2], "meaning": {"control": {"fields": ["curvature_1pm", "acceleration_mps2"]}}},
        ],
        "recurrent": [{"input": "state_in", "output": "state_out", "dtype": "f32", "shape": [1, 2]}],
        "features": ["lcc"],
        "runtime": {"onnxruntime_min": "1.23"},
        "memory_mib": 16,
        "deadline_ms": 45,
        "step_ms": 50,
        "envelope": {
            "acceleration_max_mps2": 3.0, "deceleration_max_mps2": 8.0, "lateral_acceleration_max_mps2": 4.0,
            "curvature_max_1pm": 0.2, "jerk_max_mps3": 20.0, "speed_max_mps": 40.0,
        },
        "acceptance": {"default_tolerance": 0.001, "shadow_frames": 10, "shadow_lateral_max_m": 0.5, "trial_frames": 20},
    })
}

/// Paths of all files below a folder, relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
