//! Errors as the vehicle reports them, and whom they blame.

use std::error::Error;

use switchback_signing::{
    bundle::BundleError,
    metadata::vehicle::Reason,
    trust::{Attack, TrustError},
};

use super::VehicleError;
use crate::{
    engine::{EngineError, Refusal, RollBackReason, SelfTestError, ShadowFailure},
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
/// The OEM's software allows no downloads for now.
pub(super) const NETWORK_NONE: u32 = 505;
/// A delta that the Director named is of no use.
pub(super) const DELTA_NOT_USED: u32 = 507;
/// The OEM's software allows no more bytes of a release over a metered network.
pub(super) const NETWORK_BUDGET: u32 = 506;

/// The confirmed model did not load in time.
pub(super) const LOAD_TIMEOUT: u32 = 610;
/// The clock is behind what the vehicle has seen.
pub(super) const CLOCK_BEHIND: u32 = 611;
/// The two roots that the vehicle was provisioned with are each other's.
pub(super) const ROOTS_EXCHANGED: u32 = 612;
/// An offline update with nothing to install.
pub(super) const OFFLINE_NOTHING_NEW: u32 = 613;
/// Another ECU of the vehicle refused its part of the release.
pub(super) const SECONDARY_REFUSED: u32 = 614;
/// Another ECU of the vehicle does not answer.
pub(super) const SECONDARY_SILENT: u32 = 615;
/// An ECU was asked to run an image that it does not have.
pub(super) const SECONDARY_NOT_STAGED: u32 = 616;

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

/// Whether what lies in the slot was read, and is not what was signed.
pub(super) fn is_about_content(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::ContentHash { .. }
            | StoreError::ContentLength { .. }
            | StoreError::ContentMissing { .. }
            | StoreError::ContentForeign { .. }
            | StoreError::ManifestRefused { .. }
    )
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

pub(super) fn of_vehicle(error: &VehicleError) -> Reason {
    reason(error.number(), "vehicle", story(error))
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
        // No content key yet: the next metadata may bring it, and nothing was fetched but the index.
        BundleError::ContentKeyMissing { .. } => Blame::Nobody,
        // A key that does not go with the bundle: whoever brought it may bring the right one, and does not get for ever to do so.
        BundleError::ContentKeyMalformed { .. } | BundleError::ContentKeyUnneeded | BundleError::ContentKeyWrong { .. } => {
            Blame::Circumstances
        }
        BundleError::Zstd { .. } => Blame::Circumstances,
        // A delta that is not of use says nothing about the release, which the full bundle brings.
        BundleError::DeltaIndex { .. }
        | BundleError::DeltaOther { .. }
        | BundleError::DeltaBase { .. }
        | BundleError::DeltaDecode { .. }
        | BundleError::BaseUnreadable { .. }
        | BundleError::DeltaResult { .. } => Blame::Circumstances,
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
        Refusal::Altered { .. } => "files_altered",
    };
    reason(refusal.number().into(), name, story(refusal))
}

/// Whether a refused model may be tried again. What the release alone decides fails again: the same graph, the same golden inputs. What
/// hangs on the moment (memory, time, the inputs and the road that the vehicle met) is counted, and given up after three times.
pub(super) fn blame_of_refusal(refusal: &Refusal) -> Blame {
    match refusal {
        Refusal::Canceled => Blame::Nobody,
        // Not the release: whoever changed them did not change what was signed.
        Refusal::Altered { .. }
        | Refusal::Open(_)
        | Refusal::Memory { .. }
        | Refusal::WarmUp(_)
        | Refusal::SelfTest(SelfTestError::Unreadable { .. })
        | Refusal::Shadow(
            ShadowFailure::Late { .. } | ShadowFailure::LowConfidence { .. } | ShadowFailure::Inputs(_) | ShadowFailure::Outside { .. },
        ) => Blame::Circumstances,
        _ => Blame::Release,
    }
}

/// The attack that a refusal is, if somebody did it on purpose.
pub(super) fn attack_of_refusal(refusal: &Refusal) -> Option<Attack> {
    match refusal {
        Refusal::Altered { .. } => Some(Attack::ArbitrarySoftware),
        _ => None,
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
        // A busy computer or a camera that failed does the same to a good model.
        RollBackReason::Deadline | RollBackReason::Inputs => Blame::Circumstances,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_on_the_moment_is_counted_and_what_the_release_decides_condemns_it() {
        let apart = ShadowFailure::Apart { apart: 9, frames: 10, lateral_m: 3.0, lateral_max_m: 0.5 };
        let refusals = [
            (Refusal::Canceled, Blame::Nobody),
            (Refusal::Memory { needed_mib: 2, in_use_mib: 1, budget_mib: 2 }, Blame::Circumstances),
            (ShadowFailure::Late { late: 2, frames: 10, deadline_ms: 50 }.into(), Blame::Circumstances),
            (ShadowFailure::LowConfidence { low: 2, frames: 10 }.into(), Blame::Circumstances),
            (ShadowFailure::Inputs(None).into(), Blame::Circumstances),
            (ShadowFailure::Outside { outside: 3, frames: 20 }.into(), Blame::Circumstances),
            (apart.into(), Blame::Release),
            (ShadowFailure::NotFinite.into(), Blame::Release),
            (ShadowFailure::Envelope(None).into(), Blame::Release),
            (SelfTestError::NoCase.into(), Blame::Release),
            (Refusal::Altered { path: "x".into() }, Blame::Circumstances),
            (Refusal::Path { path: "../x".into() }, Blame::Release),
        ];
        for (refusal, expected) in refusals {
            assert_eq!(blame_of_refusal(&refusal), expected, "{refusal}");
        }
        let roll_backs = [
            (RollBackReason::Requested, Blame::Nobody),
            (RollBackReason::Deadline, Blame::Circumstances),
            (RollBackReason::Inputs, Blame::Circumstances),
            (RollBackReason::RunFailed, Blame::Release),
            (RollBackReason::NotFinite, Blame::Release),
            (RollBackReason::Envelope, Blame::Release),
        ];
        for (cause, expected) in roll_backs {
            assert_eq!(blame_of_roll_back(cause), expected, "{cause}");
        }
    }
}
