use alloc::{collections::BTreeMap, string::String};

use super::{KeyId, P256PublicKey, PublicKey, RsaPublicKey, Sha256Digest, encoding::array_from_hex};
use crate::metadata::{
    MetadataError,
    json::{Json, canonical},
    object::Fields,
};

const ED25519: &str = "ed25519";
const ECDSA: &str = "ecdsa";
const ECDSA_P256: &str = "ecdsa-sha2-nistp256";
const RSA: &str = "rsa";
const RSA_PSS: &str = "rsassa-pss-sha256";

/// A key as metadata lists it (TUF specification, section 4.2): type, scheme, value.
///
/// A key of an unknown type or scheme is kept, because it is signed over, and has no [`KeyObject::public_key`]: it can never count
/// towards a threshold, and it does not make the file unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyObject {
    json: Json,
    public_key: Option<PublicKey>,
}

impl KeyObject {
    /// Reads a key object.
    ///
    /// # Errors
    /// [`MetadataError`] when type, scheme or value are missing or not of the right kind.
    pub fn from_json(json: Json, place: &str) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json.clone(), place)?;
        let (keytype, scheme) = (fields.string("keytype")?, fields.string("scheme")?);
        let mut keyval = fields.fields("keyval")?;
        let public = keyval.string("public")?;
        let public_key = match (keytype.as_str(), scheme.as_str()) {
            (ED25519, ED25519) => array_from_hex(&public).and_then(|bytes| PublicKey::ed25519(bytes).ok()),
            // The scheme's name stood for the type as well until version 1.0.32 of the specification.
            (ECDSA | ECDSA_P256, ECDSA_P256) => P256PublicKey::from_pem(&public).map(PublicKey::P256),
            (RSA, RSA_PSS) => RsaPublicKey::from_pem(&public).map(PublicKey::RsaPss),
            _ => None,
        };
        Ok(Self { json, public_key })
    }

    /// The object as it stands in metadata.
    pub fn to_json(&self) -> &Json {
        &self.json
    }

    /// The key to verify with; nothing when the type, the scheme or the value is not acceptable here.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    pub(super) fn computed_id(&self) -> KeyId {
        KeyId::new(Sha256Digest::of(&canonical(&self.json)).to_hex())
    }
}

impl From<&PublicKey> for KeyObject {
    fn from(key: &PublicKey) -> Self {
        let (keytype, public) = match key {
            PublicKey::Ed25519(key) => (ED25519, super::to_hex(key.0.as_bytes())),
            PublicKey::P256(key) => (ECDSA, key.to_pem()),
            PublicKey::RsaPss(key) => (RSA, key.to_pem()),
        };
        let text = |text: &str| Json::String(String::from(text));
        let keyval = BTreeMap::from([(String::from("public"), Json::String(public))]);
        let object = BTreeMap::from([
            (String::from("keytype"), text(keytype)),
            (String::from("scheme"), text(key.scheme())),
            (String::from("keyval"), Json::Object(keyval)),
        ]);
        Self { json: Json::Object(object), public_key: Some(key.clone()) }
    }
}
