//! `POST /v1/offline-updates`: the metadata of an update that travels in a file.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Problem, read, wire};
use crate::{
    rollout::ReleaseName,
    server::{OfflineError, OfflineFor, OfflineOrder, OfflineUpdate, Server},
};

/// Body of the request: one vehicle, or a tier in a region.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    release: ReleaseName,
    #[serde(default)]
    vehicle_id: Option<String>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    region: Option<String>,
    days: u32,
}

pub(super) async fn create(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Problem> {
    let request: Request = wire::parse(&read(body, wire::REQUEST_BYTES_MAX).await?)?;
    let recipients = match (request.vehicle_id, request.tier, request.region) {
        (Some(id), None, None) => OfflineFor::Vehicle(id),
        (None, Some(tier), Some(region)) => OfflineFor::Tier { tier, region },
        _ => return Err(Problem::bad_request("recipients_unclear", "name one vehicle, or a tier and a region")),
    };
    let order = OfflineOrder { release: request.release, recipients, days: request.days };
    let update = server.offline_update(&order).await?;
    Ok((StatusCode::CREATED, Json(answer(&update)?)).into_response())
}

/// Metadata is text; vehicles want it byte for byte, and a JSON string keeps it so.
fn answer(update: &OfflineUpdate) -> Result<Value, Problem> {
    let text = |(name, bytes): &(String, Vec<u8>)| {
        let text = String::from_utf8(bytes.clone()).map_err(|error| Problem::internal(&error))?;
        Ok((name.clone(), Value::String(text)))
    };
    let files = update.files.iter().map(text).collect::<Result<Map<_, _>, Problem>>()?;
    let targets: Vec<Value> = update.targets.iter().map(|(path, length)| json!({"path": path, "length": length})).collect();
    Ok(json!({
        "expires_at": update.expires.to_string(),
        "limited_by": update.limited_by,
        "files": files,
        "targets": targets,
    }))
}

impl From<OfflineError> for Problem {
    fn from(error: OfflineError) -> Self {
        match error {
            OfflineError::UnknownVehicle(_) => Self::not_found(error).hint("`switchback vehicle list` shows the vehicles"),
            OfflineError::Name(_) | OfflineError::Days(_) => Self::bad_request("order_malformed", error),
            OfflineError::Withheld { .. } => Self::conflict("withheld", error)
                .hint("publish the release and record its approval for the region first; approvals of single model lines need one file for each vehicle"),
            OfflineError::Image(error) => error.into(),
            OfflineError::Director(error) => error.into(),
            OfflineError::Signer(error) => Self::internal(&error),
            OfflineError::Registry(error) => error.into(),
        }
    }
}
