//! `switchback delta create`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use switchback_signing::bundle::{
    ChunkIndex,
    delta::{Delta, DeltaIndex, DeltaPlan, DeltaWriter, Kind},
    index::CHUNK_RAW_MAX,
};

use super::{
    DATA_NAME, FULL_INDEX_NAME, INDEX_NAME, matching, part,
    release::Release,
    tensors::{Layout, Tensor},
};
use crate::{
    failure::failure,
    files::{self, Access, Draft},
    keys::file::fill,
    output::{Output, bytes, pairs, plain},
    progress::byte_bar,
};

/// A delta above this share of the full download is not worth having: it saves little, and the vehicle reads its whole base for it.
const WORTH_PERCENT: f64 = 85.0;

/// Make a delta
///
/// Leaves delta.index, delta.data and full.index in a folder. Fails, and leaves nothing, when the download would be more than 85 % of the full
/// one.
#[derive(Args)]
pub(super) struct Arguments {
    /// The release that the delta starts from: a bundle or a folder
    #[arg(long, value_name = "DIR_OR_BUNDLE")]
    base: PathBuf,
    /// The release that it restores: a bundle or a folder
    #[arg(long, value_name = "DIR_OR_BUNDLE")]
    new: PathBuf,
    /// Folder for the delta
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Content key of the new bundle, when it is encrypted and the key does not lie beside it
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// Content key of the base, likewise
    #[arg(long, value_name = "FILE")]
    base_content_key: Option<PathBuf>,
}

/// What an update costs.
#[derive(Serialize)]
pub(crate) struct Cost {
    /// Bytes to download in all: the delta's index and data, and what is left to the full bundle.
    pub(crate) delta_bytes: u64,
    /// Bytes of the full download: bundle and index.
    pub(crate) full_bytes: u64,
    /// Bytes of the release's files.
    content_bytes: u64,
    pub(crate) percent_of_full: f64,
    percent_of_content: f64,
    /// Tensors that were found, and those that the base has one for.
    tensors: usize,
    matched: usize,
    /// By kind of segment.
    kinds: Vec<KindCost>,
    /// What chunks that are left to the full bundle take there.
    from_full_bytes: u64,
    /// Time to find and match tensors, and to encode, s.
    match_seconds: f64,
    encode_seconds: f64,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct KindCost {
    kind: &'static str,
    restored_bytes: u64,
    delta_bytes: u64,
}

#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    cost: Cost,
    index: PathBuf,
    data: PathBuf,
    full_index: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let mut base = Release::open(&arguments.base, arguments.base_content_key.as_deref())?;
    let mut new = Release::open(&arguments.new, arguments.content_key.as_deref())?;
    let named = |name| part(&arguments.out, name);
    let (index_path, data_path, full_path) = (named(INDEX_NAME), named(DATA_NAME), named(FULL_INDEX_NAME));
    if let Some(path) = [&index_path, &data_path, &full_path].into_iter().find(|path| path.exists()) {
        return Err(failure(format!("{} exists", path.display()), "remove the delta that is there, or choose another --out"));
    }
    files::make_folder(&arguments.out)?;
    let mut draft = Draft::create(&data_path, Access::Public)?;
    let made = make(&mut new, &mut base, io::BufWriter::new(draft.file()), output)?;
    if made.cost.percent_of_full > WORTH_PERCENT {
        let Cost { delta_bytes, full_bytes, percent_of_full, .. } = made.cost;
        let what = format!(
            "the delta takes {} of {}, {percent_of_full:.1} % of the full download: more than {WORTH_PERCENT:.0} % is not worth a delta, and none was made",
            bytes(delta_bytes),
            bytes(full_bytes)
        );
        return Err(failure(what, "publish the release without a delta from this base; are the two the same model?"));
    }
    draft.commit()?;
    files::write(&full_path, &made.full.to_bytes(), Access::Public)?;
    // The delta's index comes last: where it is, the delta is complete.
    files::write(&index_path, &made.index.to_bytes(), Access::Public)?;
    let created = Created { cost: made.cost, index: index_path, data: data_path, full_index: full_path };
    output.show(&created, |created| {
        let files = format!("{}  {}  {}", created.index.display(), created.data.display(), created.full_index.display());
        describe(&created.cost, &[("files", files)])
    })
}

/// Shows what a delta would cost, and leaves none.
pub(super) fn show(base: &Path, new: &Path, output: &Output) -> anyhow::Result<()> {
    let cost = cost(&mut Release::open(new, None)?, &mut Release::open(base, None)?, output)?;
    output.show(&cost, |cost| describe(cost, &[]))
}

/// What an update from `base` to `new` costs.
pub(crate) fn cost(new: &mut Release, base: &mut Release, output: &Output) -> anyhow::Result<Cost> {
    make(new, base, io::sink(), output).map(|made| made.cost)
}

struct Made {
    full: ChunkIndex,
    index: DeltaIndex,
    cost: Cost,
}

fn make(new: &mut Release, base: &mut Release, out: impl Write, output: &Output) -> anyhow::Result<Made> {
    let bar = byte_bar(output, "reading", new.content_length());
    let full = new.index(&bar)?;
    bar.finish_and_clear();
    let began = Instant::now();
    let (new_layout, base_layout) = (Layout::of(new), Layout::of(base));
    let spans = matching::spans(new, &new_layout, base, &base_layout)?;
    let match_seconds = began.elapsed().as_secs_f64();

    let began = Instant::now();
    let content_key = new.content_key()?;
    let mut salt = [0; 32];
    if content_key.is_some() {
        fill(&mut salt)?;
    }
    let plan = DeltaPlan { full: &full, full_bundle: new.full_bundle(), base: base.base(), content_key: content_key.as_ref(), salt };
    let mut writer = DeltaWriter::new(out, plan)?;
    let bar = byte_bar(output, "encoding", full.tar_length());
    let mut raw = Vec::with_capacity(CHUNK_RAW_MAX);
    for number in 0..full.rows().len() {
        let place = new.chunk(&full, number, &mut raw)?;
        let (offset, spans) = place.of_file.map_or((0, &[][..]), |(file, offset)| (offset, spans[file].as_slice()));
        writer.chunk(&raw, offset, spans, base).with_context(|| format!("while encoding chunk {number}"))?;
        bar.inc(raw.len() as u64);
    }
    bar.finish_and_clear();
    let tallies = writer.tallies();
    let (_, index) = writer.finish()?;
    let encode_seconds = began.elapsed().as_secs_f64();

    let index_bytes = index.to_bytes().len() as u64;
    let delta = Delta::new(index.clone(), &full)?;
    let delta_bytes = delta.download_length(&full) + index_bytes;
    let full_bytes = full.bundle_length() + full.to_bytes().len() as u64;
    let content_bytes = new.content_length();
    let percent = |of: u64| if of == 0 { 0.0 } else { delta_bytes as f64 / of as f64 * 100.0 };
    let kinds = Kind::ALL.into_iter().zip(tallies).filter(|(_, tally)| tally.raw > 0);
    let has_base = |tensor: &&Tensor| {
        let of_file = &spans[tensor.file];
        of_file.binary_search_by_key(&tensor.offset, |span| span.offset).is_ok_and(|found| of_file[found].base.is_some())
    };
    let matched = new_layout.tensors.iter().filter(has_base).count();
    let mut warnings = new_layout.warnings;
    warnings.extend(base_layout.warnings.into_iter().map(|warning| format!("base: {warning}")));
    let cost = Cost {
        delta_bytes,
        full_bytes,
        content_bytes,
        percent_of_full: percent(full_bytes),
        percent_of_content: percent(content_bytes),
        tensors: new_layout.tensors.len(),
        matched,
        kinds: kinds.map(|(kind, tally)| KindCost { kind: kind.name(), restored_bytes: tally.raw, delta_bytes: tally.payload }).collect(),
        from_full_bytes: delta.download_length(&full) - delta.data_length(),
        match_seconds,
        encode_seconds,
        warnings,
    };
    Ok(Made { full, index, cost })
}

fn describe(cost: &Cost, more: &[(&str, String)]) -> String {
    let mut facts = vec![
        (
            "update",
            format!(
                "{} to download, {:.2} % of the content and {:.2} % of the full download",
                bytes(cost.delta_bytes),
                cost.percent_of_content,
                cost.percent_of_full
            ),
        ),
        ("content", format!("{} ({} in full)", bytes(cost.content_bytes), bytes(cost.full_bytes))),
        ("tensors", format!("{} of {} have a like one in the base", cost.matched, cost.tensors)),
    ];
    for KindCost { kind, restored_bytes, delta_bytes } in &cost.kinds {
        facts.push((kind, format!("{} in {}", bytes(*restored_bytes), bytes(*delta_bytes))));
    }
    if cost.from_full_bytes > 0 {
        facts.push(("full", format!("{} are taken from the full bundle", bytes(cost.from_full_bytes))));
    }
    facts.push(("time", format!("{:.1} s to match, {:.1} s to encode", cost.match_seconds, cost.encode_seconds)));
    facts.extend(more.iter().cloned());
    facts.extend(cost.warnings.iter().map(|warning| ("warning", plain(warning))));
    pairs(&facts)
}
