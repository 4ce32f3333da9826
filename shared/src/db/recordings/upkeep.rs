//! What an edge looks up at its start, and what the sweeper and the retention job look for.

use sqlx::PgExecutor;

use super::RecordingRow;
use crate::clock::Timestamp;
use crate::id::{CallId, EdgeId, RecordingId, UserId};
use crate::recording::{Format, Recording, RecordingOptions, RecordingState, Stage};
use sqlx::types::Json;

/// The recordings that take chunks, of which this edge has not flushed its share.
///
/// # Errors
/// Those of the database.
pub async fn live_by_edge(db: impl PgExecutor<'_>, edge: &EdgeId) -> sqlx::Result<Vec<Recording>> {
    let rows = select_recording!(
        "join recording_edge re on re.recording_id = r.id
         where re.edge_id = $1 and re.flushed_at is null and r.state in ('recording', 'paused', 'stopping')",
        edge.as_str(),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// A recording whose state has lasted beyond its deadline.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// Which.
    pub id: RecordingId,
    /// Of which call.
    pub call: CallId,
    /// In which state.
    pub state: RecordingState,
    /// In which stage, while `processing`.
    pub stage: Option<Stage>,
}

/// The recordings whose deadline has passed, longest overdue first, `limit` at most.
///
/// # Errors
/// Those of the database.
pub async fn overdue(db: impl PgExecutor<'_>, now: Timestamp, limit: i64) -> sqlx::Result<Vec<Overdue>> {
    sqlx::query_as!(
        Overdue,
        r#"select id as "id: RecordingId", call_id as "call: CallId", state as "state: RecordingState",
            stage as "stage: Stage"
         from recording where deadline_at < $1 order by deadline_at limit $2"#,
        now,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Completed recordings that have reached their age, oldest first, `limit` at most.
///
/// # Errors
/// Those of the database.
pub async fn expired(
    db: impl PgExecutor<'_>,
    now: Timestamp,
    limit: i64,
) -> sqlx::Result<Vec<(RecordingId, CallId)>> {
    let rows = sqlx::query!(
        r#"select id as "id: RecordingId", call_id as "call: CallId" from recording
         where state = 'completed' and expires_at < $1 order by expires_at limit $2"#,
        now,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.call)).collect())
}

/// Recordings finished before `before` whose capture is still in the spool, `limit` at most.
///
/// # Errors
/// Those of the database.
pub async fn finished_captures(
    db: impl PgExecutor<'_>,
    before: Timestamp,
    limit: i64,
) -> sqlx::Result<Vec<RecordingId>> {
    sqlx::query_scalar!(
        r#"select id as "id: RecordingId" from recording
         where capture_deleted_at is null and state in ('completed', 'failed')
           and coalesce(completed_at, failed_at) < $1 limit $2"#,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Notes that a recording's capture is gone.
///
/// # Errors
/// Those of the database.
pub async fn capture_deleted(db: impl PgExecutor<'_>, id: &RecordingId, at: Timestamp) -> sqlx::Result<()> {
    sqlx::query!("update recording set capture_deleted_at = $2 where id = $1", id.as_str(), at)
        .execute(db)
        .await?;
    Ok(())
}
