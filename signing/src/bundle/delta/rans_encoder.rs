//! The other side of `rans.rs`: counts, rounds the counts to probabilities, and writes tables and blocks.

use alloc::{vec, vec::Vec};

use super::{
    element::{CONTEXTS_MAX, Number, TOKENS, token},
    rans::{BLOCK_WEIGHTS, PROBABILITY_BITS, PROBABILITY_ONE, STATE_MIN, STATES},
};
use crate::bundle::{error::BundleError, frame::FrameEncoder};

/// How often each token occurs in a context, or how often in 2,048 it is taken to.
type Counts = [u32; TOKENS];

/// One weight as it is coded.
#[derive(Clone, Copy)]
struct Coded {
    context: u8,
    token: u8,
    raw_bits: u8,
    zigzag: u32,
}

/// Where a token lies in its context.
#[derive(Clone, Copy, Default)]
struct Interval {
    start: u32,
    frequency: u32,
}

/// Encodes segments of up to a chunk's length.
pub(super) struct RansEncoder {
    weights: Vec<Coded>,
    counts: Vec<Counts>,
    intervals: Vec<[Interval; TOKENS]>,
    words: Vec<u16>,
    bits: Vec<u8>,
}

impl RansEncoder {
    pub(super) fn new() -> Self {
        Self {
            weights: Vec::new(),
            counts: vec![[0; TOKENS]; CONTEXTS_MAX],
            intervals: vec![[Interval::default(); TOKENS]; CONTEXTS_MAX],
            words: Vec::with_capacity(BLOCK_WEIGHTS),
            bits: Vec::new(),
        }
    }

    /// Appends the payload that makes `new` out of `base`; both have the same number of elements, at least one.
    pub(super) fn encode<N: Number>(
        &mut self,
        base: &[u8],
        new: &[u8],
        frames: &mut FrameEncoder,
        payload: &mut Vec<u8>,
    ) -> Result<(), BundleError> {
        let top = base.chunks_exact(N::WIDTH).map(|old| N::exponent(N::load(old))).max().unwrap_or_default();
        self.count::<N>(top, base, new);
        let mut tables = vec![top];
        for (counts, intervals) in self.counts.iter_mut().zip(&mut self.intervals).take(N::CONTEXTS) {
            round(counts);
            write_context(counts, &mut tables);
            let mut start = 0;
            for (frequency, interval) in counts.iter().zip(intervals) {
                *interval = Interval { start, frequency: *frequency };
                start += frequency;
            }
        }
        let frame = frames.encode(&tables)?;
        // Both are below TABLES_LENGTH_MAX and what a frame adds to it.
        payload.extend_from_slice(&(tables.len() as u16).to_le_bytes());
        payload.extend_from_slice(&(frame.len() as u16).to_le_bytes());
        payload.extend_from_slice(frame);
        for block in self.weights.chunks(BLOCK_WEIGHTS) {
            encode_block(block, &self.intervals, &mut self.words, &mut self.bits, payload);
        }
        Ok(())
    }

    fn count<N: Number>(&mut self, top: u8, base: &[u8], new: &[u8]) {
        self.counts.fill([0; TOKENS]);
        self.weights.clear();
        for (old, new) in base.chunks_exact(N::WIDTH).zip(new.chunks_exact(N::WIDTH)) {
            let old = N::load(old);
            let zigzag = N::difference(old, N::load(new));
            let (token, raw_bits) = token(zigzag);
            let context = (top - N::exponent(old)).min(N::CONTEXTS as u8 - 1);
            self.counts[usize::from(context)][token as usize] += 1;
            self.weights.push(Coded { context, token: token as u8, raw_bits: raw_bits as u8, zigzag });
        }
    }
}

/// Turns counts into frequencies that make [`PROBABILITY_ONE`], with at least one for every token that occurs.
fn round(counts: &mut Counts) {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if total == 0 {
        counts[0] = PROBABILITY_ONE;
        return;
    }
    for count in counts.iter_mut().filter(|count| **count > 0) {
        // At most PROBABILITY_ONE.
        *count = ((u64::from(*count) * u64::from(PROBABILITY_ONE) / total) as u32).max(1);
    }
    loop {
        let sum: u32 = counts.iter().sum();
        let Some(largest) = counts.iter_mut().max() else { return };
        match sum.cmp(&PROBABILITY_ONE) {
            core::cmp::Ordering::Equal => return,
            core::cmp::Ordering::Less => *largest += PROBABILITY_ONE - sum,
            // One at a time: with many rare tokens the largest may change.
            core::cmp::Ordering::Greater => *largest -= 1,
        }
    }
}

fn write_context(frequencies: &Counts, tables: &mut Vec<u8>) {
    let last = frequencies.iter().rposition(|frequency| *frequency > 0).unwrap_or_default();
    tables.push(last as u8);
    for frequency in &frequencies[..=last] {
        match *frequency {
            small @ 0..0x80 => tables.push(small as u8),
            large => tables.extend_from_slice(&[large as u8 | 0x80, (large >> 7) as u8]),
        }
    }
}

/// States run backward, so that the decoder may run forward.
fn encode_block(block: &[Coded], intervals: &[[Interval; TOKENS]], words: &mut Vec<u16>, bits: &mut Vec<u8>, payload: &mut Vec<u8>) {
    words.clear();
    let mut states = [STATE_MIN; STATES];
    for (at, weight) in block.iter().enumerate().rev() {
        let state = &mut states[at % STATES];
        let Interval { start, frequency } = intervals[usize::from(weight.context)][usize::from(weight.token)];
        if frequency == PROBABILITY_ONE {
            continue;
        }
        if *state >= frequency << (32 - PROBABILITY_BITS) {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << PROBABILITY_BITS) + *state % frequency + start;
    }
    bits.clear();
    let (mut open, mut open_bits) = (0_u64, 0_u32);
    for weight in block {
        let raw_bits = u32::from(weight.raw_bits);
        open |= u64::from(weight.zigzag & ((1 << raw_bits) - 1)) << open_bits;
        open_bits += raw_bits;
        if open_bits >= 32 {
            bits.extend_from_slice(&(open as u32).to_le_bytes());
            open >>= 32;
            open_bits -= 32;
        }
    }
    bits.extend_from_slice(&open.to_le_bytes()[..open_bits.div_ceil(8) as usize]);
    payload.extend_from_slice(&((4 * STATES + 2 * words.len()) as u32).to_le_bytes());
    payload.extend_from_slice(&(bits.len() as u32).to_le_bytes());
    payload.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    payload.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    payload.extend_from_slice(bits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(counts: impl Fn(usize) -> u32) -> Counts {
        let mut counts = core::array::from_fn(counts);
        let seen = counts.map(|count| count > 0);
        round(&mut counts);
        assert_eq!(counts.iter().sum::<u32>(), PROBABILITY_ONE);
        for (token, seen) in seen.into_iter().enumerate().skip(1) {
            assert_eq!(counts[token] > 0, seen, "{token}");
        }
        counts
    }

    #[test]
    fn every_token_that_occurs_keeps_a_probability() {
        assert_eq!(rounded(|_| 0)[0], PROBABILITY_ONE);
        assert_eq!(rounded(|token| if token == 5 { u32::MAX } else { 0 })[5], PROBABILITY_ONE);
        assert_eq!(rounded(|_| 3)[7], 16);
        rounded(|token| if token == 1 { 1 << 20 } else { 1 });
        // A hundred rare ones, and the rest alike: more is to be taken than the largest has.
        rounded(|token| if token < 100 { 1 } else { 1 << 20 });
        rounded(|token| (token as u32).pow(3));
    }
}
