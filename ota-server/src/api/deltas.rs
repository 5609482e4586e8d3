//! `/v1/deltas`: which deltas vehicles are told of. Their bytes are targets like any other.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use switchback_signing::{keys::Sha256Digest, metadata::DeltaRef};

use super::Problem;
use crate::server::{DeltaError, Server};

/// `GET`: all of them.
pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let deltas = server.deltas().into_iter().map(|(release, delta)| shown(&release, &delta));
    Json(json!({"deltas": deltas.collect::<Vec<_>>()}))
}

/// `PUT /v1/deltas/{folder}/{file}`: the index of a delta, by the name under which it was uploaded. Its data was uploaded before.
pub(super) async fn put(State(server): State<Arc<Server>>, Path((folder, file)): Path<(String, String)>) -> Result<Json<Value>, Problem> {
    let (release, delta) = server.add_delta(&folder, &file).await?;
    Ok(Json(shown(&release, &delta)))
}

/// `DELETE /v1/deltas/{release}/{base}`: by the SHA-256 of the two chunk indexes.
pub(super) async fn remove(
    State(server): State<Arc<Server>>,
    Path((release, base)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let malformed =
        || Problem::bad_request("sha256_malformed", "a release is named by the 64 lower-case digits of its chunk index's SHA-256");
    let digest = |text: &str| Sha256Digest::parse(text).ok_or_else(malformed);
    if server.remove_delta(digest(&release)?, digest(&base)?).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("there is no delta between these two"))
}

fn shown(release: &Sha256Digest, delta: &DeltaRef) -> Value {
    json!({
        "release_sha256": release,
        "base_sha256": delta.base_sha256,
        "path": delta.path,
        "length": delta.length,
        "sha256": delta.sha256,
    })
}

impl From<DeltaError> for Problem {
    fn from(error: DeltaError) -> Self {
        match &error {
            DeltaError::Missing(_) => {
                Self::conflict("delta_missing", error).hint("upload the delta's data and index among the targets before it is named here")
            }
            DeltaError::Name(_) => Self::bad_request("delta_name_malformed", error),
            DeltaError::Refused { source, .. } => {
                let detail = format!("{error}: {source}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "delta_refused", detail).hint("make it anew from the two bundles")
            }
            DeltaError::NoRelease(_) => Self::conflict("delta_without_release", error).hint("publish the release first"),
            DeltaError::TooMany => {
                Self::conflict("deltas_too_many", error).hint("withdraw those from releases that no vehicle has any more")
            }
            DeltaError::Storage(_) | DeltaError::Registry(_) => Self::internal(&error),
        }
    }
}
