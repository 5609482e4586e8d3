//! Market approval: the gate that nobody can force.

use switchback_signing::time::UnixTime;

use super::{Release, ReleaseName, Vehicle, selector::allows};

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
    /// Whether `vehicle` may be offered `release` at `now` because of this approval.
    #[must_use]
    pub fn covers(&self, release: &Release, vehicle: &Vehicle, now: UnixTime) -> bool {
        self.release == release.name
            && *self.region == *vehicle.region
            && allows(&self.model_lines, &vehicle.model_line)
            && self.valid_from <= now
            && self.valid_until.is_none_or(|end| now < end)
    }
}
