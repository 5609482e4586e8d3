//! The report's plots.

use super::{Hero, Progress, STATES};
use crate::frames::Frame;
use crate::plot::{Axis, Chart, Corner, LineStyle, Tone};

/// Road shown on both sides of the swap.
const PATH_AROUND_M: f64 = 60.0;
/// A wheel touches the line when the rear axle is this far from the middle: half of what the lane is wider than the track.
const OFF_LANE_M: f64 = (3.5 - 1.7) / 2.0;

/// The road around the swap and the path on it, in the vehicle's axes at the swap.
pub(super) fn path(hero: &Hero) -> String {
    let here = View::at(&hero.frames[hero.swap]);
    let edges = hero.edges.each_ref().map(|edge| here.nearby(edge.iter().copied()));
    let shown = edges.iter().flatten().filter(|point| point.0.abs() <= PATH_AROUND_M);
    let (low, high) = range(shown.map(|point| point.1), 2.0);
    let x = Axis::new("forward of the swap", "m", (-PATH_AROUND_M, PATH_AROUND_M)).with_ticks_max(12);
    let mut chart = Chart::new("path", "Path before and after the swap", x, Axis::new("left of it", "m", (low, high)).with_ticks_max(6))
        .with_equal_scales();
    let [right, middle, left] = edges;
    let outline = right.iter().copied().chain(left.iter().rev().copied()).collect();
    chart.area(Tone::Ground, outline);
    chart.line(Tone::Ink, LineStyle::Thin, right);
    chart.line(Tone::Ink, LineStyle::Dashed, middle);
    chart.line(Tone::Ink, LineStyle::Thin, left);
    for run in runs(&hero.frames) {
        let points = here.nearby(run.frames.iter().map(|frame| (frame.x_m, frame.y_m)));
        chart.line(run.tone, LineStyle::Thick, points);
    }
    let swap = &hero.frames[hero.swap];
    chart.flag(Tone::Ink, (0.0, 0.0), &format!("swap at {:.1} m/s", swap.speed_mps), Corner::Right);
    let around = hero.swap.saturating_sub(100)..(hero.swap + 100).min(hero.frames.len());
    legend(&mut chart, &hero.frames[around], Chart::legend_line);
    chart.legend_line(Tone::Ink, "edge of the road");
    chart.render()
}

pub(super) fn lane_offset(hero: &Hero) -> String {
    let start = hero.frames[0].time_s;
    let seconds = |frame: &Frame| frame.time_s - start;
    let offset = |frame: &Frame| frame.lane_offset_m.unwrap_or_default();
    let most = hero.frames.iter().map(|frame| offset(frame).abs()).fold(OFF_LANE_M, f64::max) * 1.15;
    let x = Axis::new("time", "s", (0.0, hero.frames.last().map_or(1.0, seconds))).with_ticks_max(12);
    let y = Axis::new("offset to the left", "m", (-most, most)).with_ticks_max(6);
    let mut chart = Chart::new("offset", "Lane offset over time", x, y).with_plot_height(170.0);
    for run in runs(&hero.frames) {
        chart.line(run.tone, LineStyle::Thin, run.frames.iter().map(|frame| (seconds(frame), offset(frame))).collect());
    }
    chart.across(Tone::Bad, OFF_LANE_M, "a wheel on the middle line");
    chart.across(Tone::Bad, -OFF_LANE_M, "a wheel on the edge line");
    mark_moments(&mut chart, hero);
    legend(&mut chart, &hero.frames, Chart::legend_line);
    chart.render()
}

pub(super) fn latency(hero: &Hero) -> String {
    let start = hero.frames[0].time_s;
    let seconds = |frame: &Frame| frame.time_s - start;
    let milliseconds = |frame: &Frame| frame.step_us / 1e3;
    let (least, most) = range(hero.frames.iter().filter(|frame| frame.driven_by_model()).map(milliseconds), 0.0);
    let bounds = (10_f64.powf(least.max(1e-3).log10().floor()), 10_f64.powf(most.max(hero.deadline_ms * 1.2).log10().ceil()));
    let x = Axis::new("time", "s", (0.0, hero.frames.last().map_or(1.0, seconds))).with_ticks_max(12);
    let mut chart =
        Chart::new("latency", "Step latency over time", x, Axis::new("step", "ms", bounds).logarithmic()).with_plot_height(230.0);
    for run in runs(&hero.frames) {
        chart.dots(run.tone, run.frames.iter().map(|frame| (seconds(frame), milliseconds(frame))).collect());
    }
    chart.across(Tone::Bad, hero.deadline_ms, &format!("deadline {:.0} ms", hero.deadline_ms));
    mark_moments(&mut chart, hero);
    legend(&mut chart, &hero.frames, Chart::legend_dot);
    chart.render()
}

/// The swap, and where the previous model answered for a broken one.
fn mark_moments(chart: &mut Chart, hero: &Hero) {
    let seconds = |frame: &Frame| frame.time_s - hero.frames[0].time_s;
    chart.upright(Tone::Ink, seconds(&hero.frames[hero.swap]), "swap", Corner::Right);
    for frame in hero.frames.iter().filter(|frame| frame.fell_back) {
        chart.upright(Tone::Ink, seconds(frame), "falls back in the same step", Corner::Left);
    }
}

/// Vehicles by state, stacked, as steps: a count holds until the next report.
pub(super) fn progress(progress: &Progress) -> String {
    let first = progress.samples.first().map_or(0.0, |sample| sample.0);
    let last = progress.samples.last().map_or(1.0, |sample| sample.0);
    let most: usize = progress.samples.iter().map(|(_, counts)| counts.iter().sum()).max().unwrap_or(1);
    let x = Axis::new("time since the start of the demo", "s", (first, last)).with_ticks_max(12);
    let y = Axis::new("vehicles", "", (0.0, most as f64)).with_ticks_max(most.clamp(2, 5));
    let mut chart = Chart::new(progress.id, &progress.title, x, y).with_plot_height(120.0);
    for (index, (tone, text)) in STATES.iter().enumerate() {
        chart.area(*tone, band(&progress.samples, index));
        if progress.samples.iter().any(|(_, counts)| counts[index] > 0) {
            chart.legend_area(*tone, text);
        }
    }
    for (at, text) in &progress.moments {
        let corner = if *at > (first + last) / 2.0 { Corner::Left } else { Corner::Right };
        chart.upright(Tone::Ink, *at, text, corner);
    }
    chart.render()
}

/// Outline of the stacked band of one state.
fn band(samples: &[(f64, [usize; STATES.len()])], index: usize) -> Vec<(f64, f64)> {
    let stacked = |up_to: usize| {
        let heights = samples.iter().map(move |(at, counts)| (*at, counts[..up_to].iter().sum::<usize>() as f64));
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (at, height) in heights {
            points.extend(points.last().map(|last| (at, last.1)));
            points.push((at, height));
        }
        points
    };
    let lower = stacked(index);
    stacked(index + 1).into_iter().chain(lower.into_iter().rev()).collect()
}

/// A place to look from: its position becomes the origin, its heading the x axis.
struct View {
    x_m: f64,
    y_m: f64,
    heading_rad: f64,
}

impl View {
    fn at(frame: &Frame) -> Self {
        Self { x_m: frame.x_m, y_m: frame.y_m, heading_rad: frame.heading_rad }
    }

    fn nearby(&self, points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
        let (sin, cos) = self.heading_rad.sin_cos();
        points
            .map(|(x, y)| (x - self.x_m, y - self.y_m))
            .map(|(dx, dy)| (dx * cos + dy * sin, dy * cos - dx * sin))
            .filter(|point| point.0.abs() <= PATH_AROUND_M * 1.1)
            .collect()
    }
}

/// Consecutive frames of one model.
struct Run<'a> {
    tone: Tone,
    frames: &'a [Frame],
}

/// Splits a drive by model; each run begins with the last frame before it, so that the line has no gap.
fn runs(frames: &[Frame]) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    let mut begin = 0;
    for end in 1..=frames.len() {
        let same = frames.get(end).is_some_and(|next| (&next.version, joined(&frames[end - 1], next)) == (&frames[begin].version, true));
        if !same {
            let from = if begin > 0 && joined(&frames[begin - 1], &frames[begin]) { begin - 1 } else { begin };
            runs.push(Run { tone: tone(&frames[begin]), frames: &frames[from..end] });
            begin = end;
        }
    }
    runs
}

/// Whether one frame is the next one on the same road.
fn joined(a: &Frame, b: &Frame) -> bool {
    a.road == b.road
}

fn tone(frame: &Frame) -> Tone {
    match frame.version.as_bytes().first() {
        None => Tone::Waiting,
        Some(b'1') => Tone::First,
        Some(b'2') => Tone::Second,
        Some(_) => Tone::Third,
    }
}

fn legend(chart: &mut Chart, frames: &[Frame], add: fn(&mut Chart, Tone, &str)) {
    let mut shown: Vec<&str> = Vec::new();
    for frame in frames {
        if !shown.contains(&frame.version.as_str()) {
            shown.push(&frame.version);
            let text =
                if frame.version.is_empty() { "driver, no model yet".to_owned() } else { format!("{} {}", frame.model, frame.version) };
            add(chart, tone(frame), &text);
        }
    }
}

/// Smallest and largest value, widened.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (-1.0, 1.0) } else { (low - margin, high + margin) }
}
