//! `switchback vehicle enroll|list|show`.

use std::{collections::BTreeMap, str::FromStr};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_signing::metadata::{EcuSerial, HardwareId, Region, Tier, VehicleId};

use crate::{
    client::{Client, ServerArguments},
    output::{Output, pairs, table},
};

/// Vehicles that one answer lists.
const PAGE: usize = 1000;

/// Enroll vehicles and look at them
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the one-time token with which a vehicle binds its key
    #[command(after_help = "Example:
  switchback vehicle enroll P7-0001 --tenant acme --tier ultra \\
      --hardware drive-a --model-line P7 --region eu")]
    Enroll(Enroll),
    /// List all vehicles
    List {
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show one vehicle, and what every rollout says about it
    Show {
        /// Vehicle id
        id: VehicleId,
        #[command(flatten)]
        server: ServerArguments,
    },
}

#[derive(Args)]
pub(crate) struct Enroll {
    /// Vehicle id: a pseudonym, not the VIN
    id: VehicleId,
    /// Automaker that the vehicle belongs to
    #[arg(long)]
    tenant: String,
    /// Tier, such as ultra
    #[arg(long)]
    tier: Tier,
    /// Hardware id of the driving computer
    #[arg(long)]
    hardware: HardwareId,
    /// Model line, such as P7
    #[arg(long)]
    model_line: String,
    /// Region, such as eu
    #[arg(long)]
    region: Region,
    /// The vehicle is enrolled and lost its key, its store or its computer: the token ends its old key when it is used
    #[arg(long)]
    replace: bool,
    /// An ECU that the vehicle must have beside its driving computer, once for each; a vehicle with other ones cannot use the token. Without
    /// any, the vehicle itself says which it has
    #[arg(long = "secondary", value_name = "SERIAL=HARDWARE", conflicts_with = "no_secondaries")]
    secondaries: Vec<Secondary>,
    /// The vehicle must have no other ECUs
    #[arg(long)]
    no_secondaries: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// An ECU as it is named: `SERIAL=HARDWARE`.
#[derive(Clone, Debug, Serialize)]
struct Secondary {
    ecu_serial: String,
    hardware_id: String,
}

impl FromStr for Secondary {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (serial, hardware) = text.split_once('=').ok_or("it is of the form SERIAL=HARDWARE")?;
        let ecu_serial = serial.parse::<EcuSerial>().map_err(|error| error.to_string())?.to_string();
        let hardware_id = hardware.parse::<HardwareId>().map_err(|error| error.to_string())?.to_string();
        Ok(Self { ecu_serial, hardware_id })
    }
}

#[derive(Deserialize, Serialize)]
struct Token {
    token: String,
    #[serde(default)]
    expires_at: Option<String>,
    /// What the server finds odd about the vehicle's description.
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Page {
    vehicles: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Serialize)]
struct Vehicles {
    vehicles: Vec<Value>,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Enroll(arguments) => enroll(&arguments, output),
        Command::List { server } => list(&Client::new(&server)?, output),
        Command::Show { id, server } => show(&Client::new(&server)?, &id, output),
    }
}

fn enroll(arguments: &Enroll, output: &Output) -> anyhow::Result<()> {
    let mut request = json!({
        "vehicle_id": arguments.id.as_str(),
        "tenant": arguments.tenant,
        "tier": arguments.tier.as_str(),
        "hardware_id": arguments.hardware.as_str(),
        "model_line": arguments.model_line,
        "region": arguments.region.as_str(),
        "replace": arguments.replace,
    });
    if arguments.no_secondaries || !arguments.secondaries.is_empty() {
        request["secondaries"] = json!(arguments.secondaries);
    }
    let token: Token = Client::new(&arguments.server)?.post("/v1/enrollment-tokens", &request)?;
    output.show(&token, |token| {
        let until = token.expires_at.as_deref().unwrap_or("it is used");
        let vehicle = arguments.id.to_string();
        let made = pairs(&[("token", token.token.clone()), ("for", vehicle), ("valid", format!("once, until {until}"))]);
        token.warnings.iter().fold(made, |text, warning| format!("{text}warning: {warning}\n"))
    })
}

fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut vehicles = Vec::new();
    let mut after = String::new();
    loop {
        // Vehicle ids need no quoting in a URL.
        let page: Page = client.get(&format!("/v1/vehicles?limit={PAGE}&after={after}"))?;
        vehicles.extend(page.vehicles);
        match page.next {
            // A server that does not advance must not keep us here for ever.
            Some(next) if next > after => after = next,
            _ => break,
        }
    }
    output.show(&Vehicles { vehicles }, |list| {
        let row = |vehicle: &Value| {
            ["vehicle_id", "tenant", "tier", "hardware_id", "model_line", "region", "installed", "assigned", "last_seen"]
                .map(|field| text(vehicle, field))
                .to_vec()
        };
        let header = ["VEHICLE", "TENANT", "TIER", "HARDWARE", "LINE", "REGION", "INSTALLED", "ASSIGNED", "LAST SEEN"];
        table(&header, &list.vehicles.iter().map(row).collect::<Vec<_>>())
    })
}

fn show(client: &Client, id: &VehicleId, output: &Output) -> anyhow::Result<()> {
    let vehicle: Value = client.get(&format!("/v1/vehicles/{id}"))?;
    output.show(&vehicle, |vehicle| {
        let fields = vehicle.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array());
        let fields: Vec<(&str, String)> = fields.map(|(name, _)| (name.as_str(), text(vehicle, name))).collect();
        let rollouts = vehicle.get("rollouts").and_then(Value::as_array).into_iter().flatten();
        let row = |rollout: &Value| {
            let release = rollout.get("release").map(|release| format!("{} {}", text(release, "model"), text(release, "version")));
            let verdict = match rollout.get("withheld").and_then(Value::as_str) {
                Some(reason) => format!("withheld: {reason}"),
                None => "offered".to_owned(),
            };
            vec![text(rollout, "id"), text(rollout, "name"), release.unwrap_or_default(), verdict]
        };
        let rows: Vec<Vec<String>> = rollouts.map(row).collect();
        let rollouts = if rows.is_empty() { String::new() } else { format!("\n{}", table(&["ID", "ROLLOUT", "RELEASE", ""], &rows)) };
        pairs(&fields) + &secondaries(vehicle) + &rollouts
    })
}

/// The vehicle's other ECUs, with what each runs and what is wrong with it.
fn secondaries(vehicle: &Value) -> String {
    let row = |ecu: &Value| {
        let image = ecu.get("installed").map_or_else(|| "-".to_owned(), |image| text(image, "path"));
        vec![text(ecu, "ecu_serial"), text(ecu, "hardware_id"), image, text(ecu, "trouble")]
    };
    let ecus = vehicle.get("secondaries").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = ecus.map(row).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(&["SECONDARY", "HARDWARE", "INSTALLED", "TROUBLE"], &rows)) }
}

/// An image that a vehicle reported: its release, and how far its update has come.
fn installed(image: &Value) -> String {
    let release = &image["release"];
    format!("{} {} ({})", text(release, "model"), text(release, "version"), text(image, "update"))
}

/// A field as text; nothing is shown as a dash.
fn text(object: &Value, field: &str) -> String {
    match object.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(image @ Value::Object(members)) if members.contains_key("release") => installed(image),
        Some(other) => other.to_string(),
    }
}
