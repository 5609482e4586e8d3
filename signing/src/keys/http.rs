//! Signed HTTP requests: a minimal profile of RFC 9421 (HTTP Message Signatures) with RFC 9530 (Digest Fields).
//!
//! A vehicle signs every request to its Director with its own key. Covered are the method, the request target and, when there is a
//! body, its digest; the time bounds how long a captured request can be sent again. The host is left out on purpose, so that a
//! proxy may rename it: a vehicle's key is known to one Director only. Text goes in and out; no HTTP library is involved.
//!
//! ```
//! use switchback_signing::{keys::{Ed25519Signer, Signer, http::{self, Request}}, time::UnixTime};
//! let key = Ed25519Signer::from_seed([1; 32]);
//! let now = UnixTime::from_seconds(1_800_000_000);
//! let request = Request { method: "GET", target: "/v1/director/v-1/metadata/timestamp.json", body: None };
//! let headers = http::sign_request(&key, &request, now)?;
//! http::verify_request(&key.public_key(), &request, &headers, now)?;
//!
//! // Who verifies many requests under one key keeps a verifier of it.
//! let verifier = http::RequestVerifier::new(key.public_key());
//! verifier.verify(&request, &headers.borrowed(), now)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::{
    format,
    string::{String, ToString},
};

use thiserror::Error;

use super::{
    KeyId, PublicKey, Sha256Digest, Signer, SignerError,
    encoding::{from_base64, to_base64},
};
use crate::time::UnixTime;

/// How far the clocks of vehicle and server may differ, seconds. Vehicles without a network for long drift by minutes, and
/// a captured request is worth little: reports carry a counter and metadata is public to the vehicle's own key only.
pub const SKEW_SECONDS_MAX: i64 = 300;

/// Name of the header that says what is covered.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// Name of the header that holds the signature.
pub const SIGNATURE: &str = "signature";
/// Name of the header that holds the body's digest.
pub const CONTENT_DIGEST: &str = "content-digest";

/// Label of our signature among others that a proxy may add.
const LABEL: &str = "sig1";
/// Keeps a signature made for this purpose from being used for another (RFC 9421, section 7.2.7).
const TAG: &str = "switchback-vehicle";

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method in capitals.
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    /// Digest of the body; nothing when the request has no body.
    pub body: Option<Sha256Digest>,
}

/// The headers that carry a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Value of [`SIGNATURE_INPUT`].
    pub signature_input: String,
    /// Value of [`SIGNATURE`].
    pub signature: String,
    /// Value of [`CONTENT_DIGEST`], when the request has a body.
    pub content_digest: Option<String>,
}

/// The same headers where they were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BorrowedHeaders<'a> {
    /// Value of [`SIGNATURE_INPUT`].
    pub signature_input: &'a str,
    /// Value of [`SIGNATURE`].
    pub signature: &'a str,
    /// Value of [`CONTENT_DIGEST`], when the request has one.
    pub content_digest: Option<&'a str>,
}

impl Headers {
    /// A view of these headers.
    pub fn borrowed(&self) -> BorrowedHeaders<'_> {
        BorrowedHeaders {
            signature_input: &self.signature_input,
            signature: &self.signature,
            content_digest: self.content_digest.as_deref(),
        }
    }
}

/// Verifies the requests of one vehicle. Its key id is computed once; it is a hash over a JSON object.
#[derive(Clone, Debug)]
pub struct RequestVerifier {
    key: PublicKey,
    key_id: KeyId,
}

/// A request that is not signed as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HttpSignatureError {
    /// The headers are not of our profile.
    #[error("{header} is not of the form {expected}")]
    Malformed {
        /// Name of the header.
        header: &'static str,
        /// What it should look like.
        expected: &'static str,
    },
    /// The digest is of another body.
    #[error("content-digest is not that of the body")]
    BodyDiffers,
    /// Signed under another key.
    #[error("the request is signed with key {found}, but the vehicle's key is {expected}")]
    WrongKey {
        /// The key id in the request.
        found: KeyId,
        /// The key that the vehicle enrolled with.
        expected: KeyId,
    },
    /// Signed too long ago, or in the future.
    #[error("the request was signed at {created}, more than {SKEW_SECONDS_MAX} s from the server's time {now}")]
    TimeDiffers {
        /// When the request says it was signed.
        created: UnixTime,
        /// The server's time.
        now: UnixTime,
    },
    /// The signature does not verify.
    #[error("the signature does not cover this request")]
    SignatureInvalid,
}

/// The one signature algorithm of requests, by its name in RFC 9421.
const ALGORITHM: &str = "ed25519";

/// Signs a request.
///
/// # Errors
/// [`SignerError`] when the key cannot sign.
pub fn sign_request(signer: &dyn Signer, request: &Request<'_>, created: UnixTime) -> Result<Headers, SignerError> {
    let (created, key_id) = (created.seconds(), signer.key_id());
    if signer.public_key().scheme() != ALGORITHM {
        return Err(SignerError { key_id, reason: "requests are signed with ed25519 keys only".into() });
    }
    let parameters = format!("{};created={created};keyid=\"{key_id}\";alg=\"{ALGORITHM}\";tag=\"{TAG}\"", components(request));
    let signature = signer.sign(signature_base(request, &parameters).as_bytes())?;
    Ok(Headers {
        signature_input: format!("{LABEL}={parameters}"),
        signature: format!("{LABEL}=:{}:", to_base64(signature.as_bytes())),
        content_digest: request.body.map(content_digest),
    })
}

/// Verifies one request against the key of the vehicle that it claims to come from.
///
/// # Errors
/// [`HttpSignatureError`] naming what does not hold.
pub fn verify_request(key: &PublicKey, request: &Request<'_>, headers: &Headers, now: UnixTime) -> Result<(), HttpSignatureError> {
    RequestVerifier::new(key.clone()).verify(request, &headers.borrowed(), now)
}

impl RequestVerifier {
    /// A verifier of what `key` signs.
    pub fn new(key: PublicKey) -> Self {
        let key_id = key.key_id();
        Self { key, key_id }
    }

    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The key's id, as requests name it.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Verifies a request that claims to come from the vehicle.
    ///
    /// # Errors
    /// [`HttpSignatureError`] naming what does not hold.
    pub fn verify(&self, request: &Request<'_>, headers: &BorrowedHeaders<'_>, now: UnixTime) -> Result<(), HttpSignatureError> {
        if headers.content_digest != request.body.map(content_digest).as_deref() {
            return Err(HttpSignatureError::BodyDiffers);
        }
        let parameters = Parameters::parse(headers.signature_input, components(request))?;
        if parameters.key_id != self.key_id.as_str() {
            return Err(HttpSignatureError::WrongKey { found: KeyId::new(parameters.key_id), expected: self.key_id.clone() });
        }
        let created = UnixTime::from_seconds(parameters.created);
        // Any number can stand in the header; the plain difference to one near the lowest would wrap to "in time".
        if now.seconds().abs_diff(created.seconds()) > SKEW_SECONDS_MAX.unsigned_abs() {
            return Err(HttpSignatureError::TimeDiffers { created, now });
        }
        let signature = headers.signature.strip_prefix(LABEL).and_then(|rest| rest.strip_prefix("=:")?.strip_suffix(':'));
        let signature =
            signature.and_then(from_base64).ok_or(HttpSignatureError::Malformed { header: SIGNATURE, expected: "sig1=:<base64>:" })?;
        let base = signature_base(request, parameters.text);
        self.key.verify(base.as_bytes(), &signature).map_err(|_| HttpSignatureError::SignatureInvalid)
    }
}

/// The parameters of `signature-input`, in our order and no other: a second spelling helps nobody.
struct Parameters<'a> {
    text: &'a str,
    created: i64,
    key_id: &'a str,
}

impl<'a> Parameters<'a> {
    fn parse(header: &'a str, components: &str) -> Result<Self, HttpSignatureError> {
        let malformed = HttpSignatureError::Malformed {
            header: SIGNATURE_INPUT,
            expected: r#"sig1=("@method" "@request-target" ["content-digest"]);created=<s>;keyid="<id>";alg="ed25519";tag="switchback-vehicle""#,
        };
        Self::read(header, components).ok_or(malformed)
    }

    fn read(header: &'a str, components: &str) -> Option<Self> {
        let text = header.strip_prefix(LABEL)?.strip_prefix('=')?;
        let rest = text.strip_prefix(components)?.strip_prefix(";created=")?;
        let (created, rest) = rest.split_once(";keyid=\"")?;
        let (key_id, rest) = rest.split_once("\";alg=\"ed25519\";tag=\"")?;
        let created: i64 = created.parse().ok().filter(|value: &i64| value.to_string() == created)?;
        let plain = key_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && rest.strip_suffix('"')? == TAG).then_some(Self { text, created, key_id })
    }
}

fn components(request: &Request<'_>) -> &'static str {
    match request.body {
        Some(_) => r#"("@method" "@request-target" "content-digest")"#,
        None => r#"("@method" "@request-target")"#,
    }
}

fn content_digest(body: Sha256Digest) -> String {
    format!("sha-256=:{}:", to_base64(body.as_bytes()))
}

/// The signature base (RFC 9421, section 2.5): one line per component, then the parameters.
fn signature_base(request: &Request<'_>, parameters: &str) -> String {
    let digest_line = request.body.map(|body| format!("\"content-digest\": {}\n", content_digest(body))).unwrap_or_default();
    let parts = [
        "\"@method\": ",
        request.method,
        "\n\"@request-target\": ",
        request.target,
        "\n",
        &digest_line,
        "\"@signature-params\": ",
        parameters,
    ];
    parts.concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::keys::Ed25519Signer;

    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    fn put(body: &[u8]) -> Request<'static> {
        Request { method: "PUT", target: "/v1/director/v-1/manifest", body: Some(Sha256Digest::of(body)) }
    }

    fn signed() -> (Ed25519Signer, Headers) {
        let key = Ed25519Signer::from_seed([1; 32]);
        let headers = sign_request(&key, &put(b"{}"), NOW).unwrap();
        (key, headers)
    }

    #[test]
    fn a_signed_request_has_the_headers_of_rfc_9421() {
        let (key, headers) = signed();
        let key_id = key.key_id();
        assert_eq!(
            headers.signature_input,
            format!(
                r#"sig1=("@method" "@request-target" "content-digest");created=1800000000;keyid="{key_id}";alg="ed25519";tag="switchback-vehicle""#
            )
        );
        assert_eq!(headers.content_digest.as_deref(), Some("sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"));
        assert_eq!(verify_request(&key.public_key(), &put(b"{}"), &headers, NOW), Ok(()));
    }

    #[test]
    fn a_request_that_was_changed_on_the_way_is_refused() {
        let (key, headers) = signed();
        let check = |request: Request<'_>, headers: &Headers, now, expected: &str| {
            let found = verify_request(&key.public_key(), &request, headers, now);
            assert_eq!(found.unwrap_err().to_string(), expected);
        };
        let uncovered = "the signature does not cover this request";
        check(Request { method: "POST", ..put(b"{}") }, &headers, NOW, uncovered);
        check(Request { target: "/v1/director/v-2/manifest", ..put(b"{}") }, &headers, NOW, uncovered);
        check(put(b"[]"), &headers, NOW, "content-digest is not that of the body");
        check(Request { body: None, ..put(b"") }, &headers, NOW, "content-digest is not that of the body");
        let late = "the request was signed at 2027-01-15T08:00:00Z, more than 300 s from the server's time 2027-01-15T08:05:01Z";
        check(put(b"{}"), &headers, NOW.plus_seconds(301), late);
        assert_eq!(verify_request(&key.public_key(), &put(b"{}"), &headers, NOW.plus_seconds(-300)), Ok(()));
        let redated = headers.signature_input.replace("1800000000", "1800000301");
        check(put(b"{}"), &Headers { signature_input: redated, ..headers.clone() }, NOW.plus_seconds(301), uncovered);
        check(
            put(b"{}"),
            &Headers { signature: "sig1=:AAA:".into(), ..headers.clone() },
            NOW,
            "signature is not of the form sig1=:<base64>:",
        );
        let wrapping = (i64::MIN + NOW.seconds()).to_string();
        for created in [&wrapping, "-9223372036854775808", "9223372036854775807"] {
            let input = headers.signature_input.replace("1800000000", created);
            let found = verify_request(&key.public_key(), &put(b"{}"), &Headers { signature_input: input, ..headers.clone() }, NOW);
            let said = found.unwrap_err().to_string();
            assert!(said.contains("more than 300 s from the server's time"), "{created}: {said}");
        }
        for spelling in ["1800000000", "+1800000000", "1800000000;nonce=\"x\"", "99999999999999999999"] {
            let input = headers.signature_input.replace("created=1800000000", &format!("created={spelling} "));
            let found = verify_request(&key.public_key(), &put(b"{}"), &Headers { signature_input: input, ..headers.clone() }, NOW);
            assert!(matches!(found, Err(HttpSignatureError::Malformed { header: SIGNATURE_INPUT, .. })), "{spelling}");
        }
    }

    #[test]
    fn a_request_of_another_vehicle_is_refused() {
        let (_, headers) = signed();
        let other = Ed25519Signer::from_seed([2; 32]).public_key();
        let found = verify_request(&other, &put(b"{}"), &headers, NOW);
        assert!(matches!(found, Err(HttpSignatureError::WrongKey { .. })));
    }
}
