//! make demo
#![forbid(unsafe_code)]
mod fleet;
mod frames;
mod interrupt;
mod ledger;
mod measure;
mod plot;
mod process;
mod report;

fn main() {}
