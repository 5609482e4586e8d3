//! Step 3: the first model reaches every vehicle.

use anyhow::Result;

use super::{AUTHORITIES, FIRST, PATIENCE};
use crate::stage::{Draft, Stage, Watch};

pub(super) fn tell(stage: &mut Stage) -> Result<()> {
    stage.ledger.step("vla-1 runs everywhere");
    let draft = Draft { model: FIRST.0, version: FIRST.1, bundles: Vec::new() };
    for (region, authority) in AUTHORITIES {
        stage.approve(&draft, region, authority)?;
    }
    stage.ledger.say("both authorities have approved it");
    let id = stage.create_rollout("vla-1 for all", &draft, &["--wave", "name=all,percent=100", "--failure-count", "3"])?;
    let begun = stage.ledger.seconds();
    stage.desk.run(&["rollout", "start", &id])?;
    let wanted = stage.vehicles.len();
    let mut watch = Watch::new(&id);
    let done = stage.watch(&mut watch, "confirmation by all", PATIENCE, |rollout| {
        rollout.sum(|wave| wave.confirmed) == wanted || rollout.sum(|wave| wave.failed) > 0
    })?;
    let (confirmed, failed) = (done.sum(|wave| wave.confirmed), done.sum(|wave| wave.failed));
    let measured =
        format!("{confirmed} of {wanted} after {:.1} s, {failed} failed{}", stage.ledger.seconds() - begun, because(&done.reasons()));
    stage.ledger.claim("Every vehicle has confirmed vla-1", &measured, confirmed == wanted && failed == 0)?;
    stage.refresh_logs()?;
    let driven =
        stage.vehicles.iter().filter(|vehicle| vehicle.log.frames().iter().any(|frame| frame.model == FIRST.0 && frame.valid)).count();
    stage.ledger.claim("Every vehicle drives with it", &format!("{driven} of {wanted}"), driven == wanted)
}

pub(super) fn because(reasons: &str) -> String {
    if reasons.is_empty() { String::new() } else { format!(" ({reasons})") }
}
