//! A delta together with the full index that it belongs to.

use alloc::vec::Vec;

use super::{
    base::BaseRelease,
    index::{DeltaIndex, Source},
};
use crate::{
    bundle::{
        chunk::VerifiedChunk,
        error::BundleError,
        index::{CHUNK_GROWTH_MAX, ChunkIndex, ChunkRow},
    },
    digest::Sha256Digest,
    metadata::EncryptionMethod,
};

/// A delta whose full index was seen: what its rows restore is what that index says.
#[derive(Clone, Debug)]
pub struct Delta {
    index: DeltaIndex,
    /// By chunk: its row in the data file, none where the full bundle has it.
    rows: Vec<Option<ChunkRow>>,
    base_lengths: Vec<u64>,
}

/// Stored bytes of a delta's chunk whose SHA-256 is the one in its index.
#[derive(Debug)]
pub struct VerifiedDeltaChunk<'a> {
    pub(super) chunk: VerifiedChunk<'a>,
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "only the decoder reads it"))]
    pub(super) base_lengths: &'a [u64],
}

impl<'a> VerifiedDeltaChunk<'a> {
    /// What the delta's index and the full index say about them.
    pub fn row(&self) -> &'a ChunkRow {
        self.chunk.row()
    }

    /// The stored bytes.
    pub fn stored(&self) -> &'a [u8] {
        self.chunk.stored()
    }
}

impl Delta {
    /// Joins a delta's index to the full index of the bundle that it restores.
    ///
    /// # Errors
    /// `DeltaOther` when it belongs to another bundle; `DeltaIndex` when its rows are not those of the full index.
    pub fn new(index: DeltaIndex, full: &ChunkIndex) -> Result<Self, BundleError> {
        let found = full.sha256();
        if index.full_index_sha256() != found {
            return Err(BundleError::DeltaOther { expected: index.full_index_sha256(), found });
        }
        let of = |field: &str, expected: usize, found: usize| super::index::refuse(field, expected, found);
        if index.rows().len() != full.rows().len() {
            return Err(of("the number of rows", full.rows().len(), index.rows().len()));
        }
        if index.encryption() != full.encryption() {
            let says = |method: Option<EncryptionMethod>| method.map_or("none", EncryptionMethod::as_str);
            return Err(super::index::refuse("its encryption", says(full.encryption()), says(index.encryption())));
        }
        let mut rows = Vec::with_capacity(full.rows().len());
        let mut stored_offset = 0;
        for (row, source) in full.rows().iter().zip(index.rows()) {
            let Source::Delta { stored_length, stored_sha256 } = *source else {
                rows.push(None);
                continue;
            };
            let longest = row.raw_length as usize + CHUNK_GROWTH_MAX;
            if stored_length as usize > longest {
                return Err(super::index::refuse_row(row.number, "stored length", alloc::format!("at most {longest}"), stored_length));
            }
            rows.push(Some(ChunkRow { stored_offset, stored_length, stored_sha256, ..row.clone() }));
            stored_offset += u64::from(stored_length);
        }
        let base_lengths = index.base().files.iter().map(|file| file.length).collect();
        Ok(Self { index, rows, base_lengths })
    }

    /// The release that it starts from.
    pub fn base(&self) -> &BaseRelease {
        self.index.base()
    }

    /// Where chunk `number` lies in the data file: offset, length and digests of its row; `None` where the full bundle has the
    /// smaller one.
    ///
    /// # Errors
    /// `ChunkUnknown` beyond the last chunk.
    pub fn row(&self, number: usize) -> Result<Option<&ChunkRow>, BundleError> {
        self.rows.get(number).map(Option::as_ref).ok_or(BundleError::ChunkUnknown { chunk: number, chunks: self.rows.len() })
    }

    /// By chunk what [`Delta::row`] says of it.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Option<&ChunkRow>> {
        self.rows.iter().map(Option::as_ref)
    }

    /// Length of the data file, bytes.
    pub fn data_length(&self) -> u64 {
        self.index.data_length()
    }

    /// SHA-256 of the whole data file.
    pub fn data_sha256(&self) -> Sha256Digest {
        self.index.data_sha256()
    }

    /// Bytes to download in all: the data file, and what is left to the full bundle of `full`, the index that this delta belongs to.
    pub fn download_length(&self, full: &ChunkIndex) -> u64 {
        let left = full.rows().iter().zip(&self.rows).filter(|(_, delta)| delta.is_none());
        self.data_length() + left.map(|(row, _)| u64::from(row.stored_length)).sum::<u64>()
    }

    /// How the delta's chunks are encrypted; none for a delta that anybody may read. Always as in the full bundle.
    pub fn encryption(&self) -> Option<EncryptionMethod> {
        self.index.encryption()
    }

    /// Checks the stored bytes of chunk `number`. The result is the only thing that a [`super::DeltaDecoder`] accepts.
    ///
    /// # Errors
    /// `ChunkUnknown` beyond the last chunk and for one that the full bundle has; `ChunkLength` or `ChunkHash`.
    pub fn verify_stored<'a>(&'a self, number: usize, stored: &'a [u8]) -> Result<VerifiedDeltaChunk<'a>, BundleError> {
        let row = self.row(number)?.ok_or(BundleError::ChunkUnknown { chunk: number, chunks: self.rows.len() })?;
        Ok(VerifiedDeltaChunk { chunk: VerifiedChunk::check(row, stored)?, base_lengths: &self.base_lengths })
    }

    #[cfg(feature = "std")]
    pub(super) fn salt(&self) -> &[u8; 32] {
        self.index.salt()
    }
}
