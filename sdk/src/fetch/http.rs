//! HTTP by reqwest and rustls, on the thread of the caller.

use std::{error::Error as _, fmt, future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

use reqwest::{Certificate, Client, Response, redirect};
use tokio::runtime::{Builder, Runtime};

use super::{
    BaseUrl, FetchError, Patience,
    transport::{Body, Cancel, HttpRequest, HttpResponse, Method, Transport, TransportError},
};

/// Headers of an answer. Ours have some ten; a server that sends thousands wants our memory.
const HEADERS_MAX: usize = 64;

/// An idle connection is kept this long. Vehicles poll every few minutes, and a cellular network forgets a silent connection earlier.
const IDLE: Duration = Duration::from_secs(15);

/// HTTP/1.1 by reqwest, with rustls. Owns no thread: the calling thread drives the connection.
pub struct HttpTransport {
    runtime: Arc<Runtime>,
    client: Client,
    stall: Duration,
}

impl HttpTransport {
    /// A transport for these servers. With `roots_pem` only certificates of these authorities are accepted; without, those that the
    /// system trusts.
    ///
    /// # Errors
    /// [`FetchError::Tls`] when the certificates cannot be read or the system has none.
    pub fn new(servers: &[&BaseUrl], roots_pem: Option<&[u8]>, patience: Patience) -> Result<Self, FetchError> {
        let tls_error = |reason: String| FetchError::Tls { reason };
        let mut builder = Client::builder()
            .http1_only()
            .http1_max_headers(HEADERS_MAX)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .connect_timeout(patience.stall)
            .user_agent(concat!("switchback/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = roots_pem {
            let roots = Certificate::from_pem_bundle(pem).map_err(|error| tls_error(chain(&error)))?;
            if roots.is_empty() {
                return Err(tls_error("the file holds no certificate".into()));
            }
            builder = builder.tls_certs_only(roots);
        } else if !servers.iter().any(|server| server.is_https()) {
            // Without an encrypted server there is nothing to verify, and a system without certificates is no reason to stop.
            builder = builder.tls_certs_only([]);
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another part of the program may win the race; then its choice stands.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| tls_error(error.to_string()))?;
        let client = builder.build().map_err(|error| tls_error(chain(&error)))?;
        Ok(Self { runtime: Arc::new(runtime), client, stall: patience.stall })
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> Result<HttpResponse, TransportError> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Put => reqwest::Method::PUT,
            Method::Post => reqwest::Method::POST,
        };
        let mut builder = self.client.request(method, request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        if !request.body.is_empty() {
            builder = builder.body(request.body.to_vec());
        }
        let response = self.runtime.block_on(wait(builder.send(), self.stall, cancel))?.map_err(broken)?;
        let headers = response.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: Box::new(HttpBody {
                runtime: Arc::clone(&self.runtime),
                response,
                piece: Vec::new(),
                taken: 0,
                stall: self.stall,
                cancel: cancel.clone(),
            }),
        })
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

struct HttpBody {
    runtime: Arc<Runtime>,
    response: Response,
    /// What arrived last, and how much of it was read.
    piece: Vec<u8>,
    taken: usize,
    stall: Duration,
    cancel: Cancel,
}

impl Body for HttpBody {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        while self.taken == self.piece.len() {
            let next = self.runtime.block_on(wait(self.response.chunk(), self.stall, &self.cancel))?;
            let Some(piece) = next.map_err(broken)? else {
                return Ok(0);
            };
            self.piece.clear();
            self.piece.extend_from_slice(&piece);
            self.taken = 0;
        }
        let rest = &self.piece[self.taken..];
        let count = into.len().min(rest.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

/// Waits for `future`, but neither longer than `stall` nor after a cancellation.
async fn wait<T>(future: impl Future<Output = T>, stall: Duration, cancel: &Cancel) -> Result<T, TransportError> {
    let mut future = pin!(tokio::time::timeout(stall, future));
    let mut canceled = pin!(cancel.canceled());
    std::future::poll_fn(|context| {
        if canceled.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(TransportError::Canceled));
        }
        future.as_mut().poll(context).map(|result| result.map_err(|_| TransportError::Stalled { silence: stall }))
    })
    .await
}

fn broken(error: reqwest::Error) -> TransportError {
    TransportError::Broken { reason: chain(&error.without_url()) }
}

/// The innermost reason is the one that helps: `connection refused`, not `error sending request`.
fn chain(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    reason
}
