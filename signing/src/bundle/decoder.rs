//! Decryption where the index says so, then zstd, held to one plain frame and a fixed amount of memory.

use alloc::{boxed::Box, vec};

use super::{
    chunk::{RawChunk, VerifiedChunk},
    content_key::ContentKey,
    delta::SegmentDecoder,
    encryption::ChunkCipher,
    error::BundleError,
    frame::FrameDecoder,
    index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX, ChunkIndex, Filter},
};
use crate::metadata::EncryptionMethod;

/// Decodes the chunks of one bundle into one fixed buffer of [`CHUNK_RAW_MAX`] bytes, whatever a frame claims; those of an encrypted
/// bundle by way of a second one for what was decrypted.
pub struct ChunkDecoder {
    opening: Option<Opening>,
    frames: FrameDecoder,
    /// There when a chunk of the bundle is filtered.
    planes: Option<SegmentDecoder>,
    raw: Box<[u8]>,
}

/// What encrypted chunks need on top.
pub(super) struct Opening {
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
        let opening = Opening::new(index.encryption(), key)?;
        let filtered = index.rows().iter().any(|row| row.filter == Filter::Planes);
        let planes = if filtered { Some(SegmentDecoder::without_base()?) } else { None };
        Ok(Self { opening, frames: FrameDecoder::new()?, planes, raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice() })
    }

    /// Decodes one chunk and checks the result.
    ///
    /// # Errors
    /// `ContentKeyWrong` when the bundle is encrypted under another key; `ChunkDecode` when the bytes are not exactly one zstd frame within
    /// the limits; `RawLength` or `RawHash` when it decodes to something else than the index says.
    pub fn decode(&mut self, chunk: VerifiedChunk<'_>) -> Result<RawChunk<'_>, BundleError> {
        let row = chunk.row();
        let compressed = Opening::open(&mut self.opening, &chunk)?;
        let refuse = |reason| BundleError::ChunkDecode { chunk: row.number, reason };
        // `ChunkIndex` bounds every raw length by CHUNK_RAW_MAX, the length of the buffer.
        let raw = &mut self.raw[..row.raw_length as usize];
        let length = match (row.filter, &mut self.planes) {
            (Filter::None, _) => self.frames.decode(compressed, raw).map_err(refuse)?,
            (Filter::Planes, Some(planes)) => planes.decode_planes(compressed, raw).map_err(refuse)?,
            // Of another index than the one that this decoder was made for.
            (Filter::Planes, None) => return Err(refuse("it is filtered, and no chunk of this decoder's bundle is")),
        };
        RawChunk::check(row, &self.raw[..length])
    }
}

impl Opening {
    /// What chunks need that are encrypted by this method.
    pub(super) fn new(method: Option<EncryptionMethod>, key: Option<&ContentKey>) -> Result<Option<Self>, BundleError> {
        match (method, key) {
            (None, None) => Ok(None),
            (Some(_), Some(key)) => {
                Ok(Some(Self { cipher: ChunkCipher::new(key), compressed: vec![0; CHUNK_STORED_MAX].into_boxed_slice() }))
            }
            (Some(method), None) => Err(BundleError::ContentKeyMissing { method }),
            (None, Some(_)) => Err(BundleError::ContentKeyUnneeded),
        }
    }

    /// The compressed bytes of a chunk.
    pub(super) fn open<'a>(opening: &'a mut Option<Self>, chunk: &VerifiedChunk<'a>) -> Result<&'a [u8], BundleError> {
        let (number, stored) = (chunk.row().number, chunk.stored());
        match opening {
            None => Ok(stored),
            Some(Self { cipher, compressed }) => {
                cipher.open(number, stored, compressed).ok_or(BundleError::ContentKeyWrong { chunk: number })
            }
        }
    }
}
