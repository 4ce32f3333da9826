//! What has arrived of a recording: for clients that lost their tab and send what is missing.
//!
//! For a recording that is live here the answer comes from memory, and the database is asked only about viewers that memory
//! does not know.

use axum::extract::{Path, State};
use serde::Serialize;
use shared::call::Standing;
use shared::db::{calls, recordings, tracks};
use shared::id::{CallId, RecordingId, UserId};
use shared::track::{Track, TrackKind, TrackSource};
use tracing::Span;

use crate::app::App;
use crate::auth::{Caller, Right, Role};
use crate::error::ApiError;
use crate::http::Success;
use crate::ingest::{is_complete, missing};

/// What has arrived of a recording's client tracks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordingUpload {
    /// The recording.
    #[schema(value_type = String)]
    recording_id: RecordingId,
    /// Per participant and kind.
    tracks: Vec<TrackUpload>,
}

/// What has arrived of a track.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrackUpload {
    /// Whose.
    #[schema(value_type = String)]
    participant_id: UserId,
    /// Of which medium.
    kind: TrackKind,
    /// Ranges of sequences held: first and last, ascending.
    #[schema(value_type = Vec<[u64; 2]>)]
    received: Vec<(u64, u64)>,
    /// Ranges missing up to the last declared, or the highest held.
    #[schema(value_type = Vec<[u64; 2]>)]
    missing: Vec<(u64, u64)>,
    /// Chunks held.
    chunks: u64,
    /// Bytes held.
    bytes: u64,
    /// The last sequence, when the client declared it.
    last_sequence: Option<u64>,
    /// Whether the last is declared and nothing is missing.
    complete: bool,
}

impl From<&Track> for TrackUpload {
    fn from(track: &Track) -> Self {
        Self {
            participant_id: track.participant.clone(),
            kind: track.kind,
            received: track.received.clone(),
            missing: missing(track),
            chunks: track.chunks,
            bytes: track.bytes,
            last_sequence: track.last_sequence,
            complete: is_complete(track),
        }
    }
}

/// Tells which chunks have arrived.
#[utoipa::path(
    get,
    path = "/video-calls/recording/{recordingId}/status",
    tag = "chunks",
    params(("recordingId" = String, Path)),
    responses(
        (status = 200, body = Success<RecordingUpload>),
        (status = 403, description = "`not-granted`"),
        (status = 404, description = "`no-such-recording`"),
    )
)]
pub(super) async fn recording_status(
    State(app): State<App>,
    caller: Caller,
    Path(recording): Path<String>,
) -> Result<Success<RecordingUpload>, ApiError> {
    let recording = RecordingId::parse(&recording).map_err(|_| ApiError::no_such_recording())?;
    Span::current().record("recording.id", recording.as_str());
    let (call, known) = match app.ingest.live_standing(&recording, &caller.user) {
        Some((call, standing)) => (call, Some(standing)),
        None => (call_of(&app, &recording).await?, None),
    };
    view(&app, &caller, &call, known).await?;
    let tracks = match app.ingest.live_tracks(&recording) {
        Some(tracks) => tracks,
        None => tracks::of_recording(&app.db, &recording).await?,
    };
    let uploads = tracks.iter().filter(|track| track.source == TrackSource::Client).map(TrackUpload::from);
    Ok(Success::ok(RecordingUpload { tracks: uploads.collect(), recording_id: recording }))
}

async fn call_of(app: &App, recording: &RecordingId) -> Result<CallId, ApiError> {
    let found = recordings::find(&app.db, recording).await?;
    Ok(found.ok_or_else(ApiError::no_such_recording)?.call)
}

/// Host, participants and operators may look.
async fn view(app: &App, caller: &Caller, call: &CallId, known: Option<Standing>) -> Result<(), ApiError> {
    Span::current().record("call.id", call.as_str());
    caller.may(Right::View, call)?;
    if caller.role == Role::Admin || matches!(known, Some(Standing::Host | Standing::Participant)) {
        return Ok(());
    }
    match calls::standing(&app.db, call, &caller.user).await? {
        Some(Standing::Host | Standing::Participant) => Ok(()),
        Some(Standing::Stranger) | None => {
            // As other reads: nobody learns of a recording by asking.
            Err(ApiError::no_such_recording())
        }
    }
}
