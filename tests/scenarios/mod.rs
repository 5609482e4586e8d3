//! The promises of the whole, one sentence each, on real programs and real sockets.
//!
//! Bad input and faults, and where each is met end to end:
//!
//! | what | where |
//! |---|---|
//! | truncated bundle | `faults` (on the server, on the way), `road` (on the desk) |
//! | altered bundle | `faults` (on the way), `road` (on the desk), step 6 of the demo (on the server) |
//! | wrong tier | `trust`, `rollout`, step 6 of the demo |
//! | old version | `trust` (a release below the confirmed one, a timestamp from before) |
//! | expired metadata | `trust` |
//! | missing signature | `trust` (at the vehicle), `road` (on the desk), step 1 of the demo |
//! | unknown contract version | `trust` (at the vehicle), `road` (on the desk) |
//! | model whose tensors do not match its contract | `road` (on the desk, which makes no bundle of it); at the vehicle: `sdk/tests` |
//! | missing ONNX Runtime | `road`, and from C: `../c.rs` |
//! | server unreachable, or dying in the middle of a download | `faults` |
//! | damaged, shortened or foreign offline update | `offline` |
//! | full disk | `disk` |
//! | connection cut a hundred times, with kill -9 in between | `cuts` |
//! | kill -9 of the vehicle | `power`, at every stage and at random instants; 500 of those, in about an hour: `SWITCHBACK_KILLS=500 cargo test --release -p switchback-tests random_instants -- --nocapture` |
//! | kill -9 of the server | `server`, `faults` |
//! | NULL and wrong `struct_size` | from C: `../c.rs` |

mod cuts;
mod deltas;
mod disk;
mod faults;
mod keys;
mod offline;
mod power;
mod road;
mod rollout;
mod rotation;
mod secondaries;
mod server;
mod trust;
