use alloc::{
    boxed::Box,
    collections::BTreeMap,
    string::{String, ToString},
};
use core::fmt;

use super::{
    MetadataError,
    json::Json,
    object::{Fields, ObjectWriter, wrong},
};
use crate::digest::{Sha256Digest, Sha256Hasher, Sha512Digest, Sha512Hasher};

const SHA256: &str = "sha256";
const SHA512: &str = "sha512";

/// The digests that metadata lists for a file, by algorithm (`hashes`). Whoever takes the file checks all that are known here
/// (Uptane, 5.4.4.8: with several hashes, every one).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<Sha256Digest>,
    /// SHA-512.
    pub sha512: Option<Sha512Digest>,
    /// Digests of algorithms that are unknown here; kept because they are signed.
    pub other: BTreeMap<String, Json>,
}

/// A file whose digest is another than the listed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestMismatch {
    /// The algorithm, such as `SHA-256`.
    pub algorithm: &'static str,
    /// Digest of the file, hexadecimal.
    pub found: String,
    /// Digest that is listed, hexadecimal.
    pub listed: String,
}

/// Computes every known digest of a file that arrives piece by piece.
#[derive(Clone)]
pub struct HashesCheck {
    sha256: Option<(Sha256Digest, Sha256Hasher)>,
    sha512: Option<(Sha512Digest, Sha512Hasher)>,
}

impl Hashes {
    /// Lists the SHA-256 of a file.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_sha256(Sha256Digest::of(bytes))
    }

    /// Lists this SHA-256.
    pub fn of_sha256(sha256: Sha256Digest) -> Self {
        Self { sha256: Some(sha256), ..Self::default() }
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        !self.is_known() && self.other.is_empty()
    }

    /// Whether a digest is listed that can be checked here.
    pub fn is_known(&self) -> bool {
        self.sha256.is_some() || self.sha512.is_some()
    }

    /// The digest under which a consistent snapshot keeps the file, hexadecimal; the repository keeps a copy under each.
    pub fn name(&self) -> Option<String> {
        self.sha256.map(|digest| digest.to_hex()).or_else(|| self.sha512.map(|digest| digest.to_hex()))
    }

    /// Begins to check a file that arrives piece by piece.
    pub fn check(&self) -> HashesCheck {
        HashesCheck {
            sha256: self.sha256.map(|listed| (listed, Sha256Hasher::new())),
            sha512: self.sha512.map(|listed| (listed, Sha512Hasher::new())),
        }
    }

    /// Checks a file against every known digest. Without one there is nothing to check: ask [`Hashes::is_known`] first.
    ///
    /// # Errors
    /// [`DigestMismatch`] of the first that differs.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), Box<DigestMismatch>> {
        let mut check = self.check();
        check.update(bytes);
        check.finish()
    }

    /// Brings two lists of digests of one file together; nothing when they have no algorithm in common, so that they could be of two
    /// files.
    ///
    /// # Errors
    /// [`DigestMismatch`] of the first algorithm under which they differ: found here, listed there.
    pub fn agree(&self, other: &Self) -> Result<Option<Self>, Box<DigestMismatch>> {
        let (sha256, sha512) = (self.sha256.zip(other.sha256), self.sha512.zip(other.sha512));
        if let Some((found, listed)) = sha256.filter(|(found, listed)| found != listed) {
            return Err(DigestMismatch::new("SHA-256", &found, &listed));
        }
        if let Some((found, listed)) = sha512.filter(|(found, listed)| found != listed) {
            return Err(DigestMismatch::new("SHA-512", &found, &listed));
        }
        let (all_sha256, all_sha512) = (self.sha256.or(other.sha256), self.sha512.or(other.sha512));
        let together = || Self { sha256: all_sha256, sha512: all_sha512, other: other.other.clone() };
        Ok((sha256.is_some() || sha512.is_some()).then(together))
    }

    /// Reads the object; at least one digest must be there.
    pub(super) fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of(SHA256);
        let sha256 = digest(&mut fields, SHA256, Sha256Digest::from_hex, "64 hexadecimal digits")?;
        let sha512 = digest(&mut fields, SHA512, Sha512Digest::from_hex, "128 hexadecimal digits")?;
        let hashes = Self { sha256, sha512, other: fields.rest() };
        if hashes.is_empty() { Err(MetadataError::Missing { place }) } else { Ok(hashes) }
    }

    pub(super) fn write(&self) -> Json {
        ObjectWriter::new(&self.other)
            .put_some(SHA256, self.sha256.map(|digest| Json::String(digest.to_hex())))
            .put_some(SHA512, self.sha512.map(|digest| Json::String(digest.to_hex())))
            .finish()
    }
}

fn digest<T>(fields: &mut Fields, name: &str, parse: fn(&str) -> Option<T>, expected: &'static str) -> Result<Option<T>, MetadataError> {
    let found = fields.optional(name);
    let malformed = || wrong(&fields.place_of(name), expected);
    match found {
        Some(Json::String(text)) => parse(&text).map(Some).ok_or_else(malformed),
        Some(_) => Err(malformed()),
        None => Ok(None),
    }
}

impl HashesCheck {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some((_, hasher)) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some((_, hasher)) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    /// Compares with every listed digest.
    ///
    /// # Errors
    /// [`DigestMismatch`] of the first that differs.
    pub fn finish(self) -> Result<(), Box<DigestMismatch>> {
        if let Some((listed, found)) = self.sha256.map(|(listed, hasher)| (listed, hasher.finish()))
            && listed != found
        {
            return Err(DigestMismatch::new("SHA-256", &found, &listed));
        }
        if let Some((listed, found)) = self.sha512.map(|(listed, hasher)| (listed, hasher.finish()))
            && listed != found
        {
            return Err(DigestMismatch::new("SHA-512", &found, &listed));
        }
        Ok(())
    }
}

impl DigestMismatch {
    fn new(algorithm: &'static str, found: &dyn ToString, listed: &dyn ToString) -> Box<Self> {
        Box::new(Self { algorithm, found: found.to_string(), listed: listed.to_string() })
    }
}

impl fmt::Display for DigestMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, found, listed } = self;
        write!(f, "{algorithm} {found} where {listed} is listed")
    }
}

impl fmt::Debug for HashesCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashesCheck").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::format;

    use super::*;
    use crate::metadata::json;

    fn read(text: &str) -> Result<Hashes, MetadataError> {
        Hashes::read(Fields::new(json::parse(text.as_bytes(), 10_000).unwrap(), "hashes").unwrap())
    }

    #[test]
    fn every_listed_digest_must_fit() {
        let (right, wrong) = (Sha512Digest::of(b"file"), Sha512Digest::of(b"elif"));
        let both = Hashes { sha512: Some(right), ..Hashes::of(b"file") };
        assert_eq!(both.verify(b"file"), Ok(()));
        assert_eq!(Hashes { sha256: None, ..both.clone() }.verify(b"file"), Ok(()));
        let one_wrong = Hashes { sha512: Some(wrong), ..both.clone() };
        assert_eq!(one_wrong.verify(b"file").unwrap_err().to_string(), format!("SHA-512 {right} where {wrong} is listed"));
        let (found, listed) = (Sha256Digest::of(b"elif"), Sha256Digest::of(b"file"));
        assert_eq!(both.verify(b"elif").unwrap_err().to_string(), format!("SHA-256 {found} where {listed} is listed"));
    }

    #[test]
    fn two_lists_agree_where_both_know_an_algorithm() {
        let (sha256, sha512) = (Hashes::of(b"file"), Some(Sha512Digest::of(b"file")));
        let (both, other) = (Hashes { sha512, ..sha256.clone() }, Hashes { sha512, ..Hashes::of(b"elif") });
        assert_eq!(sha256.agree(&both), Ok(Some(both.clone())));
        assert_eq!(both.agree(&sha256), Ok(Some(both.clone())));
        assert_eq!(sha256.agree(&Hashes { sha512, ..Hashes::default() }), Ok(None));
        let (found, listed) = (Sha256Digest::of(b"elif"), Sha256Digest::of(b"file"));
        assert_eq!(other.agree(&both).unwrap_err().to_string(), format!("SHA-256 {found} where {listed} is listed"));
        let other = Hashes { sha512: Some(Sha512Digest::of(b"elif")), ..sha256 };
        assert!(both.agree(&other).unwrap_err().to_string().starts_with("SHA-512"));
    }

    #[test]
    fn the_object_survives_a_round_trip_with_algorithms_that_are_unknown() {
        let text = format!(r#"{{"blake3":"00","sha512":"{}"}}"#, Sha512Digest::of(b"file"));
        let hashes = read(&text).unwrap();
        assert_eq!(format!("{}", hashes.write()), text);
        assert!(hashes.is_known() && !read(r#"{"blake3":"00"}"#).unwrap().is_known());
        for (text, expected) in [
            ("{}", "hashes.sha256 is missing"),
            (r#"{"sha256":"00"}"#, "hashes.sha256 is not 64 hexadecimal digits"),
            (r#"{"sha512":7}"#, "hashes.sha512 is not 128 hexadecimal digits"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected);
        }
    }
}
