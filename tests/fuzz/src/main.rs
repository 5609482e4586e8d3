//! Runs the targets without coverage: `switchback-fuzz TARGET|all INPUTS [SEED]` runs that many mutants of the corpus and the seeds,
//! `switchback-fuzz seeds FOLDER` writes the seeds for a run with coverage.
//!
//! An input of which a property does not hold is written to `fuzz-failure-TARGET` in the working folder; it belongs into the corpus.
#![forbid(unsafe_code)]

use std::{fs, io, panic, path::Path, process::ExitCode};

use switchback_fuzz::{Random, TARGETS, Target, Verdict};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["seeds", folder] => write_seeds(Path::new(folder)),
        [name, inputs] => replay(name, inputs, "1"),
        [name, inputs, seed] => replay(name, inputs, seed),
        _ => Err("usage: switchback-fuzz TARGET|all INPUTS [SEED] | switchback-fuzz seeds FOLDER".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(folder: &Path) -> Result<(), String> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        let written = fs::create_dir_all(&folder).and_then(|()| {
            (target.seeds)().iter().enumerate().try_for_each(|(number, seed)| fs::write(folder.join(format!("seed-{number}")), seed))
        });
        written.map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

fn replay(name: &str, inputs: &str, seed: &str) -> Result<(), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
    let (inputs, seed) = (number(inputs)?, number(seed)?);
    let targets = if name == "all" { TARGETS.to_vec() } else { vec![Target::named(name).ok_or(format!("there is no target {name}"))?] };
    targets.into_iter().try_for_each(|target| replay_one(target, inputs, seed))
}

fn replay_one(target: Target, inputs: u64, seed: u64) -> Result<(), String> {
    let seeds = (target.seeds)();
    for (number, input) in seeds.iter().enumerate() {
        if run(target, input)? != Verdict::Accepted {
            return Err(format!("{} refuses its seed {number}", target.name));
        }
    }
    let kept = corpus(target).map_err(|error| format!("corpus of {}: {error}", target.name))?;
    for input in &kept {
        run(target, input)?;
    }
    let known: Vec<Vec<u8>> = seeds.into_iter().chain(kept).collect();
    let (mut random, mut accepted) = (Random::new(seed), 0_u64);
    for _ in 0..inputs {
        accepted += u64::from(run(target, &Target::mutant(&mut random, &known))? == Verdict::Accepted);
    }
    println!("{}: {} kept inputs, {inputs} mutants from seed {seed}, {accepted} of them accepted", target.name, known.len());
    Ok(())
}

/// What earlier runs found.
fn corpus(target: Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}

fn run(target: Target, input: &[u8]) -> Result<Verdict, String> {
    panic::catch_unwind(|| (target.run)(input)).map_err(|_| {
        let path = format!("fuzz-failure-{}", target.name);
        match fs::write(&path, input) {
            Ok(()) => format!("a property of {} does not hold; the input is in {path}", target.name),
            Err(error) => format!("a property of {} does not hold; {path} could not be written: {error}", target.name),
        }
    })
}
