//! The vehicle library through its public interface: one program, because linking each would take longer than running all.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod allocation;
mod common;
mod drive;
mod engine;
mod races;
mod vehicle;
