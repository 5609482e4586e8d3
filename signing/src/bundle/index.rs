//! The chunk index: the small signed target that lets a bundle be trusted piece by piece.
//!
//! Little-endian binary, no gaps:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `SWBX` |
//! | 2 | format, 1 |
//! | 2 | how each chunk is encrypted: 0 not at all, 1 AES-256-GCM |
//! | 4 | number of rows |
//! | 4 | length of `manifest.json` |
//! | 8 | length of the tar archive |
//! | 8 | length of the bundle (the `.tar.zst`) |
//! | 32 | SHA-256 of the bundle |
//! | 32 | SHA-256 of `manifest.json` |
//! | 73 each | rows: stored length 4, raw length 4, filter 1, SHA-256 of the stored bytes 32, SHA-256 of the raw bytes 32 |
//!
//! In an encrypted bundle the stored bytes of a chunk are its zstd frame under AES-256-GCM, with the chunk's number as the 96-bit big-endian
//! nonce and the tag of 16 bytes at their end. Everything that says "stored" and the SHA-256 of the bundle is over the encrypted bytes.
//! A reader that knows no encryption finds the field not zero and refuses the index.
//!
//! Filter 0 is a zstd frame of the raw bytes. Filter 1 is a segment map (`delta`) without a base: literals and byte planes. Releases that know
//! no filter refuse it by its row.
//!
//! Offsets are not stored: they are sums, so an index cannot contradict itself about them.

use alloc::{format, string::String, vec::Vec};
use core::ops::RangeInclusive;

use super::{
    chunk::{RawChunk, VerifiedChunk},
    error::BundleError,
    fields::Fields,
    manifest::MANIFEST_LENGTH_MAX,
};
use crate::{digest::Sha256Digest, metadata::EncryptionMethod};

const MAGIC: [u8; 4] = *b"SWBX";

/// The index format that this release writes and reads.
pub const INDEX_FORMAT: u16 = 1;

const HEADER_LENGTH: usize = 96;
const ROW_LENGTH: usize = 73;

/// Most raw bytes in one chunk. A megabyte costs 4.5 MiB of memory to install and decodes as fast as four.
pub const CHUNK_RAW_MAX: usize = 1 << 20;

/// Most bytes by which a chunk may grow when it is stored; a zstd frame of raw blocks needs 33, its encryption 16.
pub const CHUNK_GROWTH_MAX: usize = 64 << 10;

/// By how many bytes encryption makes each chunk longer: the tag.
pub const ENCRYPTED_GROWTH: usize = 16;

/// Most stored bytes in one chunk; a buffer of this size holds any.
pub const CHUNK_STORED_MAX: usize = CHUNK_RAW_MAX + CHUNK_GROWTH_MAX;

/// Most chunks in one bundle: a terabyte of weights.
pub const CHUNKS_MAX: usize = 1 << 20;

/// Longest index, bytes.
pub const INDEX_LENGTH_MAX: usize = HEADER_LENGTH + ROW_LENGTH * CHUNKS_MAX;

/// How a chunk's bytes were prepared before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// Not at all: `zstd -d` gives the archive's bytes.
    None,
    /// A segment map without a base: tensors lie in byte planes, which compress better than their elements do.
    Planes,
}

impl Filter {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Planes),
            _ => None,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Planes => 1,
        }
    }
}

/// One chunk of a bundle. Only [`ChunkIndex::parse`] and the bundle writer make rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRow {
    pub(super) number: usize,
    pub(super) stored_offset: u64,
    pub(super) raw_offset: u64,
    pub(super) stored_length: u32,
    pub(super) raw_length: u32,
    pub(super) filter: Filter,
    pub(super) stored_sha256: Sha256Digest,
    pub(super) raw_sha256: Sha256Digest,
}

impl ChunkRow {
    /// Number of the chunk, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where the chunk's stored bytes begin in the bundle: the start of an HTTP range.
    pub fn stored_offset(&self) -> u64 {
        self.stored_offset
    }

    /// Number of stored bytes, which are compressed and may be encrypted; at most [`CHUNK_STORED_MAX`].
    pub fn stored_length(&self) -> u32 {
        self.stored_length
    }

    /// Where the chunk's raw bytes begin in the archive.
    pub fn raw_offset(&self) -> u64 {
        self.raw_offset
    }

    /// Number of raw bytes; at most [`CHUNK_RAW_MAX`].
    pub fn raw_length(&self) -> u32 {
        self.raw_length
    }

    /// How the chunk's bytes were prepared before compression.
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// SHA-256 of the stored bytes.
    pub fn stored_sha256(&self) -> Sha256Digest {
        self.stored_sha256
    }

    /// SHA-256 of the raw bytes; also the address by which an equal chunk is found elsewhere.
    pub fn raw_sha256(&self) -> Sha256Digest {
        self.raw_sha256
    }
}

/// What the index says about the whole bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) encryption: Option<EncryptionMethod>,
    pub(super) manifest_length: u32,
    pub(super) manifest_sha256: Sha256Digest,
    pub(super) tar_length: u64,
    pub(super) bundle_length: u64,
    pub(super) bundle_sha256: Sha256Digest,
}

/// The chunk index of one bundle: well-formed by construction, believed only when its own hash is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkIndex {
    summary: Summary,
    rows: Vec<ChunkRow>,
}

impl ChunkIndex {
    pub(super) fn new(summary: Summary, rows: Vec<ChunkRow>) -> Result<Self, BundleError> {
        let index = Self { summary, rows };
        index.check()?;
        Ok(index)
    }

    /// Reads an index strictly.
    ///
    /// # Errors
    /// `IndexLength`, `IndexMagic`, `IndexFormat`, `IndexHeader` or `IndexRow`: bytes missing or left over, a value outside its
    /// limit, an unknown filter, or sums of the rows that do not agree with the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut fields = Fields::new(bytes, HEADER_LENGTH, |expected, found| BundleError::IndexLength { expected, found });
        let magic = fields.take()?;
        if magic != MAGIC {
            return Err(BundleError::IndexMagic { found: magic });
        }
        let format = fields.u16()?;
        if format != INDEX_FORMAT {
            return Err(BundleError::IndexFormat { found: format, known: INDEX_FORMAT });
        }
        let encryption = fields.encryption()?;
        let row_count = fields.u32()?;
        if row_count as usize > CHUNKS_MAX {
            return Err(header("the number of rows", format!("1 to {CHUNKS_MAX}"), row_count.into()));
        }
        let summary = fields.summary(encryption)?;
        // Before the rows are allocated: the header alone must not be able to reserve memory.
        fields.expected = HEADER_LENGTH + row_count as usize * ROW_LENGTH;
        if fields.found != fields.expected {
            return Err(fields.length());
        }
        let rows = fields.rows(row_count as usize)?;
        Self::new(summary, rows)
    }

    /// The index as bytes; what is signed and published.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + ROW_LENGTH * self.rows.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&INDEX_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&encryption_number(self.summary.encryption).to_le_bytes());
        // `check` bounds the number of rows by CHUNKS_MAX.
        bytes.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.summary.manifest_length.to_le_bytes());
        bytes.extend_from_slice(&self.summary.tar_length.to_le_bytes());
        bytes.extend_from_slice(&self.summary.bundle_length.to_le_bytes());
        bytes.extend_from_slice(self.summary.bundle_sha256.as_bytes());
        bytes.extend_from_slice(self.summary.manifest_sha256.as_bytes());
        for row in &self.rows {
            bytes.extend_from_slice(&row.stored_length.to_le_bytes());
            bytes.extend_from_slice(&row.raw_length.to_le_bytes());
            bytes.push(row.filter.to_byte());
            bytes.extend_from_slice(row.stored_sha256.as_bytes());
            bytes.extend_from_slice(row.raw_sha256.as_bytes());
        }
        bytes
    }

    /// Rows in the order of the bundle.
    pub fn rows(&self) -> &[ChunkRow] {
        &self.rows
    }

    /// Row of chunk `number`.
    ///
    /// # Errors
    /// `ChunkUnknown` beyond the last chunk.
    pub fn row(&self, number: usize) -> Result<&ChunkRow, BundleError> {
        self.rows.get(number).ok_or(BundleError::ChunkUnknown { chunk: number, chunks: self.rows.len() })
    }

    /// SHA-256 of the index as bytes: the identity of the release.
    pub fn sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.to_bytes())
    }

    /// How the bundle's chunks are encrypted; none for a bundle that anybody may read.
    pub fn encryption(&self) -> Option<EncryptionMethod> {
        self.summary.encryption
    }

    /// Length of `manifest.json`, bytes.
    pub fn manifest_length(&self) -> u32 {
        self.summary.manifest_length
    }

    /// SHA-256 of `manifest.json`.
    pub fn manifest_sha256(&self) -> Sha256Digest {
        self.summary.manifest_sha256
    }

    /// Length of the uncompressed archive, bytes.
    pub fn tar_length(&self) -> u64 {
        self.summary.tar_length
    }

    /// Length of the bundle, bytes.
    pub fn bundle_length(&self) -> u64 {
        self.summary.bundle_length
    }

    /// SHA-256 of the whole bundle.
    pub fn bundle_sha256(&self) -> Sha256Digest {
        self.summary.bundle_sha256
    }

    /// Checks the stored bytes of chunk `number`. The result is the only thing that a decoder accepts.
    ///
    /// # Errors
    /// `ChunkUnknown`, `ChunkLength` or `ChunkHash`.
    pub fn verify_stored<'a>(&'a self, number: usize, stored: &'a [u8]) -> Result<VerifiedChunk<'a>, BundleError> {
        VerifiedChunk::check(self.row(number)?, stored)
    }

    /// Checks raw bytes of chunk `number` that come from elsewhere than the network: a file that was written before a power cut,
    /// or an equal chunk of the installed release.
    ///
    /// # Errors
    /// `ChunkUnknown`, `RawLength` or `RawHash`.
    pub fn verify_raw<'a>(&'a self, number: usize, raw: &'a [u8]) -> Result<RawChunk<'a>, BundleError> {
        RawChunk::check(self.row(number)?, raw)
    }

    fn check(&self) -> Result<(), BundleError> {
        let Summary { encryption, manifest_length, tar_length, bundle_length, .. } = self.summary;
        if manifest_length == 0 || manifest_length as usize > MANIFEST_LENGTH_MAX {
            return Err(header("the manifest's length", format!("1 to {MANIFEST_LENGTH_MAX}"), manifest_length.into()));
        }
        if self.rows.is_empty() || self.rows.len() > CHUNKS_MAX {
            return Err(header("the number of rows", format!("1 to {CHUNKS_MAX}"), self.rows.len() as u64));
        }
        self.rows.iter().try_for_each(|row| check_row(row, encryption))?;
        // At most 2^20 rows of at most 2^32 bytes: the sums cannot overflow.
        let raw: u64 = self.rows.iter().map(|row| u64::from(row.raw_length)).sum();
        if tar_length != raw {
            return Err(header("the archive's length", format!("the sum of the rows, {raw}"), tar_length));
        }
        let stored: u64 = self.rows.iter().map(|row| u64::from(row.stored_length)).sum();
        if bundle_length != stored {
            return Err(header("the bundle's length", format!("the sum of the rows, {stored}"), bundle_length));
        }
        Ok(())
    }
}

fn check_row(row: &ChunkRow, encryption: Option<EncryptionMethod>) -> Result<(), BundleError> {
    let within = |field, allowed: RangeInclusive<usize>, found: u32| {
        if allowed.contains(&(found as usize)) {
            return Ok(());
        }
        let allowed = format!("{} to {}", allowed.start(), allowed.end());
        Err(BundleError::IndexRow { row: row.number, field, allowed, found: found.into() })
    };
    within("raw length", 1..=CHUNK_RAW_MAX, row.raw_length)?;
    let stored_min = if encryption.is_some() { ENCRYPTED_GROWTH + 1 } else { 1 };
    within("stored length", stored_min..=row.raw_length as usize + CHUNK_GROWTH_MAX, row.stored_length)
}

/// The method of encryption as a header has it.
pub(super) fn encryption_number(encryption: Option<EncryptionMethod>) -> u16 {
    match encryption {
        None => 0,
        Some(EncryptionMethod::Aes256GcmChunks) => 1,
    }
}

/// The method of encryption of a header's number; none for a number that is not known.
pub(super) fn encryption_of(number: u16) -> Option<Option<EncryptionMethod>> {
    let known = [None, Some(EncryptionMethod::Aes256GcmChunks)];
    known.into_iter().find(|method| encryption_number(*method) == number)
}

fn header(field: &'static str, expected: impl Into<String>, found: u64) -> BundleError {
    BundleError::IndexHeader { field, expected: expected.into(), found }
}

impl Fields<'_> {
    fn encryption(&mut self) -> Result<Option<EncryptionMethod>, BundleError> {
        let number = self.u16()?;
        let unknown = || header("the method of encryption", "0 or 1", number.into());
        encryption_of(number).ok_or_else(unknown)
    }

    fn summary(&mut self, encryption: Option<EncryptionMethod>) -> Result<Summary, BundleError> {
        Ok(Summary {
            encryption,
            manifest_length: self.u32()?,
            tar_length: self.u64()?,
            bundle_length: self.u64()?,
            bundle_sha256: self.digest()?,
            manifest_sha256: self.digest()?,
        })
    }

    fn rows(&mut self, count: usize) -> Result<Vec<ChunkRow>, BundleError> {
        let mut rows = Vec::with_capacity(count);
        let (mut stored_offset, mut raw_offset) = (0, 0);
        for number in 0..count {
            let row = ChunkRow {
                number,
                stored_offset,
                raw_offset,
                stored_length: self.u32()?,
                raw_length: self.u32()?,
                filter: self.filter(number)?,
                stored_sha256: self.digest()?,
                raw_sha256: self.digest()?,
            };
            stored_offset += u64::from(row.stored_length);
            raw_offset += u64::from(row.raw_length);
            rows.push(row);
        }
        Ok(rows)
    }

    fn filter(&mut self, row: usize) -> Result<Filter, BundleError> {
        let [byte] = self.take()?;
        let unknown = || BundleError::IndexRow { row, field: "filter", allowed: "0 or 1".into(), found: byte.into() };
        Filter::from_byte(byte).ok_or_else(unknown)
    }
}
