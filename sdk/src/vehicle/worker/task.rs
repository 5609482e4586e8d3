//! When to do something again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fetch::Backoff;

/// Something that is done again and again, at longer intervals while it fails.
pub(super) struct Task {
    pub(super) due: Option<Instant>,
    backoff: Backoff,
}

impl Task {
    pub(super) fn due_now() -> Self {
        Self { due: Some(Instant::now()), backoff: Backoff::default() }
    }

    pub(super) fn never() -> Self {
        Self { due: None, backoff: Backoff::default() }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(super) fn after(&mut self, wait: Duration) {
        self.due = Some(Instant::now() + wait);
    }

    pub(super) fn succeeded(&mut self, next: Option<Duration>) {
        self.backoff.succeeded();
        self.due = next.map(|wait| Instant::now() + wait);
    }

    pub(super) fn failed(&mut self, retry_after: Option<Duration>) {
        let wait = self.backoff.failed(random(), retry_after);
        self.after(wait);
    }
}

/// Seconds since 1970-01-01 UTC by the system's clock.
pub(in crate::vehicle) fn system_time() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 was never set; what the vehicle has seen counts then.
    elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}

/// For waits only: without randomness the fleet merely comes in step.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
