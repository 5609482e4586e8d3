//! The key under which one bundle is encrypted, and the file that it travels in.

use alloc::{format, string::String};
use core::fmt;

use zeroize::Zeroizing;

use super::error::BundleError;
use crate::{
    keys::encoding::{from_base64url, to_base64url},
    metadata::json::{self, Json},
};

/// Longest file of a content key, bytes. Ours have 78; members that others add have room.
pub const CONTENT_KEY_FILE_MAX: usize = 4 << 10;

/// The AES-256 key of one bundle, and of no other: chunk numbers are the nonces, so that a second bundle under the same key would repeat
/// them, and whoever has both could read and forge either. It is 32 bytes from the caller's source of randomness, made anew for each bundle.
///
/// It shows itself nowhere but in [`ContentKey::as_bytes`] and [`ContentKey::to_jwk`], and is overwritten when it is dropped.
/// Comparing two is for their holder: it takes more or less time.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey(Zeroizing<[u8; 32]>);

impl ContentKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one delta of the bundle: by HKDF-SHA256 (RFC 5869) from this key and the delta's random salt. The delta's chunks have the same
    /// numbers as the bundle's, and so the same nonces, which must never meet under one key.
    #[cfg(feature = "std")]
    pub(super) fn of_delta(&self, salt: &[u8; 32]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "RFC 5869 section 2.3: up to 255 times 32 bytes can be derived")]
        hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), self.as_bytes())
            .expand(b"switchback delta", key.as_mut_slice())
            .expect("32 bytes can be derived");
        Self(key)
    }

    /// Reads a JSON Web Key (RFC 7517) with a symmetric key (RFC 7518, section 6.4): `{"kty":"oct","alg":"A256GCM","k":...}`. Members
    /// that are not known are passed over, as RFC 7517 demands.
    ///
    /// # Errors
    /// `ContentKeyMalformed`: not strict JSON, another kind of key, another algorithm, or not 32 bytes in the one spelling of base64url.
    pub fn from_jwk(bytes: &[u8]) -> Result<Self, BundleError> {
        let refuse = |reason| BundleError::ContentKeyMalformed { reason };
        let Ok(Json::Object(mut members)) = json::parse(bytes, CONTENT_KEY_FILE_MAX) else {
            return Err(refuse("the file is not a strict JSON object of at most 4 KiB"));
        };
        // Taken out first, so that it is overwritten whatever the rest says.
        let key = match members.remove("k") {
            Some(Json::String(text)) => Some(Zeroizing::new(text)),
            _ => None,
        };
        let is = |name: &str, value: &str| members.get(name).and_then(Json::as_str) == Some(value);
        if !is("kty", "oct") {
            return Err(refuse("\"kty\" is not \"oct\""));
        }
        if !is("alg", "A256GCM") {
            return Err(refuse("\"alg\" is not \"A256GCM\""));
        }
        let key = key.ok_or(refuse("\"k\" is not a string"))?;
        let bytes = from_base64url(&key).map(Zeroizing::new).ok_or(refuse("\"k\" is not base64url without padding"))?;
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| refuse("\"k\" is not 32 bytes"))?);
        Ok(Self(bytes))
    }

    /// The key as a JSON Web Key: one line, ready for a file that nobody else may read.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(to_base64url(self.as_bytes()));
        Zeroizing::new(format!("{{\"kty\":\"oct\",\"alg\":\"A256GCM\",\"k\":\"{}\"}}\n", key.as_str()))
    }
}

/// Says that there is one, and nothing of it.
impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::string::ToString;

    use super::*;

    /// The key that RFC 7518 has no example of in this size: 0, 1, 2, ... 31.
    const JWK: &str = "{\"kty\":\"oct\",\"alg\":\"A256GCM\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}\n";

    fn key() -> ContentKey {
        ContentKey::from_bytes(core::array::from_fn(|at| at as u8))
    }

    #[test]
    fn a_content_key_survives_its_file() {
        assert_eq!(key().to_jwk().as_str(), JWK);
        assert_eq!(ContentKey::from_jwk(JWK.as_bytes()).unwrap(), key());
        let with_more = JWK.replace("{", "{\n \"kid\": \"vla-3\", \"use\": \"enc\", ");
        assert_eq!(ContentKey::from_jwk(with_more.as_bytes()).unwrap(), key());
    }

    #[test]
    fn a_content_key_does_not_show_itself() {
        assert_eq!(format!("{:?} {:?}", key(), Some(key())), "ContentKey(secret) Some(ContentKey(secret))");
    }

    #[test]
    fn a_file_that_is_no_content_key_is_refused_without_a_word_of_it() {
        let refused = |text: &str, reason: &str| {
            let error = ContentKey::from_jwk(text.as_bytes()).unwrap_err();
            let rest = r#"it is a JSON Web Key with "kty": "oct", "alg": "A256GCM" and 32 bytes as "k""#;
            assert_eq!((error.number(), error.to_string()), (260, format!("not a content key: {reason}; {rest}")));
        };
        let no_object = "the file is not a strict JSON object of at most 4 KiB";
        refused("", no_object);
        refused("[]", no_object);
        refused(&JWK.replace("}", ",\"k\":\"\"}"), no_object);
        refused(&JWK.replace("}", &format!("{}}}", " ".repeat(CONTENT_KEY_FILE_MAX))), no_object);
        refused(&JWK.replace("oct", "OKP"), r#""kty" is not "oct""#);
        refused(&JWK.replace("A256GCM", "A256GCMKW"), r#""alg" is not "A256GCM""#);
        refused(&JWK.replace("\"k\"", "\"K\""), r#""k" is not a string"#);
        refused(&JWK.replace("Hh8", "Hh8="), r#""k" is not base64url without padding"#);
        // The same bytes, with bits set behind the last one.
        refused(&JWK.replace("Hh8", "Hh9"), r#""k" is not base64url without padding"#);
        refused(&JWK.replace("Hh8", "Hh/8"), r#""k" is not base64url without padding"#);
        refused(&JWK.replace("AAEC", ""), r#""k" is not 32 bytes"#);
        refused(&JWK.replace("AAEC", "AAECAAEC"), r#""k" is not 32 bytes"#);
    }
}
