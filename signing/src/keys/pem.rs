//! People's secret keys as PEM files: PKCS#8 (RFC 5958), as a rule encrypted under a passphrase (RFC 8018, PBES2 with scrypt).
//!
//! OpenSSL and Python's `cryptography` read what is written here, and what they write is read: `PRIVATE KEY` and `ENCRYPTED PRIVATE KEY`
//! of Ed25519 or P-256. Randomness is the caller's, as everywhere in this crate.
//!
//! ```
//! use switchback_signing::keys::{Signer, pem::{Encryption, Scheme, SecretKey}};
//! let key = SecretKey::from_random(Scheme::Ed25519, &[7; 32]).ok_or("a random number in 2^32 is no key")?;
//! // In earnest, both from the operating system's random source.
//! let encryption = Encryption { salt: [1; 16], iv: [2; 16] };
//! let text = key.to_encrypted_pem(b"correct horse", &encryption)?;
//! assert_eq!(SecretKey::from_pem(&text, Some(b"correct horse"))?.public_key(), key.public_key());
//! assert!(SecretKey::from_pem(&text, Some(b"battery staple")).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::string::String;
use core::{fmt, str::FromStr};

use pkcs8::{
    Document, EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument,
    SubjectPublicKeyInfoRef,
    der::{
        Decode as _,
        asn1::{BitStringRef, OctetStringRef},
        pem::PemLabel as _,
        zeroize::{Zeroize as _, Zeroizing},
    },
    pkcs5::{
        pbes2::{Kdf, Parameters},
        scrypt::Params,
    },
    spki::AlgorithmIdentifier,
};
use thiserror::Error;

use super::{Ed25519Signer, P256PublicKey, P256Signer, PublicKey, RsaPublicKey, Signature, Signer, SignerError, file::KEY_FILE_BYTES_MAX};

/// `id-Ed25519` (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `id-ecPublicKey` (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480, section 2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// What we encrypt with: 16 MiB, because OpenSSL refuses to spend more than 32 on a file, and five passes over it, which OWASP's table
/// holds equal to one pass over 128 MiB.
const SCRYPT_LOG2_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 5;

/// What opening an encrypted file may cost. The file itself says how much it is, so that one that was put in the place of another could
/// occupy the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpeningCosts {
    /// Memory of scrypt, bytes.
    pub memory_bytes: u64,
    /// What scrypt goes through in all its passes over that memory, bytes.
    pub passes_bytes: u64,
    /// Rounds of PBKDF2.
    pub rounds: u32,
}

impl OpeningCosts {
    /// As much as an honest file asks for, on a desk: 1 GiB of memory and 4 GiB in all passes, some ten seconds; and in rounds as long, of
    /// which Python's `cryptography` takes up to some hundred thousand.
    pub const MAX: Self = Self { memory_bytes: 1 << 30, passes_bytes: 4 << 30, rounds: 10_000_000 };
}

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    EcdsaP256,
}

/// A secret key in memory; wiped when dropped.
#[derive(Debug)]
#[non_exhaustive]
pub enum SecretKey {
    /// Ed25519.
    Ed25519(Ed25519Signer),
    /// ECDSA on P-256 with SHA-256.
    P256(P256Signer),
}

/// The random numbers of an encryption, each used once.
#[derive(Clone, Copy, Debug)]
pub struct Encryption {
    /// Makes the key that is derived from the passphrase this file's own.
    pub salt: [u8; 16],
    /// First block of the cipher, AES-256 in CBC mode.
    pub iv: [u8; 16],
}

/// A PEM file from which no secret key can be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PemError {
    /// Not a PEM file of a private key.
    #[error("the file is no private key in PEM form (PRIVATE KEY or ENCRYPTED PRIVATE KEY)")]
    NotAKey,
    /// Encrypted, and no passphrase was given.
    #[error("the key is encrypted, and no passphrase was given")]
    PassphraseMissing,
    /// It does not decrypt to a key.
    #[error("the passphrase does not open the key: it is another one, or the file was damaged")]
    WrongPassphrase,
    /// A way to encrypt that is not ours to read.
    #[error("the file is encrypted in another way than PBES2 with scrypt or PBKDF2 and AES, or was damaged ({reason})")]
    Encryption {
        /// What is not understood.
        reason: String,
    },
    /// Opening it would take more memory or time than an honest file asks for.
    #[error("the key's encryption asks for {asked}, more than the {limit} that is allowed")]
    Costs {
        /// What the file asks for.
        asked: String,
        /// What it may ask for.
        limit: String,
    },
    /// A key of another kind.
    #[error("the file holds a private key that is neither ed25519 nor ecdsa-sha2-nistp256 (its algorithm is {algorithm})")]
    UnknownKey {
        /// Object identifier of the algorithm or the curve.
        algorithm: String,
    },
    /// A key's envelope around something that is no key.
    #[error("the private key in the file is damaged")]
    Damaged,
}

impl SecretKey {
    /// Makes a key of 32 random bytes; nothing for the one number in 2^32 that is no key of P-256.
    pub fn from_random(scheme: Scheme, random: &[u8; 32]) -> Option<Self> {
        match scheme {
            Scheme::Ed25519 => Some(Self::Ed25519(Ed25519Signer::from_seed(*random))),
            Scheme::EcdsaP256 => P256Signer::from_scalar(random).map(Self::P256),
        }
    }

    /// Reads a key; the passphrase is asked of encrypted ones only.
    ///
    /// # Errors
    /// [`PemError`] when the file holds no key of ours, or the passphrase does not open it.
    pub fn from_pem(pem: &str, passphrase: Option<&[u8]>) -> Result<Self, PemError> {
        Self::from_pem_within(pem, passphrase, &OpeningCosts::MAX)
    }

    /// The same with another limit. What asks for more is refused before any of it is spent.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_pem_within(pem: &str, passphrase: Option<&[u8]>, costs: &OpeningCosts) -> Result<Self, PemError> {
        if pem.len() > KEY_FILE_BYTES_MAX {
            return Err(PemError::NotAKey);
        }
        let (label, document) = SecretDocument::from_pem(pem.trim()).map_err(|_| PemError::NotAKey)?;
        if label == PrivateKeyInfoRef::PEM_LABEL {
            return parse(&document);
        }
        if label != EncryptedPrivateKeyInfoRef::PEM_LABEL {
            return Err(PemError::NotAKey);
        }
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
        let encrypted = encrypted.map_err(|error| PemError::Encryption { reason: alloc::format!("{error}") })?;
        check_costs(encrypted.encryption_algorithm.pbes2(), costs)?;
        let decrypted = encrypted.decrypt(passphrase.ok_or(PemError::PassphraseMissing)?).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { oid }) => {
                PemError::Encryption { reason: alloc::format!("{oid}") }
            }
            // With another key the padding fits once in 256 times; then it is the structure that does not.
            _ => PemError::WrongPassphrase,
        })?;
        parse(&decrypted).map_err(|error| if error == PemError::Damaged { PemError::WrongPassphrase } else { error })
    }

    /// Writes the key for everybody who can read the file.
    ///
    /// # Errors
    /// [`PemError::Damaged`] when the key cannot be encoded.
    pub fn to_plain_pem(&self) -> Result<Zeroizing<String>, PemError> {
        self.document()?.to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).map_err(|_| PemError::Damaged)
    }

    /// Writes the key for those who know the passphrase.
    ///
    /// # Errors
    /// [`PemError::Damaged`] when the key cannot be encoded.
    pub fn to_encrypted_pem(&self, passphrase: &[u8], encryption: &Encryption) -> Result<String, PemError> {
        let damaged = |_| PemError::Damaged;
        let cost = Params::new(SCRYPT_LOG2_N, SCRYPT_R, SCRYPT_P).map_err(|_| PemError::Damaged)?;
        let parameters = Parameters::generate_scrypt_aes256cbc(cost, &encryption.salt, encryption.iv).map_err(|_| PemError::Damaged)?;
        let encrypted = parameters.encrypt(passphrase, self.document()?.as_bytes()).map_err(|_| PemError::Damaged)?;
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: parameters.into(),
            encrypted_data: OctetStringRef::new(&encrypted).map_err(damaged)?,
        };
        let document = SecretDocument::encode_msg(&info).map_err(damaged)?;
        let text = document.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).map_err(damaged)?;
        Ok(String::clone(&text))
    }

    /// What the key signs with.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Ed25519(_) => Scheme::Ed25519,
            Self::P256(_) => Scheme::EcdsaP256,
        }
    }

    /// The `PrivateKeyInfo`, in version 1: OpenSSL does not read the version that has the public half beside it.
    fn document(&self) -> Result<SecretDocument, PemError> {
        match self {
            Self::Ed25519(signer) => {
                // RFC 8410, section 7: an OCTET STRING of 32 bytes within the OCTET STRING of the private key.
                let mut inner = [0; 34];
                (inner[0], inner[1]) = (0x04, 32);
                inner[2..].copy_from_slice(signer.seed());
                let algorithm = AlgorithmIdentifier { oid: ED25519, parameters: None };
                let key = OctetStringRef::new(&inner).map_err(|_| PemError::Damaged);
                let document =
                    key.and_then(|key| SecretDocument::try_from(PrivateKeyInfoRef::new(algorithm, key)).map_err(|_| PemError::Damaged));
                inner.zeroize();
                document
            }
            Self::P256(signer) => signer.0.to_pkcs8_der().map_err(|_| PemError::Damaged),
        }
    }
}

/// Reads a public key in the form `PUBLIC KEY` (RFC 5280, `SubjectPublicKeyInfo`); nothing when it is none that we verify with.
pub fn parse_public(pem: &str) -> Option<PublicKey> {
    if let Some(key) = P256PublicKey::from_pem(pem) {
        return Some(PublicKey::P256(key));
    }
    if let Some(key) = RsaPublicKey::from_pem(pem) {
        return Some(PublicKey::RsaPss(key));
    }
    let (label, document) = Document::from_pem(pem.trim()).ok()?;
    let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).ok()?;
    let is_ed25519 = label == SubjectPublicKeyInfoRef::PEM_LABEL && info.algorithm.oid == ED25519;
    let key = info.subject_public_key.as_bytes().filter(|_| is_ed25519)?;
    PublicKey::ed25519(key.try_into().ok()?).ok()
}

/// Writes a public key in the form `PUBLIC KEY`; nothing when it cannot be encoded.
pub fn public_to_pem(key: &PublicKey) -> Option<String> {
    match key {
        PublicKey::Ed25519(_) => {
            let algorithm = AlgorithmIdentifier { oid: ED25519, parameters: None };
            let info = SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key.as_bytes()).ok()? };
            Document::encode_msg(&info).ok()?.to_pem(SubjectPublicKeyInfoRef::PEM_LABEL, LineEnding::LF).ok()
        }
        PublicKey::P256(key) => Some(key.to_pem()),
        PublicKey::RsaPss(key) => Some(key.to_pem()),
    }
}

fn parse(document: &SecretDocument) -> Result<SecretKey, PemError> {
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| PemError::Damaged)?;
    match info.algorithm.oid {
        ED25519 => {
            let seed = <&OctetStringRef>::from_der(info.private_key.as_bytes()).map_err(|_| PemError::Damaged)?;
            let mut seed: [u8; 32] = seed.as_bytes().try_into().map_err(|_| PemError::Damaged)?;
            let signer = Ed25519Signer::from_seed(seed);
            seed.zeroize();
            Ok(SecretKey::Ed25519(signer))
        }
        EC_PUBLIC_KEY => {
            let curve = info.algorithm.parameters_oid().map_err(|_| PemError::Damaged)?;
            if curve != P256 {
                return Err(PemError::UnknownKey { algorithm: alloc::format!("{curve}") });
            }
            // Refuses a public half that is not that of the secret.
            info.try_into().map(|key| SecretKey::P256(P256Signer(key))).map_err(|_: pkcs8::Error| PemError::Damaged)
        }
        other => Err(PemError::UnknownKey { algorithm: alloc::format!("{other}") }),
    }
}

/// That opening costs no more than allowed, by what the file says of it.
fn check_costs(parameters: Option<&Parameters>, limit: &OpeningCosts) -> Result<(), PemError> {
    let Some(parameters) = parameters else { return Err(PemError::Encryption { reason: String::from("PBES1") }) };
    let asks = |asked: String, limit: String| Err(PemError::Costs { asked, limit });
    match &parameters.kdf {
        // RFC 7914, section 6; pkcs5 0.8 computes the logarithm of what is none.
        Kdf::Scrypt(scrypt) if scrypt.cost_parameter < 2 || scrypt.block_size == 0 || scrypt.parallelization == 0 => {
            let (n, r, p) = (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization);
            return Err(PemError::Encryption { reason: alloc::format!("scrypt with N {n}, r {r}, p {p}") });
        }
        Kdf::Scrypt(scrypt) => {
            // RFC 7914, section 2: N blocks of 128 r bytes that each of the p passes goes through, beside p such blocks to begin with.
            let (block, passes) = (128 * u64::from(scrypt.block_size), u64::from(scrypt.parallelization));
            let memory = scrypt.cost_parameter.saturating_add(passes).saturating_mul(block);
            let work = scrypt.cost_parameter.saturating_mul(block).saturating_mul(passes);
            let OpeningCosts { memory_bytes, passes_bytes, .. } = limit;
            if memory > *memory_bytes || work > *passes_bytes {
                let asked = alloc::format!("{passes} passes over {} bytes", scrypt.cost_parameter.saturating_mul(block));
                return asks(asked, alloc::format!("{memory_bytes} bytes, or {passes_bytes} in all passes,"));
            }
        }
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count == 0 => {
            return Err(PemError::Encryption { reason: String::from("PBKDF2 of no rounds") });
        }
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > limit.rounds => {
            return asks(alloc::format!("{} rounds", pbkdf2.iteration_count), alloc::format!("{} rounds", limit.rounds));
        }
        Kdf::Pbkdf2(_) => {}
        other => return Err(PemError::Encryption { reason: alloc::format!("{}", other.oid()) }),
    }
    Ok(())
}

impl Signer for SecretKey {
    fn public_key(&self) -> PublicKey {
        match self {
            Self::Ed25519(signer) => signer.public_key(),
            Self::P256(signer) => signer.public_key(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
        match self {
            Self::Ed25519(signer) => signer.sign(message),
            Self::P256(signer) => signer.sign(message),
        }
    }
}

impl Scheme {
    /// The scheme's name in TUF metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A scheme that no key can be made for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no scheme that keys can be made for: ed25519, ecdsa-sha2-nistp256")]
pub struct SchemeError(String);

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        [Self::Ed25519, Self::EcdsaP256].into_iter().find(|scheme| scheme.name() == text).ok_or_else(|| SchemeError(String::from(text)))
    }
}

#[cfg(test)]
mod tests;
