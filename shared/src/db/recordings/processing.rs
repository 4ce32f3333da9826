//! A recording's way through processing. Each step is fenced by the stage's token: a job that lost its place changes nothing.

use sqlx::{PgConnection, PgExecutor};

use super::to_i64;
use crate::clock::Timestamp;
use crate::db::events::EventType;
use crate::id::{EdgeId, RecordingId};
use crate::recording::{Format, RecordingError, Stage};

/// A stage and the token that fences it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub stage: Stage,
    /// Held by the job that may publish the stage's result.
    pub token: String,
}

/// `stopping → processing`. `None`: the recording was in another state.
///
/// # Errors
/// Those of the database.
pub async fn begin_processing(
    tx: &mut PgConnection,
    id: &RecordingId,
    first: &Step,
    at: Timestamp,
    deadline: Timestamp,
) -> sqlx::Result<Option<()>> {
    let sealed = sqlx::query!(
        "update recording set state = 'processing', stage = $2, stage_token = $3, sealed_at = $4, deadline_at = $5,
             progress = 0, stopped_at = coalesce(stopped_at, $4)
         where id = $1 and state = 'stopping'",
        id.as_str(),
        first.stage as Stage,
        first.token,
        at,
        deadline,
    )
    .execute(tx)
    .await?;
    Ok((sealed.rows_affected() == 1).then_some(()))
}

/// From one stage to the next. `None`: somebody else holds the stage, and what the caller made is to be thrown away.
///
/// # Errors
/// Those of the database.
pub async fn advance(
    tx: &mut PgConnection,
    id: &RecordingId,
    held: &Step,
    next: &Step,
    deadline: Timestamp,
) -> sqlx::Result<Option<()>> {
    let advanced = sqlx::query!(
        "update recording set stage = $4, stage_token = $5, deadline_at = $6
         where id = $1 and state = 'processing' and stage = $2 and stage_token = $3",
        id.as_str(),
        held.stage as Stage,
        held.token,
        next.stage as Stage,
        next.token,
        deadline,
    )
    .execute(tx)
    .await?;
    Ok((advanced.rows_affected() == 1).then_some(()))
}

/// What a completed recording has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its container.
    pub format: Format,
    /// Length of the main file in milliseconds.
    pub duration_ms: u64,
    /// Size of the main file in bytes.
    pub file_size: u64,
    /// Key of the main file in storage.
    pub key: String,
    /// Which storage holds it.
    pub provider: String,
    /// Which bucket or folder of it.
    pub bucket: String,
    /// When it is deleted by age.
    pub expires_at: Option<Timestamp>,
}

/// `processing → completed`. `None`: somebody else holds the stage.
///
/// # Errors
/// Those of the database.
pub async fn complete(
    tx: &mut PgConnection,
    id: &RecordingId,
    held: &Step,
    output: &Output,
    at: Timestamp,
) -> sqlx::Result<Option<()>> {
    let completed = sqlx::query!(
        "update recording set state = 'completed', stage = null, stage_token = null, deadline_at = null, progress = 1,
             completed_at = $4, format = $5, duration_ms = $6, file_size = $7, output_key = $8, storage_provider = $9,
             storage_bucket = $10, expires_at = $11, output_revision = revision
         where id = $1 and state = 'processing' and stage = $2 and stage_token = $3",
        id.as_str(),
        held.stage as Stage,
        held.token,
        at,
        output.format as Format,
        to_i64(Some(output.duration_ms)),
        to_i64(Some(output.file_size)),
        output.key,
        output.provider,
        output.bucket,
        output.expires_at,
    )
    .execute(tx)
    .await?;
    Ok((completed.rows_affected() == 1).then_some(()))
}

/// Any state with a deadline `→ failed`; with `held`, only while that step is the current one. `None`: it was in another state.
///
/// # Errors
/// Those of the database.
pub async fn fail(
    tx: &mut PgConnection,
    id: &RecordingId,
    held: Option<&Step>,
    error: &RecordingError,
    at: Timestamp,
) -> sqlx::Result<Option<()>> {
    let failed = sqlx::query!(
        "update recording set state = 'failed', deadline_at = null, failed_at = $2, error_code = $3, error_detail = $4, stopped_at = coalesce(stopped_at, $2)
         where id = $1 and state in ('recording', 'paused', 'stopping', 'processing')
           and ($5::text is null or (stage = $6 and stage_token = $5))",
        id.as_str(),
        at,
        error.code,
        error.detail,
        held.map(|step| step.token.as_str()),
        held.map(|step| step.stage) as Option<Stage>,
    )
    .execute(tx)
    .await?;
    Ok((failed.rows_affected() == 1).then_some(()))
}

/// Notes what is odd about a recording that does not fail for it. Changes nothing when it is in another state.
///
/// # Errors
/// Those of the database.
pub async fn note(tx: &mut PgConnection, id: &RecordingId, odd: &RecordingError) -> sqlx::Result<()> {
    let noted = sqlx::query!(
        "update recording set error_code = $2, error_detail = $3 where id = $1 and state = 'processing'",
        id.as_str(),
        odd.code,
        odd.detail,
    );
    noted.execute(tx).await.map(drop)
}

/// `failed → processing`, for a job that an operator has re-queued and that holds the step at which the recording failed.
/// `None`: it was in another state or at another step.
///
/// # Errors
/// Those of the database.
pub async fn take_up(
    tx: &mut PgConnection,
    id: &RecordingId,
    held: &Step,
    deadline: Timestamp,
) -> sqlx::Result<Option<()>> {
    let taken = sqlx::query!(
        "update recording set state = 'processing', failed_at = null, error_code = null, error_detail = null,
             deadline_at = $4
         where id = $1 and state = 'failed' and stage = $2 and stage_token = $3 and capture_deleted_at is null",
        id.as_str(),
        held.stage as Stage,
        held.token,
        deadline,
    )
    .execute(tx)
    .await?;
    Ok((taken.rows_affected() == 1).then_some(()))
}

/// `processing | completed | failed → processing`, from the first stage and as a new revision, when it was ended without the share
/// of an edge that has shipped it now. That the share is missing is what `recording_edge` says: only the sweeper ends a recording
/// whose edge has not flushed. What the revision before has stored stays as it is. `None`: nothing was missing, or the rest of the
/// capture is gone, of which the new share alone would make less than there is.
///
/// The caller holds [`super::lock`], and calls [`super::flushed`] afterwards in the same transaction.
///
/// # Errors
/// Those of the database.
pub async fn process_again(
    tx: &mut PgConnection,
    id: &RecordingId,
    returned: &EdgeId,
    first: &Step,
    at: Timestamp,
    deadline: Timestamp,
) -> sqlx::Result<Option<()>> {
    let again = sqlx::query!(
        "update recording r set state = 'processing', stage = $3, stage_token = $4, progress = 0, revision = revision + 1,
             stopped_at = coalesce(stopped_at, $5), sealed_at = coalesce(sealed_at, $5), deadline_at = $6,
             completed_at = null, failed_at = null, error_code = null, error_detail = null
         where id = $1 and state in ('processing', 'completed', 'failed') and capture_deleted_at is null
           and exists (select from recording_edge re
               where re.recording_id = r.id and re.edge_id = $2 and re.flushed_at is null)",
        id.as_str(),
        returned.as_str(),
        first.stage as Stage,
        first.token,
        at,
        deadline,
    )
    .execute(tx)
    .await?;
    Ok((again.rows_affected() == 1).then_some(()))
}

/// Notes how far a stage has come, 0 to 1 over all stages, and tells it by an event whenever another twentieth of the whole is
/// done; `data` is what the event says besides. Changes nothing when somebody else holds the stage.
///
/// # Errors
/// Those of the database.
pub async fn set_progress(
    db: impl PgExecutor<'_>,
    id: &RecordingId,
    held: &Step,
    progress: f32,
    data: serde_json::Value,
    at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with held as (
             select id, call_id, progress as was from recording
             where id = $1 and state = 'processing' and stage = $2 and stage_token = $3 and progress < $4
             for no key update),
         noted as (update recording r set progress = $4 from held where r.id = held.id)
         insert into event (type, call_id, recording_id, data, at)
         select $5, call_id, id, $6, $7 from held where floor(was * 20) < floor($4 * 20)",
        id.as_str(),
        held.stage as Stage,
        held.token,
        progress.clamp(0.0, 1.0),
        EventType::RecordingProgress.as_str(),
        data,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}
