//! `make demo`: real programs on this machine's loopback carry a driving model from the release engineer's desk into twenty moving
//! vehicles. The story is told line by line; every claim in it is checked, and the first one that does not hold ends the demo with an
//! error. `target/demo/report.html` shows it as pictures.
#![forbid(unsafe_code)]

mod desk;
mod fleet;
mod frames;
mod interrupt;
mod ledger;
mod measure;
mod plot;
mod process;
mod report;
mod road;
mod stage;
mod story;
mod vehicle;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use desk::Desk;
use fleet::{APPROVED, WAITING};
use ledger::Ledger;
use report::{FleetRow, Report, Tile};
use stage::{Places, Stage, TRIAL_FRAMES};
use story::Record;
use vehicle::{Event, Factory, Vehicle};

/// Shows a driving model's way into a moving fleet, on this machine.
#[derive(Parser)]
#[command(name = "switchback-demo")]
struct Options {
    /// Folder of this run; made anew
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// The C example; default: beside this program, then in examples/c-vehicle
    #[arg(long)]
    c_vehicle: Option<PathBuf>,
    /// Folder of the models
    #[arg(long, default_value = "examples/models")]
    models: PathBuf,
    /// ONNX Runtime
    #[arg(long, env = "ORT_DYLIB_PATH", default_value = "target/onnxruntime/libonnxruntime.so.1")]
    runtime: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    interrupt::install()?;
    let _alone = lock(&options.out)?;
    let places = places(options)?;
    let mut stage = set_up(places)?;
    let mut record = Record::default();
    let told = story::tell(&mut stage, &mut record);
    // Together, and not one after the other as they are dropped.
    stage.vehicles.iter().for_each(|vehicle| vehicle.process.ask_to_stop());
    // Also when a claim failed: the pictures show why.
    let report = stage.places.run.join("report.html");
    let written = fs::write(&report, make_report(&stage, record).to_html()).with_context(|| format!("write {}", report.display()));
    told.and(written)?;
    println!("\nall claims hold, {:.0} s; pictures: {}", stage.ledger.seconds(), report.display());
    Ok(())
}

/// Two demos in one folder would remove each other's files. The system releases the lock when this program ends, however it ends.
fn lock(out: &Path) -> Result<File> {
    let path = out.with_extension("lock");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another demo is running in {}; choose another folder with --out", out.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn places(options: &Options) -> Result<Places> {
    let myself = std::env::current_exe()?;
    let programs = myself.parent().context("this program is in no folder")?.to_owned();
    let c_vehicle = match &options.c_vehicle {
        Some(path) => path.clone(),
        None => [programs.join("c-vehicle"), PathBuf::from("examples/c-vehicle/c-vehicle")]
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_default(),
    };
    if options.out.exists() {
        fs::remove_dir_all(&options.out).with_context(|| format!("remove the earlier run {}", options.out.display()))?;
    }
    for folder in ["contracts", "logs", "vehicles"] {
        fs::create_dir_all(options.out.join(folder)).with_context(|| format!("create {}", options.out.display()))?;
    }
    let existing = |path: &Path, what: &str| fs::canonicalize(path).with_context(|| format!("{what}: {}", path.display()));
    for program in ["switchback", "switchback-server", "rust-vehicle", "road-sim"] {
        existing(&programs.join(program), "a program is missing; run `make demo`")?;
    }
    Ok(Places {
        c_vehicle: existing(&c_vehicle, "the C example is missing; run `make demo`")?,
        models: existing(&options.models, "the models' folder")?,
        runtime: existing(&options.runtime, "ONNX Runtime is missing; run sdk/onnx/get-onnxruntime.sh or set ORT_DYLIB_PATH")?,
        run: existing(&options.out, "the folder of this run")?,
        programs,
    })
}

fn set_up(places: Places) -> Result<Stage> {
    let ledger = Ledger::new();
    let (server, url) = story::open_server(&places.programs, &places.server_data(), &places.logs())?;
    let token_file = places.server_data().join("admin.token");
    ensure!(token_file.exists(), "the server made no {}", token_file.display());
    let factory = Factory {
        programs: places.programs.clone(),
        c_vehicle: places.c_vehicle.clone(),
        run_dir: places.run.clone(),
        server: url.clone(),
        director_root: places.director_root(),
        image_root: places.image_root(),
        runtime: places.runtime.clone(),
    };
    let desk = Desk { program: places.programs.join("switchback"), server: url, token_file, runtime: places.runtime.clone() };
    Ok(Stage { ledger, places, desk, server, factory, vehicles: Vec::new(), counter: 0 })
}

fn make_report(stage: &Stage, record: Record) -> Report {
    let held = stage.ledger.claims().iter().filter(|claim| claim.holds).count();
    Report {
        tiles: tiles(&record),
        titles: stage.ledger.titles().to_vec(),
        claims: stage.ledger.claims().to_vec(),
        hero: record.hero,
        comparison: record.comparison,
        progress: record.progress,
        fleet: stage.vehicles.iter().map(fleet_row).collect(),
        footer: format!(
            "{held} of {} claims hold. {:.0} s on {} cores; version {}. Vehicles in the background step slower than their camera would, so that \
             twenty share this machine; the C vehicle runs at the full 20 Hz. A trial is {TRIAL_FRAMES} frames, \
             fewer than the models' contracts ask for. vla-2 is approved in {APPROVED} and not in {WAITING}.",
            stage.ledger.claims().len(),
            stage.ledger.seconds(),
            std::thread::available_parallelism().map_or(0, usize::from),
            env!("CARGO_PKG_VERSION")
        ),
    }
}

fn tiles(record: &Record) -> Vec<Tile> {
    let tile = |value: String, text: &str| Tile { value, text: text.to_owned() };
    let mut tiles = Vec::new();
    if let Some(hero) = &record.hero {
        let around = &hero.frames[hero.swap.saturating_sub(20)..(hero.swap + 20).min(hero.frames.len())];
        let missed: u64 = around.iter().map(|frame| frame.missed).sum();
        tiles.push(tile(
            missed.to_string(),
            &format!("frames missed at the swap in a bend of {:.0} m radius", 1.0 / hero.curvature_1pm.abs()),
        ));
    }
    let headline = |index: usize| record.comparison.get(index).map(|row| row.better.clone());
    tiles.extend(headline(0).map(|better| tile(better, "to the middle of the lane with vla-2")));
    tiles.extend(headline(1).map(|better| tile(better, "inside the model with vla-2")));
    if let (Some(exposed), Some(after_s)) = (record.exposed, record.paused_after_s) {
        tiles.push(tile(
            format!("{exposed} of {}", fleet::fleet().len()),
            &format!("vehicles saw the broken release; it paused itself after {after_s:.1} s"),
        ));
    }
    tiles
}

fn fleet_row(vehicle: &Vehicle) -> FleetRow {
    let last = vehicle.log.frames().last();
    let ended = |event: &Event| event.name == "confirmed" || event.is_refusal();
    let event = vehicle.events().into_iter().rfind(ended);
    FleetRow {
        vehicle: vehicle.spec.id.clone(),
        tier: vehicle.spec.tier.title().to_owned(),
        model_line: vehicle.spec.model_line.to_owned(),
        region: vehicle.spec.region.to_owned(),
        model: last.map_or_else(String::new, |frame| format!("{} {}", frame.model, frame.version)),
        state: event.as_ref().map_or_else(|| "none".to_owned(), |event| event.name.clone()),
        reason: match (&event, &vehicle.withheld) {
            (Some(event), _) if event.is_refusal() => format!("{} {}: {}", event.model, event.version, event.text),
            (_, Some(withheld)) => format!("vla-2 2.0.0 is withheld: {withheld}"),
            _ => String::new(),
        },
    }
}
