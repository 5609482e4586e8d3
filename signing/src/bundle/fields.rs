//! Takes fixed fields from the front of binary files, little-endian.

use super::error::BundleError;
use crate::digest::Sha256Digest;

/// What is left of a file.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    /// Length that the file must have at least, by what was read of it so far.
    pub(super) expected: usize,
    /// Length that it has.
    pub(super) found: usize,
    /// What is wrong with a file of another length: that which it must have at least, and its own.
    pub(super) cut_off: fn(u64, u64) -> BundleError,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8], expected: usize, cut_off: fn(u64, u64) -> BundleError) -> Self {
        Self { bytes, expected, found: bytes.len(), cut_off }
    }

    /// The error for a file that is shorter or longer than it must be.
    pub(super) fn length(&self) -> BundleError {
        (self.cut_off)(self.expected as u64, self.found as u64)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let needed = self.found - self.bytes.len() + N;
        self.expected = self.expected.max(needed);
        let (field, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| self.length())?;
        self.bytes = rest;
        Ok(*field)
    }

    pub(super) fn u16(&mut self) -> Result<u16, BundleError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BundleError> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BundleError> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn digest(&mut self) -> Result<Sha256Digest, BundleError> {
        self.take().map(Sha256Digest::from_bytes)
    }
}
