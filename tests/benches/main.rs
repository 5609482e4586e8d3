//! `make bench`: figures measured against the machine's own limit in the same run.
//!
//! Each figure is appended as one JSON object to `target/bench/results.jsonl`. CPU time and ratios are what to compare between
//! machines; names never change, so that later runs can be laid beside earlier ones.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod install;
mod polls;
mod report;
mod step;
mod swap;
mod track;
mod trust;
mod wire;

use report::Report;

type Bench = fn(&mut Report);

fn main() {
    // `cargo bench` hands its own flags on; the first word that is none selects a bench.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let benches: [(&str, Bench); 5] =
        [("step", step::run), ("swap", swap::run), ("install", install::run), ("trust", trust::run), ("polls", polls::run)];
    let mut report = Report::open();
    for (name, bench) in benches {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            bench(&mut report);
        }
    }
}
