//! Artifacts: files made from a recording, first staged in the spool, then stored.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use super::{signed, unsigned};
use crate::clock::Timestamp;
use crate::id::{ArtifactId, RecordingId, UserId};

/// What a file made from a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ArtifactKind {
    /// The recording itself.
    Recording,
    /// One participant's file, when there are several.
    Participant,
    /// A picture from it.
    Thumbnail,
}

/// A file made from a recording.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// The recording it was made from.
    pub recording: RecordingId,
    /// What it is.
    pub kind: ArtifactKind,
    /// Whose it is, when it is one person's.
    pub participant: Option<UserId>,
    /// Its place among those of its kind, from 0.
    pub ordinal: u32,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, lowercase hex.
    pub sha256: String,
    /// Its length in milliseconds.
    pub duration_ms: Option<u64>,
    /// Pixels across.
    pub width: Option<u32>,
    /// Pixels down.
    pub height: Option<u32>,
    /// Where it waits in the recording's staging folder; `None` once it is in storage alone.
    pub staged_path: Option<String>,
    /// Where it is, or will be, in storage.
    pub storage_key: String,
    /// When it was put there and read back.
    pub stored_at: Option<Timestamp>,
}

struct ArtifactRow {
    id: ArtifactId,
    recording_id: RecordingId,
    kind: ArtifactKind,
    participant_id: Option<UserId>,
    ordinal: i32,
    content_type: String,
    size: i64,
    sha256: String,
    duration_ms: Option<i64>,
    width: Option<i32>,
    height: Option<i32>,
    staged_path: Option<String>,
    storage_key: String,
    stored_at: Option<Timestamp>,
}

impl From<ArtifactRow> for Artifact {
    fn from(row: ArtifactRow) -> Self {
        let pixels = |side: Option<i32>| side.and_then(|side| u32::try_from(side).ok());
        Self {
            id: row.id,
            recording: row.recording_id,
            kind: row.kind,
            participant: row.participant_id,
            ordinal: u32::try_from(row.ordinal).unwrap_or(0),
            content_type: row.content_type,
            size: unsigned(row.size),
            sha256: row.sha256,
            duration_ms: row.duration_ms.map(unsigned),
            width: pixels(row.width),
            height: pixels(row.height),
            staged_path: row.staged_path,
            storage_key: row.storage_key,
            stored_at: row.stored_at,
        }
    }
}

/// Adds an artifact that waits in the spool.
///
/// # Errors
/// Those of the database.
pub async fn stage(tx: &mut PgConnection, artifact: &Artifact, at: Timestamp) -> sqlx::Result<()> {
    let pixels = |side: Option<u32>| side.and_then(|side| i32::try_from(side).ok());
    sqlx::query!(
        "insert into artifact (id, recording_id, kind, participant_id, ordinal, content_type, size, sha256, duration_ms,
             width, height, state, staged_path, storage_key, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'staged', $12, $13, $14)",
        artifact.id.as_str(),
        artifact.recording.as_str(),
        artifact.kind as ArtifactKind,
        artifact.participant.as_ref().map(UserId::as_str),
        i32::try_from(artifact.ordinal).unwrap_or(i32::MAX),
        artifact.content_type,
        signed(artifact.size),
        artifact.sha256,
        artifact.duration_ms.map(signed),
        pixels(artifact.width),
        pixels(artifact.height),
        artifact.staged_path,
        artifact.storage_key,
        at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that an artifact is in storage and was read back. Running twice changes nothing.
///
/// # Errors
/// Those of the database.
pub async fn stored(db: impl PgExecutor<'_>, id: &ArtifactId, at: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "update artifact set state = 'stored', stored_at = $2 where id = $1 and state = 'staged'",
        id.as_str(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A recording's artifacts: the recording first, then participants' files, then thumbnails in order.
///
/// # Errors
/// Those of the database.
pub async fn of_recording(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<Vec<Artifact>> {
    let rows = sqlx::query_as!(
        ArtifactRow,
        r#"select id as "id: ArtifactId", recording_id as "recording_id: RecordingId", kind as "kind: ArtifactKind",
            participant_id as "participant_id: UserId", ordinal, content_type, size, sha256, duration_ms, width, height,
            staged_path, storage_key, stored_at
         from artifact where recording_id = $1
         order by array_position(array['recording', 'participant', 'thumbnail'], kind), ordinal, id"#,
        recording.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The artifacts of several recordings, each recording's in the order of [`of_recording`].
///
/// # Errors
/// Those of the database.
pub async fn of_recordings(
    db: impl PgExecutor<'_>,
    recordings: &[RecordingId],
) -> sqlx::Result<Vec<Artifact>> {
    let ids: Vec<String> = recordings.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        ArtifactRow,
        r#"select id as "id: ArtifactId", recording_id as "recording_id: RecordingId", kind as "kind: ArtifactKind",
            participant_id as "participant_id: UserId", ordinal, content_type, size, sha256, duration_ms, width, height,
            staged_path, storage_key, stored_at
         from artifact where recording_id = any($1)
         order by recording_id, array_position(array['recording', 'participant', 'thumbnail'], kind), ordinal, id"#,
        &ids,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Forgets the artifacts of a recording whose objects are gone.
///
/// # Errors
/// Those of the database.
pub async fn forget(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<()> {
    sqlx::query!("delete from artifact where recording_id = $1", recording.as_str()).execute(db).await?;
    Ok(())
}
