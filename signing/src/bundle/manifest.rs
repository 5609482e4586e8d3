//! `manifest.json`, the bundle's first member: the list of its contents and the model's contract.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::contract::Contract;

/// The manifest format that this release of Switchback writes and reads.
pub const MANIFEST_FORMAT: u32 = 1;

/// Name of the manifest inside the bundle.
pub const MANIFEST_PATH: &str = "manifest.json";

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
    #[serde(default)]
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
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
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
