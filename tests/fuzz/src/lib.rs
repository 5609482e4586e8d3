//! What must hold for any bytes at all, whoever sends them: no panic, no memory that the sender chooses, one meaning for one file.
//!
//! A target is a function of bytes. It asserts the properties and says whether the bytes were accepted, so that a corpus of which
//! nothing is accepted any more shows itself. The same targets are replayed by an ordinary test, run for hours by the program of this
//! package, and guided by coverage by the package `libfuzzer` beside it; `docs/fuzzing.md` has the commands.
//!
//! Where a signature or a digest would stop every changed byte at the door, the target signs what it was given with keys of its own: it
//! is the engineer whose keys are good and whose intentions are not.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a property that does not hold must stop the run")]

mod bundle;
mod crafted;
mod delta;
mod documents;
mod encrypted_keys;
mod index;
mod keys;
mod mutate;
mod parts;
mod reports;
pub mod seeds;
mod update;

pub use self::{crafted::CraftedBundle, mutate::Random};

/// What a target makes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was believed, or at least understood.
    Accepted,
    /// It was refused with an error.
    Refused,
}

/// One function of bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also of its corpus.
    pub name: &'static str,
    /// Runs it; panics when a property does not hold.
    pub run: fn(&[u8]) -> Verdict,
    /// Inputs that it accepts, made by our own code.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 9] = [
    // Each role's parser, what adds and merges signatures, and what writes the file again.
    Target { name: "metadata", run: documents::run, seeds: seeds::metadata },
    // A whole check of both repositories, and one of a repository without a Director.
    Target { name: "update", run: update::run, seeds: seeds::update },
    // Vehicle version manifests, ECU reports, enrollment.
    Target { name: "reports", run: reports::run, seeds: seeds::reports },
    // The chunk index.
    Target { name: "index", run: index::run, seeds: seeds::index },
    // Decoder, archive reader, manifest and contract.
    Target { name: "bundle", run: bundle::run, seeds: seeds::bundle },
    // Delta chunks over any base, and what our encoder makes of any bytes.
    Target { name: "delta", run: delta::run, seeds: delta::seeds },
    // The index of a delta.
    Target { name: "delta_index", run: delta::run_index, seeds: delta::index_seeds },
    // Key files, signed requests, names and times.
    Target { name: "keys", run: keys::run, seeds: seeds::keys },
    // Secret keys under a passphrase.
    Target { name: "encrypted-keys", run: encrypted_keys::run, seeds: seeds::encrypted_keys },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }

    /// An input near to one of `inputs`, which must not be empty.
    pub fn mutant(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
        mutate::mutant(random, inputs)
    }
}

impl From<bool> for Verdict {
    fn from(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}
