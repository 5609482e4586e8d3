//! ONNX Runtime sessions on a loader thread, shadow runs and the hot swap.
//!
//! A model goes through *loading* (opened, checked against its contract, warmed up, self-tested), *shadow* (run on live frames beside
//! the active one, which also fills its memory), *armed*, *trial* (it answers, the previous one stays warm) and is then *confirmed*,
//! or rolled back. [`Engine`] is the vehicle's handle, for any thread. [`Driver`] answers frames, on one thread.
//!
//! Everything slow happens on the loader thread. A step takes no lock, waits for nobody, allocates and frees nothing of ours; it takes
//! over a new model by one atomic exchange before it looks at its frame, and gives the old one back the same way.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use switchback_onnx::Runtime;
use switchback_signing::bundle::manifest::Manifest;

mod driver;
mod error;
mod event;
mod load;
mod loader;
mod self_test;
mod shadow;
mod shared;

pub use driver::Driver;
pub use error::{EngineError, Refusal, RollBackReason, SelfTestError, ShadowFailure};
pub use event::{EngineEvent, EngineStatus, Phase};
pub use load::LoadTimes;

use crate::drive::{Clock, MonotonicClock};
use loader::{Command, Loader};
use shared::{Order, Shared};

/// How the engine behaves in this vehicle.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The ONNX Runtime library. None: the environment variable `ORT_DYLIB_PATH`, then the system's loader.
    pub runtime_path: Option<PathBuf>,
    /// Threads that one run uses, the caller's included. Threads beyond the first inherit the loader's nice value.
    pub intra_threads: usize,
    /// Memory that all loaded models together may need by their contracts, MiB. Both must fit for a swap without a gap.
    pub memory_budget_mib: u32,
    /// Nice value of the loader thread. Above 10 it starves on a busy machine: loads then take minutes.
    pub loader_nice: i32,
    /// Name of the loader thread, at most 15 bytes.
    pub loader_name: String,
    /// A candidate in shadow gets every n-th frame; 0 counts as 1. Frames that come while it still runs are left out anyway.
    pub shadow_every: u32,
    /// Age of a camera image, exposure to step, from which on it is stale, ms.
    pub frame_age_max_ms: u32,
    /// Age of the ego state from which on it is stale, ms.
    pub ego_age_max_ms: u32,
    /// Time between the exposures of two cameras from which on they count as apart, ms.
    pub camera_skew_max_ms: u32,
    /// Steps in a row with a late answer, or with inputs missing that the previous model does not need, that end a trial; 0 counts as 1.
    pub failures_in_a_row_max: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            runtime_path: None,
            intra_threads: 1,
            memory_budget_mib: 2048,
            loader_nice: 5,
            loader_name: "swb-loader".to_owned(),
            shadow_every: 1,
            frame_age_max_ms: 150,
            ego_age_max_ms: 150,
            camera_skew_max_ms: 20,
            failures_in_a_row_max: 3,
        }
    }
}

/// A model on disk. Whoever makes this has verified every byte of the directory against the signed index.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// Where the members of the bundle are; a real directory of its own, not behind symbolic links.
    pub directory: PathBuf,
    /// The bundle's manifest.
    pub manifest: Manifest,
    /// SHA-256 of the bundle's chunk index, the signed target.
    pub sha256: [u8; 32],
    /// Rises with every model that this vehicle activates, from 1; less than 2^48.
    pub generation: u64,
    /// How it comes to drive.
    pub entry: Entry,
    /// Says whether they are still the files that were verified, once they have been read.
    pub witness: Arc<dyn Witness>,
}

/// Whoever verified the files of a model and would know of a change since.
pub trait Witness: Send + Sync + fmt::Debug {
    /// A file or folder that is not as it was when it was verified.
    fn altered(&self) -> Option<PathBuf>;
}

/// How a model comes to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It was confirmed before, such as at start: no shadow, no trial.
    Confirmed,
    /// It is new: shadow on live frames when another model is active, then trial.
    Candidate,
}

/// At which frames an activated candidate may take over from the model that drives. Without one there is nothing to wait for: every frame
/// will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapWhen {
    /// At frames at which the driving function is not engaged.
    Disengaged,
    /// At every frame.
    Anytime,
}

/// The vehicle's handle on the models. Every call returns at once; results come as [`EngineEvent`]s.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    commands: Mutex<Sender<Command>>,
    loader: Option<JoinHandle<()>>,
    runtime_version: String,
}

impl Engine {
    /// Opens ONNX Runtime and starts the loader thread. There is no model yet: the driver answers with [`crate::drive::Faults::NO_MODEL`].
    ///
    /// # Errors
    /// [`EngineError::Runtime`] when ONNX Runtime is missing, [`EngineError::Thread`] when the thread cannot be started.
    pub fn start(config: EngineConfig) -> Result<(Self, Driver), EngineError> {
        Self::start_with_clock(config, Arc::new(MonotonicClock::new()))
    }

    /// As [`Engine::start`], with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_with_clock(config: EngineConfig, clock: Arc<dyn Clock>) -> Result<(Self, Driver), EngineError> {
        let runtime = Runtime::load(config.runtime_path.as_deref())?;
        let runtime_version = runtime.version().to_owned();
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = channel();
        let driver = Driver::new(Arc::clone(&shared), Arc::clone(&clock), &config);
        let name = config.loader_name.clone();
        let loader = Loader::new(Arc::clone(&shared), receiver, runtime, clock, config);
        let thread = thread::Builder::new().name(name).spawn(move || loader.run()).map_err(EngineError::Thread)?;
        shared.set_loader(thread.thread().clone());
        Ok((Self { shared, commands: Mutex::new(sender), loader: Some(thread), runtime_version }, driver))
    }

    /// Begins to load a model. Ends with [`EngineEvent::Armed`] or [`EngineEvent::Refused`].
    ///
    /// # Errors
    /// [`EngineError::Busy`] while another model is on its way.
    pub fn load(&self, files: ModelFiles) -> Result<(), EngineError> {
        let mut status = self.shared.status();
        if !matches!(status.phase, Phase::Idle | Phase::Settling) {
            return Err(EngineError::Busy { generation: status.generation, phase: status.phase });
        }
        let generation = files.generation;
        self.send(Command::Load(Box::new(files)))?;
        (status.phase, status.generation) = (Phase::Loading, generation);
        Ok(())
    }

    /// Lets the armed candidate drive from the next frame on at which it may, by `when`, and shortly before which its plan agreed with the
    /// active one. The order stands until then, or until it is taken back with [`Engine::hold`] or [`Engine::cancel`].
    ///
    /// # Errors
    /// [`EngineError::WrongPhase`] unless a candidate is armed.
    pub fn activate(&self, when: SwapWhen) -> Result<(), EngineError> {
        let generation = self.expect("activate", |status| matches!(status.phase, Phase::Armed | Phase::Activating))?;
        self.send(Command::Activate { generation, when })
    }

    /// Takes the order to activate the candidate back; it stays armed, and runs on in shadow. Ends with [`EngineEvent::Armed`] once no frame
    /// can take it any more, or with [`EngineEvent::Swapped`] when one was faster.
    ///
    /// # Errors
    /// [`EngineError::WrongPhase`] unless a candidate is armed.
    pub fn hold(&self) -> Result<(), EngineError> {
        let generation = self.expect("hold", |status| matches!(status.phase, Phase::Armed | Phase::Activating))?;
        self.send(Command::Hold { generation })
    }

    /// Takes the candidate back before it drives, also after it was activated. Ends with [`EngineEvent::Refused`], or with
    /// [`EngineEvent::Swapped`] when a frame was faster.
    ///
    /// # Errors
    /// [`EngineError::WrongPhase`] unless a candidate is loading, in shadow or armed.
    pub fn cancel(&self) -> Result<(), EngineError> {
        let legal = |phase| matches!(phase, Phase::Loading | Phase::Shadow | Phase::Armed | Phase::Activating);
        let generation = self.expect("cancel", |status| legal(status.phase))?;
        self.send(Command::Cancel { generation })
    }

    /// Ends a trial that was passed: the previous model is freed. Takes effect at the next frame.
    ///
    /// # Errors
    /// [`EngineError::WrongPhase`] unless a trial was passed.
    pub fn confirm(&self) -> Result<(), EngineError> {
        let generation = self.expect("confirm", |status| status.phase == Phase::Trial && status.trial_passed)?;
        self.shared.order(generation, Order::Confirm);
        Ok(())
    }

    /// Returns to the previous model at the next frame, while the trial runs.
    ///
    /// # Errors
    /// [`EngineError::WrongPhase`] unless a model is on trial.
    pub fn roll_back(&self) -> Result<(), EngineError> {
        let generation = self.expect("roll back", |status| status.phase == Phase::Trial)?;
        self.shared.order(generation, Order::RollBack);
        Ok(())
    }

    /// The oldest event not yet fetched. The last 256 are kept.
    pub fn poll_event(&self) -> Option<EngineEvent> {
        self.shared.event(Duration::ZERO)
    }

    /// As [`Engine::poll_event`], waiting up to `wait` for one.
    pub fn wait_event(&self, wait: Duration) -> Option<EngineEvent> {
        self.shared.event(wait)
    }

    /// What the engine is doing now.
    pub fn status(&self) -> EngineStatus {
        *self.shared.status()
    }

    /// Version of ONNX Runtime, such as `1.31.1`.
    pub fn runtime_version(&self) -> &str {
        &self.runtime_version
    }

    /// The model that the call is about. It may change before the call takes effect, which is why every order names it.
    fn expect(&self, call: &'static str, legal: impl Fn(&EngineStatus) -> bool) -> Result<u64, EngineError> {
        let status = self.status();
        if legal(&status) { Ok(status.generation) } else { Err(EngineError::WrongPhase { call, phase: status.phase }) }
    }

    fn send(&self, command: Command) -> Result<(), EngineError> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.send(command).map_err(|_| EngineError::LoaderGone)?;
        self.shared.wake_loader();
        Ok(())
    }
}

impl Drop for Engine {
    /// Ends the loader thread and waits for it; a load under way is finished first. The driver goes on with the model it has.
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.send(Command::End);
        if let Some(loader) = self.loader.take() {
            let _ = loader.join();
        }
    }
}
