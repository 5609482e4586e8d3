//! Brings bytes from the server and reports to it, over a network that cannot be trusted and often is not there.
//!
//! Nothing that arrives is believed here: metadata is verified by `trust`, chunks by their signed hashes. What this module promises is
//! that it ends: every answer has a length that it may not exceed, every silence a limit, and a transfer that only drips is given up.
//! There is no total deadline, because a large model over a slow link is not a fault.

mod backoff;
mod client;
mod download;
mod error;
mod http;
mod offline;
mod traffic;
mod transport;
mod url;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use backoff::Backoff;
pub use client::{Answer, Client, Fetched, RequestKey};
pub use download::{Download, DownloadRequest};
pub use error::FetchError;
pub use http::HttpTransport;
pub use offline::{OfflineFile, OfflineFileError};
pub use traffic::Traffic;
pub use transport::{Body, Cancel, HttpRequest, HttpResponse, Method, Transport, TransportError};
pub use url::BaseUrl;

/// How long the network may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest silence: until a connection stands, until an answer begins, and between two pieces of it.
    pub stall: Duration,
    /// Time of waiting over which the slowest acceptable transfer is measured.
    pub slow_window: Duration,
    /// Bytes that must arrive in [`Patience::slow_window`]; fewer are a slow retrieval attack, or a link that is of no use.
    pub slow_bytes_min: u64,
}

impl Default for Patience {
    /// Thirty seconds of silence cover a tunnel and a change of cells. A kilobyte a second is less than any data service sells; at it
    /// a chunk takes a quarter of an hour, and the vehicle does better to come back later.
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), slow_window: Duration::from_secs(60), slow_bytes_min: 60 * 1024 }
    }
}
