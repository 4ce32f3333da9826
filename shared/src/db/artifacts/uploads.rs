//! Uploads of artifacts that are under way: what the next attempt goes on with, and which nobody goes on with any more.

use sqlx::PgExecutor;
use sqlx::types::Json;

use crate::id::{ArtifactId, RecordingId};
use crate::storage::{Destination, Resumption};

/// Whether an upload's note found its artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// The next attempt will find it.
    Yes,
    /// The artifact is stored there by now, or gone with its recording.
    NotWanted,
}

/// Notes the upload of an artifact to a storage, in place of an earlier one.
///
/// # Errors
/// Those of the database.
pub async fn note(
    db: impl PgExecutor<'_>,
    artifact: &ArtifactId,
    destination: Destination,
    upload: &Resumption,
) -> sqlx::Result<Noted> {
    let (id, upload) = (artifact.as_str(), Json(upload));
    let noted = match destination {
        Destination::Main => sqlx::query!(
            "update artifact set upload = $2 where id = $1 and (state = 'staged' or backup = 'holds')",
            id,
            upload as Json<&Resumption>,
        ),
        Destination::Backup => sqlx::query!(
            "update artifact set backup_upload = $2 where id = $1 and state = 'staged'",
            id,
            upload as Json<&Resumption>,
        ),
    };
    Ok(if noted.execute(db).await?.rows_affected() == 1 { Noted::Yes } else { Noted::NotWanted })
}

/// What an earlier attempt has noted.
///
/// # Errors
/// Those of the database.
pub async fn noted(
    db: impl PgExecutor<'_>,
    artifact: &ArtifactId,
    destination: Destination,
) -> sqlx::Result<Option<Resumption>> {
    let uploads = sqlx::query!(
        r#"select upload as "upload: Json<Resumption>", backup_upload as "backup_upload: Json<Resumption>"
         from artifact where id = $1"#,
        artifact.as_str(),
    );
    let Some(uploads) = uploads.fetch_optional(db).await? else { return Ok(None) };
    Ok(match destination {
        Destination::Main => uploads.upload,
        Destination::Backup => uploads.backup_upload,
    }
    .map(|Json(upload)| upload))
}

/// Whether an upload to the key of one of these recordings is ours and nobody goes on with it: there is, or was, such a recording,
/// and none of its artifacts has noted it.
///
/// # Errors
/// Those of the database.
pub async fn is_left(
    db: impl PgExecutor<'_>,
    recordings: &[RecordingId],
    upload: &Resumption,
) -> sqlx::Result<bool> {
    let ids: Vec<String> = recordings.iter().map(ToString::to_string).collect();
    sqlx::query_scalar!(
        r#"select exists (select from recording where id = any($1))
             and not exists (select from artifact where recording_id = any($1) and $2 in (upload, backup_upload)) as "left!""#,
        &ids,
        Json(upload) as Json<&Resumption>,
    )
    .fetch_one(db)
    .await
}
