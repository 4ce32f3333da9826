//! Tracks: what was captured of whom, and after assembly what is missing.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::{signed, unsigned};
use crate::clock::Timestamp;
use crate::id::{RecordingId, TrackId, UserId};
use crate::track::{Gap, Track, TrackKind, TrackSource};

struct TrackRow {
    id: TrackId,
    recording_id: RecordingId,
    participant_id: UserId,
    source: TrackSource,
    kind: TrackKind,
    mime_type: Option<String>,
    codec: Option<String>,
    started_at: Timestamp,
    duration_ms: Option<i64>,
    chunks: i64,
    bytes: i64,
    received: Json<Vec<(u64, u64)>>,
    last_sequence: Option<i64>,
    gaps: Option<Json<Vec<Gap>>>,
}

impl From<TrackRow> for Track {
    fn from(row: TrackRow) -> Self {
        Self {
            id: row.id,
            recording: row.recording_id,
            participant: row.participant_id,
            source: row.source,
            kind: row.kind,
            mime_type: row.mime_type,
            codec: row.codec,
            started_at: row.started_at,
            duration_ms: row.duration_ms.map(unsigned),
            chunks: unsigned(row.chunks),
            bytes: unsigned(row.bytes),
            received: row.received.0,
            last_sequence: row.last_sequence.map(unsigned),
            gaps: row.gaps.map(|gaps| gaps.0),
        }
    }
}

/// Writes what is known of a captured track; called when it appears, and with the final facts when it is sealed.
///
/// # Errors
/// Those of the database.
pub async fn upsert(db: impl PgExecutor<'_>, track: &Track) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into track (id, recording_id, participant_id, source, kind, mime_type, started_at, chunks, bytes,
             received, last_sequence)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (id) do update set mime_type = excluded.mime_type, chunks = excluded.chunks, bytes = excluded.bytes,
             received = excluded.received, last_sequence = excluded.last_sequence
         -- A fact that waited out an outage must not undo a later one.
         where excluded.chunks > track.chunks or (excluded.chunks = track.chunks
             and (track.last_sequence is null or excluded.last_sequence is not null))",
        track.id.as_str(),
        track.recording.as_str(),
        track.participant.as_str(),
        track.source as TrackSource,
        track.kind as TrackKind,
        track.mime_type,
        track.started_at,
        signed(track.chunks),
        signed(track.bytes),
        Json(&track.received) as Json<&Vec<(u64, u64)>>,
        track.last_sequence.map(signed),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What assembling a track has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub track: TrackId,
    /// Its codecs; `None` when there is no media in it.
    pub codec: Option<String>,
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// What is missing from it.
    pub gaps: Vec<Gap>,
}

/// Writes what assembling a track has shown.
///
/// # Errors
/// Those of the database.
pub async fn assembled(tx: &mut PgConnection, shown: &Shown) -> sqlx::Result<()> {
    sqlx::query!(
        "update track set codec = $2, duration_ms = $3, gaps = $4 where id = $1",
        shown.track.as_str(),
        shown.codec,
        signed(shown.duration_ms),
        Json(&shown.gaps) as Json<&Vec<Gap>>,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A recording's tracks, by participant and kind.
///
/// # Errors
/// Those of the database.
pub async fn of_recording(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<Vec<Track>> {
    let rows = sqlx::query_as!(
        TrackRow,
        r#"select id as "id: TrackId", recording_id as "recording_id: RecordingId",
            participant_id as "participant_id: UserId", source as "source: TrackSource", kind as "kind: TrackKind",
            mime_type, codec, started_at, duration_ms, chunks, bytes, received as "received: Json<Vec<(u64, u64)>>",
            last_sequence, gaps as "gaps: Json<Vec<Gap>>"
         from track where recording_id = $1 order by participant_id, kind, source"#,
        recording.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The tracks of several recordings, by recording, participant and kind.
///
/// # Errors
/// Those of the database.
pub async fn of_recordings(db: impl PgExecutor<'_>, recordings: &[RecordingId]) -> sqlx::Result<Vec<Track>> {
    let ids: Vec<String> = recordings.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        TrackRow,
        r#"select id as "id: TrackId", recording_id as "recording_id: RecordingId",
            participant_id as "participant_id: UserId", source as "source: TrackSource", kind as "kind: TrackKind",
            mime_type, codec, started_at, duration_ms, chunks, bytes, received as "received: Json<Vec<(u64, u64)>>",
            last_sequence, gaps as "gaps: Json<Vec<Gap>>"
         from track where recording_id = any($1) order by recording_id, participant_id, kind, source"#,
        &ids,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}
