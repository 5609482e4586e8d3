//! When to ask the Director whether what it shows is of today.

use std::time::{Duration, Instant};

use switchback_signing::{metadata::Nonce, trust::Challenge};

/// The time since somebody was asked, by a clock that nobody sets: the age of a Timestamp is judged by one that its owner, or an attacker,
/// may stop.
#[derive(Debug)]
pub(super) struct Freshness {
    age_max: Duration,
    asked: Instant,
}

impl Freshness {
    pub(super) fn new(age_max: Duration) -> Self {
        Self { age_max, asked: Instant::now() }
    }

    /// What the next check is begun with.
    pub(super) fn challenge(&self) -> Option<Challenge> {
        let age_s_max = if self.asked.elapsed() >= self.age_max { 0 } else { self.age_max.as_secs() };
        let mut bytes = [0; Nonce::BYTES];
        match getrandom::fill(&mut bytes) {
            Ok(()) => Some(Challenge { nonce: Nonce::new(bytes), age_s_max }),
            Err(error) => {
                // A nonce that can be foreseen shows nothing; the Timestamp's expiry still does.
                tracing::warn!(%error, "without random numbers the Director is not asked whether its metadata is of today");
                None
            }
        }
    }

    /// A check was believed, in which the Director was asked or was not.
    pub(super) fn checked(&mut self, asked: bool) {
        if asked {
            self.asked = Instant::now();
        }
    }
}
