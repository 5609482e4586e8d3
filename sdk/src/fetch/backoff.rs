//! How long to wait before the next try.

use std::time::Duration;

/// First wait after a failure. A vehicle that comes out of a tunnel should not wait longer.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait of our own choice.
const LONGEST: Duration = Duration::from_secs(300);

/// Longest wait that a server may ask for. More would let a broken proxy switch updates off.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Waits that double from failure to failure, each drawn at random from its upper half, so that a fleet that lost its server in one
/// moment does not come back in one moment.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `random` is any number; `retry_after` is what the server asked for.
    pub fn failed(&mut self, random: u64, retry_after: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1).min(u32::BITS - 1);
        let half = doubled / 2;
        // The random share has 2^16 steps: of a five-minute wait, one every five milliseconds.
        let jittered = half + Duration::from_nanos((half.as_nanos() as u64 >> 16).saturating_mul(random & 0xffff));
        match retry_after {
            Some(asked) => asked.min(RETRY_AFTER_MAX).max(jittered),
            None => jittered,
        }
    }

    /// It worked: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_spread() {
        for (random, share) in [(0, 0.5), (u64::MAX, 1.0)] {
            let mut backoff = Backoff::default();
            for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
                let wait = backoff.failed(random, None).as_secs_f64();
                assert!((wait - f64::from(expected) * share).abs() < 0.01 * f64::from(expected), "{wait} {expected}");
            }
            backoff.succeeded();
            assert!(backoff.failed(random, None) <= FIRST);
        }
        let mut patient = Backoff::default();
        assert!((0..100).map(|_| patient.failed(7, None)).all(|wait| wait <= LONGEST));
    }

    #[test]
    fn the_server_may_ask_for_more_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(0, Some(Duration::from_secs(40))), Duration::from_secs(40));
        assert_eq!(backoff.failed(0, Some(Duration::ZERO)), Duration::from_secs(1));
        assert_eq!(backoff.failed(0, Some(Duration::from_secs(1 << 40))), RETRY_AFTER_MAX);
    }
}
