//! What happens to a recording at its host's wish, each step one transaction; the capture is told after the commit.

use serde_json::json;
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::id::{CallId, RecordingId, UserId};
use shared::jobs::{self, DeleteRecording};
use shared::recording::{RecordingOptions, RecordingState};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::recordings::StopReason;

/// A recording and when its step was taken.
pub(super) struct Taken {
    pub(super) id: RecordingId,
    pub(super) call: CallId,
    pub(super) at: Timestamp,
}

/// Starts a recording; the first one makes the call active.
pub(super) async fn start(
    app: App,
    by: UserId,
    call: CallId,
    options: RecordingOptions,
) -> Result<Taken, ApiError> {
    if options.expires_at.is_some_and(|at| at <= app.clock.now()) {
        return Err(ApiError::new(Code::InvalidOptions, "expiresAt is in the future"));
    }
    let (id, at) = app.starter().start(&by, &call, &options).await?;
    Ok(Taken { id, call, at })
}

/// Stops the call's live recording.
pub(super) async fn stop(app: App, call: CallId) -> Result<Taken, ApiError> {
    let at = app.clock.now();
    let mut tx = app.db.begin().await?;
    let live = recordings::live_of_call(&mut *tx, &call).await?.ok_or_else(not_live)?;
    let stopped = crate::recordings::stop(&mut tx, &call, &live.id, StopReason::Asked, at).await?;
    stopped.ok_or_else(not_live)?;
    tx.commit().await?;
    app.ingest.stopped(&live.id);
    Ok(Taken { id: live.id, call, at })
}

/// What a host does with a recording that goes on afterwards, or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// `recording → paused`.
    Pause,
    /// `paused → recording`.
    Resume,
}

/// Lets the call's live recording rest, or go on.
pub(super) async fn turn(app: App, call: CallId, turn: Turn) -> Result<Taken, ApiError> {
    let at = app.clock.now();
    let mut tx = app.db.begin().await?;
    let live = recordings::live_of_call(&mut *tx, &call).await?.ok_or_else(not_live)?;
    let (turned, event) = match turn {
        Turn::Pause => (recordings::pause(&mut tx, &live.id, at).await?, EventType::RecordingPaused),
        Turn::Resume => (recordings::resume(&mut tx, &live.id, at).await?, EventType::RecordingResumed),
    };
    let pause = turned.ok_or_else(|| match (turn, live.state) {
        (Turn::Pause, RecordingState::Paused) => {
            ApiError::new(Code::RecordingPaused, "the recording is paused already")
        }
        (Turn::Resume, RecordingState::Recording) => {
            ApiError::new(Code::RecordingNotPaused, "the recording is not paused")
        }
        _ => not_live(),
    })?;
    events::about_recording(&mut tx, event, &call, &live.id, json!({}), at).await?;
    tx.commit().await?;
    app.ingest.turned(&live.id, pause);
    Ok(Taken { id: live.id, call, at })
}

fn not_live() -> ApiError {
    ApiError::new(Code::RecordingNotLive, "the call is not being recorded")
}

/// Deletes a recording that is finished, and enqueues the removal of its files.
pub(super) async fn delete(app: &App, call: &CallId, id: &RecordingId) -> Result<(), ApiError> {
    let at = app.clock.now();
    let mut tx = app.db.begin().await?;
    let found = recordings::find(&mut *tx, id).await?.filter(|recording| recording.call == *call);
    found.ok_or_else(ApiError::no_such_recording)?;
    let deleted = recordings::delete(&mut tx, id, at).await?;
    deleted.ok_or_else(|| ApiError::new(Code::RecordingLive, "the recording is not finished yet"))?;
    events::about_recording(&mut tx, EventType::RecordingDeleted, call, id, json!({}), at).await?;
    jobs::enqueue(&mut tx, &DeleteRecording { recording: id.clone() }).await?;
    tx.commit().await?;
    Ok(())
}
