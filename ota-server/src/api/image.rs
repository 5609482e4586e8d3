//! The Image repository over HTTP: the same for every vehicle, cacheable anywhere.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG},
    },
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use serde_json::json;

use super::{
    Problem,
    range::{Wanted, wanted},
    read, wire,
};
use crate::{
    server::{METADATA_BYTES_MAX, PublishError, Server, Uncertified},
    storage::{Incoming, TargetFile},
};

/// An upload that brings nothing for this long is dead.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A file whose name says its version or hash.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// `timestamp.json`, the one file that changes.
const REVALIDATED: &str = "public, no-cache";

/// `GET /v1/image/metadata/{file}`.
pub(super) async fn metadata(State(server): State<Arc<Server>>, Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = server.image_metadata(&file).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("the Image repository has no metadata file {file}")))?;
    let etag = format!("\"{}-{}\"", found.role, found.version);
    let cache = if file == "timestamp.json" { REVALIDATED } else { IMMUTABLE };
    let length = found.bytes.len() as u64;
    let (status, range) = match wanted(&headers, &etag, length) {
        Wanted::NotModified => return Ok(not_modified(&etag, cache)),
        Wanted::Unsatisfiable => return Ok(unsatisfiable(length)),
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    // Within the file, whose length is that of memory.
    let bytes = found.bytes[range.start as usize..range.end as usize].to_vec();
    Ok(content(status, wire::JSON, cache, &etag, &range, length, Body::from(bytes)))
}

/// `GET /v1/image/targets/{folder}/{file}`. The bytes are never whole in memory.
pub(super) async fn target(
    State(server): State<Arc<Server>>,
    Path((folder, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("there is no such target");
    let file = TargetFile::parse(&folder, &file).ok_or_else(missing)?;
    let length = server.storage.length(&file).await?.ok_or_else(missing)?;
    let etag = format!("\"{}\"", file.sha256());
    let (status, range) = match wanted(&headers, &etag, length) {
        Wanted::NotModified => return Ok(not_modified(&etag, IMMUTABLE)),
        Wanted::Unsatisfiable => return Ok(unsatisfiable(length)),
        Wanted::Whole => (StatusCode::OK, 0..length),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
    };
    // The store refuses an empty range.
    let part = (range.end > range.start).then(|| range.clone());
    let stream = server.storage.open(&file, part).await?.into_stream();
    Ok(content(status, "application/octet-stream", IMMUTABLE, &etag, &range, length, Body::from_stream(stream)))
}

/// `PUT /v1/image/targets/{folder}/{file}`.
pub(super) async fn put_target(
    State(server): State<Arc<Server>>,
    Path((folder, file)): Path<(String, String)>,
    body: Body,
) -> Result<Response, Problem> {
    let file = TargetFile::parse(&folder, &file).ok_or_else(|| {
        Problem::bad_request("target_name_malformed", "a target is uploaded as FOLDER/SHA256.NAME, with lower-case hexadecimal digits")
    })?;
    if let Some(length) = server.storage.length(&file).await? {
        return Ok((StatusCode::OK, Json(json!({"length": length, "stored": false}))).into_response());
    }
    let mut incoming = server.storage.receive(&file, server.config.target_bytes_max).await?;
    if let Err(problem) = pass_on(body, &mut incoming).await {
        incoming.abort().await?;
        return Err(problem);
    }
    let length = incoming.finish().await?;
    tracing::info!(target.sha256 = %file.sha256(), target.bytes = length, "target stored");
    Ok((StatusCode::CREATED, Json(json!({"length": length, "stored": true}))).into_response())
}

/// Passes a body on as it comes; the pace is the slower one of network and disk.
async fn pass_on(mut body: Body, incoming: &mut Incoming) -> Result<(), Problem> {
    loop {
        let frame = tokio::time::timeout(PAUSE_MAX, body.frame()).await;
        let frame = frame.map_err(|_| {
            let detail = "the upload brought nothing for too long";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail)
        })?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| Problem::bad_request("broken_off", error))?;
        if let Ok(bytes) = frame.into_data() {
            incoming.push(&bytes).await?;
        }
    }
}

/// `PUT /v1/image/metadata/{file}?uncertified=accept`.
pub(super) async fn put_metadata(
    State(server): State<Arc<Server>>,
    Path(file): Path<String>,
    query: Result<Query<wire::RootQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let uncertified = uncertified(query)?;
    let bytes = read(body, METADATA_BYTES_MAX).await?;
    let published = server.publish_image_metadata(&file, bytes.to_vec(), uncertified).await?;
    Ok(Json(wire::published(&published)).into_response())
}

/// `PUT /v1/director/root/{file}?uncertified=accept`.
pub(super) async fn put_director_root(
    State(server): State<Arc<Server>>,
    Path(file): Path<String>,
    query: Result<Query<wire::RootQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let uncertified = uncertified(query)?;
    let bytes = read(body, METADATA_BYTES_MAX).await?;
    let published = server.publish_director_root(&file, bytes.to_vec(), uncertified).await?;
    Ok(Json(wire::published(&published)).into_response())
}

fn uncertified(query: Result<Query<wire::RootQuery>, QueryRejection>) -> Result<Uncertified, Problem> {
    let Query(wire::RootQuery { uncertified }) = query.map_err(|error| Problem::bad_request("query_malformed", error.body_text()))?;
    Ok(uncertified.into())
}

pub(super) fn not_modified(etag: &str, cache: &'static str) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, etag), (CACHE_CONTROL, cache)]).into_response()
}

fn unsatisfiable(length: u64) -> Response {
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_unsatisfiable", format!("there are only {length} bytes"));
    ([(CONTENT_RANGE, format!("bytes */{length}"))], problem).into_response()
}

fn content(
    status: StatusCode,
    kind: &'static str,
    cache: &'static str,
    etag: &str,
    range: &core::ops::Range<u64>,
    length: u64,
    body: Body,
) -> Response {
    let mut response =
        (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, cache), (ACCEPT_RANGES, "bytes"), (ETAG, etag)], body).into_response();
    let mut set = |name: HeaderName, text: String| {
        // Digits and fixed words are legal in a header.
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().insert(name, value);
        }
    };
    set(CONTENT_LENGTH, (range.end - range.start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    response
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::NameMalformed(_) => Self::bad_request("metadata_name_malformed", error)
                .hint("uploads are named N.root.json, N.targets.json or N.ROLE.json; snapshot and timestamp are made here"),
            PublishError::NameDiffers { .. } => Self::bad_request("metadata_name_differs", error),
            PublishError::NotTrusted(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "metadata_refused", error)
                .hint("`switchback verify` says what a vehicle would say about these files"),
            PublishError::Metadata(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "metadata_malformed", error),
            PublishError::KeysNotCertified(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "online_keys_not_certified", error).hint(
                "have the root name the keys of this server with `switchback root online-keys`; a root that must revoke keys at once \
                     goes out with `switchback publish --without-online-keys`, and nothing new is signed until the server has its keys",
            ),
            PublishError::RootMissing(_) => Self::conflict("root_missing", error).hint("publish the root metadata first"),
            PublishError::TargetMissing { .. } => {
                Self::conflict("target_missing", error).hint("upload the bytes of all targets before the metadata that lists them")
            }
            PublishError::ContentKeyMissing { .. } => Self::conflict("content_key_missing", error)
                .hint("`switchback publish` sends the key that `pack --encrypt` wrote beside the bundle, or the one of --content-key FILE"),
            PublishError::OtherContent { .. } => Self::conflict("release_content_differs", error)
                .hint("give the new bundle a version of its own; what was approved is this content and no other"),
            PublishError::TargetUnusable { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "target_unusable", error),
            PublishError::Storage(_) | PublishError::Registry(_) | PublishError::Signer(_) => Self::internal(&error),
        }
    }
}
