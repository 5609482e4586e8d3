//! Market approval: the gate that nobody can force.

use switchback_signing::time::UnixTime;

use super::{Content, Release, ReleaseName, Vehicle, selector::allows};

/// Number of an approval in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId(pub i64);

/// An authority's decision that one release may go to customers in one market (UN R156, GB 44496-2024, MIIT/SAMR notice of 2025).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Number in this server.
    pub id: ApprovalId,
    /// What is approved.
    pub release: ReleaseName,
    /// The bytes that the release consisted of when it was approved. The name alone would let anybody who can publish swap them.
    pub contents: Vec<Content>,
    /// Where.
    pub region: String,
    /// Model lines in its scope; empty: all.
    pub model_lines: Vec<String>,
    /// Who decided.
    pub authority: String,
    /// Filing or approval number.
    pub number: String,
    /// First second of validity.
    pub valid_from: UnixTime,
    /// First second after its validity; absent: until revoked.
    pub valid_until: Option<UnixTime>,
}

impl Approval {
    /// Whether the decision is about the release of this name in `region` and in force at `now`.
    #[must_use]
    pub fn is_in_force(&self, release: &ReleaseName, region: &str, now: UnixTime) -> bool {
        self.release == *release && self.region == region && self.valid_from <= now && self.valid_until.is_none_or(|end| now < end)
    }

    /// Whether the decision is about vehicles like `vehicle`, whatever bytes they get.
    #[must_use]
    pub fn concerns(&self, release: &ReleaseName, vehicle: &Vehicle, now: UnixTime) -> bool {
        self.is_in_force(release, &vehicle.region, now) && allows(&self.model_lines, &vehicle.model_line)
    }

    /// Whether the decision is the same as `other`, and in force no later.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.valid_from <= other.valid_from && *self == Self { id: self.id, valid_from: self.valid_from, ..other.clone() }
    }

    /// Whether these are the bytes that were approved.
    #[must_use]
    pub fn binds(&self, release: &Release) -> bool {
        self.contents.iter().any(|content| content.path == release.assigned.path && content.sha256 == release.sha256)
    }
}
