//! Key files: the TUF key object as JSON, with the secret half in a secret key's file.
//!
//! ```json
//! {"keytype":"ed25519","keyval":{"private":"<64 hex>","public":"<64 hex>"},"scheme":"ed25519"}
//! ```
//! The layout is that of securesystemslib, so that TUF tools can read the files. The caller keeps a secret file readable by its owner
//! only.

use alloc::{string::String, vec::Vec};

use thiserror::Error;

use super::{
    Ed25519Signer, KeyObject, PublicKey, Signer,
    encoding::{array_from_hex, to_hex},
};
use crate::metadata::{
    MetadataError,
    json::{self, Json},
};

/// Longest key file, bytes: some 250 for Ed25519, under 4 KiB for RSA.
pub const KEY_FILE_BYTES_MAX: usize = 16 * 1024;

/// A file that does not hold the key it should.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Not a key object.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Type, scheme or public value is not one that we use.
    #[error("the file holds no key of a scheme that is used here")]
    UnknownKey,
    /// A public key's file where a secret key was expected.
    #[error("the file holds no secret half (keyval.private, 64 hexadecimal digits)")]
    NoSecret,
    /// Secret and public half are not of one pair.
    #[error("the secret half does not belong to the public half {public}")]
    Mismatch {
        /// The public half, hexadecimal.
        public: String,
    },
}

/// Reads a secret key's file.
///
/// # Errors
/// [`KeyFileError`] when it holds no secret key or the halves do not belong together.
pub fn parse_secret(bytes: &[u8]) -> Result<Ed25519Signer, KeyFileError> {
    let json = json::parse(bytes, KEY_FILE_BYTES_MAX).map_err(MetadataError::from)?;
    let public = public_key(json.clone())?;
    let secret = json.member("keyval").and_then(|keyval| keyval.member("private")).and_then(Json::as_str);
    let seed = secret.and_then(array_from_hex).ok_or(KeyFileError::NoSecret)?;
    let signer = Ed25519Signer::from_seed(seed);
    if signer.public_key() != public {
        return Err(KeyFileError::Mismatch { public: to_hex(public.as_bytes()) });
    }
    Ok(signer)
}

/// Reads the public half from a public or a secret key's file.
///
/// # Errors
/// [`KeyFileError`] when it holds no key that we use.
pub fn parse_public(bytes: &[u8]) -> Result<PublicKey, KeyFileError> {
    public_key(json::parse(bytes, KEY_FILE_BYTES_MAX).map_err(MetadataError::from)?)
}

/// Writes a secret key's file.
pub fn secret_to_bytes(signer: &Ed25519Signer) -> Vec<u8> {
    let mut object = KeyObject::from(&signer.public_key()).to_json().clone();
    if let Json::Object(members) = &mut object
        && let Some(Json::Object(keyval)) = members.get_mut("keyval")
    {
        keyval.insert(String::from("private"), Json::String(to_hex(signer.seed())));
    }
    json::to_bytes(&object)
}

/// Writes a public key's file.
pub fn public_to_bytes(key: &PublicKey) -> Vec<u8> {
    json::to_bytes(KeyObject::from(key).to_json())
}

fn public_key(json: Json) -> Result<PublicKey, KeyFileError> {
    KeyObject::from_json(json, "file")?.public_key().cloned().ok_or(KeyFileError::UnknownKey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_key_survives_a_round_trip_through_its_file() {
        let signer = Ed25519Signer::from_seed([3; 32]);
        let bytes = secret_to_bytes(&signer);
        assert_eq!(parse_secret(&bytes).unwrap().public_key(), signer.public_key());
        assert_eq!(parse_public(&bytes).unwrap(), signer.public_key());
        assert_eq!(parse_public(&public_to_bytes(&signer.public_key())).unwrap(), signer.public_key());
    }

    #[test]
    fn a_file_without_the_right_key_is_refused() {
        let (one, other) = (Ed25519Signer::from_seed([3; 32]), Ed25519Signer::from_seed([4; 32]));
        let public = public_to_bytes(&one.public_key());
        let check = |bytes: &[u8], expected: &str| assert_eq!(parse_secret(bytes).unwrap_err().to_string(), expected);
        check(&public, "the file holds no secret half (keyval.private, 64 hexadecimal digits)");
        let (secret, public) = (secret_to_bytes(&one), to_hex(one.public_key().as_bytes()));
        let secret = String::from_utf8(secret).unwrap();
        check(
            secret.replace(&to_hex(one.seed()), &to_hex(other.seed())).as_bytes(),
            &alloc::format!("the secret half does not belong to the public half {public}"),
        );
        check(secret.replace("ed25519", "ed448").as_bytes(), "the file holds no key of a scheme that is used here");
        check(b"{}", "file.keytype is missing");
    }
}
