//! The one place that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use switchback_signing::time::UnixTime;

/// Now, by the system's clock.
pub(crate) fn now() -> UnixTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UnixTime::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}
