//! What a tensor's bytes are, as far as the coder needs to know: integers of one, two or four bytes, and where their exponent is.
//!
//! Nothing here is computed in floating point, so every processor computes the same. All maps are bijections of the bit patterns, so that
//! zeros of either sign, subnormals, infinities and every NaN come back as they were.

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// No numbers, or of a type that is not listed here.
    Bytes,
    /// Integers of 8 bits, signed or not.
    I8,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    F32,
}

impl Element {
    /// Every type, in the order of their numbers in a segment.
    pub const ALL: [Self; 5] = [Self::Bytes, Self::I8, Self::F16, Self::Bf16, Self::F32];

    /// Bytes of one element.
    pub const fn width(self) -> usize {
        match self {
            Self::Bytes | Self::I8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::I8 => "int8",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::I8 => 1,
            Self::F16 => 2,
            Self::Bf16 => 3,
            Self::F32 => 4,
        }
    }
}

/// Most contexts by which differences are told apart: how far the base weight's exponent lies below the largest.
pub(super) const CONTEXTS_MAX: usize = 16;

/// Tokens below this are the zigzag difference itself.
const PLAIN_TOKENS: u32 = 16;

/// One past the highest token, that of a difference of 32 bits.
pub(super) const TOKENS: usize = 128;

/// One type of element, as code that is compiled for it alone. Values are the bit patterns, in the low bits.
pub(super) trait Number {
    /// Bytes of one element.
    const WIDTH: usize;
    /// Contexts of its differences.
    const CONTEXTS: usize;
    /// The bits of one element.
    const MASK: u32 = u32::MAX >> (32 - 8 * Self::WIDTH);
    /// One past the highest token that a difference of this width can have.
    const TOKENS: usize = token(Self::MASK).0 as usize + 1;
    /// How many weights can take their raw bits from one 64-bit word, of which 57 bits are sure to be there.
    const WEIGHTS_PER_REFILL: usize = if Self::WIDTH == 4 { 1 } else { 4 };

    /// The first element of `bytes`, at any alignment. `bytes` holds at least one.
    fn load(bytes: &[u8]) -> u32;
    /// Writes the element to the front of `bytes`, which has room for it.
    fn store(value: u32, bytes: &mut [u8]);
    /// The exponent field, at most 255; 0 where there is none.
    fn exponent(value: u32) -> u8;
    /// An integer that orders as the numbers do.
    fn mono(value: u32) -> u32;
    /// The inverse of [`Number::mono`], of the low bits of `value`.
    fn unmono(value: u32) -> u32;

    /// The zigzag difference of two elements, modulo the width.
    fn difference(old: u32, new: u32) -> u32 {
        let shift = 32 - 8 * Self::WIDTH as u32;
        let signed = (Self::mono(new).wrapping_sub(Self::mono(old)) << shift) as i32 >> shift;
        ((signed << 1) ^ (signed >> 31)) as u32 & Self::MASK
    }

    /// The element that differs from `old` by the zigzag difference.
    fn restore(old: u32, zigzag: u32) -> u32 {
        let signed = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Self::unmono(Self::mono(old).wrapping_add(signed))
    }
}

/// IEEE order of the bits: negative numbers turned around, below the positive ones.
macro_rules! float {
    ($name:ident, $bits:ty, $width:literal, exponent $shift:literal, $mask:literal) => {
        pub(super) struct $name;

        impl Number for $name {
            const WIDTH: usize = $width;
            const CONTEXTS: usize = CONTEXTS_MAX;

            #[inline(always)]
            fn load(bytes: &[u8]) -> u32 {
                u32::from(<$bits>::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; $width])))
            }

            #[inline(always)]
            fn store(value: u32, bytes: &mut [u8]) {
                if let Some(place) = bytes.first_chunk_mut() {
                    *place = (value as $bits).to_le_bytes();
                }
            }

            #[inline(always)]
            fn exponent(value: u32) -> u8 {
                (value >> $shift) as u8 & $mask
            }

            #[inline(always)]
            fn mono(value: u32) -> u32 {
                let bits = value as $bits;
                let all_if_negative = (bits.cast_signed() >> (<$bits>::BITS - 1)).cast_unsigned();
                u32::from(bits ^ (all_if_negative | (1 << (<$bits>::BITS - 1))))
            }

            #[inline(always)]
            fn unmono(value: u32) -> u32 {
                let bits = value as $bits;
                let all_if_positive = (bits.cast_signed() >> (<$bits>::BITS - 1)).cast_unsigned();
                u32::from(bits ^ (!all_if_positive | (1 << (<$bits>::BITS - 1))))
            }
        }
    };
}

float!(F16, u16, 2, exponent 10, 0x1f);
float!(Bf16, u16, 2, exponent 7, 0xff);
float!(F32, u32, 4, exponent 23, 0xff);

/// Integers order as they are; knowing the base's size gains nothing, so there is one context.
pub(super) struct I8;

impl Number for I8 {
    const WIDTH: usize = 1;
    const CONTEXTS: usize = 1;

    #[inline(always)]
    fn load(bytes: &[u8]) -> u32 {
        bytes.first().map_or(0, |byte| u32::from(*byte))
    }

    #[inline(always)]
    fn store(value: u32, bytes: &mut [u8]) {
        if let Some(place) = bytes.first_mut() {
            *place = value as u8;
        }
    }

    #[inline(always)]
    fn exponent(_: u32) -> u8 {
        0
    }

    #[inline(always)]
    fn mono(value: u32) -> u32 {
        value
    }

    #[inline(always)]
    fn unmono(value: u32) -> u32 {
        value & Self::MASK
    }
}

/// The token of a zigzag difference, and how many of its low bits follow as raw bits: those below its three highest ones.
#[inline(always)]
pub(super) const fn token(zigzag: u32) -> (u32, u32) {
    if zigzag < PLAIN_TOKENS {
        return (zigzag, 0);
    }
    let raw_bits = 29 - zigzag.leading_zeros();
    (PLAIN_TOKENS + (raw_bits - 2) * 4 + ((zigzag >> raw_bits) & 3), raw_bits)
}

/// What a token stands for.
#[derive(Clone, Copy)]
pub(super) struct Difference {
    /// The difference without its raw bits.
    pub(super) base: u32,
    /// How many raw bits there are, and as many ones.
    pub(super) raw_bits: u32,
    pub(super) raw_mask: u32,
}

/// By token.
pub(super) const DIFFERENCES: [Difference; TOKENS] = {
    let mut table = [Difference { base: 0, raw_bits: 0, raw_mask: 0 }; TOKENS];
    let mut token = 0;
    while token < TOKENS as u32 {
        table[token as usize] = if token < PLAIN_TOKENS {
            Difference { base: token, raw_bits: 0, raw_mask: 0 }
        } else {
            let raw_bits = 2 + (token - PLAIN_TOKENS) / 4;
            Difference { base: (4 | (token & 3)) << raw_bits, raw_bits, raw_mask: (1 << raw_bits) - 1 }
        };
        token += 1;
    }
    table
};

/// Runs `$body` with `$number` as the type of an element that is a number; `$otherwise` for bytes.
macro_rules! for_number {
    ($element:expr, $number:ident => $body:expr, $otherwise:expr) => {
        match $element {
            $crate::bundle::delta::element::Element::Bytes => $otherwise,
            $crate::bundle::delta::element::Element::I8 => {
                type $number = $crate::bundle::delta::element::I8;
                $body
            }
            $crate::bundle::delta::element::Element::F16 => {
                type $number = $crate::bundle::delta::element::F16;
                $body
            }
            $crate::bundle::delta::element::Element::Bf16 => {
                type $number = $crate::bundle::delta::element::Bf16;
                $body
            }
            $crate::bundle::delta::element::Element::F32 => {
                type $number = $crate::bundle::delta::element::F32;
                $body
            }
        }
    };
}
pub(super) use for_number;

/// How alike two tensors are: the bits of all differences of their elements, before any coding. For bytes, eight for each that differs.
pub fn difference_bits(element: Element, old: &[u8], new: &[u8]) -> u64 {
    let differ = || old.iter().zip(new).filter(|(old, new)| old != new).count() as u64 * 8;
    for_number!(element, N => {
        let elements = old.chunks_exact(N::WIDTH).zip(new.chunks_exact(N::WIDTH));
        elements.map(|(old, new)| u64::from(32 - N::difference(N::load(old), N::load(new)).leading_zeros())).sum()
    }, differ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_a_bijection<N: Number>(values: impl Iterator<Item = u32> + Clone) {
        for value in values.clone() {
            assert_eq!(N::unmono(N::mono(value)), value);
        }
        let others = values.clone().step_by(997).chain([0, N::MASK, N::MASK >> 1, (N::MASK >> 1) + 1]);
        for (old, new) in others.clone().flat_map(|old| values.clone().step_by(331).map(move |new| (old, new))) {
            let zigzag = N::difference(old, new);
            assert!(zigzag <= N::MASK);
            assert_eq!(N::restore(old, zigzag), new, "{old:#x} {new:#x}");
            let (token, raw_bits) = token(zigzag);
            assert!((token as usize) < N::TOKENS);
            let meant = DIFFERENCES[token as usize];
            assert_eq!((meant.base + (zigzag & meant.raw_mask), meant.raw_bits), (zigzag, raw_bits));
        }
    }

    #[test]
    fn every_bit_pattern_comes_back() {
        is_a_bijection::<I8>(0..=0xff);
        is_a_bijection::<F16>(0..=0xffff);
        is_a_bijection::<Bf16>(0..=0xffff);
        is_a_bijection::<F32>((0..=0xffff_u32).map(|at| at.wrapping_mul(0x9e37_79b9)));
    }

    #[test]
    fn neighbors_of_the_real_line_differ_by_one() {
        // The least negative number, -0, +0 and the least positive one.
        let patterns = [0x8001, 0x8000, 0x0000, 0x0001];
        for pair in patterns.windows(2) {
            assert_eq!((F16::difference(pair[0], pair[1]), F16::difference(pair[1], pair[0])), (2, 1));
        }
        assert_eq!(Bf16::difference(0x3f80, 0x3f81), 2);
        assert_eq!(I8::difference(0xff, 0x00), 2);
        assert_eq!((F16::exponent(0x3c00), Bf16::exponent(0x3f80), F32::exponent(1.0_f32.to_bits()), I8::exponent(77)), (15, 127, 127, 0));
    }

    #[test]
    fn what_is_equal_differs_in_no_bit() {
        for element in Element::ALL {
            assert_eq!(difference_bits(element, &[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4, 5, 6, 7, 8]), 0);
        }
        assert_eq!(difference_bits(Element::Bytes, &[1, 2, 3], &[1, 3, 4]), 16);
        assert_eq!(difference_bits(Element::Bf16, &0x3f80_u16.to_le_bytes(), &0x3f82_u16.to_le_bytes()), 3);
        assert_eq!(difference_bits(Element::I8, &[10, 10], &[11, 9]), 3);
    }

    #[test]
    fn the_highest_token_is_that_of_the_width() {
        assert_eq!((I8::TOKENS, F16::TOKENS, Bf16::TOKENS, F32::TOKENS), (32, 64, 64, TOKENS));
    }

    #[test]
    fn numbers_of_elements_are_fixed() {
        for (byte, element) in Element::ALL.into_iter().enumerate() {
            assert_eq!((Element::from_byte(byte as u8), usize::from(element.to_byte())), (Some(element), byte));
        }
        assert_eq!(Element::from_byte(5), None);
    }
}
