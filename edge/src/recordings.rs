//! Steps of a recording's life that a route and a task of the edge share, so that each is written once.
//!
//! This file must not know HTTP; it runs on a transaction of the caller.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::id::{CallId, RecordingId};
use sqlx::PgConnection;

/// The longest that a stopped recording goes on taking late chunks: a client that comes back with all of a long recording
/// still to send gets this much time; one that trickles for ever does not hold the recording.
pub const FINISH_MAX: Duration = Duration::from_secs(60 * 60);
/// When the sweeper may end a recording that is `stopping`: [`FINISH_MAX`], and half an hour for a database that was away.
pub const STOPPING_DEADLINE: TimeDelta = TimeDelta::minutes(90);
/// Why a recording was stopped; told by its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The host asked for it.
    Asked,
    /// Its call ended.
    CallEnded,
    /// It reached `RECORDING_MAX_DURATION`.
    MaxDuration,
}

impl StopReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::CallEnded => "call-ended",
            Self::MaxDuration => "max-duration",
        }
    }
}

/// `recording | paused → stopping`, with its event. `None`: the recording was in another state, and nothing was changed.
///
/// # Errors
/// Those of the database.
pub async fn stop(
    tx: &mut PgConnection,
    call: &CallId,
    recording: &RecordingId,
    reason: StopReason,
    at: Timestamp,
) -> sqlx::Result<Option<()>> {
    let Some(()) = recordings::stop(tx, recording, at, at + STOPPING_DEADLINE).await? else {
        return Ok(None);
    };
    let data = json!({ "reason": reason.as_str() });
    events::about_recording(tx, EventType::RecordingStopping, call, recording, data, at).await?;
    Ok(Some(()))
}
