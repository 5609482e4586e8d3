//! The end: every vehicle stops, and its whole drive is looked at once more.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use switchback_road_sim::STEP_S;

use super::Record;
use super::second_model::{AROUND, hero};
use crate::measure::{Figures, changes, lost};
use crate::report::Hero;
use crate::road::HeroRoad;
use crate::stage::Stage;

/// The deadline that both models' contracts state.
#[derive(Deserialize)]
struct Contract {
    deadline_ms: f64,
}

/// The simulator's own record of the C vehicle's drive; one element per frame.
#[derive(Deserialize)]
struct RoadLog {
    x_m: Vec<f64>,
    y_m: Vec<f64>,
    heading_rad: Vec<f64>,
    offset_m: Vec<f64>,
    off_lane: Vec<f64>,
}

pub(super) fn tell(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.ledger.step("Afterwards: the whole drive of every vehicle");
    stage.vehicles.iter().for_each(|vehicle| vehicle.process.ask_to_stop());
    for vehicle in &mut stage.vehicles {
        let status = vehicle.process.stop()?;
        ensure!(status.success(), "{} did not end well ({status})\n{}", vehicle.spec.id, vehicle.process.tail());
    }
    stage.refresh_logs()?;
    let road_log = read_road_log(stage)?;
    let off_in_c = road_log.off_lane.iter().filter(|&&off| off != 0.0).count();
    let (mut off, mut frames, mut roads) = (off_in_c, road_log.off_lane.len(), 1);
    let mut worst_m = road_log.offset_m.iter().fold(0.0, |worst: f64, offset| worst.max(offset.abs()));
    for vehicle in stage.vehicles.iter().filter(|vehicle| !vehicle.spec.in_c) {
        let driven = || vehicle.log.frames().iter().filter(|frame| frame.driven_by_model());
        off += driven().filter(|frame| frame.off_lane).count();
        frames += driven().count();
        roads += driven().next_back().map_or(0, |frame| frame.road);
        worst_m = driven().filter_map(|frame| frame.lane_offset_m).fold(worst_m, |worst, offset| worst.max(offset.abs()));
    }
    let measured = format!("{off} of {frames} frames on {roads} roads with a wheel outside, largest offset {:.0} cm", worst_m * 100.0);
    stage.ledger.claim("Every vehicle stayed in its lane on all its roads", &measured, off == 0)?;
    check_changes(stage)?;
    record.hero = draw(stage, record, &road_log)?;
    Ok(())
}

/// Every change of the C vehicle's model: the swap in the bend, the broken release and the return from it.
fn check_changes(stage: &mut Stage) -> Result<()> {
    let frames = hero(stage)?.log.frames();
    let changes = changes(frames);
    let around = |&change: &usize| &frames[change.saturating_sub(AROUND)..(change + AROUND).min(frames.len())];
    let missed: u64 =
        changes.iter().map(|change| around(change).iter().map(|frame| frame.missed).sum::<u64>() + lost(around(change), STEP_S)).sum();
    let step = Figures::of(frames.iter().map(|frame| frame.step_us / 1e3));
    let measured = format!(
        "{missed} missed within a second of {} changes; {} of {} on the whole drive; step {:.1} ms median, {:.1} ms p99, {:.1} ms at most",
        changes.len(),
        frames.iter().filter(|frame| frame.missed > 0).count(),
        frames.len(),
        step.p50,
        step.p99,
        step.max
    );
    stage.ledger.claim("The C vehicle missed no frame at any change of its model", &measured, missed == 0)
}

fn read_road_log(stage: &Stage) -> Result<RoadLog> {
    let path = stage.factory.simulator_log();
    let text = fs::read_to_string(&path).with_context(|| format!("the simulator's log {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// The C vehicle's frames at the places where the simulator saw it.
fn draw(stage: &Stage, record: &Record, road_log: &RoadLog) -> Result<Option<Hero>> {
    let (vehicle, Some(swap)) = (hero(stage)?, record.swap) else { return Ok(None) };
    let mut frames = vehicle.log.frames().to_vec();
    ensure!(road_log.x_m.len() >= frames.len(), "the simulator logged {} frames, the C vehicle {}", road_log.x_m.len(), frames.len());
    for (index, frame) in frames.iter_mut().enumerate() {
        (frame.x_m, frame.y_m, frame.heading_rad) = (road_log.x_m[index], road_log.y_m[index], road_log.heading_rad[index]);
        frame.lane_offset_m = Some(road_log.offset_m[index]);
    }
    let contract = stage.places.models.join("vla-1").join("contract.json");
    let contract: Contract = serde_json::from_str(&fs::read_to_string(&contract)?).with_context(|| format!("{}", contract.display()))?;
    Ok(Some(Hero {
        vehicle: vehicle.spec.id.clone(),
        frames,
        swap: swap.frame,
        curvature_1pm: swap.curvature_1pm,
        deadline_ms: contract.deadline_ms,
        edges: HeroRoad::of(&vehicle.spec).edges(),
    }))
}
