//! Edges: who captures, and when each was last seen.

use sqlx::PgExecutor;

use crate::clock::Timestamp;
use crate::id::EdgeId;

/// An edge as its row holds it.
#[derive(Debug, Clone)]
pub struct EdgeRow {
    /// Its id, kept beside its capture.
    pub id: EdgeId,
    /// Where clients reach it.
    pub url: String,
    /// The version it runs.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last said that it is alive.
    pub seen_at: Timestamp,
}

/// Says that an edge has started.
///
/// # Errors
/// Those of the database.
pub async fn register(
    db: impl PgExecutor<'_>,
    id: &EdgeId,
    url: &str,
    version: &str,
    at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into edge (id, url, version, started_at, seen_at) values ($1, $2, $3, $4, $4)
         on conflict (id) do update set url = $2, version = $3, started_at = $4, seen_at = $4",
        id.as_str(),
        url,
        version,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Says that an edge is alive.
///
/// # Errors
/// Those of the database.
pub async fn seen(db: impl PgExecutor<'_>, id: &EdgeId, at: Timestamp) -> sqlx::Result<()> {
    sqlx::query!("update edge set seen_at = $2 where id = $1", id.as_str(), at).execute(db).await?;
    Ok(())
}

/// The edge that holds a share of a recording's capture, for a chunk that came to another one.
///
/// # Errors
/// Those of the database.
pub async fn holding(
    db: impl PgExecutor<'_>,
    recording: &crate::id::RecordingId,
) -> sqlx::Result<Option<EdgeRow>> {
    sqlx::query_as!(
        EdgeRow,
        r#"select e.id as "id: EdgeId", e.url, e.version, e.started_at, e.seen_at
         from edge e join recording_edge re on re.edge_id = e.id
         where re.recording_id = $1 order by e.seen_at desc limit 1"#,
        recording.as_str(),
    )
    .fetch_optional(db)
    .await
}
