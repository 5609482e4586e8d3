//! Chunks from the bundle itself, over the network.

use std::ops::Range;

use switchback_signing::bundle::{BundleError, ChunkDecoder, ChunkIndex, ChunkRow, ContentKey, RawChunk, index::CHUNK_STORED_MAX};

use crate::{
    fetch::{Download, FetchError},
    vehicle::link::{Link, RemoteFile},
};

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
    path: String,
    decoder: ChunkDecoder,
    stored: Box<[u8]>,
    download: Option<Download>,
    etag: Option<String>,
    /// Which of the servers that have the bundle is asked.
    server: usize,
    /// How many of them failed in a row.
    servers_failed: usize,
}

impl Bundle {
    /// # Errors
    /// What [`ChunkDecoder::new`] returns when the key does not go with the bundle.
    pub(super) fn new(path: String, index: &ChunkIndex, key: Option<&ContentKey>) -> Result<Self, BundleError> {
        let decoder = ChunkDecoder::new(index, key)?;
        Ok(Self {
            path,
            decoder,
            stored: vec![0; CHUNK_STORED_MAX].into_boxed_slice(),
            download: None,
            etag: None,
            server: 0,
            servers_failed: 0,
        })
    }

    /// Whether the chunk is on its way already.
    pub(super) fn is_bringing(&self, row: &ChunkRow) -> bool {
        self.download.as_ref().is_some_and(|download| download.covers(&stored_range(row)))
    }

    /// Another connection may lead around whatever is wrong with this one.
    pub(super) fn hang_up(&mut self) {
        self.download = None;
    }

    /// Turns to the next server; `false` when all have failed in a row, and it is time to wait.
    #[must_use]
    pub(super) fn turn_away(&mut self, link: &Link) -> bool {
        self.hang_up();
        let servers = link.bundle_servers();
        if servers > 1 {
            // It is by that server's name that the next one may know another file.
            self.etag = None;
            self.server = (self.server + 1) % servers;
        }
        self.servers_failed += 1;
        let another = self.servers_failed < servers;
        if !another {
            self.servers_failed = 0;
        }
        another
    }

    /// The server that is asked brought what it should.
    pub(super) fn delivered(&mut self) {
        self.servers_failed = 0;
    }

    /// Fetches, checks and decodes a chunk. When nothing is on its way, everything up to byte `until` is asked for.
    pub(super) fn chunk<'a>(
        &'a mut self,
        link: &Link,
        index: &'a ChunkIndex,
        row: &'a ChunkRow,
        until: u64,
    ) -> Result<RawChunk<'a>, NotFetched> {
        let length = row.stored_length() as usize;
        self.fetch(link, index.bundle_length(), stored_range(row), until).map_err(NotFetched::Network)?;
        // Hash before decoding, hash after decoding.
        let verified = index.verify_stored(row.number(), &self.stored[..length]).map_err(NotFetched::WrongBytes)?;
        self.decoder.decode(verified).map_err(NotFetched::Refused)
    }

    fn fetch(&mut self, link: &Link, bundle_length: u64, range: Range<u64>, until: u64) -> Result<(), FetchError> {
        let download = match &mut self.download {
            Some(download) if download.covers(&range) => download,
            place => {
                let file = RemoteFile { path: &self.path, length: bundle_length, etag: self.etag.as_deref() };
                let download = link.bundle(self.server, &file, range.start..until)?;
                self.etag = download.etag().map(str::to_owned);
                place.insert(download)
            }
        };
        download.skip_to(range.start)?;
        download.read_exact(&mut self.stored[..(range.end - range.start) as usize])
    }
}

fn stored_range(row: &ChunkRow) -> Range<u64> {
    row.stored_offset()..row.stored_offset() + u64::from(row.stored_length())
}
