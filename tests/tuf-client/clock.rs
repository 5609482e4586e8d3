//! The computer's clock, which both modes believe: a secure source of time is the vehicle's to have.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use switchback_signing::time::UnixTime;

pub(crate) fn now() -> anyhow::Result<UnixTime> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set before 1970")?.as_secs();
    Ok(UnixTime::from_seconds(i64::try_from(seconds)?))
}
