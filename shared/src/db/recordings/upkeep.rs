//! What an edge looks up at its start, and what the sweeper and the retention job look for.

use sqlx::{PgConnection, PgExecutor};

use super::{RecordingRow, unsigned};
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
    /// The stage's token.
    pub token: Option<String>,
}

/// Keeps a recording from being changed until the transaction ends. `false`: it is not overdue any more.
///
/// # Errors
/// Those of the database.
pub async fn lock_overdue(tx: &mut PgConnection, id: &RecordingId, by: Timestamp) -> sqlx::Result<bool> {
    let locked = sqlx::query!(
        "select id from recording where id = $1 and deadline_at < $2
           and state in ('recording', 'paused', 'stopping') for update",
        id.as_str(),
        by,
    )
    .fetch_optional(tx)
    .await?;
    Ok(locked.is_some())
}

/// The recordings that still take chunks although their deadline passed before `by`, longest overdue first, `limit` at most.
/// Left out are those of an edge that was seen after `by`: it acts itself, unless it has not for a day.
///
/// # Errors
/// Those of the database.
pub async fn overdue(db: impl PgExecutor<'_>, by: Timestamp, limit: i64) -> sqlx::Result<Vec<Overdue>> {
    sqlx::query_as!(
        Overdue,
        r#"select id as "id: RecordingId", call_id as "call: CallId", state as "state: RecordingState",
            stage as "stage: Stage", stage_token as token
         from recording r
         where deadline_at < $1 and state in ('recording', 'paused', 'stopping')
           and (deadline_at < $1 - interval '1 day' or not exists (
               select from recording_edge re join edge e on e.id = re.edge_id
               where re.recording_id = r.id and re.flushed_at is null and e.seen_at > $1))
         order by deadline_at limit $2"#,
        by,
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

/// A finished recording and how much its files hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sized {
    /// Which.
    pub id: RecordingId,
    /// Of which call.
    pub call: CallId,
    /// Bytes of its files in storage.
    pub bytes: u64,
}

/// Completed recordings with what their files hold, those completed first at the front, `limit` at most.
///
/// # Errors
/// Those of the database.
pub async fn by_age(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Sized>> {
    let rows = sqlx::query!(
        r#"select r.id as "id: RecordingId", r.call_id as "call: CallId",
            coalesce((select sum(a.size) from artifact a where a.recording_id = r.id and a.state = 'stored'), 0)::bigint as "bytes!"
         from recording r where r.state = 'completed' order by r.completed_at, r.id limit $1"#,
        limit,
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    Ok(rows.map(|row| Sized { id: row.id, call: row.call, bytes: unsigned(row.bytes) }).collect())
}

/// Bytes in storage: of recordings that are there, and of deleted ones whose files are being removed.
///
/// # Errors
/// Those of the database.
pub async fn stored_bytes(db: impl PgExecutor<'_>) -> sqlx::Result<(u64, u64)> {
    let sums = sqlx::query!(
        r#"select coalesce(sum(a.size) filter (where r.state <> 'deleted'), 0)::bigint as "kept!",
            coalesce(sum(a.size) filter (where r.state = 'deleted'), 0)::bigint as "going!"
         from artifact a join recording r on r.id = a.recording_id where a.state = 'stored'"#,
    );
    let sums = sums.fetch_one(db).await?;
    Ok((unsigned(sums.kept), unsigned(sums.going)))
}

/// Recordings completed before `before` whose capture is still in the spool, `limit` at most. A failed recording keeps its
/// capture until it is deleted: nothing else holds what was recorded. So does one that was ended without the share of an edge: that
/// edge may come back, and its share is of use only together with the rest. And so does one with a `corrupt` gap: its capture holds
/// bytes that the file does not, such as the pictures of an `avc1` whose parameter sets were lost.
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
         where capture_deleted_at is null and state = 'completed' and completed_at < $1
           and not exists (select from recording_edge re where re.recording_id = recording.id and re.flushed_at is null)
           and not exists (select from track t where t.recording_id = recording.id and t.gaps @> '[{"reason": "corrupt"}]')
         limit $2"#,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

/// Of `held`, the recordings whose capture no longer has a purpose: deleted, or given up earlier. Ids that no row knows are
/// not among them, as the database may be an old copy.
///
/// # Errors
/// Those of the database.
pub async fn without_use_of_capture(
    db: impl PgExecutor<'_>,
    held: &[RecordingId],
) -> sqlx::Result<Vec<RecordingId>> {
    let held: Vec<String> = held.iter().map(ToString::to_string).collect();
    sqlx::query_scalar!(
        r#"select id as "id: RecordingId" from recording
         where id = any($1) and capture_deleted_at is not null"#,
        &held,
    )
    .fetch_all(db)
    .await
}

/// Notes that a recording's capture is gone, or is about to go and must not be used any more.
///
/// # Errors
/// Those of the database.
pub async fn capture_deleted(db: impl PgExecutor<'_>, id: &RecordingId, at: Timestamp) -> sqlx::Result<()> {
    sqlx::query!("update recording set capture_deleted_at = $2 where id = $1", id.as_str(), at)
        .execute(db)
        .await?;
    Ok(())
}

/// Recordings that are `processing` although no job is left that could go on with them, `limit` at most.
///
/// # Errors
/// Those of the database.
pub async fn without_job(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Overdue>> {
    sqlx::query_as!(
        Overdue,
        r#"select id as "id: RecordingId", call_id as "call: CallId", state as "state: RecordingState",
            stage as "stage: Stage", stage_token as token
         from recording r
         where state = 'processing' and not exists (
             select from apalis.jobs j
             where j.job_type in ('mux-recording', 'make-thumbnails', 'upload-recording')
               and (j.status in ('Pending', 'Queued', 'Running') or (j.status = 'Failed' and j.attempts < j.max_attempts))
               and convert_from(j.job, 'UTF8')::jsonb ->> 'recording' = r.id
               and convert_from(j.job, 'UTF8')::jsonb ->> 'token' = r.stage_token)
         limit $1"#,
        limit,
    )
    .fetch_all(db)
    .await
}
