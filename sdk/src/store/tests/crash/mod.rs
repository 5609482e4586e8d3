//! Power is cut after every operation, and everything that was not synced is lost, torn or reordered.

mod kills;
mod lives;
mod mutants;
mod power;
mod real;
mod sites;
mod world;

use world::{Depth, Recorder, Tally, World};
