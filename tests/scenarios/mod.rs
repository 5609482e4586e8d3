//! The promises of the whole, one sentence each, on real programs and real sockets.

mod faults;
mod road;
mod rollout;
mod server;
mod trust;
