//! A TUF client as a program: the client under test of the public tuf-conformance suite, over the same core
//! (`switchback_signing::trust`) and the same transport (`switchback_sdk::fetch`) that a vehicle uses. `tuf-client uptane` is an Uptane
//! Primary with anybody's repositories.
//!
//! It speaks the suite's command line protocol (`docs/conformance.md`). Exit code 0 means that everything asked for succeeded, 1 that
//! any part of it did not; the story goes to standard error.
#![forbid(unsafe_code)]

mod clock;
mod disk;
mod network;
mod targets;
mod tuf;
mod uptane;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Reads and verifies a TUF repository; `tuf-client uptane` is an Uptane Primary with anybody's repositories
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  tuf-client --metadata-dir D init 1.root.json
  tuf-client --metadata-dir D --metadata-url U refresh
  tuf-client --metadata-dir D --metadata-url U --target-base-url B \\
      --target-dir T --target-name PATH download
  tuf-client uptane --help"
)]
struct Arguments {
    /// Folder of the trusted metadata.
    #[arg(long, global = true)]
    metadata_dir: Option<PathBuf>,
    /// Address below which the repository's metadata lies.
    #[arg(long, global = true)]
    metadata_url: Option<String>,
    /// Path of a target to download; may be given several times.
    #[arg(long, global = true)]
    target_name: Vec<String>,
    /// Address below which the repository's targets lie.
    #[arg(long, global = true)]
    target_base_url: Option<String>,
    /// Folder that downloaded targets go to.
    #[arg(long, global = true)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Initializes the metadata folder with a trusted root; asks no server.
    Init {
        /// The trusted root's file.
        trusted_root: PathBuf,
    },
    /// Brings the metadata of the top-level roles up to date.
    Refresh,
    /// Refreshes, then downloads every target in the order given; stops at the first that fails.
    Download,
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|word| word == "uptane") {
        return uptane::main(env::args_os().skip(2));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failure; a wrong command line is, and the protocol knows only one number for that.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { metadata_dir, metadata_url, target_name, target_base_url, target_dir, command } = arguments;
    let metadata_dir = metadata_dir.context("--metadata-dir is missing")?;
    let open = || tuf::Updater::open(&metadata_dir, metadata_url.as_deref().context("--metadata-url is missing")?);
    match command {
        Command::Init { trusted_root } => tuf::init(&metadata_dir, &trusted_root),
        Command::Refresh => open()?.refresh(),
        Command::Download => {
            let base_url = target_base_url.context("--target-base-url is missing")?;
            let folder = target_dir.context("--target-dir is missing")?;
            anyhow::ensure!(!target_name.is_empty(), "--target-name is missing");
            let mut updater = open()?;
            updater.refresh()?;
            let store = tuf::TargetStore::open(&base_url, folder)?;
            target_name.iter().try_for_each(|path| updater.download(path, &store))
        }
    }
}
