//! `/v1/content-keys/{sha256}`: the keys of encrypted bundles. They go in, and never out.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use switchback_signing::{
    bundle::{ContentKey, content_key::CONTENT_KEY_FILE_MAX},
    keys::Sha256Digest,
};

use super::{Problem, read};
use crate::server::{ContentKeyError, Server};

/// `GET`: whether there is one. Which one is nobody's business.
pub(super) async fn find(State(server): State<Arc<Server>>, Path(sha256): Path<String>) -> Result<Json<Value>, Problem> {
    let bundle = bundle(&sha256)?;
    if !server.has_content_key(&bundle) {
        return Err(Problem::not_found(format!("there is no content key for the bundle with sha256 {bundle}")));
    }
    Ok(Json(json!({"bundle_sha256": bundle})))
}

/// `PUT`: a JSON Web Key, as `switchback pack --encrypt` wrote it.
pub(super) async fn put(State(server): State<Arc<Server>>, Path(sha256): Path<String>, body: Body) -> Result<StatusCode, Problem> {
    let bundle = bundle(&sha256)?;
    let body = read(body, CONTENT_KEY_FILE_MAX).await?;
    let key =
        ContentKey::from_jwk(&body).map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "content_key_malformed", error))?;
    server.add_content_key(bundle, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn bundle(sha256: &str) -> Result<Sha256Digest, Problem> {
    let malformed = || Problem::bad_request("sha256_malformed", "a bundle is named by the 64 lower-case digits of its SHA-256");
    Sha256Digest::parse(sha256).ok_or_else(malformed)
}

impl From<ContentKeyError> for Problem {
    fn from(error: ContentKeyError) -> Self {
        match &error {
            ContentKeyError::Differs(_) => Self::conflict("content_key_differs", error)
                .hint("a bundle has the one key that it was packed with; pack it anew, in a version of its own, if that is lost"),
            ContentKeyError::Sealing(_) | ContentKeyError::Registry(_) => Self::internal(&error),
        }
    }
}
