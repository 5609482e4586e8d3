//! What time it is, as far as the vehicle can know.

use switchback_signing::time::UnixTime;

use crate::store::{Folder, Store, StoreError};

/// Document that holds the latest time at which metadata was verified, seconds since 1970 in decimal.
const TIME_FILE: &str = "time";

/// No clock that was ever set shows an earlier time: 2025-01-01. Clocks without a battery begin at 1970 or 2000.
const EARLIEST_S: i64 = 1_735_689_600;

/// The time on the disk may be this much older than the one in memory: a write an hour, not one a poll.
const WRITE_EVERY_S: i64 = 3600;

/// A clock is set back by seconds now and then, and nothing follows from it.
const BEHIND_TOLERATED_S: i64 = 60;

/// A clock that never runs behind what the vehicle has seen.
///
/// Expired metadata looks fresh to a clock that was never set or was set back, and whoever can do that could bring old releases back.
/// All metadata of a check must be unexpired at the check's own time, so nobody can lead this clock further ahead than the signers
/// allow by a wrong time alone.
#[derive(Debug)]
pub(super) struct Ratchet {
    latest_s: i64,
    written_s: i64,
}

impl Ratchet {
    /// As the last run left it, and not before the vehicle was provisioned.
    pub(super) fn open(store: &Store, provisioned: Option<UnixTime>) -> Self {
        let written = match store.read_document(Folder::Keys, TIME_FILE) {
            Ok(bytes) => bytes.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.trim().parse().ok()),
            Err(error) => {
                tracing::warn!(%error, "the time of the last check cannot be read");
                None
            }
        };
        let written_s = written.unwrap_or(0);
        let provisioned_s = provisioned.map_or(0, UnixTime::seconds);
        Self { latest_s: written_s.max(provisioned_s).max(EARLIEST_S), written_s }
    }

    /// The time, given what the clock shows.
    pub(super) fn time(&self, clock_s: i64) -> UnixTime {
        UnixTime::from_seconds(clock_s.max(self.latest_s))
    }

    /// By how much the clock is behind; 0 when it is not, or by no more than clocks are set back.
    pub(super) fn behind_s(&self, clock_s: i64) -> u64 {
        match self.latest_s.saturating_sub(clock_s) {
            behind if behind > BEHIND_TOLERATED_S => behind.unsigned_abs(),
            _ => 0,
        }
    }

    /// Metadata was verified at this time.
    pub(super) fn verified(&mut self, at: UnixTime, store: &mut Store) -> Result<(), StoreError> {
        self.latest_s = self.latest_s.max(at.seconds());
        if self.latest_s - self.written_s >= WRITE_EVERY_S {
            store.write_document(Folder::Keys, TIME_FILE, self.latest_s.to_string().as_bytes())?;
            self.written_s = self.latest_s;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::store::sim::SimFs;

    #[test]
    fn a_clock_never_runs_behind_what_was_verified_not_even_after_a_restart() {
        let (mut store, _) = Store::open(Arc::new(SimFs::new())).unwrap();
        let mut ratchet = Ratchet::open(&store, None);
        assert_eq!((ratchet.time(0).seconds(), ratchet.behind_s(0)), (EARLIEST_S, EARLIEST_S as u64));
        let now_s = EARLIEST_S + 1_000_000;
        assert_eq!((ratchet.time(now_s).seconds(), ratchet.behind_s(now_s)), (now_s, 0));
        ratchet.verified(UnixTime::from_seconds(now_s), &mut store).unwrap();
        // Not worth a write.
        ratchet.verified(UnixTime::from_seconds(now_s + WRITE_EVERY_S - 1), &mut store).unwrap();
        assert_eq!(ratchet.time(now_s).seconds(), now_s + WRITE_EVERY_S - 1);
        let ratchet = Ratchet::open(&store, None);
        assert_eq!((ratchet.time(0).seconds(), ratchet.behind_s(now_s - 100)), (now_s, 100));
        assert_eq!(ratchet.behind_s(now_s - BEHIND_TOLERATED_S), 0);
        let of_factory = |time_s| Ratchet::open(&store, Some(UnixTime::from_seconds(time_s))).time(0).seconds();
        assert_eq!((of_factory(now_s + 7), of_factory(now_s - 7)), (now_s + 7, now_s));
    }
}
