use alloc::{string::String, vec::Vec};
use core::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding},
};

use super::{PublicKey, Signer, SignerError};

/// An ECDSA public key on the curve P-256, compared by its point: two spellings of one point are one key towards a threshold.
#[derive(Clone, PartialEq, Eq)]
pub struct P256PublicKey {
    key: VerifyingKey,
    /// The compressed point.
    point: Vec<u8>,
}

/// An ECDSA P-256 key in memory; wiped when dropped. Signs deterministically (RFC 6979).
pub struct P256Signer(pub(super) SigningKey);

impl P256PublicKey {
    fn new(key: VerifyingKey) -> Self {
        let point = key.to_sec1_point(true).as_bytes().to_vec();
        Self { key, point }
    }

    /// Takes the point (SEC 1, compressed or not), which is how hardware modules tell it; nothing when it is not on the curve.
    pub fn from_point(sec1: &[u8]) -> Option<Self> {
        VerifyingKey::from_sec1_bytes(sec1).ok().map(Self::new)
    }

    /// The signature that is made of both numbers, 32 bytes each, which is how hardware modules tell it; nothing when one is out of range.
    pub fn signature_of_numbers(r_and_s: &[u8]) -> Option<super::Signature> {
        let signature = Signature::from_slice(r_and_s).ok()?;
        Some(super::Signature::from_bytes(signature.to_der().as_bytes()))
    }

    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        VerifyingKey::from_public_key_pem(pem.trim()).ok().map(Self::new)
    }

    /// As securesystemslib writes it, so that both compute the same key id.
    pub(super) fn to_pem(&self) -> String {
        // Encoding a point that exists fails only without memory; an empty value is no key to anybody.
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// SHA-256 of the message; the signature in DER. A signature with a high `s` is as good as its twin: FIPS 186-5 knows no
    /// difference, and a threshold counts keys, not signatures.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.point
    }
}

impl P256Signer {
    /// Takes the 32 bytes of a secret scalar; nothing for zero and what lies beyond the order of the curve.
    pub fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(scalar).ok().map(Self)
    }
}

impl Signer for P256Signer {
    fn public_key(&self) -> PublicKey {
        PublicKey::P256(P256PublicKey::new(*self.0.verifying_key()))
    }

    fn sign(&self, message: &[u8]) -> Result<super::Signature, SignerError> {
        let signature: Signature =
            self.0.try_sign(message).map_err(|error| SignerError { key_id: self.key_id(), reason: alloc::format!("{error}") })?;
        Ok(super::Signature::from_bytes(signature.to_der().as_bytes()))
    }
}

impl core::fmt::Debug for P256Signer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "P256Signer({:?}, secret)", self.public_key())
    }
}

impl Hash for P256PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.point.hash(state);
    }
}

impl Ord for P256PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.point.cmp(&other.point)
    }
}

impl PartialOrd for P256PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
