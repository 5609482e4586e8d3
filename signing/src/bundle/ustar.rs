//! The archive inside a bundle, as a function of its manifest.
//!
//! A bundle's archive holds regular files only, in the manifest's order, with fixed owner, mode and time. Every byte that is not a
//! file's content therefore follows from the manifest, and the reader compares instead of parsing: there is no tar parser in the
//! vehicle, and with it no long names, links, sparse maps, devices, duplicate entries or extension headers to get wrong.

use alloc::{vec, vec::Vec};

/// A tar record; headers have this length, contents are padded to a multiple of it.
pub(super) const BLOCK: usize = 512;

/// Largest file that a ustar header can state: eleven octal digits.
pub(super) const FILE_LENGTH_MAX: u64 = 0o77_777_777_777;

/// Longest name that fits a ustar header without a prefix.
pub(super) const PATH_LENGTH_MAX: usize = 100;

/// Two zero blocks.
const END_MARKER: usize = 2 * BLOCK;

/// Zeros after content of `length` bytes.
pub(super) fn padding(length: u64) -> usize {
    (length.next_multiple_of(BLOCK as u64) - length) as usize
}

/// What stands before a member's content: the padding of the content before it, and its header.
pub(super) fn before_member(previous_length: u64, path: &str, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; padding(previous_length)];
    bytes.extend_from_slice(&header(path, length));
    bytes
}

/// What stands after the last member's content: its padding and the end marker.
pub(super) fn after_last_member(previous_length: u64) -> Vec<u8> {
    vec![0; padding(previous_length) + END_MARKER]
}

/// Length of the archive with these members.
pub(super) fn archive_length(member_lengths: impl Iterator<Item = u64>) -> u64 {
    let members: u64 = member_lengths.map(|length| BLOCK as u64 + length + padding(length) as u64).sum();
    members + END_MARKER as u64
}

/// Where the contents of members with these lengths begin.
pub(super) fn content_offsets(member_lengths: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    member_lengths.scan(0, |end, length| {
        let start = *end + BLOCK as u64;
        *end = start + length + padding(length) as u64;
        Some(start)
    })
}

/// POSIX.1-1988 ustar header of a regular file with mode 0644, owner 0, time 0.
///
/// `path` has at most [`PATH_LENGTH_MAX`] bytes and `length` is at most [`FILE_LENGTH_MAX`]; the manifest's checks guarantee both.
fn header(path: &str, length: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |offset: usize, bytes: &[u8]| block[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, &octal::<7>(0o644));
    put(108, &octal::<7>(0));
    put(116, &octal::<7>(0));
    put(124, &octal::<11>(length));
    put(136, &octal::<11>(0));
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, &octal::<7>(0));
    put(337, &octal::<7>(0));
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    block[148..154].copy_from_slice(&octal::<6>(sum));
    block[154] = 0;
    block
}

fn octal<const DIGITS: usize>(mut value: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    digits
}
