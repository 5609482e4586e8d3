use alloc::{string::String, vec::Vec};

use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use spki::{
    AlgorithmIdentifierRef, Document, ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{
        EncodePem as _,
        asn1::{AnyRef, BitStringRef},
        pem::{LineEnding, PemLabel as _},
    },
};

/// `rsaEncryption` (RFC 8017, appendix A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An RSA public key of 2048 to 8192 bits, for RSA-PSS with SHA-256 and a salt of 32 bytes, as securesystemslib signs. Verifies only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RsaPublicKey {
    /// The `RSAPublicKey` (RFC 8017, appendix A.1.1). What is around it in the file can be spelled in two ways.
    key: Vec<u8>,
}

impl RsaPublicKey {
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let (label, document) = Document::from_pem(pem.trim()).ok()?;
        let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).ok()?;
        let is_rsa = label == SubjectPublicKeyInfoRef::PEM_LABEL && info.algorithm.oid == RSA_ENCRYPTION;
        let key = info.subject_public_key.as_bytes().filter(|_| is_rsa)?;
        Some(Self { key: key.to_vec() })
    }

    /// As securesystemslib writes it, so that both compute the same key id.
    pub(super) fn to_pem(&self) -> String {
        let algorithm = AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) };
        let key = BitStringRef::from_bytes(&self.key);
        let info = key.map(|subject_public_key| SubjectPublicKeyInfoRef { algorithm, subject_public_key });
        // What was read can be written again; an empty value is no key to anybody.
        info.and_then(|info| info.to_pem(LineEnding::LF)).unwrap_or_default()
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.key).verify(message, signature).is_ok()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.key
    }
}
