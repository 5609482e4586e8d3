//! All HTTP: the device plane, the public Image repository and the control plane.

mod admission;
mod auth;
mod content_keys;
mod control;
mod deltas;
mod device;
mod image;
mod offline;
mod problem;
mod range;
mod serve;
mod stall;
mod wire;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};

use crate::server::Server;

pub use admission::{CONNECTIONS_MAX, ConnectionLimits};
pub use problem::Problem;
pub use serve::serve;

/// A request that only moves metadata is answered within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// All routes.
pub fn router(server: &Arc<Server>) -> Router {
    let quick = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/image/metadata/{file}", get(image::metadata))
        .route("/v1/vehicles/enroll", post(device::enroll))
        .route("/v1/director/{vehicle_id}/metadata/{file}", get(device::metadata))
        .route("/v1/director/{vehicle_id}/manifest", put(device::manifest))
        .merge(control(server))
        .layer(from_fn(in_time));
    let targets = get(image::target).merge(put(image::put_target).layer(from_fn_with_state(Arc::clone(server), auth::control)));
    quick
        .route("/v1/image/targets/{folder}/{file}", targets)
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address does not know that method")
        })
        .layer(from_fn_with_state(Arc::clone(server), auth::reserve))
        .with_state(Arc::clone(server))
}

/// What only the owner of the control plane's token may do.
fn control(server: &Arc<Server>) -> Router<Arc<Server>> {
    Router::new()
        .route("/v1/online-keys", get(control::online_keys).post(control::make_online_keys))
        .route("/v1/keys", get(control::keys))
        .route("/v1/image/metadata/{file}", put(image::put_metadata))
        .route("/v1/director/root/{file}", put(image::put_director_root))
        .route("/v1/content-keys/{sha256}", get(content_keys::find).put(content_keys::put))
        .route("/v1/deltas", get(deltas::list))
        .route("/v1/deltas/{first}/{second}", put(deltas::put).delete(deltas::remove))
        .route("/v1/enrollment-tokens", post(control::issue_token))
        .route("/v1/vehicles", get(control::vehicles))
        .route("/v1/vehicles/{id}", get(control::vehicle))
        .route("/v1/releases", get(control::releases))
        .route("/v1/approvals", get(control::approvals).post(control::approve))
        .route("/v1/approvals/{id}", delete(control::revoke_approval))
        .route("/v1/offline-updates", post(offline::create))
        .route("/v1/rollouts", get(control::rollouts).post(control::create_rollout))
        .route("/v1/rollouts/{id}", get(control::rollout))
        .route("/v1/rollouts/{id}/{act}", post(control::act))
        .route_layer(from_fn_with_state(Arc::clone(server), auth::control))
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    if server.is_ready().await {
        return "ready\n".into_response();
    }
    Problem::unavailable("not_ready", "the database does not answer").into_response()
}

/// A client that sends slowly, or a database that hangs, must not hold a connection for ever.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the request was not complete in time").into_response(),
    }
}

/// Reads a body of at most `bytes_max`.
async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, bytes_max).await.map_err(|_| {
        let detail = format!("the body is longer than {bytes_max} bytes, or broke off");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_long", detail)
    })
}
