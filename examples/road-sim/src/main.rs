//! `road-sim`: drive it over pipes, make training frames, or look at a frame.
#![forbid(unsafe_code)]

mod args;
mod log;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use args::Args;
use log::Log;
use switchback_road_sim::bridge::{self, PixelFormat};
use switchback_road_sim::dataset::{Plan, Writer};
use switchback_road_sim::{Frame, Scenario, World};

const USAGE: &str = "\
usage: road-sim bridge  [SCENARIO] [--nv12] [--log FILE] [--record FILE] [--episode N]
       road-sim dataset --out FILE [--first-seed N] [--episodes N] [--steps N] [--width N] [--height N]
       road-sim render  --out FILE.ppm [SCENARIO] [--at STEP]

SCENARIO: [--seed N] [--night] [--length METERS] [--lead METERS | --no-lead] [--pedestrian METERS] [--no-oncoming]
          [--width N] [--height N]

bridge   one observation out, one control in, over stdin and stdout (protocol: README.md); the summary goes to stderr as JSON
         --log FILE     the whole run as JSON: path, lane, offset, speed, mark of every step
         --record FILE  every frame with the expert's answer, as `dataset` writes them; --episode numbers them
dataset  frames from perturbed states with the expert's answers
render   the frame after STEP steps of the expert, as PPM";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our standard output is gone: nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(2),
        Err(error) => {
            eprintln!("road-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut args = Args::from_environment()?;
    match args.command() {
        "bridge" => run_bridge(&mut args),
        "dataset" => run_dataset(&mut args),
        "render" => run_render(&mut args),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(args::invalid(format!("unknown command `{other}`\n{USAGE}"))),
    }
}

fn scenario(args: &mut Args) -> io::Result<Scenario> {
    let mut scenario = Scenario::new(args.number("--seed", 1)?);
    scenario.length_m = args.number("--length", scenario.length_m)?;
    scenario.width = args.number("--width", scenario.width)?;
    scenario.height = args.number("--height", scenario.height)?;
    scenario.lead_at_m = args.optional("--lead")?.or(scenario.lead_at_m);
    if args.flag("--night") {
        scenario = scenario.at_night();
    }
    if let Some(at_m) = args.optional("--pedestrian")? {
        scenario = scenario.with_pedestrian(at_m);
    }
    if args.flag("--no-lead") {
        scenario = scenario.without_lead();
    }
    if args.flag("--no-oncoming") {
        scenario.oncoming_every_m = None;
    }
    check_size(scenario.width, scenario.height)?;
    Ok(scenario)
}

/// Frames larger than any camera's would only exhaust the memory.
fn check_size(width: usize, height: usize) -> io::Result<()> {
    let fits = (2..=4096).contains(&width) && (2..=4096).contains(&height) && (width | height).is_multiple_of(2);
    if fits { Ok(()) } else { Err(args::invalid(format!("a frame of {width} x {height} is not even and within 2 to 4096"))) }
}

fn run_bridge(args: &mut Args) -> io::Result<()> {
    let mut world = World::new(scenario(args)?);
    let format = if args.flag("--nv12") { PixelFormat::Nv12 } else { PixelFormat::Rgb8 };
    let log_path: Option<String> = args.optional("--log")?;
    let record_path: Option<String> = args.optional("--record")?;
    let episode = args.number("--episode", 0)?;
    args.finish()?;
    let (width, height) = (world.scenario().width, world.scenario().height);
    let mut record = record_path.map(|path| Writer::new(create(&path)?, width, height)).transpose()?;
    let mut log = Log::default();
    let mut pipes = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let ending = bridge::run(&mut world, format, (&mut pipes.0, &mut pipes.1), |world, observation, entry| {
        if let Some(record) = &mut record {
            record.write(world, observation, episode, log.steps() as u32)?;
        }
        log.push(entry);
        Ok(())
    })?;
    if let Some(record) = record {
        record.finish()?;
    }
    if let Some(path) = log_path {
        log.write(&world, ending, &mut create(&path)?)?;
    }
    eprintln!("{}", log.summary(&world, ending));
    Ok(())
}

fn run_dataset(args: &mut Args) -> io::Result<()> {
    let out: String = args.required("--out")?;
    let plan = Plan {
        first_seed: args.number("--first-seed", 1_000_000)?,
        episodes: args.number("--episodes", 100)?,
        steps: args.number("--steps", 8)?,
        width: args.number("--width", 128)?,
        height: args.number("--height", 64)?,
    };
    args.finish()?;
    check_size(plan.width, plan.height)?;
    plan.write(create(&out)?)
}

fn run_render(args: &mut Args) -> io::Result<()> {
    let out: String = args.required("--out")?;
    let steps: u32 = args.number("--at", 0)?;
    let mut world = World::new(scenario(args)?);
    args.finish()?;
    for _ in 0..steps {
        world.step(world.expert().control);
    }
    let Frame { width, height, rgb } = world.observe().frame;
    let mut file = create(&out)?;
    write!(file, "P6\n{width} {height}\n255\n")?;
    file.write_all(&rgb)?;
    file.flush()
}

fn create(path: &str) -> io::Result<BufWriter<File>> {
    let file = File::create(path).map_err(|error| io::Error::new(error.kind(), format!("cannot write {path}: {error}")))?;
    Ok(BufWriter::new(file))
}
