//! Who asks: the control plane by bearer token, vehicles by signature.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
    middleware::Next,
    response::Response,
};
use switchback_signing::{
    keys::{
        PublicKey, Sha256Digest,
        http::{self, CONTENT_DIGEST, RequestVerifier, SIGNATURE, SIGNATURE_INPUT},
    },
    time::UnixTime,
};

use super::{Problem, admission::Lane};
use crate::{
    fleet::FleetVehicle,
    server::{Server, token_sha256},
};

/// When a vehicle may try again that found no connection free, seconds.
const BUSY_RETRY_S: u64 = 30;

/// Lets only the owner of the control plane's token pass.
pub(super) async fn control(State(server): State<Arc<Server>>, request: Request, next: Next) -> Result<Response, Problem> {
    if !is_control(&server, request.headers()) {
        return Err(Problem::unauthorized("token_invalid", "this needs the control plane's token")
            .hint("send `Authorization: Bearer TOKEN` with the content of admin.token in the server's data folder"));
    }
    Ok(next.run(request).await)
}

/// On connections of the reserve only the control plane is heard, and whoever watches whether the server lives.
pub(super) async fn reserve(State(server): State<Arc<Server>>, request: Request, next: Next) -> Result<Response, Problem> {
    let shared = request.extensions().get() != Some(&Lane::Reserve);
    if shared || matches!(request.uri().path(), "/healthz" | "/readyz") || is_control(&server, request.headers()) {
        return Ok(next.run(request).await);
    }
    Err(Problem::unavailable("busy", "all connections that this peer may have are in use").retry_after(BUSY_RETRY_S))
}

fn is_control(server: &Server, headers: &HeaderMap) -> bool {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    token.is_some_and(|token| same(&token_sha256(token.trim()), &server.admin_token_sha256))
}

/// Compares in a time that does not depend on where the difference is. These are hashes, so that even a leak would help nobody.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other));
    std::hint::black_box(difference) == 0
}

/// The vehicle that signed this request with the key it enrolled with.
pub(super) fn vehicle(server: &Server, vehicle_id: &str, parts: &Parts, body: Option<&Bytes>) -> Result<Arc<FleetVehicle>, Problem> {
    let signature = signature(parts)?;
    let vehicle = server.fleet.find(vehicle_id).ok_or_else(|| {
        Problem::unauthorized("vehicle_unknown", format!("no vehicle {vehicle_id} is enrolled here"))
            .hint("a vehicle enrolls once, with the token that the fleet operator issued for it")
    })?;
    verify(&vehicle.requests, &signature, parts, body, server.now())?;
    Ok(vehicle)
}

/// Whether whoever sends this request holds the private half of `key`: otherwise somebody with a token could enroll a key that is not
/// his, and have another vehicle's reports count as those of his own.
pub(super) fn possession(key: &PublicKey, parts: &Parts, body: &Bytes, now: UnixTime) -> Result<(), Problem> {
    verify(&RequestVerifier::new(key.clone()), &signature(parts)?, parts, Some(body), now)
}

fn verify(
    key: &RequestVerifier,
    signature: &http::BorrowedHeaders<'_>,
    parts: &Parts,
    body: Option<&Bytes>,
    now: UnixTime,
) -> Result<(), Problem> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = http::Request { method: parts.method.as_str(), target, body: body.map(|body| Sha256Digest::of(body)) };
    key.verify(&request, signature, now).map_err(|error| not_signed(error.to_string()))
}

fn signature(parts: &Parts) -> Result<http::BorrowedHeaders<'_>, Problem> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let needed = |name: &str| text(name).ok_or_else(|| not_signed(format!("the header {name} is missing")));
    Ok(http::BorrowedHeaders {
        signature_input: needed(SIGNATURE_INPUT)?,
        signature: needed(SIGNATURE)?,
        content_digest: text(CONTENT_DIGEST),
    })
}

fn not_signed(detail: String) -> Problem {
    Problem::unauthorized("signature_invalid", detail)
        .hint("sign method, target and body as RFC 9421 says, with the enrolled key and a clock that is right to 5 minutes")
}
