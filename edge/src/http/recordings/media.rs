//! The files of a recording: a redirect to storage that hands out addresses, or the bytes themselves, in parts if asked.
//!
//! From a folder, parts, conditions and content types are tower-http's work; what it lacks is `If-Range`, by which a browser resumes a download
//! only if the file is still the same, and which ranges are answered how: see `range`.

use std::path::Path as FilePath;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::recording::{Recording, RecordingState};
use shared::storage::Link;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::http::access;
use crate::http::extract::{Query, RecordingPath};

mod range;
mod stream;

/// Read from disk and written to the connection at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(download)).routes(routes!(thumbnail))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The id of the file; absent: the recording itself.
    artifact: Option<String>,
}

/// The token in the query, for the document alone: the gate reads it.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter that the gate reads")]
struct QueryToken {
    /// The token, where no header can be set.
    token: Option<String>,
}

/// A file of a recording: 302 to a short-lived address, or the bytes, with `Range`.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}/recording/{recordingId}/download",
    tag = "recordings",
    params(("callId" = String, Path), ("recordingId" = String, Path), Which, QueryToken),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 206, description = "The part that `Range` asks for"),
        (status = 302, description = "An address that is good for `PRESIGN_TTL`"),
        (status = 304, description = "The file has not changed"),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`, `no-such-recording`, `no-such-artifact`"),
        (status = 409, description = "`recording-not-ready`: there is no file yet, or never will be"),
        (status = 412, description = "`precondition-failed`"),
        (status = 416, description = "`range-not-satisfiable`")
    )
)]
async fn download(
    State(app): State<App>,
    caller: Caller,
    path: RecordingPath,
    Query(which): Query<Which>,
    request: Request,
) -> Result<Response, ApiError> {
    let (_, recording) = access::viewed_recording(&app.db, &caller, &path.call, &path.recording).await?;
    let file = find(&app, &recording, |file| match &which.artifact {
        Some(id) => file.id.as_str() == id,
        None => Some(&file.storage_key) == recording.output_key.as_ref(),
    })
    .await?;
    let disposition = format!("attachment; filename=\"{}\"", file_name(&recording, &file));
    serve(&app, &file, &disposition, request).await
}

/// A picture from a recording, n from 0.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}/recording/{recordingId}/thumbnails/{n}",
    tag = "recordings",
    params(("callId" = String, Path), ("recordingId" = String, Path), ("n" = u32, Path), QueryToken),
    responses(
        (status = 200, description = "The picture", content_type = "image/jpeg"),
        (status = 302, description = "An address that is good for `PRESIGN_TTL`"),
        (status = 304, description = "The picture has not changed"),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`, `no-such-recording`, `no-such-artifact`"),
        (status = 409, description = "`recording-not-ready`")
    )
)]
async fn thumbnail(
    State(app): State<App>,
    caller: Caller,
    path: RecordingPath,
    Path(place): Path<Place>,
    request: Request,
) -> Result<Response, ApiError> {
    let n: u32 = place.n.parse().map_err(|_| no_such_artifact())?;
    let (_, recording) = access::viewed_recording(&app.db, &caller, &path.call, &path.recording).await?;
    let file =
        find(&app, &recording, |file| file.kind == ArtifactKind::Thumbnail && file.ordinal == n).await?;
    serve(&app, &file, "inline", request).await
}

#[derive(Debug, Deserialize)]
struct Place {
    n: String,
}

async fn find(
    app: &App,
    recording: &Recording,
    wanted: impl Fn(&Artifact) -> bool,
) -> Result<Artifact, ApiError> {
    let files = artifacts::of_recording(&app.db, &recording.id).await?;
    match files.into_iter().find(wanted) {
        Some(file) if file.stored_at.is_some() => Ok(file),
        Some(_) => Err(not_ready("the file is not in storage yet")),
        None if recording.state == RecordingState::Completed => Err(no_such_artifact()),
        None if recording.state == RecordingState::Failed => Err(not_ready("the recording has failed")),
        None => Err(not_ready("the recording is not finished yet")),
    }
}

async fn serve(
    app: &App,
    file: &Artifact,
    disposition: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let link = Link { valid: app.settings.presign_ttl, disposition: Some(disposition.to_owned()) };
    let storage = app.storage.at(file.destination())?;
    if file.is_elsewhere(&storage.place()) && storage.head(&file.storage_key).await?.is_none() {
        return Err(lost(file));
    }
    let mut response = match storage.temporary_url(&file.storage_key, &link).await? {
        Some(url) => found(&url),
        None => match storage.local_path(&file.storage_key) {
            Some(path) => from_disk(&path, request.headers(), request.method().clone()).await?,
            None => stream::serve(storage.as_ref(), file, request.headers(), request.method()).await?,
        },
    };
    match response.status() {
        StatusCode::NOT_FOUND => return Err(lost(file)),
        status if status.is_success() => {
            let mut set = |name: HeaderName, value: &str| {
                HeaderValue::from_str(value).map(|value| response.headers_mut().insert(name, value))
            };
            set(header::CONTENT_TYPE, &file.content_type).map_err(ApiError::internal)?;
            set(header::CONTENT_DISPOSITION, disposition).map_err(ApiError::internal)?;
            // A recording that is processed anew has other bytes under the same address.
            set(header::CACHE_CONTROL, "private, no-cache").map_err(ApiError::internal)?;
        }
        _ => {}
    }
    Ok(response)
}

fn found(url: &str) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    let mut response = (no_store, Redirect::temporary(url)).into_response();
    *response.status_mut() = StatusCode::FOUND;
    response
}

/// Serves a file. With `If-Range` (RFC 9110, section 13.1.5): the part if the file is the one that the caller has begun with,
/// else the whole.
async fn from_disk(
    path: &FilePath,
    headers: &HeaderMap,
    method: axum::http::Method,
) -> Result<Response, ApiError> {
    let mut headers = relevant(headers);
    let Some(held) = headers.remove(header::IF_RANGE) else { return one(path, headers, method).await };
    let mut as_condition = headers.clone();
    let condition =
        if held.as_bytes().ends_with(b"\"") { header::IF_MATCH } else { header::IF_UNMODIFIED_SINCE };
    as_condition.insert(condition, held);
    let part = one(path, as_condition, method.clone()).await?;
    if part.status() != StatusCode::PRECONDITION_FAILED {
        return Ok(part);
    }
    headers.remove(header::RANGE);
    one(path, headers, method).await
}

async fn one(
    path: &FilePath,
    mut headers: HeaderMap,
    method: axum::http::Method,
) -> Result<Response, ApiError> {
    if let Some(asked) = headers.remove(header::RANGE)
        && let Ok(file) = tokio::fs::metadata(path).await
        && let Some(part) = range::of(&asked, file.len())
    {
        headers.insert(header::RANGE, part);
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let served = ServeFile::new(path).with_buf_chunk_size(BLOCK_BYTES).oneshot(request).await;
    served.map(IntoResponse::into_response).map_err(ApiError::internal)
}

fn relevant(headers: &HeaderMap) -> HeaderMap {
    let wanted = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    wanted.into_iter().filter_map(|name| headers.get(&name).map(|value| (name, value.clone()))).collect()
}

/// A name that says which call and when, made of characters that every file system takes.
fn file_name(recording: &Recording, file: &Artifact) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }).collect()
    };
    let (_, ending) = file.storage_key.rsplit_once('.').unwrap_or(("", "bin"));
    let person = file.participant.as_ref().map(|user| format!("-{}", plain(user.as_str())));
    let began = recording.started_at.format("%Y%m%d-%H%M%S");
    format!("{}-{began}{}.{}", plain(recording.call.as_str()), person.unwrap_or_default(), plain(ending))
}

fn lost(file: &Artifact) -> ApiError {
    ApiError::internal(anyhow::anyhow!("artifact {} is not in storage as {}", file.id, file.storage_key))
}

fn no_such_artifact() -> ApiError {
    ApiError::new(Code::NoSuchArtifact, "the recording has no such file")
}

fn not_ready(detail: &'static str) -> ApiError {
    ApiError::new(Code::RecordingNotReady, detail)
}
