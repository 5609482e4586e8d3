//! The vehicle's transport, pointed at anybody's repository.

use std::sync::Arc;

use switchback_sdk::fetch::{BaseUrl, Cancel, Client, FetchError, Fetched, HttpTransport, Patience};
use switchback_signing::trust::{FetchFailure, FetchRequest};

/// A client of the server behind `base_url`.
pub(crate) fn client(base_url: &str) -> anyhow::Result<Client> {
    let (base, patience) = (base_url.parse::<BaseUrl>()?, Patience::default());
    let transport = HttpTransport::new(&[&base], None, patience)?;
    Ok(Client::new(base, Arc::new(transport), Cancel::default(), patience))
}

/// Fetches a metadata file; what went wrong is said in the words of the trust checks.
pub(crate) fn metadata(client: &Client, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
    let FetchRequest { file_name, length_max, .. } = request;
    match client.get(&format!("/{file_name}"), *length_max, None, None) {
        Ok(Fetched::New { bytes, .. }) => Ok(bytes),
        Ok(Fetched::NotModified) => Err(FetchFailure::Unreachable { reason: "the server answered another question".into() }),
        Err(FetchError::NotFound { .. }) => Err(FetchFailure::NotFound),
        Err(FetchError::TooLong { .. }) => Err(FetchFailure::TooLong),
        Err(other) => Err(FetchFailure::Unreachable { reason: format!("{:#}", anyhow::Error::from(other)) }),
    }
}

/// Percent-quotes all but unreserved characters (RFC 3986, section 2.3) and those of `kept`.
pub(crate) fn quoted(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
