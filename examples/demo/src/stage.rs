//! Everything that is on the stage: the server, the desk, the vehicles and what was told so far.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::desk::Desk;
use crate::fleet::{HARDWARE_ID, Tier};
use crate::interrupt;
use crate::ledger::Ledger;
use crate::process::Process;
use crate::vehicle::{Factory, Vehicle};

/// Frames on trial, instead of the ten seconds that the models' contracts ask for.
pub(crate) const TRIAL_FRAMES: u32 = 60;

/// How often the server is asked for the state of a rollout.
const WATCH_EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Stage {
    pub(crate) ledger: Ledger,
    pub(crate) places: Places,
    pub(crate) desk: Desk,
    pub(crate) server: Process,
    pub(crate) factory: Factory,
    pub(crate) vehicles: Vec<Vehicle>,
    /// Release counter of the newest release.
    pub(crate) counter: u64,
}

/// Files of this run and of the repository.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    pub(crate) c_vehicle: PathBuf,
    pub(crate) models: PathBuf,
    pub(crate) runtime: PathBuf,
    /// Everything that this run writes.
    pub(crate) run: PathBuf,
}

impl Places {
    pub(crate) fn base(&self) -> PathBuf {
        self.run.join("desk")
    }

    pub(crate) fn server_data(&self) -> PathBuf {
        self.run.join("server")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.run.join("logs")
    }

    pub(crate) fn director_root(&self) -> PathBuf {
        self.base().join("director").join("1.root.json")
    }

    pub(crate) fn image_root(&self) -> PathBuf {
        self.base().join("image").join("1.root.json")
    }
}

/// A rollout as the server tells it; only what the story needs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) paused_by: Option<String>,
    #[serde(default)]
    pub(crate) paused_reason: Option<String>,
    pub(crate) waves: Vec<Wave>,
}

/// One wave of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Wave {
    pub(crate) selected: usize,
    /// Vehicles that were told of the release, however far they came since.
    pub(crate) offered: usize,
    pub(crate) confirmed: usize,
    pub(crate) failed: usize,
    /// Vehicles by the last stage that they reported, `offered` first.
    pub(crate) stages: BTreeMap<String, usize>,
    /// Failed vehicles by the name of the reason.
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Wave {
    /// Vehicles at one of these stages.
    pub(crate) fn at(&self, stages: &[&str]) -> usize {
        stages.iter().filter_map(|stage| self.stages.get(*stage)).sum()
    }
}

impl Rollout {
    pub(crate) fn sum(&self, of: fn(&Wave) -> usize) -> usize {
        self.waves.iter().map(of).sum()
    }

    pub(crate) fn reasons(&self) -> String {
        let mut all: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, count) in self.waves.iter().flat_map(|wave| &wave.reasons) {
            *all.entry(name).or_default() += count;
        }
        all.iter().map(|(name, count)| format!("{count} x {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// The history of one rollout, for the report.
pub(crate) struct Watch {
    pub(crate) id: String,
    pub(crate) samples: Vec<(f64, Rollout)>,
}

impl Watch {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), samples: Vec::new() }
    }
}

/// A release on the way from the models' folder to the server.
pub(crate) struct Draft {
    pub(crate) model: &'static str,
    pub(crate) version: &'static str,
    pub(crate) bundles: Vec<PathBuf>,
}

/// What is packed for one tier.
pub(crate) struct Package<'a> {
    pub(crate) model: &'static str,
    pub(crate) version: &'static str,
    pub(crate) tier: Tier,
    /// Folder below the models' folder.
    pub(crate) folder: &'a str,
}

impl Stage {
    /// Packs models as one release: every tier gets its own bundle under the same name.
    pub(crate) fn pack(&mut self, packages: &[Package<'_>]) -> Result<Draft> {
        self.counter += 1;
        let counter = self.counter.to_string();
        let mut bundles = Vec::new();
        for package in packages {
            bundles.push(self.pack_one(package, &counter)?);
        }
        let first = packages.first().context("nothing to pack")?;
        Ok(Draft { model: first.model, version: first.version, bundles })
    }

    fn pack_one(&self, package: &Package<'_>, counter: &str) -> Result<PathBuf> {
        let folder = self.places.models.join(package.folder);
        let out = self.places.run.join("dist");
        let (model, contract) = (folder.join("model.onnx"), self.shortened_contract(package)?);
        let (inputs, data) = (folder.join("selftest-inputs.safetensors"), folder.join("model.onnx.data"));
        let mut arguments = vec!["pack", "--model", path(&model)?, "--contract", path(&contract)?];
        arguments.extend(["--name", package.model, "--version", package.version, "--tier", package.tier.name()]);
        arguments.extend(["--release-counter", counter, "--hardware", HARDWARE_ID, "--out", path(&out)?]);
        for (option, file) in [("--self-test-inputs", &inputs), ("--data", &data)] {
            if file.exists() {
                arguments.extend([option, path(file)?]);
            }
        }
        self.desk.ask(&arguments)?;
        let bundle = out.join(package.tier.name()).join(format!("{}-{}.tar.zst", package.model, package.version));
        if !bundle.exists() {
            bail!("`switchback pack` made no {}", bundle.display());
        }
        Ok(bundle)
    }

    /// The model's contract with a trial that fits into a demo; everything else stays as the trainer wrote it.
    fn shortened_contract(&self, package: &Package<'_>) -> Result<PathBuf> {
        let original = self.places.models.join(package.folder).join("contract.json");
        let text = fs::read_to_string(&original).with_context(|| format!("read {}", original.display()))?;
        let mut contract: Value = serde_json::from_str(&text).with_context(|| format!("{}", original.display()))?;
        contract["acceptance"]["trial_frames"] = TRIAL_FRAMES.into();
        let shortened = self.places.run.join("contracts").join(format!("{}.json", package.folder));
        fs::write(&shortened, serde_json::to_vec_pretty(&contract)?).with_context(|| format!("write {}", shortened.display()))?;
        Ok(shortened)
    }

    pub(crate) fn sign(&self, draft: &Draft, signer: &str) -> Result<()> {
        let base = self.places.base();
        for bundle in &draft.bundles {
            self.desk.run(&["sign", "--base", path(&base)?, "--key", signer, path(bundle)?])?;
        }
        Ok(())
    }

    pub(crate) fn publish(&self) -> Result<()> {
        self.desk.run(&["publish", "--base", path(&self.places.base())?])
    }

    pub(crate) fn approve(&self, draft: &Draft, region: &str, authority: &str) -> Result<()> {
        let number = format!("{}-2026-{:04}", authority, self.counter);
        let release = ["approval", "add", "--model", draft.model, "--version", draft.version];
        self.desk.run(&[&release[..], &["--region", region, "--authority", authority, "--number", &number]].concat())
    }

    /// Writes a rollout down and returns its number. It offers nothing before it is started.
    pub(crate) fn create_rollout(&self, name: &str, draft: &Draft, options: &[&str]) -> Result<String> {
        let what = ["rollout", "create", "--name", name, "--model", draft.model, "--version", draft.version];
        let answer = self.desk.ask(&[&what[..], options].concat())?;
        let id = answer.get("id").and_then(Value::as_i64).with_context(|| format!("the new rollout has no id: {answer}"))?;
        Ok(id.to_string())
    }

    pub(crate) fn rollout(&self, id: &str) -> Result<Rollout> {
        let answer = self.desk.ask(&["rollout", "status", id])?;
        serde_json::from_value(answer).with_context(|| format!("the state of rollout {id}"))
    }

    /// Asks the server again and again until `done`, and keeps what it said.
    pub(crate) fn watch(&mut self, watch: &mut Watch, what: &str, timeout: Duration, done: impl Fn(&Rollout) -> bool) -> Result<Rollout> {
        let deadline = Instant::now() + timeout;
        loop {
            let rollout = self.rollout(&watch.id)?;
            watch.samples.push((self.ledger.seconds(), rollout.clone()));
            if done(&rollout) {
                return Ok(rollout);
            }
            self.expect_all_running()?;
            if Instant::now() >= deadline {
                bail!(
                    "no {what} within {} s; the server says {rollout:?}; the vehicles said last\n{}",
                    timeout.as_secs(),
                    self.last_lines()
                );
            }
            interrupt::check()?;
            thread::sleep(WATCH_EVERY);
        }
    }

    /// Waits until `pick` finds what it looks for in what the vehicles have printed.
    pub(crate) fn wait_for<T>(&mut self, what: &str, timeout: Duration, pick: impl Fn(&[Vehicle]) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(found) = pick(&self.vehicles) {
                return Ok(found);
            }
            self.expect_all_running()?;
            if Instant::now() >= deadline {
                bail!("no {what} within {} s; the vehicles said last\n{}", timeout.as_secs(), self.last_lines());
            }
            interrupt::check()?;
            thread::sleep(WATCH_EVERY / 4);
        }
    }

    fn last_lines(&self) -> String {
        let lines = self.vehicles.iter().map(|vehicle| format!("    {}: {}", vehicle.spec.id, vehicle.last_line()));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn expect_all_running(&mut self) -> Result<()> {
        self.server.expect_running()?;
        self.vehicles.iter_mut().try_for_each(|vehicle| vehicle.process.expect_running())
    }

    /// Reads what the vehicles have logged since.
    pub(crate) fn refresh_logs(&mut self) -> Result<()> {
        self.vehicles.iter_mut().try_for_each(|vehicle| vehicle.log.refresh().map(drop))
    }
}

/// A path as an argument of a program.
pub(crate) fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
