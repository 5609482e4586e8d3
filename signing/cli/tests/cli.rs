//! The program as its users see it: run, and judged by exit status, output and files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "cli/ceremony.rs"]
mod ceremony;
#[path = "cli/companions.rs"]
mod companions;
#[path = "cli/control.rs"]
mod control;
#[path = "cli/delta.rs"]
mod delta;
#[path = "cli/desk.rs"]
mod desk;
#[path = "cli/encryption.rs"]
mod encryption;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/oms.rs"]
mod oms;
#[path = "cli/packing.rs"]
mod packing;
#[path = "cli/requests.rs"]
mod requests;
#[path = "cli/rotation.rs"]
mod rotation;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/tiers.rs"]
mod tiers;
#[path = "cli/tokens.rs"]
mod tokens;
