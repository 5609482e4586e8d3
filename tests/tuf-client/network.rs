//! The vehicle's transport, pointed at anybody's repository.

use std::{sync::Arc, time::Duration};

use switchback_sdk::fetch::{BaseUrl, Cancel, Client, FetchError, Fetched, HttpTransport, Patience};
use switchback_signing::trust::{FetchFailure, FetchRequest};

/// A client of the server behind `base_url`.
pub(crate) fn client(base_url: &str) -> anyhow::Result<Client> {
    client_with(base_url, Patience::default())
}

/// A client that somebody waits for at a desk: a kilobyte a second is the least, as in a vehicle, but that is known after ten seconds.
pub(crate) fn impatient_client(base_url: &str) -> anyhow::Result<Client> {
    let (stall, slow_window) = (Duration::from_secs(10), Duration::from_secs(10));
    client_with(base_url, Patience { stall, slow_window, slow_bytes_min: 10 * 1024 })
}

fn client_with(base_url: &str, patience: Patience) -> anyhow::Result<Client> {
    let base = base_url.parse::<BaseUrl>()?;
    let transport = HttpTransport::new(&[&base], None, patience)?;
    Ok(Client::new(base, Arc::new(transport), Cancel::default(), patience))
}

/// Fetches a metadata file; what went wrong is said in the words of the trust checks.
pub(crate) fn metadata(client: &Client, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
    let FetchRequest { file_name, length_max, .. } = request;
    match client.get(&format!("/{file_name}"), *length_max, None, None) {
        Ok(Fetched::New { bytes, .. }) => Ok(bytes),
        Ok(Fetched::NotModified) => Err(FetchFailure::Unreachable { reason: "the server answered another question".into() }),
        Err(error) => Err(failure(&error)),
    }
}

/// What a failed fetch means to the trust checks.
pub(crate) fn failure(error: &FetchError) -> FetchFailure {
    match error {
        FetchError::NotFound { .. } => FetchFailure::NotFound,
        FetchError::TooLong { .. } => FetchFailure::TooLong,
        other => FetchFailure::Unreachable { reason: other.to_string() },
    }
}

/// Percent-quotes all but unreserved characters (RFC 3986, section 2.3) and those of `kept`.
pub(crate) fn quoted(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
