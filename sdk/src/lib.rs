//! The vehicle side of Switchback.
//!
//! [`vehicle::Vehicle`] carries an update from the server to the next camera frame, [`vehicle::Driver`] answers frames with
//! driving actions. `fetch`, `store` and `engine` do not know each other; only `vehicle` joins them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod drive;
pub mod engine;
pub mod fetch;
pub mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod testing;
pub mod update;
pub mod vehicle;
