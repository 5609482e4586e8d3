//! `switchback approval add|list|revoke`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_signing::{metadata::Region, time::UnixTime};

use crate::{
    client::{Client, ServerArguments},
    clock,
    output::{Output, table},
};

/// Record what the authorities have approved; no vehicle is offered a release that is not approved in its region
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Record an approval, of the content that is published now under the name
    #[command(after_help = "Example:
  switchback approval add --model vla-2 --version 2.0.0 --region eu \\
      --authority KBA --number E1-2027-4711")]
    Add(Add),
    /// List the approvals in force
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Revoke an approval: from now on it lets nothing through
    Revoke {
        /// Number of the approval, as `switchback approval list` shows it
        id: u64,
        #[command(flatten)]
        server: ServerArguments,
    },
}

#[derive(Args)]
pub(crate) struct Add {
    /// Model of the release, such as vla-2
    #[arg(long)]
    model: String,
    /// Version of the release, such as 2.0.0
    #[arg(long)]
    version: String,
    /// Region in which it is approved
    #[arg(long)]
    region: Region,
    /// Model lines for which it is approved; all when absent
    #[arg(long, value_name = "LINES", value_delimiter = ',')]
    model_lines: Vec<String>,
    /// Who approved it, such as KBA or MIIT
    #[arg(long)]
    authority: String,
    /// Number of the approval
    #[arg(long)]
    number: String,
    /// From when on, such as 2027-01-01T00:00:00Z; now when absent
    #[arg(long, value_name = "TIME")]
    valid_from: Option<UnixTime>,
    /// Until when; until revoked when absent
    #[arg(long, value_name = "TIME")]
    valid_until: Option<UnixTime>,
    #[command(flatten)]
    server: ServerArguments,
}

/// An approval as the server tells it.
#[derive(Deserialize, Serialize)]
struct Approval {
    id: u64,
    model: String,
    version: String,
    /// The bytes that were approved.
    #[serde(default)]
    contents: Vec<Content>,
    region: String,
    #[serde(default)]
    model_lines: Vec<String>,
    authority: String,
    number: String,
    valid_from: String,
    valid_until: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Content {
    tier: String,
    sha256: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Approvals {
    approvals: Vec<Approval>,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Add(arguments) => add(&arguments, output),
        Command::List { server } => {
            let approvals: Approvals = Client::new(&server)?.get("/v1/approvals")?;
            output.show(&approvals, |approvals| describe(&approvals.approvals))
        }
        Command::Revoke { id, server } => {
            Client::new(&server)?.delete(&format!("/v1/approvals/{id}"))?;
            output.show(&json!({"revoked": id}), |_| format!("approval {id} is revoked"))
        }
    }
}

fn add(arguments: &Add, output: &Output) -> anyhow::Result<()> {
    let request = json!({
        "model": arguments.model,
        "version": arguments.version,
        "region": arguments.region.as_str(),
        "model_lines": arguments.model_lines,
        "authority": arguments.authority,
        "number": arguments.number,
        "valid_from": arguments.valid_from.unwrap_or_else(clock::now).to_string(),
        "valid_until": arguments.valid_until.map(|time| time.to_string()),
    });
    let approval: Approval = Client::new(&arguments.server)?.post("/v1/approvals", &request)?;
    output.show(&approval, |approval| describe(std::slice::from_ref(approval)))
}

fn describe(approvals: &[Approval]) -> String {
    let row = |approval: &Approval| {
        let lines = if approval.model_lines.is_empty() { "all".to_owned() } else { approval.model_lines.join(",") };
        vec![
            approval.id.to_string(),
            format!("{} {}", approval.model, approval.version),
            approval.region.clone(),
            lines,
            approval.authority.clone(),
            approval.number.clone(),
            approval.valid_from.clone(),
            approval.valid_until.clone().unwrap_or_else(|| "open".into()),
            approval.contents.iter().map(|content| format!("{} {}", content.tier, content.sha256)).collect::<Vec<_>>().join(", "),
        ]
    };
    table(
        &["ID", "RELEASE", "REGION", "LINES", "AUTHORITY", "NUMBER", "FROM", "UNTIL", "CHUNK INDEX"],
        &approvals.iter().map(row).collect::<Vec<_>>(),
    )
}
