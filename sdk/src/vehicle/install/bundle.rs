//! Chunks from the bundle itself, over the network.

use std::ops::Range;

use switchback_signing::bundle::{BundleError, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, RawChunk, index::CHUNK_STORED_MAX};

use super::remote::Remote;
use crate::{fetch::FetchError, vehicle::link::Link};

/// Why a chunk did not come.
#[derive(Debug)]
pub(super) enum NotFetched {
    Network(FetchError),
    /// It is not the signed one; fetched again it may be.
    WrongBytes(BundleError),
    /// It is the signed one, and cannot be read all the same.
    Refused(BundleError),
}

/// A bundle on a server. Holds a buffer for one chunk and the decoder's, which has the key of an encrypted bundle too.
pub(super) struct Bundle {
    pub(super) remote: Remote,
    decoder: ChunkDecoder,
    stored: Box<[u8]>,
}

impl Bundle {
    /// # Errors
    /// What [`ChunkDecoder::new`] returns when the key does not go with the bundle.
    pub(super) fn new(path: String, index: &ChunkIndex, key: Option<&ContentKey>) -> Result<Self, BundleError> {
        let decoder = ChunkDecoder::new(index, key)?;
        Ok(Self { remote: Remote::new(path, index.bundle_length()), decoder, stored: vec![0; CHUNK_STORED_MAX].into_boxed_slice() })
    }

    /// Fetches, checks and decodes a chunk. When nothing is on its way, everything up to byte `until` is asked for.
    pub(super) fn chunk<'a>(
        &'a mut self,
        link: &Link,
        index: &'a ChunkIndex,
        row: &'a ChunkRow,
        until: u64,
    ) -> Result<RawChunk<'a>, NotFetched> {
        let stored = &mut self.stored[..row.stored_length() as usize];
        self.remote.read(link, &stored_range(row), until, stored).map_err(NotFetched::Network)?;
        // Hash before decoding, hash after decoding.
        let verified = index.verify_stored(row.number(), stored).map_err(NotFetched::WrongBytes)?;
        self.decoder.decode(verified).map_err(NotFetched::Refused)
    }
}

pub(super) fn stored_range(row: &ChunkRow) -> Range<u64> {
    row.stored_offset()..row.stored_offset() + u64::from(row.stored_length())
}
