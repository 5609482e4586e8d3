//! From raw bytes and the tensors in them to the smallest segment map.

use alloc::{string::ToString, vec::Vec};

use super::{
    base::Base,
    element::{Element, Number, for_number},
    planes,
    rans_encoder::RansEncoder,
    segment::{self, Kind, SEGMENTS_MAX, Segment},
};
use crate::bundle::{
    error::BundleError,
    frame::FrameEncoder,
    index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX},
    writer,
};

/// Shorter tensors have too few weights to pay for tables of their own.
const RANS_WEIGHTS_MIN: usize = 8192;

/// Shorter pieces are written out with what lies beside them.
const PIECE_MIN: usize = 64;

/// What a segment costs in the map, with its fields at their longest but for the offset.
const SEGMENT_COST: usize = 16;

/// A difference that takes more than this share of the bytes may be larger than the new bytes alone.
const DOUBTFUL_PERCENT: usize = 60;

/// Up to this length content is compressed at the level for what is small.
const SMALL: usize = 64 << 10;

/// zstd levels for tables, of which there are at most 4 KiB for 1 MiB, and for what is small.
const LEVEL_TABLES: i32 = 19;
const LEVEL_SMALL: i32 = 9;

/// A place in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasePlace {
    /// Position of the file in [`super::BaseRelease::files`].
    pub file: usize,
    /// Offset in the file, bytes.
    pub offset: u64,
}

/// Some bytes of a new file whose meaning is known: a tensor, or bytes that are likely to be in the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins in its file.
    pub offset: u64,
    /// Length, bytes.
    pub length: u64,
    /// What the bytes are.
    pub element: Element,
    /// Where the base has as many bytes that are like it.
    pub base: Option<BasePlace>,
}

/// Bytes by how they are made: of the result, and of the delta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Restored bytes.
    pub raw: u64,
    /// Bytes of the payloads.
    pub payload: u64,
}

/// A chunk of a new file.
#[derive(Clone, Copy)]
pub(in crate::bundle) struct FilePiece<'a> {
    pub(in crate::bundle) raw: &'a [u8],
    /// Where it begins in its file.
    pub(in crate::bundle) offset: u64,
    /// The file's spans, in their order and without overlap.
    pub(in crate::bundle) spans: &'a [Span],
}

/// Encodes chunks.
pub(in crate::bundle) struct SegmentEncoder {
    frames: Frames,
    rans: RansEncoder,
    base: Vec<u8>,
    values: Vec<u8>,
    planes: Vec<u8>,
    candidate: Vec<u8>,
    best: Vec<u8>,
    segments: Vec<Segment>,
    payloads: Vec<u8>,
    chunk: Vec<u8>,
}

struct Frames {
    tables: FrameEncoder,
    small: FrameEncoder,
    large: FrameEncoder,
}

impl Frames {
    fn encode(&mut self, raw: &[u8]) -> Result<&[u8], BundleError> {
        if raw.len() <= SMALL { self.small.encode(raw) } else { self.large.encode(raw) }
    }
}

/// A part of a chunk that a span covers, on whole elements.
struct Piece {
    start: usize,
    end: usize,
    element: Element,
    base: Option<BasePlace>,
}

impl SegmentEncoder {
    pub(in crate::bundle) fn new() -> Result<Self, BundleError> {
        let frames = Frames {
            tables: FrameEncoder::new(LEVEL_TABLES, super::rans::TABLES_LENGTH_MAX)?,
            small: FrameEncoder::new(LEVEL_SMALL, SMALL)?,
            large: FrameEncoder::new(writer::LEVEL, CHUNK_RAW_MAX)?,
        };
        let buffer = || Vec::with_capacity(CHUNK_STORED_MAX);
        Ok(Self {
            frames,
            rans: RansEncoder::new(),
            base: buffer(),
            values: buffer(),
            planes: buffer(),
            candidate: buffer(),
            best: buffer(),
            segments: Vec::new(),
            payloads: buffer(),
            chunk: buffer(),
        })
    }

    /// The chunk as a segment map, which depends on nothing but the arguments. `tallies` are in the order of [`Kind::ALL`].
    pub(in crate::bundle) fn encode(
        &mut self,
        number: usize,
        piece: FilePiece<'_>,
        base: &mut impl Base,
        tallies: &mut [Tally; Kind::ALL.len()],
    ) -> Result<&[u8], BundleError> {
        self.segments.clear();
        self.payloads.clear();
        let raw = piece.raw;
        let mut done = 0;
        for Piece { start, end, element, base: place } in pieces(piece) {
            // One segment for what lies between, one for this and one for the rest.
            if end - start < PIECE_MIN || start < done || self.segments.len() + 3 > SEGMENTS_MAX {
                continue;
            }
            let new = &raw[start..end];
            let Some(kind) = self.choose(number, new, element, place, base)? else { continue };
            self.literal(&raw[done..start])?;
            let place = place.filter(|_| kind.reads_base()).unwrap_or(BasePlace { file: 0, offset: 0 });
            let element = if kind == Kind::Copy { Element::Bytes } else { element };
            self.push(kind, element, place, new.len());
            done = end;
        }
        self.literal(&raw[done..])?;
        for segment in &self.segments {
            if let Some(tally) = tallies.get_mut(segment.kind as usize) {
                tally.raw += segment.length as u64;
                tally.payload += segment.payload_length as u64;
            }
        }
        self.chunk.clear();
        segment::write(&self.segments, &mut self.chunk);
        self.chunk.extend_from_slice(&self.payloads);
        Ok(&self.chunk)
    }

    /// The kind that makes these bytes the smallest, with its payload in `best`; none when they are best written out.
    fn choose(
        &mut self,
        chunk: usize,
        new: &[u8],
        element: Element,
        place: Option<BasePlace>,
        base: &mut impl Base,
    ) -> Result<Option<Kind>, BundleError> {
        let mut found = None;
        let mut best_length = new.len().saturating_sub(SEGMENT_COST);
        if let Some(BasePlace { file, offset }) = place {
            self.base.resize(new.len(), 0);
            let unreadable = |reason| BundleError::BaseUnreadable { chunk, file, reason };
            base.read(file, offset, &mut self.base).map_err(|error| unreadable(error.to_string()))?;
            if self.base == new {
                self.best.clear();
                return Ok(Some(Kind::Copy));
            }
            let kind = if new.len() / element.width() >= RANS_WEIGHTS_MIN { Kind::DeltaRans } else { Kind::DeltaPlanes };
            for_number!(element, N => self.differences::<N>(kind, new)?, return Ok(None));
            self.keep(kind, &mut found, &mut best_length);
        }
        if best_length <= new.len() * DOUBTFUL_PERCENT / 100 {
            return Ok(found);
        }
        if element.width() > 1 {
            for_number!(element, N => self.planes::<N>(new)?, ());
            self.keep(Kind::Planes, &mut found, &mut best_length);
        }
        let written_out = self.frames.encode(new)?.len();
        Ok(found.filter(|_| best_length < written_out))
    }

    /// Takes the candidate if it is the smallest yet.
    fn keep(&mut self, kind: Kind, found: &mut Option<Kind>, best_length: &mut usize) {
        if self.candidate.len() < *best_length {
            core::mem::swap(&mut self.best, &mut self.candidate);
            (*found, *best_length) = (Some(kind), self.best.len());
        }
    }

    /// Makes the differences from `self.base` the candidate.
    fn differences<N: Number>(&mut self, kind: Kind, new: &[u8]) -> Result<(), BundleError> {
        self.candidate.clear();
        if kind == Kind::DeltaRans {
            return self.rans.encode::<N>(&self.base, new, &mut self.frames.tables, &mut self.candidate);
        }
        self.values.clear();
        self.values.extend_from_slice(new);
        planes::subtract::<N>(&self.base, &mut self.values);
        self.split(N::WIDTH)
    }

    /// Makes the elements alone the candidate.
    fn planes<N: Number>(&mut self, new: &[u8]) -> Result<(), BundleError> {
        self.candidate.clear();
        self.values.clear();
        self.values.extend_from_slice(new);
        planes::sign_last::<N>(&mut self.values);
        self.split(N::WIDTH)
    }

    fn split(&mut self, width: usize) -> Result<(), BundleError> {
        self.planes.resize(self.values.len(), 0);
        planes::split(width, &self.values, &mut self.planes);
        for plane in self.planes.chunks_exact(self.values.len() / width) {
            let frame = self.frames.encode(plane)?;
            self.candidate.extend_from_slice(frame);
        }
        Ok(())
    }

    /// Adds bytes that are written out.
    fn literal(&mut self, raw: &[u8]) -> Result<(), BundleError> {
        if raw.is_empty() {
            return Ok(());
        }
        let frame = self.frames.encode(raw)?;
        let (length, payload_length) = (raw.len(), frame.len());
        self.segments.push(Segment { kind: Kind::Literal, element: Element::Bytes, base_file: 0, base_offset: 0, length, payload_length });
        self.payloads.extend_from_slice(frame);
        Ok(())
    }

    /// Adds a segment with the payload in `best`. A copy that goes on where the last one ended becomes one with it.
    fn push(&mut self, kind: Kind, element: Element, place: BasePlace, length: usize) {
        if let Some(last) = self.segments.last_mut() {
            let goes_on = last.base_file == place.file && last.base_offset + last.length as u64 == place.offset;
            if kind == Kind::Copy && last.kind == Kind::Copy && goes_on {
                last.length += length;
                return;
            }
        }
        let BasePlace { file: base_file, offset: base_offset } = place;
        self.segments.push(Segment { kind, element, base_file, base_offset, length, payload_length: self.best.len() });
        self.payloads.extend_from_slice(&self.best);
    }
}

/// The parts of the spans that lie in a chunk, without the elements that its borders cut.
fn pieces<'a>(FilePiece { raw, offset, spans }: FilePiece<'a>) -> impl Iterator<Item = Piece> + use<'a> {
    let end = offset + raw.len() as u64;
    let first = spans.partition_point(|span| span.offset.saturating_add(span.length) <= offset);
    spans[first..].iter().take_while(move |span| span.offset < end).filter_map(move |span| {
        let width = span.element.width() as u64;
        let skipped = offset.saturating_sub(span.offset).next_multiple_of(width);
        let until = end.min(span.offset.checked_add(span.length)?).checked_sub(span.offset)?;
        let length = until.checked_sub(skipped)? / width * width;
        let start = (span.offset + skipped).checked_sub(offset)?;
        let base = span.base.map(|place| BasePlace { offset: place.offset + skipped, ..place });
        // Both lie within the chunk.
        Some(Piece { start: start as usize, end: (start + length) as usize, element: span.element, base })
    })
}
