//! Step 5: broken releases with valid signatures stop themselves.

use anyhow::Result;

use super::second_model::wait_for_bend;
use super::{BENT, PATIENCE, Record, SECOND, SIGNERS, SILENT};
use crate::fleet::{APPROVED, TRIALS, Tier};
use crate::report::Progress;
use crate::stage::{Draft, Package, Stage, Watch};
use crate::vehicle::{Event, Vehicle};

/// Vehicles that may fail before the rollout stops.
const FAIL_COUNT: &str = "2";
/// The fault bit of an answer that is not finite.
const NOT_FINITE: u64 = 1 << 8;

pub(super) fn tell(stage: &mut Stage, record: &mut Record) -> Result<()> {
    stage.ledger.step("Broken releases with valid signatures stop themselves");
    bent(stage)?;
    silent(stage, record)
}

/// Signed by two, published and approved: no signature can tell that a model is broken.
fn release(stage: &mut Stage, (model, version): (&'static str, &'static str), folder: &str) -> Result<Draft> {
    let draft = stage.pack(&[Package { model, version, tier: Tier::Ultra, folder }])?;
    for signer in &SIGNERS[..2] {
        stage.sign(&draft, signer)?;
    }
    stage.publish()?;
    stage.approve(&draft, APPROVED, "KBA")?;
    Ok(draft)
}

/// Left and right exchanged: it passes its self-test and is sound on a straight road. Beside the model that drives, a bend gives it away.
fn bent(stage: &mut Stage) -> Result<()> {
    let draft = release(stage, BENT, "vla-3-broken-bend")?;
    stage.ledger.say("vla-3 3.0.0, with left and right exchanged, goes to the maker's own test drivers: the C vehicle");
    let options = ["--wave", "name=trials,percent=100", "--tenants", TRIALS, "--failure-count", "1"];
    let id = stage.create_rollout("vla-3 3.0.0", &draft, &options)?;
    wait_for_bend(stage)?;
    stage.desk.run(&["rollout", "start", &id])?;
    let paused = stage.watch(&mut Watch::new(&id), "pause of the rollout", PATIENCE, |rollout| rollout.state == "paused")?;
    let refusal = stage.wait_for("refusal in the vehicle's own words", PATIENCE, |vehicles| {
        vehicles.iter().filter_map(|vehicle| vehicle.last_event(BENT)).find(Event::is_refusal)
    })?;
    stage.refresh_logs()?;
    let frames = stage.vehicles.iter().flat_map(|vehicle| vehicle.log.frames());
    let driven = frames.filter(|frame| (frame.model.as_str(), frame.version.as_str()) == BENT).count();
    let measured = format!("{}: \"{}\"; {driven} frames driven by it", paused.reasons(), refusal.text);
    let holds = driven == 0 && paused.reasons() == "1 x shadow_failed" && paused.paused_by.as_deref() == Some("gate");
    stage.ledger.claim("Left and right exchanged: refused in shadow, in a bend, before it drives", &measured, holds)
}

/// Answers well until it falls silent, in the middle of its trial.
fn silent(stage: &mut Stage, record: &mut Record) -> Result<()> {
    let draft = release(stage, SILENT, "vla-3-broken-silent")?;
    stage.ledger.say("vla-3 3.1.0, which falls silent after a while, is rolled out");
    let waves = ["--wave", "name=canary,percent=100,model-lines=P7", "--wave", "name=all,percent=100,starts-at=2099-01-01T00:00:00Z"];
    let id = stage.create_rollout("vla-3 3.1.0", &draft, &[&waves[..], &["--tiers", "ultra", "--failure-count", FAIL_COUNT]].concat())?;
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
        let tries = vehicles.iter().filter_map(|vehicle| Some((vehicle.spec.id.clone(), vehicle.last_event(SILENT)?)));
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
    let answered = frames().filter(|frame| frame.model == SILENT.0 && frame.valid).count();
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
        title: "vla-3 3.1.0, the release that falls silent".to_owned(),
        samples: watch.samples.iter().map(|(at, rollout)| (*at, Progress::sample(rollout.waves.iter()))).collect(),
        moments,
    }
}
