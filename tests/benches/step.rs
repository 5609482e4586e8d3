//! What a driving step costs beyond the bare ONNX Runtime C API.

use std::time::Instant;

use switchback_onnx::{Runtime, SessionOptions, raw_loop::RawLoop};
use switchback_sdk::engine::Entry;

use crate::{
    report::{Report, percentile, thread_cpu_ns},
    track::{Packed, Track},
};

const STEPS: usize = 20_000;
/// Steps between two looks at the processor time, which costs a system call.
const BLOCK: usize = 500;

pub(crate) fn run(report: &mut Report) {
    let packed = Packed::new(1, 0);
    let files = packed.files(1, Entry::Confirmed);
    let runtime = Runtime::load(None).expect("make bench provides ONNX Runtime");
    let mut raw = RawLoop::open(&runtime, &files.directory.join(&files.manifest.model), &SessionOptions::default()).unwrap();
    let mut track = Track::new();
    track.drive(files);
    for _ in 0..1000 {
        track.step();
        raw.run().unwrap();
    }
    // One after the other, so that both see the same machine.
    let (mut step_us, mut raw_us) = (Vec::with_capacity(STEPS), Vec::with_capacity(STEPS));
    for _ in 0..STEPS {
        let start = Instant::now();
        track.step();
        let between = Instant::now();
        raw.run().unwrap();
        raw_us.push(between.elapsed().as_nanos() as f64 / 1000.0);
        step_us.push((between - start).as_nanos() as f64 / 1000.0);
    }
    assert!(track.output.control_valid, "{:?}", track.output.faults);
    let mut cpu_us = [0.0; 2];
    for _ in 0..STEPS / BLOCK {
        let start = thread_cpu_ns();
        (0..BLOCK).for_each(|_| track.step());
        let between = thread_cpu_ns();
        (0..BLOCK).for_each(|_| raw.run().unwrap());
        cpu_us[0] += (between - start) as f64 / 1000.0;
        cpu_us[1] += (thread_cpu_ns() - between) as f64 / 1000.0;
    }
    let note = "whole step less OrtApi::Run on values made once: same process, model and options, one after the other; \
                16x8 RGB frame, ego, recurrent state, 20 trajectory points; 20,000 of each";
    for (name, share) in [("step_overhead_us_p50", 0.5), ("step_overhead_us_p99", 0.99)] {
        let (step, raw) = (percentile(&mut step_us, share), percentile(&mut raw_us, share));
        report.add(name, step - raw, "us", &format!("{step:.2} - {raw:.2} wall time; {note}"));
    }
    let [step, raw] = cpu_us.map(|us| us / STEPS as f64);
    report.add("step_overhead_cpu_us", step - raw, "us", &format!("{step:.2} - {raw:.2} processor time of the thread, mean; {note}"));
}
