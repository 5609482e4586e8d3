//! Byte planes: the first bytes of all elements, then the second ones, and so on. Exponents next to exponents compress; mantissas beside
//! them do not, and cost nothing to decode where they lie apart.

use super::element::Number;

/// Writes the planes of `values`, elements of `width` bytes, to `planes`, which is as long.
pub(super) fn split(width: usize, values: &[u8], planes: &mut [u8]) {
    let count = values.len() / width;
    for (number, plane) in planes.chunks_exact_mut(count.max(1)).enumerate() {
        for (byte, value) in plane.iter_mut().zip(values.chunks_exact(width)) {
            *byte = value[number];
        }
    }
}

/// The inverse of [`split`].
pub(super) fn merge(width: usize, planes: &[u8], values: &mut [u8]) {
    let count = planes.len() / width;
    match width {
        2 => {
            let (low, high) = planes.split_at(count);
            for ((value, low), high) in values.chunks_exact_mut(2).zip(low).zip(high) {
                value.copy_from_slice(&[*low, *high]);
            }
        }
        4 => {
            let (low, high) = planes.split_at(2 * count);
            let ((first, second), (third, fourth)) = (low.split_at(count), high.split_at(count));
            let planes = first.iter().zip(second).zip(third.iter().zip(fourth));
            for (value, ((first, second), (third, fourth))) in values.chunks_exact_mut(4).zip(planes) {
                value.copy_from_slice(&[*first, *second, *third, *fourth]);
            }
        }
        _ => values.copy_from_slice(planes),
    }
}

/// Moves the sign from above the exponent to below the mantissa, so that the exponent lies in the last plane: a bit that is as likely set
/// as not spoils the plane that compresses.
pub(super) fn sign_last<N: Number>(values: &mut [u8]) {
    for value in values.chunks_exact_mut(N::WIDTH) {
        let bits = N::load(value);
        N::store((bits << 1 | bits >> (8 * N::WIDTH - 1)) & N::MASK, value);
    }
}

/// The inverse of [`sign_last`].
pub(super) fn sign_first<N: Number>(values: &mut [u8]) {
    for value in values.chunks_exact_mut(N::WIDTH) {
        let bits = N::load(value);
        N::store(bits >> 1 | (bits & 1) << (8 * N::WIDTH - 1), value);
    }
}

/// Puts the zigzag differences from `base` in the place of the elements.
pub(super) fn subtract<N: Number>(base: &[u8], values: &mut [u8]) {
    for (value, old) in values.chunks_exact_mut(N::WIDTH).zip(base.chunks_exact(N::WIDTH)) {
        N::store(N::difference(N::load(old), N::load(value)), value);
    }
}

/// The inverse of [`subtract`].
pub(super) fn add<N: Number>(base: &[u8], values: &mut [u8]) {
    for (value, old) in values.chunks_exact_mut(N::WIDTH).zip(base.chunks_exact(N::WIDTH)) {
        N::store(N::restore(N::load(old), N::load(value)), value);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::{
        super::element::{Bf16, F16, F32},
        *,
    };

    #[test]
    fn planes_are_merged_as_they_were_split() {
        for (width, length) in [(1, 5), (2, 0), (2, 2), (2, 34), (4, 4), (4, 44)] {
            let values: Vec<u8> = (0..length as u8).collect();
            let (mut planes, mut merged) = (vec![0; length], vec![0; length]);
            split(width, &values, &mut planes);
            merge(width, &planes, &mut merged);
            assert_eq!(merged, values, "{width} {length}");
        }
        let mut planes = [0; 4];
        split(2, &[1, 2, 3, 4], &mut planes);
        assert_eq!(planes, [1, 3, 2, 4]);
    }

    #[test]
    fn the_sign_goes_last_and_comes_back() {
        fn check<N: Number>(value: u32, moved: u32) {
            let mut bytes = [0; 4];
            N::store(value, &mut bytes);
            let bytes = &mut bytes[..N::WIDTH];
            sign_last::<N>(bytes);
            assert_eq!(N::load(bytes), moved);
            sign_first::<N>(bytes);
            assert_eq!(N::load(bytes), value);
        }
        check::<Bf16>(0xbf80, 0x7f01);
        check::<F16>(0x3c00, 0x7800);
        check::<F32>(0xffff_ffff, 0xffff_ffff);
        check::<F32>(0x8000_0000, 1);
    }
}
