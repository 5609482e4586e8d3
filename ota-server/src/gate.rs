//! When a rollout stops by itself. Pure: the counts go in, the decision and its reason come out.
//!
//! Only vehicles that reported an outcome count. Silence is no health: dividing by all vehicles of a wave, as others do, lets
//! thousands of failures pass while the rest has not even downloaded.

use serde::{Deserialize, Serialize};
use switchback_signing::metadata::vehicle::UpdateState;

/// How many failures a rollout may have. At least one of `count` and `percent` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureLimit {
    /// Stops when this many vehicles failed.
    #[serde(default)]
    pub count: Option<u32>,
    /// Stops when this part of the vehicles that reported an outcome failed, percent.
    #[serde(default)]
    pub percent: Option<u8>,
    /// Outcomes that must be reported before `percent` is looked at; one failure of one report is no evidence.
    #[serde(default = "one")]
    pub minimum_reports: u32,
}

const fn one() -> u32 {
    1
}

/// A failure limit that would never, or at once, stop a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Neither `count` nor `percent`.
    #[error("a failure limit states a count, a percent, or both")]
    Empty,
    /// Zero would stop a rollout without any failure.
    #[error("a failure limit is at least 1")]
    Zero,
    /// More than everything.
    #[error("a failure limit is at most 100 percent, not {0}")]
    TooHigh(u8),
}

impl FailureLimit {
    /// Checks that the limit can stop a rollout, and only after a failure.
    pub fn check(&self) -> Result<(), LimitError> {
        match (self.count, self.percent) {
            (None, None) => Err(LimitError::Empty),
            (Some(0), _) | (_, Some(0)) => Err(LimitError::Zero),
            (_, Some(percent)) if percent > 100 => Err(LimitError::TooHigh(percent)),
            (Some(_) | None, Some(_)) | (Some(_), None) => Ok(()),
        }
    }
}

/// Outcomes since the rollout was started or last resumed; each vehicle counts once, with its latest outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Vehicles that confirmed the release.
    pub confirmed: u64,
    /// Vehicles that refused the release or rolled it back for a reason that [`blame`]s it.
    pub failed: u64,
}

/// The decision to stop, with the facts it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Too many failures.
    #[error("failed vehicles: {failed}, the limit is {limit}")]
    Count {
        /// Vehicles that failed.
        failed: u64,
        /// What the rollout allows.
        limit: u32,
    },
    /// Too large a part of the outcomes are failures.
    #[error("failed vehicles: {failed} of {reported} that reported, the limit is {limit} percent")]
    Percent {
        /// Vehicles that failed.
        failed: u64,
        /// Vehicles that reported an outcome.
        reported: u64,
        /// What the rollout allows.
        limit: u8,
    },
}

/// Whether a rollout must stop.
#[must_use]
pub fn evaluate(limit: &FailureLimit, tally: Tally) -> Option<Stop> {
    let Tally { confirmed, failed } = tally;
    if let Some(limit) = limit.count.filter(|limit| failed >= u64::from(*limit)) {
        return Some(Stop::Count { failed, limit });
    }
    let reported = confirmed.saturating_add(failed);
    let percent = limit.percent.filter(|_| reported >= u64::from(limit.minimum_reports))?;
    // In 128 bits, so that no number of vehicles can overflow.
    let reached = u128::from(failed) * 100 >= u128::from(percent) * u128::from(reported);
    (failed > 0 && reached).then_some(Stop::Percent { failed, reported, limit: percent })
}

/// What a report says about an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// No update is going on.
    Nothing,
    /// One is on its way.
    Underway,
    /// The release drives for good.
    Confirmed,
    /// The release was refused or rolled back.
    GaveUp,
}

/// What a report with this state says.
#[must_use]
pub const fn said(update: UpdateState) -> Said {
    match update {
        UpdateState::Idle => Said::Nothing,
        UpdateState::Offered
        | UpdateState::Consented
        | UpdateState::Downloading
        | UpdateState::Staged
        | UpdateState::SelfTested
        | UpdateState::Shadow
        | UpdateState::Armed
        | UpdateState::Trial => Said::Underway,
        UpdateState::Confirmed => Said::Confirmed,
        UpdateState::RolledBack | UpdateState::Refused => Said::GaveUp,
    }
}

/// Who is to blame when a vehicle gives a release up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The release: a failure, by which a rollout stops.
    Release,
    /// The release asks for a contract, an SDK or a runtime that the vehicle lacks. Nothing was tried, so that nothing failed; an
    /// operator must see how many there are, and a rollout to the others goes on.
    NotInstallable,
    /// What somebody in the network, a full disk, a driver or the vehicle's own software brought about.
    Circumstances,
}

/// Who is to blame for a refusal or a roll back with this reason: the one place where that is decided, for the gate and for people.
///
/// A gate that stops for circumstances stops good rollouts, and people learn to resume without looking. So the reasons that say nothing
/// about the release are listed, by the stable numbers of the vehicle's side. Every other reason blames the release, also none and one
/// that this server does not know: what nobody has judged must stop the rollout.
#[must_use]
pub const fn blame(reason_number: Option<u32>) -> Blame {
    let Some(number) = reason_number else { return Blame::Release };
    match number {
        154..=156 => Blame::NotInstallable,
        // Trust: metadata that is altered, old, missing or for another vehicle.
        100..=153
        // An index or a file that is not the signed one. Not 162, 163 and 166: it is the signed one, and wrong.
        | 160..=161
        | 164..=165
        // The delegations of the Image repository.
        | 170..=199
        // Bundle: bytes that are not the signed ones, no memory to decode them, or a content key that did not arrive. The rest of 200 to
        // 299 is signed, and wrong; also 262 and 263, a key that does not go with the bundle: no vehicle can install that.
        | 211..=212
        | 250
        | 260..=261
        // A delta that is not of use: the full bundle is fetched instead, and decides.
        | 270..=275
        // Store: no space, a disk that fails, a state that was lost. Not 334, a signed manifest that the store refuses, and not 340,
        // trials that were all cut off.
        | 300..=333
        // Network.
        | 400..=499
        // Consent denied, superseded, withdrawn. Not 504, a bundle of another release than the metadata says, and not 503, see
        // [`is_told_again`].
        | 500..=502
        // No network that the OEM's software lets it come over, or a delta of no use.
        | 505..=507
        // The vehicle could not be opened, its clock is wrong, a file held nothing for it, or another of its ECUs does not answer. Not
        // 610, a model that does not load in time, and not 614, an ECU that refuses what the release needs there.
        | 600..=609
        | 611
        | 613
        | 615
        // ONNX Runtime is not there, is another library, too old, or does not start: no model of any release would run.
        | 4001..=4005
        // The engine has no thread, is gone, busy, or not at that step: nobody has looked at the model yet.
        | 4101..=4104
        // The engine was told to stop. A roll back that the OEM's software asks for counts: it may have seen how the model drives.
        | 4124
        // Somebody changed the files on the vehicle's disk.
        | 4125 => Blame::Circumstances,
        _ => Blame::Release,
    }
}

/// Whether a vehicle that gave a release up for this reason never tries it again.
///
/// What hangs on the moment (memory, time, the inputs and the road that the vehicle met) it tries again, three times; then it says that
/// the release is in quarantine. What the release alone decides fails again, and the vehicle says so at once.
#[must_use]
pub const fn is_for_good(reason_number: Option<u32>) -> bool {
    match (blame(reason_number), reason_number) {
        // Another ECU that refuses its image; no memory, no warm-up, a self-test that cannot be read.
        (Blame::Release, Some(614 | 4120 | 4123 | 4130
        // In shadow: without inputs, late, not confident, outside the envelope where a human drove.
        | 4143..=4145
        | 4147
        // On trial: late, without inputs, or rolled back because the OEM's software asked for it.
        | 4153..=4155)) => false,
        (Blame::Release, _) => true,
        (Blame::NotInstallable | Blame::Circumstances, _) => false,
    }
}

/// Whether a report only tells again of a failure that the vehicle reported before, when `reported` was the last that it had said of the
/// rollout.
///
/// A vehicle that gave a release up refuses it as "quarantined" (503) at every start, without a try. After a resume that is no news. It
/// is news from a vehicle that was last heard on its way: a model that takes the vehicle's software down with it during the trial never
/// gets to report the failure itself, and this refusal is all that is ever heard of it.
#[must_use]
pub fn is_told_again(reason_number: Option<u32>, reported: Option<UpdateState>) -> bool {
    const QUARANTINED: u32 = 503;
    reason_number == Some(QUARANTINED) && matches!(reported, Some(UpdateState::Refused | UpdateState::RolledBack))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    const fn limit(count: Option<u32>, percent: Option<u8>, minimum_reports: u32) -> FailureLimit {
        FailureLimit { count, percent, minimum_reports }
    }

    #[test]
    fn a_count_stops_exactly_when_it_is_reached() {
        let three = limit(Some(3), None, 1);
        assert_eq!(evaluate(&three, Tally { confirmed: 0, failed: 2 }), None);
        let stop = evaluate(&three, Tally { confirmed: 1_000_000, failed: 3 }).unwrap();
        assert_eq!(stop.to_string(), "failed vehicles: 3, the limit is 3");
    }

    #[test]
    fn a_percent_waits_for_its_minimum_of_reports() {
        let tenth = limit(None, Some(10), 20);
        assert_eq!(evaluate(&tenth, Tally { confirmed: 0, failed: 19 }), None);
        let stop = evaluate(&tenth, Tally { confirmed: 18, failed: 2 }).unwrap();
        let text = "failed vehicles: 2 of 20 that reported, the limit is 10 percent";
        assert_eq!(stop.to_string(), text);
        assert_eq!(evaluate(&tenth, Tally { confirmed: 19, failed: 2 }), None);
    }

    #[test]
    fn limits_that_cannot_work_are_refused() {
        assert_eq!(limit(None, None, 1).check(), Err(LimitError::Empty));
        assert_eq!(limit(Some(0), None, 1).check(), Err(LimitError::Zero));
        assert_eq!(limit(Some(1), Some(0), 1).check(), Err(LimitError::Zero));
        assert_eq!(limit(None, Some(101), 1).check(), Err(LimitError::TooHigh(101)));
        assert_eq!(limit(Some(1), Some(100), 1).check(), Ok(()));
    }

    #[test]
    fn only_what_says_something_about_the_release_blames_it() {
        let blameless = [
            (101, "metadata_malformed"),
            (102, "threshold_not_met"),
            (105, "older_version"),
            (112, "expired"),
            (114, "unreachable"),
            (131, "other_vehicle"),
            (150, "wrong_hardware"),
            (151, "wrong_tier"),
            (153, "release_below_floor"),
            (160, "index_length_differs"),
            (161, "index_digest_differs"),
            (164, "file_length_differs"),
            (165, "file_digest_differs"),
            (170, "outside_delegation"),
            (199, "out_of_order"),
            (211, "chunk_length"),
            (212, "chunk_hash"),
            (250, "zstd"),
            (300, "disk_full"),
            (301, "space_missing"),
            (304, "sync_failed"),
            (333, "content_foreign"),
            (400, "server_unreachable"),
            (414, "canceled"),
            (500, "consent_denied"),
            (501, "superseded"),
            (502, "withdrawn"),
            (600, "config"),
            (611, "clock_behind"),
            (4001, "runtime_not_opened"),
            (4005, "runtime_not_started"),
            (4101, "thread"),
            (4104, "wrong_phase"),
            (4124, "canceled"),
            (4125, "files_altered"),
        ];
        let not_installable = [(154, "contract_unknown"), (155, "sdk_too_old"), (156, "runtime_too_old")];
        let blaming = [
            (162, "index_malformed"),
            (163, "index_of_other_bundle"),
            (200, "index_length"),
            (210, "chunk_unknown"),
            (213, "chunk_decode"),
            (242, "contract"),
            (334, "manifest_refused"),
            (340, "trial_given_up"),
            (503, "quarantined"),
            (504, "manifest_differs"),
            (610, "load_timeout"),
            (4021, "model refused by the runtime"),
            (4120, "memory_missing"),
            (4136, "self_test_failed"),
            (4146, "shadow_failed"),
            (0, "unknown"),
            (u32::MAX, "unknown"),
        ];
        let judged = [(&blameless[..], Blame::Circumstances), (&not_installable, Blame::NotInstallable), (&blaming, Blame::Release)];
        for (reasons, expected) in judged {
            for (number, name) in reasons {
                assert_eq!(blame(Some(*number)), expected, "{number} {name}");
            }
        }
        assert_eq!(blame(None), Blame::Release);
    }

    #[test]
    fn only_a_quarantine_after_a_reported_failure_is_told_again() {
        assert!(is_told_again(Some(503), Some(UpdateState::Refused)));
        assert!(is_told_again(Some(503), Some(UpdateState::RolledBack)));
        assert!(!is_told_again(Some(503), Some(UpdateState::Trial)));
        assert!(!is_told_again(Some(503), None));
        assert!(!is_told_again(Some(4136), Some(UpdateState::Refused)));
        assert!(!is_told_again(None, Some(UpdateState::Refused)));
    }

    proptest! {
        #[test]
        fn one_failure_more_never_lets_a_stopped_rollout_go_on(
            count in proptest::option::of(1_u32..50),
            percent in proptest::option::of(1_u8..=100),
            minimum_reports in 0_u32..50,
            confirmed in 0_u64..200,
            failed in 0_u64..200,
        ) {
            let limit = limit(count, percent, minimum_reports);
            let before = evaluate(&limit, Tally { confirmed, failed });
            let after = evaluate(&limit, Tally { confirmed, failed: failed + 1 });
            prop_assert!(before.is_none() || after.is_some());
        }

        #[test]
        fn nothing_stops_without_a_failure(confirmed in 0_u64..1000, minimum_reports in 0_u32..50) {
            let limit = limit(Some(1), Some(1), minimum_reports);
            prop_assert_eq!(evaluate(&limit, Tally { confirmed, failed: 0 }), None);
        }
    }
}
