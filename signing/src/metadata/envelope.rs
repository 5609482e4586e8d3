//! The envelope around everything that is signed: `{"signatures": [...], "signed": {...}}`.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};

use super::{
    MetadataError, aktualizr,
    json::{self, Json, canonical},
    normal,
    object::{Fields, ObjectWriter, wrong},
};
use crate::{
    keys::{KeyId, PublicKey, Signature, SignatureError, Signer, SignerError, encoding::from_hex},
    time::UnixTime,
};

/// Version of the TUF specification that we write.
pub const SPEC_VERSION: &str = "1.0.31";

/// Something that can be signed: a role's metadata, a vehicle's report.
pub trait Document: Sized {
    /// Value of the `_type` field.
    const TYPE: &'static str;

    /// Reads the `signed` object; its `_type` has been checked.
    ///
    /// # Errors
    /// [`MetadataError`] naming the first field that is missing or wrong.
    fn from_json(signed: Json) -> Result<Self, MetadataError>;

    /// Writes the `signed` object without `_type`.
    fn to_json(&self) -> Json;
}

/// The metadata of one of the four TUF roles.
pub trait Role: Document {
    /// Version of this metadata, from 1 on.
    fn version(&self) -> u64;

    /// When this metadata expires.
    fn expires(&self) -> UnixTime;
}

/// A document and its signatures, read but not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is signed.
    pub signed: T,
    /// The signatures, in the order of the file.
    pub signatures: Vec<SignatureEntry>,
    message: Vec<u8>,
}

/// One entry of `signatures`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureEntry {
    /// Which key is said to have signed.
    pub key_id: KeyId,
    /// The signature as text. What is not hexadecimal verifies under no key, and does not make the file unreadable.
    pub signature: String,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

impl<T: Document> Signed<T> {
    /// Reads an envelope of at most `length_max` bytes.
    ///
    /// # Errors
    /// [`MetadataError`] when the bytes are not strict JSON, hold another type of document, lack a field, or carry two signatures
    /// under one key id (TUF specification, section 4.2: "one signature per key id").
    pub fn parse(bytes: &[u8], length_max: usize) -> Result<Self, MetadataError> {
        Self::from_envelope(json::parse(bytes, length_max)?)
    }

    /// Reads an envelope that stands inside another document.
    ///
    /// # Errors
    /// As [`Signed::parse`].
    pub fn from_envelope(envelope: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(envelope, "file")?;
        let (mut signatures, mut signed) = (fields.array("signatures")?, fields.required("signed")?);
        let message = aktualizr::translate(&mut signed, &mut signatures).unwrap_or_else(|| canonical(&signed));
        let signatures = read_signatures(signatures)?;
        let mut typed = Fields::new(signed, "signed")?;
        let found = typed.string("_type")?;
        if found != T::TYPE {
            return Err(MetadataError::WrongType { expected: T::TYPE, found });
        }
        let signed = T::from_json(Json::Object(typed.rest()))?;
        Ok(Self { signed, signatures, message })
    }

    /// The bytes that the signatures cover: the canonical form of `signed` as it was received.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Verifies one signature.
    ///
    /// # Errors
    /// [`SignatureError`] when there is no signature under `key_id`, or it does not verify under `key`.
    pub fn verify(&self, key_id: &KeyId, key: &PublicKey) -> Result<(), SignatureError> {
        let entry = self.signatures.iter().find(|entry| entry.key_id == *key_id).ok_or(SignatureError)?;
        key.verify(&self.message, &from_hex(&entry.signature).ok_or(SignatureError)?)
    }
}

/// Signs a document with every signer and returns the bytes of the file.
///
/// # Errors
/// [`SignerError`] of the first signer that could not sign.
pub fn sign<T: Document>(document: &T, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignerError> {
    Ok(json::to_bytes(&sign_envelope(document, signers)?))
}

/// Signs a document, for use inside another document.
///
/// # Errors
/// As [`sign`].
pub fn sign_envelope<T: Document>(document: &T, signers: &[&dyn Signer]) -> Result<Json, SignerError> {
    let signed = normal::normalize(typed_json(document));
    let message = canonical(&signed);
    let entries = signers.iter().map(|signer| signature_entry(*signer, &message)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json::object([("signatures", Json::Array(entries)), ("signed", signed)]))
}

/// Adds a signature to a file that others may have signed; a signature that the key already made is replaced. The signed part stays
/// as it is.
///
/// # Errors
/// [`AddSignatureError`] when the bytes are no envelope or the signer cannot sign.
pub fn add_signature(bytes: &[u8], length_max: usize, signer: &dyn Signer) -> Result<Vec<u8>, AddSignatureError> {
    let mut fields = Fields::new(json::parse(bytes, length_max).map_err(MetadataError::from)?, "file")?;
    let mut entries = fields.array("signatures")?;
    read_signatures(entries.clone())?;
    let signed = fields.required("signed")?;
    let key_id = signer.key_id();
    entries.retain(|entry| entry.member("keyid").and_then(Json::as_str) != Some(key_id.as_str()));
    entries.push(signature_entry(signer, &canonical(&signed))?);
    let rest = ObjectWriter::new(&fields.rest());
    Ok(json::to_bytes(&rest.put("signatures", Json::Array(entries)).put("signed", signed).finish()))
}

/// Adds those signatures of `other`, a copy of the same file that somebody signed elsewhere, that `accept` lets pass and that are not
/// here yet.
///
/// # Errors
/// [`MergeError`] when one of the two is no envelope, or when they do not sign the same.
pub fn merge_signatures(
    bytes: &[u8],
    other: &[u8],
    length_max: usize,
    accept: impl Fn(&SignatureEntry) -> bool,
) -> Result<Vec<u8>, MergeError> {
    let read = |bytes| Fields::new(json::parse(bytes, length_max).map_err(MetadataError::from)?, "file");
    let (mut fields, mut other) = (read(bytes)?, read(other)?);
    let (signed, others) = (fields.required("signed")?, other.required("signed")?);
    if canonical(&signed) != canonical(&others) {
        return Err(MergeError::Differs);
    }
    let mut entries = fields.array("signatures")?;
    let here: BTreeSet<KeyId> = read_signatures(entries.clone())?.into_iter().map(|entry| entry.key_id).collect();
    let offered = other.array("signatures")?;
    let judged = read_signatures(offered.clone())?;
    let wanted = offered.into_iter().zip(&judged).filter(|(_, entry)| !here.contains(&entry.key_id) && accept(entry));
    entries.extend(wanted.map(|(json, _)| json));
    let rest = ObjectWriter::new(&fields.rest());
    Ok(json::to_bytes(&rest.put("signatures", Json::Array(entries)).put("signed", signed).finish()))
}

/// Why two copies of a file could not be brought together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The bytes are not a signed document.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// What is signed in the one is not what is signed in the other.
    #[error("the two files do not sign the same content")]
    Differs,
}

/// Why a signature could not be added to a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddSignatureError {
    /// The bytes are not a signed document.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The signer could not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

pub(crate) fn typed_json<T: Document>(document: &T) -> Json {
    let mut json = document.to_json();
    if let Json::Object(members) = &mut json {
        members.insert("_type".to_string(), Json::string(T::TYPE));
    }
    json
}

fn signature_entry(signer: &dyn Signer, message: &[u8]) -> Result<Json, SignerError> {
    let signature: Signature = signer.sign(message)?;
    let key_id = signer.key_id();
    Ok(Json::object([("keyid", Json::string(key_id.as_str())), ("sig", Json::String(signature.to_hex()))]))
}

fn read_signatures(entries: Vec<Json>) -> Result<Vec<SignatureEntry>, MetadataError> {
    let mut seen = BTreeSet::new();
    let mut signatures = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut fields = Fields::new(entry, "signatures[]")?;
        let (key_id, signature) = (KeyId::new(fields.string("keyid")?), fields.string("sig")?);
        if !seen.insert(key_id.clone()) {
            return Err(MetadataError::DuplicateSignature { key_id });
        }
        signatures.push(SignatureEntry { key_id, signature, extra: fields.rest() });
    }
    Ok(signatures)
}

/// Checks `spec_version`: we read every 1.x (TUF specification, section 4.3: a new major version may not be understood).
pub(super) fn check_spec_version(fields: &mut Fields) -> Result<(), MetadataError> {
    let place = fields.place_of("spec_version");
    let text = fields.string("spec_version")?;
    let known = text.split_once('.').is_some_and(|(major, minor)| major == "1" && !minor.is_empty());
    if known { Ok(()) } else { Err(wrong(&place, "a 1.x version of the TUF specification")) }
}
