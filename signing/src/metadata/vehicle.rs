//! What a vehicle says about itself: enrollment, ECU reports and the vehicle version manifest.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Document, EcuSerial, HardwareId, MetadataError, Signed, VehicleId, Version,
    envelope::typed_json,
    json::{self, Json, canonical},
    object::{Fields, ObjectWriter, integer, wrong},
};
use crate::{
    keys::{KeyObject, PublicKey, Sha256Digest, Signer, SignerError, sealing::EncryptionKey},
    time::UnixTime,
};

/// Longest vehicle version manifest, bytes: room for some ten ECUs with their counters. The server reads no more from a vehicle.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// Longest enrollment request or answer, bytes.
pub const ENROLLMENT_BYTES_MAX: usize = 8 * 1024;

/// Most Secondaries of one vehicle: what an enrollment and a manifest have room for.
pub const SECONDARIES_MAX: usize = 10;

/// What a vehicle sends to the Director (Standard, 5.2.2: vehicle version manifest), signed by its Primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleVersionManifest {
    /// The vehicle.
    pub vehicle_id: VehicleId,
    /// Its Primary.
    pub primary_ecu_serial: EcuSerial,
    /// One report per ECU, each signed by that ECU: what [`sign_report`] returned.
    pub ecu_reports: Vec<Json>,
    /// Secondaries that gave no report when they were asked. The Standard knows no such list: its Director drops the manifest of a
    /// vehicle with one dead ECU, and never hears why nothing installs there.
    pub silent_ecus: Vec<SilentEcu>,
}

/// A Secondary that gave no report, by the Primary's word alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentEcu {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// What happened when it was asked.
    pub reason: Reason,
}

/// What one ECU says it runs (Standard, 5.2.2: ECU version report).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcuReport {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// The image it runs; nothing before its first installation.
    pub installed: Option<InstalledImage>,
    /// The attack that it detected since its last report, by the number and name of a [`crate::trust::TrustError`].
    pub attack_detected: Option<Reason>,
    /// Latest time it holds for true.
    pub time: UnixTime,
    /// Rises with every report; the Director refuses a report whose counter it has seen.
    pub counter: u64,
    /// What became of the update, and how the model drives.
    pub payload: ReportPayload,
}

/// An installed image, as the Director listed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledImage {
    /// Target path.
    pub path: String,
    /// Length, bytes.
    pub length: u64,
    /// SHA-256.
    pub sha256: Sha256Digest,
}

/// The part of an ECU report that is ours and not the Standard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPayload {
    /// The release that drives.
    pub release: Option<ReleaseRef>,
    /// The release that the update is about, while it is not the one that drives.
    pub candidate: Option<ReleaseRef>,
    /// How far the update has come.
    pub update: UpdateState,
    /// Why it was refused or rolled back.
    pub reason: Option<Reason>,
    /// Counters by name, such as `steps` or `deadline_misses`. Never positions or pictures.
    pub counters: BTreeMap<String, u64>,
    /// Of a Primary: the key to seal its content keys to. In every report, so that a vehicle that enrolled before it had one, or has lost it,
    /// need not enroll again.
    pub encryption_key: Option<EncryptionKey>,
}

/// A release by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRef {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: String,
    /// Its release counter.
    pub release_counter: u64,
}

/// Why something was refused or rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable number of the error.
    pub number: u32,
    /// Stable name of the error.
    pub name: String,
    /// What happened, for people.
    pub text: String,
}

/// How far an update has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateState {
    /// Nothing new.
    Idle,
    /// The Director assigned a release.
    Offered,
    /// The OEM's software agreed to it.
    Consented,
    /// Its chunks are on the way.
    Downloading,
    /// It is complete in the inactive slot.
    Staged,
    /// Its golden outputs were reproduced.
    SelfTested,
    /// It runs along without driving.
    Shadow,
    /// It waits for a moment at which it may take over.
    Armed,
    /// It drives, and the previous model is kept warm.
    Trial,
    /// It drives for good.
    Confirmed,
    /// It drove or was about to, and the previous model came back.
    RolledBack,
    /// It never came near driving.
    Refused,
}

/// What a vehicle sends once to become known to the Director.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentRequest {
    /// One-time token that the fleet operator issued for this vehicle.
    pub token: String,
    /// The vehicle.
    pub vehicle_id: VehicleId,
    /// Its Primary.
    pub ecu_serial: EcuSerial,
    /// The Primary's kind of computer.
    pub hardware_id: HardwareId,
    /// The key that the Primary signs its reports and requests with.
    pub public_key: PublicKey,
    /// Version of the vehicle library.
    pub sdk_version: Version,
    /// The vehicle's other ECUs, at most [`SECONDARIES_MAX`].
    pub secondaries: Vec<EnrolledSecondary>,
    /// The key to seal the Primary's content keys to; vehicles of before there were encrypted bundles have none.
    pub encryption_key: Option<EncryptionKey>,
}

/// One of the vehicle's other ECUs (Standard, 5.3.2.1: the inventory).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledSecondary {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// Its kind of computer.
    pub hardware_id: HardwareId,
    /// The key that it signs its reports with.
    pub public_key: PublicKey,
}

/// The Director's answer to an [`EnrollmentRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollmentResponse {
    /// The vehicle that is now known.
    pub vehicle_id: VehicleId,
}

/// Signs an ECU's report, for [`VehicleVersionManifest::ecu_reports`].
///
/// # Errors
/// [`SignerError`] when the ECU's key cannot sign.
pub fn sign_report(report: &EcuReport, key: &dyn Signer) -> Result<Json, SignerError> {
    sign_with_digest(report, key)
}

/// Signs a vehicle version manifest and returns the bytes to send.
///
/// # Errors
/// [`SignerError`] when the Primary's key cannot sign.
pub fn sign_manifest(manifest: &VehicleVersionManifest, key: &dyn Signer) -> Result<Vec<u8>, SignerError> {
    Ok(json::to_bytes(&sign_with_digest(manifest, key)?))
}

/// An envelope whose signature entry also names the method and the payload's digest (Standard, 5.2.2.1).
fn sign_with_digest<T: Document>(document: &T, key: &dyn Signer) -> Result<Json, SignerError> {
    let signed = typed_json(document);
    let message = canonical(&signed);
    let signature = Json::object([
        ("keyid", Json::string(key.key_id().as_str())),
        ("method", Json::string(key.public_key().scheme())),
        ("hash", Json::String(Sha256Digest::of(&message).to_hex())),
        ("hash_function", Json::string("sha256")),
        ("sig", Json::String(key.sign(&message)?.to_hex())),
    ]);
    Ok(Json::object([("signatures", Json::Array(Vec::from([signature]))), ("signed", signed)]))
}

impl VehicleVersionManifest {
    /// Reads a manifest without believing it; [`crate::trust::report::verify_manifest`] does the checks.
    ///
    /// # Errors
    /// [`MetadataError`] when the bytes are not a signed manifest of at most [`MANIFEST_BYTES_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Signed<Self>, MetadataError> {
        Signed::parse(bytes, MANIFEST_BYTES_MAX)
    }
}

impl Document for VehicleVersionManifest {
    const TYPE: &'static str = "vehicle_version_manifest";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        Ok(Self {
            vehicle_id: fields.parsed("vehicle_id", "a vehicle id")?,
            primary_ecu_serial: fields.parsed("primary_ecu_serial", "an ECU serial")?,
            ecu_reports: fields.array("ecu_version_reports")?,
            silent_ecus: read_list(&mut fields, "silent_ecus", SilentEcu::read)?,
        })
    }

    fn to_json(&self) -> Json {
        ObjectWriter::new(&BTreeMap::new())
            .put("vehicle_id", Json::string(self.vehicle_id.as_str()))
            .put("primary_ecu_serial", Json::string(self.primary_ecu_serial.as_str()))
            .put("ecu_version_reports", Json::Array(self.ecu_reports.clone()))
            .put_some("silent_ecus", write_list(&self.silent_ecus, SilentEcu::write))
            .finish()
    }
}

/// A list that is left out where it is empty: a vehicle of one ECU says what it always said.
fn read_list<T>(fields: &mut Fields, name: &str, read: impl Fn(Fields) -> Result<T, MetadataError>) -> Result<Vec<T>, MetadataError> {
    let place = format!("{}[]", fields.place_of(name));
    let items = fields.optional_array(name)?.unwrap_or_default();
    items.into_iter().map(|item| read(Fields::new(item, place.clone())?)).collect()
}

fn write_list<T>(items: &[T], write: impl Fn(&T) -> Json) -> Option<Json> {
    (!items.is_empty()).then(|| Json::Array(items.iter().map(write).collect()))
}

fn read_encryption_key(fields: &mut Fields) -> Result<Option<EncryptionKey>, MetadataError> {
    let place = fields.place_of("encryption_key");
    fields.optional("encryption_key").map(|json| EncryptionKey::from_json(json, &place)).transpose()
}

impl SilentEcu {
    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        Ok(Self { ecu_serial: fields.parsed("ecu_serial", "an ECU serial")?, reason: Reason::read(fields.fields("reason")?)? })
    }

    fn write(&self) -> Json {
        Json::object([("ecu_serial", Json::string(self.ecu_serial.as_str())), ("reason", self.reason.write())])
    }
}

impl Document for EcuReport {
    const TYPE: &'static str = "ecu_version_report";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        Ok(Self {
            ecu_serial: fields.parsed("ecu_serial", "an ECU serial")?,
            installed: fields.optional_fields("installed_image")?.map(InstalledImage::read).transpose()?,
            attack_detected: fields.optional_fields("attack_detected")?.map(Reason::read).transpose()?,
            time: fields.time("time")?,
            counter: fields.unsigned("counter")?,
            payload: ReportPayload::read(fields.fields("payload")?)?,
        })
    }

    fn to_json(&self) -> Json {
        ObjectWriter::new(&BTreeMap::new())
            .put("ecu_serial", Json::string(self.ecu_serial.as_str()))
            .put_some("installed_image", self.installed.as_ref().map(InstalledImage::write))
            .put_some("attack_detected", self.attack_detected.as_ref().map(Reason::write))
            .put("time", Json::String(self.time.to_string()))
            .put("counter", integer(self.counter))
            .put("payload", self.payload.write())
            .finish()
    }
}

impl InstalledImage {
    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        Ok(Self { path: fields.string("path")?, length: fields.unsigned("length")?, sha256: fields.fields("hashes")?.digest("sha256")? })
    }

    fn write(&self) -> Json {
        Json::object([
            ("path", Json::string(&self.path)),
            ("length", integer(self.length)),
            ("hashes", Json::object([("sha256", Json::String(self.sha256.to_hex()))])),
        ])
    }
}

impl ReportPayload {
    /// A vehicle that waits for its first update.
    pub fn idle() -> Self {
        let (release, candidate, update, reason) = (None, None, UpdateState::Idle, None);
        Self { release, candidate, update, reason, counters: BTreeMap::new(), encryption_key: None }
    }

    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        let counters = fields.fields("counters")?.entries().map(|(place, name, json)| match json {
            Json::Integer(value) if value >= 0 => Ok((name, value.unsigned_abs())),
            _ => Err(wrong(&place, "an integer from 0 on")),
        });
        Ok(Self {
            counters: counters.collect::<Result<_, _>>()?,
            release: fields.optional_fields("release")?.map(ReleaseRef::read).transpose()?,
            candidate: fields.optional_fields("candidate")?.map(ReleaseRef::read).transpose()?,
            update: fields.parsed("update", "the state of an update")?,
            reason: fields.optional_fields("reason")?.map(Reason::read).transpose()?,
            encryption_key: read_encryption_key(&mut fields)?,
        })
    }

    fn write(&self) -> Json {
        let counters = self.counters.iter().map(|(name, value)| (name.clone(), integer(*value))).collect();
        ObjectWriter::new(&BTreeMap::new())
            .put_some("release", self.release.as_ref().map(ReleaseRef::write))
            .put_some("candidate", self.candidate.as_ref().map(ReleaseRef::write))
            .put("update", Json::string(self.update.name()))
            .put_some("reason", self.reason.as_ref().map(Reason::write))
            .put("counters", Json::Object(counters))
            .put_some("encryption_key", self.encryption_key.map(EncryptionKey::to_json))
            .finish()
    }
}

impl ReleaseRef {
    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        Ok(Self {
            model: fields.string("model")?,
            version: fields.string("version")?,
            release_counter: fields.unsigned("release_counter")?,
        })
    }

    fn write(&self) -> Json {
        Json::object([
            ("model", Json::string(&self.model)),
            ("version", Json::string(&self.version)),
            ("release_counter", integer(self.release_counter)),
        ])
    }
}

impl Reason {
    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of("number");
        let number = u32::try_from(fields.unsigned("number")?).map_err(|_| wrong(&place, "an integer of 32 bits"))?;
        Ok(Self { number, name: fields.string("name")?, text: fields.string("text")? })
    }

    fn write(&self) -> Json {
        Json::object([("number", integer(self.number.into())), ("name", Json::string(&self.name)), ("text", Json::string(&self.text))])
    }
}

impl UpdateState {
    const NAMES: [(Self, &'static str); 12] = [
        (Self::Idle, "idle"),
        (Self::Offered, "offered"),
        (Self::Consented, "consented"),
        (Self::Downloading, "downloading"),
        (Self::Staged, "staged"),
        (Self::SelfTested, "self_tested"),
        (Self::Shadow, "shadow"),
        (Self::Armed, "armed"),
        (Self::Trial, "trial"),
        (Self::Confirmed, "confirmed"),
        (Self::RolledBack, "rolled_back"),
        (Self::Refused, "refused"),
    ];

    /// The state's name in reports.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }
}

impl core::str::FromStr for UpdateState {
    type Err = MetadataError;

    fn from_str(text: &str) -> Result<Self, MetadataError> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(state, _)| *state).ok_or_else(|| wrong("update", "the state of an update"))
    }
}

impl EnrollmentRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first field that is missing or wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json::parse(bytes, ENROLLMENT_BYTES_MAX)?, "request")?;
        let secondaries = read_list(&mut fields, "secondaries", EnrolledSecondary::read)?;
        if secondaries.len() > SECONDARIES_MAX {
            return Err(wrong(&fields.place_of("secondaries"), "a list of at most 10 ECUs"));
        }
        // The Primary is read like one of them.
        let EnrolledSecondary { ecu_serial, hardware_id, public_key } = EnrolledSecondary::take(&mut fields)?;
        let mut serials: BTreeSet<_> = secondaries.iter().map(|secondary| &secondary.ecu_serial).collect();
        if !serials.insert(&ecu_serial) || serials.len() <= secondaries.len() {
            return Err(wrong(&fields.place_of("secondaries"), "a list of ECUs with serials of their own"));
        }
        Ok(Self {
            token: fields.string("token")?,
            vehicle_id: fields.parsed("vehicle_id", "a vehicle id")?,
            ecu_serial,
            hardware_id,
            public_key,
            sdk_version: fields.parsed("sdk_version", "a version such as 0.1.0")?,
            secondaries,
            encryption_key: read_encryption_key(&mut fields)?,
        })
    }

    /// Writes the request's body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let request = ObjectWriter::new(&BTreeMap::new())
            .put("token", Json::string(&self.token))
            .put("vehicle_id", Json::string(self.vehicle_id.as_str()))
            .put("ecu_serial", Json::string(self.ecu_serial.as_str()))
            .put("hardware_id", Json::string(self.hardware_id.as_str()))
            .put("public_key", KeyObject::from(&self.public_key).to_json().clone())
            .put("sdk_version", Json::String(self.sdk_version.to_string()))
            .put_some("secondaries", write_list(&self.secondaries, EnrolledSecondary::write))
            .put_some("encryption_key", self.encryption_key.map(EncryptionKey::to_json));
        json::to_bytes(&request.finish())
    }
}

impl EnrolledSecondary {
    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        Self::take(&mut fields)
    }

    fn take(fields: &mut Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of("public_key");
        let key = KeyObject::from_json(fields.required("public_key")?, &place)?;
        Ok(Self {
            ecu_serial: fields.parsed("ecu_serial", "an ECU serial")?,
            hardware_id: fields.parsed("hardware_id", "a hardware id")?,
            public_key: key.public_key().cloned().ok_or_else(|| wrong(&place, "an acceptable ed25519 public key"))?,
        })
    }

    fn write(&self) -> Json {
        Json::object([
            ("ecu_serial", Json::string(self.ecu_serial.as_str())),
            ("hardware_id", Json::string(self.hardware_id.as_str())),
            ("public_key", KeyObject::from(&self.public_key).to_json().clone()),
        ])
    }
}

/// Without the token, which is a secret until it is used.
impl core::fmt::Debug for EnrollmentRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EnrollmentRequest")
            .field("vehicle_id", &self.vehicle_id)
            .field("ecu_serial", &self.ecu_serial)
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

impl EnrollmentResponse {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first field that is missing or wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json::parse(bytes, ENROLLMENT_BYTES_MAX)?, "answer")?;
        Ok(Self { vehicle_id: fields.parsed("vehicle_id", "a vehicle id")? })
    }

    /// Writes the answer's body.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(&Json::object([("vehicle_id", Json::string(self.vehicle_id.as_str()))]))
    }
}
