//! The promises of the whole, one sentence each, on real programs and real sockets.

mod disk;
mod faults;
mod power;
mod road;
mod rollout;
mod server;
mod trust;
