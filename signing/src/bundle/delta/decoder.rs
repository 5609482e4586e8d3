//! From a delta's stored bytes to raw bytes, with both hashes checked.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::{
    base::Base,
    delta::{Delta, VerifiedDeltaChunk},
    element::{Element, for_number},
    planes,
    rans::{BLOCK_WEIGHTS, Rans, TABLES_LENGTH_MAX},
    segment::{self, Kind, Segment},
};
use crate::bundle::{
    chunk::RawChunk, content_key::ContentKey, decoder::Opening, error::BundleError, frame::FrameDecoder, index::CHUNK_RAW_MAX,
};

/// Bytes of the base that are held at a time: a block of the widest elements.
const BASE_BLOCK: usize = 4 * BLOCK_WEIGHTS;

/// Restores the chunks of one delta into one fixed buffer of [`CHUNK_RAW_MAX`] bytes. All its buffers together take less than 4 MiB,
/// whatever a chunk claims and however long the base is.
pub struct DeltaDecoder {
    opening: Option<Opening>,
    segments: SegmentDecoder,
    raw: Box<[u8]>,
}

impl DeltaDecoder {
    /// A decoder for this delta, with its buffers allocated. The key is the content key of the bundle that the delta belongs to, and none
    /// where that is not encrypted.
    ///
    /// # Errors
    /// `ContentKeyMissing` or `ContentKeyUnneeded` when delta and key do not go together; `Zstd` when zstd cannot allocate its context.
    pub fn new(delta: &Delta, key: Option<&ContentKey>) -> Result<Self, BundleError> {
        let key = key.map(|key| key.of_delta(delta.salt()));
        let opening = Opening::new(delta.encryption(), key.as_ref())?;
        Ok(Self { opening, segments: SegmentDecoder::with_base()?, raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice() })
    }

    /// Restores one chunk and checks the result, which is a chunk of the full bundle like any other.
    ///
    /// # Errors
    /// `ContentKeyWrong` when the delta is encrypted under another key; `BaseUnreadable` when `base` says so; `DeltaDecode` when the bytes are
    /// no delta chunk within the limits; `DeltaResult` when they restore something else than the full bundle has there. Of a base that is
    /// not the delta's either of the two comes.
    pub fn decode(&mut self, chunk: VerifiedDeltaChunk<'_>, base: &mut impl Base) -> Result<RawChunk<'_>, BundleError> {
        let row = chunk.chunk.row();
        let stored = Opening::open(&mut self.opening, &chunk.chunk)?;
        // `ChunkIndex` bounds every raw length by CHUNK_RAW_MAX, the length of the buffer.
        let raw = &mut self.raw[..row.raw_length as usize];
        let mut files = Files { lengths: chunk.base_lengths, base };
        self.segments.decode(stored, &mut files, raw).map_err(|refusal| match refusal {
            Refusal::Chunk(reason) => BundleError::DeltaDecode { chunk: row.number, reason },
            Refusal::Base { file, reason } => BundleError::BaseUnreadable { chunk: row.number, file, reason },
        })?;
        RawChunk::check(row, raw).map_err(|error| match error {
            BundleError::RawHash { chunk, expected, found } => BundleError::DeltaResult { chunk, expected, found },
            other => other,
        })
    }
}

/// Why segments cannot be decoded.
pub(super) enum Refusal {
    Chunk(&'static str),
    /// A file of the base could not be read.
    Base {
        file: usize,
        reason: String,
    },
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::Chunk(reason)
    }
}

/// The base's files as segments name them.
pub(super) struct Files<'a, B> {
    pub(super) lengths: &'a [u64],
    pub(super) base: &'a mut B,
}

impl<B: Base> Files<'_, B> {
    fn length(&self, file: usize) -> Option<u64> {
        self.lengths.get(file).copied()
    }

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), Refusal> {
        self.base.read(file, offset, into).map_err(|error| Refusal::Base { file, reason: error.to_string() })
    }
}

/// For chunks that need no base: there is no file that a segment could name.
pub(in crate::bundle) struct NoBase;

impl Base for NoBase {
    type Error = &'static str;

    fn read(&mut self, _: usize, _: u64, _: &mut [u8]) -> Result<(), Self::Error> {
        Err("there is no base")
    }
}

/// Decodes chunks that are segment maps.
pub(in crate::bundle) struct SegmentDecoder {
    frames: FrameDecoder,
    planes: Box<[u8]>,
    segments: Vec<Segment>,
    /// What segments need that refer to a base.
    differences: Option<Differences>,
}

struct Differences {
    block: Box<[u8]>,
    tables: Box<[u8]>,
    rans: Rans,
}

impl SegmentDecoder {
    /// For chunks that stand alone.
    pub(in crate::bundle) fn without_base() -> Result<Self, BundleError> {
        let planes = vec![0; CHUNK_RAW_MAX].into_boxed_slice();
        Ok(Self { frames: FrameDecoder::new()?, planes, segments: Vec::new(), differences: None })
    }

    /// For chunks that may refer to a base.
    pub(super) fn with_base() -> Result<Self, BundleError> {
        let boxed = |length| vec![0; length].into_boxed_slice();
        let differences = Differences { block: boxed(BASE_BLOCK), tables: boxed(TABLES_LENGTH_MAX), rans: Rans::new() };
        Ok(Self { differences: Some(differences), ..Self::without_base()? })
    }

    /// Decodes a chunk of a full bundle, which names no base; all of `raw` is written.
    pub(in crate::bundle) fn decode_planes(&mut self, chunk: &[u8], raw: &mut [u8]) -> Result<usize, &'static str> {
        match self.decode(chunk, &mut Files { lengths: &[], base: &mut NoBase }, raw) {
            Ok(()) => Ok(raw.len()),
            Err(Refusal::Chunk(reason)) => Err(reason),
            Err(Refusal::Base { .. }) => Err("it refers to a base"),
        }
    }

    /// Decodes a chunk into exactly `raw`, which is at most a chunk long.
    pub(super) fn decode<B: Base>(&mut self, chunk: &[u8], files: &mut Files<'_, B>, raw: &mut [u8]) -> Result<(), Refusal> {
        let mut payloads = segment::parse(chunk, raw.len(), |file| files.length(file), &mut self.segments)?;
        let Self { frames, planes, segments, differences } = self;
        let mut raw = raw;
        for segment in segments.iter() {
            // The lengths and the payloads' lengths make exactly the two slices.
            let (payload, payloads_left) = payloads.split_at(segment.payload_length);
            let (out, raw_left) = raw.split_at_mut(segment.length);
            (payloads, raw) = (payloads_left, raw_left);
            let Segment { kind, element, base_file, base_offset, .. } = *segment;
            match (kind, &mut *differences) {
                (Kind::Literal, _) => decode_all(frames, payload, out)?,
                (Kind::Copy, _) => files.read(base_file, base_offset, out)?,
                (Kind::Planes, _) => {
                    decode_planes(frames, planes, element, payload, out)?;
                    for_number!(element, N => planes::sign_first::<N>(out), ());
                }
                (Kind::DeltaPlanes, Some(Differences { block, .. })) => {
                    decode_planes(frames, planes, element, payload, out)?;
                    let mut offset = base_offset;
                    for out in out.chunks_mut(BASE_BLOCK) {
                        let base = &mut block[..out.len()];
                        files.read(base_file, offset, base)?;
                        offset += base.len() as u64;
                        for_number!(element, N => planes::add::<N>(base, out), ());
                    }
                }
                (Kind::DeltaRans, Some(differences)) => {
                    for_number!(element, N => differences.decode_rans::<N, B>(frames, segment, payload, files, out)?, ());
                }
                (Kind::DeltaPlanes | Kind::DeltaRans, None) => return Err("it refers to a base".into()),
            }
        }
        Ok(())
    }
}

impl Differences {
    fn decode_rans<N: super::element::Number, B: Base>(
        &mut self,
        frames: &mut FrameDecoder,
        segment: &Segment,
        payload: &[u8],
        files: &mut Files<'_, B>,
        out: &mut [u8],
    ) -> Result<(), Refusal> {
        let (&[low, high, stored_low, stored_high], rest) = payload.split_first_chunk().ok_or("a segment's payload is cut off")?;
        let (length, stored) = (u16::from_le_bytes([low, high]), u16::from_le_bytes([stored_low, stored_high]));
        let tables = self.tables.get_mut(..usize::from(length)).ok_or("the tables of a segment are longer than all frequencies")?;
        let (frame, mut rest) = rest.split_at_checked(stored.into()).ok_or("a segment's payload is cut off")?;
        decode_all(frames, frame, tables)?;
        self.rans.set_tables::<N>(tables)?;
        let mut offset = segment.base_offset;
        for out in out.chunks_mut(BLOCK_WEIGHTS * N::WIDTH) {
            let base = &mut self.block[..out.len()];
            files.read(segment.base_file, offset, base)?;
            offset += base.len() as u64;
            rest = self.rans.decode_block::<N>(rest, base, out)?;
        }
        if rest.is_empty() { Ok(()) } else { Err("bytes follow the last block of a segment".into()) }
    }
}

/// Decodes the one frame of `payload` into all of `out`.
fn decode_all(frames: &mut FrameDecoder, payload: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
    if frames.decode_front(payload, out)?.is_empty() { Ok(()) } else { Err("bytes follow the last zstd frame of a segment") }
}

/// Decodes one frame for each plane of `out`, and puts the bytes of its elements together.
fn decode_planes(
    frames: &mut FrameDecoder,
    scratch: &mut [u8],
    element: Element,
    mut payload: &[u8],
    out: &mut [u8],
) -> Result<(), &'static str> {
    let planes = &mut scratch[..out.len()];
    // A segment has at least one element.
    for plane in planes.chunks_exact_mut(out.len() / element.width()) {
        payload = frames.decode_front(payload, plane)?;
    }
    if !payload.is_empty() {
        return Err("bytes follow the last zstd frame of a segment");
    }
    planes::merge(element.width(), planes, out);
    Ok(())
}
