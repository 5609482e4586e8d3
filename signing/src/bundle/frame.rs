//! One plain zstd frame at a time: what is read is held to a fixed amount of memory, what is written costs nothing where it gains nothing.

use alloc::{string::ToString, vec::Vec};

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

use super::error::BundleError;

/// Largest zstd window that is accepted, as a power of two. zstd's own limit of 2^27 turns a frame of 4 KB into 133 MB of memory.
const WINDOW_LOG_MAX: u32 = 23;

/// Content that zstd cannot make smaller than this share of its length is stored as raw blocks, which cost nothing to decode.
const WORTH_COMPRESSING_PERCENT: usize = 97;

/// Longest block of a zstd frame (RFC 8878 section 3.1.1.2.4).
const ZSTD_BLOCK_MAX: usize = 128 << 10;

/// Decodes frames into the caller's buffers, and into no other memory than zstd's own context.
pub(super) struct FrameDecoder(Decompressor<'static>);

impl FrameDecoder {
    pub(super) fn new() -> Result<Self, BundleError> {
        let mut zstd = Decompressor::new().map_err(zstd_error)?;
        zstd.set_parameter(zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(zstd_error)?;
        Ok(Self(zstd))
    }

    /// Decodes bytes that are exactly one plain frame; says how many bytes it holds, which may be fewer than `raw` has room for.
    pub(super) fn decode(&mut self, frame: &[u8], raw: &mut [u8]) -> Result<usize, &'static str> {
        let (frame, rest) = first_frame(frame, raw.len())?;
        if !rest.is_empty() {
            return Err("bytes follow the zstd frame");
        }
        self.0.decompress_to_buffer(frame, raw).map_err(|_| "the zstd frame is damaged or longer than the index says")
    }

    /// Decodes the frame that `bytes` begin with, which must fill `raw` exactly; the rest of the bytes.
    pub(super) fn decode_front<'a>(&mut self, bytes: &'a [u8], raw: &mut [u8]) -> Result<&'a [u8], &'static str> {
        let (frame, rest) = first_frame(bytes, raw.len())?;
        match self.0.decompress_to_buffer(frame, raw) {
            Ok(length) if length == raw.len() => Ok(rest),
            Ok(_) => Err("a zstd frame holds fewer bytes than it should"),
            Err(_) => Err("a zstd frame is damaged or holds more bytes than it should"),
        }
    }
}

/// Splits off the frame that `bytes` begin with. Refuses everything but a plain zstd frame (RFC 8878 section 3.1.1): zstd itself would also
/// take skippable frames and several frames in a row, and would open a dictionary or a window of any size that a header asks for.
fn first_frame(bytes: &[u8], raw_length: usize) -> Result<(&[u8], &[u8]), &'static str> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let rest = bytes.strip_prefix(&MAGIC).ok_or("it does not begin with the magic number of a zstd frame")?;
    let (&descriptor, rest) = rest.split_first().ok_or("the zstd frame header is cut off")?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return Err("the zstd frame header uses a reserved bit");
    }
    if descriptor & 0x03 != 0 {
        return Err("the zstd frame asks for a dictionary");
    }
    let size_bytes = match (descriptor >> 6, single_segment) {
        (0, false) => 0,
        (0, true) => 1,
        (flag, _) => 1_usize << flag,
    };
    let rest = if single_segment {
        rest
    } else {
        let (&window, rest) = rest.split_first().ok_or("the zstd frame header is cut off")?;
        if window_bytes(window) > 1 << WINDOW_LOG_MAX {
            return Err("the zstd frame asks for a window above 8 MiB");
        }
        rest
    };
    let size = rest.get(..size_bytes).ok_or("the zstd frame header is cut off")?;
    if size_bytes > 0 && content_size(size) != raw_length as u64 {
        return Err("the zstd frame states another length than the index");
    }
    let length = zstd_safe::find_frame_compressed_size(bytes).map_err(|_| "the zstd frame is cut off or damaged")?;
    bytes.split_at_checked(length).ok_or("the zstd frame is cut off or damaged")
}

/// RFC 8878 section 3.1.1.1.2.
fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// RFC 8878 section 3.1.1.1.4.
fn content_size(field: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..field.len()].copy_from_slice(field);
    let offset = if field.len() == 2 { 256 } else { 0 };
    u64::from_le_bytes(bytes).saturating_add(offset)
}

/// Writes frames.
pub(super) struct FrameEncoder {
    zstd: Compressor<'static>,
    frame: Vec<u8>,
}

impl FrameEncoder {
    /// An encoder for content of up to `raw_max` bytes at this level of zstd.
    pub(super) fn new(level: i32, raw_max: usize) -> Result<Self, BundleError> {
        let mut zstd = Compressor::new(level).map_err(zstd_error)?;
        // All content is checked by SHA-256 before and after decoding; zstd's own checksum would be 4 bytes for nothing.
        zstd.set_parameter(zstd_safe::CParameter::ChecksumFlag(false)).map_err(zstd_error)?;
        Ok(Self { zstd, frame: Vec::with_capacity(zstd::compress_bound(raw_max)) })
    }

    /// The frame of `raw`, which is not empty.
    pub(super) fn encode(&mut self, raw: &[u8]) -> Result<&[u8], BundleError> {
        self.frame.clear();
        self.zstd.compress_to_buffer(raw, &mut self.frame).map_err(zstd_error)?;
        if self.frame.len() > raw.len() * WORTH_COMPRESSING_PERCENT / 100 {
            raw_frame(raw, &mut self.frame);
        }
        Ok(&self.frame)
    }
}

/// A zstd frame of uncompressed blocks (RFC 8878 section 3.1.1): one segment, content size in four bytes.
fn raw_frame(raw: &[u8], frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    // `raw` is at most a chunk.
    frame.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    let last = raw.len().div_ceil(ZSTD_BLOCK_MAX) - 1;
    for (number, block) in raw.chunks(ZSTD_BLOCK_MAX).enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(number == last);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
}

fn zstd_error(error: std::io::Error) -> BundleError {
    BundleError::Zstd { reason: error.to_string() }
}
