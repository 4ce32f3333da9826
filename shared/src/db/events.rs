//! Events: what happened to a recording or a call, in order, written in the transaction of the change that they tell.

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

use crate::clock::Timestamp;
use crate::id::{CallId, RecordingId};

/// The events of the API's section 7. The words are the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A recording began.
    RecordingStarted,
    /// A recording was paused.
    RecordingPaused,
    /// A recording went on after a pause.
    RecordingResumed,
    /// A recording was stopped and waits for late chunks.
    RecordingStopping,
    /// A recording's capture is sealed; jobs make its outputs.
    RecordingProcessing,
    /// The processing has come further by a twentieth of the whole.
    RecordingProgress,
    /// The thumbnails are there.
    ThumbnailsGenerated,
    /// Every artifact is in storage and was read back.
    RecordingUploaded,
    /// Storage did not take a file this time.
    RecordingUploadFailed,
    /// A file was moved from the backup to where it belongs.
    RecordingMoved,
    /// Storage did not delete a file this time.
    RecordingDeleteFailed,
    /// A recording is finished.
    RecordingCompleted,
    /// A recording was given up.
    RecordingFailed,
    /// A recording was deleted.
    RecordingDeleted,
    /// A call was created.
    CallCreated,
    /// The first person came.
    CallStarted,
    /// A call is over.
    CallEnded,
    /// Somebody came into a call.
    ParticipantJoined,
    /// Somebody went.
    ParticipantLeft,
}

impl EventType {
    /// The word in rows, streams and webhooks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordingStarted => "recording.started",
            Self::RecordingPaused => "recording.paused",
            Self::RecordingResumed => "recording.resumed",
            Self::RecordingStopping => "recording.stopping",
            Self::RecordingProcessing => "recording.processing",
            Self::RecordingProgress => "recording.progress",
            Self::ThumbnailsGenerated => "thumbnails.generated",
            Self::RecordingUploaded => "recording.uploaded",
            Self::RecordingUploadFailed => "recording.upload-failed",
            Self::RecordingMoved => "recording.moved",
            Self::RecordingDeleteFailed => "recording.delete-failed",
            Self::RecordingCompleted => "recording.completed",
            Self::RecordingFailed => "recording.failed",
            Self::RecordingDeleted => "recording.deleted",
            Self::CallCreated => "call.created",
            Self::CallStarted => "call.started",
            Self::CallEnded => "call.ended",
            Self::ParticipantJoined => "participant.joined",
            Self::ParticipantLeft => "participant.left",
        }
    }
}

/// An event as its row holds it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EventRow {
    /// Grows with every event.
    pub id: i64,
    /// The word of [`EventType::as_str`].
    #[serde(rename = "type")]
    pub kind: String,
    /// What there is to say beyond the word.
    pub data: Value,
    /// When it happened.
    pub at: Timestamp,
}

/// Appends an event about a recording.
///
/// # Errors
/// Those of the database.
pub async fn about_recording(
    tx: &mut PgConnection,
    event: EventType,
    call: &CallId,
    recording: &RecordingId,
    data: Value,
    at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into event (type, call_id, recording_id, data, at) values ($1, $2, $3, $4, $5)",
        event.as_str(),
        call.as_str(),
        recording.as_str(),
        data,
        at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Appends an event about a recording whose call is not at hand; also about one that was deleted.
///
/// # Errors
/// Those of the database.
pub async fn about(
    db: impl PgExecutor<'_>,
    event: EventType,
    recording: &RecordingId,
    data: Value,
    at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into event (type, call_id, recording_id, data, at)
         select $1, call_id, id, $3, $4 from recording where id = $2",
        event.as_str(),
        recording.as_str(),
        data,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Appends an event about a call.
///
/// # Errors
/// Those of the database.
pub async fn about_call(
    tx: &mut PgConnection,
    event: EventType,
    call: &CallId,
    data: Value,
    at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into event (type, call_id, data, at) values ($1, $2, $3, $4)",
        event.as_str(),
        call.as_str(),
        data,
        at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The most events that one read returns.
pub const LOG_PAGE: i64 = 1_000;

/// A recording's events after the one with id `after`, in order.
///
/// # Errors
/// Those of the database.
pub async fn of_recording(
    db: impl PgExecutor<'_>,
    recording: &RecordingId,
    after: i64,
) -> sqlx::Result<Vec<EventRow>> {
    sqlx::query_as!(
        EventRow,
        "select id, type as kind, data, at from event where recording_id = $1 and id > $2 order by id limit $3",
        recording.as_str(),
        after,
        LOG_PAGE,
    )
    .fetch_all(db)
    .await
}
