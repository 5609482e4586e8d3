//! Writes deltas: the same release, base and salt always make the same bytes.

use alloc::vec::Vec;
use std::io;

use super::{
    base::{Base, BaseRelease},
    encoder::{FilePiece, SegmentEncoder, Span, Tally},
    index::{DeltaIndex, Source, Summary},
    segment::Kind,
};
use crate::{
    bundle::{
        content_key::ContentKey,
        encryption::ChunkCipher,
        error::BundleError,
        index::{CHUNK_STORED_MAX, ChunkIndex},
        writer::WriteError,
    },
    digest::{Sha256Digest, Sha256Hasher},
};

/// Whether whoever takes a delta can take chunks from the full bundle too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullBundle {
    /// It is published: chunks that the delta would not make smaller are left to it.
    Published,
    /// There is none, as for a bare folder of files: the delta has every chunk.
    Absent,
}

/// What a delta is made for.
pub struct DeltaPlan<'a> {
    /// The index of the new release's bundle.
    pub full: &'a ChunkIndex,
    /// Whether that bundle is there to be fetched from.
    pub full_bundle: FullBundle,
    /// The release that the delta starts from.
    pub base: BaseRelease,
    /// The content key of an encrypted bundle, with which the bundle of `full` was written.
    pub content_key: Option<&'a ContentKey>,
    /// Random bytes that no other delta of the same bundle has: its chunks are encrypted under a key that follows from them.
    pub salt: [u8; 32],
}

/// Writes a delta's data file and collects its index.
pub struct DeltaWriter<'a, W> {
    out: W,
    plan: DeltaPlan<'a>,
    encoder: SegmentEncoder,
    cipher: Option<ChunkCipher>,
    stored: Vec<u8>,
    rows: Vec<Source>,
    data_length: u64,
    hasher: Sha256Hasher,
    tallies: [Tally; Kind::ALL.len()],
}

impl<'a, W: io::Write> DeltaWriter<'a, W> {
    /// Begins a delta.
    ///
    /// # Errors
    /// `ContentKeyMissing` or `ContentKeyUnneeded` when index and key do not go together; `Zstd`.
    pub fn new(out: W, plan: DeltaPlan<'a>) -> Result<Self, WriteError> {
        let cipher = match (plan.full.encryption(), plan.content_key) {
            (None, None) => None,
            (Some(_), Some(key)) => Some(ChunkCipher::new(&key.of_delta(&plan.salt))),
            (Some(method), None) => return Err(BundleError::ContentKeyMissing { method }.into()),
            (None, Some(_)) => return Err(BundleError::ContentKeyUnneeded.into()),
        };
        Ok(Self {
            out,
            plan,
            encoder: SegmentEncoder::new()?,
            cipher,
            stored: Vec::with_capacity(CHUNK_STORED_MAX),
            rows: Vec::new(),
            data_length: 0,
            hasher: Sha256Hasher::new(),
            tallies: Default::default(),
        })
    }

    /// Writes the next chunk of the bundle. `raw` are its raw bytes, which lie at `offset` in their file; `spans` are the tensors of the
    /// whole file in their order. A chunk of the archive's framing has none.
    ///
    /// # Errors
    /// `ChunkUnknown` after the last chunk; `RawLength` or `RawHash` when it is not the bundle's; `BaseUnreadable`; errors of the writer.
    pub fn chunk(&mut self, raw: &[u8], offset: u64, spans: &[Span], base: &mut impl Base) -> Result<Source, WriteError> {
        let number = self.rows.len();
        self.plan.full.verify_raw(number, raw)?;
        let row = self.plan.full.row(number)?;
        let mut tallies = self.tallies;
        let encoded = self.encoder.encode(number, FilePiece { raw, offset, spans }, base, &mut tallies)?;
        self.stored.clear();
        self.stored.extend_from_slice(encoded);
        if let Some(cipher) = &self.cipher {
            // Refused are more than 64 GiB only, which no chunk has.
            let too_long = BundleError::ChunkLength { chunk: number, expected: CHUNK_STORED_MAX as u64, found: self.stored.len() as u64 };
            cipher.seal(number, &mut self.stored).ok_or(too_long)?;
        }
        let source = if self.plan.full_bundle == FullBundle::Published && self.stored.len() >= row.stored_length as usize {
            Source::Full
        } else {
            self.out.write_all(&self.stored).map_err(|source| WriteError::Write { source })?;
            self.hasher.update(&self.stored);
            self.data_length += self.stored.len() as u64;
            self.tallies = tallies;
            // Bounded by CHUNK_STORED_MAX: no segment is longer than it would be written out.
            Source::Delta { stored_length: self.stored.len() as u32, stored_sha256: Sha256Digest::of(&self.stored) }
        };
        self.rows.push(source);
        Ok(source)
    }

    /// By kind, in the order of [`Kind::ALL`], what was written so far. Chunks that are left to the full bundle are not in it.
    pub fn tallies(&self) -> [Tally; Kind::ALL.len()] {
        self.tallies
    }

    /// Ends the delta and returns the writer and the index.
    ///
    /// # Errors
    /// `DeltaIndex` when chunks are missing; errors of the writer.
    pub fn finish(mut self) -> Result<(W, DeltaIndex), WriteError> {
        let expected = self.plan.full.rows().len();
        if self.rows.len() != expected {
            return Err(super::index::refuse("the number of rows", expected, self.rows.len()).into());
        }
        self.out.flush().map_err(|source| WriteError::Write { source })?;
        let summary = Summary {
            encryption: self.plan.full.encryption(),
            full_index_sha256: self.plan.full.sha256(),
            base: self.plan.base,
            salt: self.plan.salt,
            data_length: self.data_length,
            data_sha256: self.hasher.finish(),
        };
        Ok((self.out, DeltaIndex::new(summary, self.rows)?))
    }
}
