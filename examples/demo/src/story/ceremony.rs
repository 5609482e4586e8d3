//! Step 1: the server makes its online keys, three people make theirs, and two of the three must sign a release.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{FIRST, SIGNERS};
use crate::fleet::Tier;
use crate::process::{Launch, Process};
use crate::stage::{Draft, Package, Stage, path};

/// Starts the server and returns it with its address.
pub(crate) fn open_server(programs: &Path, data: &Path, logs: &Path) -> Result<(Process, String)> {
    let words = ["serve", "--data-dir", path(data)?, "--listen", "127.0.0.1:0", "--poll-after-s", "1"];
    let server = Process::start(Launch {
        name: "switchback-server",
        program: &programs.join("switchback-server"),
        arguments: words.map(str::to_owned).to_vec(),
        log_dir: logs,
        niceness: 0,
    })?;
    let address = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
    let url = server.wait_for_line("line with its address", Duration::from_secs(20), address)?;
    Ok((server, url))
}

pub(super) fn tell(stage: &mut Stage) -> Result<()> {
    stage.ledger.step("Ceremony: three keyholders, two must sign");
    stage.ledger.say(&format!("switchback-server listens on {}; it made its online keys at first start", stage.desk.server));
    let base = stage.places.base();
    let init = ["init", "--unencrypted", "--base", path(&base)?, "--threshold", "2", "--tiers", "ultra,ultra-se"];
    stage.desk.run(&[&init[..], &["--signers", &SIGNERS.join(",")]].concat())?;
    stage.ledger.say(&format!("{} have made their keys and signed both roots; one delegated role per tier", SIGNERS.join(", ")));
    let draft = pack_first(stage)?;
    stage.ledger.say(&format!("{} {} packed for both tiers, self-test recorded by running each model", draft.model, draft.version));

    stage.sign(&draft, SIGNERS[0])?;
    let refusal = stage.desk.refusal(&["publish", "--base", path(&base)?])?;
    let counted = refusal.contains("1 of 2 signatures");
    stage.ledger.claim("One signature of three is not enough to publish", &refusal, counted)?;

    stage.sign(&draft, SIGNERS[1])?;
    stage.publish().context("publish with two signatures")?;
    let measured = format!("{} and {} have signed, the server accepted {} {}", SIGNERS[0], SIGNERS[1], draft.model, draft.version);
    stage.ledger.claim("Two of three are", &measured, true)
}

fn pack_first(stage: &mut Stage) -> Result<Draft> {
    let (model, version) = FIRST;
    let packages = Tier::ALL.map(|tier| Package { model, version, tier, folder: "vla-1" });
    stage.pack(&packages)
}
