//! What the engine tells the vehicle.

use std::fmt;

use super::error::{Refusal, RollBackReason};
use super::load::LoadTimes;

/// Something that happened to a model. `generation` is the one that the vehicle gave it.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineEvent {
    /// It was opened, fits its contract, was warmed up and answers its golden inputs as the release engineer's machine did.
    SelfTestPassed {
        /// Which model.
        generation: u64,
        /// Golden cases.
        cases: u32,
        /// How long it took.
        times: LoadTimes,
    },
    /// It passed on live frames.
    ShadowPassed {
        /// Which model.
        generation: u64,
        /// Frames that passed.
        frames: u32,
        /// Largest lateral distance to the active plan, m.
        lateral_m: f32,
    },
    /// It waits for [`super::Engine::activate`], for the first time or because the order was taken back with [`super::Engine::hold`].
    Armed {
        /// Which model.
        generation: u64,
    },
    /// It will not drive; whatever was active still is. Says in [`Refusal`] whether loading, the self-test or the shadow run failed.
    Refused {
        /// Which model.
        generation: u64,
        /// Why.
        refusal: Refusal,
    },
    /// It answers frames now, on trial.
    Swapped {
        /// Which model.
        generation: u64,
    },
    /// It answered all frames of its trial without a fault; [`super::Engine::confirm`] may follow.
    TrialPassed {
        /// Which model.
        generation: u64,
    },
    /// It answers frames for good; the model before it will be freed.
    Confirmed {
        /// Which model.
        generation: u64,
    },
    /// It failed, and the previous model answers again, from the very step on in which it failed.
    RolledBack {
        /// Which model.
        generation: u64,
        /// Why.
        reason: RollBackReason,
    },
    /// A model that is no longer needed was freed, and its memory returned.
    Freed {
        /// Which model.
        generation: u64,
    },
}

/// What the engine is doing for the model that is on its way. One at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is on its way.
    #[default]
    Idle,
    /// Being opened, warmed up and tested.
    Loading,
    /// Running on live frames without being used.
    Shadow,
    /// Ready for [`super::Engine::activate`].
    Armed,
    /// Handed to the driver, which takes it at the next frame if it may then; armed again when the plans agreed too long ago.
    Activating,
    /// Answering frames, the previous model still warm.
    Trial,
    /// Confirmed or rolled back; the other model is on its way to be freed.
    Settling,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Loading => "loading",
            Self::Shadow => "in shadow",
            Self::Armed => "armed",
            Self::Activating => "activating",
            Self::Trial => "on trial",
            Self::Settling => "settling",
        })
    }
}

/// A snapshot of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// What it is doing.
    pub phase: Phase,
    /// Generation of the model on its way; that of the last one when idle, 0 before the first.
    pub generation: u64,
    /// The trial has been passed.
    pub trial_passed: bool,
    /// Memory that the contracts of all models in memory state, MiB.
    pub memory_mib: u32,
}
