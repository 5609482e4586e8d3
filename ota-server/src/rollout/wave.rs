//! Waves: how a rollout grows.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use switchback_signing::time::UnixTime;

use super::{Vehicle, selector::allows};

/// The hash space of a rollout is cut into this many buckets: fine enough that a wave over a million vehicles fills one by one.
const BUCKETS: u32 = 1_000_000;

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// What people call it.
    pub name: String,
    /// When it opens; absent: as soon as the rollout is started. Never before the rollout is started.
    pub starts_at: Option<UnixTime>,
    /// When its share is full. The share grows evenly until then; absent: it is full at once.
    pub ends_at: Option<UnixTime>,
    /// How many of the vehicles concerned take part in the end.
    pub share: Share,
    /// Model lines that it concerns; empty: all that the rollout selects.
    pub model_lines: Vec<String>,
}

impl Wave {
    /// Whether the wave is about `vehicle` at all.
    #[must_use]
    pub fn concerns(&self, vehicle: &Vehicle) -> bool {
        allows(&self.model_lines, &vehicle.model_line)
    }

    /// When the wave opens in a rollout that was started at `started_at`.
    #[must_use]
    pub fn opens_at(&self, started_at: UnixTime) -> UnixTime {
        self.starts_at.map_or(started_at, |starts_at| starts_at.max(started_at))
    }

    /// The share that has been reached at `now`.
    #[must_use]
    pub fn share_at(&self, started_at: UnixTime, now: UnixTime) -> Share {
        let opens_at = self.opens_at(started_at);
        if now < opens_at {
            return Share(0);
        }
        let Some(ends_at) = self.ends_at.filter(|ends_at| now < *ends_at) else {
            return self.share;
        };
        let elapsed = now.seconds().saturating_sub(opens_at.seconds());
        let duration = ends_at.seconds().saturating_sub(opens_at.seconds());
        self.share.fraction(elapsed, duration)
    }
}

/// A part of all vehicles, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Share(u32);

/// A share outside 0 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a wave's percent is more than 0 and at most 100, not {0}")]
pub struct ShareError(f64);

impl Share {
    /// From percent, at a resolution of 0.0001 percent.
    pub fn from_percent(percent: f64) -> Result<Self, ShareError> {
        let millionths = (percent * 10_000.0).round();
        if (1.0..=f64::from(BUCKETS)).contains(&millionths) {
            // In range, so that the conversion is exact.
            return Ok(Self(millionths as u32));
        }
        Err(ShareError(percent))
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a vehicle in `bucket` belongs to the share. A larger share holds every vehicle of a smaller one.
    #[must_use]
    pub fn contains(self, bucket: u32) -> bool {
        bucket < self.0
    }

    fn fraction(self, elapsed_s: i64, duration_s: i64) -> Self {
        if duration_s <= 0 {
            return self;
        }
        let part = i128::from(self.0) * i128::from(elapsed_s) / i128::from(duration_s);
        // Between 0 and the share itself: `elapsed_s` lies within `duration_s`.
        Self(part.clamp(0, i128::from(self.0)) as u32)
    }
}

impl TryFrom<u32> for Share {
    type Error = ShareError;

    fn try_from(millionths: u32) -> Result<Self, ShareError> {
        Self::from_percent(f64::from(millionths) / 10_000.0)
    }
}

impl From<Share> for u32 {
    fn from(share: Share) -> Self {
        share.0
    }
}

/// Where a vehicle stands in a rollout's order: the same on every server and at every time, and unrelated between salts.
#[must_use]
pub fn bucket(salt: &str, vehicle_id: &str) -> u32 {
    let mut hash = Sha256::new();
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    hash.update((salt.len() as u64).to_le_bytes());
    hash.update(salt);
    hash.update(vehicle_id);
    let mut word = [0; 8];
    word.copy_from_slice(&hash.finalize()[..8]);
    // The bias of the remainder is below 10^-13.
    (u64::from_le_bytes(word) % u64::from(BUCKETS)) as u32
}
