//! The device plane: what vehicles ask for and send.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use serde_json::json;
use switchback_signing::{
    metadata::{
        Nonce,
        vehicle::{ENROLLMENT_BYTES_MAX, EnrollmentRequest, EnrollmentResponse, MANIFEST_BYTES_MAX},
    },
    trust::report::{self, VehicleInventory, VerifiedManifest, verify_manifest},
};

use super::{
    Problem, auth,
    image::not_modified,
    range::{Wanted, wanted},
    read, wire,
};
use crate::{
    content_keys::ContentKeysError,
    director::Addressee,
    fleet::FleetVehicle,
    rollout::bucket,
    server::{DirectorFile, EnrollError, PollError, ReportError, Sender, Server},
};

/// Metadata of one vehicle: nobody in between may keep it.
const PRIVATE: &str = "private, no-cache";

/// `POST /v1/vehicles/enroll`, signed with the key that is enrolled.
pub(super) async fn enroll(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read(body, ENROLLMENT_BYTES_MAX).await?;
    let request = EnrollmentRequest::parse(&body).map_err(|error| Problem::bad_request("enrollment_malformed", error))?;
    auth::possession(&request.public_key, &parts, &body, server.now())?;
    server.enroll(&request).await?;
    let answer = EnrollmentResponse { vehicle_id: request.vehicle_id };
    Ok(([(CONTENT_TYPE, wire::JSON)], answer.to_bytes()).into_response())
}

/// `GET /v1/director/{vehicle_id}/metadata/{file}`.
pub(super) async fn metadata(
    State(server): State<Arc<Server>>,
    Path((vehicle_id, file)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let vehicle = auth::vehicle(&server, &vehicle_id, &parts, None)?;
    let file = DirectorFile::parse(&file).ok_or_else(|| Problem::not_found("the Director has no file of that name"))?;
    let (role, version) = match file {
        DirectorFile::Root(version) => {
            let bytes = server.director_root(version)?;
            return Ok(([(CONTENT_TYPE, wire::JSON), (CACHE_CONTROL, PRIVATE)], bytes).into_response());
        }
        DirectorFile::Timestamp => ("timestamp", server.timestamp_version(&vehicle, nonce(&parts)?).await?),
        DirectorFile::Snapshot(version) => ("snapshot", version),
        DirectorFile::Targets(version) => ("targets", version),
    };
    // The bytes of one version of one role of one vehicle never change.
    let etag = format!("\"{role}-{version}\"");
    if wanted(&parts.headers, &etag, 0) == Wanted::NotModified {
        return Ok(not_modified(&etag, PRIVATE));
    }
    let bytes = server.director_metadata(&vehicle, role, version).await?;
    let headers = [(CONTENT_TYPE, wire::JSON), (CACHE_CONTROL, PRIVATE), (ETAG, &etag)];
    Ok((headers, bytes.to_vec()).into_response())
}

/// What a vehicle asks with that wants a Timestamp of now: `?nonce=` and 32 hexadecimal digits. Its signature covers them.
fn nonce(parts: &Parts) -> Result<Option<Nonce>, Problem> {
    let nonce = parts.uri.query().and_then(|query| query.strip_prefix("nonce="));
    nonce.map(|nonce| nonce.parse().map_err(|error| Problem::bad_request("nonce_malformed", error))).transpose()
}

/// `PUT /v1/director/{vehicle_id}/manifest`. The answer is sent when the report is durable.
pub(super) async fn manifest(
    State(server): State<Arc<Server>>,
    Path(vehicle_id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read(body, MANIFEST_BYTES_MAX).await?;
    let vehicle = match auth::vehicle(&server, &vehicle_id, &parts, Some(&body)) {
        Ok(vehicle) => vehicle,
        Err(problem) => {
            // Strangers may call themselves anything.
            if server.fleet.find(&vehicle_id).is_some() {
                note_refused(&server, &vehicle_id, &problem, Sender::Anybody).await;
            }
            return Err(problem);
        }
    };
    vehicle.take_report(server.now()).map_err(|wait_s| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_reports", "the vehicle reports more than once a second for too long")
            .retry_after(wait_s)
    })?;
    if let Err(problem) = take_manifest(&server, &vehicle, &body).await {
        note_refused(&server, &vehicle_id, &problem, Sender::Vehicle).await;
        return Err(problem);
    }
    let answer = json!({"poll_after_s": poll_after_s(&server, &vehicle_id)});
    Ok(axum::Json(answer).into_response())
}

async fn take_manifest(server: &Server, vehicle: &Arc<FleetVehicle>, body: &[u8]) -> Result<(), Problem> {
    let manifest = verify(server, vehicle, body)?;
    server.fleet.note_seen(vehicle, server.now());
    Ok(server.report(Arc::clone(vehicle), manifest, body.to_vec()).await?)
}

/// A vehicle whose reports are refused is silent to the fleet: its operator shall hear of it all the same.
async fn note_refused(server: &Server, vehicle_id: &str, problem: &Problem, sender: Sender) {
    if let Some((kind, detail)) = problem.refusal() {
        server.note_refused(vehicle_id, kind, detail, sender).await;
    }
}

/// Checks a manifest against what is known of the vehicle and its ECUs.
fn verify(server: &Server, vehicle: &FleetVehicle, body: &[u8]) -> Result<VerifiedManifest, Problem> {
    let Addressee { vehicle_id, ecu_serial, secondaries, .. } = &vehicle.addressee;
    let state = vehicle.state.load();
    let mut inventory = VehicleInventory {
        vehicle_id: vehicle_id.clone(),
        primary_ecu_serial: ecu_serial.clone(),
        ecu_keys: [(ecu_serial.clone(), vehicle.requests.public_key().clone())].into(),
        counters: [(ecu_serial.clone(), state.report_counter)].into(),
    };
    inventory.ecu_keys.extend(secondaries.iter().map(|ecu| (ecu.ecu_serial.clone(), ecu.public_key.clone())));
    inventory.counters.extend(state.secondaries.iter().map(|(serial, secondary)| (serial.clone(), secondary.report_counter)));
    Ok(verify_manifest(body, &inventory, server.now())?)
}

/// Spreads the polls of vehicles that were switched on in the same minute by a tenth of the interval to both sides.
fn poll_after_s(server: &Server, vehicle_id: &str) -> u64 {
    let interval_s = u64::from(server.config.poll_after_s);
    let place = u64::from(bucket(&server.now().seconds().to_string(), vehicle_id));
    (interval_s - interval_s / 10 + interval_s / 5 * place / 1_000_000).max(1)
}

impl From<EnrollError> for Problem {
    fn from(error: EnrollError) -> Self {
        match &error {
            EnrollError::Name(_) | EnrollError::Reserved => Self::bad_request("name_malformed", error),
            EnrollError::UnknownTier { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "tier_unknown", error)
                .hint("tiers are those that the targets metadata of the Image repository delegates"),
            EnrollError::AlreadyEnrolled(_) => Self::conflict("already_enrolled", error)
                .hint("a vehicle that lost its key or its store enrolls anew with a token of `switchback vehicle enroll --replace`"),
            EnrollError::NotEnrolled(_) => Self::conflict("not_enrolled", error).hint("enroll it without --replace"),
            EnrollError::EcuTaken(_) => Self::conflict("ecu_taken", error),
            EnrollError::TokenInvalid => Self::new(StatusCode::FORBIDDEN, "token_invalid", error)
                .hint("a token works once and for a week; ask the fleet operator for a new one"),
            EnrollError::OtherVehicle { .. } => Self::new(StatusCode::FORBIDDEN, "token_of_another_vehicle", error)
                .hint("the token of a vehicle is made for its id and hardware"),
            EnrollError::OtherSecondaries { .. } => Self::new(StatusCode::FORBIDDEN, "token_of_other_secondaries", error).hint(
                "issue another token with the Secondaries that the vehicle has: `switchback vehicle enroll --secondary SERIAL=HARDWARE`",
            ),
            EnrollError::Secondaries => Self::bad_request("secondaries_malformed", error),
            EnrollError::Random(_) | EnrollError::Registry(_) => Self::internal(&error),
        }
    }
}

impl From<PollError> for Problem {
    fn from(error: PollError) -> Self {
        match &error {
            PollError::NoRoot => {
                Self::unavailable("no_director_root", error).hint("the operator has to publish the Director's root metadata first")
            }
            PollError::NotCertified(_) => Self::unavailable("online_keys_not_certified", error).hint(
                "vehicles ask again by themselves; the operator sees with GET /v1/keys which keys the roots name and the server holds",
            ),
            PollError::TooManyQuestions { wait_s } => {
                let wait_s = *wait_s;
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_questions", error).retry_after(wait_s)
            }
            PollError::NotFound => Self::not_found(error),
            PollError::NotDurable => Self::unavailable("not_durable", error),
            // The vehicle's polls say so again and again until somebody brings the key: the release is named, and so is what to do.
            PollError::ContentKey(ContentKeysError::Missing(_)) => {
                tracing::error!(%error, "a vehicle is not answered");
                Self::unavailable("content_key_missing", error)
                    .hint("vehicles ask again by themselves; they keep driving with what they have")
            }
            PollError::ContentKey(_) | PollError::Registry(_) => Self::internal(&error),
        }
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Replayed { .. } => {
                Self::conflict("manifest_replayed", error).hint("every report carries a higher counter than the one before")
            }
            ReportError::NotDurable => Self::unavailable("not_durable", error),
        }
    }
}

impl From<report::ReportError> for Problem {
    fn from(error: report::ReportError) -> Self {
        let status = match &error {
            report::ReportError::Replayed { .. } => StatusCode::CONFLICT,
            report::ReportError::Malformed(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.name(), error)
    }
}
