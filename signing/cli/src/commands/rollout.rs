//! `switchback rollout create|start|pause|resume|advance|list|status`.

use std::{collections::BTreeMap, fmt::Write, str::FromStr};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_signing::time::UnixTime;

use crate::{
    client::{Client, ServerArguments},
    output::{Output, pairs, table},
};

/// Width of a progress bar in the status, characters.
const BAR: u64 = 20;

/// Events that the status shows.
const EVENTS: usize = 12;

/// Bring a release to vehicles, wave by wave
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a rollout down; nothing moves before it is started
    Create(Box<Create>),
    /// Start a rollout
    Start(Target),
    /// Stop offering the release
    Pause {
        /// Why; everybody who looks at the rollout reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
    /// Go on after a pause; failures before it no longer count
    Resume {
        /// Why that is safe now
        #[arg(long)]
        note: String,
        #[command(flatten)]
        target: Target,
    },
    /// Open the next wave now, before its time
    Advance(Target),
    /// List all rollouts
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show how far a rollout has come
    Status(Target),
}

#[derive(Args)]
pub(crate) struct Target {
    /// Number of the rollout, as `switchback rollout list` shows it
    id: u64,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Args)]
#[command(after_help = "Examples:
  switchback rollout create --name spring --model vla-2 --version 2.0.0 \\
      --tiers ultra --regions eu --failure-count 3 \\
      --wave name=canary,percent=5,model-lines=P7 \\
      --wave name=all,percent=100,starts-at=2027-03-01T06:00:00Z")]
pub(crate) struct Create {
    /// Name of the rollout
    #[arg(long)]
    name: String,
    /// Model of the release
    #[arg(long)]
    model: String,
    /// Version of the release
    #[arg(long)]
    version: String,
    /// Automakers; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tenants: Vec<String>,
    /// Tiers; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tiers: Vec<String>,
    /// Hardware ids; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    hardware: Vec<String>,
    /// Model lines; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    model_lines: Vec<String>,
    /// Regions; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    regions: Vec<String>,
    /// A wave, such as name=canary,percent=5,model-lines=P7+G7,starts-at=TIME,ends-at=TIME; only percent must be given. Without
    /// starts-at it opens with the start of the rollout, whatever comes of the waves before it
    #[arg(long = "wave", value_name = "WAVE", required = true, value_parser = wave)]
    waves: Vec<Wave>,
    /// Pause after this many failed vehicles
    #[arg(long, value_name = "N", required_unless_present = "failure_percent")]
    failure_count: Option<u32>,
    /// Pause when this percentage of the vehicles that reported has failed
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(1..=100))]
    failure_percent: Option<u8>,
    /// Reports before the percentage means anything
    #[arg(long, value_name = "N", default_value_t = 1)]
    minimum_reports: u32,
    #[command(flatten)]
    server: ServerArguments,
}

/// An example of a time, for whoever wrote it otherwise.
const TIME: &str = "2027-03-01T06:00:00Z";

/// A wave from the command line, which shows only the outermost error.
fn wave(text: &str) -> Result<Wave, String> {
    text.parse().map_err(|error: anyhow::Error| format!("{error:#}"))
}

/// A wave as it is typed.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Wave {
    name: String,
    percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    model_lines: Vec<String>,
}

impl FromStr for Wave {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut values = BTreeMap::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').with_context(|| format!("{part:?} is not KEY=VALUE"))?;
            if values.insert(key, value).is_some() {
                bail!("{key} is given twice");
            }
        }
        let time = |key: &str, value: &str| match UnixTime::parse_rfc3339(value) {
            Ok(time) => Ok(time.to_string()),
            Err(error) => Err(error).with_context(|| format!("{key}={value}, expected such as {key}={TIME}")),
        };
        let percent = values.remove("percent").context("percent is missing")?;
        let percent: f64 = percent.parse().with_context(|| format!("percent={percent}, expected such as percent=2.5"))?;
        if !(percent > 0.0 && percent <= 100.0) {
            bail!("percent is {percent}, expected more than 0 and at most 100");
        }
        let wave = Self {
            name: values.remove("name").map_or_else(|| format!("{percent} percent"), ToOwned::to_owned),
            percent,
            starts_at: values.remove("starts-at").map(|value| time("starts-at", value)).transpose()?,
            ends_at: values.remove("ends-at").map(|value| time("ends-at", value)).transpose()?,
            model_lines: values.remove("model-lines").map(|lines| lines.split('+').map(ToOwned::to_owned).collect()).unwrap_or_default(),
        };
        match values.keys().next() {
            None => Ok(wave),
            Some(key) => bail!("{key} is unknown; a wave has name, percent, starts-at, ends-at and model-lines"),
        }
    }
}

/// A rollout as the server tells it; what is not named here is kept for `--json`.
#[derive(Deserialize, Serialize)]
struct Rollout {
    id: u64,
    name: String,
    release: Release,
    state: String,
    #[serde(default)]
    paused_by: Option<String>,
    #[serde(default)]
    paused_reason: Option<String>,
    #[serde(default)]
    started_at: Option<String>,
    /// What to know of a rollout that was just written down or started, or is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
    /// What the gate counts, since the start or the last resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    #[serde(default)]
    waves: Vec<WaveStatus>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Release {
    model: String,
    version: String,
}

#[derive(Deserialize, Serialize)]
struct Gate {
    confirmed: u64,
    failed: u64,
}

#[derive(Deserialize, Serialize)]
struct WaveStatus {
    name: String,
    percent: f64,
    #[serde(default)]
    selected: u64,
    #[serde(default)]
    reached: u64,
    #[serde(default)]
    offered: u64,
    #[serde(default)]
    confirmed: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    not_installable: u64,
    #[serde(default)]
    not_blamed: u64,
    #[serde(default)]
    reasons: BTreeMap<String, u64>,
    #[serde(default)]
    withheld: BTreeMap<String, u64>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Event {
    at: String,
    text: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Rollouts {
    rollouts: Vec<Rollout>,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Create(arguments) => {
            let rollout: Rollout = Client::new(&arguments.server)?.post("/v1/rollouts", &request(&arguments))?;
            output.show(&rollout, |rollout| {
                let done = format!(
                    "rollout {} ({}) is written down; start it with `switchback rollout start {}`",
                    rollout.id, rollout.name, rollout.id
                );
                done + &opening_together(&arguments.waves) + &warnings(rollout)
            })
        }
        Command::Start(target) => act(&target, "start", &json!({}), output),
        Command::Pause { reason, target } => act(&target, "pause", &json!({"reason": reason}), output),
        Command::Resume { note, target } => act(&target, "resume", &json!({"note": note}), output),
        Command::Advance(target) => act(&target, "advance", &json!({}), output),
        Command::List { server } => {
            let rollouts: Rollouts = Client::new(&server)?.get("/v1/rollouts")?;
            output.show(&rollouts, |rollouts| list(&rollouts.rollouts))
        }
        Command::Status(target) => {
            let rollout: Rollout = Client::new(&target.server)?.get(&format!("/v1/rollouts/{}", target.id))?;
            output.show(&rollout, status)
        }
    }
}

/// What to know of waves that have no time of their own: written one after the other, they still all open at the start.
fn opening_together(waves: &[Wave]) -> String {
    let names: Vec<&str> = waves.iter().filter(|wave| wave.starts_at.is_none()).map(|wave| wave.name.as_str()).collect();
    match names[..] {
        [] | [_] => String::new(),
        _ => format!("\nnote: the waves {} open together, at the start; only starts-at=TIME lets a wave wait", names.join(", ")),
    }
}

fn request(arguments: &Create) -> Value {
    json!({
        "name": arguments.name,
        "release": {"model": arguments.model, "version": arguments.version},
        "selector": {
            "tenants": arguments.tenants,
            "tiers": arguments.tiers,
            "hardware_ids": arguments.hardware,
            "model_lines": arguments.model_lines,
            "regions": arguments.regions,
        },
        "waves": arguments.waves,
        "failure_limit": {
            "count": arguments.failure_count,
            "percent": arguments.failure_percent,
            "minimum_reports": arguments.minimum_reports,
        },
    })
}

fn act(target: &Target, act: &str, body: &Value, output: &Output) -> anyhow::Result<()> {
    let rollout: Rollout = Client::new(&target.server)?.post(&format!("/v1/rollouts/{}/{act}", target.id), body)?;
    output.show(&rollout, |rollout| {
        let done = format!("rollout {} ({}) is {}", rollout.id, rollout.name, state(rollout));
        done + &warnings(rollout)
    })
}

/// What the server warns of, a line each.
fn warnings(rollout: &Rollout) -> String {
    rollout.warnings.iter().flatten().map(|warning| format!("\nwarning: {warning}")).collect()
}

fn list(rollouts: &[Rollout]) -> String {
    let row = |rollout: &Rollout| {
        let release = format!("{} {}", rollout.release.model, rollout.release.version);
        vec![rollout.id.to_string(), rollout.name.clone(), release, rollout.waves.len().to_string(), state(rollout)]
    };
    table(&["ID", "NAME", "RELEASE", "WAVES", "STATE"], &rollouts.iter().map(row).collect::<Vec<_>>())
}

fn state(rollout: &Rollout) -> String {
    match (&rollout.paused_by, &rollout.paused_reason) {
        (Some(by), Some(reason)) => format!("{} by the {by}: {reason}", rollout.state),
        _ => rollout.state.clone(),
    }
}

fn status(rollout: &Rollout) -> String {
    let mut text = pairs(&[
        ("rollout", format!("{} {}", rollout.id, rollout.name)),
        ("release", format!("{} {}", rollout.release.model, rollout.release.version)),
        ("state", state(rollout)),
        ("started", rollout.started_at.clone().unwrap_or_else(|| "-".into())),
        ("gate", rollout.gate.as_ref().map_or_else(|| "-".into(), gate)),
    ]);
    let row = |wave: &WaveStatus| {
        let counts = [wave.selected, wave.reached, wave.offered, wave.confirmed, wave.failed].map(|count| count.to_string());
        let reasons: Vec<String> = wave.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let head = [wave.name.clone(), format!("{} %", wave.percent), bar(wave.confirmed, wave.failed, wave.selected)];
        head.into_iter().chain(counts).chain([reasons.join(", ")]).collect()
    };
    let header = ["WAVE", "SHARE", "PROGRESS", "SELECTED", "REACHED", "OFFERED", "CONFIRMED", "FAILED", "REASONS"];
    let _ = write!(text, "\n{}", table(&header, &rollout.waves.iter().map(row).collect::<Vec<_>>()));
    for line in left_out(&rollout.waves) {
        let _ = writeln!(text, "{line}");
    }
    for warning in rollout.warnings.iter().flatten() {
        let _ = writeln!(text, "warning: {warning}");
    }
    let recent = rollout.events.len().saturating_sub(EVENTS);
    if !rollout.events.is_empty() {
        text.push('\n');
    }
    for event in &rollout.events[recent..] {
        let _ = writeln!(text, "{}  {}", event.at, event.text);
    }
    text
}

fn gate(gate: &Gate) -> String {
    format!("{} confirmed, {} failed since the start or the last resume", gate.confirmed, gate.failed)
}

/// The vehicles that the columns do not explain: those that are offered nothing, and those that gave up for what the release is not to
/// blame for.
fn left_out(waves: &[WaveStatus]) -> Vec<String> {
    let mut withheld: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in waves.iter().flat_map(|wave| &wave.withheld) {
        *withheld.entry(reason).or_default() += count;
    }
    let mut lines: Vec<String> = withheld.iter().map(|(reason, count)| format!("withheld: {reason} ({count})")).collect();
    let kinds = [
        ("not installable: the vehicle lacks a contract, SDK or runtime", waves.iter().map(|wave| wave.not_installable).sum::<u64>()),
        ("given up for what the release is not to blame for", waves.iter().map(|wave| wave.not_blamed).sum()),
    ];
    lines.extend(kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} ({count})")));
    lines
}

/// `=` for confirmed vehicles, `!` for failed ones, `.` for the others.
fn bar(confirmed: u64, failed: u64, selected: u64) -> String {
    // Even a single failure is seen.
    let part = |count: u64| if count == 0 || selected == 0 { 0 } else { (count * BAR / selected).clamp(1, BAR) };
    let failures = part(failed);
    let good = part(confirmed).min(BAR - failures);
    let fill = |mark: &str, count: u64| mark.repeat(usize::try_from(count).unwrap_or(0));
    format!("[{}{}{}]", fill("=", good), fill("!", failures), fill(".", BAR - good - failures))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wave_is_typed_as_keys_and_values() {
        let wave: Wave = "name=canary,percent=2.5,model-lines=P7+G7,starts-at=2027-03-01T06:00:00Z".parse().unwrap();
        let expected = Wave {
            name: "canary".into(),
            percent: 2.5,
            starts_at: Some("2027-03-01T06:00:00Z".into()),
            ends_at: None,
            model_lines: vec!["P7".into(), "G7".into()],
        };
        assert_eq!(wave, expected);
        assert_eq!("percent=100".parse::<Wave>().unwrap().name, "100 percent");
    }

    #[test]
    fn a_wave_that_makes_no_sense_is_refused() {
        for (text, error) in [
            ("name=canary", "percent is missing"),
            ("percent=0", "percent is 0, expected more than 0 and at most 100"),
            ("percent=nan", "percent is NaN, expected more than 0 and at most 100"),
            ("percent=5,percent=6", "percent is given twice"),
            ("percent=5,lines=P7", "lines is unknown; a wave has name, percent, starts-at, ends-at and model-lines"),
            ("5", "\"5\" is not KEY=VALUE"),
            ("percent=all", "percent=all, expected such as percent=2.5: invalid float literal"),
            (
                "percent=5,starts-at=tomorrow",
                "starts-at=tomorrow, expected such as starts-at=2027-03-01T06:00:00Z: not a time of the form 2027-01-31T23:59:59Z",
            ),
        ] {
            assert_eq!(wave(text).unwrap_err(), error);
        }
    }

    #[test]
    fn a_bar_shows_every_failure() {
        assert_eq!(bar(0, 0, 0), "[....................]");
        assert_eq!(bar(500, 1, 1000), "[==========!.........]");
        assert_eq!(bar(999, 1, 1000), "[===================!]");
        assert_eq!(bar(1000, 0, 1000), "[====================]");
    }
}
