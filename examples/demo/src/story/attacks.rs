//! Step 6: altered bytes and a bundle for another tier are refused, each with its reason.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

use super::{PATIENCE, SIGNERS, TAMPERED};
use crate::fleet::{APPROVED, Spec, Tier};
use crate::stage::{Package, Stage, Watch, Wave};
use crate::vehicle::{Event, Vehicle};

pub(super) fn tell(stage: &mut Stage) -> Result<()> {
    stage.ledger.step("A tampered bundle and a bundle for another tier are refused");
    tampered_bundle(stage)?;
    other_tier(stage)
}

/// Somebody with access to the server's disk changes one bit of a bundle that everybody has signed.
fn tampered_bundle(stage: &mut Stage) -> Result<()> {
    let (model, version) = TAMPERED;
    let draft = stage.pack(&[Package { model, version, tier: Tier::Ultra, folder: "vla-2-ultra" }])?;
    for signer in &SIGNERS[..2] {
        stage.sign(&draft, signer)?;
    }
    stage.publish()?;
    stage.approve(&draft, APPROVED, "KBA")?;
    let stored = find_copy(&stage.places.server_data(), &draft.bundles[0])?;
    let at = flip_a_bit(&stored)?;
    stage.ledger.say(&format!("vla-2 2.0.1 is published; then bit 0 of byte {at} of the server's copy is flipped"));
    let options = ["--wave", "name=all,percent=100", "--tiers", "ultra", "--model-lines", "X9", "--failure-count", "1"];
    let id = stage.create_rollout("vla-2 2.0.1", &draft, &options)?;
    stage.desk.run(&["rollout", "start", &id])?;
    let mut watch = Watch::new(&id);
    let refused = |wave: &Wave| wave.at(&["refused"]);
    // The release is not to blame for what somebody did to the server's disk, so no gate pauses it: a person does.
    let rollout = stage.watch(&mut watch, "refusal of the tampered bundle", PATIENCE, |rollout| rollout.sum(refused) > 0)?;
    stage.desk.run(&["rollout", "pause", &id, "--reason", "the server's copy of its bundle is damaged"])?;
    let refusal = stage.wait_for("refusal in a vehicle's own words", PATIENCE, |vehicles| {
        vehicles.iter().flat_map(Vehicle::events).find(|event| event.version == version && event.is_refusal())
    })?;
    let counts = (rollout.sum(refused), rollout.sum(|wave| wave.confirmed));
    let measured = format!("{} refused it, {} run it: \"{}\"", counts.0, counts.1, refusal.text);
    let holds = counts.0 > 0 && counts.1 == 0 && refusal.text.contains("SHA-256") && driven_by(stage, version)? == 0;
    stage.ledger.claim("One flipped bit is refused before anything of it is decoded", &measured, holds)
}

/// The Director's records are falsified: it takes an Ultra SE for an Ultra and assigns it the bundle of the other tier.
fn other_tier(stage: &mut Stage) -> Result<()> {
    let spec = Spec {
        id: "mistaken-1".to_owned(),
        tier: Tier::UltraSe,
        model_line: "X9",
        region: APPROVED,
        seed: 901,
        at_night: false,
        in_c: false,
    };
    let token = super::enrollment::token(stage, &spec, Tier::Ultra.name())?;
    let vehicle = stage.factory.build(spec, &token)?;
    stage.vehicles.push(vehicle);
    stage.ledger.say("an Ultra SE enrolls that the Director's records call an Ultra: it is assigned the bundle of the other tier");
    let refusal = stage.wait_for("refusal of the other tier's bundle", PATIENCE, |vehicles| {
        vehicles.last().and_then(|vehicle| vehicle.events().into_iter().find(Event::is_refusal))
    })?;
    stage.refresh_logs()?;
    let driven = stage.vehicles.last().map_or(0, |vehicle| vehicle.log.frames().iter().filter(|frame| frame.driven_by_model()).count());
    let measured = format!("\"{}\"; {driven} frames driven by it", refusal.text);
    let holds = refusal.text.contains("tier") && driven == 0;
    stage.ledger.claim("A bundle for another tier is refused although the Director assigned it", &measured, holds)
}

fn driven_by(stage: &mut Stage, version: &str) -> Result<usize> {
    stage.refresh_logs()?;
    Ok(stage.vehicles.iter().flat_map(|vehicle| vehicle.log.frames()).filter(|frame| frame.version == version).count())
}

/// The file below `folder` with the same bytes as `original`.
fn find_copy(folder: &Path, original: &Path) -> Result<PathBuf> {
    let bytes = fs::read(original)?;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.metadata()?.len() == bytes.len() as u64 && fs::read(entry.path())? == bytes {
                return Ok(entry.path());
            }
        }
    }
    bail!("the server keeps no copy of {}", original.display())
}

/// Flips a bit near the beginning of a bundle, in its list of contents, and returns the offset of its byte. Everybody downloads that; of the
/// weights a vehicle asks only for those that the release it drives has not.
fn flip_a_bit(path: &Path) -> Result<usize> {
    let mut bytes = fs::read(path)?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    let at = bytes.len().min(128) / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    Ok(at)
}
