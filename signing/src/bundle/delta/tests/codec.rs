//! What is encoded is decoded to the same bits, whatever they are.

use super::*;
use crate::bundle::index::CHUNK_RAW_MAX;

#[track_caller]
fn comes_back(raw: &[u8], spans: &[Span], base: &Memory) -> [Tally; 5] {
    let (chunk, tallies) = encode(raw, spans, base);
    assert!(decode(&chunk, raw.len(), base).as_deref() == Ok(raw), "{} bytes, {spans:?}", raw.len());
    assert_eq!(tallies.iter().map(|tally| tally.raw).sum::<u64>(), raw.len() as u64);
    tallies
}

fn kinds(tallies: &[Tally; 5]) -> Vec<Kind> {
    Kind::ALL.into_iter().zip(tallies).filter(|(_, tally)| tally.raw > 0).map(|(kind, _)| kind).collect()
}

/// Patterns that floating-point arithmetic would not keep: NaN with payloads, infinities, zeros of both signs, subnormals.
fn special(element: Element, count: usize) -> Vec<u8> {
    let patterns: &[u32] = match element {
        Element::F32 => &[0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0001, 0xffff_ffff, 1, 0x8000_0001, 0x007f_ffff, 0x3f80_0000],
        Element::F16 => &[0, 0x8000, 0x7c00, 0xfc00, 0x7e01, 0xffff, 1, 0x8001, 0x03ff, 0x3c00],
        _ => &[0, 0x8000, 0x7f80, 0xff80, 0x7fc1, 0xffff, 1, 0x8001, 0x007f, 0x3f80],
    };
    patterns.iter().cycle().take(count).flat_map(|bits| bits.to_le_bytes().into_iter().take(element.width())).collect()
}

#[test]
fn every_length_around_a_block_comes_back_in_every_type() {
    let random = &mut Random(7);
    for element in [Element::I8, Element::F16, Element::Bf16, Element::F32] {
        for count in [1, 3, 4, 5, 8191, 8192, 8193, 65_535, 65_536, 65_537, 131_073] {
            let old = weights(random, element, count);
            let new = trained(random, element, &old);
            let tallies = comes_back(&new, &[like_the_base(element, &new)], &Memory(vec![old]));
            let expected = match count {
                8192.. => vec![Kind::DeltaRans],
                // Shorter than a segment of its own is worth.
                ..8 => vec![Kind::Literal],
                _ => vec![Kind::DeltaPlanes],
            };
            assert_eq!(kinds(&tallies), expected, "{element:?} {count}");
        }
    }
}

#[test]
fn any_bits_come_back() {
    let random = &mut Random(99);
    for element in [Element::I8, Element::F16, Element::Bf16, Element::F32] {
        for count in [100, 9_000, 70_000] {
            let noise = |random: &mut Random| -> Vec<u8> { (0..count * element.width()).map(|_| random.next() as u8).collect() };
            let (one, other, special) = (noise(random), noise(random), special(element, count));
            let zeros = vec![0; special.len()];
            let ones = vec![0xff; special.len()];
            for (old, new) in [
                (&one, &other),
                (&one, &special),
                (&special, &one),
                (&zeros, &special),
                (&special, &zeros),
                (&zeros, &ones),
                (&ones, &zeros),
            ] {
                comes_back(new, &[like_the_base(element, new)], &Memory(vec![old.clone()]));
            }
        }
    }
}

/// The encoder takes what is smallest, and a coder that is never asked is not tested by that: here it is asked whatever comes out.
#[test]
fn the_coder_itself_takes_any_bits() {
    let random = &mut Random(5);
    let mut coder = super::super::rans_encoder::RansEncoder::new();
    let mut frames = crate::bundle::frame::FrameEncoder::new(19, 8192).unwrap();
    let mut decoder = SegmentDecoder::with_base().unwrap();
    for element in [Element::I8, Element::F16, Element::Bf16, Element::F32] {
        for count in [1, 2, 5, 4096, 65_537] {
            for spread in [0, 3, 8, 32] {
                let bytes = |random: &mut Random| -> Vec<u8> {
                    let number = |random: &mut Random| ((random.next() >> 32 >> (32 - spread)) as u32).to_le_bytes();
                    (0..count).flat_map(|_| number(random).into_iter().take(element.width())).collect()
                };
                let (old, new) = (bytes(random), bytes(random));
                let mut payload = Vec::new();
                super::super::element::for_number!(element, N => coder.encode::<N>(&old, &new, &mut frames, &mut payload).unwrap(), ());
                let (length, payload_length) = (new.len(), payload.len());
                let segment = Segment { kind: Kind::DeltaRans, element, base_file: 0, base_offset: 0, length, payload_length };
                let mut chunk = Vec::new();
                segment::write(&[segment], &mut chunk);
                chunk.extend_from_slice(&payload);
                assert!(decode_with(&mut decoder, &chunk, length, &Memory(vec![old])) == Ok(new), "{element:?} {count} {spread}");
            }
        }
    }
}

#[test]
fn a_tensor_is_found_where_it_lies_now_and_where_it_lay() {
    let random = &mut Random(11);
    let tensor = weights(random, Element::Bf16, 20_000);
    let new_tensor = trained(random, Element::Bf16, &tensor);
    for (before, old_before) in [(0, 0), (1, 0), (3, 2), (777, 10_001)] {
        let mut base = vec![0x55; old_before];
        base.extend_from_slice(&tensor);
        let mut raw: Vec<u8> = (0..before).map(|at| at as u8).collect();
        raw.extend_from_slice(&new_tensor);
        raw.extend_from_slice(b"and what follows");
        let place = BasePlace { file: 1, offset: old_before as u64 };
        let span = Span { offset: before as u64, length: new_tensor.len() as u64, element: Element::Bf16, base: Some(place) };
        let tallies = comes_back(&raw, &[span], &Memory(vec![Vec::new(), base]));
        assert_eq!(tallies[Kind::DeltaRans as usize].raw, new_tensor.len() as u64);
        assert!(tallies[Kind::DeltaRans as usize].payload < 3 * new_tensor.len() as u64 / 10, "{tallies:?}");
    }
}

#[test]
fn what_is_equal_is_copied_and_copies_join() {
    let bytes: Vec<u8> = (0..3000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let span = |offset: u64, length| Span { offset, length, element: Element::F32, base: Some(BasePlace { file: 0, offset }) };
    let (chunk, tallies) = encode(&bytes, &[span(0, 4000), span(4000, 8000)], &Memory(vec![bytes.clone()]));
    assert_eq!(kinds(&tallies), [Kind::Copy]);
    assert!(chunk.len() < 12, "{}", chunk.len());
    assert_eq!(decode(&chunk, bytes.len(), &Memory(vec![bytes.clone()])), Ok(bytes));
}

#[test]
fn a_tensor_without_a_base_lies_in_planes() {
    let random = &mut Random(3);
    for element in [Element::F16, Element::Bf16, Element::F32] {
        let new = weights(random, element, 30_000);
        let span = Span { base: None, ..like_the_base(element, &new) };
        let tallies = comes_back(&new, &[span], &Memory(Vec::new()));
        assert_eq!(kinds(&tallies), [Kind::Planes], "{element:?}");
        // And so does one whose base is unrelated.
        let other: Vec<u8> = (0..new.len()).map(|_| random.next() as u8).collect();
        assert_eq!(kinds(&comes_back(&new, &[like_the_base(element, &new)], &Memory(vec![other]))), [Kind::Planes], "{element:?}");
    }
}

/// A chunk's border may cut an element; its bytes are then written out on both sides.
#[test]
fn spans_are_cut_on_whole_elements() {
    let random = &mut Random(21);
    let (element, at) = (Element::F32, 5);
    let tensor = weights(random, element, 40_000);
    let new = trained(random, element, &tensor);
    let mut file = vec![9; at];
    file.extend_from_slice(&new);
    let span = Span { offset: at as u64, length: new.len() as u64, element, base: Some(BasePlace { file: 0, offset: 0 }) };
    let base = Memory(vec![tensor]);
    let mut encoder = SegmentEncoder::new().unwrap();
    for cut in [1, 4, 5, 6, 40_007, 100_000] {
        let mut restored = Vec::new();
        for (offset, raw) in [(0, &file[..cut]), (cut, &file[cut..])] {
            let mut tallies = Default::default();
            let piece = FilePiece { raw, offset: offset as u64, spans: &[span] };
            let chunk = encoder.encode(0, piece, &mut base.clone(), &mut tallies).unwrap();
            restored.extend(decode(chunk, raw.len(), &base).unwrap());
            let written_out = tallies[Kind::Literal as usize].raw;
            assert!(written_out <= 8 || raw.len() < 64, "{written_out} bytes are written out of {} at {offset}", raw.len());
        }
        assert!(restored == file, "cut at {cut}");
    }
}

#[test]
fn a_chunk_of_many_tensors_stays_within_the_limits() {
    let random = &mut Random(31);
    let raw = weights(random, Element::F16, CHUNK_RAW_MAX / 2);
    let old = trained(random, Element::F16, &raw);
    // 8,192 tensors of 128 bytes, which are twice as many as there may be segments.
    let span = |offset: u64| Span { offset, length: 128, element: Element::F16, base: Some(BasePlace { file: 0, offset }) };
    let spans: Vec<Span> = (0..CHUNK_RAW_MAX as u64).step_by(128).map(span).collect();
    comes_back(&raw, &spans, &Memory(vec![old.clone()]));
    // Every other one equal, so that there is a segment for each.
    let mut mixed = raw.clone();
    for at in (0..raw.len()).step_by(256) {
        mixed[at..at + 128].copy_from_slice(&old[at..at + 128]);
    }
    let (chunk, _) = encode(&mixed, &spans, &Memory(vec![old]));
    assert!(chunk.len() < CHUNK_RAW_MAX);
}

#[test]
fn spans_that_overlap_or_lie_elsewhere_change_nothing() {
    let random = &mut Random(41);
    let raw = weights(random, Element::Bf16, 10_000);
    let span = |offset, length| Span { offset, length, element: Element::Bf16, base: None };
    for spans in [
        vec![span(0, 10_000), span(500, 10_000), span(9_000, 11_000)],
        vec![span(30_000, 10)],
        vec![span(u64::MAX - 1, 10)],
        vec![span(0, u64::MAX)],
        vec![span(3, 0), span(4, 1), span(19_999, 4)],
    ] {
        comes_back(&raw, &spans, &Memory(Vec::new()));
    }
}
