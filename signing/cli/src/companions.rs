//! Images for a vehicle's other ECUs that a release needs beside it.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use anyhow::Context;
use switchback_signing::{
    digest::Sha256Digest,
    metadata::{Companion, EcuImage, HardwareId, TargetMeta, Targets, Tier},
    trust::limits::COMPANION_BYTES_MAX,
};

use crate::{failure::failure, files};

/// A file and the ECUs that it is for, as it is named: `HARDWARE=FILE`.
#[derive(Clone, Debug)]
pub(crate) struct CompanionFile {
    hardware_id: HardwareId,
    file: PathBuf,
}

impl FromStr for CompanionFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (hardware_id, file) = text.split_once('=').ok_or("it is of the form HARDWARE=FILE")?;
        let hardware_id = hardware_id.parse().map_err(|error| format!("{hardware_id:?}: {error}"))?;
        Ok(Self { hardware_id, file: file.into() })
    }
}

/// The images of one release, read and described.
pub(crate) struct Companions {
    /// As the release names them, in the order of their hardware.
    pub(crate) named: Vec<Companion>,
    /// As targets.
    pub(crate) targets: BTreeMap<String, TargetMeta>,
    /// Where their bytes are, by target path.
    pub(crate) sources: BTreeMap<String, PathBuf>,
}

impl Companions {
    /// Reads the files. An image that `listed` has already keeps its release counter; a new one has that of the release.
    pub(crate) fn read(files: &[CompanionFile], tier: &Tier, release_counter: u64, listed: &Targets) -> anyhow::Result<Self> {
        let mut companions = Self { named: Vec::new(), targets: BTreeMap::new(), sources: BTreeMap::new() };
        for CompanionFile { hardware_id, file } in files {
            let bytes = files::read(file, COMPANION_BYTES_MAX as usize)?;
            let name = file.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no name", file.display()))?;
            let path = format!("{tier}/{name}");
            let mut image = match companions.targets.get(&path).or_else(|| listed.targets.get(&path)) {
                Some(known) => same_bytes(&path, known, &bytes)?,
                None => EcuImage { release_counter, hardware_ids: Vec::new() },
            };
            if !image.hardware_ids.contains(hardware_id) {
                if listed.targets.contains_key(&path) {
                    let hardware = image.hardware_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    let what = format!("{path} is signed for {hardware}, not for {hardware_id}");
                    return Err(failure(what, "a published image never changes; give the file for other hardware another name"));
                }
                image.hardware_ids.push(hardware_id.clone());
            }
            if companions.named.iter().any(|companion| companion.hardware_id == *hardware_id) {
                return Err(failure(format!("two images for {hardware_id}"), "an ECU runs one image; name one for each hardware"));
            }
            companions.named.push(Companion {
                hardware_id: hardware_id.clone(),
                path: path.clone(),
                length: bytes.len() as u64,
                sha256: Sha256Digest::of(&bytes),
                release_counter: image.release_counter,
            });
            companions.targets.insert(path.clone(), TargetMeta::of_image(&bytes, &image));
            companions.sources.insert(path, file.canonicalize().with_context(|| file.display().to_string())?);
        }
        companions.named.sort_by(|one, other| one.hardware_id.cmp(&other.hardware_id));
        Ok(companions)
    }
}

fn same_bytes(path: &str, known: &TargetMeta, bytes: &[u8]) -> anyhow::Result<EcuImage> {
    if known.length != bytes.len() as u64 || known.hashes.sha256 != Some(Sha256Digest::of(bytes)) {
        let what = format!("{path} is listed with other bytes");
        return Err(failure(what, "a published image never changes; give the new file another name"));
    }
    Ok(known.ecu_image()?)
}

/// What a release needs, in words.
pub(crate) fn describe(companions: &[Companion]) -> String {
    let needs = |companion: &Companion| format!("{} on {} (counter {})", companion.path, companion.hardware_id, companion.release_counter);
    if companions.is_empty() { "nothing".to_owned() } else { companions.iter().map(needs).collect::<Vec<_>>().join(", ") }
}
