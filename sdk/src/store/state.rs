//! What the store remembers: which slot holds what, and how far it got.

use std::fmt;

use serde::{Deserialize, Serialize};
use switchback_signing::digest::Sha256Digest;

use super::error::StoreError;

/// How often one release is tried before the vehicle leaves it alone. Two tries survive one unlucky power cut; a third one tells
/// bad luck from a release that takes the computer down with it.
pub const TRIES_MAX: u8 = 3;

/// Most releases whose failures are remembered, as many as fit the record beside two slots with the longest names. Older ones are
/// forgotten: a rollout does not come back after eight others.
const FAILURES_MAX: usize = 8;

/// Longest name of a failure's reason that is kept.
const REASON_NAME_BYTES_MAX: usize = 48;

/// One of the two places that hold a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotId {
    /// `slots/a`.
    A,
    /// `slots/b`.
    B,
}

impl SlotId {
    /// Both slots.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other slot.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Name of the slot's directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    const fn number(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which release a slot holds, or is being filled with: what the vehicle reports about it and checks it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occupant {
    /// Path of the chunk index among the targets.
    pub target: String,
    /// Length of the chunk index, bytes.
    pub index_length: u64,
    /// SHA-256 of the chunk index: the signed identity of the release.
    pub index_sha256: Sha256Digest,
    /// SHA-256 of `manifest.json`, from the index; every other file is checked by the manifest.
    pub manifest_sha256: Sha256Digest,
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: String,
    /// Release counter.
    pub release_counter: u64,
}

/// What a slot is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SlotState {
    /// Nothing that may be loaded.
    Invalid,
    /// A release is being written. Not to be loaded.
    Writing {
        /// The release.
        occupant: Occupant,
        /// Generation of the state in which writing began; tells this attempt's checkpoints from an earlier one's.
        begun: u64,
    },
    /// Complete, synced and read back; has not driven yet.
    Pending {
        /// The release.
        occupant: Occupant,
        /// Trials that may still begin.
        tries_left: u8,
        /// Loads that began and did not end: from [`TRIES_MAX`] on the release is given up at the next start. Absent while there is
        /// none, as in the records of earlier releases of the SDK.
        #[serde(default, skip_serializing_if = "is_zero")]
        loads_begun: u8,
        /// Shadow runs that began and did not end, likewise.
        #[serde(default, skip_serializing_if = "is_zero")]
        shadows_begun: u8,
    },
    /// Drives, and is not trusted yet: the other slot is the fallback.
    Trial {
        /// The release.
        occupant: Occupant,
        /// Trials that may still begin after this one.
        tries_left: u8,
    },
    /// Drives, or is what to go back to.
    Confirmed {
        /// The release.
        occupant: Occupant,
    },
    /// Was confirmed until a newer release was. Complete, and free to be overwritten.
    Previous {
        /// The release.
        occupant: Occupant,
    },
}

impl SlotState {
    /// Complete, and nothing that it began was cut off.
    pub(super) const fn pending(occupant: Occupant, tries_left: u8) -> Self {
        Self::Pending { occupant, tries_left, loads_begun: 0, shadows_begun: 0 }
    }

    /// The state's name, as errors and the log show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Writing { .. } => "writing",
            Self::Pending { .. } => "pending",
            Self::Trial { .. } => "trial",
            Self::Confirmed { .. } => "confirmed",
            Self::Previous { .. } => "previous",
        }
    }

    /// The release in the slot, complete or not.
    pub fn occupant(&self) -> Option<&Occupant> {
        match self {
            Self::Invalid => None,
            Self::Writing { occupant, .. }
            | Self::Pending { occupant, .. }
            | Self::Trial { occupant, .. }
            | Self::Confirmed { occupant }
            | Self::Previous { occupant } => Some(occupant),
        }
    }

    /// The release in the slot, if all of it was written, synced and read back once.
    pub fn complete(&self) -> Option<&Occupant> {
        match self {
            Self::Invalid | Self::Writing { .. } => None,
            Self::Pending { occupant, .. } | Self::Trial { occupant, .. } | Self::Confirmed { occupant } | Self::Previous { occupant } => {
                Some(occupant)
            }
        }
    }

    /// The table of legal moves.
    fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            // Anything can turn out to be unreadable, be refused or be rolled back.
            (_, Self::Invalid) => true,
            // Never over what drives or what to go back to.
            (Self::Invalid | Self::Writing { .. } | Self::Pending { .. } | Self::Previous { .. }, Self::Writing { .. }) => true,
            (Self::Trial { .. } | Self::Confirmed { .. }, Self::Writing { .. }) => false,
            (Self::Writing { .. }, Self::Pending { .. }) => true,
            // A trial that power loss ended is tried again, with one try less.
            (Self::Trial { .. }, Self::Pending { .. }) => true,
            // A load or a shadow run begins or ends.
            (Self::Pending { tries_left: before, .. }, Self::Pending { tries_left: after, .. }) => after == before,
            (Self::Invalid | Self::Confirmed { .. } | Self::Previous { .. }, Self::Pending { .. }) => false,
            (Self::Pending { tries_left: before, .. }, Self::Trial { tries_left: after, .. }) => after < before,
            (
                Self::Invalid | Self::Writing { .. } | Self::Trial { .. } | Self::Confirmed { .. } | Self::Previous { .. },
                Self::Trial { .. },
            ) => false,
            (Self::Trial { .. }, Self::Confirmed { .. }) => true,
            // Its successor's confirmation is taken back.
            (Self::Previous { .. }, Self::Confirmed { .. }) => true,
            (Self::Invalid | Self::Writing { .. } | Self::Pending { .. } | Self::Confirmed { .. }, Self::Confirmed { .. }) => false,
            (Self::Confirmed { .. }, Self::Previous { .. }) => true,
            (
                Self::Invalid | Self::Writing { .. } | Self::Pending { .. } | Self::Trial { .. } | Self::Previous { .. },
                Self::Previous { .. },
            ) => false,
        }
    }
}

// What serde calls with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// A release that failed on this vehicle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureCount {
    /// SHA-256 of the chunk index.
    pub index_sha256: Sha256Digest,
    /// How often it failed; from [`TRIES_MAX`] on the release is in quarantine.
    pub count: u8,
    /// Number of the reason of the last failure.
    pub number: u32,
    /// Name of the reason of the last failure.
    pub name: String,
}

/// A failure to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// What it says about the release.
    pub verdict: Verdict,
    /// Stable number of the reason.
    pub number: u32,
    /// Stable name of the reason.
    pub name: &'a str,
}

/// What a failure says about the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The release itself is bad; it is not tried again.
    Condemned,
    /// It may have been bad luck; it is tried again until [`TRIES_MAX`].
    Counted,
    /// The release is not to blame, for instance because a newer one took its place.
    Blameless,
}

/// Everything that the two state records hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    slots: [SlotState; 2],
    floor: u64,
    failures: Vec<FailureCount>,
    report_counter: u64,
}

impl State {
    pub(super) const fn new() -> Self {
        Self { slots: [SlotState::Invalid, SlotState::Invalid], floor: 0, failures: Vec::new(), report_counter: 0 }
    }

    /// State of one slot.
    pub fn slot(&self, slot: SlotId) -> &SlotState {
        &self.slots[slot.number()]
    }

    /// The slot whose release is confirmed.
    pub fn confirmed(&self) -> Option<SlotId> {
        self.find(|state| matches!(state, SlotState::Confirmed { .. }))
    }

    /// The slot whose release waits for its trial.
    pub fn pending(&self) -> Option<SlotId> {
        self.find(|state| matches!(state, SlotState::Pending { .. }))
    }

    /// The slot whose release is in its trial.
    pub fn trial(&self) -> Option<SlotId> {
        self.find(|state| matches!(state, SlotState::Trial { .. }))
    }

    /// The slot that drives.
    pub fn active(&self) -> Option<SlotId> {
        self.trial().or(self.confirmed())
    }

    /// The slot to go back to while another one is in its trial.
    pub fn fallback(&self) -> Option<SlotId> {
        self.trial().and(self.confirmed())
    }

    /// The release counter below which nothing is installed: that of the last confirmed release.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Number that the next report may carry; see [`super::Store::reserve_report_counters`].
    pub fn report_counter(&self) -> u64 {
        self.report_counter
    }

    /// How often the release failed on this vehicle.
    pub fn failures(&self, index_sha256: &Sha256Digest) -> u8 {
        self.last_failure(index_sha256).map_or(0, |failure| failure.count)
    }

    /// Why the release is left alone, if it failed so often.
    pub fn quarantine(&self, index_sha256: &Sha256Digest) -> Option<&FailureCount> {
        self.last_failure(index_sha256).filter(|failure| failure.count >= TRIES_MAX)
    }

    /// The slot to write the next release to: one that is neither active nor the fallback, the least useful first.
    pub(super) fn writable(&self) -> Result<SlotId, StoreError> {
        if let (Some(active), Some(fallback)) = (self.active(), self.fallback()) {
            return Err(StoreError::NoFreeSlot { active, fallback });
        }
        let worth = |slot: &SlotId| match self.slot(*slot) {
            SlotState::Writing { .. } => 0,
            SlotState::Invalid => 1,
            SlotState::Pending { .. } => 2,
            SlotState::Previous { .. } => 3,
            SlotState::Trial { .. } | SlotState::Confirmed { .. } => 4,
        };
        // One of the two is neither in its trial nor confirmed, or the check above would have found both.
        Ok(if worth(&SlotId::B) < worth(&SlotId::A) { SlotId::B } else { SlotId::A })
    }

    pub(super) fn with_slot(&self, slot: SlotId, next: SlotState) -> Result<Self, StoreError> {
        let before = self.slot(slot);
        if !before.may_become(&next) {
            return Err(StoreError::IllegalMove { slot, state: before.name(), wanted: next.name() });
        }
        let mut state = self.clone();
        state.slots[slot.number()] = next;
        Ok(state)
    }

    /// The trial in `slot` was passed: its release is confirmed, the one before becomes free, and the floor rises. Only here: a
    /// floor that rose at installation would forbid the way back.
    pub(super) fn with_confirmed(&self, slot: SlotId) -> Result<Self, StoreError> {
        let before = self.slot(slot);
        let SlotState::Trial { occupant, .. } = before else {
            return Err(StoreError::IllegalMove { slot, state: before.name(), wanted: "confirmed" });
        };
        let mut state = self.with_slot(slot, SlotState::Confirmed { occupant: occupant.clone() })?;
        if let SlotState::Confirmed { occupant } = self.slot(slot.other()) {
            state = state.with_slot(slot.other(), SlotState::Previous { occupant: occupant.clone() })?;
        }
        state.floor = state.floor.max(occupant.release_counter);
        // A confirmed release has disproved its earlier failures.
        state.failures.retain(|failure| failure.index_sha256 != occupant.index_sha256);
        Ok(state)
    }

    /// The release that was confirmed last failed before its predecessor was let go: that one is what the vehicle starts with again.
    pub(super) fn without_confirmation(&self, slot: SlotId, floor: u64, failure: Failure<'_>) -> Result<Self, StoreError> {
        let mut state = self.with_invalid(slot, failure)?;
        if let SlotState::Previous { occupant } = self.slot(slot.other()) {
            state = state.with_slot(slot.other(), SlotState::Confirmed { occupant: occupant.clone() })?;
        }
        state.floor = floor;
        Ok(state)
    }

    pub(super) fn with_invalid(&self, slot: SlotId, failure: Failure<'_>) -> Result<Self, StoreError> {
        let mut state = self.with_slot(slot, SlotState::Invalid)?;
        if let Some(occupant) = self.slot(slot).occupant() {
            state.count_failure(occupant.index_sha256, failure);
        }
        Ok(state)
    }

    pub(super) fn with_failure(&self, index_sha256: Sha256Digest, failure: Failure<'_>) -> Self {
        let mut state = self.clone();
        state.count_failure(index_sha256, failure);
        state
    }

    pub(super) fn with_report_counter(&self, report_counter: u64) -> Self {
        Self { report_counter, ..self.clone() }
    }

    #[cfg(test)]
    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    fn last_failure(&self, index_sha256: &Sha256Digest) -> Option<&FailureCount> {
        self.failures.iter().find(|failure| failure.index_sha256 == *index_sha256)
    }

    fn count_failure(&mut self, index_sha256: Sha256Digest, failure: Failure<'_>) {
        let before = self.failures(&index_sha256);
        let count = match failure.verdict {
            Verdict::Condemned => TRIES_MAX,
            Verdict::Counted => before.saturating_add(1).min(TRIES_MAX),
            Verdict::Blameless => return,
        };
        // The newest failure goes last, so that the oldest is the one to forget.
        self.failures.retain(|failure| failure.index_sha256 != index_sha256);
        if self.failures.len() == FAILURES_MAX {
            self.failures.remove(0);
        }
        let name = failure.name.chars().take(REASON_NAME_BYTES_MAX).filter(char::is_ascii_graphic).collect();
        self.failures.push(FailureCount { index_sha256, count, number: failure.number, name });
    }

    fn find(&self, wanted: impl Fn(&SlotState) -> bool) -> Option<SlotId> {
        SlotId::ALL.into_iter().find(|slot| wanted(self.slot(*slot)))
    }
}
