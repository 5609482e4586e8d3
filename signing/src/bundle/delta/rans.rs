//! Decoding of differences by static range asymmetric numeral systems (rANS; Duda, arXiv 1311.2540): four interleaved states, 16-bit words.
//!
//! A segment's payload is its tables and then blocks of [`BLOCK_WEIGHTS`] weights, the last one shorter:
//!
//! | bytes | field |
//! |---|---|
//! | 2, 2 | length of the tables before and after compression |
//! | | the tables, one zstd frame: `top` 1; for each context the last used token 1, and the frequencies of all up to it |
//! | 4 | of each block: length of states and words |
//! | 4 | length of the raw bits |
//! | 4 × 4 | the states |
//! | | the words, 2 bytes each, as they are read |
//! | | the raw bits, the lowest first |
//!
//! A frequency below 128 takes one byte; one above it the low seven bits with the top bit set, and the bits above them. The frequencies of a
//! context make 2,048. The context of a weight is how far its base's exponent lies below `top`, at most 15.

use alloc::{boxed::Box, vec};

use super::element::{CONTEXTS_MAX, DIFFERENCES, Difference, Number, TOKENS};

/// Bits of a probability.
pub(super) const PROBABILITY_BITS: u32 = 11;

/// What the frequencies of a context make.
pub(super) const PROBABILITY_ONE: u32 = 1 << PROBABILITY_BITS;

/// Weights that are coded without regard to any other.
pub(super) const BLOCK_WEIGHTS: usize = 1 << 16;

/// States, taken in turn by the weights.
pub(super) const STATES: usize = 4;

/// Where a state begins and ends: the lower end of its range.
pub(super) const STATE_MIN: u32 = 1 << 16;

/// Longest tables before compression: `top` and all contexts with all frequencies in two bytes.
pub(super) const TABLES_LENGTH_MAX: usize = 1 + CONTEXTS_MAX * (1 + 2 * TOKENS);

/// One slot for each probability of each context.
const SLOTS: usize = CONTEXTS_MAX << PROBABILITY_BITS;

/// Room for the words of a block and for one that is looked at behind them; a power of two, so that any position is within.
const WORD_BYTES: usize = 4 * BLOCK_WEIGHTS;

/// Room for the raw bits of a block: 29 bits for each weight at most, and a power of two.
const BIT_BYTES: usize = 4 * BLOCK_WEIGHTS;

/// Room behind the raw bits for the last word that is looked at.
const BIT_MARGIN: usize = 8;

/// Length of a block before its words.
const BLOCK_HEADER: usize = 8 + 4 * STATES;

/// The decoder's tables and buffers: 640 KiB.
pub(super) struct Rans {
    /// Token in 7 bits, frequency less one in 13, distance from the token's first slot in 12.
    slots: Box<[u32]>,
    /// First slot of the context, by the base weight's exponent.
    contexts: [u16; 256],
    words: Box<[u8]>,
    bits: Box<[u8]>,
}

impl Rans {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS].into_boxed_slice(),
            contexts: [0; 256],
            words: vec![0; WORD_BYTES].into_boxed_slice(),
            bits: vec![0; BIT_BYTES + BIT_MARGIN].into_boxed_slice(),
        }
    }

    /// Takes the tables of a segment; `tables` are its decompressed bytes.
    pub(super) fn set_tables<N: Number>(&mut self, tables: &[u8]) -> Result<(), &'static str> {
        let (&top, mut rest) = tables.split_first().ok_or(CUT_OFF)?;
        for (exponent, context) in self.contexts.iter_mut().enumerate() {
            let below = usize::from(top).saturating_sub(exponent).min(N::CONTEXTS - 1);
            *context = (below << PROBABILITY_BITS) as u16;
        }
        for slots in self.slots.chunks_exact_mut(1 << PROBABILITY_BITS).take(N::CONTEXTS) {
            rest = fill_context::<N>(rest, slots)?;
        }
        if rest.is_empty() { Ok(()) } else { Err("bytes follow the tables of a segment") }
    }

    /// Decodes the block that `payload` begins with into `out`, elements that differ from those of `base`; the rest of the payload.
    pub(super) fn decode_block<'a, N: Number>(&mut self, payload: &'a [u8], base: &[u8], out: &mut [u8]) -> Result<&'a [u8], &'static str> {
        let (header, rest) = payload.split_first_chunk::<BLOCK_HEADER>().ok_or(CUT_OFF)?;
        let field = |at: usize| N32::load(&header[4 * at..]);
        let (words_length, bits_length) = (field(0) as usize, field(1) as usize);
        let words_length = words_length.checked_sub(4 * STATES).ok_or("a block's words are shorter than its states")?;
        if words_length > 2 * BLOCK_WEIGHTS || !words_length.is_multiple_of(2) || bits_length > BIT_BYTES {
            return Err("a block is longer than its weights can make it");
        }
        let (words, rest) = rest.split_at_checked(words_length).ok_or(CUT_OFF)?;
        let (bits, rest) = rest.split_at_checked(bits_length).ok_or(CUT_OFF)?;
        // What lies behind them in the buffers is looked at, never used: the end is checked.
        self.words[..words_length].copy_from_slice(words);
        self.bits[..bits_length].copy_from_slice(bits);
        let mut reader = Reader { states: [field(2), field(3), field(4), field(5)], words_read: 0, bits_read: 0 };
        if reader.states.iter().any(|state| *state < STATE_MIN) {
            return Err("a block begins in a state below its range");
        }
        self.decode_weights::<N>(&mut reader, base, out).ok_or("the decoder's buffers are too short")?;
        if reader.states != [STATE_MIN; STATES] || 2 * reader.words_read != words_length {
            return Err("a block does not end where its words end");
        }
        let unused = 8 * bits_length as u64;
        let unused = unused.checked_sub(reader.bits_read as u64).filter(|unused| *unused < 8);
        let last = bits.last().map_or(0, |last| u32::from(*last));
        if unused.is_none_or(|unused| last >> (8 - unused) != 0) {
            return Err("a block does not end where its raw bits end");
        }
        Ok(rest)
    }

    /// The inner loop. Every index is within an array of a fixed length, whatever the stream says, and no branch depends on a weight.
    fn decode_weights<N: Number>(&self, reader: &mut Reader, base: &[u8], out: &mut [u8]) -> Option<()> {
        let source = Source {
            slots: self.slots.first_chunk()?,
            contexts: &self.contexts,
            words: self.words.first_chunk()?,
            bits: self.bits.first_chunk()?,
        };
        let group = STATES * N::WIDTH;
        let (mut outs, mut bases) = (out.chunks_exact_mut(group), base.chunks_exact(group));
        let mut local = *reader;
        for (out, base) in outs.by_ref().zip(bases.by_ref()) {
            // As many as there are states, so that the compiler keeps each in a register of its own.
            let mut raw = 0;
            for number in 0..STATES {
                if number % N::WEIGHTS_PER_REFILL == 0 {
                    raw = source.raw_bits(local.bits_read);
                }
                let at = number * N::WIDTH;
                let value = source.decode_weight::<N>(&mut local, number, &mut raw, N::load(&base[at..]));
                N::store(value, &mut out[at..]);
            }
        }
        let rest = outs.into_remainder().chunks_exact_mut(N::WIDTH).zip(bases.remainder().chunks_exact(N::WIDTH));
        for (number, (out, base)) in rest.enumerate() {
            let mut raw = source.raw_bits(local.bits_read);
            N::store(source.decode_weight::<N>(&mut local, number, &mut raw, N::load(base)), out);
        }
        *reader = local;
        Some(())
    }
}

const CUT_OFF: &str = "a segment's payload is cut off";

/// A number of four bytes.
type N32 = super::element::F32;

/// Where decoding is within a block.
#[derive(Clone, Copy)]
struct Reader {
    states: [u32; STATES],
    words_read: usize,
    bits_read: usize,
}

/// What a block is decoded from, as arrays whose length the compiler knows.
struct Source<'a> {
    slots: &'a [u32; SLOTS],
    contexts: &'a [u16; 256],
    words: &'a [u8; WORD_BYTES],
    bits: &'a [u8; BIT_BYTES + BIT_MARGIN],
}

impl Source<'_> {
    /// The next weight of state `number`, which differs from `old`; its raw bits are the lowest of `raw`.
    #[inline(always)]
    fn decode_weight<N: Number>(&self, reader: &mut Reader, number: usize, raw: &mut u64, old: u32) -> u32 {
        let state = &mut reader.states[number % STATES];
        let context = if N::CONTEXTS == 1 { 0 } else { usize::from(self.contexts[usize::from(N::exponent(old))]) };
        let slot = self.slots[(context | (*state & (PROBABILITY_ONE - 1)) as usize) & (SLOTS - 1)];
        let frequency = ((slot >> 12) & 0x1fff) + 1;
        let next = frequency.wrapping_mul(*state >> PROBABILITY_BITS).wrapping_add(slot & 0xfff);
        let at = (2 * reader.words_read) & (WORD_BYTES - 2);
        let word = u32::from(u16::from_le_bytes([self.words[at], self.words[at + 1]]));
        let short = next < STATE_MIN;
        *state = if short { (next << 16) | word } else { next };
        reader.words_read += usize::from(short);
        let Difference { base, raw_bits, raw_mask } = DIFFERENCES[(slot >> 25) as usize & (TOKENS - 1)];
        let zigzag = base + (*raw as u32 & raw_mask);
        *raw >>= raw_bits;
        reader.bits_read += raw_bits as usize;
        N::restore(old, zigzag)
    }

    /// At least 57 raw bits from position `at` on.
    #[inline(always)]
    fn raw_bits(&self, at: usize) -> u64 {
        let from = (at >> 3) & (BIT_BYTES - 1);
        let word = self.bits[from..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        word >> (at & 7)
    }
}

/// Reads the frequencies of one context into its slots; the rest of the tables.
fn fill_context<'a, N: Number>(tables: &'a [u8], slots: &mut [u32]) -> Result<&'a [u8], &'static str> {
    let (&last, mut rest) = tables.split_first().ok_or("the tables of a segment are cut off")?;
    if usize::from(last) >= N::TOKENS {
        return Err("a table names a token that is too high for its elements");
    }
    let mut next = 0_usize;
    for token in 0..=u32::from(last) {
        let frequency = frequency(&mut rest)?;
        if frequency == 0 && token == u32::from(last) {
            return Err("a table ends with a token that does not occur");
        }
        let place = slots.get_mut(next..next + frequency as usize).ok_or("the frequencies of a context do not make 2048")?;
        for (distance, slot) in place.iter_mut().enumerate() {
            // `place` is at most 2,048 long.
            *slot = token << 25 | (frequency - 1) << 12 | distance as u32;
        }
        next += frequency as usize;
    }
    if next == slots.len() { Ok(rest) } else { Err("the frequencies of a context do not make 2048") }
}

/// A frequency in one byte or two, in its shorter form.
fn frequency(rest: &mut &[u8]) -> Result<u32, &'static str> {
    let mut byte = || -> Result<u32, &'static str> {
        let (&byte, after) = rest.split_first().ok_or("the tables of a segment are cut off")?;
        *rest = after;
        Ok(byte.into())
    };
    let low = byte()?;
    if low < 0x80 {
        return Ok(low);
    }
    match byte()? {
        0 => Err("a frequency is not in its shorter form"),
        high => Ok(low & 0x7f | high << 7),
    }
}
