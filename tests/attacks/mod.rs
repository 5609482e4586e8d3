//! Every known attack on the way from the release engineer to the driving model, refused by its name.
//!
//! The attacks are numbered; `docs/lessons.md` says what each is and what stops it. A scenario's name begins with the number. The real
//! SDK drives a model and meets an attacker, and each scenario shows four things: the refusal has the right number, name and Uptane
//! attack; the model that drives is the one that drove before and its bytes are untouched; the vehicle's next report says what was
//! tried; and the vehicle takes the next honest release, so that a refusal is never the end of all updates.

#[path = "../../sdk/tests/common/mod.rs"]
mod common;

mod bundle;
mod chunks;
mod companions;
mod content_keys;
mod delegations;
mod director;
mod disk;
mod network;
mod offline;
mod past;
mod reports;
mod scene;
mod secondaries;
mod server_door;
mod server_eavesdropping;
mod server_keys;
mod server_network;
mod server_reports;
mod server_scene;
mod signatures;
mod single;
mod words;
