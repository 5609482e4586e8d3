//! Chunks of somebody whose keys are good and whose intentions are not.

use super::*;
use crate::bundle::frame::FrameEncoder;

const RAW: usize = 1000;

fn base() -> Memory {
    Memory(vec![(0..RAW).map(|at| (at * 7) as u8).collect(), vec![1; 10]])
}

fn frame(raw: &[u8]) -> Vec<u8> {
    FrameEncoder::new(3, 1 << 20).unwrap().encode(raw).unwrap().to_vec()
}

fn copy() -> Segment {
    Segment { kind: Kind::Copy, element: Element::Bytes, base_file: 0, base_offset: 0, length: RAW, payload_length: 0 }
}

fn of(kind: Kind, element: Element, payload: &[u8]) -> Segment {
    Segment { kind, element, payload_length: payload.len(), ..copy() }
}

fn chunk(segments: &[Segment], payload: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::new();
    segment::write(segments, &mut chunk);
    chunk.extend_from_slice(payload);
    chunk
}

#[track_caller]
fn refused(chunk: &[u8], reason: &str) {
    assert_eq!(decode(chunk, RAW, &base()), Err(reason.into()));
}

#[test]
fn maps_that_are_no_maps_are_refused() {
    let good = chunk(&[copy()], b"");
    assert_eq!(decode(&good, RAW, &base()), Ok(base().0[0].clone()));
    for length in 0..good.len() {
        refused(&good[..length], "the segment map is cut off");
    }
    let with = |at: usize, byte: u8| {
        let mut chunk = good.clone();
        chunk[at] = byte;
        chunk
    };
    refused(&with(0, 2), "its segment map is of an unknown version");
    refused(&with(1, 0), "it has no segments or more than 4096");
    refused(&with(2, 5), "a segment is of an unknown kind");
    refused(&with(3, 5), "a segment has elements of an unknown type");
    refused(&with(3, 2), "a segment has elements of a type that its kind does not take");
    refused(&with(4, 2), "a segment names a base file that is not listed");
    refused(&with(5, 1), "a segment refers beyond the end of its base file");
    refused(&chunk(&vec![Segment { length: 1, ..copy() }; 4097], b""), "it has no segments or more than 4096");
    refused(&[&good[..], b"+"].concat(), "its payloads are not as long as the segment map says");
    let segment = |segment: Segment| chunk(&[segment], b"");
    refused(&segment(Segment { length: RAW - 1, ..copy() }), "its segments do not make the length in the index");
    refused(&chunk(&[copy(), copy()], b""), "its segments do not make the length in the index");
    refused(&segment(Segment { length: 0, ..copy() }), "a segment's length is 0 or no multiple of its elements");
    refused(&segment(Segment { base_offset: u64::MAX, ..copy() }), "a segment refers beyond the end of its base file");
    refused(&segment(Segment { base_file: usize::MAX, ..copy() }), "a segment names a base file that is not listed");
    refused(&segment(Segment { length: 1 << 33, ..copy() }), "a segment is longer than any chunk");
    let payload = "a segment has no payload where it needs one, or one where it needs none";
    refused(&chunk(&[Segment { payload_length: 1, ..copy() }], b"+"), payload);
    refused(&segment(of(Kind::Literal, Element::Bytes, b"")), payload);
    let odd = Segment { length: 999, ..of(Kind::DeltaRans, Element::F16, b"+") };
    refused(&chunk(&[odd], b"+"), "a segment's length is 0 or no multiple of its elements");
    let frame = frame(&[7; RAW]);
    let literal = of(Kind::Literal, Element::Bytes, &frame);
    assert_eq!(decode(&chunk(&[literal], &frame), RAW, &base()), Ok(vec![7; RAW]));
    refused(&chunk(&[Segment { base_offset: 1, ..literal }], &frame), "a segment without a base names a place in one");
    refused(&chunk(&[Segment { base_file: 1, ..literal }], &frame), "a segment without a base names a place in one");
    for (kind, element) in [
        (Kind::Literal, Element::I8),
        (Kind::Copy, Element::F32),
        (Kind::DeltaRans, Element::Bytes),
        (Kind::DeltaPlanes, Element::Bytes),
        (Kind::Planes, Element::Bytes),
        (Kind::Planes, Element::I8),
    ] {
        let payload: &[u8] = if kind == Kind::Copy { b"" } else { b"+" };
        refused(&chunk(&[of(kind, element, payload)], payload), "a segment has elements of a type that its kind does not take");
    }
}

#[test]
fn frames_that_are_too_short_too_long_or_followed_are_refused() {
    let literal = |payload: &[u8]| chunk(&[of(Kind::Literal, Element::Bytes, payload)], payload);
    let other_length = "the zstd frame states another length than the index";
    refused(&literal(&frame(&[7; RAW - 1])), other_length);
    refused(&literal(&frame(&[7; RAW + 1])), other_length);
    refused(&literal(b"no frame"), "it does not begin with the magic number of a zstd frame");
    refused(&literal(&[frame(&[7; RAW]), frame(&[7; RAW])].concat()), "bytes follow the last zstd frame of a segment");
    // Without a stated length: single raw blocks in a window of 1 KiB.
    let stated_nowhere = |length: usize| {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0];
        frame.extend_from_slice(&((length as u32) << 3 | 1).to_le_bytes()[..3]);
        frame.extend(vec![7; length]);
        frame
    };
    assert_eq!(decode(&literal(&stated_nowhere(RAW)), RAW, &base()), Ok(vec![7; RAW]));
    refused(&literal(&stated_nowhere(RAW - 1)), "a zstd frame holds fewer bytes than it should");
    refused(&literal(&stated_nowhere(RAW + 1)), "a zstd frame is damaged or holds more bytes than it should");
    for kind in [Kind::Planes, Kind::DeltaPlanes] {
        let planes = |payload: &[u8]| chunk(&[of(kind, Element::Bf16, payload)], payload);
        let plane = frame(&[1; RAW / 2]);
        assert!(decode(&planes(&[plane.clone(), plane.clone()].concat()), RAW, &base()).is_ok());
        refused(&planes(&plane), "it does not begin with the magic number of a zstd frame");
        refused(&planes(&[plane.clone(), plane.clone(), plane].concat()), "bytes follow the last zstd frame of a segment");
    }
}

/// A segment of 500 weights that all are as in the base: every context knows the token 0 only.
struct Parts {
    tables: Vec<u8>,
    words: Vec<u8>,
    bits: Vec<u8>,
    states: [u32; 4],
}

impl Parts {
    fn new() -> Self {
        let mut tables = vec![200];
        tables.extend([0, 0x80, 16].repeat(16));
        Self { tables, words: Vec::new(), bits: Vec::new(), states: [1 << 16; 4] }
    }

    fn block(&self) -> Vec<u8> {
        let mut block = ((16 + self.words.len()) as u32).to_le_bytes().to_vec();
        block.extend_from_slice(&(self.bits.len() as u32).to_le_bytes());
        block.extend(self.states.iter().flat_map(|state| state.to_le_bytes()));
        [block, self.words.clone(), self.bits.clone()].concat()
    }

    fn payload(&self) -> Vec<u8> {
        let frame = frame(&self.tables);
        let lengths = [self.tables.len() as u16, frame.len() as u16];
        [lengths.map(u16::to_le_bytes).concat(), frame, self.block()].concat()
    }

    fn chunk(&self) -> Vec<u8> {
        rans(&self.payload())
    }
}

fn rans(payload: &[u8]) -> Vec<u8> {
    chunk(&[of(Kind::DeltaRans, Element::Bf16, payload)], payload)
}

#[test]
fn tables_that_are_no_tables_are_refused() {
    assert_eq!(decode(&Parts::new().chunk(), RAW, &base()), Ok(base().0[0].clone()));
    let with = |change: fn(&mut Vec<u8>)| {
        let mut parts = Parts::new();
        change(&mut parts.tables);
        parts.chunk()
    };
    let sum = "the frequencies of a context do not make 2048";
    refused(&with(|tables| tables[2] = 0x81), sum);
    refused(&with(|tables| tables[3] = 15), sum);
    refused(&with(|tables| tables[3] = 255), sum);
    refused(&with(|tables| tables[1] = 64), "a table names a token that is too high for its elements");
    refused(&with(|tables| tables.push(0)), "bytes follow the tables of a segment");
    refused(&with(|tables| tables.truncate(48)), "the tables of a segment are cut off");
    refused(&with(|tables| tables.truncate(46)), "the tables of a segment are cut off");
    refused(&with(|tables| tables[3] = 0), "a frequency is not in its shorter form");
    refused(&with(|tables| tables.splice(1..4, [1, 0x80, 16, 0]).for_each(drop)), "a table ends with a token that does not occur");
    refused(&with(|tables| tables.resize(4200, 0)), "the tables of a segment are longer than all frequencies");
    refused(&rans(&[0; 40]), "it does not begin with the magic number of a zstd frame");
    let mut cut = Parts::new().payload();
    cut[2] = 0xff;
    refused(&rans(&cut), "a segment's payload is cut off");
    refused(&rans(&cut[..3]), "a segment's payload is cut off");
}

#[test]
fn blocks_that_are_not_used_up_are_refused() {
    let with = |change: fn(&mut Parts)| {
        let mut parts = Parts::new();
        change(&mut parts);
        parts.chunk()
    };
    refused(&with(|parts| parts.states[2] = (1 << 16) - 1), "a block begins in a state below its range");
    refused(&with(|parts| parts.states[2] += 1), "a block does not end where its words end");
    refused(&with(|parts| parts.words = vec![0, 0]), "a block does not end where its words end");
    refused(&with(|parts| parts.words = vec![0]), "a block is longer than its weights can make it");
    refused(&with(|parts| parts.words = vec![0; (1 << 17) + 2]), "a block is longer than its weights can make it");
    refused(&with(|parts| parts.bits = vec![0; (1 << 18) + 1]), "a block is longer than its weights can make it");
    refused(&with(|parts| parts.bits = vec![0]), "a block does not end where its raw bits end");
    let good = Parts::new().payload();
    refused(&rans(&[&good[..], b"+"].concat()), "bytes follow the last block of a segment");
    for length in good.len() - 24..good.len() {
        refused(&rans(&good[..length]), "a segment's payload is cut off");
    }
    let mut short = good.clone();
    let block = good.len() - 24;
    short[block] = 15;
    refused(&rans(&short), "a block's words are shorter than its states");
    // Token 20 of every weight has two raw bits: 500 weights, 125 bytes.
    let raw_bits = |bits: usize, last: u8| {
        let mut parts = Parts::new();
        parts.tables = vec![200];
        for _ in 0..16 {
            parts.tables.extend([18, 0].iter().chain(&[0; 17]).chain(&[0x80, 16]));
        }
        parts.bits = vec![0; bits];
        parts.bits.extend((bits > 0).then_some(last).filter(|last| *last > 0));
        parts.chunk()
    };
    assert!(decode(&raw_bits(125, 0), RAW, &base()).is_ok());
    assert!(decode(&raw_bits(124, 1), RAW, &base()).is_ok());
    let bits_end = "a block does not end where its raw bits end";
    refused(&raw_bits(124, 0), bits_end);
    refused(&raw_bits(126, 0), bits_end);
    refused(&raw_bits(0, 0), bits_end);
}

/// Three raw bits of the last byte are used; the others must be zeros, so that one content has one spelling.
#[test]
fn bits_behind_the_last_are_zeros() {
    let random = &mut Random(17);
    for count in [8193, 8195, 8197] {
        let old = weights(random, Element::F16, count);
        let new = weights(random, Element::F16, count);
        let mut coder = super::super::rans_encoder::RansEncoder::new();
        let mut payload = Vec::new();
        coder.encode::<super::super::element::F16>(&old, &new, &mut FrameEncoder::new(19, 8192).unwrap(), &mut payload).unwrap();
        let segment = Segment { length: new.len(), ..of(Kind::DeltaRans, Element::F16, &payload) };
        let base = Memory(vec![old]);
        assert_eq!(decode(&chunk(&[segment], &payload), new.len(), &base), Ok(new.clone()));
        let found: Vec<_> = (0..8)
            .map(|bit| {
                let mut changed = payload.clone();
                *changed.last_mut().unwrap() ^= 1 << bit;
                decode(&chunk(&[segment], &changed), new.len(), &base)
            })
            .collect();
        let refused = found.iter().filter(|found| **found == Err("a block does not end where its raw bits end".into())).count();
        // The others are bits of the last weights.
        assert!(refused < 8 && found.iter().flatten().all(|found| *found != new), "{count}");
    }
}

#[test]
fn a_base_that_cannot_be_read_is_named() {
    let short = Memory(vec![vec![1; 10], Vec::new()]);
    let mut raw = vec![0; RAW];
    // The list says more than there is on the disk.
    let mut files = Files { lengths: &[RAW as u64], base: &mut short.clone() };
    let found = SegmentDecoder::with_base().unwrap().decode(&chunk(&[copy()], b""), &mut files, &mut raw);
    assert!(matches!(found, Err(Refusal::Base { file: 0, reason }) if reason == "file 0 is too short"));
}

#[test]
fn a_chunk_of_a_full_bundle_refers_to_no_base() {
    let mut decoder = SegmentDecoder::without_base().unwrap();
    let mut raw = vec![0; RAW];
    let found = decoder.decode_planes(&chunk(&[copy()], b""), &mut raw);
    assert_eq!(found, Err("a segment names a base file that is not listed"));
}
