use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

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
    /// Unknown fields; they must match as well.
    pub extra: BTreeMap<String, Json>,
}

/// The bundle that belongs to a chunk index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRef {
    /// Target path of the bundle, such as `ultra/vla-2-2.0.0.tar.zst`.
    pub path: String,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256 of the whole bundle.
    pub sha256: Sha256Digest,
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
        Ok(Self {
            release_counter: fields.unsigned("releaseCounter")?,
            hardware_ids: fields.parsed_list("hardwareIds", "a list of hardware ids")?,
            tier: fields.parsed("tier", "the name of a tier")?,
            regions: fields.parsed_list("regions", "a list of regions")?,
            contract_version: contract_version.map_err(|_| wrong(&contract_place, "an integer of 32 bits"))?,
            sdk_min: fields.parsed("sdkMin", "a version such as 0.1.0")?,
            onnxruntime_min: fields.parsed("onnxruntimeMin", "a version such as 1.23")?,
            model: fields.string("model")?,
            version: fields.string("version")?,
            bundle: BundleRef { path: bundle.string("path")?, length: bundle.unsigned("length")?, sha256: bundle.digest("sha256")? },
            extra: fields.rest(),
        })
    }

    /// Writes the block.
    pub fn to_json(&self) -> Json {
        let bundle = Json::object([
            ("path", Json::string(&self.bundle.path)),
            ("length", integer(self.bundle.length)),
            ("sha256", Json::String(self.bundle.sha256.to_hex())),
        ]);
        ObjectWriter::new(&self.extra)
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
