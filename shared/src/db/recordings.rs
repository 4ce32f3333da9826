//! Recordings: every change of their state, each one compare-and-set.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::{After, signed, unsigned};
use crate::clock::Timestamp;
use crate::id::{CallId, EdgeId, RecordingId, UserId};
use crate::recording::{Format, Pause, Recording, RecordingError, RecordingOptions, RecordingState, Stage};

pub use processing::{
    Output, Step, advance, begin_processing, complete, fail, note, process_again, set_progress, take_up,
};
pub use upkeep::{
    Overdue, Sized, by_age, capture_deleted, expired, finished_captures, live_by_edge, lock_overdue, overdue,
    stored_bytes, without_job, without_use_of_capture,
};

struct RecordingRow {
    id: RecordingId,
    call_id: CallId,
    started_by: UserId,
    state: RecordingState,
    stage: Option<Stage>,
    stage_token: Option<String>,
    progress: f32,
    revision: i32,
    options: Json<RecordingOptions>,
    started_at: Timestamp,
    paused_at: Option<Timestamp>,
    pause_turns: i32,
    stopped_at: Option<Timestamp>,
    sealed_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    deadline_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    format: Option<Format>,
    duration_ms: Option<i64>,
    file_size: Option<i64>,
    output_key: Option<String>,
    storage_provider: Option<String>,
    storage_bucket: Option<String>,
    error_code: Option<String>,
    error_detail: Option<String>,
}

impl From<RecordingRow> for Recording {
    fn from(row: RecordingRow) -> Self {
        let detail = row.error_detail.unwrap_or_default();
        Self {
            id: row.id,
            call: row.call_id,
            started_by: row.started_by,
            state: row.state,
            stage: row.stage,
            stage_token: row.stage_token,
            progress: row.progress,
            revision: u32::try_from(row.revision).unwrap_or(0),
            options: row.options.0,
            started_at: row.started_at,
            pause: Pause { since: row.paused_at, turns: u32::try_from(row.pause_turns).unwrap_or(0) },
            stopped_at: row.stopped_at,
            sealed_at: row.sealed_at,
            completed_at: row.completed_at,
            deadline_at: row.deadline_at,
            expires_at: row.expires_at,
            format: row.format,
            duration_ms: row.duration_ms.map(unsigned),
            file_size: row.file_size.map(unsigned),
            output_key: row.output_key,
            storage_provider: row.storage_provider,
            storage_bucket: row.storage_bucket,
            error: row.error_code.map(|code| RecordingError { code, detail }),
        }
    }
}

macro_rules! select_recording {
    ($tail:literal $(, $arg:expr)* $(,)?) => {
        sqlx::query_as!(
            RecordingRow,
            r#"select r.id as "id: RecordingId", r.call_id as "call_id: CallId", r.started_by as "started_by: UserId",
                r.state as "state: RecordingState", r.stage as "stage: Stage", r.stage_token, r.progress,
                r.revision, r.options as "options: Json<RecordingOptions>", r.started_at, r.paused_at, r.pause_turns,
                r.stopped_at, r.sealed_at, r.completed_at, r.deadline_at, r.expires_at, r.format as "format: Format", r.duration_ms, r.file_size, r.output_key,
                r.storage_provider, r.storage_bucket, r.error_code, r.error_detail from recording r "# + $tail,
            $($arg),*
        )
    };
}

// After the macro, which they use.
mod processing;
mod upkeep;

/// A recording about to start.
#[derive(Debug)]
pub struct NewRecording<'a> {
    /// Its id.
    pub id: &'a RecordingId,
    /// The call it belongs to.
    pub call: &'a CallId,
    /// Who starts it.
    pub by: &'a UserId,
    /// What is asked for.
    pub options: &'a RecordingOptions,
    /// The edge that captures it.
    pub edge: &'a EdgeId,
    /// When it begins.
    pub at: Timestamp,
    /// When it must have been stopped.
    pub deadline: Timestamp,
}

/// Starts a recording. `None`: the call has one that is live.
///
/// # Errors
/// Those of the database.
pub async fn start(tx: &mut PgConnection, new: &NewRecording<'_>) -> sqlx::Result<Option<()>> {
    let started = sqlx::query!(
        "insert into recording (id, call_id, started_by, state, options, started_at, deadline_at)
         values ($1, $2, $3, 'recording', $4, $5, $6)
         on conflict (call_id) where state in ('recording', 'paused') do nothing",
        new.id.as_str(),
        new.call.as_str(),
        new.by.as_str(),
        Json(new.options) as Json<&RecordingOptions>,
        new.at,
        new.deadline,
    )
    .execute(&mut *tx)
    .await?;
    if started.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query!(
        "insert into recording_edge (recording_id, edge_id) values ($1, $2)",
        new.id.as_str(),
        new.edge.as_str(),
    )
    .execute(tx)
    .await?;
    Ok(Some(()))
}

/// Finds a recording that has not been deleted.
///
/// # Errors
/// Those of the database.
pub async fn find(db: impl PgExecutor<'_>, id: &RecordingId) -> sqlx::Result<Option<Recording>> {
    let row = select_recording!("where r.id = $1 and r.state <> 'deleted'", id.as_str());
    Ok(row.fetch_optional(db).await?.map(Into::into))
}

/// Finds a recording that has not been deleted, and keeps it from being changed until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn lock(tx: &mut PgConnection, id: &RecordingId) -> sqlx::Result<Option<Recording>> {
    // Not `for update`: rows of tracks refer to this one, and may be written meanwhile.
    let row = select_recording!("where r.id = $1 and r.state <> 'deleted' for no key update", id.as_str());
    Ok(row.fetch_optional(tx).await?.map(Into::into))
}

/// The recordings of a call that have not been deleted, newest first.
///
/// # Errors
/// Those of the database.
pub async fn of_call(
    db: impl PgExecutor<'_>,
    call: &CallId,
    after: Option<&After>,
    limit: i64,
) -> sqlx::Result<Vec<Recording>> {
    let rows = select_recording!(
        "where r.call_id = $1 and r.state <> 'deleted'
           and ($2::timestamptz is null or (r.started_at, r.id) < ($2, $3))
         order by r.started_at desc, r.id desc limit $4",
        call.as_str(),
        after.map(|after| after.at),
        after.map(|after| after.id.as_str()),
        limit,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Into::into).collect())
}

/// The recording of a call that is `recording` or `paused`.
///
/// # Errors
/// Those of the database.
pub async fn live_of_call(db: impl PgExecutor<'_>, call: &CallId) -> sqlx::Result<Option<Recording>> {
    let row = select_recording!("where r.call_id = $1 and r.state in ('recording', 'paused')", call.as_str());
    Ok(row.fetch_optional(db).await?.map(Into::into))
}

/// `recording → paused`. `None`: the recording was in another state.
///
/// # Errors
/// Those of the database.
pub async fn pause(tx: &mut PgConnection, id: &RecordingId, at: Timestamp) -> sqlx::Result<Option<Pause>> {
    let turns = sqlx::query_scalar!(
        "update recording set state = 'paused', paused_at = $2, pause_turns = pause_turns + 1
         where id = $1 and state = 'recording' returning pause_turns",
        id.as_str(),
        at,
    );
    let Some(turns) = turns.fetch_optional(&mut *tx).await? else { return Ok(None) };
    sqlx::query!("insert into recording_pause (recording_id, paused_at) values ($1, $2)", id.as_str(), at)
        .execute(tx)
        .await?;
    Ok(Some(Pause { since: Some(at), turns: u32::try_from(turns).unwrap_or(0) }))
}

/// `paused → recording`. `None`: the recording was in another state.
///
/// # Errors
/// Those of the database.
pub async fn resume(tx: &mut PgConnection, id: &RecordingId, at: Timestamp) -> sqlx::Result<Option<Pause>> {
    let turns = sqlx::query_scalar!(
        "update recording set state = 'recording', paused_at = null, pause_turns = pause_turns + 1
         where id = $1 and state = 'paused' returning pause_turns",
        id.as_str(),
    );
    let Some(turns) = turns.fetch_optional(&mut *tx).await? else { return Ok(None) };
    sqlx::query!(
        "update recording_pause set resumed_at = greatest($2, paused_at) where recording_id = $1 and resumed_at is null",
        id.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(Some(Pause { since: None, turns: u32::try_from(turns).unwrap_or(0) }))
}

/// A span in which a recording was paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseSpan {
    /// Since when.
    pub from: Timestamp,
    /// Until when; `None`: it has not ended.
    pub to: Option<Timestamp>,
}

/// When a recording was paused, in order; the last may not have ended.
///
/// # Errors
/// Those of the database.
pub async fn pauses(db: impl PgExecutor<'_>, id: &RecordingId) -> sqlx::Result<Vec<PauseSpan>> {
    let rows = sqlx::query!(
        "select paused_at, resumed_at from recording_pause where recording_id = $1 order by paused_at",
        id.as_str(),
    );
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(|row| PauseSpan { from: row.paused_at, to: row.resumed_at })
        .collect())
}

/// `recording | paused → stopping`. `None`: the recording was in another state.
///
/// # Errors
/// Those of the database.
pub async fn stop(
    tx: &mut PgConnection,
    id: &RecordingId,
    at: Timestamp,
    deadline: Timestamp,
) -> sqlx::Result<Option<()>> {
    let stopped = sqlx::query!(
        "update recording set state = 'stopping', stopped_at = $2, deadline_at = $3
         where id = $1 and state in ('recording', 'paused')",
        id.as_str(),
        at,
        deadline,
    )
    .execute(tx)
    .await?;
    Ok((stopped.rows_affected() == 1).then_some(()))
}

/// Notes that an edge has shipped all that it captured of a recording. Returns how many edges have not yet.
///
/// # Errors
/// Those of the database.
pub async fn flushed(
    tx: &mut PgConnection,
    id: &RecordingId,
    edge: &EdgeId,
    at: Timestamp,
) -> sqlx::Result<u64> {
    // Two edges that flush at once must not each see the other as unflushed: the recording's row is their lock.
    sqlx::query!("select id from recording where id = $1 for update", id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    sqlx::query!(
        "insert into recording_edge (recording_id, edge_id, flushed_at) values ($1, $2, $3)
         on conflict (recording_id, edge_id) do update set flushed_at = $3",
        id.as_str(),
        edge.as_str(),
        at,
    )
    .execute(&mut *tx)
    .await?;
    let waiting = sqlx::query_scalar!(
        r#"select count(*) as "count!" from recording_edge where recording_id = $1 and flushed_at is null"#,
        id.as_str(),
    )
    .fetch_one(tx)
    .await?;
    Ok(unsigned(waiting))
}

/// `completed | failed → deleted`. `None`: the recording was in another state.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut PgConnection, id: &RecordingId, at: Timestamp) -> sqlx::Result<Option<()>> {
    let deleted = sqlx::query!(
        "update recording set state = 'deleted', deleted_at = $2, stage = null, stage_token = null
         where id = $1 and state in ('completed', 'failed')",
        id.as_str(),
        at,
    )
    .execute(tx)
    .await?;
    Ok((deleted.rows_affected() == 1).then_some(()))
}

/// How many recordings are in each state that is not deleted.
///
/// # Errors
/// Those of the database.
pub async fn count_by_state(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(RecordingState, u64)>> {
    let rows = sqlx::query!(
        r#"select state as "state: RecordingState", count(*) as "count!" from recording
         where state <> 'deleted' group by state"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, unsigned(row.count))).collect())
}

fn to_i64(value: Option<u64>) -> Option<i64> {
    value.map(signed)
}
