//! Step 2: twenty vehicles come alive, each with a key of its own.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::PATIENCE;
use crate::fleet::{APPROVED, HARDWARE_ID, Spec, WAITING, fleet};
use crate::interrupt;
use crate::stage::Stage;

pub(super) fn tell(stage: &mut Stage) -> Result<()> {
    stage.ledger.step("Fleet: twenty vehicles enroll with one-time tokens");
    for spec in fleet() {
        let token = token(stage, &spec, spec.tier.name())?;
        let vehicle = stage.factory.build(spec, &token)?;
        stage.vehicles.push(vehicle);
    }
    stage.ledger.say("twenty programs started: one in C, nineteen in Rust; each makes its own key and sends the public half");
    let wanted = stage.vehicles.len();
    let vehicles = wait_for_enrollments(stage, wanted)?;
    let count = |name: &str, value: &str| vehicles.iter().filter(|vehicle| vehicle[name] == value).count();
    let keys: BTreeSet<&str> = vehicles.iter().filter_map(|vehicle| vehicle["key_id"].as_str()).collect();
    let measured = format!(
        "{} vehicles with {} keys: {} Ultra, {} Ultra SE; P7 {}, G7 {}, X9 {}; {} in {APPROVED}, {} in {WAITING}",
        vehicles.len(),
        keys.len(),
        count("tier", "ultra"),
        count("tier", "ultra-se"),
        count("model_line", "P7"),
        count("model_line", "G7"),
        count("model_line", "X9"),
        count("region", APPROVED),
        count("region", WAITING),
    );
    let as_built = stage.vehicles.iter().all(|vehicle| vehicles.iter().any(|known| is_same(known, &vehicle.spec)));
    stage.ledger.claim("Every vehicle is known with tier, line, region and a key of its own", &measured, as_built && keys.len() == wanted)
}

/// A one-time token that enrolls `spec` as a vehicle of `tier`.
pub(super) fn token(stage: &Stage, spec: &Spec, tier: &str) -> Result<String> {
    let mut words = vec!["vehicle", "enroll", &spec.id, "--tenant", spec.tenant(), "--tier", tier];
    words.extend(["--hardware", HARDWARE_ID, "--model-line", spec.model_line, "--region", spec.region]);
    let answer = stage.desk.ask(&words)?;
    Ok(answer["token"].as_str().with_context(|| format!("no token in {answer}"))?.to_owned())
}

fn wait_for_enrollments(stage: &mut Stage, wanted: usize) -> Result<Vec<Value>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let vehicles = vehicles(stage)?;
        if vehicles.len() >= wanted {
            return Ok(vehicles);
        }
        stage.expect_all_running()?;
        if Instant::now() > deadline {
            bail!("{} of {wanted} vehicles have enrolled within {} s", vehicles.len(), PATIENCE.as_secs());
        }
        interrupt::check()?;
        thread::sleep(Duration::from_millis(150));
    }
}

/// All vehicles as the server knows them.
pub(super) fn vehicles(stage: &Stage) -> Result<Vec<Value>> {
    let answer = stage.desk.ask(&["vehicle", "list"])?;
    let list = if answer.is_array() { &answer } else { &answer["vehicles"] };
    Ok(list.as_array().with_context(|| format!("no list of vehicles in {answer}"))?.clone())
}

fn is_same(known: &Value, spec: &Spec) -> bool {
    known["vehicle_id"] == *spec.id
        && known["tier"] == spec.tier.name()
        && known["model_line"] == spec.model_line
        && known["region"] == spec.region
}
