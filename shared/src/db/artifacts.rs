//! Artifacts: files made from a recording, first staged in the spool, then stored.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use super::{signed, unsigned};
use crate::clock::Timestamp;
use crate::id::{ArtifactId, RecordingId, UserId};
use crate::storage::{Destination, Place};
use backup::InBackup;

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

impl ArtifactKind {
    /// As rows, the API and storage name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Participant => "participant",
            Self::Thumbnail => "thumbnail",
        }
    }
}

/// A file made from a recording.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// The recording it was made from.
    pub recording: RecordingId,
    /// Which processing of the recording made it.
    pub revision: u32,
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
    /// What the backup has of it; `None`: nothing.
    pub backup: Option<InBackup>,
    /// The first storage as it was when the file was put there; `None`: it was not, or is not known.
    pub place: Option<String>,
}

struct ArtifactRow {
    id: ArtifactId,
    recording_id: RecordingId,
    revision: i32,
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
    backup: Option<InBackup>,
    place: Option<String>,
}

impl From<ArtifactRow> for Artifact {
    fn from(row: ArtifactRow) -> Self {
        let pixels = |side: Option<i32>| side.and_then(|side| u32::try_from(side).ok());
        Self {
            id: row.id,
            recording: row.recording_id,
            revision: u32::try_from(row.revision).unwrap_or(0),
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
            backup: row.backup,
            place: row.place,
        }
    }
}

impl Artifact {
    /// Whether it was put into another first storage than this one. What was put into the backup was not.
    #[must_use]
    pub fn is_elsewhere(&self, first: &Place) -> bool {
        self.destination() == Destination::Main
            && self.place.as_ref().is_some_and(|place| *place != first.to_string())
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
             width, height, state, staged_path, storage_key, created_at, revision)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'staged', $12, $13, $14, $15)",
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
        stored_revision(artifact.revision),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that an artifact is in storage, at this place, and was read back there. Running twice changes nothing; of two copies the
/// one in the first storage counts. `None`: its recording was deleted meanwhile.
///
/// # Errors
/// Those of the database.
pub async fn stored(
    db: impl PgExecutor<'_>,
    id: &ArtifactId,
    (destination, place): (Destination, &Place),
    at: Timestamp,
) -> sqlx::Result<Option<()>> {
    let id = id.as_str();
    let noted = match destination {
        Destination::Main => sqlx::query!(
            "update artifact set state = 'stored', stored_at = coalesce(stored_at, $2), upload = null, place = $3,
                 backup = case when backup = 'holds' then 'spare' else backup end
             where id = $1",
            id,
            at,
            place.to_string(),
        ),
        Destination::Backup => sqlx::query!(
            "update artifact set state = 'stored', stored_at = coalesce(stored_at, $2), backup_upload = null,
                 backup = case when state = 'staged' then 'holds' else coalesce(backup, 'spare') end
             where id = $1",
            id,
            at,
        ),
    };
    Ok((noted.execute(db).await?.rows_affected() > 0).then_some(()))
}

macro_rules! select_artifact {
    ($tail:literal $(, $arg:expr)* $(,)?) => {
        sqlx::query_as!(
            ArtifactRow,
            r#"select a.id as "id: ArtifactId", a.recording_id as "recording_id: RecordingId", a.revision,
                a.kind as "kind: ArtifactKind", a.participant_id as "participant_id: UserId", a.ordinal, a.content_type, a.size,
                a.sha256, a.duration_ms, a.width, a.height, a.staged_path, a.storage_key, a.stored_at,
                a.backup as "backup: InBackup", a.place
             from artifact a "# + $tail,
            $($arg),*
        )
    };
}

// After the macro, which they use.
pub mod backup;
pub mod uploads;

/// The artifacts that a recording has to show: those of its last completed revision, or of the first while that is being made.
/// The recording first, then participants' files, then thumbnails in order.
///
/// # Errors
/// Those of the database.
pub async fn of_recording(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<Vec<Artifact>> {
    of_recordings(db, std::slice::from_ref(recording)).await
}

/// The artifacts of several recordings, each recording's as [`of_recording`] gives them.
///
/// # Errors
/// Those of the database.
pub async fn of_recordings(
    db: impl PgExecutor<'_>,
    recordings: &[RecordingId],
) -> sqlx::Result<Vec<Artifact>> {
    let ids: Vec<String> = recordings.iter().map(ToString::to_string).collect();
    let rows = select_artifact!(
        "join recording r on r.id = a.recording_id
         where a.recording_id = any($1) and a.revision = coalesce(r.output_revision, r.revision)
         order by a.recording_id, array_position(array['recording', 'participant', 'thumbnail'], a.kind), a.ordinal, a.id",
        &ids,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// The artifacts of one revision, in the order of [`of_recording`].
///
/// # Errors
/// Those of the database.
pub async fn of_revision(
    db: impl PgExecutor<'_>,
    recording: &RecordingId,
    revision: u32,
) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!(
        "where a.recording_id = $1 and a.revision = $2
         order by array_position(array['recording', 'participant', 'thumbnail'], a.kind), a.ordinal, a.id",
        recording.as_str(),
        stored_revision(revision),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// The artifacts of a recording, of all revisions.
///
/// # Errors
/// Those of the database.
pub async fn all(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!("where a.recording_id = $1", recording.as_str());
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// Those artifacts whose place a completed revision has taken.
///
/// # Errors
/// Those of the database.
pub async fn replaced(db: impl PgExecutor<'_>, recording: &RecordingId) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!(
        "join recording r on r.id = a.recording_id where r.id = $1 and a.revision < r.output_revision",
        recording.as_str(),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// Forgets an artifact whose object is gone, unless the backup may still have something of it: then whoever empties the backup
/// looks once more, as it may be on its way from there.
///
/// # Errors
/// Those of the database.
pub async fn forget(db: impl PgExecutor<'_>, id: &ArtifactId) -> sqlx::Result<()> {
    sqlx::query!("delete from artifact where id = $1 and backup is null", id.as_str()).execute(db).await?;
    Ok(())
}

/// Revisions are counted from 0 by ones.
fn stored_revision(revision: u32) -> i32 {
    i32::try_from(revision).unwrap_or(i32::MAX)
}
