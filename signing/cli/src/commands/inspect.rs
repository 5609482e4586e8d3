//! `switchback inspect`.

use std::{fmt::Write, path::PathBuf};

use clap::Args;
use serde::Serialize;
use switchback_signing::{
    bundle::{ChunkRow, Manifest, contract::Tensor},
    digest::Sha256Digest,
};

use super::verify;
use crate::{
    bundle::{Beside, BundleFile},
    output::{Output, bytes, pairs, table},
};

/// Show what is in a bundle: release, members, contract and chunks
#[derive(Args)]
#[command(
    after_help = "Examples:\n  switchback inspect dist/ultra/vla-2-2.0.0.tar.zst\n  switchback inspect --base release dist/ultra/vla-2-2.0.0.tar.zst\n      # and what other ECUs must run beside it"
)]
pub(crate) struct Arguments {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// Base directory whose metadata, published or drafted, says what the release needs on the vehicle's other ECUs
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// List every chunk too
    #[arg(long)]
    chunks: bool,
}

#[derive(Serialize)]
struct Contents {
    bundle: PathBuf,
    bundle_bytes: u64,
    bundle_sha256: Sha256Digest,
    index: PathBuf,
    index_bytes: usize,
    index_sha256: Sha256Digest,
    encryption: Option<&'static str>,
    archive_bytes: u64,
    chunk_count: usize,
    manifest: Manifest,
    /// What it needs on the vehicle's other ECUs: not in the bundle, but signed with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<Chunk>,
}

#[derive(Serialize)]
struct Chunk {
    number: usize,
    stored_offset: u64,
    stored_bytes: u32,
    raw_bytes: u32,
    stored_sha256: Sha256Digest,
    raw_sha256: Sha256Digest,
}

impl From<&ChunkRow> for Chunk {
    fn from(row: &ChunkRow) -> Self {
        Self {
            number: row.number(),
            stored_offset: row.stored_offset(),
            stored_bytes: row.stored_length(),
            raw_bytes: row.raw_length(),
            stored_sha256: row.stored_sha256(),
            raw_sha256: row.raw_sha256(),
        }
    }
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let bundle = BundleFile::open(&arguments.bundle, &arguments.beside)?;
    let (rows, manifest) = (bundle.index.rows(), bundle.manifest()?);
    let contents = Contents {
        bundle_bytes: bundle.index.bundle_length(),
        bundle_sha256: bundle.index.bundle_sha256(),
        index_bytes: bundle.index_bytes.len(),
        index_sha256: Sha256Digest::of(&bundle.index_bytes),
        encryption: bundle.encryption(),
        archive_bytes: bundle.index.tar_length(),
        chunk_count: rows.len(),
        needs: arguments.base.as_deref().map(|base| verify::listed_needs(base, &bundle, &manifest)).transpose()?,
        manifest,
        chunks: if arguments.chunks { rows.iter().map(Chunk::from).collect() } else { Vec::new() },
        bundle: bundle.path,
        index: bundle.index_path,
    };
    output.show(&contents, describe)
}

fn describe(contents: &Contents) -> String {
    let manifest = &contents.manifest;
    let (release, contract) = (&manifest.release, &manifest.contract);
    let percent = contents.bundle_bytes as f64 / contents.archive_bytes as f64 * 100.0;
    let mut facts = vec![
        ("release", format!("{} {} (counter {})", release.model, release.version, release.release_counter)),
        ("for", format!("tier {}, hardware {}", release.tier, release.hardware_ids.join(", "))),
        ("bundle", format!("{} ({percent:.0} % of {})", bytes(contents.bundle_bytes), bytes(contents.archive_bytes))),
        ("sha256", contents.bundle_sha256.to_string()),
        ("index", format!("{} chunks, {}", contents.chunk_count, bytes(contents.index_bytes as u64))),
        ("sha256", contents.index_sha256.to_string()),
        ("encryption", contents.encryption.unwrap_or("none").to_owned()),
        ("runtime", format!("ONNX Runtime {} or later", contract.runtime.onnxruntime_min)),
        ("timing", format!("every {} ms, deadline {} ms", contract.step_ms, contract.deadline_ms)),
        ("memory", format!("{} MiB", contract.memory_mib)),
        ("features", contract.features.join(", ")),
        ("self-test", format!("{} cases", manifest.self_test.cases)),
    ];
    if let Some(needs) = &contents.needs {
        facts.push(("needs", if needs.is_empty() { "nothing of other ECUs".to_owned() } else { needs.join(", ") }));
    }
    if !manifest.rxswin.is_empty() {
        facts.push(("RXSWIN", manifest.rxswin.join(", ")));
    }
    let mut text = pairs(&facts);
    let file =
        |file: &switchback_signing::bundle::manifest::FileEntry| vec![file.path.clone(), bytes(file.length), file.sha256.to_string()];
    let _ = write!(text, "\n{}", table(&["MEMBER", "SIZE", "SHA-256"], &manifest.files.iter().map(file).collect::<Vec<_>>()));
    let tensor = |kind: &str, tensor: Tensor<'_>| {
        vec![kind.to_owned(), tensor.name.to_owned(), tensor.dtype.to_string(), format!("{:?}", tensor.shape)]
    };
    let inputs = contract.input_tensors().map(|input| tensor("in", input));
    let outputs = contract.output_tensors().map(|output| tensor("out", output));
    let _ = write!(text, "\n{}", table(&["", "TENSOR", "TYPE", "SHAPE"], &inputs.chain(outputs).collect::<Vec<_>>()));
    if !contents.chunks.is_empty() {
        let row = |chunk: &Chunk| {
            let numbers =
                [chunk.number.to_string(), chunk.stored_offset.to_string(), chunk.stored_bytes.to_string(), chunk.raw_bytes.to_string()];
            numbers.into_iter().chain([chunk.stored_sha256.to_string()]).collect()
        };
        let rows: Vec<Vec<String>> = contents.chunks.iter().map(row).collect();
        let _ = write!(text, "\n{}", table(&["CHUNK", "OFFSET", "STORED", "RAW", "SHA-256 OF STORED"], &rows));
    }
    text
}
