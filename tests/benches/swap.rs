//! What a hot swap costs the frame at which it happens.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use switchback_sdk::engine::{EngineEvent, Entry, SwapWhen};

use crate::{
    report::{Report, percentile},
    track::{Packed, Track},
};

const FRAME: Duration = Duration::from_millis(50);
const SWAPS: u64 = 20;
/// 16 MB of weights: large enough that loading is work for the other core.
const WEIGHTS: usize = 4 << 20;

#[derive(Default)]
struct Seen {
    missed: u32,
    ordinary_ns: Vec<f64>,
    swap_ns: Vec<f64>,
    ordinary_run_ns: Vec<f64>,
    first_run_ns: Vec<f64>,
}

pub(crate) fn run(report: &mut Report) {
    let packed = [Packed::new(1, WEIGHTS), Packed::new(2, WEIGHTS)];
    let mut track = Track::new();
    track.drive(packed[0].files(1, Entry::Confirmed));
    let mut seen = Seen::default();
    let mut due = Instant::now();
    for generation in 2..2 + SWAPS {
        track.engine.load(packed[(generation % 2) as usize].files(generation, Entry::Candidate)).unwrap();
        loop {
            due += FRAME;
            frame(&mut track, due, &mut seen);
            match track.engine.poll_event() {
                Some(EngineEvent::Armed { .. }) => track.engine.activate(SwapWhen::Anytime).unwrap(),
                Some(EngineEvent::TrialPassed { .. }) => track.engine.confirm().unwrap(),
                Some(EngineEvent::Freed { .. }) => break,
                Some(event @ (EngineEvent::Refused { .. } | EngineEvent::RolledBack { .. })) => panic!("{event:?}"),
                _ => {}
            }
        }
    }
    assert_eq!(seen.swap_ns.len() as u64, SWAPS);
    let note = format!("{SWAPS} swaps at 20 Hz of a 16 MB model, loader on the other core");
    let steady_ns = percentile(&mut seen.ordinary_ns, 0.5);
    for (name, share) in [("swap_pause_ns_p50", 0.5), ("swap_pause_ns_max", 1.0)] {
        let swap_ns = percentile(&mut seen.swap_ns, share);
        let note = format!("{note}; step less its run: {swap_ns:.0} when it swaps, {steady_ns:.0} p50 when it does not");
        report.add(name, (swap_ns - steady_ns).max(0.0), "ns", &note);
    }
    let ratio = percentile(&mut seen.first_run_ns, 0.5) / percentile(&mut seen.ordinary_run_ns, 0.5);
    report.add("swap_first_frame_ratio", ratio, "ratio", &format!("{note}; run time of the first frame over the steady one"));
    report.add("swap_missed_frames", f64::from(seen.missed), "frames", &format!("{note}; steps that ended after the next frame was due"));
}

fn frame(track: &mut Track, due: Instant, seen: &mut Seen) {
    sleep(due.saturating_duration_since(Instant::now()));
    let start = Instant::now();
    track.step();
    let end = Instant::now();
    let output = &track.output;
    assert!(output.control_valid, "{:?}", output.faults);
    seen.missed += u32::from(end > due + FRAME);
    let (wrapper_ns, run_ns) = ((end - start).as_nanos() as f64 - output.run_ns as f64, output.run_ns as f64);
    if output.swapped {
        seen.swap_ns.push(wrapper_ns);
        seen.first_run_ns.push(run_ns);
    } else {
        seen.ordinary_ns.push(wrapper_ns);
        seen.ordinary_run_ns.push(run_ns);
    }
}
