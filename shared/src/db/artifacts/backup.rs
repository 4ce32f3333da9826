//! Artifacts whose file, or a copy of it, is in the backup storage.

use sqlx::{PgConnection, PgExecutor};

use super::{Artifact, ArtifactKind, ArtifactRow};
use crate::id::{ArtifactId, RecordingId, UserId};
use crate::storage::{Destination, Place};

/// What the backup has of an artifact's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum InBackup {
    /// Perhaps a copy that nobody needs: the file is on its way there, or has been moved.
    Spare,
    /// The copy that was proven, and that is read.
    Holds,
}

impl Artifact {
    /// Where the file is read once it is stored.
    #[must_use]
    pub fn destination(&self) -> Destination {
        match self.backup {
            Some(InBackup::Holds) => Destination::Backup,
            Some(InBackup::Spare) | None => Destination::Main,
        }
    }
}

/// Notes that a file is about to be put into the backup. To be called before its first byte is.
///
/// # Errors
/// Those of the database.
pub async fn begin(db: impl PgExecutor<'_>, id: &ArtifactId) -> sqlx::Result<()> {
    sqlx::query!("update artifact set backup = 'spare' where id = $1 and backup is null", id.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Artifacts that no recording needs any more although the backup may still have something of them: of deleted recordings, and
/// those whose place a completed revision has taken.
///
/// # Errors
/// Those of the database.
pub async fn unwanted(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!(
        "join recording r on r.id = a.recording_id
         where a.backup is not null and (r.state = 'deleted' or a.revision < r.output_revision)
         order by a.created_at limit $1",
        limit,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// Artifacts that are stored where they belong although the backup may still have a copy.
///
/// # Errors
/// Those of the database.
pub async fn spare(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!(
        "where a.backup = 'spare' and a.state = 'stored' order by a.created_at limit $1",
        limit,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// Artifacts that the backup holds, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn held(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Artifact>> {
    let rows = select_artifact!("where a.backup = 'holds' order by a.created_at limit $1", limit);
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// How many artifacts the backup has something of.
///
/// # Errors
/// Those of the database.
pub async fn count(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from artifact where backup is not null"#)
        .fetch_one(db)
        .await
}

/// From the backup to the first storage, where the file was proven. `None`: another worker has moved it, or it is gone.
///
/// # Errors
/// Those of the database.
pub async fn moved(tx: &mut PgConnection, artifact: &Artifact, place: &Place) -> sqlx::Result<Option<()>> {
    let moved = sqlx::query!(
        "update artifact set backup = 'spare', upload = null, place = $2 where id = $1 and backup = 'holds'",
        artifact.id.as_str(),
        place.to_string(),
    );
    if moved.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query!(
        "update recording set storage_provider = $3, storage_bucket = $4 where id = $1 and output_key = $2",
        artifact.recording.as_str(),
        artifact.storage_key,
        place.provider,
        place.bucket,
    )
    .execute(tx)
    .await?;
    Ok(Some(()))
}

/// Notes that the backup has nothing of an artifact any more.
///
/// # Errors
/// Those of the database.
pub async fn emptied(db: impl PgExecutor<'_>, id: &ArtifactId) -> sqlx::Result<()> {
    sqlx::query!(
        "update artifact set backup = null, backup_upload = null where id = $1 and backup = 'spare'",
        id.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets an artifact of which nothing is left anywhere.
///
/// # Errors
/// Those of the database.
pub async fn forget(db: impl PgExecutor<'_>, id: &ArtifactId) -> sqlx::Result<()> {
    sqlx::query!("delete from artifact where id = $1", id.as_str()).execute(db).await?;
    Ok(())
}
