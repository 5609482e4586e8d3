//! `switchback`, the release engineer's program: it makes keys and repositories, packs models into bundles, collects signatures,
//! replaces keys, publishes, and moves rollouts.
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage. Results go to stdout (with `--json` as one JSON document), progress and
//! errors to stderr.
#![forbid(unsafe_code)]

mod base;
mod bundle;
mod ceremony;
mod changes;
mod client;
mod clock;
mod commands;
mod companions;
mod delta;
mod drafts;
mod failure;
mod files;
mod keyholders;
mod keys;
mod next_step;
mod oms;
mod output;
mod pack;
mod progress;
mod release;
mod signing_request;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    commands::{approval, init, inspect, key, offline, publish, request, rollout, root, sign, status, targets, vehicle, verify},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  A repository with three keyholders, of whom two must sign:
      export SWITCHBACK_SERVER=https://ota.example
      export SWITCHBACK_TOKEN_FILE=admin.token
      switchback init --base release --tiers ultra,ultra-se
      switchback publish --base release
  A model on its way to the vehicles:
      switchback pack --model model.onnx --contract contract.json \\
          --name vla-2 --version 2.0.0 --tier ultra --release-counter 7 \\
          --hardware drive-a --notes en=NOTES.md --out dist
      switchback sign --base release --key alice dist/ultra/vla-2-2.0.0.tar.zst
      switchback sign --base release --key bob dist/ultra/vla-2-2.0.0.tar.zst
      switchback publish --base release
      switchback approval add --model vla-2 --version 2.0.0 --region eu \\
          --authority KBA --number E1-2027-4711
      switchback rollout create --name spring --model vla-2 --version 2.0.0 \\
          --wave name=canary,percent=5 --failure-count 3 \\
          --wave name=all,percent=100,starts-at=2027-03-01T06:00:00Z
      switchback rollout start 1
      switchback rollout status 1
  A keyholder hands over to another (more: `switchback root --help`):
      switchback root add-key --base release --repository image --role root \\
          dora.pub.json
      switchback root remove-key --base release --repository image --role root \\
          image-root-carol
      switchback root show --base release";

/// Carry driving models to vehicles: make keys, pack, sign, publish and roll out releases.
#[derive(Parser)]
#[command(name = "switchback", version, after_help = EXAMPLES, max_term_width = 120)]
struct Cli {
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    #[command(subcommand)]
    Key(key::Command),
    Pack(pack::Arguments),
    Delta(delta::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Sign(sign::Arguments),
    Publish(publish::Arguments),
    #[command(subcommand)]
    Root(root::Command),
    #[command(subcommand)]
    Targets(targets::Command),
    #[command(subcommand)]
    Request(request::Command),
    Status(status::Arguments),
    #[command(subcommand)]
    Approval(approval::Command),
    #[command(subcommand)]
    Rollout(rollout::Command),
    #[command(subcommand)]
    Vehicle(vehicle::Command),
    #[command(subcommand)]
    Offline(offline::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let result = match cli.command {
        Command::Init(arguments) => init::run(arguments, &output),
        Command::Key(command) => key::run(command, &output),
        Command::Pack(arguments) => pack::run(arguments, &output),
        Command::Delta(arguments) => delta::run(arguments, &output),
        Command::Inspect(arguments) => inspect::run(arguments, &output),
        Command::Verify(arguments) => verify::run(arguments, &output),
        Command::Sign(arguments) => sign::run(arguments, &output),
        Command::Publish(arguments) => publish::run(arguments, &output),
        Command::Root(command) => root::run(command, &output),
        Command::Targets(command) => targets::run(command, &output),
        Command::Request(command) => request::run(command, &output),
        Command::Status(arguments) => status::run(arguments, &output),
        Command::Approval(command) => approval::run(command, &output),
        Command::Rollout(command) => rollout::run(command, &output),
        Command::Vehicle(command) => vehicle::run(command, &output),
        Command::Offline(command) => offline::run(command, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Columns of a terminal that nobody has made wider.
    const COLUMNS: usize = 80;

    /// A line that the terminal's width breaks is two commands when it is pasted.
    #[test]
    fn every_example_can_be_copied_from_a_narrow_terminal() {
        let mut open = vec![Cli::command()];
        let (mut examples, mut long) = (0, Vec::new());
        while let Some(command) = open.pop() {
            let texts = [command.get_about(), command.get_long_about(), command.get_after_help(), command.get_after_long_help()];
            for line in texts.into_iter().flatten().flat_map(|text| text.to_string().lines().map(str::to_owned).collect::<Vec<_>>()) {
                let example = line.trim_start().starts_with("switchback ") || line.contains("Example: switchback ");
                examples += usize::from(example);
                if (example || line.starts_with("      ")) && line.len() > COLUMNS {
                    long.push(format!("{}: {line}", command.get_name()));
                }
            }
            open.extend(command.get_subcommands().cloned());
        }
        assert!(long.is_empty(), "{long:#?}");
        assert!(examples > 30, "{examples}");
    }
}
