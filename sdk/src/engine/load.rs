//! From files to a session that has proved itself.

use std::path::{Component, Path, PathBuf};

use switchback_onnx::{Optimization, Prepacking, Runtime, Session, SessionOptions};
use switchback_signing::bundle::contract::RuntimeRange;

use super::error::Refusal;
use super::self_test;
use super::{Entry, ModelFiles, SwapWhen};
use crate::drive::{Clock, Mode, Model, ModelIdentity, recurrent_pairs};

/// Runs before anything is measured: the first takes twice as long as the third, the third as long as all others.
const WARM_UP_RUNS: u32 = 3;

/// A session that was opened, fits its contract, was warmed up and passed its self-test. Only [`load`] makes one, and only this may
/// answer frames.
#[derive(Debug)]
pub(super) struct TestedSession {
    model: Model,
    trial_frames: Option<u32>,
    terms: Terms,
}

/// On what terms a model may take over from another one. They travel with it, so that the frame that takes it judges by them and not by
/// those of an order before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) when: SwapWhen,
    /// Until then, by the engine's clock, the agreement of its plan with the active one counts.
    pub(super) until_ns: u64,
}

impl Terms {
    /// Whether a step in this mode that begins at `now_ns` may swap.
    pub(super) fn permit(self, mode: Mode, now_ns: u64) -> bool {
        let mode_fits = match self.when {
            SwapWhen::Anytime => true,
            SwapWhen::Disengaged => mode != Mode::Engaged,
        };
        mode_fits && now_ns <= self.until_ns
    }
}

impl TestedSession {
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Frames of the trial; none when the model was confirmed before.
    pub(super) fn trial_frames(&self) -> Option<u32> {
        self.trial_frames
    }

    pub(super) fn generation(&self) -> u64 {
        self.model.identity().generation
    }

    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    pub(super) fn offer_on(&mut self, terms: Terms) {
        self.terms = terms;
    }
}

/// How long the steps of loading took, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Opening the session.
    pub open_ns: u64,
    /// Warming it up.
    pub warm_up_ns: u64,
    /// The self-test.
    pub self_test_ns: u64,
}

/// Opens, warms up and tests a model. Blocks for as long as that takes; loader thread only.
pub(super) fn load(
    runtime: &Runtime,
    intra_threads: usize,
    files: &ModelFiles,
    clock: &dyn Clock,
) -> Result<(TestedSession, LoadTimes), Refusal> {
    let contract = &files.manifest.contract;
    if !is_in_range(&contract.runtime, runtime.version()) {
        return Err(Refusal::RuntimeVersion { range: range_text(&contract.runtime), found: runtime.version().to_owned() });
    }
    let start = clock.now_ns();
    let options =
        SessionOptions { intra_threads, prepacking: Prepacking::On, optimization: Optimization::All, recurrent: recurrent_pairs(contract) };
    let mut session = Session::open(runtime, &member(&files.directory, &files.manifest.model)?, &options)?;
    let opened = clock.now_ns();
    for _ in 0..WARM_UP_RUNS {
        session.run().map_err(Refusal::WarmUp)?;
    }
    let warm = clock.now_ns();
    let release = &files.manifest.release;
    let identity = ModelIdentity::new(&release.model, &release.version, files.sha256, release.release_counter, files.generation);
    let mut model = Model::new(session, contract, identity)?;
    self_test::run(&mut model, files)?;
    // ONNX Runtime opened the files by their names, after they were verified. By now it has read them.
    if let Some(path) = files.witness.altered() {
        return Err(Refusal::Altered { path });
    }
    let times = LoadTimes {
        open_ns: opened.saturating_sub(start),
        warm_up_ns: warm.saturating_sub(opened),
        self_test_ns: clock.now_ns().saturating_sub(warm),
    };
    let trial_frames = match files.entry {
        Entry::Confirmed => None,
        Entry::Candidate => Some(contract.acceptance.trial_frames),
    };
    let terms = Terms { when: SwapWhen::Anytime, until_ns: u64::MAX };
    Ok((TestedSession { model, trial_frames, terms }, times))
}

/// A member of the bundle in its directory. The store wrote only such paths; a manifest is still not obeyed blindly.
pub(super) fn member(directory: &Path, path: &str) -> Result<PathBuf, Refusal> {
    let plain = !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    if plain { Ok(directory.join(path)) } else { Err(Refusal::Path { path: path.to_owned() }) }
}

fn is_in_range(range: &RuntimeRange, version: &str) -> bool {
    let found = numbers(version);
    let high_enough = found >= numbers(&range.onnxruntime_min);
    high_enough && range.onnxruntime_below.as_deref().is_none_or(|below| found < numbers(below))
}

/// `1.31.1` as numbers; what is no number counts as 0.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [0; 3].map(|_: u32| parts.next().unwrap_or(0))
}

fn range_text(range: &RuntimeRange) -> String {
    match &range.onnxruntime_below {
        Some(below) => format!("{} up to before {below}", range.onnxruntime_min),
        None => format!("{} or later", range.onnxruntime_min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let range =
            |min: &str, below: Option<&str>| RuntimeRange { onnxruntime_min: min.to_owned(), onnxruntime_below: below.map(str::to_owned) };
        for (range, version, expected) in [
            (range("1.23", None), "1.31.1", true),
            (range("1.23", None), "1.9.0", false),
            (range("1.31.1", None), "1.31.1", true),
            (range("1.31.2", None), "1.31.1", false),
            (range("1.23", Some("1.31")), "1.31.0", false),
            (range("1.23", Some("1.31")), "1.30.9", true),
            (range("1.23", Some("2")), "1.31.1", true),
        ] {
            assert_eq!(is_in_range(&range, version), expected, "{range:?} {version}");
        }
    }

    #[test]
    fn a_path_that_leaves_the_directory_is_refused() {
        for path in ["", "/etc/passwd", "../model.onnx", "a/../../b", "./model.onnx"] {
            assert!(matches!(member(Path::new("/m"), path), Err(Refusal::Path { .. })), "{path}");
        }
        assert_eq!(member(Path::new("/m"), "selftest/inputs.safetensors").ok(), Some(PathBuf::from("/m/selftest/inputs.safetensors")));
    }
}
