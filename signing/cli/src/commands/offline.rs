//! `switchback offline create`: updates that travel in a file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, IntoInnerError, Read},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_signing::{
    digest::Sha256Hasher,
    metadata::{Region, Tier, VehicleId},
};

use crate::{
    client::{Client, ServerArguments},
    files::{Access, Draft},
    output::Output,
    progress::{Counted, byte_bar},
};

/// Make updates that travel in a file, to a workshop or on a USB stick, for vehicles that cannot reach the server
///
/// Such a file holds the release and all metadata that a vehicle needs. The vehicle verifies it as it verifies an update over the network, so
/// it may lie anywhere and be handed on by anybody.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the file; the server signs its metadata and writes down for whom
    #[command(after_help = "Examples:
  switchback offline create --model vla-2 --version 2.0.0 \\
      --vehicle P7-000017 --days 7 --out P7-000017.tar
  switchback offline create --model vla-2 --version 2.0.0 \\
      --tier ultra --region eu --days 30 --out ultra-eu.tar")]
    Create(Create),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Model of the release, such as vla-2
    #[arg(long)]
    model: String,
    /// Version of the release, such as 2.0.0
    #[arg(long)]
    version: String,
    /// The one vehicle that it is for
    #[arg(long, value_name = "ID", conflicts_with_all = ["tier", "region"], required_unless_present = "tier")]
    vehicle: Option<VehicleId>,
    /// The tier whose vehicles it is for
    #[arg(long, requires = "region")]
    tier: Option<Tier>,
    /// The region whose vehicles it is for
    #[arg(long, requires = "tier")]
    region: Option<Region>,
    /// How long it may be installed, 1 to 92 days
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=92))]
    days: u32,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
}

/// What the server answers.
#[derive(Deserialize)]
struct Made {
    expires_at: String,
    #[serde(default)]
    limited_by: Option<String>,
    files: BTreeMap<String, String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    path: String,
    length: u64,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    expires_at: String,
    /// The role that ends its life earlier than was asked for.
    limited_by: Option<String>,
    bytes: u64,
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Create(arguments) => create(arguments, output),
    }
}

fn create(arguments: Create, output: &Output) -> anyhow::Result<()> {
    let Create { model, version, vehicle, tier, region, days, out, server } = arguments;
    let client = Client::new(&server)?;
    let mut order = json!({ "release": { "model": model, "version": version }, "days": days });
    if let Some(vehicle) = vehicle {
        order["vehicle_id"] = json!(vehicle.as_str());
    }
    if let (Some(tier), Some(region)) = (tier, region) {
        (order["tier"], order["region"]) = (json!(tier.as_str()), json!(region.as_str()));
    }
    let made: Made = client.post("/v1/offline-updates", &order)?;
    let mut draft = Draft::create(&out, Access::Public)?;
    let bytes = write(&made, &client, draft.file(), output).with_context(|| format!("cannot write {}", out.display()))?;
    draft.commit()?;
    let written = Written { file: out, expires_at: made.expires_at, limited_by: made.limited_by, bytes };
    output.show(&written, |written| {
        let Written { file, expires_at, limited_by, bytes } = written;
        let why = limited_by.as_ref().map(|role| format!(" (then the metadata of {role} expires)")).unwrap_or_default();
        format!("{}: {bytes} bytes, to be installed before {expires_at}{why}", file.display())
    })
}

/// Writes the archive: metadata first, then targets as they arrive. Returns its length.
fn write(made: &Made, client: &Client, file: &mut File, output: &Output) -> anyhow::Result<u64> {
    let mut archive = tar::Builder::new(BufWriter::new(file));
    for (path, text) in &made.files {
        archive.append(&header(path, text.len() as u64)?, text.as_bytes())?;
    }
    let bar = byte_bar(output, "downloading", made.targets.iter().map(|target| target.length).sum());
    for Target { path, length } in &made.targets {
        let body = client.download(&format!("/v1/image/targets/{path}"))?;
        let mut body = Hashed { inner: Counted::new(body.take(*length), &bar), hasher: Sha256Hasher::new() };
        archive.append(&header(&format!("image/targets/{path}"), *length)?, &mut body)?;
        let found = body.hasher.finish();
        if !path.contains(&found.to_hex()) {
            bail!("{path} arrived with SHA-256 {found}, so it broke on the way; try again");
        }
    }
    bar.finish_and_clear();
    let file = archive.into_inner()?.into_inner().map_err(IntoInnerError::into_error)?;
    Ok(file.metadata()?.len())
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Sha256Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

fn header(path: &str, length: u64) -> anyhow::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).with_context(|| format!("the path {path:?} does not fit an archive"))?;
    header.set_size(length);
    header.set_mode(0o644);
    header.set_cksum();
    Ok(header)
}
