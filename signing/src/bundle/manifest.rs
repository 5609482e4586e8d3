//! `manifest.json`, the bundle's first member: the list of its contents and the model's contract.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use super::{contract::Contract, error::BundleError, json, ustar};
use crate::digest::Sha256Digest;

/// The manifest format that this release of Switchback writes and reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// Name of the manifest inside the bundle.
pub const MANIFEST_PATH: &str = "manifest.json";

/// Longest manifest, bytes.
pub const MANIFEST_LENGTH_MAX: usize = 1 << 20;

/// Most members beside the manifest.
pub const FILES_MAX: usize = 4096;

/// Longest name of a model, version, tier or hardware id, bytes.
pub const NAME_LENGTH_MAX: usize = 64;

/// Most hardware ids that one release can serve.
pub const HARDWARE_IDS_MAX: usize = 64;

/// Most languages of the release notes.
pub const LANGUAGES_MAX: usize = 64;

/// Most golden cases; each costs the vehicle one inference before the model may drive.
pub const SELF_TEST_CASES_MAX: u32 = 1024;

/// The bundle's list of contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this structure; [`MANIFEST_FORMAT`] is the only one known here.
    pub format: u32,
    /// Which model this is, and for which vehicles.
    pub release: Release,
    /// Members after the manifest, in archive order.
    pub files: Vec<FileEntry>,
    /// Path of the ONNX graph among `files`.
    pub model: String,
    /// Golden inputs and outputs among `files`.
    pub self_test: SelfTest,
    /// Release notes among `files`, by BCP 47 language tag.
    #[serde(default, deserialize_with = "json::distinct_keys")]
    pub notes: BTreeMap<String, String>,
    /// Path of the machine-learning bill of materials (CycloneDX) among `files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml_bom: Option<String>,
    /// Regulation-relevant software identification numbers (UN R156) that the release changes.
    #[serde(default)]
    pub rxswin: Vec<String>,
    /// What the model expects and promises.
    pub contract: Contract,
}

/// Which model a bundle holds, and for which vehicles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Name of the model, such as `vla-2`.
    pub model: String,
    /// Version of the model, such as `2.0.0`; shown to people, never compared.
    pub version: String,
    /// Rises with every release to a tier; a vehicle never goes below the counter of its confirmed release.
    pub release_counter: u64,
    /// Tier of the vehicles, such as `ultra`.
    pub tier: String,
    /// Hardware ids of the driving computers that may run it.
    pub hardware_ids: Vec<String>,
}

/// One member of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path in the archive: `[a-z0-9._-]` segments joined by `/`, at most 100 bytes.
    pub path: String,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256 of the content.
    pub sha256: Sha256Digest,
}

/// Where the golden inputs and outputs are (safetensors; tensor names are `CASE/TENSOR`, cases are numbered from 0 and run in order).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Path of the golden inputs.
    pub inputs: String,
    /// Path of the golden outputs.
    pub outputs: String,
    /// Number of cases.
    pub cases: u32,
}

impl Manifest {
    /// Reads a manifest strictly.
    ///
    /// # Errors
    /// `ManifestLength`, `ManifestJson`, `ManifestFormat`, `Manifest`, or what [`Contract::validate`] returns.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MANIFEST_LENGTH_MAX {
            return Err(BundleError::ManifestLength { allowed: MANIFEST_LENGTH_MAX as u64, found: bytes.len() as u64 });
        }
        let json_error = |error: serde_json::Error| BundleError::ManifestJson { reason: error.to_string() };
        // The versions first: a later format may have other fields, and then its number is what the reader needs to hear.
        let versions: Versions = serde_json::from_slice(bytes).map_err(json_error)?;
        if versions.format != MANIFEST_FORMAT {
            return Err(BundleError::ManifestFormat { found: versions.format, known: MANIFEST_FORMAT });
        }
        Contract::check_version(versions.contract.contract_version)?;
        let manifest: Self = serde_json::from_slice(bytes).map_err(json_error)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest as bytes, the same for the same manifest.
    ///
    /// # Errors
    /// What [`Manifest::parse`] would return for these bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.validate()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| BundleError::ManifestJson { reason: error.to_string() })?;
        bytes.push(b'\n');
        if bytes.len() > MANIFEST_LENGTH_MAX {
            return Err(BundleError::ManifestLength { allowed: MANIFEST_LENGTH_MAX as u64, found: bytes.len() as u64 });
        }
        Ok(bytes)
    }

    /// The entry of `path`.
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Bytes that the files take on a disk, without the manifest.
    pub fn content_length(&self) -> u64 {
        // At most 4096 files of at most 8 GiB: no overflow.
        self.files.iter().map(|file| file.length).sum()
    }

    /// Where each file's content begins in the archive of a bundle whose manifest has this length, in the order of the files.
    pub fn content_offsets(&self, manifest_length: u32) -> impl Iterator<Item = u64> {
        ustar::content_offsets(core::iter::once(manifest_length.into()).chain(self.files.iter().map(|file| file.length))).skip(1)
    }

    pub(super) fn archive_length(&self, manifest_length: u64) -> u64 {
        ustar::archive_length(core::iter::once(manifest_length).chain(self.files.iter().map(|file| file.length)))
    }

    fn validate(&self) -> Result<(), BundleError> {
        if self.format != MANIFEST_FORMAT {
            return Err(BundleError::ManifestFormat { found: self.format, known: MANIFEST_FORMAT });
        }
        self.release.validate()?;
        let paths = self.check_files()?;
        self.check_members(&paths)?;
        if self.self_test.cases == 0 || self.self_test.cases > SELF_TEST_CASES_MAX {
            return Err(refuse("self_test.cases", format!("1 to {SELF_TEST_CASES_MAX}"), self.self_test.cases));
        }
        for (number, rxswin) in self.rxswin.iter().enumerate() {
            if rxswin.is_empty() || rxswin.len() > NAME_LENGTH_MAX || !rxswin.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                let expected = format!("1 to {NAME_LENGTH_MAX} printable ASCII characters");
                return Err(refuse(format!("rxswin[{number}]"), expected, format!("{rxswin:?}")));
            }
        }
        self.contract.validate()
    }

    fn check_files(&self) -> Result<BTreeSet<&str>, BundleError> {
        if self.files.is_empty() || self.files.len() > FILES_MAX {
            return Err(refuse("files", format!("1 to {FILES_MAX} entries"), self.files.len()));
        }
        let mut paths = BTreeSet::new();
        for (number, file) in self.files.iter().enumerate() {
            let field = || format!("files[{number}].path");
            if !is_path(&file.path) {
                let expected = format!("[a-z0-9._-] segments joined by `/`, at most {} bytes", ustar::PATH_LENGTH_MAX);
                return Err(refuse(field(), expected, format!("{:?}", file.path)));
            }
            if file.path == MANIFEST_PATH || !paths.insert(file.path.as_str()) {
                return Err(refuse(field(), "a path that no other member has", format!("{:?}", file.path)));
            }
            if file.length > ustar::FILE_LENGTH_MAX {
                return Err(refuse(format!("files[{number}].length"), format!("at most {}", ustar::FILE_LENGTH_MAX), file.length));
            }
        }
        // `a` and `a/b` cannot both be files in one folder.
        for path in &paths {
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(parent) = parents.into_iter().find(|parent| paths.contains(parent)) {
                return Err(refuse("files", format!("{parent:?} to be a file or a folder, not both"), format!("{path:?} below it")));
            }
        }
        Ok(paths)
    }

    fn check_members(&self, paths: &BTreeSet<&str>) -> Result<(), BundleError> {
        if self.notes.len() > LANGUAGES_MAX {
            return Err(refuse("notes", format!("at most {LANGUAGES_MAX} languages"), self.notes.len()));
        }
        if let Some(tag) = self.notes.keys().find(|tag| !is_language_tag(tag)) {
            return Err(refuse("notes", "BCP 47 language tags such as `en` or `zh-CN`", format!("{tag:?}")));
        }
        let fixed = [("model", &self.model), ("self_test.inputs", &self.self_test.inputs), ("self_test.outputs", &self.self_test.outputs)];
        let notes = self.notes.iter().map(|(tag, path)| (format!("notes[{tag}]"), path));
        let ml_bom = self.ml_bom.iter().map(|path| ("ml_bom".to_string(), path));
        let named = fixed.into_iter().map(|(field, path)| (field.to_string(), path)).chain(notes).chain(ml_bom);
        for (field, path) in named {
            if !paths.contains(path.as_str()) {
                return Err(refuse(field, "the path of a member in `files`", format!("{path:?}")));
            }
        }
        Ok(())
    }
}

impl Release {
    fn validate(&self) -> Result<(), BundleError> {
        let names = [("release.model", &self.model), ("release.version", &self.version), ("release.tier", &self.tier)];
        for (field, name) in names {
            check_name(field.to_string(), name)?;
        }
        if self.hardware_ids.is_empty() || self.hardware_ids.len() > HARDWARE_IDS_MAX {
            return Err(refuse("release.hardware_ids", format!("1 to {HARDWARE_IDS_MAX} entries"), self.hardware_ids.len()));
        }
        for (number, id) in self.hardware_ids.iter().enumerate() {
            let field = format!("release.hardware_ids[{number}]");
            check_name(field.clone(), id)?;
            if self.hardware_ids[..number].contains(id) {
                return Err(refuse(field, "an id that is listed once", format!("{id:?}")));
            }
        }
        // Canonical JSON and SQL integers are signed.
        if self.release_counter == 0 || i64::try_from(self.release_counter).is_err() {
            return Err(refuse("release.release_counter", format!("1 to {}", i64::MAX), self.release_counter));
        }
        Ok(())
    }

    /// Name of the release's targets, without their extension: `TIER/MODEL-VERSION`.
    pub fn target_stem(&self) -> String {
        format!("{}/{}-{}", self.tier, self.model, self.version)
    }
}

/// Enough of a manifest to say which versions it has.
#[derive(Deserialize)]
struct Versions {
    format: u32,
    contract: ContractVersion,
}

#[derive(Deserialize)]
struct ContractVersion {
    contract_version: u32,
}

/// Models, versions, tiers and hardware ids become parts of target paths and role names.
fn check_name(field: String, name: &str) -> Result<(), BundleError> {
    if is_segment(name) && name.len() <= NAME_LENGTH_MAX {
        return Ok(());
    }
    Err(refuse(field, format!("1 to {NAME_LENGTH_MAX} of [a-z0-9._-], the first a letter or digit"), format!("{name:?}")))
}

fn is_path(path: &str) -> bool {
    path.len() <= ustar::PATH_LENGTH_MAX && path.split('/').all(is_segment)
}

/// Begins with a letter or digit, so that `.`, `..` and hidden files cannot be spelled.
fn is_segment(segment: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    segment.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit()) && segment.bytes().all(legal)
}

/// The shape of a BCP 47 tag; which languages exist is not for us to say.
fn is_language_tag(tag: &str) -> bool {
    tag.len() <= 35 && tag.split('-').all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn refuse(field: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> BundleError {
    BundleError::Manifest { field: field.into(), expected: expected.into(), found: found.to_string() }
}
