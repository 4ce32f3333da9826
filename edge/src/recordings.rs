//! Steps of a recording's life that a route and a task of the edge share, so that each is written once.
//!
//! This file must not know HTTP. What is told to the capture is told after the commit.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use shared::call::{Call, CallState};
use shared::clock::{SharedClock, Timestamp};
use shared::db::events::{self, EventType};
use shared::db::recordings::NewRecording;
use shared::db::{calls, recordings};
use shared::id::{CallId, RecordingId, UserId};
use shared::recording::{Pause, RecordingOptions, RecordingState};
use sqlx::{PgConnection, PgPool};

use crate::error::{ApiError, Code};
use crate::ingest::{EdgeCaptures, Ingest, LiveRecording};

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

/// Starts recordings: at a host's wish, or by itself when the first person comes.
#[derive(Clone)]
pub(crate) struct Starter {
    pub(crate) db: PgPool,
    pub(crate) clock: SharedClock,
    pub(crate) ingest: Ingest,
    pub(crate) max_duration: Duration,
}

/// A recording that was begun in a transaction.
#[derive(Debug)]
pub(crate) struct Begun {
    live: LiveRecording,
    at: Timestamp,
}

impl Starter {
    /// Starts one; the first makes the call active.
    pub(crate) async fn start(
        &self,
        by: &UserId,
        call: &CallId,
        options: &RecordingOptions,
    ) -> Result<(RecordingId, Timestamp), ApiError> {
        let mut tx = self.db.begin().await?;
        let begun = self.begin(&mut tx, by, call, options).await?;
        tx.commit().await?;
        Ok(self.committed(begun))
    }

    /// Starts one in the caller's transaction, which goes on after `disk-full`, `call-ended` and `recording-already-live`:
    /// nothing was changed then.
    pub(crate) async fn begin(
        &self,
        tx: &mut PgConnection,
        by: &UserId,
        call_id: &CallId,
        options: &RecordingOptions,
    ) -> Result<Begun, ApiError> {
        if !self.ingest.has_disk() {
            return Err(ApiError::new(
                Code::DiskFull,
                "the disk is below its reserve; nothing new is recorded",
            ));
        }
        let (id, at) = (RecordingId::generate(), self.clock.now());
        let deadline = at + self.max_duration;
        let call = calls::lock(tx, call_id).await?.ok_or_else(ApiError::no_such_call)?;
        if call.state == CallState::Ended {
            return Err(ApiError::new(Code::CallEnded, "the call has ended"));
        }
        let edge = self.ingest.edge_id();
        let new = NewRecording { id: &id, call: call_id, by, options, edge, at, deadline };
        let started = recordings::start(tx, &new).await?;
        started
            .ok_or_else(|| ApiError::new(Code::RecordingAlreadyLive, "the call is being recorded already"))?;
        if calls::activate(tx, call_id, at).await? {
            events::about_call(tx, EventType::CallStarted, call_id, json!({}), at).await?;
        }
        let data = json!({ "startedBy": by });
        events::about_recording(tx, EventType::RecordingStarted, call_id, &id, data, at).await?;
        let people = calls::participants(tx, call_id).await?;
        let live = LiveRecording {
            id,
            call: call_id.clone(),
            host: call.host,
            participants: people.into_iter().map(|person| person.user).collect(),
            state: RecordingState::Recording,
            pause: Pause::default(),
            deadline_at: deadline,
            edge_captures: EdgeCaptures::of(options),
        };
        Ok(Begun { live, at })
    }

    /// Tells the capture of a recording whose transaction was committed.
    pub(crate) fn committed(&self, Begun { live, at }: Begun) -> (RecordingId, Timestamp) {
        let id = live.id.clone();
        self.ingest.started(live);
        (id, at)
    }
}

/// Ends a call and stops what it records. Ending it again changes nothing.
///
/// # Errors
/// `no-such-call`, and those of the database.
pub(crate) async fn end_call(starter: &Starter, id: &CallId, why: StopReason) -> Result<Call, ApiError> {
    let at = starter.clock.now();
    let mut tx = starter.db.begin().await?;
    // Whoever starts a recording holds the same lock: a call never ends with one that just began.
    calls::lock(&mut tx, id).await?.ok_or_else(ApiError::no_such_call)?;
    let live = recordings::live_of_call(&mut *tx, id).await?;
    if let Some(live) = &live {
        stop(&mut tx, id, &live.id, why, at).await?;
    }
    if calls::end(&mut tx, id, at).await? {
        events::about_call(&mut tx, EventType::CallEnded, id, json!({}), at).await?;
    }
    let call = calls::find(&mut *tx, id).await?.ok_or_else(ApiError::no_such_call)?;
    tx.commit().await?;
    if let Some(live) = live {
        starter.ingest.stopped(&live.id);
    }
    Ok(call)
}
