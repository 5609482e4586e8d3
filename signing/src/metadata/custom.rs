use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use thiserror::Error;

use super::{
    HardwareId, MetadataError, Region, Tier, Version,
    json::Json,
    object::{Fields, ObjectWriter, integer, strings, wrong},
};
use crate::keys::Sha256Digest;

/// What Director and Image repository must say alike about a release (the Standard's custom metadata that "SHALL match", 5.2.3.1).
///
/// It is signed offline in the Image repository; a Director whose online keys were stolen cannot offer the release to hardware, a
/// tier or a region that the release engineers did not mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// Rises with every release to a tier; a vehicle never installs below the counter of its confirmed release.
    pub release_counter: u64,
    /// Driving computers that may run the release.
    pub hardware_ids: Vec<HardwareId>,
    /// Tier of the vehicles.
    pub tier: Tier,
    /// Regions of the vehicles; empty means all.
    pub regions: Vec<Region>,
    /// Version of the model contract.
    pub contract_version: u32,
    /// Smallest version of the vehicle library.
    pub sdk_min: Version,
    /// Smallest version of ONNX Runtime.
    pub onnxruntime_min: Version,
    /// Name of the model, such as `vla-2`.
    pub model: String,
    /// Version of the model, such as `2.0.0`; shown to people, never compared.
    pub version: String,
    /// The bundle whose chunks the index lists.
    pub bundle: BundleRef,
    /// What the vehicle's other ECUs must run beside it (Standard, 5.3.2.1: dependencies of images): at most one image for each
    /// hardware id. Those that a vehicle does not have do not count for it.
    pub companions: Vec<Companion>,
    /// Unknown fields; they must match as well.
    pub extra: BTreeMap<String, Json>,
}

/// The image that a Secondary of this hardware must run beside a release: model 2 with calibration 2, and with no other.
///
/// The release engineers sign which images belong together; the Director has no say in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// The Secondaries that it is for.
    pub hardware_id: HardwareId,
    /// Target path of the image, listed by the same role as the release.
    pub path: String,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256 of the image.
    pub sha256: Sha256Digest,
    /// Release counter of the image, as its own block says it.
    pub release_counter: u64,
}

/// What Director and Image repository must say alike about any image: the part of the block that the Standard recommends. All of it
/// for a Secondary's image; a release says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcuImage {
    /// Never falls in an ECU.
    pub release_counter: u64,
    /// ECUs that may run the image.
    pub hardware_ids: Vec<HardwareId>,
}

/// The bundle that belongs to a chunk index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRef {
    /// Target path of the bundle, such as `ultra/vla-2-2.0.0.tar.zst`.
    pub path: String,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256 of the whole bundle, as it is stored: of the encrypted bytes where it is encrypted.
    pub sha256: Sha256Digest,
    /// How the bundle is encrypted (the Standard asks for filename, length and hashes of the encrypted image, and for the method);
    /// none for a bundle that anybody may read. Which key opens it is the Director's to say, vehicle by vehicle.
    pub encryption: Option<EncryptionMethod>,
}

/// How a bundle is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptionMethod {
    /// Each chunk for itself by AES-256-GCM under the bundle's content key, its number as the nonce (`docs/adr/0012`).
    Aes256GcmChunks,
}

impl EncryptionMethod {
    /// Name in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256GcmChunks => "A256GCM-chunks",
        }
    }
}

impl fmt::Display for EncryptionMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A method that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not `A256GCM-chunks`, the one method of encryption that this release knows")]
pub struct EncryptionMethodError;

impl FromStr for EncryptionMethod {
    type Err = EncryptionMethodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Aes256GcmChunks].into_iter().find(|method| method.as_str() == text).ok_or(EncryptionMethodError)
    }
}

impl Custom {
    /// Reads the block.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first field that is missing or wrong.
    pub fn from_json(json: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, "custom.shallMatch")?;
        let contract_place = fields.place_of("contractVersion");
        let contract_version = u32::try_from(fields.positive("contractVersion")?);
        let mut bundle = fields.fields("bundle")?;
        let companions = Companion::read_list(&mut fields)?;
        Ok(Self {
            companions,
            release_counter: fields.unsigned("releaseCounter")?,
            hardware_ids: fields.parsed_list("hardwareIds", "a list of hardware ids")?,
            tier: fields.parsed("tier", "the name of a tier")?,
            regions: fields.parsed_list("regions", "a list of regions")?,
            contract_version: contract_version.map_err(|_| wrong(&contract_place, "an integer of 32 bits"))?,
            sdk_min: fields.parsed("sdkMin", "a version such as 0.1.0")?,
            onnxruntime_min: fields.parsed("onnxruntimeMin", "a version such as 1.23")?,
            model: fields.string("model")?,
            version: fields.string("version")?,
            bundle: BundleRef {
                path: bundle.string("path")?,
                length: bundle.unsigned("length")?,
                sha256: bundle.digest("sha256")?,
                encryption: bundle.optional_parsed("encryption", "A256GCM-chunks, the one method of encryption that this release knows")?,
            },
            extra: fields.rest(),
        })
    }

    /// Writes the block.
    pub fn to_json(&self) -> Json {
        let bundle = ObjectWriter::default()
            .put("path", Json::string(&self.bundle.path))
            .put("length", integer(self.bundle.length))
            .put("sha256", Json::String(self.bundle.sha256.to_hex()))
            .put_some("encryption", self.bundle.encryption.map(|method| Json::string(method.as_str())))
            .finish();
        // Left out where there are none, as in every block that was signed before there were any.
        let companions = self.companions.iter().map(Companion::write).collect::<Vec<_>>();
        ObjectWriter::new(&self.extra)
            .put_some("companions", (!companions.is_empty()).then_some(Json::Array(companions)))
            .put("releaseCounter", integer(self.release_counter))
            .put("hardwareIds", strings(&self.hardware_ids))
            .put("tier", Json::string(self.tier.as_str()))
            .put("regions", strings(&self.regions))
            .put("contractVersion", integer(self.contract_version.into()))
            .put("sdkMin", Json::String(self.sdk_min.to_string()))
            .put("onnxruntimeMin", Json::String(self.onnxruntime_min.to_string()))
            .put("model", Json::string(&self.model))
            .put("version", Json::string(&self.version))
            .put("bundle", bundle)
            .finish()
    }

    /// How people name the release, such as `vla-2 2.0.0 (ultra)`.
    pub fn title(&self) -> String {
        format!("{} {} ({})", self.model, self.version, self.tier)
    }
}

impl Companion {
    fn read_list(fields: &mut Fields) -> Result<Vec<Self>, MetadataError> {
        let place = fields.place_of("companions");
        let list = fields.optional_array("companions")?.unwrap_or_default();
        let list = list.into_iter().map(|json| Self::read(Fields::new(json, format!("{place}[]"))?));
        let list = list.collect::<Result<Vec<_>, _>>()?;
        // Two for one hardware id could not both be run.
        let hardware_ids: BTreeSet<_> = list.iter().map(|companion| &companion.hardware_id).collect();
        if hardware_ids.len() < list.len() { Err(wrong(&place, "a list with one image for each hardware id")) } else { Ok(list) }
    }

    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        Ok(Self {
            hardware_id: fields.parsed("hardwareId", "a hardware id")?,
            path: fields.string("path")?,
            length: fields.unsigned("length")?,
            sha256: fields.digest("sha256")?,
            release_counter: fields.unsigned("releaseCounter")?,
        })
    }

    fn write(&self) -> Json {
        Json::object([
            ("hardwareId", Json::string(self.hardware_id.as_str())),
            ("path", Json::string(&self.path)),
            ("length", integer(self.length)),
            ("sha256", Json::String(self.sha256.to_hex())),
            ("releaseCounter", integer(self.release_counter)),
        ])
    }
}

impl EcuImage {
    /// Reads what every block has, and leaves aside what a release says on top.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first field that is missing or wrong.
    pub fn from_json(json: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, "custom.shallMatch")?;
        Ok(Self {
            release_counter: fields.unsigned("releaseCounter")?,
            hardware_ids: fields.parsed_list("hardwareIds", "a list of hardware ids")?,
        })
    }

    /// Writes the block of a Secondary's image.
    pub fn to_json(&self) -> Json {
        Json::object([("releaseCounter", integer(self.release_counter)), ("hardwareIds", strings(&self.hardware_ids))])
    }
}
