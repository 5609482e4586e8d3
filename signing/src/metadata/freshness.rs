//! How a Director shows a vehicle that what it says is of today: the vehicle asks with a nonce, and the answer carries it.
//!
//! Both are in a field of the Timestamp that TUF does not know and keeps, because it is signed. That the field is there at all says that this
//! Director answers nonces, so that a vehicle which has seen it once knows that an answer without its nonce is not the Director's.
//! `docs/adr/0013` says why it is as it is.

use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

use super::{
    MetadataError, Timestamp,
    json::Json,
    object::{Fields, ObjectWriter},
};
use crate::{
    keys::encoding::{array_from_hex, to_hex},
    time::UnixTime,
};

const FRESHNESS: &str = "freshness";

/// Drawn by a vehicle for one question. Random, so that nobody can have the answer before the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; Self::BYTES]);

/// What a Director that answers nonces says in every Timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When it was signed.
    pub signed_at: UnixTime,
    /// The nonce of the question that it answers, if it answers one.
    pub nonce: Option<Nonce>,
}

impl Nonce {
    /// Bytes of a nonce.
    pub const BYTES: usize = 16;

    /// From random bytes.
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

/// 32 lower-case hexadecimal digits, as it is asked with and signed.
impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

/// That a text is no nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a nonce has 32 hexadecimal digits")]
pub struct NonceError;

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        array_from_hex(text).map(Self).ok_or(NonceError)
    }
}

impl Timestamp {
    /// The same by a Director that answers nonces.
    #[must_use]
    pub fn with_freshness(mut self, freshness: &Freshness) -> Self {
        let Freshness { signed_at, nonce } = freshness;
        let object = ObjectWriter::new(&Default::default())
            .put("signedAt", Json::String(signed_at.to_string()))
            .put_some("nonce", nonce.map(|nonce| Json::String(nonce.to_string())));
        self.extra.insert(FRESHNESS.to_string(), object.finish());
        self
    }

    /// What it says of its freshness; nothing where the Director does not answer nonces.
    ///
    /// # Errors
    /// [`MetadataError`] when that cannot be read.
    pub fn freshness(&self) -> Result<Option<Freshness>, MetadataError> {
        let Some(freshness) = self.extra.get(FRESHNESS) else { return Ok(None) };
        let mut fields = Fields::new(freshness.clone(), String::from("signed.freshness"))?;
        let (signed_at, nonce) = (fields.time("signedAt")?, fields.optional_parsed("nonce", "32 hexadecimal digits")?);
        Ok(Some(Freshness { signed_at, nonce }))
    }
}
