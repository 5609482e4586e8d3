//! How many bytes come over the network, and how many may.

use std::{
    num::NonZeroU64,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{FetchError, transport::Cancel};

/// Bytes are let through at most for this long at a time: short enough for whoever shares the link, and longer than a timer is late.
const BURST: Duration = Duration::from_millis(250);

/// What connections have in common: the bytes that came over them, and how many may come in a second.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    bucket: Option<Mutex<TokenBucket>>,
}

impl Traffic {
    /// At most `bytes_per_s_max` over all connections together; without, as many as come.
    pub fn new(bytes_per_s_max: Option<NonZeroU64>) -> Self {
        let bucket = bytes_per_s_max.map(|rate| Mutex::new(TokenBucket::new(rate, Instant::now())));
        Self { received: AtomicU64::new(0), bucket }
    }

    /// Bytes of content that came so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until some of `wanted` bytes may be read; returns how many.
    pub(super) fn admit(&self, wanted: usize, cancel: &Cancel) -> Result<usize, FetchError> {
        let Some(bucket) = &self.bucket else {
            return Ok(wanted);
        };
        loop {
            let admitted = bucket.lock().unwrap_or_else(PoisonError::into_inner).admit(wanted, Instant::now());
            match admitted {
                Ok(count) => return Ok(count),
                Err(wait) if cancel.wait(wait) => return Err(FetchError::Canceled),
                Err(_) => {}
            }
        }
    }

    pub(super) fn came(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(bucket) = &self.bucket {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).spend(count);
        }
    }
}

/// A limit on bytes per second that lets short bursts pass. Time is an argument.
#[derive(Debug)]
struct TokenBucket {
    bytes_per_s: u64,
    /// Bytes that it holds when it is full: one at least.
    full: u64,
    /// Nanoseconds times bytes per second: whole numbers at any rate.
    level: u128,
    at: Instant,
}

/// One byte, as the level counts.
const BYTE: u128 = Duration::from_secs(1).as_nanos();

impl TokenBucket {
    fn new(bytes_per_s: NonZeroU64, now: Instant) -> Self {
        let bytes_per_s = bytes_per_s.get();
        let full = (bytes_per_s / (Duration::from_secs(1).as_millis() / BURST.as_millis()) as u64).max(1);
        Self { bytes_per_s, full, level: u128::from(full) * BYTE, at: now }
    }

    /// How many of `wanted` bytes may come now, or how long none may. Not a few at a time: each costs a wake-up.
    fn admit(&mut self, wanted: usize, now: Instant) -> Result<usize, Duration> {
        let elapsed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.level = (self.level + elapsed.as_nanos() * u128::from(self.bytes_per_s)).min(u128::from(self.full) * BYTE);
        let least = u128::from(self.full.div_ceil(2).min(wanted as u64)) * BYTE;
        if self.level < least {
            // Rounded up: a wait that is a nanosecond short is another wait.
            let nanos = (least - self.level).div_ceil(u128::from(self.bytes_per_s));
            return Err(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        // `full` bounds the level, so that it fits.
        Ok(wanted.min((self.level / BYTE) as usize))
    }

    fn spend(&mut self, count: usize) {
        self.level = self.level.saturating_sub(count as u128 * BYTE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Bytes that a reader which takes pieces of `wanted` gets within `time`, and how often it waits.
    fn read_for(rate: u64, wanted: usize, time: Duration) -> (u64, u32) {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(NonZeroU64::new(rate).unwrap(), start);
        let (mut now, mut came, mut waits) = (start, 0, 0);
        loop {
            match bucket.admit(wanted, now) {
                Ok(count) => {
                    assert!(count > 0 && count <= wanted);
                    bucket.spend(count);
                    came += count as u64;
                }
                Err(wait) => {
                    assert!(!wait.is_zero());
                    now += wait;
                    waits += 1;
                }
            }
            if now.duration_since(start) >= time {
                return (came, waits);
            }
        }
    }

    #[test]
    fn over_time_no_more_comes_than_the_rate_and_a_burst_and_hardly_less() {
        let time = Duration::from_secs(20);
        for rate in [1, 3, 1000, 125_000, 10_000_000, 1 << 40] {
            for wanted in [1, 1000, 1 << 20] {
                if rate * 20 / wanted as u64 > 3_000_000 {
                    continue;
                }
                let (came, waits) = read_for(rate, wanted, time);
                let most = rate * 20 + rate / 4 + 2;
                assert!(came <= most && came + rate / 4 + 2 >= rate * 20, "{came} bytes at {rate}/s in pieces of {wanted}");
                if wanted as u64 >= rate / 8 {
                    assert!(waits <= 20 * 8 + 2, "{waits} waits at {rate}/s in pieces of {wanted}");
                }
            }
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst_and_a_clock_that_stands_gives_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(NonZeroU64::new(4000).unwrap(), start);
        assert_eq!(bucket.admit(1 << 20, start + Duration::from_secs(3600)), Ok(1000));
        bucket.spend(1000);
        let at = start + Duration::from_secs(3600);
        assert_eq!(bucket.admit(1 << 20, at), Err(Duration::from_millis(125)));
        assert_eq!(bucket.admit(10, at), Err(Duration::from_micros(2500)), "few bytes are not kept waiting for many");
        assert_eq!(bucket.admit(1 << 20, start), Err(Duration::from_millis(125)), "time does not run backwards");
    }

    #[test]
    fn what_came_is_counted_and_a_wait_ends_when_the_vehicle_is_closed() {
        let traffic = Traffic::new(NonZeroU64::new(1));
        let cancel = Cancel::default();
        assert_eq!(traffic.admit(10, &cancel).unwrap(), 1);
        traffic.came(1);
        assert_eq!(traffic.received(), 1);
        cancel.cancel();
        assert!(matches!(traffic.admit(10, &cancel), Err(FetchError::Canceled)));
        assert_eq!(Traffic::default().admit(10, &cancel).unwrap(), 10);
    }
}
