//! From stored bytes to raw bytes, with the hash checked before anything else looks at them.
//!
//! The order is in the types: stored bytes become a [`VerifiedChunk`] when their hash is the signed one, only a `VerifiedChunk` can be
//! decoded, and only [`RawChunk`]s, whose own hash is the signed one, can be given to the archive reader. None of them can be made
//! in another way.

use alloc::{boxed::Box, string::ToString, vec};

use zstd::{bulk::Decompressor, zstd_safe};

use super::{
    error::BundleError,
    index::{CHUNK_RAW_MAX, ChunkRow, Filter},
};
use crate::digest::Sha256Digest;

/// Largest zstd window that is accepted, as a power of two. zstd's own limit of 2^27 turns a frame of 4 KB into 133 MB of memory.
const WINDOW_LOG_MAX: u32 = 23;

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

/// Decodes chunks into one fixed buffer of [`CHUNK_RAW_MAX`] bytes, whatever a frame claims.
pub struct ChunkDecoder {
    zstd: Decompressor<'static>,
    raw: Box<[u8]>,
}

impl ChunkDecoder {
    /// A decoder with its buffer allocated.
    ///
    /// # Errors
    /// `Zstd` when zstd cannot allocate its context.
    pub fn new() -> Result<Self, BundleError> {
        let mut zstd = Decompressor::new().map_err(zstd_error)?;
        zstd.set_parameter(zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(zstd_error)?;
        Ok(Self { zstd, raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice() })
    }

    /// Decodes one chunk and checks the result.
    ///
    /// # Errors
    /// `ChunkDecode` when the bytes are not exactly one zstd frame within the limits; `RawLength` or `RawHash` when it decodes to
    /// something else than the index says.
    pub fn decode(&mut self, chunk: VerifiedChunk<'_>) -> Result<RawChunk<'_>, BundleError> {
        let VerifiedChunk { row, stored } = chunk;
        match row.filter {
            Filter::None => {}
        }
        let refuse = |reason| BundleError::ChunkDecode { chunk: row.number, reason };
        check_frame(stored, row.raw_length).map_err(refuse)?;
        // `ChunkIndex` bounds every raw length by CHUNK_RAW_MAX, the length of the buffer.
        let raw = &mut self.raw[..row.raw_length as usize];
        let length =
            self.zstd.decompress_to_buffer(stored, raw).map_err(|_| refuse("the zstd frame is damaged or longer than the index says"))?;
        RawChunk::check(row, &self.raw[..length])
    }
}

fn zstd_error(error: std::io::Error) -> BundleError {
    BundleError::Zstd { reason: error.to_string() }
}

/// Refuses everything but one plain zstd frame (RFC 8878 section 3.1.1) that ends where the bytes end. zstd itself would also take
/// skippable frames and several frames in a row, and would open a dictionary or a window of any size that a header asks for.
fn check_frame(stored: &[u8], raw_length: u32) -> Result<(), &'static str> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let rest = stored.strip_prefix(&MAGIC).ok_or("it does not begin with the magic number of a zstd frame")?;
    let (&descriptor, rest) = rest.split_first().ok_or("the zstd frame header is cut off")?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return Err("the zstd frame header uses a reserved bit");
    }
    if descriptor & 0x03 != 0 {
        return Err("the zstd frame asks for a dictionary");
    }
    let size_bytes = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (flag, _) => 1_usize << flag,
    };
    let rest = if single_segment {
        rest
    } else {
        let (&window, rest) = rest.split_first().ok_or("the zstd frame header is cut off")?;
        if window_bytes(window) > 1 << WINDOW_LOG_MAX {
            return Err("the zstd frame asks for a window above 8 MiB");
        }
        rest
    };
    let size = rest.get(..size_bytes).ok_or("the zstd frame header is cut off")?;
    if size_bytes > 0 && content_size(size) != u64::from(raw_length) {
        return Err("the zstd frame states another length than the index");
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(length) if length == stored.len() => Ok(()),
        Ok(_) => Err("bytes follow the zstd frame"),
        Err(_) => Err("the zstd frame is cut off or damaged"),
    }
}

/// RFC 8878 section 3.1.1.1.2.
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// RFC 8878 section 3.1.1.1.4.
fn content_size(field: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..field.len()].copy_from_slice(field);
    let offset = if field.len() == 2 { 256 } else { 0 };
    u64::from_le_bytes(bytes).saturating_add(offset)
}
