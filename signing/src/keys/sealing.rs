//! Content keys on their way to the one vehicle that shall have them, and at rest in the server: sealed by HPKE (RFC 9180) in its base
//! mode, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.
//!
//! Who seals is not authenticated here: the Director's signature over the metadata around it says that. What is authenticated is for
//! whom and for what: a key that was sealed for another vehicle, another of its ECUs or another bundle does not open.
//!
//! ```
//! use switchback_signing::{
//!     bundle::ContentKey,
//!     digest::Sha256Digest,
//!     keys::sealing::{DecryptionKey, Recipient, SealedContentKey},
//! };
//! // Randomness is the caller's, from the operating system; never twice the same.
//! let (vehicle, other) = (DecryptionKey::from_seed(&[1; 32]), DecryptionKey::from_seed(&[2; 32]));
//! let (key, recipient, bundle) = (ContentKey::from_bytes([7; 32]), Recipient::Server, Sha256Digest::of(b"bundle"));
//! let sealed = SealedContentKey::seal(&key, &vehicle.encryption_key(), recipient, &bundle, &[3; 32])?;
//! assert_eq!(vehicle.open(&sealed, recipient, &bundle)?, key);
//! assert!(other.open(&sealed, recipient, &bundle).is_err());
//! # Ok::<(), switchback_signing::keys::sealing::SealingError>(())
//! ```

use alloc::{format, vec::Vec};
use core::{convert::Infallible, fmt};

use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable,
    aead::AesGcm256,
    kdf::HkdfSha256,
    kem::{Kem, X25519HkdfSha256},
    rand_core::{TryCryptoRng, TryRng},
    single_shot_open, single_shot_seal_with_rng,
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    Sha256Digest,
    encoding::{array_from_hex, to_hex},
    file::{KEY_FILE_BYTES_MAX, KeyFileError},
};
use crate::{
    bundle::ContentKey,
    metadata::{
        EcuSerial, MetadataError, VehicleId,
        json::{self, Json},
        object::{Fields, wrong},
    },
};

type Secret = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The way of sealing, in key files and metadata: mode, KEM, KDF and AEAD of RFC 9180. Another one gets another name.
pub const METHOD: &str = "hpke-base-x25519-hkdf-sha256-aes-256-gcm";

const KEY_TYPE: &str = "x25519";

/// Length of what is sealed, of keys and of what HPKE calls `enc`, bytes.
const SECRET_BYTES: usize = 32;
/// What is sealed and the tag of AES-GCM, bytes.
const CIPHERTEXT_BYTES: usize = SECRET_BYTES + 16;

/// The public half of a [`DecryptionKey`]: what is sealed to it, only the holder of the other half can open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptionKey([u8; SECRET_BYTES]);

/// A secret X25519 key; wiped when dropped.
pub struct DecryptionKey {
    secret: Secret,
    public: EncryptionKey,
}

/// A content key that only one recipient can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedContentKey {
    encapsulated: [u8; SECRET_BYTES],
    ciphertext: [u8; CIPHERTEXT_BYTES],
}

/// Whom a content key is sealed for. It becomes part of what the seal authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient<'a> {
    /// One ECU of one vehicle.
    Vehicle {
        /// The vehicle.
        vehicle_id: &'a VehicleId,
        /// The ECU that installs the bundle: the Primary.
        ecu_serial: &'a EcuSerial,
    },
    /// The server that keeps it for its vehicles.
    Server,
}

/// A content key that cannot be sealed or opened. Why not is not told apart: whoever tries keys shall learn nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The public key leads every secret to the same one.
    #[error("nothing can be sealed under this encryption key")]
    Seal,
    /// Sealed for somebody else or for another bundle, or altered.
    #[error("the sealed content key is not for this key, this recipient and this bundle")]
    Open,
}

/// Bytes that are no X25519 key to seal to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an acceptable x25519 public key (32 bytes, not of small order)")]
pub struct EncryptionKeyError;

impl EncryptionKey {
    /// Takes a public key from its bytes.
    ///
    /// # Errors
    /// [`EncryptionKeyError`] when the point is of small order: what is sealed to it, anybody could open, and RFC 9180 (section 7.1.4)
    /// has the sender refuse it. Looked at here so that it is refused when it arrives, and not when something is to be sealed.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, EncryptionKeyError> {
        let mut point = bytes;
        // The highest bit does not count (RFC 7748, section 5).
        point[31] &= 0x7f;
        if SMALL_ORDER.iter().any(|small| array_from_hex(small) == Some(point)) { Err(EncryptionKeyError) } else { Ok(Self(bytes)) }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as a key object.
    pub(crate) fn to_json(self) -> Json {
        let keyval = Json::object([("public", Json::String(to_hex(&self.0)))]);
        Json::object([("keytype", Json::string(KEY_TYPE)), ("scheme", Json::string(METHOD)), ("keyval", keyval)])
    }

    /// Reads a key object. An unknown type or scheme is an error: nobody can seal to it here.
    pub(crate) fn from_json(json: Json, place: &str) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, place)?;
        let (keytype, scheme) = (fields.string("keytype")?, fields.string("scheme")?);
        let public = fields.fields("keyval")?.string("public")?;
        let key = array_from_hex(&public).and_then(|bytes| Self::from_bytes(bytes).ok());
        let key = key.filter(|_| keytype == KEY_TYPE && scheme == METHOD);
        key.ok_or_else(|| wrong(place, "an acceptable x25519 public key"))
    }
}

/// The points of small order by their encodings below 2^255: a Diffie-Hellman with them has one result for all secrets.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_TYPE}:{}", to_hex(&self.0))
    }
}

impl DecryptionKey {
    /// Makes the key that belongs to a seed (`DeriveKeyPair`, RFC 9180, section 7.1.3). The seed is the secret: take it from the
    /// operating system's random source.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::from_pair(X25519HkdfSha256::derive_keypair(seed))
    }

    fn from_pair((secret, public): (Secret, Public)) -> Self {
        Self { secret, public: EncryptionKey(public.to_bytes().into()) }
    }

    /// The public half.
    pub fn encryption_key(&self) -> EncryptionKey {
        self.public
    }

    /// Opens what was sealed for this key's holder.
    ///
    /// # Errors
    /// [`SealingError::Open`] when it was sealed for another key, another recipient or another bundle, or was altered since.
    pub fn open(&self, sealed: &SealedContentKey, recipient: Recipient<'_>, bundle: &Sha256Digest) -> Result<ContentKey, SealingError> {
        let SealedContentKey { encapsulated, ciphertext } = sealed;
        let key = open(&self.secret, encapsulated, &recipient.info(), bundle.as_bytes(), ciphertext)?;
        let key = Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(key.as_slice()).map_err(|_| SealingError::Open)?);
        Ok(ContentKey::from_bytes(*key))
    }

    /// Reads a key file that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`KeyFileError`] when it holds no such key or the halves do not belong together.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        let json = json::parse(bytes, KEY_FILE_BYTES_MAX).map_err(MetadataError::from)?;
        let private = json.member("keyval").and_then(|keyval| keyval.member("private")).and_then(Json::as_str);
        let secret = private.and_then(array_from_hex::<SECRET_BYTES>).map(Zeroizing::new).ok_or(KeyFileError::NoSecret)?;
        let public = EncryptionKey::from_json(json, "file")?;
        let secret = Secret::from_bytes(&*secret).map_err(|_| KeyFileError::NoSecret)?;
        let key = Self::from_pair((secret.clone(), X25519HkdfSha256::sk_to_pk(&secret)));
        if key.public != public {
            return Err(KeyFileError::Mismatch { public: to_hex(&public.0) });
        }
        Ok(key)
    }

    /// Writes a key file. The caller keeps it readable by its owner only.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let secret = Zeroizing::new(<[u8; SECRET_BYTES]>::from(self.secret.to_bytes()));
        let public = to_hex(&self.public.0);
        // Written here and not by way of a JSON value, which would leave the secret behind in memory. In canonical form like all others.
        let text = format!(
            "{{\"keytype\":\"{KEY_TYPE}\",\"keyval\":{{\"private\":\"{}\",\"public\":\"{public}\"}},\"scheme\":\"{METHOD}\"}}\n",
            *Zeroizing::new(to_hex(&*secret))
        );
        Zeroizing::new(text.into_bytes())
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecryptionKey({:?}, secret)", self.public)
    }
}

impl Recipient<'_> {
    /// What HPKE binds the key schedule to. Names hold no spaces, so that two recipients never read alike.
    fn info(self) -> Vec<u8> {
        match self {
            Self::Vehicle { vehicle_id, ecu_serial } => format!("switchback content key 1 for vehicle {vehicle_id} ECU {ecu_serial}"),
            Self::Server => "switchback content key 1 for the server".into(),
        }
        .into_bytes()
    }
}

impl SealedContentKey {
    /// Seals a content key for one recipient and one bundle. `randomness` decides over the secrecy of it all: take it from the operating
    /// system, and never twice the same.
    ///
    /// # Errors
    /// [`SealingError::Seal`] when nothing can be sealed under the key.
    pub fn seal(
        key: &ContentKey,
        to: &EncryptionKey,
        recipient: Recipient<'_>,
        bundle: &Sha256Digest,
        randomness: &[u8; 32],
    ) -> Result<Self, SealingError> {
        let (encapsulated, ciphertext) = seal(&to.0, &recipient.info(), bundle.as_bytes(), key.as_bytes(), randomness)?;
        Ok(Self { encapsulated, ciphertext: ciphertext.try_into().map_err(|_| SealingError::Seal)? })
    }

    /// Reads it from metadata or from a file of the server.
    ///
    /// # Errors
    /// [`MetadataError`] when it is sealed in a way that is not known here, or a field is missing or wrong.
    pub fn from_json(json: Json, place: &str) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, place)?;
        if fields.string("method")? != METHOD {
            return Err(wrong(&fields.place_of("method"), "a way of sealing that is known here; update this software first"));
        }
        let (encapsulated, ciphertext) = (fields.string("enc")?, fields.string("ciphertext")?);
        Ok(Self {
            encapsulated: array_from_hex(&encapsulated).ok_or_else(|| wrong(&fields.place_of("enc"), "64 hexadecimal digits"))?,
            ciphertext: array_from_hex(&ciphertext).ok_or_else(|| wrong(&fields.place_of("ciphertext"), "96 hexadecimal digits"))?,
        })
    }

    /// Writes it.
    pub fn to_json(&self) -> Json {
        Json::object([
            ("method", Json::string(METHOD)),
            ("enc", Json::String(to_hex(&self.encapsulated))),
            ("ciphertext", Json::String(to_hex(&self.ciphertext))),
        ])
    }
}

fn seal(
    to: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    randomness: &[u8; 32],
) -> Result<([u8; SECRET_BYTES], Vec<u8>), SealingError> {
    let to = Public::from_bytes(to).map_err(|_| SealingError::Seal)?;
    let mut randomness = Given(Zeroizing::new(*randomness));
    let sealed =
        single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &to, info, plaintext, aad, &mut randomness);
    let (encapsulated, ciphertext) = sealed.map_err(|_| SealingError::Seal)?;
    Ok((encapsulated.to_bytes().into(), ciphertext))
}

fn open(secret: &Secret, encapsulated: &[u8], info: &[u8], aad: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealingError> {
    let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| SealingError::Open)?;
    let opened = single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, secret, &encapsulated, info, ciphertext, aad);
    opened.map(Zeroizing::new).map_err(|_| SealingError::Open)
}

/// The caller's randomness as the source that `hpke` asks, once and for 32 bytes. Should it ever ask for more, that is another digest.
struct Given(Zeroizing<[u8; 32]>);

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, wanted: &mut [u8]) -> Result<(), Infallible> {
        for part in wanted.chunks_mut(self.0.len()) {
            part.copy_from_slice(&self.0[..part.len()]);
            *self.0 = *Sha256Digest::of(&*self.0).as_bytes();
        }
        Ok(())
    }
}

impl TryCryptoRng for Given {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::string::{String, ToString};

    use super::*;
    use crate::keys::encoding::from_hex;

    /// `ikmE`, `ikmR`, `info` and `aad` of RFC 9180, appendix A.1.1.
    const IKM_E: &str = "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234";
    const IKM_R: &str = "6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037";
    const INFO: &[u8] = b"Ode on a Grecian Urn";
    const AAD: &[u8] = b"Count-0";

    fn content_key() -> ContentKey {
        ContentKey::from_bytes([7; 32])
    }

    fn recipient_of_rfc() -> DecryptionKey {
        DecryptionKey::from_seed(&array_from_hex(IKM_R).unwrap())
    }

    /// Appendix A.1.1 is of this KEM and KDF. Its AEAD has a shorter key; with the one that is used here the ciphertext is what an
    /// implementation in Python, by RFC 9180 and on primitives of the package `cryptography`, that also gives what A.1.1 lists makes of it.
    #[test]
    fn the_vector_of_rfc_9180_is_met() {
        let key = recipient_of_rfc();
        assert_eq!(to_hex(key.encryption_key().as_bytes()), "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
        let text = b"Beauty is truth, truth beauty";
        let sealed = seal(&key.public.0, INFO, AAD, text, &array_from_hex(IKM_E).unwrap()).unwrap();
        assert_eq!(to_hex(&sealed.0), "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431");
        assert_eq!(to_hex(&sealed.1), "090b7dc225419f7da9e8b460becfbb96a26c7964d79b8010d397fa838530a32a397b14f5776db19ff5e57734e0");
        assert_eq!(*open(&key.secret, &sealed.0, INFO, AAD, &sealed.1).unwrap(), text);
    }

    /// Sealed by `cryptography.hazmat.primitives.hpke` 48.0.0, which takes no `aad`.
    #[test]
    fn what_another_implementation_has_sealed_is_opened() {
        let encapsulated = from_hex("dbfc7d8d219321b70c15484efbec2295f25f2ecd822e01044c58386cb39fdf01").unwrap();
        let ciphertext =
            from_hex("6022b9bd2850b6aefe2f0f335b9a152bd4201abc9c28d5a853690d4431759d2285845d0db4b9eda77617b46a04659b66").unwrap();
        let opened = open(&recipient_of_rfc().secret, &encapsulated, INFO, b"", &ciphertext).unwrap();
        assert_eq!(*opened, core::array::from_fn::<u8, 32, _>(|at| u8::try_from(at).unwrap()));
    }

    #[test]
    fn a_content_key_opens_for_its_recipient_and_bundle_and_for_nobody_else() {
        let (own, other) = (DecryptionKey::from_seed(&[1; 32]), DecryptionKey::from_seed(&[2; 32]));
        let vehicles = ["v-1", "v-2"].map(|id| VehicleId::new(id).unwrap());
        let ecus = ["ecu-1", "ecu-2"].map(|serial| EcuSerial::new(serial).unwrap());
        let for_ecu = |vehicle: usize, ecu: usize| Recipient::Vehicle { vehicle_id: &vehicles[vehicle], ecu_serial: &ecus[ecu] };
        let (bundle, another) = (Sha256Digest::of(b"one"), Sha256Digest::of(b"another"));
        let sealed = SealedContentKey::seal(&content_key(), &own.encryption_key(), for_ecu(0, 0), &bundle, &[3; 32]).unwrap();
        assert_eq!(own.open(&sealed, for_ecu(0, 0), &bundle).unwrap(), content_key());
        for (key, recipient, bundle) in [
            (&other, for_ecu(0, 0), &bundle),
            (&own, for_ecu(1, 0), &bundle),
            (&own, for_ecu(0, 1), &bundle),
            (&own, Recipient::Server, &bundle),
            (&own, for_ecu(0, 0), &another),
        ] {
            assert_eq!(key.open(&sealed, recipient, bundle).unwrap_err(), SealingError::Open, "{recipient:?}");
        }
        for at in 0..SECRET_BYTES {
            let mut altered = sealed.clone();
            altered.encapsulated[at] ^= 1;
            assert_eq!(own.open(&altered, for_ecu(0, 0), &bundle).unwrap_err(), SealingError::Open, "enc {at}");
        }
        for at in 0..CIPHERTEXT_BYTES {
            let mut altered = sealed.clone();
            altered.ciphertext[at] ^= 1;
            assert_eq!(own.open(&altered, for_ecu(0, 0), &bundle).unwrap_err(), SealingError::Open, "ciphertext {at}");
        }
        // Other randomness, another seal.
        let again = SealedContentKey::seal(&content_key(), &own.encryption_key(), for_ecu(0, 0), &bundle, &[4; 32]).unwrap();
        assert!(again.encapsulated != sealed.encapsulated && again.ciphertext != sealed.ciphertext);
    }

    #[test]
    fn a_point_of_small_order_is_no_key_to_seal_to() {
        for (small, bit) in SMALL_ORDER.iter().flat_map(|small| [(small, 0), (small, 0x80)]) {
            let mut point: [u8; 32] = array_from_hex(small).unwrap();
            point[31] |= bit;
            assert_eq!(EncryptionKey::from_bytes(point), Err(EncryptionKeyError), "{small}");
            // And why: what is sealed to it needs no secret to be opened, which `hpke` refuses.
            assert_eq!(seal(&point, b"", b"", b"", &[1; 32]).unwrap_err(), SealingError::Seal, "{small}");
        }
    }

    #[test]
    fn a_decryption_key_survives_a_round_trip_through_its_file() {
        let key = DecryptionKey::from_seed(&[5; 32]);
        let bytes = key.to_bytes();
        let read = DecryptionKey::parse(&bytes).unwrap();
        assert_eq!((read.encryption_key(), &*read.to_bytes()), (key.encryption_key(), &*bytes));
        assert_eq!(json::to_bytes(&json::parse(&bytes, bytes.len()).unwrap()), *bytes);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let check = |text: &str, expected: &str| assert_eq!(DecryptionKey::parse(text.as_bytes()).unwrap_err().to_string(), expected);
        let public = to_hex(&DecryptionKey::from_seed(&[6; 32]).public.0);
        check(&text.replace(&to_hex(&key.public.0), &public), &format!("the secret half does not belong to the public half {public}"));
        check(&text.replace("\"private\"", "\"hidden\""), "the file holds no secret half (keyval.private, 64 hexadecimal digits)");
        check(&text.replace(METHOD, "rot13"), "file is not an acceptable x25519 public key");
    }

    #[test]
    fn a_sealed_key_survives_a_round_trip_and_another_method_is_named() {
        let key = DecryptionKey::from_seed(&[1; 32]);
        let bundle = Sha256Digest::of(b"bundle");
        let sealed = SealedContentKey::seal(&content_key(), &key.encryption_key(), Recipient::Server, &bundle, &[3; 32]).unwrap();
        assert_eq!(SealedContentKey::from_json(sealed.to_json(), "key").unwrap(), sealed);
        let text = sealed.to_json().to_string();
        let read = |text: &str| {
            let json = json::parse(text.as_bytes(), 1_000).unwrap();
            SealedContentKey::from_json(json, "custom.contentKey").unwrap_err().to_string()
        };
        assert_eq!(
            read(&text.replace(METHOD, "rot13")),
            "custom.contentKey.method is not a way of sealing that is known here; update this software first"
        );
        assert_eq!(read(&text.replace("\"enc\":\"", "\"enc\":\"00")), "custom.contentKey.enc is not 64 hexadecimal digits");
        assert_eq!(read(&text.replace("ciphertext", "text")), "custom.contentKey.ciphertext is missing");
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = DecryptionKey::from_seed(&[5; 32]);
        let secret = to_hex(&key.secret.to_bytes());
        let shown = format!("{key:?}");
        assert!(!shown.contains(&secret) && shown.ends_with(", secret)"), "{shown}");
    }

    #[test]
    fn randomness_that_is_asked_for_twice_is_not_the_same() {
        let mut given = Given(Zeroizing::new([9; 32]));
        let mut drawn = [0; 96];
        given.try_fill_bytes(&mut drawn).unwrap();
        assert_eq!(drawn[..32], [9; 32]);
        assert!(drawn[..32] != drawn[32..64] && drawn[32..64] != drawn[64..]);
        let (small, large) = (given.try_next_u32().unwrap(), given.try_next_u64().unwrap());
        assert_ne!(u64::from(small), large & u64::from(u32::MAX));
    }
}
