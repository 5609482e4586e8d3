//! `switchback pack`: from a trained model to a bundle.

mod golden;
mod members;
mod ml_bom;
mod model;
mod updates;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    bundle::{
        BundleWriter, ContentKey, Contract, Manifest,
        contract::limits::CONTRACT_LENGTH_MAX,
        delta::Span,
        manifest::{MANIFEST_FORMAT, Release, SelfTest},
    },
    digest::Sha256Digest,
};
use zeroize::Zeroizing;

use self::{
    golden::Golden,
    members::{Member, Members},
    model::Candidate,
    updates::{Update, Updates},
};
use crate::{
    bundle::{Beside, BundleFile, CONTENT_KEY_EXTENSION},
    failure::{Hint, failure},
    files::{self, Access, Draft},
    keys::file::fill,
    output::{Output, bytes, pairs},
    progress::{Counted, byte_bar},
    release::target_paths,
};

const INPUTS_PATH: &str = "selftest/inputs.safetensors";
const OUTPUTS_PATH: &str = "selftest/outputs.safetensors";
const MODEL_PATH: &str = "model.onnx";
const ML_BOM_PATH: &str = "ml-bom.cdx.json";

/// Make a bundle and its chunk index from an ONNX model and its contract
///
/// Runs the model once on recorded inputs (or on reproducible pseudo-random ones) and records its outputs: every vehicle repeats this
/// self-test before the model may drive. A model whose tensors do not match its contract, or that gives a value that is not finite, is
/// refused. The same inputs make the same bytes.
///
/// With --encrypt nobody reads the bundle who does not have its content key: not on the way, nor at a CDN or on a USB stick. The key is new for
/// each bundle and lies beside it, for its owner alone; the bundle and its index may lie anywhere, the key may not.
#[derive(Args)]
#[command(after_help = "Example:
  switchback pack --model model.onnx --data weights.bin \\
      --contract contract.json \\
      --name vla-2 --version 2.0.0 --tier ultra --release-counter 7 \\
      --hardware drive-a \\
      --self-test-inputs recorded.safetensors --notes en=NOTES.md --out dist")]
pub(crate) struct Arguments {
    /// The ONNX graph
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// External data of the graph: every file that it refers to, in the model's folder; once for each
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// The model's contract
    #[arg(long, value_name = "FILE")]
    contract: PathBuf,
    /// Name of the model, such as vla-2
    #[arg(long)]
    name: String,
    /// Version of the model, such as 2.0.0
    #[arg(long)]
    version: String,
    /// Tier of the vehicles, such as ultra
    #[arg(long)]
    tier: String,
    /// Higher than that of every release to this tier before
    #[arg(long, value_name = "N")]
    release_counter: u64,
    /// Hardware id of a driving computer that may run the model; once for each
    #[arg(long, value_name = "ID", required = true)]
    hardware: Vec<String>,
    /// Recorded inputs of the self-test, as safetensors with the names CASE/TENSOR
    #[arg(long, value_name = "FILE", conflicts_with = "cases")]
    self_test_inputs: Option<PathBuf>,
    /// Number of pseudo-random self-test cases when no inputs were recorded
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    cases: u32,
    /// Release notes; once for each language
    #[arg(long, value_name = "LANGUAGE=FILE")]
    notes: Vec<Notes>,
    /// Software identification number (UN R156) that the release changes
    #[arg(long, value_name = "NUMBER")]
    rxswin: Vec<String>,
    /// Who supplies the model, for the bill of materials
    #[arg(long, value_name = "NAME")]
    supplier: Option<String>,
    /// SPDX expression of the model's license, for the bill of materials
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// Encrypt the bundle under a new content key, which becomes OUT/TIER/NAME-VERSION.content-key.jwk
    #[arg(long)]
    encrypt: bool,
    /// Bundle of a release that vehicles have, to show what the update from it will cost; once for each. Without, up to three older ones beside
    /// the new bundle are taken
    #[arg(long, value_name = "BUNDLE")]
    base_bundle: Vec<PathBuf>,
    /// Fail, and pack nothing, when an update from one of these takes more than this share of the full download
    #[arg(long, value_name = "PERCENT")]
    delta_max_percent: Option<f64>,
    /// Store tensors in byte planes: a bf16 bundle becomes a tenth smaller, f16 and f32 ones less, and `zstd -d | tar` no longer reads it
    #[arg(long)]
    planes: bool,
    /// Folder for the bundle, which becomes OUT/TIER/NAME-VERSION.tar.zst
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// The ONNX Runtime library to run the model with
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    runtime: Option<PathBuf>,
}

/// Release notes in one language.
#[derive(Clone, Debug)]
struct Notes {
    language: String,
    path: PathBuf,
}

impl FromStr for Notes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (language, path) =
            text.split_once('=').filter(|(language, path)| !language.is_empty() && !path.is_empty()).ok_or("expected LANGUAGE=FILE")?;
        Ok(Self { language: language.to_owned(), path: path.into() })
    }
}

#[derive(Serialize)]
struct Packed {
    bundle: PathBuf,
    bundle_bytes: u64,
    bundle_sha256: Sha256Digest,
    index: PathBuf,
    index_bytes: u64,
    index_sha256: Sha256Digest,
    /// How it is encrypted.
    encryption: Option<&'static str>,
    /// The secret key that reads it.
    content_key: Option<PathBuf>,
    /// What the members take on a vehicle's disk.
    content_bytes: u64,
    model_bytes: u64,
    chunks: usize,
    self_test_cases: u32,
    /// Time of the slowest self-test run on this machine, ms.
    slowest_run_ms: f64,
    onnxruntime: String,
    release: Release,
    /// What vehicles with older releases will download.
    updates: Vec<Update>,
    warnings: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let contract = Contract::parse(&files::read(&arguments.contract, CONTRACT_LENGTH_MAX)?)
        .with_context(|| arguments.contract.display().to_string())?;
    let mut members = Members::default();
    members.add(Member::file(MODEL_PATH, &arguments.model)?)?;
    for data in &arguments.data {
        members.add(Member::external_data(&arguments.model, data)?)?;
    }
    let mut candidate = Candidate::open(&members, &contract, &arguments)?;
    let golden = golden(&arguments, &contract, &mut candidate)?;
    members.add(Member::bytes(INPUTS_PATH, golden.inputs)?)?;
    members.add(Member::bytes(OUTPUTS_PATH, golden.outputs)?)?;
    let notes = add_notes(&mut members, &arguments.notes)?;
    let release = Release {
        model: arguments.name.clone(),
        version: arguments.version.clone(),
        release_counter: arguments.release_counter,
        tier: arguments.tier.clone(),
        hardware_ids: arguments.hardware.clone(),
    };
    let hashed = members.hash(output)?;
    let bom = ml_bom::build(&ml_bom::Subject {
        release: &release,
        contract: &contract,
        files: &hashed.entries(),
        supplier: arguments.supplier.as_deref(),
        license: arguments.license.as_deref(),
    })?;
    let hashed = hashed.with(Member::bytes(ML_BOM_PATH, bom)?)?;
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        release,
        files: hashed.entries(),
        model: MODEL_PATH.into(),
        self_test: SelfTest { inputs: INPUTS_PATH.into(), outputs: OUTPUTS_PATH.into(), cases: golden.cases },
        notes,
        ml_bom: Some(ML_BOM_PATH.into()),
        rxswin: arguments.rxswin.clone(),
        contract,
    };
    let paths = Paths::new(&arguments.out, &manifest)?;
    let content_key = arguments.encrypt.then(|| new_content_key(&paths.content_key)).transpose()?;
    let tensors = if arguments.planes { hashed.tensors() } else { Vec::new() };
    let bundle = write(&paths, &manifest, (&hashed, &tensors), content_key.as_ref(), output).inspect_err(|_| {
        if content_key.is_some() {
            // The key of a bundle that is not there; its random bytes are for no other.
            let _ = fs::remove_file(&paths.content_key);
        }
    })?;
    // What a vehicle will do, once here: a disk or a memory that changed a bit is found before anybody signs.
    bundle.verify(output).context("the bundle that was just written does not read back")?;
    let updates = Updates::to(&bundle.path, &manifest, &arguments.base_bundle, output);
    let updates = updates.and_then(|updates| arguments.delta_max_percent.map_or(Ok(()), |max| updates.check(max)).map(|()| updates));
    let Updates { updates, warnings } = updates.inspect_err(|_| paths.remove())?;
    let packed = Packed {
        bundle_bytes: bundle.index.bundle_length(),
        bundle_sha256: bundle.index.bundle_sha256(),
        index_bytes: bundle.index_bytes.len() as u64,
        index_sha256: Sha256Digest::of(&bundle.index_bytes),
        encryption: bundle.encryption(),
        content_key: content_key.map(|_| paths.content_key),
        content_bytes: manifest.content_length(),
        model_bytes: hashed.model_bytes(),
        chunks: bundle.index.rows().len(),
        self_test_cases: golden.cases,
        slowest_run_ms: golden.slowest_run.as_secs_f64() * 1000.0,
        onnxruntime: candidate.runtime_version,
        release: manifest.release,
        updates,
        warnings,
        bundle: bundle.path,
        index: bundle.index_path,
    };
    output.show(&packed, describe)
}

fn describe(packed: &Packed) -> String {
    let percent = packed.bundle_bytes as f64 / packed.content_bytes as f64 * 100.0;
    let Release { model, version, release_counter, tier, .. } = &packed.release;
    let mut facts = vec![
        ("release", format!("{model} {version} (counter {release_counter}) for tier {tier}")),
        ("model", bytes(packed.model_bytes)),
        ("content", format!("{} on the vehicle's disk", bytes(packed.content_bytes))),
        ("bundle", format!("{}  {} ({percent:.0} % of the content)", packed.bundle.display(), bytes(packed.bundle_bytes))),
        ("index", format!("{}  {} for {} chunks", packed.index.display(), bytes(packed.index_bytes), packed.chunks)),
        (
            "self-test",
            format!(
                "{} cases recorded with ONNX Runtime {}, the slowest took {:.1} ms here",
                packed.self_test_cases, packed.onnxruntime, packed.slowest_run_ms
            ),
        ),
    ];
    if let Some(path) = &packed.content_key {
        facts.push(("content key", format!("{}  secret: who has it reads the bundle, without it nobody does", path.display())));
        facts.push(("", "keyholders and the server need it, each vehicle gets it sealed; keep it where the signing keys are".into()));
    }
    facts.extend(packed.updates.iter().map(|update| ("update", update.describe())));
    facts.extend(packed.warnings.iter().map(|warning| ("warning", warning.clone())));
    facts.push(("next", format!("switchback sign --base DIR --key NAME {}", packed.bundle.display())));
    pairs(&facts)
}

fn golden(arguments: &Arguments, contract: &Contract, candidate: &mut Candidate) -> anyhow::Result<Golden> {
    let inputs = match &arguments.self_test_inputs {
        Some(path) => golden::recorded(path, contract).with_context(|| path.display().to_string())?,
        None => golden::pseudo_random(contract, arguments.cases),
    };
    candidate.record(inputs, contract)
}

/// Adds the notes as members and returns their paths by language.
fn add_notes(members: &mut Members, notes: &[Notes]) -> anyhow::Result<BTreeMap<String, String>> {
    const NOTES_BYTES_MAX: usize = 1 << 20;
    let mut paths = BTreeMap::new();
    for Notes { language, path } in notes {
        let text = files::read(path, NOTES_BYTES_MAX)?;
        if std::str::from_utf8(&text).is_err() {
            bail!("{} is no UTF-8 text", path.display());
        }
        let member = format!("notes/{}.md", language.to_ascii_lowercase());
        if paths.insert(language.clone(), member.clone()).is_some() {
            bail!("--notes {language} is given twice");
        }
        members.add(Member::bytes(&member, text)?)?;
    }
    Ok(paths)
}

/// Where a bundle and what belongs to it will be.
struct Paths {
    bundle: PathBuf,
    index: PathBuf,
    content_key: PathBuf,
}

impl Paths {
    /// Makes their folder. None of them may be there.
    fn new(out: &Path, manifest: &Manifest) -> anyhow::Result<Self> {
        let (index, bundle) = target_paths(manifest);
        let content_key = format!("{}{CONTENT_KEY_EXTENSION}", manifest.release.target_stem());
        let paths = Self { bundle: out.join(bundle), index: out.join(index), content_key: out.join(content_key) };
        if let Some(path) = [&paths.index, &paths.bundle].into_iter().find(|path| path.exists()) {
            return Err(failure(
                format!("{} exists", path.display()),
                "a release is packed once; remove it, or choose another --version or --out",
            ));
        }
        if paths.content_key.exists() {
            return Err(failure(
                format!("{} exists", paths.content_key.display()),
                "it may be the only key to a bundle that was published, and is for that one alone; put it away, or choose another --version or --out",
            ));
        }
        files::make_folder(paths.bundle.parent().unwrap_or(out))?;
        Ok(paths)
    }

    /// Takes back what was written. Nobody has seen it, and the key is for no other bundle.
    fn remove(&self) {
        for path in [&self.index, &self.bundle, &self.content_key] {
            // One that stays is refused by name when the release is packed again.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the key of one bundle. Chunk numbers are the nonces, so that a key that was used twice protects neither bundle: there is no way to
/// name one.
fn new_content_key(path: &Path) -> anyhow::Result<ContentKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill(&mut *bytes)?;
    let key = ContentKey::from_bytes(*bytes);
    files::write_new(path, key.to_jwk().as_bytes(), Access::Secret)?;
    Ok(key)
}

fn write(
    paths: &Paths,
    manifest: &Manifest,
    (members, tensors): (&members::Hashed, &[Vec<Span>]),
    content_key: Option<&ContentKey>,
    output: &Output,
) -> anyhow::Result<BundleFile> {
    let mut draft = Draft::create(&paths.bundle, Access::Public)?;
    let bar = byte_bar(output, "packing", manifest.content_length());
    let writer = match content_key {
        None => BundleWriter::new(draft.file(), manifest.clone()),
        Some(key) => BundleWriter::encrypted(draft.file(), manifest.clone(), key),
    };
    let mut writer = writer.hint("names of models, versions, tiers, hardware and files are [a-z0-9._-]; rename what is named above")?;
    for (number, member) in members.iter().enumerate() {
        let tensors = tensors.get(number).map_or(&[][..], Vec::as_slice);
        writer.file_of_tensors(Counted::new(member.open()?, &bar), tensors).with_context(|| format!("while packing {}", member.path()))?;
    }
    let (_, index) = writer.finish()?;
    bar.finish_and_clear();
    draft.commit()?;
    // The index comes last: where it is, the bundle is complete.
    files::write(&paths.index, &index.to_bytes(), Access::Public)?;
    BundleFile::open(&paths.bundle, &Beside::default())
}
