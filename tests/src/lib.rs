//! The World: everything that a scenario needs around the code under test.
//!
//! Real programs and sockets on loopback: the release engineer's [`desk`], a [`server`] process, a [`proxy`] that loses, cuts and
//! alters what passes, and a [`car`] that drives. Nothing here sleeps to wait for what it can observe.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod car;
pub mod desk;
pub mod model;
pub mod programs;
pub mod proxy;
pub mod server;
pub mod unpack;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}
