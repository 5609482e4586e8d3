//! Decryption where the index says so, then zstd, held to one plain frame and a fixed amount of memory.

use alloc::{boxed::Box, string::ToString, vec};

use zstd::{bulk::Decompressor, zstd_safe};

use super::{
    chunk::{RawChunk, VerifiedChunk},
    content_key::ContentKey,
    encryption::ChunkCipher,
    error::BundleError,
    index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX, ChunkIndex, Filter},
};

/// Largest zstd window that is accepted, as a power of two. zstd's own limit of 2^27 turns a frame of 4 KB into 133 MB of memory.
const WINDOW_LOG_MAX: u32 = 23;

/// Decodes the chunks of one bundle into one fixed buffer of [`CHUNK_RAW_MAX`] bytes, whatever a frame claims; those of an encrypted
/// bundle by way of a second one for what was decrypted.
pub struct ChunkDecoder {
    opening: Option<Opening>,
    zstd: Decompressor<'static>,
    raw: Box<[u8]>,
}

/// What an encrypted bundle needs on top.
struct Opening {
    cipher: ChunkCipher,
    compressed: Box<[u8]>,
}

impl ChunkDecoder {
    /// A decoder for the bundle of this index, with its buffers allocated. The key is the one that the bundle was written with, and none for a
    /// bundle that is not encrypted.
    ///
    /// # Errors
    /// `ContentKeyMissing` or `ContentKeyUnneeded` when index and key do not go together; `Zstd` when zstd cannot allocate its context.
    pub fn new(index: &ChunkIndex, key: Option<&ContentKey>) -> Result<Self, BundleError> {
        let opening = match (index.encryption(), key) {
            (None, None) => None,
            (Some(_), Some(key)) => {
                Some(Opening { cipher: ChunkCipher::new(key), compressed: vec![0; CHUNK_STORED_MAX].into_boxed_slice() })
            }
            (Some(method), None) => return Err(BundleError::ContentKeyMissing { method }),
            (None, Some(_)) => return Err(BundleError::ContentKeyUnneeded),
        };
        let mut zstd = Decompressor::new().map_err(zstd_error)?;
        zstd.set_parameter(zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(zstd_error)?;
        Ok(Self { opening, zstd, raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice() })
    }

    /// Decodes one chunk and checks the result.
    ///
    /// # Errors
    /// `ContentKeyWrong` when the bundle is encrypted under another key; `ChunkDecode` when the bytes are not exactly one zstd frame within
    /// the limits; `RawLength` or `RawHash` when it decodes to something else than the index says.
    pub fn decode(&mut self, chunk: VerifiedChunk<'_>) -> Result<RawChunk<'_>, BundleError> {
        let (row, stored) = (chunk.row(), chunk.stored());
        match row.filter {
            Filter::None => {}
        }
        let compressed = match &mut self.opening {
            None => stored,
            Some(Opening { cipher, compressed }) => {
                cipher.open(row.number, stored, compressed).ok_or(BundleError::ContentKeyWrong { chunk: row.number })?
            }
        };
        let refuse = |reason| BundleError::ChunkDecode { chunk: row.number, reason };
        check_frame(compressed, row.raw_length).map_err(refuse)?;
        // `ChunkIndex` bounds every raw length by CHUNK_RAW_MAX, the length of the buffer.
        let raw = &mut self.raw[..row.raw_length as usize];
        let length = self
            .zstd
            .decompress_to_buffer(compressed, raw)
            .map_err(|_| refuse("the zstd frame is damaged or longer than the index says"))?;
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
