#![allow(clippy::unwrap_used, clippy::expect_used)]

mod codec;
mod golden;
mod hostile;
mod whole;

use alloc::{format, string::String, vec, vec::Vec};

use super::{
    Base, BasePlace, Element, Kind, Span, Tally,
    decoder::{Files, Refusal, SegmentDecoder},
    encoder::{FilePiece, SegmentEncoder},
    segment::{self, Segment},
};

/// Files in memory.
#[derive(Clone)]
struct Memory(Vec<Vec<u8>>);

impl Base for Memory {
    type Error = String;

    fn read(&mut self, file: usize, offset: u64, into: &mut [u8]) -> Result<(), String> {
        let bytes = self.0.get(file).and_then(|file| file.get(offset as usize..)?.get(..into.len()));
        into.copy_from_slice(bytes.ok_or_else(|| format!("file {file} is too short"))?);
        Ok(())
    }
}

impl Memory {
    fn lengths(&self) -> Vec<u64> {
        self.0.iter().map(|file| file.len() as u64).collect()
    }
}

/// The chunk of these bytes.
fn encode(raw: &[u8], spans: &[Span], base: &Memory) -> (Vec<u8>, [Tally; 5]) {
    let mut tallies = [Tally::default(); 5];
    let piece = FilePiece { raw, offset: 0, spans };
    let chunk = SegmentEncoder::new().unwrap().encode(0, piece, &mut base.clone(), &mut tallies).unwrap().to_vec();
    (chunk, tallies)
}

/// What a chunk makes of the base.
fn decode(chunk: &[u8], raw_length: usize, base: &Memory) -> Result<Vec<u8>, String> {
    decode_with(&mut SegmentDecoder::with_base().unwrap(), chunk, raw_length, base)
}

fn decode_with(decoder: &mut SegmentDecoder, chunk: &[u8], raw_length: usize, base: &Memory) -> Result<Vec<u8>, String> {
    let mut raw = vec![0xa5; raw_length];
    let mut files = Files { lengths: &base.lengths(), base: &mut base.clone() };
    match decoder.decode(chunk, &mut files, &mut raw) {
        Ok(()) => Ok(raw),
        Err(Refusal::Chunk(reason)) => Err(reason.into()),
        Err(Refusal::Base { file, reason }) => Err(format!("file {file}: {reason}")),
    }
}

/// The whole of the first base file is the tensor that `raw` is like.
fn like_the_base(element: Element, raw: &[u8]) -> Span {
    Span { offset: 0, length: raw.len() as u64, element, base: Some(BasePlace { file: 0, offset: 0 }) }
}

/// A cheap source of bits; the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Weights as training leaves them, by their bits: exponents near one value, everything else random.
fn weights(random: &mut Random, element: Element, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * element.width());
    for _ in 0..count {
        let below = (random.next() | 1 << 6).trailing_zeros();
        let bits = random.next() as u32;
        match element {
            Element::Bytes | Element::I8 => bytes.push(bits as u8),
            Element::F16 => bytes.extend_from_slice(&((bits as u16 & 0x83ff) | (14 - below as u16) << 10).to_le_bytes()),
            Element::Bf16 => bytes.extend_from_slice(&((bits as u16 & 0x807f) | (121 - below as u16) << 7).to_le_bytes()),
            Element::F32 => bytes.extend_from_slice(&((bits & 0x807f_ffff) | (121 - below) << 23).to_le_bytes()),
        }
    }
    bytes
}

/// The same weights a training step later: most move by a few units of their last places.
fn trained(random: &mut Random, element: Element, weights: &[u8]) -> Vec<u8> {
    let mut bytes = weights.to_vec();
    for value in bytes.chunks_exact_mut(element.width()) {
        let step = random.below(4).wrapping_mul(random.below(3)) as u8;
        if random.below(2) == 0 {
            value[0] = value[0].wrapping_add(step);
        } else {
            value[0] = value[0].wrapping_sub(step);
        }
    }
    bytes
}
