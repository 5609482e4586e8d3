//! What is said about a release in metadata, as it follows from its bundle.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use switchback_signing::{
    bundle::Manifest,
    digest::Sha256Digest,
    metadata::{BundleRef, Custom, HardwareId, Region, TargetMeta, Targets, Tier, Version},
};

use crate::{
    bundle::{BUNDLE_EXTENSION, BundleFile, INDEX_EXTENSION},
    failure::failure,
};

/// Target paths of a release: its chunk index and its bundle.
pub(crate) fn target_paths(manifest: &Manifest) -> (String, String) {
    let stem = manifest.release.target_stem();
    (format!("{stem}{INDEX_EXTENSION}"), format!("{stem}{BUNDLE_EXTENSION}"))
}

/// What both repositories will say alike about the release.
pub(crate) fn custom(bundle: &BundleFile, manifest: &Manifest, regions: Vec<Region>, sdk_min: Version) -> anyhow::Result<Custom> {
    let (release, contract) = (&manifest.release, &manifest.contract);
    let (_, bundle_path) = target_paths(manifest);
    Ok(Custom {
        release_counter: release.release_counter,
        hardware_ids: release.hardware_ids.iter().map(HardwareId::new).collect::<Result<_, _>>()?,
        tier: Tier::new(&release.tier)?,
        regions,
        contract_version: contract.contract_version,
        sdk_min,
        onnxruntime_min: contract.runtime.onnxruntime_min.parse()?,
        model: release.model.clone(),
        version: release.version.clone(),
        bundle: BundleRef {
            path: bundle_path,
            length: bundle.index.bundle_length(),
            sha256: bundle.index.bundle_sha256(),
            encryption: bundle.index.encryption(),
        },
        companions: Vec::new(),
        extra: BTreeMap::new(),
    })
}

/// That the metadata means exactly these files.
pub(crate) fn check_listed(listed: &Targets, bundle: &BundleFile, manifest: &Manifest) -> anyhow::Result<()> {
    let (index_path, bundle_path) = target_paths(manifest);
    let index_sha256 = Sha256Digest::of(&bundle.index_bytes);
    check_target(listed, &index_path, bundle.index_bytes.len() as u64, index_sha256)?;
    check_target(listed, &bundle_path, bundle.index.bundle_length(), bundle.index.bundle_sha256())?;
    // Regions, the library's version and what other ECUs need are stated by people; all the rest follows from the manifest.
    let stated = listed.targets.get(&index_path).map(TargetMeta::release).transpose()?.context("the index is not listed")?;
    let expected = custom(bundle, manifest, stated.regions.clone(), stated.sdk_min)?;
    if stated != (Custom { companions: stated.companions.clone(), ..expected }) {
        let what = format!("what is said about {} is not what its manifest says", stated.title());
        return Err(failure(what, "find out who wrote the metadata; `switchback inspect` shows the manifest"));
    }
    Ok(())
}

fn check_target(listed: &Targets, path: &str, length: u64, sha256: Sha256Digest) -> anyhow::Result<()> {
    let Some(TargetMeta { length: listed_length, hashes, .. }) = listed.targets.get(path) else {
        bail!("{path} is not listed");
    };
    let listed_sha256 = hashes.sha256;
    if *listed_length != length || listed_sha256 != Some(sha256) {
        let listed_sha256 = listed_sha256.map_or_else(|| "no SHA-256".into(), |sha256| sha256.to_string());
        let what = format!("{path} is {length} bytes with SHA-256 {sha256}, signed are {listed_length} bytes with {listed_sha256}");
        return Err(failure(what, "this is another build of the release than the one that was signed"));
    }
    Ok(())
}
