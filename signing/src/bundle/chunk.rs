//! From stored bytes to raw bytes, with the hash checked before anything else looks at them.
//!
//! The order is in the types: stored bytes become a [`VerifiedChunk`] when their hash is the signed one, only a `VerifiedChunk` can be
//! decoded, and only [`RawChunk`]s, whose own hash is the signed one, can be given to the archive reader. None of them can be made
//! in another way.

use super::{error::BundleError, index::ChunkRow};
use crate::digest::Sha256Digest;

/// Stored bytes whose SHA-256 is the one in the index.
#[derive(Debug)]
pub struct VerifiedChunk<'a> {
    row: &'a ChunkRow,
    stored: &'a [u8],
}

impl<'a> VerifiedChunk<'a> {
    pub(super) fn check(row: &'a ChunkRow, stored: &'a [u8]) -> Result<Self, BundleError> {
        let (expected, found) = (u64::from(row.stored_length), stored.len() as u64);
        if found != expected {
            return Err(BundleError::ChunkLength { chunk: row.number, expected, found });
        }
        let found = Sha256Digest::of(stored);
        if found != row.stored_sha256 {
            return Err(BundleError::ChunkHash { chunk: row.number, expected: row.stored_sha256, found });
        }
        Ok(Self { row, stored })
    }

    /// What the index says about them.
    pub fn row(&self) -> &'a ChunkRow {
        self.row
    }

    /// The stored bytes.
    pub fn stored(&self) -> &'a [u8] {
        self.stored
    }
}

/// Raw bytes whose SHA-256 is the one in the index. The archive reader takes bytes off its front.
#[derive(Debug)]
pub struct RawChunk<'a> {
    offset: u64,
    raw: &'a [u8],
}

impl<'a> RawChunk<'a> {
    pub(super) fn check(row: &ChunkRow, raw: &'a [u8]) -> Result<Self, BundleError> {
        let (expected, found) = (u64::from(row.raw_length), raw.len() as u64);
        if found != expected {
            return Err(BundleError::RawLength { chunk: row.number, expected, found });
        }
        let found = Sha256Digest::of(raw);
        if found != row.raw_sha256 {
            return Err(BundleError::RawHash { chunk: row.number, expected: row.raw_sha256, found });
        }
        Ok(Self { offset: row.raw_offset, raw })
    }

    /// Offset in the archive of the first byte that was not taken yet.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that were not taken yet.
    pub fn bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Takes up to `count` bytes off the front.
    pub(super) fn take(&mut self, count: u64) -> &'a [u8] {
        // A chunk is at most a megabyte, so the length fits.
        let (taken, rest) = self.raw.split_at(count.min(self.raw.len() as u64) as usize);
        self.offset += taken.len() as u64;
        self.raw = rest;
        taken
    }
}
