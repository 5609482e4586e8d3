//! Who asks: the control plane by bearer token, vehicles by signature.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
    middleware::Next,
    response::Response,
};
use switchback_signing::keys::{
    Sha256Digest,
    http::{self, CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT},
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
    let refuse = |detail: String| {
        Problem::unauthorized("signature_invalid", detail)
            .hint("sign method, target and body as RFC 9421 says, with the enrolled key and a clock that is right to 5 minutes")
    };
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let signature = http::BorrowedHeaders {
        signature_input: text(SIGNATURE_INPUT).ok_or_else(|| refuse(format!("the header {SIGNATURE_INPUT} is missing")))?,
        signature: text(SIGNATURE).ok_or_else(|| refuse(format!("the header {SIGNATURE} is missing")))?,
        content_digest: text(CONTENT_DIGEST),
    };
    let vehicle = server.fleet.find(vehicle_id).ok_or_else(|| {
        Problem::unauthorized("vehicle_unknown", format!("no vehicle {vehicle_id} is enrolled here"))
            .hint("a vehicle enrolls once, with the token that the fleet operator issued for it")
    })?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = http::Request { method: parts.method.as_str(), target, body: body.map(|body| Sha256Digest::of(body)) };
    vehicle.requests.verify(&request, &signature, server.now()).map_err(|error| refuse(error.to_string()))?;
    Ok(vehicle)
}
