//! What vehicles with an older release will have to download.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;
use switchback_signing::bundle::Manifest;

use crate::{
    bundle::{BUNDLE_EXTENSION, Beside, BundleFile},
    delta::{Cost, Release, cost, warnings},
    failure::failure,
    output::{Output, bytes},
};

/// Most bundles that are taken for bases without being named: vehicles that are further behind are few.
const FOUND_MAX: usize = 3;

/// The update from one older release.
#[derive(Serialize)]
pub(super) struct Update {
    from: PathBuf,
    version: String,
    release_counter: u64,
    delta_bytes: u64,
    full_bytes: u64,
    percent_of_full: f64,
}

/// What all updates cost, and what stands in the way of a smaller one.
pub(super) struct Updates {
    pub(super) updates: Vec<Update>,
    pub(super) warnings: Vec<String>,
}

impl Update {
    pub(super) fn describe(&self) -> String {
        let Self { version, release_counter, delta_bytes, percent_of_full, .. } = self;
        format!("{} from {version} (counter {release_counter}): {percent_of_full:.1} % of the full download", bytes(*delta_bytes))
    }
}

impl Updates {
    /// From the bundles that are named, or else from those of older releases that lie beside the new one.
    pub(super) fn to(bundle: &Path, manifest: &Manifest, named: &[PathBuf], output: &Output) -> anyhow::Result<Self> {
        let mut new = Release::open(bundle, None)?;
        let bases = if named.is_empty() { found_beside(bundle, manifest)? } else { named.to_vec() };
        let (mut updates, mut said) = (Vec::new(), warnings(&mut new));
        for path in bases {
            let name = || format!("while comparing with {}", path.display());
            let mut base = Release::open(&path, None).with_context(name)?;
            let release = base.manifest().map(|manifest| manifest.release.clone());
            let release = release.with_context(|| format!("{} is no bundle", path.display()))?;
            if release.release_counter >= manifest.release.release_counter {
                let what = format!(
                    "{} has release counter {}, the new release {}",
                    path.display(),
                    release.release_counter,
                    manifest.release.release_counter
                );
                return Err(failure(what, "name bundles of older releases with --base-bundle"));
            }
            let Cost { delta_bytes, full_bytes, percent_of_full, .. } = cost(&mut new, &mut base, output).with_context(name)?;
            let (version, release_counter) = (release.version, release.release_counter);
            updates.push(Update { from: path, version, release_counter, delta_bytes, full_bytes, percent_of_full });
        }
        said.dedup();
        Ok(Self { updates, warnings: said })
    }

    /// That no update costs more than `percent_max` of the full download.
    pub(super) fn check(&self, percent_max: f64) -> anyhow::Result<()> {
        let Some(update) = self.updates.iter().find(|update| update.percent_of_full > percent_max) else { return Ok(()) };
        let what = format!("the update takes {}, the budget is {percent_max} %", update.describe());
        Err(failure(
            what,
            "freeze what need not be trained, publish bf16 rather than f16, lower the learning rate, or raise --delta-max-percent; nothing was packed",
        ))
    }
}

/// Bundles of older releases of the same model and tier in the folder of this one, the newest first.
fn found_beside(bundle: &Path, manifest: &Manifest) -> anyhow::Result<Vec<PathBuf>> {
    let folder = bundle.parent().context("a bundle lies in a folder")?;
    let cannot = || format!("cannot list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path == bundle || !path.to_string_lossy().ends_with(BUNDLE_EXTENSION) {
            continue;
        }
        // One that cannot be read is nobody's base here: its key may be elsewhere.
        let Ok(older) = BundleFile::open(&path, &Beside::default()).and_then(|bundle| bundle.manifest()) else { continue };
        let (older, new) = (older.release, &manifest.release);
        if (&older.model, &older.tier) == (&new.model, &new.tier) && older.release_counter < new.release_counter {
            found.push((older.release_counter, path));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().take(FOUND_MAX).map(|(_, path)| path).collect())
}
