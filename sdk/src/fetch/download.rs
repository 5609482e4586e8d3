//! A large file, from any byte on.

use std::ops::Range;

use super::{
    FetchError,
    client::{Client, MeteredBody, accept},
};

/// Bytes per read while a part that is there already is skipped.
const SKIP_BYTES: usize = 64 << 10;

/// Which bytes of which file to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadRequest<'a> {
    /// Path on the server.
    pub path: &'a str,
    /// Signed length of the file.
    pub length: u64,
    /// The bytes that are missing.
    pub range: Range<u64>,
    /// By which the server recognizes the file of which other parts were fetched.
    pub etag: Option<&'a str>,
}

/// A part of a file, as it arrives.
pub struct Download {
    body: MeteredBody,
    position: u64,
    /// Where the answer ends: the part that was asked for, or the file when the server knows no parts.
    end: u64,
    etag: Option<String>,
}

impl Client {
    /// Asks for a part of a file with an HTTP range (RFC 9110, section 14).
    ///
    /// A server that ignores the range sends the whole file; what comes before the part is then read and dropped, never written.
    /// What comes is not believed anyway: every chunk is checked by its hash.
    ///
    /// # Errors
    /// [`FetchError`]; `WrongRange` when the answer is another part, or of a file of another length.
    pub fn download(&self, request: &DownloadRequest<'_>) -> Result<Download, FetchError> {
        let DownloadRequest { path, length, range: Range { start: offset, end }, etag } = request.clone();
        // To the end without saying where that is: a file of another length then shows in the answer.
        let last = if end == length { String::new() } else { end.saturating_sub(1).to_string() };
        let mut headers = vec![("range", format!("bytes={offset}-{last}"))];
        // RFC 9110, section 13.1.5: only a strong etag may stand here.
        if let Some(etag) = etag.filter(|etag| etag.starts_with('"')) {
            headers.push(("if-range", etag.to_owned()));
        }
        let (url, response) = self.send(path, &headers)?;
        let wrong = |found: &str| FetchError::WrongRange { url: url.clone(), offset, length, found: found.chars().take(100).collect() };
        if response.status == 416 {
            return Err(wrong(response.header("content-range").unwrap_or("that there is no such part")));
        }
        let response = accept(&url, response, false)?;
        if response.status == 200 && offset > 0 && etag.is_some() && response.header("etag") != etag {
            // Another file, or the same on a server that calls it otherwise: replicas do. What comes proves itself, so ask for it once more
            // rather than have everything before it sent for nothing.
            return self.download(&DownloadRequest { path, length, range: offset..end, etag: None });
        }
        let sent = match response.status {
            206 => {
                let range = response.header("content-range").unwrap_or_default();
                let expected = format!("bytes {offset}-{}/{length}", end.saturating_sub(1));
                if range != expected {
                    return Err(wrong(range));
                }
                offset..end
            }
            200 => 0..length,
            status => return Err(wrong(&format!("status {status}"))),
        };
        let announced = response.header("content-length").and_then(|announced| announced.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced != sent.end - sent.start) {
            return Err(wrong(&format!("{} bytes", announced.unwrap_or_default())));
        }
        let etag = response.header("etag").map(str::to_owned);
        let body = self.metered(&url, response.body);
        let mut download = Download { body, position: sent.start, end: sent.end, etag };
        download.skip_to(offset)?;
        Ok(download)
    }
}

impl Download {
    /// Reads exactly the next bytes.
    ///
    /// # Errors
    /// [`FetchError`]; `TooShort` when the file ends before.
    pub fn read_exact(&mut self, into: &mut [u8]) -> Result<(), FetchError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.body.read(&mut into[filled..])? {
                0 => {
                    let found = self.position + filled as u64;
                    return Err(FetchError::TooShort { url: self.body.url().to_owned(), expected: self.end, found });
                }
                count => filled += count,
            }
        }
        self.position += filled as u64;
        Ok(())
    }

    /// Checks that the answer ends where it was said to.
    ///
    /// # Errors
    /// `TooLong` when it goes on.
    pub fn finish(mut self) -> Result<(), FetchError> {
        match self.body.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(FetchError::TooLong { url: self.body.url().to_owned(), length_max: self.end }),
        }
    }

    /// Whether these bytes of the file are still to come.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        self.position <= range.start && range.end <= self.end
    }

    /// By which the server recognizes this file.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Reads and drops what comes before `offset`.
    ///
    /// # Errors
    /// As [`Download::read_exact`].
    pub fn skip_to(&mut self, offset: u64) -> Result<(), FetchError> {
        let mut waste = vec![0; SKIP_BYTES];
        while self.position < offset {
            let count = (offset - self.position).min(SKIP_BYTES as u64) as usize;
            self.read_exact(&mut waste[..count])?;
        }
        Ok(())
    }
}
