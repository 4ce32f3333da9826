//! The routes of client-side recording (API, section 5): upload, complete, status.
//!
//! This file must not know how chunks become durable; that is the ingest's. Everything that can be decided from the headers
//! (413, 400, 403, 404, 409, 507) is decided before a byte of the body is read, so that a client that waits for
//! `100 Continue` never sends what would be refused.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::capture::ReceivedBody;
use shared::id::{RecordingId, UserId};
use shared::track::TrackKind;
use tracing::Span;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::{Caller, Right};
use crate::http::Success;
use crate::ingest::{Admission, ChunkResult, NewChunk, Outcome, Stored};

mod body;
mod digest;
mod full;
mod head;
mod json;
mod problem;
mod status;

use body::Arriving;
pub(crate) use body::linger;
use head::{Head, Medium};
use problem::Problem;

/// The most bytes of the body of `complete`: one number in JSON, with room for white space.
const COMPLETE_MAX_BYTES: u64 = 1024;

/// The routes of this file. `linger` belongs around them and around whatever may answer in their place.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(put_chunk))
        .routes(routes!(upload_chunk))
        .routes(routes!(complete_track))
        .routes(routes!(status::recording_status))
}

/// A chunk that is on stable storage.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkStored {
    /// The recording.
    #[schema(value_type = String)]
    recording_id: RecordingId,
    /// The participant.
    #[schema(value_type = String)]
    participant_id: UserId,
    /// The medium.
    #[serde(rename = "type")]
    kind: TrackKind,
    /// Its place in the track.
    sequence: u64,
    /// Bytes.
    size: u64,
    /// SHA-256 of the bytes, hex.
    sha256: String,
}

/// How both ways of uploading a chunk are answered, beside 400.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only the description is used")]
enum UploadAnswer {
    /// On stable storage
    #[response(status = 201)]
    Stored(Success<ChunkStored>),
    /// The same bytes were held already
    #[response(status = 200)]
    Duplicate(Success<ChunkStored>),
    /// Another edge holds the recording
    #[response(status = 307)]
    Elsewhere,
    /// `not-this-participant`, `not-granted`
    #[response(status = 403)]
    Forbidden,
    /// `no-such-recording`
    #[response(status = 404)]
    Unknown,
    /// `request-timeout`: the body stalled
    #[response(status = 408)]
    Stalled,
    /// `chunk-conflict`, `recording-not-live`
    #[response(status = 409)]
    Conflict,
    /// `body-too-large`
    #[response(status = 413)]
    TooLarge,
    /// `disk-full`: keep the chunk
    #[response(status = 507)]
    DiskFull,
}

/// What a client says when it has sent all that it has.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompleteTrack {
    /// The sequence of the last chunk.
    last_sequence: u64,
}

/// Uploads the bytes of a chunk.
#[utoipa::path(
    put,
    path = "/video-calls/recording/{recordingId}/participants/{participantId}/{kind}/chunks/{sequence}",
    tag = "chunks",
    params(
        ("recordingId" = String, Path),
        ("participantId" = String, Path, description = "The caller's own user id"),
        ("kind" = TrackKind, Path),
        ("sequence" = u64, Path, description = "From 0; order does not matter"),
        ("content-digest" = Option<String>, Header, description = "RFC 9530; `sha-256=:…:` is verified"),
        ("x-chunk-timestamp" = Option<f64>, Header, description = "The client's time, milliseconds since 1970"),
    ),
    request_body(content_type = "video/webm", description = "The blob; the content type is MediaRecorder's `mimeType`"),
    responses(
        UploadAnswer,
        (status = 400, description = "`invalid-chunk`, `invalid-sequence`, `invalid-digest`, `digest-mismatch`, `invalid-mime-type`"),
    )
)]
async fn put_chunk(
    State(app): State<App>,
    caller: Caller,
    Path((recording, participant, kind, sequence)): Path<(String, String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let begun = Instant::now();
    let stored = async {
        let medium = Medium::parse(&recording, &participant, &kind)?;
        let sequence = head::sequence(&sequence)?;
        refuse_length(&headers, app.ingest.chunk_max_bytes())?;
        let head = Head::parse(&headers)?;
        let admission = admit(&app, &caller, &medium).await?;
        if !app.ingest.has_disk() {
            return full::put(&app, &admission, medium, sequence, &head, body).await;
        }
        let received = receive(&app, body).await?;
        head.verify(&received.sha256)?;
        let chunk = NewChunk {
            kind: medium.kind,
            sequence,
            mime: head.mime,
            client_timestamp_ms: head.client_timestamp_ms,
        };
        store(&app, &admission, medium, chunk, received).await
    };
    answer(&app, begun, &uri, stored.await)
}

/// Uploads a chunk as base64 within JSON.
#[utoipa::path(
    post,
    path = "/video-calls/chunks/upload",
    tag = "chunks",
    request_body = json::ChunkUpload,
    responses(
        UploadAnswer,
        (status = 400, description = "`malformed-json`, `invalid-request`, `invalid-chunk`, `invalid-sequence`, `invalid-mime-type`"),
    )
)]
async fn upload_chunk(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let begun = Instant::now();
    let stored = async {
        let max = json::max_bytes(app.ingest.chunk_max_bytes());
        refuse_length(&headers, max)?;
        let full = if app.ingest.has_disk() { None } else { Some(full::body_turn()?) };
        let arriving = Arriving::new(body, app.settings.patience);
        let body = json::collect(arriving, max, app.ingest.scratch_dir()).await?;
        if full.is_some() {
            return full::post(&app, &caller, body).await;
        }
        let (said, received) = json::parse(&app.ingest, body).await?;
        let (medium, chunk) = said.parts()?;
        let admission = admit(&app, &caller, &medium).await?;
        store(&app, &admission, medium, chunk, received).await
    };
    answer(&app, begun, &uri, stored.await)
}

/// Says which chunk of a track is the last: the recording need not wait for more.
#[utoipa::path(
    post,
    path = "/video-calls/recording/{recordingId}/participants/{participantId}/{kind}/complete",
    tag = "chunks",
    params(("recordingId" = String, Path), ("participantId" = String, Path), ("kind" = TrackKind, Path)),
    request_body = CompleteTrack,
    responses(
        (status = 200, description = "Noted on stable storage", body = Success<status::TrackUpload>),
        (status = 307, description = "Another edge holds the recording"),
        (status = 400, description = "`malformed-json`, `invalid-request`; `invalid-sequence`: below what is held, or too high"),
        (status = 403, description = "`not-this-participant`, `not-granted`"),
        (status = 404, description = "`no-such-recording`"),
        (status = 409, description = "`recording-not-live`"),
    )
)]
async fn complete_track(
    State(app): State<App>,
    caller: Caller,
    Path((recording, participant, kind)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let noted = async {
        let medium = Medium::parse(&recording, &participant, &kind)?;
        refuse_too_long(&headers, COMPLETE_MAX_BYTES)?;
        let admission = admit(&app, &caller, &medium).await?;
        let arriving = Arriving::new(body, app.settings.patience);
        let said: CompleteTrack = json::small(arriving, COMPLETE_MAX_BYTES).await?;
        let track = app.ingest.complete(&admission, medium.kind, said.last_sequence).await?;
        Ok::<_, Problem>(Success::ok(status::TrackUpload::from(&track)))
    };
    match noted.await {
        Ok(track) => track.into_response(),
        Err(problem) => problem.answer(&uri),
    }
}

/// Only the participant uploads, with a token that is good for it.
async fn admit(app: &App, caller: &Caller, medium: &Medium) -> Result<Admission, Problem> {
    if caller.user != medium.participant {
        return Err(Problem::NotThisParticipant);
    }
    let admission = app.ingest.admit(&medium.recording, &caller.user).await?;
    Span::current().record("call.id", admission.call().as_str());
    caller.may(Right::Publish, admission.call())?;
    Ok(admission)
}

fn refuse_length(headers: &HeaderMap, max: u64) -> Result<(), Problem> {
    match head::announced_length(headers) {
        Some(0) => Err(Problem::Empty),
        _ => refuse_too_long(headers, max),
    }
}

fn refuse_too_long(headers: &HeaderMap, max: u64) -> Result<(), Problem> {
    match head::announced_length(headers) {
        Some(length) if length > max => Err(Problem::TooLarge(max)),
        _ => Ok(()),
    }
}

async fn receive(app: &App, body: Body) -> Result<ReceivedBody, Problem> {
    let mut arriving = Arriving::new(body, app.settings.patience);
    let mut receiving = app.ingest.receive();
    while let Some(bytes) = arriving.next().await? {
        receiving.push(&bytes).await?;
    }
    Ok(receiving.finish().await?)
}

async fn store(
    app: &App,
    admission: &Admission,
    medium: Medium,
    chunk: NewChunk,
    body: ReceivedBody,
) -> Result<(Stored, ChunkStored), Problem> {
    if body.len == 0 {
        return Err(Problem::Empty);
    }
    let sequence = chunk.sequence;
    let stored = app.ingest.store(admission, chunk, body).await?;
    let told = told(medium, sequence, &stored);
    Ok((stored, told))
}

fn told(medium: Medium, sequence: u64, stored: &Stored) -> ChunkStored {
    ChunkStored {
        recording_id: medium.recording,
        participant_id: medium.participant,
        kind: medium.kind,
        sequence,
        size: stored.size,
        sha256: hex::encode(stored.sha256),
    }
}

/// Counts the upload, and tells its client.
fn answer(app: &App, begun: Instant, uri: &Uri, stored: Result<(Stored, ChunkStored), Problem>) -> Response {
    let took = begun.elapsed();
    match stored {
        Ok((Stored { outcome: Outcome::Stored, size, .. }, told)) => {
            app.ingest.observe(ChunkResult::Stored, size, took);
            Success::created(told).into_response()
        }
        Ok((Stored { outcome: Outcome::Duplicate, .. }, told)) => {
            app.ingest.observe(ChunkResult::Duplicate, 0, took);
            Success::ok(told).into_response()
        }
        Err(problem) => {
            app.ingest.observe(problem.result(), 0, took);
            problem.answer(uri)
        }
    }
}
