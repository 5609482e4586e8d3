//! Step 4: the better model goes out in two waves; the C vehicle swaps in a bend.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use switchback_road_sim::STEP_S;

use super::first_model::because;
use super::{FIRST, PATIENCE, Record, SECOND, SIGNERS, Swap};
use crate::fleet::{APPROVED, Tier, WAITING};
use crate::frames::Frame;
use crate::measure::{drive, lost, swap_to};
use crate::report::{Comparison, Progress};
use crate::road::{BEND_RADIUS_MAX_M, HeroRoad};
use crate::stage::{Draft, Package, Rollout, Stage, Watch};
use crate::vehicle::Vehicle;

/// The lines of each wave.
const WAVES: [(&str, &[&str]); 2] = [("wave 1", &["P7"]), ("wave 2", &["G7", "X9"])];
/// From the start of the rollout to the swap: half a poll interval, download and self-test, two seconds of frames in shadow.
const LEAD_S: f64 = 2.6;
/// Frames around the swap that are looked at for misses: a second before, the trial behind.
pub(super) const AROUND: usize = 20;
/// Frames after a swap in which the vehicle still drives off what its previous model left.
const SETTLING_FRAMES: usize = 20;
/// Frames of each side that a comparison needs: a minute of driving.
const FRAMES_COMPARED: usize = 1200;

pub(super) fn tell(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.ledger.step("vla-2 in two waves; the C vehicle swaps in a bend");
    let draft = release(stage)?;
    stage.approve(&draft, APPROVED, "KBA")?;
    stage.ledger.say(&format!("published with two signatures; approved in {APPROVED}, not in {WAITING}"));
    let waves = [
        "--wave",
        "name=wave 1,percent=100,model-lines=P7",
        "--wave",
        "name=wave 2,percent=100,starts-at=2099-01-01T00:00:00Z,model-lines=G7+X9",
    ];
    let id = stage.create_rollout("vla-2 by line", &draft, &[&waves[..], &["--failure-count", "2"]].concat())?;

    wait_for_bend(stage)?;
    let opened = [stage.ledger.seconds(), 0.0];
    stage.desk.run(&["rollout", "start", &id])?;
    let mut watch = Watch::new(&id);
    wave(stage, &mut watch, 0)?;
    check_swap(stage, record)?;
    let advanced = stage.ledger.seconds();
    stage.desk.run(&["rollout", "advance", &id])?;
    wave(stage, &mut watch, 1)?;
    let opened = [opened[0], advanced];
    ask_why_withheld(stage)?;
    check_nobody_early(stage, &opened)?;
    compare(stage, record)?;
    // Once more, a while after the last confirmation: who waits for approval still does.
    stage.watch(&mut watch, "state of the rollout", PATIENCE, |_| true)?;
    record.progress.extend(progress(&watch, &opened));
    Ok(())
}

fn release(stage: &mut Stage) -> Result<Draft> {
    let (model, version) = SECOND;
    let packages =
        [(Tier::Ultra, "vla-2-ultra"), (Tier::UltraSe, "vla-2-ultra-se")].map(|(tier, folder)| Package { model, version, tier, folder });
    let draft = stage.pack(&packages)?;
    for signer in &SIGNERS[1..] {
        stage.sign(&draft, signer)?;
    }
    stage.publish()?;
    Ok(draft)
}

/// Waits until a rollout that starts now will swap the C vehicle's model in the middle of a bend.
pub(super) fn wait_for_bend(stage: &mut Stage) -> Result<()> {
    let road = HeroRoad::of(&hero(stage)?.spec);
    let deadline = stage.ledger.seconds() + PATIENCE.as_secs_f64();
    loop {
        let vehicle = hero_mut(stage)?;
        let frames = vehicle.log.refresh()?;
        let place_m = road.reckon(frames);
        let speed_mps = frames.last().map_or(0.0, |frame| frame.speed_mps);
        if speed_mps > 1.0 && road.is_bend_around(place_m + speed_mps * LEAD_S, speed_mps) {
            stage.ledger.say(&format!(
                "the C vehicle is {:.0} m before the middle of a bend, at {speed_mps:.1} m/s: the rollout starts",
                speed_mps * LEAD_S
            ));
            return Ok(());
        }
        stage.expect_all_running()?;
        if stage.ledger.seconds() > deadline {
            bail!("the C vehicle came to no bend within {} s; it is at {place_m:.0} m, {speed_mps:.1} m/s", PATIENCE.as_secs());
        }
        crate::interrupt::check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a wave is through. The vehicles without approval are selected by it and must not be offered anything.
fn wave(stage: &mut Stage, watch: &mut Watch, index: usize) -> Result<Rollout> {
    let (name, lines) = WAVES[index];
    let of_line = |vehicle: &&Vehicle| lines.contains(&vehicle.spec.model_line);
    let wanted = stage.vehicles.iter().filter(of_line).filter(|vehicle| vehicle.spec.region == APPROVED).count();
    let without = stage.vehicles.iter().filter(of_line).count() - wanted;
    let begun = stage.ledger.seconds();
    let rollout = stage
        .watch(watch, "end of the wave", PATIENCE, |rollout| rollout.waves[index].confirmed >= wanted || rollout.waves[index].failed > 0)?;
    let state = &rollout.waves[index];
    let measured = format!(
        "{} of {wanted} after {:.1} s, {} failed{}; {} offered, {without} wait for approval",
        state.confirmed,
        stage.ledger.seconds() - begun,
        state.failed,
        because(&rollout.reasons()),
        state.offered
    );
    let holds = state.confirmed == wanted && state.failed == 0 && state.offered == wanted;
    stage.ledger.claim(&format!("{name} ({}): every approved vehicle has confirmed vla-2", lines.join(", ")), &measured, holds)?;
    Ok(rollout)
}

fn check_swap(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.refresh_logs()?;
    let vehicle = hero(stage)?;
    let frames = vehicle.log.frames();
    let swap = swap_to(frames, SECOND.0).context("the C vehicle's log shows no swap to vla-2")?;
    let road = HeroRoad::of(&vehicle.spec);
    let curvature_1pm = road.curvature_at(road.reckon(&frames[..=swap]));
    let around = &frames[swap.saturating_sub(AROUND)..(swap + AROUND).min(frames.len())];
    let missed = around.iter().filter(|frame| frame.missed > 0 || !frame.valid).count();
    let (lost, step_us, before_us) = (lost(around, STEP_S), frames[swap].step_us, frames[swap - 1].step_us);
    let radius_m = 1.0 / curvature_1pm.abs().max(1e-9);
    let measured = format!(
        "radius {radius_m:.0} m at {:.1} m/s; {missed} of {} frames missed, {lost} lost; last step of vla-1 {:.1} ms, first of vla-2 {:.1} ms",
        frames[swap].speed_mps,
        around.len(),
        before_us / 1e3,
        step_us / 1e3
    );
    record.swap = Some(Swap { frame: swap, curvature_1pm });
    let holds = radius_m <= BEND_RADIUS_MAX_M && missed == 0 && lost == 0;
    stage.ledger.claim("The C vehicle swaps in the middle of a bend and misses no frame", &measured, holds)
}

/// By the vehicles' own logs: the first frame that the new model answered lies after the vehicle's wave opened, and only in the approved region.
fn check_nobody_early(stage: &mut Stage, opened: &[f64; 2]) -> Result<()> {
    stage.refresh_logs()?;
    let story_started = stage.ledger.started();
    let (mut early, mut foreign, mut approved) = (Vec::new(), Vec::new(), 0);
    for vehicle in &stage.vehicles {
        let Some(first) = vehicle.log.frames().iter().find(|frame| frame.model == SECOND.0) else { continue };
        let at = vehicle.started.duration_since(story_started).as_secs_f64() + first.time_s;
        let wave = usize::from(!WAVES[0].1.contains(&vehicle.spec.model_line));
        if vehicle.spec.region != APPROVED {
            foreign.push(vehicle.spec.id.as_str());
        } else if at < opened[wave] {
            early.push(vehicle.spec.id.as_str());
        } else {
            approved += 1;
        }
    }
    let wrong_tier = wrong_tier(stage)?;
    let measured = format!(
        "{approved} vehicles in {APPROVED} drive it, {} before their wave, {} in {WAITING}, {} with the bundle of another tier",
        early.len(),
        foreign.len(),
        wrong_tier.len()
    );
    let explained = stage.vehicles.iter().filter(|vehicle| vehicle.spec.region == WAITING).all(|vehicle| {
        // Only for want of an approval: everything else about these vehicles fits.
        vehicle.withheld.as_deref().is_some_and(|reason| reason.contains("approval"))
    });
    let holds = early.is_empty() && foreign.is_empty() && wrong_tier.is_empty() && explained;
    stage.ledger.claim("No vehicle of another region, tier or later line got it early", &measured, holds)
}

/// Asks the server why it withholds the release from the vehicles of the other region.
fn ask_why_withheld(stage: &mut Stage) -> Result<()> {
    for vehicle in stage.vehicles.iter_mut().filter(|vehicle| vehicle.spec.region == WAITING) {
        let answer = stage.desk.ask(&["vehicle", "show", &vehicle.spec.id])?;
        let rollouts = answer["rollouts"].as_array().context("the server says nothing about rollouts")?;
        let about = rollouts.iter().find(|rollout| rollout["release"]["model"] == SECOND.0);
        vehicle.withheld = about.and_then(|rollout| rollout["withheld"].as_str()).map(str::to_owned);
    }
    Ok(())
}

/// Vehicles whose installed bundle, as they reported it, is not of their tier.
fn wrong_tier(stage: &Stage) -> Result<Vec<String>> {
    let vehicles = super::enrollment::vehicles(stage)?;
    let foreign = stage.vehicles.iter().filter(|vehicle| {
        let known = vehicles.iter().find(|known| known["vehicle_id"] == *vehicle.spec.id);
        let path = known.and_then(|known| known["installed"]["path"].as_str());
        !path.is_some_and(|path| path.starts_with(&format!("{}/", vehicle.spec.tier.name())))
    });
    Ok(foreign.map(|vehicle| vehicle.spec.id.clone()).collect())
}

/// By twins: the vehicles that wait for approval stay on vla-1, and each has a sister with vla-2 on the same road, in the same light and tier.
fn compare(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.ledger.say(&format!("the {WAITING} vehicles on vla-1 and their {APPROVED} twins on vla-2 drive the same roads side by side"));
    let deadline = stage.ledger.seconds() + PATIENCE.as_secs_f64();
    let [first, second] = loop {
        stage.refresh_logs()?;
        let sides = twins(stage).map(|frames| drive(frames.into_iter()));
        if sides.iter().all(|side| side.offset_m.count >= FRAMES_COMPARED) {
            break sides;
        }
        stage.expect_all_running()?;
        ensure!(
            stage.ledger.seconds() < deadline,
            "the twins have driven {} and {} frames only",
            sides[0].offset_m.count,
            sides[1].offset_m.count
        );
        crate::interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200));
    };
    let hero_frames = hero(stage)?.log.frames();
    let [hero_first, hero_second] = [FIRST, SECOND].map(|(model, _)| drive(hero_frames.iter().filter(|frame| frame.model == model)));
    let offset_cm = [first.offset_m.mean * 100.0, second.offset_m.mean * 100.0];
    let run_ms = [hero_first.run_us.p50 / 1e3, hero_second.run_us.p50 / 1e3];
    let closer = 100.0 * (1.0 - offset_cm[1] / offset_cm[0]);
    let faster = run_ms[0] / run_ms[1];
    record.comparison = vec![
        row("Distance from the middle of the lane, mean", offset_cm, "cm", &format!("{closer:.0} % closer")),
        row("Time inside the model, median (C vehicle)", run_ms, "ms", &format!("{faster:.1}\u{d7} faster")),
        row("Distance from the middle of the lane, largest", [first.offset_m.max * 100.0, second.offset_m.max * 100.0], "cm", ""),
        row("Time inside the model, 99th percentile (C vehicle)", [hero_first.run_us.p99 / 1e3, hero_second.run_us.p99 / 1e3], "ms", ""),
        row("Frames compared", [first.offset_m.count as f64, second.offset_m.count as f64], "", ""),
    ];
    let measured = format!(
        "mean lane offset {:.1} cm against {:.1} cm ({closer:.0} % closer), time in the model {:.2} ms against {:.2} ms ({faster:.1}\u{d7} faster)",
        offset_cm[1], offset_cm[0], run_ms[1], run_ms[0]
    );
    stage.ledger.claim("vla-2 drives better and thinks faster than vla-1", &measured, closer > 0.0 && faster > 1.0)
}

/// Frames of the vehicles that stayed on vla-1, and of their twins since they settled on vla-2, both over the same time.
fn twins(stage: &Stage) -> [Vec<&Frame>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for waiting in stage.vehicles.iter().filter(|vehicle| vehicle.spec.region == WAITING) {
        let Some(twin) = stage.vehicles.iter().find(|vehicle| vehicle.spec.is_twin_of(&waiting.spec)) else { continue };
        let Some(swap) = twin.log.frames().iter().position(|frame| frame.model == SECOND.0) else { continue };
        let Some(settled) = twin.log.frames().get(swap + SETTLING_FRAMES) else { continue };
        let since = twin.started + Duration::from_secs_f64(settled.time_s);
        let after = |vehicle: &Vehicle, frame: &Frame| vehicle.started + Duration::from_secs_f64(frame.time_s) >= since;
        sides[0].extend(waiting.log.frames().iter().filter(|frame| frame.model == FIRST.0 && after(waiting, frame)));
        sides[1].extend(twin.log.frames().iter().filter(|frame| frame.model == SECOND.0 && after(twin, frame)));
    }
    sides
}

fn row(what: &str, values: [f64; 2], unit: &str, better: &str) -> Comparison {
    let decimals = if unit.is_empty() { 0 } else { 2 };
    let text = |value: f64| format!("{value:.decimals$} {unit}").trim().to_owned();
    Comparison { what: what.to_owned(), first: text(values[0]), second: text(values[1]), better: better.to_owned() }
}

fn progress(watch: &Watch, opened: &[f64; 2]) -> Vec<Progress> {
    let wave = |index: usize| {
        let (name, lines) = WAVES[index];
        Progress {
            id: ["wave-1", "wave-2"][index],
            title: format!("vla-2, {name}: {}", lines.join(" and ")),
            samples: watch.samples.iter().map(|(at, rollout)| (*at, Progress::sample([&rollout.waves[index]].into_iter()))).collect(),
            moments: vec![(opened[index], format!("{name} opens"))],
        }
    };
    vec![wave(0), wave(1)]
}

pub(super) fn hero(stage: &Stage) -> Result<&Vehicle> {
    stage.vehicles.iter().find(|vehicle| vehicle.spec.in_c).context("the C vehicle is not there")
}

fn hero_mut(stage: &mut Stage) -> Result<&mut Vehicle> {
    stage.vehicles.iter_mut().find(|vehicle| vehicle.spec.in_c).context("the C vehicle is not there")
}
