#![allow(clippy::unwrap_used)]

use switchback_road_sim::{LANE_WIDTH_M, RoadPoint, STEP_S, Scenario, World};

use super::*;

/// A drive by the simulator's expert, told as if two models had driven it.
fn hero() -> Hero {
    let mut world = World::new(Scenario::new(5));
    let swap = 400;
    let mut frames = Vec::new();
    for sequence in 0..800_u64 {
        let version = ["", "1.0.0", "2.0.0"][usize::from(sequence >= 40) + usize::from(sequence >= swap)];
        let (ego, status) = (*world.ego(), world.status());
        frames.push(Frame {
            time_s: 4.0 + sequence as f64 * STEP_S,
            sequence,
            x_m: ego.x_m,
            y_m: ego.y_m,
            heading_rad: ego.heading_rad,
            lane_offset_m: Some(status.lateral_offset_m),
            speed_mps: ego.speed_mps,
            step_us: if sequence < swap { 6000.0 } else { 900.0 } + (sequence % 17) as f64 * 40.0,
            run_us: 800.0,
            missed: 0,
            model: "vla".to_owned(),
            version: version.to_owned(),
            generation: u64::from(sequence >= 40) + u64::from(sequence >= swap),
            swapped: sequence == swap,
            fell_back: false,
            takeover: 0,
            faults: 0,
            valid: true,
            off_lane: status.off_lane,
            road: 1,
        });
        world.step(world.expert().control);
    }
    let edges = [-LANE_WIDTH_M, 0.0, LANE_WIDTH_M].map(|d_m| {
        let place = |meter: i32| world.road().place(RoadPoint { s_m: f64::from(meter), d_m });
        (0..500).map(place).map(|(x, y, _)| (x, y)).collect()
    });
    Hero { vehicle: "p7-ultra-eu-1".to_owned(), frames, swap: 400, curvature_1pm: 0.012, deadline_ms: 50.0, edges }
}

fn report() -> Report {
    let claim = |step, text: &str, holds| Claim { step, text: text.to_owned(), measured: "2 < 3 & so on".to_owned(), holds };
    let samples = (0..40).map(|at| {
        let done = (at / 6).min(4);
        let busy = usize::from(at > 5 && done < 4);
        (f64::from(at) * 0.5, [done as usize, 0, busy, 0, 0, 6 - done as usize - busy])
    });
    Report {
        tiles: vec![Tile { value: "0".to_owned(), text: "frames missed".to_owned() }],
        titles: vec!["Ceremony".to_owned(), "Fleet".to_owned()],
        claims: vec![claim(1, "below threshold is refused", true), claim(2, "twenty vehicles", false)],
        hero: Some(hero()),
        comparison: vec![Comparison { what: "mean".to_owned(), first: "1".to_owned(), second: "2".to_owned(), better: "50 %".to_owned() }],
        progress: vec![Progress {
            id: "wave-1",
            title: "Wave 1: P7".to_owned(),
            samples: samples.collect(),
            moments: vec![(3.0, "wave 1 starts".to_owned()), (14.0, "paused itself".to_owned())],
        }],
        fleet: vec![FleetRow {
            vehicle: "p7-ultra-eu-1".to_owned(),
            tier: "ultra".to_owned(),
            model_line: "P7".to_owned(),
            region: "eu".to_owned(),
            model: "vla 2.0.0".to_owned(),
            state: "refused".to_owned(),
            reason: "shadow: <not finite>".to_owned(),
        }],
        footer: "made by a test".to_owned(),
    }
}

#[test]
fn the_report_is_one_file_that_loads_nothing() {
    let html = report().to_html();
    for outside in ["src=", "href=", "@import", "url(http", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<svg").count(), 4);
    if let Some(path) = std::env::var_os("SWITCHBACK_DEMO_SAMPLE_REPORT") {
        std::fs::write(path, html).unwrap();
    }
}

#[test]
fn text_from_outside_is_escaped() {
    let html = report().to_html();
    assert!(html.contains("shadow: &lt;not finite&gt;") && html.contains("2 &lt; 3 &amp; so on"));
}

#[test]
fn every_coordinate_is_a_number() {
    let html = report().to_html();
    assert!(!html.contains("NaN") && !html.contains("inf"));
}
