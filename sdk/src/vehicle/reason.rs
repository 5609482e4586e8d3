//! Errors as the vehicle reports them, and whom they blame.

use std::error::Error;

use switchback_signing::{bundle::BundleError, metadata::vehicle::Reason, trust::TrustError};

use crate::{
    engine::{EngineError, Refusal, RollBackReason, SelfTestError},
    fetch::FetchError,
    store::{FailureCount, StoreError, Verdict},
    update::Blame,
};

/// Longest text of a reason. Reports are small, and the rest of the story is in the vehicle's own log.
const TEXT_CHARS_MAX: usize = 300;

/// The release failed so often on this vehicle that it is left alone.
const QUARANTINED: u32 = 503;
/// The bundle is of another release than the metadata says.
pub(super) const MANIFEST_DIFFERS: u32 = 504;

/// The confirmed model did not load in time.
pub(super) const LOAD_TIMEOUT: u32 = 610;

pub(super) fn reason(number: u32, name: &str, text: impl Into<String>) -> Reason {
    Reason { number, name: name.to_owned(), text: text.into().chars().take(TEXT_CHARS_MAX).collect() }
}

/// The text of an error and of everything behind it.
pub(super) fn story(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Transparent errors repeat the text of the one within.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

pub(super) fn of_store(error: &StoreError) -> Reason {
    reason(error.number(), error.name(), story(error))
}

/// Whether a failure of the disk counts against the release that was being written.
pub(super) fn blame_of_store(error: &StoreError) -> Blame {
    match error {
        // Content that cannot be read back or synced: the disk may be dying, and trying for ever wears it down.
        StoreError::SyncFailed { .. }
        | StoreError::ContentHash { .. }
        | StoreError::ContentLength { .. }
        | StoreError::ContentMissing { .. }
        | StoreError::ContentForeign { .. } => Blame::Circumstances,
        StoreError::ManifestRefused { .. } => Blame::Release,
        _ => Blame::Nobody,
    }
}

pub(super) fn of_fetch(error: &FetchError) -> Reason {
    reason(error.number(), error.name(), story(error))
}

pub(super) fn of_trust(error: &TrustError) -> Reason {
    let found = error.reason();
    reason(found.number, &found.name, story(error))
}

pub(super) fn of_bundle(error: &BundleError) -> Reason {
    reason(error.number(), error.name(), story(error))
}

/// Whether a bundle that cannot be read counts against the release.
pub(super) fn blame_of_bundle(error: &BundleError) -> Blame {
    match error {
        // Not the signed bytes: whoever sent them is to blame, and the next try may bring the right ones.
        BundleError::ChunkLength { .. } | BundleError::ChunkHash { .. } => Blame::Nobody,
        BundleError::Zstd { .. } => Blame::Circumstances,
        // Signed, and wrong all the same.
        _ => Blame::Release,
    }
}

pub(super) fn of_engine(error: &EngineError) -> Reason {
    reason(error.number().into(), "engine", story(error))
}

pub(super) fn of_refusal(refusal: &Refusal) -> Reason {
    let name = match refusal {
        Refusal::Memory { .. } => "memory_missing",
        Refusal::RuntimeVersion { .. } => "runtime_version",
        Refusal::Path { .. } => "manifest_path",
        Refusal::Open(_) => "model_not_opened",
        Refusal::Contract(_) => "contract_does_not_fit",
        Refusal::WarmUp(_) => "warm_up_failed",
        Refusal::SelfTest(_) => "self_test_failed",
        Refusal::Shadow(_) => "shadow_failed",
        Refusal::Canceled => "canceled",
    };
    reason(refusal.number().into(), name, story(refusal))
}

/// Whether a refused model may be tried again. What fails once here fails again: the same graph, the same golden inputs, the same
/// vehicle. A release that does not pass waits for the next one.
pub(super) fn blame_of_refusal(refusal: &Refusal) -> Blame {
    match refusal {
        Refusal::Canceled => Blame::Nobody,
        Refusal::Open(_) | Refusal::SelfTest(SelfTestError::Unreadable { .. }) => Blame::Circumstances,
        _ => Blame::Release,
    }
}

pub(super) fn of_roll_back(cause: RollBackReason) -> Reason {
    let name = match cause {
        RollBackReason::RunFailed => "run_failed",
        RollBackReason::NotFinite => "output_not_finite",
        RollBackReason::Envelope => "outside_envelope",
        RollBackReason::Deadline => "deadline_missed",
        RollBackReason::Inputs => "inputs_missing",
        RollBackReason::Requested => "roll_back_requested",
    };
    reason(cause.number().into(), name, story(&cause))
}

pub(super) fn blame_of_roll_back(cause: RollBackReason) -> Blame {
    match cause {
        RollBackReason::Requested => Blame::Nobody,
        _ => Blame::Release,
    }
}

pub(super) fn of_quarantine(failure: &FailureCount) -> Reason {
    let FailureCount { count, number, name, .. } = failure;
    reason(QUARANTINED, "quarantined", format!("given up on this vehicle after failure {count}: {name} ({number})"))
}

pub(super) fn verdict(blame: Blame) -> Verdict {
    match blame {
        Blame::Release => Verdict::Condemned,
        Blame::Circumstances => Verdict::Counted,
        Blame::Nobody => Verdict::Blameless,
    }
}
