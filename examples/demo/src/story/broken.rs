//! Step 5: a broken release with valid signatures stops itself.

use anyhow::Result;

use super::{BROKEN, PATIENCE, Record, SECOND, SIGNERS};
use crate::fleet::{APPROVED, Tier};
use crate::report::Progress;
use crate::stage::{Package, Stage, Watch};
use crate::vehicle::{Event, Vehicle};

/// Vehicles that may fail before the rollout stops.
const FAIL_COUNT: &str = "2";
/// The fault bit of an answer that is not finite.
const NOT_FINITE: u64 = 1 << 8;

pub(super) fn tell(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.ledger.step("A broken release with valid signatures stops itself");
    let (model, version) = BROKEN;
    let draft = stage.pack(&[Package { model, version, tier: Tier::Ultra, folder: "vla-3-broken-silent" }])?;
    for signer in &SIGNERS[..2] {
        stage.sign(&draft, signer)?;
    }
    stage.publish()?;
    stage.approve(&draft, APPROVED, "KBA")?;
    stage.ledger.say("vla-3 is signed by two, published and approved: no signature can tell that it is broken");
    let waves = ["--wave", "name=canary,percent=100,model-lines=P7", "--wave", "name=all,percent=100,starts-at=2099-01-01T00:00:00Z"];
    let id = stage.create_rollout("vla-3", &draft, &[&waves[..], &["--tiers", "ultra", "--failure-count", FAIL_COUNT]].concat())?;
    let begun = stage.ledger.seconds();
    stage.desk.run(&["rollout", "start", &id])?;
    let mut watch = Watch::new(&id);
    let paused = stage.watch(&mut watch, "pause of the rollout", PATIENCE, |rollout| rollout.state == "paused")?;
    let after_s = stage.ledger.seconds() - begun;

    let reason = paused.paused_reason.clone().unwrap_or_default();
    let by_gate = paused.paused_by.as_deref() == Some("gate");
    stage.ledger.claim("The rollout paused itself", &format!("after {after_s:.1} s: {reason}"), by_gate)?;

    let tried = stage.wait_for("end of every try", PATIENCE, |vehicles| {
        // A vehicle that was still loading when the rollout paused has dropped it without a try.
        let tries = vehicles.iter().filter_map(|vehicle| Some((vehicle.spec.id.clone(), vehicle.last_event(model)?)));
        let ended: Vec<(String, Event)> = tries.filter(|(_, event)| event.is_refusal() || event.name == "confirmed").collect();
        vehicles.iter().all(Vehicle::is_settled).then_some(ended)
    })?;
    for (vehicle, event) in &tried {
        stage.ledger.say(&format!("{vehicle}: {}: {}", event.name, event.text));
    }
    let end = stage.watch(&mut watch, "report of every try", PATIENCE, |rollout| rollout.sum(|wave| wave.failed) >= tried.len())?;
    let (failed, confirmed) = (end.sum(|wave| wave.failed), end.sum(|wave| wave.confirmed));
    let measured = format!("{failed} of {} refused it or fell back ({}), {confirmed} confirmed it", tried.len(), end.reasons());
    stage.ledger.claim(
        "Every vehicle that tried it went back to vla-2 and said why",
        &measured,
        confirmed == 0 && failed == tried.len(),
    )?;

    let exposed = end.sum(|wave| wave.offered);
    record.exposed = Some(exposed);
    record.paused_after_s = Some(after_s);
    let canaries = paused.waves[0].selected;
    let measured = format!("{exposed} of {} vehicles saw it, the canary wave has {canaries}", stage.vehicles.len());
    stage.ledger.claim("Few vehicles ever saw it", &measured, exposed <= canaries)?;
    check_driving(stage)?;
    record.progress.push(progress(&watch, begun));
    Ok(())
}

/// Where the broken model drove until it fell silent, the previous one answered in the very same step.
fn check_driving(stage: &mut Stage) -> Result<()> {
    stage.refresh_logs()?;
    let frames = || stage.vehicles.iter().flat_map(|vehicle| vehicle.log.frames());
    let answered = frames().filter(|frame| frame.model == BROKEN.0 && frame.valid).count();
    let fell_back = frames().filter(|frame| frame.fell_back && frame.valid && frame.model == SECOND.0).count();
    let left_alone = frames().filter(|frame| !frame.valid && (frame.fell_back || frame.faults & NOT_FINITE != 0)).count();
    let measured = format!(
        "{answered} frames answered before it fell silent, {fell_back} by vla-2 in the step in which it did, {left_alone} left without an answer"
    );
    stage.ledger.claim("No vehicle was left without an answer by it", &measured, left_alone == 0 && fell_back > 0)
}

fn progress(watch: &Watch, begun: f64) -> Progress {
    let paused = watch.samples.iter().find(|(_, rollout)| rollout.state == "paused");
    let mut moments = vec![(begun, "rollout starts".to_owned())];
    moments.extend(paused.map(|(at, _)| (*at, "paused itself".to_owned())));
    Progress {
        id: "broken",
        title: "vla-3, the broken release".to_owned(),
        samples: watch.samples.iter().map(|(at, rollout)| (*at, Progress::sample(rollout.waves.iter()))).collect(),
        moments,
    }
}
