//! Who gets which release, and when: Image repository, Director and rollouts in one program.
//!
//! [`rollout`], [`gate`] and [`director`] decide and are pure. [`registry`] holds all SQL, [`storage`] the bytes of bundles, [`api`] all
//! HTTP. [`server`] joins them: it keeps in memory what a poll needs and changes it only after the change is durable.
#![forbid(unsafe_code)]

pub mod api;
pub mod content_keys;
pub mod director;
pub mod fleet;
pub mod gate;
pub mod image;
pub mod jobs;
pub mod keys;
pub mod metadata_cache;
pub mod offline;
pub mod registry;
pub mod rollout;
pub mod server;
pub mod storage;
