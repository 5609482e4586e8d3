//! Requests to the server, each with its limits.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use switchback_signing::{
    digest::Sha256Digest,
    keys::{
        Signer,
        http::{self, Request},
    },
    time::UnixTime,
};

use super::{
    BaseUrl, FetchError, OfflineFile, Patience, Traffic,
    transport::{Body, Cancel, HttpRequest, HttpResponse, Method, Transport},
};

/// Redirects that are followed, all on the same server: one for a moved path, one for luck.
const REDIRECTS_MAX: u32 = 2;

/// Bytes of a problem's description that are read. It is for people and never worth more.
const PROBLEM_BYTES_MAX: usize = 4096;

/// Longest text of a problem that is passed on.
const PROBLEM_CHARS_MAX: usize = 200;

/// Bytes per read.
const READ_BYTES: usize = 16 << 10;

/// The key that signs the vehicle's requests, and the time they are signed at.
#[derive(Clone, Copy)]
pub struct RequestKey<'a> {
    /// The vehicle's key.
    pub signer: &'a dyn Signer,
    /// The vehicle's time.
    pub now: UnixTime,
}

/// A file, or the word that it has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file.
    New {
        /// Its bytes.
        bytes: Vec<u8>,
        /// By which it is recognized when it is asked for again.
        etag: Option<String>,
    },
    /// It is the one with the etag that was given.
    NotModified,
}

/// What a server says to a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, 200 to 299.
    pub status: u16,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Talks to one server.
pub struct Client {
    pub(super) base: BaseUrl,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) cancel: Cancel,
    pub(super) patience: Patience,
    traffic: Arc<Traffic>,
}

impl Client {
    /// A client of the server at `base`.
    pub fn new(base: BaseUrl, transport: Arc<dyn Transport>, cancel: Cancel, patience: Patience) -> Self {
        Self { base, transport, cancel, patience, traffic: Arc::default() }
    }

    /// The same, counted and limited together with others.
    #[must_use]
    pub fn with_traffic(self, traffic: Arc<Traffic>) -> Self {
        Self { traffic, ..self }
    }

    /// Fetches a file of at most `length_max` bytes. With a key the request is signed. With `etag` an unchanged file is not sent again.
    ///
    /// # Errors
    /// [`FetchError`]; `NotFound` for status 404, and for 403 when the request is not signed, as stores of files answer so.
    pub fn get(&self, path: &str, length_max: u64, key: Option<RequestKey<'_>>, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let mut headers = Vec::new();
        if let Some(etag) = etag {
            headers.push(("if-none-match", etag.to_owned()));
        }
        let (url, response) = match key {
            Some(key) => self.send_signed(Method::Get, path, &[], headers, key)?,
            None => self.send(path, &headers)?,
        };
        if response.status == 304 && etag.is_some() {
            return Ok(Fetched::NotModified);
        }
        let response = accept(&url, response, key.is_some())?;
        if response.status != 200 {
            return Err(FetchError::Refused { url, status: response.status, text: "an answer to another request".into() });
        }
        let etag = response.header("etag").map(str::to_owned);
        Ok(Fetched::New { bytes: self.read_all(&url, response, length_max)?, etag })
    }

    /// Sends content, signed, and reads an answer of at most `length_max` bytes.
    ///
    /// # Errors
    /// [`FetchError`]
    pub fn submit(
        &self,
        method: Method,
        path: &str,
        content: (&'static str, &[u8]),
        length_max: u64,
        key: Option<RequestKey<'_>>,
    ) -> Result<Answer, FetchError> {
        let (content_type, body) = content;
        let headers = vec![("content-type", content_type.to_owned())];
        let (url, response) = match key {
            Some(key) => self.send_signed(method, path, body, headers, key)?,
            None => {
                let url = self.base.join(path);
                let response = self.transmit(&HttpRequest { method, url: &url, headers: &headers, body })?;
                (url, response)
            }
        };
        let response = accept(&url, response, true)?;
        Ok(Answer { status: response.status, bytes: self.read_all(&url, response, length_max)? })
    }

    /// The same with a file in the place of the server.
    pub(crate) fn of_file(&self, file: &Arc<OfflineFile>) -> Self {
        let (cancel, patience) = (self.cancel.clone(), self.patience);
        Self::new(file.url(), Arc::clone(file) as Arc<dyn Transport>, cancel, patience)
    }

    /// Sends a request for a public file, following redirects on the same server. Returns the address that answered.
    pub(super) fn send(&self, path: &str, headers: &[(&'static str, String)]) -> Result<(String, HttpResponse), FetchError> {
        let mut url = self.base.join(path);
        for _ in 0..=REDIRECTS_MAX {
            let response = self.transmit(&HttpRequest { method: Method::Get, url: &url, headers, body: &[] })?;
            if !is_redirect(response.status) {
                return Ok((url, response));
            }
            let location = response.header("location").unwrap_or_default().to_owned();
            // Another host would choose what the vehicle downloads next and learn where it is.
            url = self.base.same_origin(&location).ok_or(FetchError::RedirectRefused { url, location })?;
        }
        Err(FetchError::RedirectRefused { location: format!("yet another address after {REDIRECTS_MAX}"), url })
    }

    fn send_signed(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
        mut headers: Vec<(&'static str, String)>,
        key: RequestKey<'_>,
    ) -> Result<(String, HttpResponse), FetchError> {
        let (url, target) = (self.base.join(path), self.base.target(path));
        let digest = (!body.is_empty()).then(|| Sha256Digest::of(body));
        let request = Request { method: method.name(), target: &target, body: digest };
        let signed = http::sign_request(key.signer, &request, key.now);
        let signed = signed.map_err(|source| FetchError::Signing { url: url.clone(), source })?;
        headers.push((http::SIGNATURE_INPUT, signed.signature_input));
        headers.push((http::SIGNATURE, signed.signature));
        headers.extend(signed.content_digest.map(|digest| (http::CONTENT_DIGEST, digest)));
        let response = self.transmit(&HttpRequest { method, url: &url, headers: &headers, body })?;
        // The signature covers this path; to send it to another one would help nobody but an attacker.
        if is_redirect(response.status) {
            let location = response.header("location").unwrap_or_default().to_owned();
            return Err(FetchError::RedirectRefused { url, location });
        }
        Ok((url, response))
    }

    /// The content of an answer, under the limits of this client.
    pub(super) fn metered(&self, url: &str, body: Box<dyn Body>) -> MeteredBody {
        let (traffic, cancel) = (Arc::clone(&self.traffic), self.cancel.clone());
        MeteredBody { url: url.to_owned(), body, patience: self.patience, traffic, cancel, waited: Duration::ZERO, came: 0 }
    }

    fn transmit(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, FetchError> {
        if self.cancel.is_canceled() {
            return Err(FetchError::Canceled);
        }
        self.transport.send(request, &self.cancel).map_err(|error| FetchError::of(request.url, error))
    }

    fn read_all(&self, url: &str, response: HttpResponse, length_max: u64) -> Result<Vec<u8>, FetchError> {
        let too_long = || FetchError::TooLong { url: url.to_owned(), length_max };
        let announced = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > length_max) {
            return Err(too_long());
        }
        let mut body = self.metered(url, response.body);
        let (mut bytes, mut piece) = (Vec::new(), vec![0; READ_BYTES]);
        loop {
            match body.read(&mut piece)? {
                0 => break,
                count if (bytes.len() + count) as u64 > length_max => return Err(too_long()),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
        // The library notices a body that ends early; a transport of the OEM's might not.
        match announced {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(FetchError::TooShort { url: url.to_owned(), expected, found: bytes.len() as u64 })
            }
            _ => Ok(bytes),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// A body that is given up when it only drips, and that comes no faster than it may.
pub(super) struct MeteredBody {
    url: String,
    body: Box<dyn Body>,
    patience: Patience,
    traffic: Arc<Traffic>,
    cancel: Cancel,
    /// Time spent waiting for the server, and bytes that came, in the current window. Time that the vehicle spends writing, or waiting for its
    /// own limit, does not count.
    waited: Duration,
    came: u64,
}

impl MeteredBody {
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, FetchError> {
        let admitted = self.traffic.admit(into.len(), &self.cancel)?;
        let start = Instant::now();
        let count = self.body.read(&mut into[..admitted]).map_err(|error| FetchError::of(&self.url, error))?;
        self.waited += start.elapsed();
        self.traffic.came(count);
        self.came += count as u64;
        let Patience { slow_window: window, slow_bytes_min: bytes_min, .. } = self.patience;
        if self.waited >= window {
            if self.came < bytes_min {
                return Err(FetchError::TooSlow { url: self.url.clone(), bytes: self.came, bytes_min, window: self.waited });
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(count)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Lets good answers pass and gives every other one its error.
pub(super) fn accept(url: &str, response: HttpResponse, is_signed: bool) -> Result<HttpResponse, FetchError> {
    let (url, status) = (url.to_owned(), response.status);
    let retry_after = response.header("retry-after").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    match status {
        200..300 => Ok(response),
        404 => Err(FetchError::NotFound { url }),
        // Object stores answer so for files that do not exist, lest their names be guessed.
        403 if !is_signed => Err(FetchError::NotFound { url }),
        429 | 503 => Err(FetchError::Busy { url, status, retry_after }),
        500.. => Err(FetchError::ServerFailed { url, status }),
        _ => Err(FetchError::Refused { url, status, text: problem(response) }),
    }
}

/// RFC 9457.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// What the server says is wrong, as one line of plain text.
fn problem(mut response: HttpResponse) -> String {
    let mut bytes = vec![0; PROBLEM_BYTES_MAX];
    let mut length = 0;
    // The description is a courtesy: what cannot be read of it is left out.
    while let Ok(count @ 1..) = response.body.read(&mut bytes[length..]) {
        length += count;
    }
    let text = match serde_json::from_slice::<Problem>(&bytes[..length]) {
        Ok(problem) => problem.detail.or(problem.title).unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(&bytes[..length]).into_owned(),
    };
    text.chars().filter(|char| !char.is_control()).take(PROBLEM_CHARS_MAX).collect()
}
