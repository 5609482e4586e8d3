//! The World: everything that a scenario needs around the code under test.
//!
//! Real programs and sockets on loopback: the release engineer's [`desk`], a [`server`] process, a [`proxy`] that loses, cuts and
//! alters what passes, a [`car`] that drives in this process, and a [`vehicle`] as a process of its own that can be killed. Nothing here
//! sleeps to wait for what it can observe.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod car;
pub mod delta;
pub mod desk;
pub mod disk;
// The plain requests of the server's own tests, in which a test decides about every byte.
#[path = "../../ota-server/tests/server/support/http.rs"]
#[allow(dead_code)]
mod http;
pub mod model;
pub mod paper;
pub mod programs;
pub mod proxy;
pub mod server;
pub mod unpack;
pub mod vehicle;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long anything may take before a scenario gives up. Nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}
