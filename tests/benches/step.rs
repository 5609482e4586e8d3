//! What a driving step costs beyond the model's own run.

use std::time::Instant;

use switchback_sdk::engine::Entry;

use crate::{
    report::{Report, percentile},
    track::{Packed, Track},
};

const STEPS: usize = 20_000;

pub(crate) fn run(report: &mut Report) {
    let mut track = Track::new();
    track.drive(Packed::new(1, 0).files(1, Entry::Confirmed));
    (0..1000).for_each(|_| track.step());
    let mut overhead_us: Vec<f64> = (0..STEPS)
        .map(|_| {
            let start = Instant::now();
            track.step();
            let whole = start.elapsed().as_nanos() as f64;
            (whole - track.output.run_ns as f64) / 1000.0
        })
        .collect();
    assert!(track.output.control_valid, "{:?}", track.output.faults);
    let note = "whole step less OrtApi::RunWithBinding on the same session; 16x8 RGB frame, ego, recurrent state; 20,000 steps";
    report.add("step_overhead_us_p50", percentile(&mut overhead_us, 0.5), "us", note);
    report.add("step_overhead_us_p99", percentile(&mut overhead_us, 0.99), "us", note);
}
