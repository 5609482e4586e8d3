use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Drives the road simulator with whatever model the server assigns to it, and takes updates on the way.
#[derive(Debug, Parser)]
#[command(name = "rust-vehicle")]
pub(crate) struct Options {
    /// Address of the server, such as http://127.0.0.1:8470; https unless it is on this computer
    #[arg(long)]
    pub(crate) server: String,
    /// Folder in which the vehicle keeps its models, its metadata and its key
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// First root metadata of the Director, as provisioned at the factory
    #[arg(long)]
    pub(crate) director_root: PathBuf,
    /// First root metadata of the Image repository, as provisioned at the factory
    #[arg(long)]
    pub(crate) image_root: PathBuf,
    /// One-time enrollment token; needed once for an empty store
    // A token is random and may begin with a hyphen.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) token: Option<String>,
    /// Name of the vehicle, the one that the token was made for
    #[arg(long)]
    pub(crate) vehicle_id: String,
    /// Serial number of the driving computer
    #[arg(long)]
    pub(crate) ecu_serial: String,
    /// Kind of the driving computer, such as drive-a
    #[arg(long)]
    pub(crate) hardware_id: String,
    /// Product level, such as ultra
    #[arg(long)]
    pub(crate) tier: String,
    /// Region in which the vehicle is approved, such as eu
    #[arg(long)]
    pub(crate) region: String,
    /// Shown in the output; the server has its own record of it
    #[arg(long, default_value = "")]
    pub(crate) model_line: String,
    /// ONNX Runtime to open
    #[arg(long, env = "ORT_DYLIB_PATH", default_value = "target/onnxruntime/libonnxruntime.so.1")]
    pub(crate) runtime: PathBuf,
    /// Road to drive on
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Drive at night
    #[arg(long)]
    pub(crate) night: bool,
    /// Steps per second of wall time; a step is always 50 ms of simulated time
    #[arg(long, default_value_t = 20.0)]
    pub(crate) hz: f64,
    /// Time between two questions to the server until it answers, milliseconds: its own number (`--poll-after-s` there) counts from then on
    #[arg(long, default_value_t = 1000)]
    pub(crate) poll_ms: u64,
    /// Most bytes between two checkpoints of a download; 64 MiB if not stated
    #[arg(long)]
    pub(crate) checkpoint_bytes: Option<u64>,
    /// When a new model may take over
    #[arg(long, value_enum, default_value_t = Activate::Disengaged)]
    pub(crate) activate: Activate,
    /// End after this many seconds of wall time
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// End when this model version is confirmed
    #[arg(long)]
    pub(crate) until_version: Option<String>,
    /// One CSV line per frame goes here
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
}

/// The vehicle maker's rule on when a new model may take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Activate {
    /// At any frame, also while the driving function steers
    Now,
    /// When the vehicle stands
    Standstill,
    /// When the driving function is not engaged
    Disengaged,
}
