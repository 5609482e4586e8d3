//! `switchback verify`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use switchback_signing::{
    bundle::Manifest,
    digest::Sha256Digest,
    metadata::{Signed, TargetMeta, Targets},
    time::UnixTime,
    trust::limits::TARGETS_BYTES_MAX,
};

use super::oms;
use crate::{
    base::{Base, release_role},
    bundle::{Beside, BundleFile},
    clock, companions,
    failure::failure,
    files,
    keyholders::{Keyholders, Signatures},
    output::{Output, bytes, pairs},
    release::{check_listed, target_paths},
};

/// Check a bundle byte by byte against its index, and with --base against what the keyholders signed
///
/// Succeeds only when everything is right: every chunk, every member, and with --base enough signatures of the right keys over exactly
/// this index and this bundle.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  switchback verify dist/ultra/vla-2-2.0.0.tar.zst\n  switchback verify --base release dist/ultra/vla-2-2.0.0.tar.zst\n  switchback verify --oms model.sig --public-key release-p256.pub.json \\\n      models/vla-2"
)]
pub(crate) struct Arguments {
    /// The bundle; with --oms it may be a model's folder
    bundle: PathBuf,
    #[command(flatten)]
    beside: Beside,
    /// Base directory whose metadata must list the bundle
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Check an OpenSSF Model Signing signature by a key instead
    #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with = "base")]
    oms: Option<PathBuf>,
    /// The P-256 key that must have made the OMS signature: a file of its public half, PEM or JSON
    #[arg(long, value_name = "FILE", requires = "oms")]
    public_key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Verified {
    release: String,
    tier: String,
    chunks: usize,
    bundle_bytes: u64,
    encryption: Option<&'static str>,
    index_sha256: Sha256Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<SignedState>,
}

#[derive(Serialize)]
struct SignedState {
    role: String,
    version: u64,
    file: PathBuf,
    expires: String,
    /// What it needs on the vehicle's other ECUs.
    needs: Vec<String>,
    signed_by: Vec<String>,
    missing: Vec<String>,
    threshold: u64,
    #[serde(skip)]
    text: String,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    if let (Some(signature), Some(key)) = (&arguments.oms, &arguments.public_key) {
        return oms::verify(&arguments.bundle, &arguments.beside, signature, key, output);
    }
    let bundle = BundleFile::open(&arguments.bundle, &arguments.beside)?;
    let manifest = bundle.verify(output)?;
    let signed = arguments.base.as_deref().map(|base| signed_state(base, &bundle, &manifest)).transpose()?;
    let verified = Verified {
        release: format!("{} {}", manifest.release.model, manifest.release.version),
        tier: manifest.release.tier,
        chunks: bundle.index.rows().len(),
        bundle_bytes: bundle.index.bundle_length(),
        encryption: bundle.encryption(),
        index_sha256: Sha256Digest::of(&bundle.index_bytes),
        signed,
    };
    output.show(&verified, describe)
}

fn describe(verified: &Verified) -> String {
    let mut facts = vec![
        ("release", format!("{} for tier {}", verified.release, verified.tier)),
        ("content", format!("every byte is right: {} chunks, {}", verified.chunks, bytes(verified.bundle_bytes))),
        ("encryption", verified.encryption.unwrap_or("none").to_owned()),
    ];
    match &verified.signed {
        None => facts.push(("signed", "not checked; name a base directory with --base".into())),
        Some(signed) => {
            facts.push(("signed", format!("{} in {}", signed.text, signed.file.display())));
            facts.push(("needs", if signed.needs.is_empty() { "nothing of other ECUs".to_owned() } else { signed.needs.join(", ") }));
            facts.push(("expires", signed.expires.clone()));
        }
    }
    pairs(&facts)
}

/// That enough keyholders signed this bundle, in a published or drafted version of its tier's role.
fn signed_state(folder: &Path, bundle: &BundleFile, manifest: &Manifest) -> anyhow::Result<SignedState> {
    let (base, now) = (Base::open(folder)?, clock::now());
    let role = release_role(&manifest.release.tier);
    let targets = base.targets(now)?;
    let holders = Keyholders::of_release_role(&targets, &role, &base.key_names()?)?;
    let (path, file) = listing(&base, &role, bundle, manifest)?;
    check_listed(&file.signed, bundle, manifest).with_context(|| path.display().to_string())?;
    let signatures = holders.signatures(&file);
    check_enough(&signatures, &role, file.signed.version)?;
    check_fresh(&role, file.signed.expires, now)?;
    Ok(SignedState {
        role,
        version: file.signed.version,
        file: path,
        expires: file.signed.expires.to_string(),
        needs: needs(&file.signed, manifest)?,
        text: signatures.describe(),
        signed_by: signatures.signed,
        missing: signatures.missing,
        threshold: signatures.threshold,
    })
}

/// What the newest metadata of the bundle's tier says that it needs on the vehicle's other ECUs, signed or not.
pub(super) fn listed_needs(folder: &Path, bundle: &BundleFile, manifest: &Manifest) -> anyhow::Result<Vec<String>> {
    let base = Base::open(folder)?;
    let (path, file) = listing(&base, &release_role(&manifest.release.tier), bundle, manifest)?;
    check_listed(&file.signed, bundle, manifest).with_context(|| path.display().to_string())?;
    needs(&file.signed, manifest)
}

fn needs(listed: &Targets, manifest: &Manifest) -> anyhow::Result<Vec<String>> {
    let (index_path, _) = target_paths(manifest);
    let release = listed.targets.get(&index_path).map(TargetMeta::release).transpose()?;
    let companions = release.into_iter().flat_map(|release| release.companions);
    Ok(companions.map(|companion| companions::describe(&[companion])).collect())
}

/// The newest metadata that speaks of the bundle's index: signed and complete, or else a draft.
fn listing(base: &Base, role: &str, bundle: &BundleFile, manifest: &Manifest) -> anyhow::Result<(PathBuf, Signed<Targets>)> {
    let (index_path, _) = target_paths(manifest);
    let mut candidates: Vec<PathBuf> = base.versions(&base.image(), role)?.pop().map(|(_, path)| path).into_iter().collect();
    let draft = base.draft(role);
    if draft.is_file() {
        candidates.push(draft);
    }
    for path in candidates {
        let file = files::read(&path, TARGETS_BYTES_MAX as usize)?;
        let file = Signed::<Targets>::parse(&file, file.len()).with_context(|| path.display().to_string())?;
        if file.signed.targets.contains_key(&index_path) {
            return Ok((path, file));
        }
    }
    Err(failure(
        format!("no metadata of {role} lists {index_path}"),
        format!("nobody has signed it: `switchback sign --base DIR --key NAME {}`", bundle.path.display()),
    ))
}

fn check_enough(signatures: &Signatures, role: &str, version: u64) -> anyhow::Result<()> {
    if signatures.complete() {
        return Ok(());
    }
    Err(failure(
        format!("{role} version {version} has {}", signatures.describe()),
        "it counts when enough keyholders have signed: `switchback sign --base DIR --key NAME BUNDLE`",
    ))
}

fn check_fresh(role: &str, expires: UnixTime, now: UnixTime) -> anyhow::Result<()> {
    if now < expires {
        return Ok(());
    }
    Err(failure(format!("{role} expired at {expires}"), "sign a new version: `switchback sign --base DIR --key NAME --renew TIER`"))
}
