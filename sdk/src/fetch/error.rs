//! What can go wrong between the vehicle and its server.

use std::time::Duration;

use switchback_signing::{keys::SignerError, trust::Attack};
use thiserror::Error;

use super::TransportError;

/// What went wrong between the vehicle and its server. Numbers are stable: 400 to 499 belong to the network.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Address of the request.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// Nothing arrived for too long.
    #[error("{url} has been silent for {} s", silence.as_secs_f32())]
    Stalled {
        /// Address of the request.
        url: String,
        /// How long.
        silence: Duration,
    },
    /// So little arrives that it would never end.
    #[error("{url} sent {bytes} bytes in {} s, at least {bytes_min} are expected", window.as_secs_f32())]
    TooSlow {
        /// Address of the request.
        url: String,
        /// Bytes that arrived.
        bytes: u64,
        /// Bytes that should have.
        bytes_min: u64,
        /// Time of waiting.
        window: Duration,
    },
    /// The answer goes on beyond what was asked for.
    #[error("{url} sends more than {length_max} bytes")]
    TooLong {
        /// Address of the request.
        url: String,
        /// Bytes that are accepted.
        length_max: u64,
    },
    /// The answer ended early.
    #[error("{url} ended after {found} of {expected} bytes")]
    TooShort {
        /// Address of the request.
        url: String,
        /// Bytes that were announced or signed.
        expected: u64,
        /// Bytes that arrived.
        found: u64,
    },
    /// The answer is another part of the file, or of another file.
    #[error("{url} answered {found}, asked for was byte {offset} of {length}")]
    WrongRange {
        /// Address of the request.
        url: String,
        /// First byte that was asked for.
        offset: u64,
        /// Length of the file.
        length: u64,
        /// What the server answered, in its words.
        found: String,
    },
    /// The server points elsewhere, and that is not followed.
    #[error("{url} points to {location}, which is not followed")]
    RedirectRefused {
        /// Address of the request.
        url: String,
        /// Where it points.
        location: String,
    },
    /// There is no such file.
    #[error("{url} does not exist")]
    NotFound {
        /// Address of the request.
        url: String,
    },
    /// The server asks to come back later.
    #[error("{url} is busy (status {status})")]
    Busy {
        /// Address of the request.
        url: String,
        /// HTTP status.
        status: u16,
        /// Time to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// The server will not do it, however often it is asked.
    #[error("{url} refuses (status {status}): {text}")]
    Refused {
        /// Address of the request.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// The server failed.
    #[error("{url} failed (status {status})")]
    ServerFailed {
        /// Address of the request.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The address is not one that can be used.
    #[error("not an address of the form https://host[:port][/path]: {url:?}")]
    Url {
        /// The address.
        url: String,
    },
    /// The certificates of the server's authority cannot be used, or TLS cannot be set up.
    #[error("TLS cannot be set up: {reason}; check the given certificates, or without any those of the system")]
    Tls {
        /// What the library says.
        reason: String,
    },
    /// The vehicle's key did not sign the request.
    #[error("the vehicle's key does not sign the request to {url}; check the token or service that holds it")]
    Signing {
        /// Address of the request.
        url: String,
        /// What the key says.
        source: SignerError,
    },
    /// The vehicle is being closed.
    #[error("canceled")]
    Canceled,
}

impl FetchError {
    /// Stable number for the C interface and the fleet log; never reused.
    pub fn number(&self) -> u32 {
        self.code().0
    }

    /// Stable name, as the fleet log shows it.
    pub fn name(&self) -> &'static str {
        self.code().1
    }

    /// Time that the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The attack that this would be, if somebody did it on purpose and it were not merely a bad network.
    pub fn attack(&self) -> Option<Attack> {
        match self {
            Self::TooSlow { .. } => Some(Attack::SlowRetrieval),
            Self::TooLong { .. } => Some(Attack::EndlessData),
            _ => None,
        }
    }

    pub(super) fn of(url: &str, error: TransportError) -> Self {
        let url = url.to_owned();
        match error {
            TransportError::Broken { reason } => Self::Unreachable { url, reason },
            TransportError::Stalled { silence } => Self::Stalled { url, silence },
            TransportError::Canceled => Self::Canceled,
        }
    }

    fn code(&self) -> (u32, &'static str) {
        match self {
            Self::Unreachable { .. } => (400, "server_unreachable"),
            Self::Stalled { .. } => (401, "server_silent"),
            Self::TooSlow { .. } => (402, "slow_retrieval"),
            Self::TooLong { .. } => (403, "answer_too_long"),
            Self::TooShort { .. } => (404, "answer_too_short"),
            Self::WrongRange { .. } => (405, "wrong_range"),
            Self::RedirectRefused { .. } => (406, "redirect_refused"),
            Self::NotFound { .. } => (407, "not_found"),
            Self::Busy { .. } => (408, "server_busy"),
            Self::Refused { .. } => (409, "request_refused"),
            Self::ServerFailed { .. } => (410, "server_failed"),
            Self::Url { .. } => (411, "url_malformed"),
            Self::Tls { .. } => (412, "tls"),
            Self::Signing { .. } => (413, "request_not_signed"),
            Self::Canceled => (414, "canceled"),
        }
    }
}
