//! The six steps.

mod attacks;
mod broken;
mod ceremony;
mod closing;
mod enrollment;
mod first_model;
mod second_model;

use std::time::Duration;

use anyhow::Result;

use crate::report::{Comparison, Hero, Progress};
use crate::stage::Stage;

pub(crate) use ceremony::open_server;

/// The release that runs everywhere at first: vision, words, action.
pub(crate) const FIRST: (&str, &str) = ("vla-1", "1.0.0");
/// The better one: vision to action.
pub(crate) const SECOND: (&str, &str) = ("vla-2", "2.0.0");
/// Deliberately broken, validly signed: left and right exchanged.
pub(crate) const BENT: (&str, &str) = ("vla-3", "3.0.0");
/// Deliberately broken, validly signed: falls silent after a while.
pub(crate) const SILENT: (&str, &str) = ("vla-3", "3.1.0");
/// What somebody tampers with on the server.
pub(crate) const TAMPERED: (&str, &str) = ("vla-2", "2.0.1");

pub(crate) const SIGNERS: [&str; 3] = ["alice", "bob", "carol"];
/// The authority of each region.
pub(crate) const AUTHORITIES: [(&str, &str); 2] = [("eu", "KBA"), ("cn", "MIIT")];

/// Longest time that a step of a rollout may take here; a step that takes longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the story leaves for the report.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) progress: Vec<Progress>,
    pub(crate) comparison: Vec<Comparison>,
    /// Where and when the C vehicle swapped.
    pub(crate) swap: Option<Swap>,
    pub(crate) hero: Option<Hero>,
    /// Vehicles that were offered the broken release.
    pub(crate) exposed: Option<usize>,
    /// Seconds from the start of the broken release's rollout to its pause.
    pub(crate) paused_after_s: Option<f64>,
}

/// The hot swap of the C vehicle.
#[derive(Clone, Copy)]
pub(crate) struct Swap {
    /// Index in its log.
    pub(crate) frame: usize,
    /// Of the road there, 1/m, left positive.
    pub curvature_1pm: f64,
}

/// Tells the whole story; stops at the first claim that does not hold.
pub(crate) fn tell(stage: &mut Stage, record: &mut Record) -> Result<()> {
    ceremony::tell(stage)?;
    enrollment::tell(stage)?;
    first_model::tell(stage)?;
    second_model::tell(stage, record)?;
    broken::tell(stage, record)?;
    attacks::tell(stage)?;
    closing::tell(stage, record)
}
