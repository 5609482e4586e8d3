//! Hexadecimal (metadata), base64 (HTTP headers) and base64url (JSON Web Keys), strict in both directions: one value has one text.

use alloc::{string::String, vec::Vec};

/// Lower-case hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// The bytes of lower- or upper-case hexadecimal.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

/// The bytes of hexadecimal with exactly `N` bytes.
pub(crate) fn array_from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    from_hex(text)?.try_into().ok()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Marks in [`BASE64_VALUES`] what is no digit.
const NO_DIGIT: u8 = 64;

/// The value of each digit. Looked up rather than searched for: every signed request brings 88 of them.
const BASE64_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        values[BASE64[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = BASE64[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The bytes of padded base64; text that [`to_base64`] would not have written is refused.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let mut value = 0_u32;
        for &digit in group {
            let index = if digit == b'=' { 0 } else { BASE64_VALUES[usize::from(digit)] };
            if index == NO_DIGIT {
                return None;
            }
            value = value << 6 | u32::from(index);
        }
        let padding = group.iter().filter(|&&digit| digit == b'=').count();
        bytes.extend_from_slice(value.to_be_bytes()[1..].get(..3_usize.checked_sub(padding)?)?);
    }
    // Encoding again finds every other spelling: missing padding, padding in the middle, bits set behind the last byte.
    (to_base64(&bytes) == text).then_some(bytes)
}

/// Base64url without padding (RFC 4648, section 5; RFC 7515, section 2).
pub(crate) fn to_base64url(bytes: &[u8]) -> String {
    let mut text = to_base64(bytes).replace('+', "-").replace('/', "_");
    text.truncate(text.trim_end_matches('=').len());
    text
}

/// The bytes of base64url; text that [`to_base64url`] would not have written is refused.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    if text.contains(['+', '/', '=']) {
        return None;
    }
    let mut padded = text.replace('-', "+").replace('_', "/");
    padded.extend(core::iter::repeat_n('=', text.len().wrapping_neg() % 4));
    from_base64(&padded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(to_base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(from_base64url("-_8").unwrap(), [0xfb, 0xff]);
    }

    #[test]
    fn a_second_spelling_of_the_same_bytes_is_refused() {
        for text in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm9-"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
        for text in ["A", "Zg==", "Zh", "-_9", "+/8", "Zm9v\n"] {
            assert_eq!(from_base64url(text), None, "{text}");
        }
        for text in ["0", "0g", " 00", "+0"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_a_round_trip(bytes: Vec<u8>) {
            prop_assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_base64url(&to_base64url(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }
    }
}
