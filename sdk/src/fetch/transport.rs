//! What the vehicle asks of an HTTP library, so that an OEM can put its own in place of ours.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::watch;

/// Sends HTTP requests. Ours is [`super::HttpTransport`]; an OEM may bring its own, through a connectivity gateway for instance.
///
/// An implementation follows no redirects, decodes no content, and keeps the headers as given.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a request and returns when the answer's head is there. `cancel` ends the wait, here and in the body.
    ///
    /// # Errors
    /// [`TransportError`]; an answer of the server, whatever its status, is none.
    fn send(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> Result<HttpResponse, TransportError>;
}

/// The content of an answer, as it arrives.
pub trait Body: Send {
    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// [`TransportError`] when the connection breaks, stays silent or ends before the announced length.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError>;
}

/// An HTTP request.
#[derive(Clone, Debug)]
pub struct HttpRequest<'a> {
    /// The method.
    pub method: Method,
    /// Absolute address.
    pub url: &'a str,
    /// Names in lower case, and values.
    pub headers: &'a [(&'static str, String)],
    /// The content; empty for none.
    pub body: &'a [u8],
}

/// The methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Fetch.
    Get,
    /// Replace.
    Put,
    /// Create.
    Post,
}

impl Method {
    /// The method in capitals, as it is signed and sent.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// The head of an answer, and its content to be read.
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Names in lower case, and values. Values that are no ASCII text are left out.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: Box<dyn Body>,
}

impl HttpResponse {
    /// Value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection, or it broke.
    #[error("{reason}")]
    Broken {
        /// What the system or the library says.
        reason: String,
    },
    /// Nothing arrived for too long.
    #[error("nothing arrived for {} s", silence.as_secs_f32())]
    Stalled {
        /// How long.
        silence: Duration,
    },
    /// The vehicle is being closed.
    #[error("canceled")]
    Canceled,
}

/// Longest time until a wait for nothing but time ends after it was canceled.
const CANCEL_TICK: Duration = Duration::from_millis(50);

/// Ends every wait of a transport, from another thread.
#[derive(Clone, Debug)]
pub struct Cancel {
    sender: watch::Sender<bool>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self { sender: watch::Sender::new(false) }
    }
}

impl Cancel {
    /// Ends every wait, now and from now on.
    pub fn cancel(&self) {
        self.sender.send_replace(true);
    }

    /// Whether waits end at once.
    pub fn is_canceled(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits so long, or until waits end; returns whether they do.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_canceled() || left.is_zero() {
                return self.is_canceled();
            }
            thread::sleep(left.min(CANCEL_TICK));
        }
    }

    pub(super) async fn canceled(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = receiver.wait_for(|canceled| *canceled).await;
    }
}
