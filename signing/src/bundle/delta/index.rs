//! The index of a delta: a small signed target, one row for each chunk of the bundle that it restores.
//!
//! Little-endian binary, no gaps:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic `SWBD` |
//! | 2 | format, 1 |
//! | 2 | how each chunk is encrypted, as in the full index: 0 not at all, 1 AES-256-GCM under a key of its own |
//! | 4 | number of rows, as in the full index |
//! | 4 | number of base files |
//! | 32 | SHA-256 of the full index |
//! | 32 | SHA-256 of the base's chunk index |
//! | 32 | SHA-256 of the base's `manifest.json` |
//! | 8 | release counter of the base |
//! | 32 | random bytes, from which and the content key the delta's own key is derived |
//! | 8 | length of the data file |
//! | 32 | SHA-256 of the data file |
//! | 41 + path each | base files: length of the path 1, the path, length 8, SHA-256 32 |
//! | 38 each | rows: source 1, filter 1, stored length 4, SHA-256 of the stored bytes 32 |
//!
//! A row's source is 0 where the chunk is taken from the full bundle, and then the rest of the row is zeros; 1 where it lies in the data
//! file, whose chunks follow each other without gaps. Its filter then is 2, the segment map. Raw lengths and the hashes of what comes out
//! are in the full index and nowhere else, so that a delta cannot contradict them.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::base::BaseRelease;
use crate::{
    bundle::{
        error::BundleError,
        fields::Fields,
        index::{CHUNK_STORED_MAX, CHUNKS_MAX, ENCRYPTED_GROWTH, encryption_number, encryption_of},
        manifest::{FILES_MAX, FileEntry},
    },
    digest::Sha256Digest,
    metadata::EncryptionMethod,
};

const MAGIC: [u8; 4] = *b"SWBD";

/// The delta format that this release writes and reads.
pub const DELTA_FORMAT: u16 = 1;

const HEADER_LENGTH: usize = 192;
const ROW_LENGTH: usize = 38;

/// Longest path of a base file, bytes; what a ustar header holds.
const PATH_LENGTH_MAX: usize = 100;

/// Longest index of a delta, bytes.
pub const DELTA_INDEX_LENGTH_MAX: usize = HEADER_LENGTH + FILES_MAX * (41 + PATH_LENGTH_MAX) + ROW_LENGTH * CHUNKS_MAX;

/// The filter of every row that lies in the data file: the segment map.
const SEGMENT_MAP: u8 = 2;

/// Where a chunk is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The full bundle, in which it is not larger.
    Full,
    /// The delta's data file.
    Delta {
        /// Number of stored bytes.
        stored_length: u32,
        /// SHA-256 of the stored bytes.
        stored_sha256: Sha256Digest,
    },
}

/// What a delta says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) encryption: Option<EncryptionMethod>,
    pub(super) full_index_sha256: Sha256Digest,
    pub(super) base: BaseRelease,
    pub(super) salt: [u8; 32],
    pub(super) data_length: u64,
    pub(super) data_sha256: Sha256Digest,
}

/// The index of one delta: well-formed by construction, of use only with the full index that it belongs to ([`super::Delta::new`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaIndex {
    summary: Summary,
    rows: Vec<Source>,
}

impl DeltaIndex {
    #[cfg(feature = "std")]
    pub(super) fn new(summary: Summary, rows: Vec<Source>) -> Result<Self, BundleError> {
        let index = Self { summary, rows };
        index.check()?;
        Ok(index)
    }

    /// Reads an index strictly.
    ///
    /// # Errors
    /// `DeltaIndex`: bytes missing or left over, a value outside its limit, an unknown format, source or filter, or sums of the rows that do
    /// not agree with the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let cut_off = |expected, found| refuse("its length", format!("at least {expected}"), found);
        let mut fields = Fields::new(bytes, HEADER_LENGTH, cut_off);
        let magic = fields.take()?;
        if magic != MAGIC {
            return Err(refuse("its magic", "`SWBD`", format!("{magic:02x?}")));
        }
        let format = fields.u16()?;
        if format != DELTA_FORMAT {
            return Err(refuse("its format", DELTA_FORMAT, format));
        }
        let method = fields.u16()?;
        let encryption = encryption_of(method).ok_or_else(|| refuse("the method of encryption", "0 or 1", method))?;
        let (row_count, file_count) = (fields.u32()?, fields.u32()?);
        if file_count as usize > FILES_MAX {
            return Err(refuse("the number of base files", format!("at most {FILES_MAX}"), file_count));
        }
        if row_count as usize > CHUNKS_MAX {
            return Err(refuse("the number of rows", format!("1 to {CHUNKS_MAX}"), row_count));
        }
        let (full_index_sha256, index_sha256, manifest_sha256) = (fields.digest()?, fields.digest()?, fields.digest()?);
        let (release_counter, salt) = (fields.u64()?, fields.take()?);
        let (data_length, data_sha256) = (fields.u64()?, fields.digest()?);
        let mut files = Vec::new();
        for _ in 0..file_count {
            files.push(fields.file()?);
        }
        // Before the rows are allocated: the header alone must not be able to reserve memory.
        let expected = row_count as usize * ROW_LENGTH;
        if fields.bytes.len() != expected {
            return Err(refuse("its length", bytes.len() - fields.bytes.len() + expected, bytes.len()));
        }
        let base = BaseRelease { index_sha256, manifest_sha256, release_counter, files };
        let mut rows = Vec::with_capacity(row_count as usize);
        for number in 0..row_count as usize {
            rows.push(fields.row(number)?);
        }
        let index = Self { summary: Summary { encryption, full_index_sha256, base, salt, data_length, data_sha256 }, rows };
        index.check()?;
        Ok(index)
    }

    /// The index as bytes; what is signed and published.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Summary { encryption, full_index_sha256, base, salt, data_length, data_sha256 } = &self.summary;
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + ROW_LENGTH * self.rows.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&DELTA_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&encryption_number(*encryption).to_le_bytes());
        // `check` bounds both numbers.
        bytes.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(base.files.len() as u32).to_le_bytes());
        for digest in [full_index_sha256, &base.index_sha256, &base.manifest_sha256] {
            bytes.extend_from_slice(digest.as_bytes());
        }
        bytes.extend_from_slice(&base.release_counter.to_le_bytes());
        bytes.extend_from_slice(salt);
        bytes.extend_from_slice(&data_length.to_le_bytes());
        bytes.extend_from_slice(data_sha256.as_bytes());
        for file in &base.files {
            bytes.push(file.path.len() as u8);
            bytes.extend_from_slice(file.path.as_bytes());
            bytes.extend_from_slice(&file.length.to_le_bytes());
            bytes.extend_from_slice(file.sha256.as_bytes());
        }
        for row in &self.rows {
            match row {
                Source::Full => bytes.extend_from_slice(&[0; ROW_LENGTH]),
                Source::Delta { stored_length, stored_sha256 } => {
                    bytes.extend_from_slice(&[1, SEGMENT_MAP]);
                    bytes.extend_from_slice(&stored_length.to_le_bytes());
                    bytes.extend_from_slice(stored_sha256.as_bytes());
                }
            }
        }
        bytes
    }

    /// SHA-256 of the full index that it belongs to.
    pub fn full_index_sha256(&self) -> Sha256Digest {
        self.summary.full_index_sha256
    }

    /// The release that it starts from.
    pub fn base(&self) -> &BaseRelease {
        &self.summary.base
    }

    /// How its chunks are encrypted.
    pub fn encryption(&self) -> Option<EncryptionMethod> {
        self.summary.encryption
    }

    /// Length of the data file, bytes.
    pub fn data_length(&self) -> u64 {
        self.summary.data_length
    }

    /// SHA-256 of the whole data file.
    pub fn data_sha256(&self) -> Sha256Digest {
        self.summary.data_sha256
    }

    /// Where each chunk is taken from.
    pub fn rows(&self) -> &[Source] {
        &self.rows
    }

    #[cfg(feature = "std")]
    pub(super) fn salt(&self) -> &[u8; 32] {
        &self.summary.salt
    }

    fn check(&self) -> Result<(), BundleError> {
        let Summary { encryption, base, data_length, .. } = &self.summary;
        if self.rows.is_empty() || self.rows.len() > CHUNKS_MAX {
            return Err(refuse("the number of rows", format!("1 to {CHUNKS_MAX}"), self.rows.len()));
        }
        if base.files.len() > FILES_MAX {
            return Err(refuse("the number of base files", format!("at most {FILES_MAX}"), base.files.len()));
        }
        for (number, file) in base.files.iter().enumerate() {
            if !is_relative(&file.path) || base.files[..number].iter().any(|before| before.path == file.path) {
                let expected = format!("a relative path of at most {PATH_LENGTH_MAX} bytes that no other base file has");
                return Err(refuse(&format!("the path of base file {number}"), expected, format!("{:?}", file.path)));
            }
        }
        let shortest = if encryption.is_some() { ENCRYPTED_GROWTH + 1 } else { 1 };
        let mut stored = 0_u64;
        for (number, row) in self.rows.iter().enumerate() {
            let Source::Delta { stored_length, .. } = row else { continue };
            if !(shortest..=CHUNK_STORED_MAX).contains(&(*stored_length as usize)) {
                return Err(refuse_row(number, "stored length", format!("{shortest} to {CHUNK_STORED_MAX}"), stored_length));
            }
            // At most 2^20 rows of at most 2^21 bytes: no overflow.
            stored += u64::from(*stored_length);
        }
        if *data_length != stored {
            return Err(refuse("the data file's length", format!("the sum of the rows, {stored}"), data_length));
        }
        Ok(())
    }
}

/// No path of a base file opens anything: whoever reads the base knows its files by their position. It is shown to people, and is held to
/// what cannot leave a folder all the same.
fn is_relative(path: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..");
    path.len() <= PATH_LENGTH_MAX && !path.contains(['\\', '\0']) && !path.chars().any(char::is_control) && path.split('/').all(segment)
}

pub(super) fn refuse(field: &str, expected: impl ToString, found: impl ToString) -> BundleError {
    BundleError::DeltaIndex { field: field.into(), expected: expected.to_string(), found: found.to_string() }
}

pub(super) fn refuse_row(row: usize, field: &str, expected: impl ToString, found: impl ToString) -> BundleError {
    refuse(&format!("row {row}: {field}"), expected, found)
}

impl Fields<'_> {
    fn file(&mut self) -> Result<FileEntry, BundleError> {
        let [length] = self.take()?;
        let mut path = Vec::with_capacity(length.into());
        for _ in 0..length {
            path.extend(self.take::<1>()?);
        }
        let path = String::from_utf8(path).map_err(|error| refuse("the path of a base file", "UTF-8", error))?;
        Ok(FileEntry { path, length: self.u64()?, sha256: self.digest()? })
    }

    fn row(&mut self, row: usize) -> Result<Source, BundleError> {
        let [source, filter] = self.take()?;
        let (stored_length, stored_sha256) = (self.u32()?, self.digest()?);
        match (source, filter) {
            (0, 0) if stored_length == 0 && stored_sha256.as_bytes() == &[0; 32] => Ok(Source::Full),
            (0, _) => Err(refuse_row(row, "what follows the source 0", "zeros", "something else")),
            (1, SEGMENT_MAP) => Ok(Source::Delta { stored_length, stored_sha256 }),
            (1, _) => Err(refuse_row(row, "filter", SEGMENT_MAP, filter)),
            _ => Err(refuse_row(row, "source", "0 or 1", source)),
        }
    }
}
