//! The control plane: what operators and the CLI do.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Problem, read, wire};
use crate::{
    keys::KeyError,
    rollout::{Act, ApprovalId, PausedBy, RolloutId},
    server::{NewKeysError, RolloutError, Server, random_token},
};

/// `GET /v1/online-keys`.
pub(super) async fn online_keys(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(server.online_keys())
}

/// `POST /v1/online-keys`: new ones, for the next roots.
pub(super) async fn make_online_keys(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Problem> {
    let request: wire::NewKeysRequest = wire::parse(&read(body, wire::REQUEST_BYTES_MAX).await?)?;
    let keys = server.make_online_keys(request.into_pending()).await?;
    Ok((StatusCode::CREATED, Json(keys)).into_response())
}

/// `GET /v1/keys`.
pub(super) async fn keys(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(wire::keys(&server.keys_view()))
}

/// `POST /v1/enrollment-tokens`.
pub(super) async fn issue_token(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Problem> {
    let request: wire::TokenRequest = wire::parse(&read(body, wire::REQUEST_BYTES_MAX).await?)?;
    let issued = server.issue_token(request.into_token()).await?;
    let answer = json!({
        "token": issued.token,
        "expires_at": issued.expires_at.to_string(),
        "replaced": issued.replaced,
        "warnings": issued.warnings,
    });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `GET /v1/vehicles?after=ID&limit=N`.
pub(super) async fn vehicles(
    State(server): State<Arc<Server>>,
    query: Result<Query<wire::PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(page) = query.map_err(|error| Problem::bad_request("query_malformed", error.body_text()))?;
    let limit = page.limit.clamp(1, wire::PAGE_MAX);
    let mut vehicles = server.fleet.all();
    vehicles.retain(|vehicle| *page.after < *vehicle.addressee.vehicle_id.as_str());
    vehicles.sort_by(|one, other| one.addressee.vehicle_id.cmp(&other.addressee.vehicle_id));
    let more = vehicles.len() > limit;
    vehicles.truncate(limit);
    let next = vehicles.last().filter(|_| more).map(|last| last.addressee.vehicle_id.as_str());
    let vehicle_list: Vec<Value> = vehicles.iter().map(|vehicle| wire::vehicle(vehicle)).collect();
    Ok(Json(json!({"vehicles": vehicle_list, "next": next})))
}

/// `GET /v1/vehicles/{id}`.
pub(super) async fn vehicle(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let view = server.vehicle_view(&id).await?;
    let view = view.ok_or_else(|| Problem::not_found(format!("there is no vehicle {id}")))?;
    Ok(Json(wire::vehicle_view(&view)))
}

/// `GET /v1/releases`.
pub(super) async fn releases(State(server): State<Arc<Server>>) -> Json<Value> {
    let rules = server.rules();
    let releases: Vec<Value> = rules.releases.iter().map(|release| wire::release(release)).collect();
    Json(json!({"releases": releases}))
}

/// `GET /v1/approvals`.
pub(super) async fn approvals(State(server): State<Arc<Server>>) -> Json<Value> {
    let rules = server.rules();
    let approvals: Vec<Value> = rules.approvals.iter().map(wire::approval).collect();
    Json(json!({"approvals": approvals}))
}

/// `POST /v1/approvals`.
pub(super) async fn approve(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Problem> {
    let request: wire::ApprovalRequest = wire::parse(&read(body, wire::REQUEST_BYTES_MAX).await?)?;
    let approval = server.approve(request.into_approval()?).await?;
    Ok((StatusCode::CREATED, Json(wire::approval(&approval))).into_response())
}

/// `DELETE /v1/approvals/{id}`.
pub(super) async fn revoke_approval(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    server.revoke_approval(ApprovalId(number(&id)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/rollouts`.
pub(super) async fn rollouts(State(server): State<Arc<Server>>) -> Json<Value> {
    let rules = server.rules();
    let rollouts: Vec<Value> = rules.rollouts.iter().map(wire::rollout).collect();
    Json(json!({"rollouts": rollouts}))
}

/// `POST /v1/rollouts`.
pub(super) async fn create_rollout(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Problem> {
    let request: wire::RolloutRequest = wire::parse(&read(body, wire::REQUEST_BYTES_MAX).await?)?;
    let salt = random_token().map_err(|error| Problem::internal(&error))?;
    let rollout = server.create_rollout(request.into_rollout(salt)?).await?;
    let mut answer = wire::rollout(&rollout);
    answer["warnings"] = json!(server.selector_warnings(&rollout));
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `GET /v1/rollouts/{id}`.
pub(super) async fn rollout(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let view = server.rollout_view(RolloutId(number(&id)?)).await?;
    Ok(Json(wire::rollout_view(&view)))
}

/// `POST /v1/rollouts/{id}/start|pause|resume|advance`.
pub(super) async fn act(
    State(server): State<Arc<Server>>,
    Path((id, act)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let body = read(body, wire::REQUEST_BYTES_MAX).await?;
    let act = match act.as_str() {
        "start" => Act::Start,
        "advance" => Act::Advance,
        "pause" => {
            let wire::PauseRequest { reason } = wire::parse(&body)?;
            Act::Pause { by: PausedBy::Operator, reason: wire::text("reason", reason)? }
        }
        "resume" => {
            let wire::ResumeRequest { note } = wire::parse(&body)?;
            Act::Resume { note: wire::text("note", note)? }
        }
        _ => return Err(Problem::not_found("a rollout can be told to start, pause, resume or advance")),
    };
    let starts = act == Act::Start;
    let rollout = server.act(RolloutId(number(&id)?), act).await?;
    let mut answer = wire::rollout(&rollout);
    if starts {
        answer["warnings"] = json!(server.start_warnings(&rollout));
    }
    Ok(Json(answer))
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::not_found(format!("{id} is not a number")))
}

impl From<NewKeysError> for Problem {
    fn from(error: NewKeysError) -> Self {
        match &error {
            NewKeysError::Keys(KeyError::Pending { .. }) => Self::conflict("online_keys_pending", error).hint(
                "have the roots name those with `switchback root online-keys`; if they may be stolen too, make others in their place: \
                 `switchback root online-keys --new --replace`",
            ),
            NewKeysError::Keys(_) | NewKeysError::Registry(_) => Self::internal(&error),
        }
    }
}

impl From<RolloutError> for Problem {
    fn from(error: RolloutError) -> Self {
        match &error {
            RolloutError::NoRollout(_) | RolloutError::NoApproval(_) => Self::not_found(error),
            RolloutError::NameTaken(_) => Self::conflict("rollout_name_taken", error),
            RolloutError::AlreadyApproved(_) => Self::conflict("approval_exists", error)
                .hint("`switchback approval list` shows it; another decision differs in its number, dates or model lines"),
            RolloutError::Limit(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "failure_limit_malformed", error),
            RolloutError::NotPublished(_) => Self::conflict("release_not_published", error)
                .hint("publish the signed metadata of the release first; GET /v1/releases lists what there is"),
            RolloutError::IllegalMove { .. } => Self::conflict("illegal_move", error),
            RolloutError::Random(_) | RolloutError::Registry(_) => Self::internal(&error),
        }
    }
}
