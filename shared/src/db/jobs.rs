//! Jobs as operators see them: lists, attempts, requeue, cancel, figures. Knows nothing of how jobs are run; it shares with the
//! worker only the tables `apalis.jobs` and `job_attempts` and the SQL functions over them.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

use crate::jobs::JobId;

/// Jobs on one page at most, and the one that tells that there is a next page.
pub const LIST_MAX: u32 = 201;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Due, and waiting for a worker.
    Pending,
    /// Waiting for its time.
    Scheduled,
    /// In the hands of a worker.
    Running,
    /// An attempt failed and another follows.
    Failed,
    /// No attempt follows; somebody must look.
    Dead,
    /// Finished.
    Done,
    /// Ended by an operator.
    Cancelled,
}

/// The text names no state of a job.
#[derive(Debug, thiserror::Error)]
#[error("not a state of a job")]
pub struct InvalidJobState;

impl JobState {
    /// The word in SQL, JSON and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = InvalidJobState;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "pending" => Ok(Self::Pending),
            "scheduled" => Ok(Self::Scheduled),
            "running" => Ok(Self::Running),
            "failed" => Ok(Self::Failed),
            "dead" => Ok(Self::Dead),
            "done" => Ok(Self::Done),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(InvalidJobState),
        }
    }
}

/// Which jobs to list; what is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// The queue's name.
    pub queue: Option<String>,
    /// The state.
    pub state: Option<JobState>,
    /// The payload's field `recording`.
    pub recording: Option<String>,
}

/// One job.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// Its state.
    pub state: JobState,
    /// The payload; null when it is not JSON.
    pub payload: Value,
    /// Attempts begun since it was enqueued or requeued, without those that were given back.
    pub attempts: u32,
    /// The last attempt's number.
    pub max_attempts: u32,
    /// When it was enqueued.
    pub enqueued_at: Option<DateTime<Utc>>,
    /// It does not start before this time.
    pub run_at: DateTime<Utc>,
    /// When the last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the last attempt ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who runs it or ran it last.
    pub worker: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// One run of a job.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobAttempt)]
pub struct AttemptRow {
    /// Counted from 1, and again from 1 after a requeue.
    pub attempt: i32,
    /// Who ran it.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// `done`, `failed`, `gave-up`, `cancelled`, `returned` (given back at a shutdown, does not count) or `lost` (its worker died).
    pub outcome: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// How far it was, as last reported.
    pub progress_percent: Option<i16>,
    /// When an operator asked for its end.
    pub cancel_requested_at: Option<DateTime<Utc>>,
}

/// The figures of one queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStats {
    /// The queue's name.
    pub queue: String,
    /// Due and waiting.
    pub pending: i64,
    /// Waiting for their time.
    pub scheduled: i64,
    /// Running.
    pub running: i64,
    /// Waiting for their next attempt.
    pub failed: i64,
    /// Dead.
    pub dead: i64,
    /// Seconds that the oldest due job has been waiting; 0 when none is.
    pub oldest_wait_s: f64,
}

/// Whether another job of a queue that was enqueued before this one is running: of two that must not run at once, the later one
/// has nothing to do.
///
/// # Errors
/// Those of the database.
pub async fn earlier_runs(db: impl PgExecutor<'_>, queue: &str, job: &JobId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from apalis.jobs where job_type = $1 and status = 'Running' and id < $2) as "runs!""#,
        queue,
        job.as_str(),
    )
    .fetch_one(db)
    .await
}

/// Why a job was not requeued.
#[derive(Debug, thiserror::Error)]
pub enum RequeueError {
    /// It is running: cancel it first.
    #[error("job is running")]
    Running,
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What a cancellation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was waiting, and will not run.
    NeverRuns,
    /// It was running, and its worker has been told; see the attempt for the end.
    Stopping,
    /// It had ended before.
    AlreadyEnded,
}

/// Jobs that fit `filter`, newest first, at most `limit` (and [`LIST_MAX`]), older than `before`: the last id of the page before.
///
/// # Errors
/// The database's.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &JobFilter,
    before: Option<&JobId>,
    limit: u32,
) -> sqlx::Result<Vec<JobRow>> {
    let rows = sqlx::query_as!(
        RawJob,
        "select j.id, j.job_type as queue, job_state(j) as \"state!\", job_payload(j) as payload, j.attempts, j.max_attempts,
                j.run_at, j.lock_at, j.done_at, j.lock_by, j.last_result
         from apalis.jobs j
         where ($1::text is null or j.job_type = $1)
           and ($2::text is null or job_state(j) = $2)
           and ($3::text is null or job_payload(j)->>'recording' = $3)
           and ($4::text is null or j.id < $4)
         order by j.id desc
         limit $5",
        filter.queue,
        filter.state.map(JobState::as_str),
        filter.recording,
        before.map(JobId::as_str),
        i64::from(limit.min(LIST_MAX)),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(JobRow::try_from).collect()
}

/// One job with its attempts, oldest first. `None`: there is no such job.
///
/// # Errors
/// The database's.
pub async fn get(db: &mut PgConnection, id: &JobId) -> sqlx::Result<Option<(JobRow, Vec<AttemptRow>)>> {
    let job = sqlx::query_as!(
        RawJob,
        "select j.id, j.job_type as queue, job_state(j) as \"state!\", job_payload(j) as payload, j.attempts, j.max_attempts,
                j.run_at, j.lock_at, j.done_at, j.lock_by, j.last_result
         from apalis.jobs j where j.id = $1",
        id.as_str(),
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(job) = job else { return Ok(None) };
    let attempts = sqlx::query_as!(
        AttemptRow,
        "select attempt, worker, started_at, ended_at, outcome, error, progress_percent, cancel_requested_at
         from job_attempts where job_id = $1 order by id",
        id.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(Some((job.try_into()?, attempts)))
}

/// Gives a dead or cancelled job its attempts back and lets it run now; returns its state afterwards. A job that is waiting or
/// done is left as it is. `None`: there is no such job.
///
/// # Errors
/// See [`RequeueError`].
pub async fn requeue(db: &mut PgConnection, id: &JobId) -> Result<Option<JobState>, RequeueError> {
    let requeued = sqlx::query!(
        "update apalis.jobs
         set status = 'Pending', attempts = 0, run_at = now(), lock_by = null, lock_at = null, done_at = null, last_result = null
         where id = $1 and (status = 'Killed' or (status = 'Failed' and attempts >= max_attempts))",
        id.as_str(),
    )
    .execute(&mut *db)
    .await?;
    if requeued.rows_affected() > 0 {
        return Ok(Some(JobState::Pending));
    }
    match state(db, id).await? {
        Some(JobState::Running) => Err(RequeueError::Running),
        other => Ok(other),
    }
}

/// Requeues every dead job, of one queue or of all, and returns how many. Cancelled jobs stay.
///
/// # Errors
/// The database's.
pub async fn requeue_dead(db: impl PgExecutor<'_>, queue: Option<&str>) -> sqlx::Result<u64> {
    let requeued = sqlx::query!(
        "update apalis.jobs j
         set status = 'Pending', attempts = 0, run_at = now(), lock_by = null, lock_at = null, done_at = null, last_result = null
         where (j.status = 'Killed' or (j.status = 'Failed' and j.attempts >= j.max_attempts))
           and job_state(j) = 'dead' and ($1::text is null or j.job_type = $1)",
        queue,
    )
    .execute(db)
    .await?;
    Ok(requeued.rows_affected())
}

/// Ends a job: one that waits never runs, a running one is told to stop. `None`: there is no such job.
///
/// # Errors
/// The database's.
pub async fn cancel(db: &mut PgConnection, id: &JobId) -> sqlx::Result<Option<Cancelled>> {
    let waiting = sqlx::query!(
        "update apalis.jobs
         set status = 'Killed', done_at = now(), last_result = '{\"Cancelled\": \"before it ran\"}'::jsonb
         where id = $1 and (status = 'Pending' or (status = 'Failed' and attempts < max_attempts))",
        id.as_str(),
    )
    .execute(&mut *db)
    .await?;
    if waiting.rows_affected() > 0 {
        return Ok(Some(Cancelled::NeverRuns));
    }
    let running = sqlx::query!(
        "update job_attempts set cancel_requested_at = coalesce(cancel_requested_at, now())
         where job_id = $1 and ended_at is null",
        id.as_str(),
    )
    .execute(&mut *db)
    .await?;
    if running.rows_affected() > 0 {
        return Ok(Some(Cancelled::Stopping));
    }
    Ok(state(db, id).await?.map(|_| Cancelled::AlreadyEnded))
}

/// The figures of every queue that has an unfinished job, for metrics and `GET /admin/queues`.
///
/// # Errors
/// The database's.
pub async fn stats(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<QueueStats>> {
    sqlx::query_as!(
        QueueStats,
        "select j.job_type as queue,
                count(*) filter (where job_state(j) = 'pending') as \"pending!\",
                count(*) filter (where job_state(j) = 'scheduled') as \"scheduled!\",
                count(*) filter (where job_state(j) = 'running') as \"running!\",
                count(*) filter (where job_state(j) = 'failed') as \"failed!\",
                count(*) filter (where job_state(j) = 'dead') as \"dead!\",
                coalesce(extract(epoch from now() - min(j.run_at) filter (
                    where job_state(j) in ('pending', 'failed') and j.run_at <= now())), 0)::float8 as \"oldest_wait_s!\"
         from apalis.jobs j
         where j.status <> 'Done'
         group by j.job_type
         order by j.job_type",
    )
    .fetch_all(db)
    .await
}

async fn state(db: &mut PgConnection, id: &JobId) -> sqlx::Result<Option<JobState>> {
    let state = sqlx::query_scalar!(
        "select job_state(j) as \"state!\" from apalis.jobs j where id = $1",
        id.as_str()
    )
    .fetch_optional(db)
    .await?;
    state.map(|word| parse_state(&word)).transpose()
}

/// A row as SQL returns it.
struct RawJob {
    id: String,
    queue: String,
    state: String,
    payload: Option<Value>,
    attempts: i32,
    max_attempts: i32,
    run_at: DateTime<Utc>,
    lock_at: Option<DateTime<Utc>>,
    done_at: Option<DateTime<Utc>>,
    lock_by: Option<String>,
    last_result: Option<Value>,
}

impl TryFrom<RawJob> for JobRow {
    type Error = sqlx::Error;

    fn try_from(raw: RawJob) -> Result<Self, sqlx::Error> {
        let id = JobId::stored(raw.id);
        let error = raw.last_result.as_ref().and_then(|result| result.get("Err")?.as_str());
        Ok(Self {
            enqueued_at: id.enqueued_at(),
            id,
            queue: raw.queue,
            state: parse_state(&raw.state)?,
            payload: raw.payload.unwrap_or_default(),
            attempts: raw.attempts.unsigned_abs(),
            max_attempts: raw.max_attempts.unsigned_abs(),
            run_at: raw.run_at,
            started_at: raw.lock_at,
            ended_at: raw.done_at,
            worker: raw.lock_by,
            error: error.map(str::to_owned),
        })
    }
}

/// The words come from `job_state`; one that is unknown means that a newer version migrated the database.
fn parse_state(word: &str) -> sqlx::Result<JobState> {
    word.parse().map_err(|error: InvalidJobState| sqlx::Error::Decode(error.into()))
}
