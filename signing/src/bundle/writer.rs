//! Writes bundles: the same manifest and files always make the same bytes, under the same key if they are encrypted.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use std::io;

use thiserror::Error;

use super::{
    content_key::ContentKey,
    delta::{FilePiece, NoBase, SegmentEncoder, Span},
    encryption::ChunkCipher,
    error::BundleError,
    frame::FrameEncoder,
    index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX, CHUNKS_MAX, ChunkIndex, ChunkRow, Filter, Summary},
    manifest::{MANIFEST_PATH, Manifest},
    ustar,
};
use crate::{
    digest::{Sha256Digest, Sha256Hasher},
    metadata::EncryptionMethod,
};

/// zstd level of bundles. Weights compress no better at 19 (entropy coding only), and 250 times slower.
pub(super) const LEVEL: i32 = 3;

/// Why a bundle could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The manifest or the files contradict each other or a limit.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file's content could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Path of the member.
        path: String,
        /// What the reader said.
        source: io::Error,
    },
    /// The bundle could not be written.
    #[error("cannot write the bundle")]
    Write {
        /// What the writer said.
        source: io::Error,
    },
}

/// Writes a bundle and collects its index.
///
/// The archive is cut where a member's content begins and ends, and every [`CHUNK_RAW_MAX`] bytes of content: a chunk of content
/// holds bytes of one file only, so that it can be found again in an installed file.
pub struct BundleWriter<W> {
    out: W,
    manifest: Manifest,
    manifest_length: u32,
    manifest_sha256: Sha256Digest,
    /// Number of the file that comes next.
    next: usize,
    raw: Box<[u8]>,
    raw_offset: u64,
    chunks: ChunkWriter,
}

impl<W: io::Write> BundleWriter<W> {
    /// Begins a bundle: checks the manifest and writes it as the first member.
    ///
    /// # Errors
    /// What [`Manifest::to_bytes`] returns, and errors of the writer.
    pub fn new(out: W, manifest: Manifest) -> Result<Self, WriteError> {
        Self::begin(out, manifest, None)
    }

    /// Begins a bundle whose chunks are encrypted under `key`, which must be fresh: no other bundle, nor another attempt at this one whose bytes
    /// anybody may have seen, was written with it.
    ///
    /// # Errors
    /// What [`BundleWriter::new`] returns.
    pub fn encrypted(out: W, manifest: Manifest, key: &ContentKey) -> Result<Self, WriteError> {
        Self::begin(out, manifest, Some(key))
    }

    fn begin(out: W, manifest: Manifest, key: Option<&ContentKey>) -> Result<Self, WriteError> {
        let bytes = manifest.to_bytes()?;
        let mut writer = Self {
            out,
            manifest,
            // Bounded by MANIFEST_LENGTH_MAX.
            manifest_length: bytes.len() as u32,
            manifest_sha256: Sha256Digest::of(&bytes),
            next: 0,
            raw: vec![0; CHUNK_RAW_MAX].into_boxed_slice(),
            raw_offset: 0,
            chunks: ChunkWriter::new(key)?,
        };
        writer.write(&ustar::before_member(0, MANIFEST_PATH, bytes.len() as u64))?;
        writer.write(&bytes)?;
        Ok(writer)
    }

    /// Writes the content of the manifest's next file.
    ///
    /// # Errors
    /// `FileCount` after the last file; `FileLength` and `FileHash` when the content is not what the manifest says; errors of the
    /// reader and the writer.
    pub fn file(&mut self, content: impl io::Read) -> Result<(), WriteError> {
        self.file_of_tensors(content, &[])
    }

    /// Writes the content of the manifest's next file, of which `spans` are the tensors in their order, without places in a base. Chunks that
    /// become smaller by it hold them in byte planes: the bundle is smaller, and `zstd -d` alone no longer makes the archive of it.
    ///
    /// # Errors
    /// What [`BundleWriter::file`] returns.
    pub fn file_of_tensors(&mut self, mut content: impl io::Read, spans: &[Span]) -> Result<(), WriteError> {
        let expected = self.manifest.files.len();
        let Some(file) = self.manifest.files.get(self.next).cloned() else {
            return Err(BundleError::FileCount { expected, found: expected + 1 }.into());
        };
        self.write(&ustar::before_member(self.previous_length(), &file.path, file.length))?;
        let read_error = |source| WriteError::Read { path: file.path.clone(), source };
        let (mut length, mut hasher) = (0, Sha256Hasher::new());
        loop {
            let mut raw = core::mem::take(&mut self.raw);
            let read = read_full(&mut content, &mut raw).map_err(read_error);
            let result = read.and_then(|read| {
                hasher.update(&raw[..read]);
                let offset = length;
                length += read as u64;
                if length > file.length {
                    return Err(BundleError::FileLength { path: file.path.clone(), expected: file.length, found: length }.into());
                }
                if read > 0 {
                    self.write_piece(FilePiece { raw: &raw[..read], offset, spans })?;
                }
                Ok(read)
            });
            self.raw = raw;
            if result? < CHUNK_RAW_MAX {
                break;
            }
        }
        if length < file.length {
            return Err(BundleError::FileLength { path: file.path, expected: file.length, found: length }.into());
        }
        let found = hasher.finish();
        if found != file.sha256 {
            return Err(BundleError::FileHash { path: file.path, expected: file.sha256, found }.into());
        }
        self.next += 1;
        Ok(())
    }

    /// Writes the end marker and returns the writer and the index.
    ///
    /// # Errors
    /// `FileCount` when files are missing; errors of the writer.
    pub fn finish(mut self) -> Result<(W, ChunkIndex), WriteError> {
        if self.next != self.manifest.files.len() {
            return Err(BundleError::FileCount { expected: self.manifest.files.len(), found: self.next }.into());
        }
        self.write(&ustar::after_last_member(self.previous_length()))?;
        self.out.flush().map_err(|source| WriteError::Write { source })?;
        let summary = Summary {
            encryption: self.chunks.encryption(),
            manifest_length: self.manifest_length,
            manifest_sha256: self.manifest_sha256,
            tar_length: self.raw_offset,
            bundle_length: self.chunks.stored_offset,
            bundle_sha256: self.chunks.hasher.finish(),
        };
        Ok((self.out, ChunkIndex::new(summary, self.chunks.rows)?))
    }

    /// Length of the content that was written last.
    fn previous_length(&self) -> u64 {
        match self.next {
            0 => self.manifest_length.into(),
            next => self.manifest.files[next - 1].length,
        }
    }

    /// Writes `raw` as chunks of its own.
    fn write(&mut self, raw: &[u8]) -> Result<(), WriteError> {
        for raw in raw.chunks(CHUNK_RAW_MAX) {
            self.write_piece(FilePiece { raw, offset: 0, spans: &[] })?;
        }
        Ok(())
    }

    /// Writes `piece`, at most [`CHUNK_RAW_MAX`] bytes, as a chunk of its own.
    fn write_piece(&mut self, piece: FilePiece<'_>) -> Result<(), WriteError> {
        let stored = self.chunks.add_piece(piece, self.raw_offset)?;
        self.raw_offset += piece.raw.len() as u64;
        self.out.write_all(stored).map_err(|source| WriteError::Write { source })
    }
}

/// Fills the buffer unless the content ends.
fn read_full(content: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Compresses chunks, encrypts them if there is a key, and keeps the books about them.
pub(super) struct ChunkWriter {
    frames: FrameEncoder,
    /// There when a chunk with tensors was written.
    segments: Option<SegmentEncoder>,
    cipher: Option<ChunkCipher>,
    stored: Vec<u8>,
    pub(super) stored_offset: u64,
    pub(super) hasher: Sha256Hasher,
    pub(super) rows: Vec<ChunkRow>,
}

impl ChunkWriter {
    pub(super) fn new(key: Option<&ContentKey>) -> Result<Self, BundleError> {
        let frames = FrameEncoder::new(LEVEL, CHUNK_RAW_MAX)?;
        let (stored, cipher) = (Vec::with_capacity(CHUNK_STORED_MAX), key.map(ChunkCipher::new));
        Ok(Self { frames, segments: None, cipher, stored, stored_offset: 0, hasher: Sha256Hasher::new(), rows: Vec::new() })
    }

    /// How the chunks are encrypted, for the index.
    pub(super) fn encryption(&self) -> Option<EncryptionMethod> {
        self.cipher.as_ref().map(|_| EncryptionMethod::Aes256GcmChunks)
    }

    /// The stored bytes of the next chunk, without tensors; `raw` has 1 to [`CHUNK_RAW_MAX`] bytes.
    #[cfg(test)]
    pub(super) fn add(&mut self, raw: &[u8], raw_offset: u64) -> Result<&[u8], BundleError> {
        self.add_piece(FilePiece { raw, offset: 0, spans: &[] }, raw_offset)
    }

    /// The stored bytes of the next chunk; `piece` has 1 to [`CHUNK_RAW_MAX`] bytes.
    pub(super) fn add_piece(&mut self, piece: FilePiece<'_>, raw_offset: u64) -> Result<&[u8], BundleError> {
        let (raw, number) = (piece.raw, self.rows.len());
        if number == CHUNKS_MAX {
            let expected = format!("at most {CHUNKS_MAX}");
            return Err(BundleError::IndexHeader { field: "the number of rows", expected, found: CHUNKS_MAX as u64 + 1 });
        }
        self.stored.clear();
        self.stored.extend_from_slice(self.frames.encode(raw)?);
        let mut filter = Filter::None;
        if !piece.spans.is_empty() {
            let segments = match &mut self.segments {
                Some(segments) => segments,
                none => none.insert(SegmentEncoder::new()?),
            };
            let planes = segments.encode(number, piece, &mut NoBase, &mut Default::default())?;
            if planes.len() < self.stored.len() {
                filter = Filter::Planes;
                self.stored.clear();
                self.stored.extend_from_slice(planes);
            }
        }
        if let Some(cipher) = &self.cipher {
            // Refused are more than 64 GiB only, which no chunk has.
            let too_long = BundleError::ChunkLength { chunk: number, expected: CHUNK_STORED_MAX as u64, found: self.stored.len() as u64 };
            cipher.seal(number, &mut self.stored).ok_or(too_long)?;
        }
        self.hasher.update(&self.stored);
        self.rows.push(ChunkRow {
            number,
            stored_offset: self.stored_offset,
            raw_offset,
            stored_length: self.stored.len() as u32,
            raw_length: raw.len() as u32,
            filter,
            stored_sha256: Sha256Digest::of(&self.stored),
            raw_sha256: Sha256Digest::of(raw),
        });
        self.stored_offset += self.stored.len() as u64;
        Ok(&self.stored)
    }
}
