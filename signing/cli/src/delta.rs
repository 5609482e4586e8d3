//! `switchback delta`: what an update costs, and the delta itself.

mod apply;
mod create;
mod matching;
mod release;
mod tensors;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use switchback_signing::bundle::delta::Span;

use self::tensors::{Layout, Tensor};
pub(crate) use self::{
    create::{Cost, cost},
    release::Release,
};
use crate::output::Output;

/// The tensors of each file of a release, for a bundle that holds them in byte planes.
pub(crate) fn tensors(release: &mut Release) -> Vec<Vec<Span>> {
    let mut spans = vec![Vec::new(); release.files().len()];
    for Tensor { file, offset, length, element, .. } in Layout::of(release).tensors {
        spans[file].push(Span { offset, length, element, base: None });
    }
    spans
}

/// What stands in the way of a small update to this release.
pub(crate) fn warnings(release: &mut Release) -> Vec<String> {
    Layout::of(release).warnings
}

/// The files that `create` leaves and `apply` takes.
const INDEX_NAME: &str = "delta.index";
const DATA_NAME: &str = "delta.data";
const FULL_INDEX_NAME: &str = "full.index";

/// Make a new release as its differences from an older one, or restore it from them
///
/// Works on bundles and on any folders of files, so that everybody can see what it does to their own models: tensors are found in ONNX graphs
/// with inline and external data and in safetensors, matched by name or by likeness, and restored bit by bit.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  switchback delta models/monday models/tuesday
  switchback delta create --base monday.tar.zst \\
      --new tuesday.tar.zst --out delta
  switchback delta apply --base monday.tar.zst --delta delta \\
      --full tuesday.tar.zst --out restored"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The release that the delta starts from: a bundle or a folder
    base: Option<PathBuf>,
    /// The release that it restores: a bundle or a folder
    #[arg(requires = "base")]
    new: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    Create(create::Arguments),
    Apply(apply::Arguments),
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    match (arguments.command, arguments.base, arguments.new) {
        (Some(Command::Create(arguments)), ..) => create::run(&arguments, output),
        (Some(Command::Apply(arguments)), ..) => apply::run(&arguments, output),
        (None, Some(base), Some(new)) => create::show(&base, &new, output),
        (None, ..) => Err(crate::failure::failure(
            "two releases make a delta",
            "switchback delta BASE NEW shows what it would cost, `delta create` and `delta apply` make and take it",
        )),
    }
}

/// The file of this name in a delta's folder.
fn part(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}
