//! Who asks: the control plane by bearer token, vehicles by signature.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{header::AUTHORIZATION, request::Parts},
    middleware::Next,
    response::Response,
};
use switchback_signing::keys::{
    Sha256Digest,
    http::{self, CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT},
};

use super::Problem;
use crate::{
    fleet::FleetVehicle,
    server::{Server, token_sha256},
};

/// Lets only the owner of the control plane's token pass.
pub(super) async fn control(State(server): State<Arc<Server>>, request: Request, next: Next) -> Result<Response, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    let given = token_sha256(token.unwrap_or_default().trim());
    if token.is_none() || !same(&given, &server.admin_token_sha256) {
        return Err(Problem::unauthorized("token_invalid", "this needs the control plane's token")
            .hint("send `Authorization: Bearer TOKEN` with the content of admin.token in the server's data folder"));
    }
    Ok(next.run(request).await)
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
