//! Recordings: start, pause, resume, stop, list, look, delete. Their files are served by `media`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::db::{artifacts, recordings, tracks};
use shared::id::CallId;
use shared::recording::{Recording, RecordingOptions, RecordingState};
use tracing::Span;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::cursor::{self, PageQuery, Placed};
use super::extract::{CallPath, Query, RecordingPath};
use super::{Json, Success, access};
use crate::app::App;
use crate::auth::{Caller, Right};
use crate::error::ApiError;

mod media;
pub(super) mod options;
mod steps;
mod view;

pub use media::router as media_router;
use steps::Turn;
use view::RecordingView;

/// The control routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(list))
        .routes(routes!(get, delete))
}

/// A recording that has just begun.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Started {
    /// The recording's id.
    id: String,
    /// The recording's id, by its other name.
    recording_id: String,
    /// The call.
    call_id: String,
    /// The call, by its other name.
    room_id: String,
    /// `recording`.
    status: RecordingState,
    /// When it began.
    started_at: DateTime<Utc>,
}

/// A recording that was just stopped.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    /// The recording's id.
    id: String,
    /// The recording's id, by its other name.
    recording_id: String,
    /// The call.
    call_id: String,
    /// `stopping`: late chunks are still taken; then it is `processing`.
    status: RecordingState,
    /// When it was stopped.
    stopped_at: DateTime<Utc>,
}

/// A recording that was just paused, or goes on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Turned {
    /// The recording's id.
    id: String,
    /// The recording's id, by its other name.
    recording_id: String,
    /// The call.
    call_id: String,
    /// `paused`, or `recording` again.
    status: RecordingState,
    /// Since when.
    since: DateTime<Utc>,
}

/// Starts recording a call.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/recording/start",
    tag = "recordings",
    params(("callId" = String, Path)),
    request_body = Option<RecordingOptions>,
    responses(
        (status = 201, description = "Recording", body = Success<Started>),
        (status = 403, description = "`forbidden`: not the host; `not-granted`: the token lacks `record`"),
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`recording-already-live`, `call-ended`"),
        (status = 422, description = "`invalid-options`, with the reason"),
        (status = 507, description = "`disk-full`: the disk is below its reserve")
    )
)]
async fn start(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
    body: Option<Json<Value>>,
) -> Result<Success<Started>, ApiError> {
    access::must_host(&app.db, &caller, Right::Record, &call).await?;
    let options = body.map(|Json(body)| options::parse(body)).transpose()?.unwrap_or_default();
    let live = app.to_the_end(steps::start(app.clone(), caller.user, call, options)).await?;
    Span::current().record("recording.id", live.id.as_str());
    Ok(Success::created(Started {
        id: live.id.to_string(),
        recording_id: live.id.to_string(),
        call_id: live.call.to_string(),
        room_id: live.call.to_string(),
        status: RecordingState::Recording,
        started_at: live.at,
    }))
}

/// Stops the call's live recording. Late chunks are taken for a while; then it is processed.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/recording/stop",
    tag = "recordings",
    params(("callId" = String, Path)),
    responses(
        (status = 202, description = "Stopped; work goes on in a job", body = Success<Stopped>),
        (status = 403, description = "`forbidden`: not the host; `not-granted`: the token lacks `record`"),
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`recording-not-live`")
    )
)]
async fn stop(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
) -> Result<Success<Stopped>, ApiError> {
    access::must_host(&app.db, &caller, Right::Record, &call).await?;
    let stopped = app.to_the_end(steps::stop(app.clone(), call)).await?;
    Span::current().record("recording.id", stopped.id.as_str());
    let view = Stopped {
        id: stopped.id.to_string(),
        recording_id: stopped.id.to_string(),
        call_id: stopped.call.to_string(),
        status: RecordingState::Stopping,
        stopped_at: stopped.at,
    };
    Ok(Success::accepted(view).message("the recording has stopped and will be processed"))
}

/// Pauses the call's live recording: what is said meanwhile is in no file. The recording's longest duration counts pauses in.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/recording/pause",
    tag = "recordings",
    params(("callId" = String, Path)),
    responses(
        (status = 200, description = "Paused", body = Success<Turned>),
        (status = 403, description = "`forbidden`: not the host; `not-granted`: the token lacks `record`"),
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`recording-not-live`, `recording-paused`: it is already")
    )
)]
async fn pause(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
) -> Result<Success<Turned>, ApiError> {
    turn(app, caller, call, Turn::Pause, RecordingState::Paused).await
}

/// Lets the call's paused recording go on. In the files, what follows stands where the pause began.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/recording/resume",
    tag = "recordings",
    params(("callId" = String, Path)),
    responses(
        (status = 200, description = "Recording again", body = Success<Turned>),
        (status = 403, description = "`forbidden`: not the host; `not-granted`: the token lacks `record`"),
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`recording-not-live`, `recording-not-paused`")
    )
)]
async fn resume(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
) -> Result<Success<Turned>, ApiError> {
    turn(app, caller, call, Turn::Resume, RecordingState::Recording).await
}

async fn turn(
    app: App,
    caller: Caller,
    call: CallId,
    turn: Turn,
    status: RecordingState,
) -> Result<Success<Turned>, ApiError> {
    access::must_host(&app.db, &caller, Right::Record, &call).await?;
    let turned = app.to_the_end(steps::turn(app.clone(), call, turn)).await?;
    Span::current().record("recording.id", turned.id.as_str());
    Ok(Success::ok(Turned {
        id: turned.id.to_string(),
        recording_id: turned.id.to_string(),
        call_id: turned.call.to_string(),
        status,
        since: turned.at,
    }))
}

/// The call's recordings, newest first.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}/recordings",
    tag = "recordings",
    params(("callId" = String, Path), PageQuery),
    responses(
        (status = 200, description = "Recordings", body = Success<Vec<RecordingView>>),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`")
    )
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
    Query(query): Query<PageQuery>,
) -> Result<Success<Vec<RecordingView>>, ApiError> {
    let call = access::viewed(&app.db, &caller, &call).await?;
    let (limit, after) = (query.limit()?, query.after()?);
    let rows = recordings::of_call(&app.db, &call.id, after.as_ref(), i64::from(limit) + 1).await?;
    let (rows, next) = cursor::page(rows, limit);
    Ok(Success::ok(views(&app, rows).await?).next_cursor(next))
}

/// A recording with its files, its tracks and what is missing from them.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}/recording/{recordingId}",
    tag = "recordings",
    params(("callId" = String, Path), ("recordingId" = String, Path)),
    responses(
        (status = 200, description = "The recording", body = Success<RecordingView>),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`, `no-such-recording`")
    )
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    path: RecordingPath,
) -> Result<Success<RecordingView>, ApiError> {
    let (_, recording) = access::viewed_recording(&app.db, &caller, &path.call, &path.recording).await?;
    let mut views = views(&app, vec![recording]).await?;
    views.pop().map(Success::ok).ok_or_else(ApiError::no_such_recording)
}

/// Deletes a finished recording: it is gone for callers at once, and a job removes every object and capture of it.
#[utoipa::path(
    delete,
    path = "/video-calls/{callId}/recording/{recordingId}",
    tag = "recordings",
    params(("callId" = String, Path), ("recordingId" = String, Path)),
    responses(
        (status = 202, description = "Deleted; a job removes its files", body = Success<Deleted>),
        (status = 403, description = "`forbidden`: not the host; `not-granted`: the token lacks `record`"),
        (status = 404, description = "`no-such-call`, `no-such-recording`"),
        (status = 409, description = "`recording-live`: it is not yet completed or failed")
    )
)]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    path: RecordingPath,
) -> Result<Success<Deleted>, ApiError> {
    access::must_host(&app.db, &caller, Right::Record, &path.call).await?;
    steps::delete(&app, &path.call, &path.recording).await?;
    let deleted = Deleted { id: path.recording.to_string(), status: RecordingState::Deleted };
    Ok(Success::accepted(deleted).message("the recording is deleted; its files are being removed"))
}

/// A recording that is no more.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Deleted {
    /// Its id.
    id: String,
    /// `deleted`.
    status: RecordingState,
}

/// Recordings with what belongs to them. Tracks of a recording that this edge captures are known here before the database
/// knows them.
async fn views(app: &App, recordings: Vec<Recording>) -> Result<Vec<RecordingView>, ApiError> {
    let ids: Vec<_> = recordings.iter().map(|recording| recording.id.clone()).collect();
    let mut files = artifacts::of_recordings(&app.db, &ids).await?;
    let mut tracks = tracks::of_recordings(&app.db, &ids).await?;
    let views = recordings.into_iter().map(|recording| {
        let own_files: Vec<_> = files.extract_if(.., |file| file.recording == recording.id).collect();
        let own_tracks: Vec<_> = tracks.extract_if(.., |track| track.recording == recording.id).collect();
        let own_tracks = app.ingest.live_tracks(&recording.id).unwrap_or(own_tracks);
        RecordingView::of(recording, &own_files, own_tracks, &app.links)
    });
    Ok(views.collect())
}

impl Placed for Recording {
    fn place(&self) -> (DateTime<Utc>, &str) {
        (self.started_at, self.id.as_str())
    }
}
