//! Jobs, for operators: what is to be done, what was tried, and a fresh start for what is dead.

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use shared::db::jobs::{self, AttemptRow, JobFilter, JobRow, JobState, RequeueError};
use shared::id::RecordingId;
use shared::jobs::JobId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Success;
use super::cursor::{self, PageQuery, Placed};
use super::extract::Query;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Code};

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(requeue))
}

/// Which jobs to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Of one queue.
    #[serde(default, deserialize_with = "unless_empty")]
    queue: Option<String>,
    /// In one state: `pending`, `scheduled`, `running`, `failed`, `dead`, `done` or `cancelled`.
    #[serde(default, deserialize_with = "unless_empty")]
    state: Option<String>,
    /// Of one recording.
    #[serde(default, deserialize_with = "unless_empty")]
    #[param(value_type = Option<String>)]
    recording: Option<RecordingId>,
}

/// A form sends its empty fields as well; they say nothing.
fn unless_empty<'de, D, T>(said: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let said = Option::<String>::deserialize(said)?.filter(|said| !said.is_empty());
    said.map(|said| T::deserialize(said.into_deserializer())).transpose()
}

/// A job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobView {
    /// Its id.
    id: String,
    /// Its queue.
    queue: String,
    /// `pending`, `scheduled`, `running`, `failed`, `dead`, `done` or `cancelled`.
    state: String,
    /// What it was given.
    payload: serde_json::Value,
    /// Attempts begun since it was enqueued or requeued.
    attempt_count: u32,
    /// The last attempt's number.
    max_attempts: u32,
    /// When it was enqueued.
    enqueued_at: Option<DateTime<Utc>>,
    /// It does not start before.
    run_at: DateTime<Utc>,
    /// When its last attempt began.
    started_at: Option<DateTime<Utc>>,
    /// When its last attempt ended.
    ended_at: Option<DateTime<Utc>>,
    /// Who runs it or ran it last.
    worker: Option<String>,
    /// Why its last attempt failed.
    error: Option<String>,
}

/// A job with everything that was tried.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobDetail {
    #[serde(flatten)]
    job: JobView,
    /// Its attempts, oldest first.
    attempts: Vec<AttemptRow>,
}

/// Jobs, newest first.
#[utoipa::path(
    get,
    path = "/admin/jobs",
    tag = "operators",
    params(Which, PageQuery),
    responses(
        (status = 200, description = "Jobs", body = Success<Vec<JobView>>),
        (status = 403, description = "`forbidden`: not an admin")
    )
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(which): Query<Which>,
    Query(page): Query<PageQuery>,
) -> Result<Success<Vec<JobView>>, ApiError> {
    caller.must_be_admin()?;
    let state = which.state.as_deref().map(str::parse::<JobState>).transpose();
    let filter = JobFilter {
        queue: which.queue,
        state: state.map_err(|_| ApiError::invalid("state is none of a job's"))?,
        recording: which.recording.map(String::from),
    };
    let limit = page.limit()?;
    let before = page.after()?.map(|after| JobId::stored(after.id));
    let rows = jobs::list(&app.db, &filter, before.as_ref(), limit + 1).await?;
    let (rows, next) = cursor::page(rows, limit);
    Ok(Success::ok(rows.into_iter().map(Into::into).collect()).next_cursor(next))
}

/// One job with its attempts.
#[utoipa::path(
    get,
    path = "/admin/jobs/{jobId}",
    tag = "operators",
    params(("jobId" = String, Path)),
    responses(
        (status = 200, description = "The job", body = Success<JobDetail>),
        (status = 403, description = "`forbidden`: not an admin"),
        (status = 404, description = "`no-such-job`")
    )
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Success<JobDetail>, ApiError> {
    caller.must_be_admin()?;
    let id = job_id(&id)?;
    let found = jobs::get(&mut *app.db.acquire().await?, &id).await?;
    let (job, attempts) = found.ok_or_else(no_such_job)?;
    Ok(Success::ok(JobDetail { job: job.into(), attempts }))
}

/// Gives a dead job its attempts back. A job that waits or is done stays as it is.
#[utoipa::path(
    post,
    path = "/admin/jobs/{jobId}/requeue",
    tag = "operators",
    params(("jobId" = String, Path)),
    responses(
        (status = 200, description = "The job as it is now", body = Success<JobDetail>),
        (status = 403, description = "`forbidden`: not an admin"),
        (status = 404, description = "`no-such-job`"),
        (status = 409, description = "`job-running`")
    )
)]
async fn requeue(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Success<JobDetail>, ApiError> {
    caller.must_be_admin()?;
    let id = job_id(&id)?;
    let mut db = app.db.acquire().await?;
    match jobs::requeue(&mut db, &id).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(no_such_job()),
        Err(RequeueError::Running) => return Err(ApiError::new(Code::JobRunning, "the job is running")),
        Err(RequeueError::Database(error)) => return Err(error.into()),
    }
    let (job, attempts) = jobs::get(&mut db, &id).await?.ok_or_else(no_such_job)?;
    Ok(Success::ok(JobDetail { job: job.into(), attempts }))
}

/// Job ids are ours: one that does not have their form names nothing.
fn job_id(raw: &str) -> Result<JobId, ApiError> {
    raw.parse().map_err(|_| no_such_job())
}

fn no_such_job() -> ApiError {
    ApiError::new(Code::NoSuchJob, "there is no such job")
}

impl Placed for JobRow {
    fn place(&self) -> (DateTime<Utc>, &str) {
        (self.run_at, self.id.as_str())
    }
}

impl From<JobRow> for JobView {
    fn from(row: JobRow) -> Self {
        Self {
            id: row.id.to_string(),
            queue: row.queue,
            state: row.state.to_string(),
            payload: row.payload,
            attempt_count: row.attempts,
            max_attempts: row.max_attempts,
            enqueued_at: row.enqueued_at,
            run_at: row.run_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            worker: row.worker,
            error: row.error,
        }
    }
}
