//! Files that are no release: the same chunks, so that deltas can be made and compared of any model that lies in a folder.

use alloc::vec::Vec;
use std::io;

use crate::{
    bundle::{
        delta::encoder::FilePiece,
        index::{ChunkIndex, Summary},
        writer::{ChunkWriter, WriteError},
    },
    digest::Sha256Digest,
};

/// Writes the chunks of a folder of files and collects their index: first a listing, in the place of a manifest, then the files' contents one
/// after the other. There is no archive around them, and nothing here is for a vehicle.
pub struct FolderWriter<W> {
    out: W,
    chunks: ChunkWriter,
    raw_offset: u64,
    listing: (u32, Sha256Digest),
}

impl<W: io::Write> FolderWriter<W> {
    /// Begins with the listing, whose format is the caller's; at most a mebibyte.
    ///
    /// # Errors
    /// `Zstd`; errors of the writer.
    pub fn new(out: W, listing: &[u8]) -> Result<Self, WriteError> {
        let summary = (u32::try_from(listing.len()).unwrap_or(u32::MAX), Sha256Digest::of(listing));
        let mut writer = Self { out, chunks: ChunkWriter::new(None)?, raw_offset: 0, listing: summary };
        writer.chunk(listing)?;
        Ok(writer)
    }

    /// Writes the next chunk: 1 to [`crate::bundle::index::CHUNK_RAW_MAX`] bytes of one file.
    ///
    /// # Errors
    /// `IndexHeader` when there are too many chunks; errors of the writer.
    pub fn chunk(&mut self, raw: &[u8]) -> Result<(), WriteError> {
        let stored = self.chunks.add_piece(FilePiece { raw, offset: 0, spans: &[] }, self.raw_offset)?;
        self.raw_offset += raw.len() as u64;
        self.out.write_all(stored).map_err(|source| WriteError::Write { source })
    }

    /// Ends the folder and returns the writer and the index.
    ///
    /// # Errors
    /// `IndexHeader` or `IndexRow` when a chunk or the listing was empty or too long; errors of the writer.
    pub fn finish(mut self) -> Result<(W, ChunkIndex), WriteError> {
        self.out.flush().map_err(|source| WriteError::Write { source })?;
        let (manifest_length, manifest_sha256) = self.listing;
        let summary = Summary {
            encryption: None,
            manifest_length,
            manifest_sha256,
            tar_length: self.raw_offset,
            bundle_length: self.chunks.stored_offset,
            bundle_sha256: self.chunks.hasher.finish(),
        };
        let rows: Vec<_> = self.chunks.rows;
        Ok((self.out, ChunkIndex::new(summary, rows)?))
    }
}
