//! Keys, signatures and digests.
//!
//! Ed25519 is always there. ECDSA on P-256 joins with the feature `p256`, RSA-PSS (verification only) with the feature `rsa`; a vehicle
//! whose repositories use neither carries neither. People's key files ([`pem`]) come with the feature `pkcs8`. Randomness is the caller's: a
//! key is made from a seed.
//!
//! ```
//! use switchback_signing::keys::{Ed25519Signer, Signer};
//! let signer = Ed25519Signer::from_seed([7; 32]);
//! let signature = signer.sign(b"message")?;
//! assert!(signer.public_key().verify(b"message", signature.as_bytes()).is_ok());
//! assert!(signer.public_key().verify(b"another", signature.as_bytes()).is_err());
//! # Ok::<(), switchback_signing::keys::SignerError>(())
//! ```

#[cfg(not(all(feature = "p256", feature = "rsa")))]
mod absent;
pub(crate) mod encoding;
pub mod file;
pub mod http;
mod object;
#[cfg(feature = "p256")]
mod p256;
#[cfg(feature = "pkcs8")]
pub mod pem;
#[cfg(feature = "rsa")]
mod rsa;
pub mod sealing;

use alloc::{string::String, vec::Vec};
use core::{cmp::Ordering, fmt};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;

#[cfg(not(feature = "p256"))]
pub use self::absent::P256PublicKey;
#[cfg(not(feature = "rsa"))]
pub use self::absent::RsaPublicKey;
use self::encoding::to_hex;
pub use self::object::KeyObject;
#[cfg(feature = "p256")]
pub use self::p256::{P256PublicKey, P256Signer};
#[cfg(feature = "rsa")]
pub use self::rsa::RsaPublicKey;
pub use crate::digest::Sha256Digest;

/// A public key that this release can verify with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PublicKey {
    /// Ed25519 (RFC 8032), verified strictly.
    Ed25519(Ed25519PublicKey),
    /// ECDSA on P-256 with SHA-256.
    P256(P256PublicKey),
    /// RSA-PSS with SHA-256.
    RsaPss(RsaPublicKey),
}

/// An Ed25519 public key: the canonical encoding of a point that is not of small order.
///
/// The point is kept beside its encoding (192 bytes in all), because to find it takes a square root: about a tenth of what a
/// signature costs to verify, and a server verifies one of the same vehicle at every poll. Compared, ordered and hashed by its encoding.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ed25519PublicKey(VerifyingKey);

/// The name under which metadata refers to a key. Declared by whoever wrote the metadata and never recomputed on reading: other
/// tools compute it in other ways, and a threshold counts distinct public keys, not names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// The bytes of a signature; which scheme made them is a property of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

/// A signature that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature does not verify under this key")]
pub struct SignatureError;

/// Bytes that are not an acceptable public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an acceptable ed25519 public key (32 bytes, canonical, not of small order)")]
pub struct PublicKeyError;

/// A signer that could not sign: a token that was pulled out, a key service that refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("key {key_id} could not sign: {reason}")]
pub struct SignerError {
    /// The key that was asked.
    pub key_id: KeyId,
    /// What the token or service said.
    pub reason: String,
}

/// Something that holds a secret key: a file, a token, a key service.
pub trait Signer {
    /// The public half.
    fn public_key(&self) -> PublicKey;

    /// Signs `message`.
    ///
    /// # Errors
    /// [`SignerError`] when the token or service behind the signer cannot.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError>;

    /// The name under which metadata refers to the key.
    fn key_id(&self) -> KeyId {
        self.public_key().key_id()
    }
}

/// An Ed25519 key in memory; wiped when dropped.
pub struct Ed25519Signer(SigningKey);

impl PublicKey {
    /// Takes an Ed25519 public key from its 32 bytes.
    ///
    /// # Errors
    /// [`PublicKeyError`] when the bytes are no point, a second spelling of a point, or a point of small order, under which one
    /// signature fits every message.
    pub fn ed25519(bytes: [u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| PublicKeyError)?;
        // Two spellings of one point would count as two distinct keys towards a threshold.
        let canonical = key.to_edwards().compress().to_bytes() == bytes;
        if !canonical || key.is_weak() {
            return Err(PublicKeyError);
        }
        Ok(Self::Ed25519(Ed25519PublicKey(key)))
    }

    /// Verifies `signature` over `message`.
    ///
    /// Strict in the sense of `verify_strict`: a signature that only some implementations accept (not reduced scalar, components of
    /// small order) is refused, so that every vehicle decides alike.
    ///
    /// # Errors
    /// [`SignatureError`] when it does not verify.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError)?;
                key.0.verify_strict(message, &signature).map_err(|_| SignatureError)
            }
            Self::P256(key) => key.verify(message, signature).then_some(()).ok_or(SignatureError),
            Self::RsaPss(key) => key.verify(message, signature).then_some(()).ok_or(SignatureError),
        }
    }

    /// The key id that we declare for this key: SHA-256 over the canonical JSON of its TUF key object (type, scheme, value).
    pub fn key_id(&self) -> KeyId {
        KeyObject::from(self).computed_id()
    }

    /// The signature scheme by its name in TUF metadata, such as `ecdsa-sha2-nistp256`.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::P256(_) => "ecdsa-sha2-nistp256",
            Self::RsaPss(_) => "rsassa-pss-sha256",
        }
    }

    /// The raw bytes of the key: 32 for Ed25519, the compressed point of 33 for P-256, `RSAPublicKey` for RSA.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key.0.as_bytes(),
            Self::P256(key) => key.as_bytes(),
            Self::RsaPss(key) => key.as_bytes(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme(), to_hex(self.as_bytes()))
    }
}

impl Ord for Ed25519PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for Ed25519PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl KeyId {
    /// Takes a declared key id as it stands.
    pub fn new(declared: impl Into<String>) -> Self {
        Self(declared.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Signature {
    /// Takes the bytes of a signature.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Takes a signature from hexadecimal; nothing when it is none.
    pub fn from_hex(text: &str) -> Option<Self> {
        encoding::from_hex(text).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lower-case hexadecimal, as metadata writes it.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl Ed25519Signer {
    /// Makes the key that belongs to a seed. The seed is the secret: take it from the operating system's random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The seed that makes this key again.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl Signer for Ed25519Signer {
    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(Ed25519PublicKey(self.0.verifying_key()))
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
        Ok(Signature(self.0.sign(message).to_bytes().to_vec()))
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Signer({:?}, secret)", self.public_key())
    }
}

#[cfg(test)]
mod tests;
