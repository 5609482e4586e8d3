//! A large file that several servers have, read in parts.

use std::ops::Range;

use crate::{
    fetch::{Download, FetchError},
    vehicle::link::{Link, RemoteFile},
};

/// A file on the servers of the Image repository, which are asked in turn.
pub(super) struct Remote {
    path: String,
    length: u64,
    download: Option<Download>,
    etag: Option<String>,
    /// Which of the servers is asked.
    server: usize,
    /// How many of them failed in a row.
    servers_failed: usize,
}

impl Remote {
    pub(super) fn new(path: String, length: u64) -> Self {
        Self { path, length, download: None, etag: None, server: 0, servers_failed: 0 }
    }

    /// Whether these bytes are on their way already.
    pub(super) fn is_bringing(&self, range: &Range<u64>) -> bool {
        self.download.as_ref().is_some_and(|download| download.covers(range))
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

    /// Reads `range` into the whole of `into`. When it is not on its way, everything up to byte `until` is asked for.
    pub(super) fn read(&mut self, link: &Link, range: &Range<u64>, until: u64, into: &mut [u8]) -> Result<(), FetchError> {
        let download = match &mut self.download {
            Some(download) if download.covers(range) => download,
            place => {
                let file = RemoteFile { path: &self.path, length: self.length, etag: self.etag.as_deref() };
                let download = link.bundle(self.server, &file, range.start..until)?;
                self.etag = download.etag().map(str::to_owned);
                place.insert(download)
            }
        };
        download.skip_to(range.start)?;
        download.read_exact(into)
    }
}
