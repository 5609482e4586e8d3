//! The segment map: how one delta chunk says what its bytes are made of.
//!
//! | field | |
//! |---|---|
//! | version | 1 |
//! | number of segments | varint |
//! | each segment | kind 1, element 1, base file varint, base offset varint, length varint, payload length varint |
//! | payloads | in the order of the segments |
//!
//! Varints are LEB128 in their shortest form. A field that a kind has no use for is 0. So one map has one spelling.

use alloc::vec::Vec;

use super::element::Element;

/// The version of the map that is written and read.
const VERSION: u8 = 1;

/// Most segments in one chunk. Tensors of 256 bytes each would fill a chunk with as many.
pub(super) const SEGMENTS_MAX: usize = 4096;

/// How a segment's bytes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// They are in the payload, as one zstd frame.
    Literal,
    /// They are in the base.
    Copy,
    /// Differences from the base, entropy-coded knowing the base weight's exponent.
    DeltaRans,
    /// Differences from the base in byte planes, each a zstd frame.
    DeltaPlanes,
    /// The elements themselves in byte planes, each a zstd frame.
    Planes,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Literal, Self::Copy, Self::DeltaRans, Self::DeltaPlanes, Self::Planes];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Copy => "copy",
            Self::DeltaRans => "delta_rans",
            Self::DeltaPlanes => "delta_planes",
            Self::Planes => "planes",
        }
    }

    /// Whether it refers to the base.
    pub(super) fn reads_base(self) -> bool {
        matches!(self, Self::Copy | Self::DeltaRans | Self::DeltaPlanes)
    }

    fn fits(self, element: Element) -> bool {
        match self {
            Self::Literal | Self::Copy => element == Element::Bytes,
            Self::DeltaRans | Self::DeltaPlanes => element != Element::Bytes,
            // One plane would be a literal.
            Self::Planes => element.width() > 1,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Literal => 0,
            Self::Copy => 1,
            Self::DeltaRans => 2,
            Self::DeltaPlanes => 3,
            Self::Planes => 4,
        }
    }
}

/// Some bytes of a chunk, and how they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) kind: Kind,
    pub(super) element: Element,
    /// Position in the delta's list of base files.
    pub(super) base_file: usize,
    pub(super) base_offset: u64,
    pub(super) length: usize,
    pub(super) payload_length: usize,
}

/// The map at the front of a chunk that restores `raw_length` bytes, and the payloads behind it. `segments` is cleared first, and never
/// holds more than [`SEGMENTS_MAX`].
pub(super) fn parse<'a>(
    chunk: &'a [u8],
    raw_length: usize,
    base_lengths: impl Fn(usize) -> Option<u64>,
    segments: &mut Vec<Segment>,
) -> Result<&'a [u8], &'static str> {
    segments.clear();
    let (&version, mut rest) = chunk.split_first().ok_or("the segment map is cut off")?;
    if version != VERSION {
        return Err("its segment map is of an unknown version");
    }
    let count = varint(&mut rest)?;
    if count == 0 || count > SEGMENTS_MAX as u64 {
        return Err("it has no segments or more than 4096");
    }
    let (mut length, mut payload_length) = (0_u64, 0_u64);
    for _ in 0..count {
        let segment = segment(&mut rest, &base_lengths)?;
        length += segment.length as u64;
        payload_length += segment.payload_length as u64;
        segments.push(segment);
    }
    if length != raw_length as u64 {
        return Err("its segments do not make the length in the index");
    }
    if payload_length != rest.len() as u64 {
        return Err("its payloads are not as long as the segment map says");
    }
    Ok(rest)
}

fn segment(rest: &mut &[u8], base_length: impl Fn(usize) -> Option<u64>) -> Result<Segment, &'static str> {
    let ([kind, element], after) = rest.split_first_chunk().ok_or("the segment map is cut off")?;
    *rest = after;
    let kind = Kind::ALL.get(usize::from(*kind)).copied().ok_or("a segment is of an unknown kind")?;
    let element = Element::from_byte(*element).ok_or("a segment has elements of an unknown type")?;
    if !kind.fits(element) {
        return Err("a segment has elements of a type that its kind does not take");
    }
    let (base_file, base_offset) = (varint(rest)?, varint(rest)?);
    let (length, payload_length) = (varint(rest)?, varint(rest)?);
    if length == 0 || !length.is_multiple_of(element.width() as u64) {
        return Err("a segment's length is 0 or no multiple of its elements");
    }
    // Bounded before the sums: a chunk is never longer than this, raw or stored.
    if length > u64::from(u32::MAX) || payload_length > u64::from(u32::MAX) {
        return Err("a segment is longer than any chunk");
    }
    if (payload_length == 0) != (kind == Kind::Copy) {
        return Err("a segment has no payload where it needs one, or one where it needs none");
    }
    let base_file = usize::try_from(base_file).map_err(|_| "a segment names a base file that is not listed")?;
    if kind.reads_base() {
        let file = base_length(base_file).ok_or("a segment names a base file that is not listed")?;
        if base_offset.checked_add(length).is_none_or(|end| end > file) {
            return Err("a segment refers beyond the end of its base file");
        }
    } else if (base_file, base_offset) != (0, 0) {
        return Err("a segment without a base names a place in one");
    }
    Ok(Segment { kind, element, base_file, base_offset, length: length as usize, payload_length: payload_length as usize })
}

/// Writes the map of a chunk; the payloads come behind it.
pub(super) fn write(segments: &[Segment], chunk: &mut Vec<u8>) {
    chunk.push(VERSION);
    push_varint(segments.len() as u64, chunk);
    for segment in segments {
        chunk.extend_from_slice(&[segment.kind.to_byte(), segment.element.to_byte()]);
        for field in [segment.base_file as u64, segment.base_offset, segment.length as u64, segment.payload_length as u64] {
            push_varint(field, chunk);
        }
    }
}

/// A LEB128 number in its shortest form.
fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or("the segment map is cut off")?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return if bits == 0 && shift > 0 { Err("a number of the segment map is not in its shortest form") } else { Ok(value) };
        }
    }
    Err("a number of the segment map has more than 64 bits")
}

fn push_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            push_varint(value, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!((varint(&mut rest), rest), (Ok(value), &[][..]));
            assert!(varint(&mut &bytes[..bytes.len() - 1]).is_err());
        }
        assert_eq!(varint(&mut &[0x80, 0][..]), Err("a number of the segment map is not in its shortest form"));
        let too_long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(varint(&mut &too_long[..]), Err("a number of the segment map has more than 64 bits"));
    }

    #[test]
    fn a_map_is_read_as_it_was_written() {
        let literal = Segment { kind: Kind::Literal, element: Element::Bytes, base_file: 0, base_offset: 0, length: 5, payload_length: 2 };
        let copy = Segment { kind: Kind::Copy, base_file: 3, base_offset: 700, length: 300, payload_length: 0, ..literal };
        let delta = Segment { kind: Kind::DeltaRans, element: Element::Bf16, base_file: 3, base_offset: 1, length: 4, payload_length: 1 };
        let mut chunk = Vec::new();
        write(&[literal, copy, delta], &mut chunk);
        chunk.extend_from_slice(b"abc");
        let mut found = Vec::new();
        let lengths = |file: usize| (file == 3).then_some(1000);
        assert_eq!(parse(&chunk, 309, lengths, &mut found), Ok(&b"abc"[..]));
        assert_eq!(found, [literal, copy, delta]);
    }
}
