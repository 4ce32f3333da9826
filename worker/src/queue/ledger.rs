//! The statements with which this process claims jobs, keeps them, and writes down how they ended. SQL only: no loops, no
//! retries, no knowledge of handlers.
//!
//! Decisions:
//! - Claiming sets `Running`, counts the attempt and opens its row in `job_attempts` in one statement, so a process that dies
//!   at any instant leaves a counted attempt behind: a job that kills its process is dead after its last attempt.
//! - Every write afterwards is fenced by the open attempt row **and** `lock_by`. The worker's name alone is not enough: a
//!   worker that lost a job can claim the same job again, and its first run must not finish the second.
//! - All times are the database's. Processes need no synchronised clocks.
//! - Rows are locked job first, attempt second, in the order of their ids: a settling and a rescuing worker cannot deadlock.
//!   Progress, which locks attempts alone, waits for nobody: a row that somebody else holds is being ended, or is written by
//!   the next heartbeat. (When it waited, two of 2,000 short jobs on a busy machine were enough for a deadlock with the
//!   outcomes of the same process.)

use std::{sync::Arc, time::Duration};

use shared::jobs::JobId;
use sqlx::PgPool;

use super::roster::AttemptId;

/// A job that now belongs to this process.
#[derive(Debug)]
pub(super) struct ClaimedRow {
    pub(super) id: AttemptId,
    pub(super) job: JobId,
    pub(super) number: u32,
    pub(super) max: u32,
    pub(super) payload: Vec<u8>,
    /// From the time it could have run to the claim.
    pub(super) waited: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Done,
    /// Retried after the given time, or the usual backoff; dead when it was the last attempt.
    Failed {
        retry_in: Option<Duration>,
    },
    GaveUp,
    Cancelled,
    /// Given back unharmed: the attempt does not count.
    Returned,
}

impl Outcome {
    /// The word in `job_attempts.outcome` and in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed { .. } => "failed",
            Self::GaveUp => "gave-up",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
        }
    }

    fn retry_in_s(self) -> Option<f64> {
        match self {
            Self::Failed { retry_in } => retry_in.map(|wait| wait.as_secs_f64()),
            _ => None,
        }
    }
}

/// An outcome on its way to the database.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) id: AttemptId,
    pub(super) worker: Arc<str>,
    pub(super) outcome: Outcome,
    pub(super) error: Option<String>,
}

/// An attempt that the database holds open for this process.
#[derive(Debug)]
pub(super) struct OpenAttempt {
    pub(super) id: AttemptId,
    pub(super) worker: String,
    pub(super) is_cancelled: bool,
    pub(super) age: Duration,
}

/// A job taken from a worker that is gone.
#[derive(Debug)]
pub(super) struct Rescued {
    pub(super) job: String,
    pub(super) queue: String,
    pub(super) worker: String,
}

/// Says that the workers live, by the database's clock, and returns that clock in seconds.
pub(super) async fn beat(db: &PgPool, workers: &[String], queues: &[String]) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        "with beat as (
            insert into apalis.workers (id, worker_type, storage_name, last_seen, started_at)
            select id, queue, 'callreel', now(), now() from unnest($1::text[], $2::text[]) as mine (id, queue)
            on conflict (id) do update set last_seen = now()
         )
         select extract(epoch from now())::float8 as \"now!\"",
        workers,
        queues,
    )
    .fetch_one(db)
    .await
}

/// What the database believes these workers are running.
pub(super) async fn open_attempts(db: &PgPool, workers: &[String]) -> sqlx::Result<Vec<OpenAttempt>> {
    let rows = sqlx::query!(
        "select id, worker, cancel_requested_at is not null as \"is_cancelled!\",
                extract(epoch from now() - started_at)::float8 as \"age_s!\"
         from job_attempts where worker = any($1) and ended_at is null",
        workers,
    )
    .fetch_all(db)
    .await?;
    let open = rows.into_iter().map(|row| OpenAttempt {
        id: AttemptId(row.id),
        worker: row.worker,
        is_cancelled: row.is_cancelled,
        age: seconds(row.age_s),
    });
    Ok(open.collect())
}

/// Writes how far running attempts are, except those whose rows are locked at the moment.
pub(super) async fn write_progress(db: &PgPool, progress: &[(AttemptId, i16)]) -> sqlx::Result<()> {
    let (ids, percents): (Vec<i64>, Vec<i16>) = progress.iter().map(|(id, percent)| (id.0, *percent)).unzip();
    sqlx::query!(
        "with moved as (
            select a.id, p.percent
            from unnest($1::bigint[], $2::smallint[]) as p (id, percent) join job_attempts a on a.id = p.id
            where a.ended_at is null and a.progress_percent is distinct from p.percent
            for no key update of a skip locked
         )
         update job_attempts a set progress_percent = moved.percent from moved where a.id = moved.id",
        &ids,
        &percents,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Takes up to `limit` due jobs of `queue` for `worker`, whose row in `apalis.workers` must exist.
pub(super) async fn claim(
    db: &PgPool,
    queue: &str,
    worker: &str,
    limit: usize,
) -> sqlx::Result<Vec<ClaimedRow>> {
    let rows = sqlx::query!(
        "with due as (
            select id from apalis.jobs
            where job_type = $1 and run_at <= now()
              and (status = 'Pending' or (status = 'Failed' and attempts < max_attempts))
            order by priority desc, run_at
            limit $3
            for no key update skip locked
         ), claimed as (
            update apalis.jobs j
            set status = 'Running', lock_by = $2, lock_at = now(), attempts = j.attempts + 1, done_at = null
            from due where j.id = due.id
            returning j.id, j.attempts, j.max_attempts, j.job, j.run_at
         ), opened as (
            insert into job_attempts (job_id, attempt, worker)
            select id, attempts, $2 from claimed
            returning id, job_id
         )
         select opened.id, claimed.id as job_id, claimed.attempts, claimed.max_attempts, claimed.job,
                extract(epoch from now() - claimed.run_at)::float8 as \"waited_s!\"
         from claimed join opened on opened.job_id = claimed.id",
        queue,
        worker,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await?;
    let claimed = rows.into_iter().map(|row| ClaimedRow {
        id: AttemptId(row.id),
        job: JobId::stored(row.job_id),
        number: row.attempts.unsigned_abs(),
        max: row.max_attempts.unsigned_abs(),
        payload: row.job,
        waited: seconds(row.waited_s),
    });
    Ok(claimed.collect())
}

/// Writes outcomes in one transaction and returns the attempts that were still this process' to end; the writes of all others
/// are refused.
pub(super) async fn settle(db: &PgPool, settled: &[Settled]) -> sqlx::Result<Vec<AttemptId>> {
    let ids: Vec<i64> = settled.iter().map(|one| one.id.0).collect();
    let workers: Vec<String> = settled.iter().map(|one| one.worker.to_string()).collect();
    let outcomes: Vec<String> = settled.iter().map(|one| one.outcome.word().to_owned()).collect();
    let errors: Vec<Option<String>> = settled.iter().map(|one| one.error.clone()).collect();
    let waits: Vec<Option<f64>> = settled.iter().map(|one| one.outcome.retry_in_s()).collect();
    let written = sqlx::query_scalar!(
        "with verdict as (
            select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::float8[])
                as v (id, worker, outcome, error, retry_in_s)
         ), mine as (
            select j.id as job_id, v.*
            from verdict v
            join job_attempts a on a.id = v.id
            join apalis.jobs j on j.id = a.job_id
            where j.lock_by = v.worker and j.status = 'Running'
            order by j.id
            for no key update of j
         ), closed as (
            update job_attempts a set ended_at = now(), outcome = mine.outcome, error = mine.error
            from mine where a.id = mine.id and a.ended_at is null
            returning mine.*
         )
         update apalis.jobs j set
            status = case
                when c.outcome = 'done' then 'Done'
                when c.outcome = 'returned' then 'Pending'
                when c.outcome = 'failed' and j.attempts < j.max_attempts then 'Failed'
                else 'Killed' end,
            attempts = case when c.outcome = 'returned' then j.attempts - 1 else j.attempts end,
            run_at = case when c.outcome = 'failed' and j.attempts < j.max_attempts
                then now() + coalesce(make_interval(secs => c.retry_in_s), job_backoff(j.attempts))
                else j.run_at end,
            lock_by = case when c.outcome = 'returned' then null else j.lock_by end,
            lock_at = case when c.outcome = 'returned' then null else j.lock_at end,
            done_at = case when c.outcome = 'returned' then null else now() end,
            last_result = case c.outcome
                when 'done' then '{\"Ok\": null}'::jsonb
                when 'returned' then j.last_result
                when 'cancelled' then jsonb_build_object('Cancelled', coalesce(c.error, 'while running'))
                else jsonb_build_object('Err', c.error) end
         from closed c where j.id = c.job_id
         returning c.id as \"id!\"",
        &ids,
        &workers,
        &outcomes,
        &errors as &[Option<String>],
        &waits as &[Option<f64>],
    )
    .fetch_all(db)
    .await?;
    Ok(written.into_iter().map(AttemptId).collect())
}

/// Takes the jobs of workers that were not heard of for `lease`: a failed attempt with the error `worker lost`. A worker that
/// says it lives in this very moment is skipped, not waited for.
pub(super) async fn rescue(db: &PgPool, lease: Duration) -> sqlx::Result<Vec<Rescued>> {
    sqlx::query_as!(
        Rescued,
        "with lost as (
            select j.id, w.id as worker
            from apalis.workers w join apalis.jobs j on j.lock_by = w.id
            where j.status in ('Running', 'Queued') and w.last_seen < now() - make_interval(secs => $1)
            order by j.id
            for no key update of j, w skip locked
         ), closed as (
            update job_attempts a set ended_at = now(), outcome = 'lost', error = 'worker lost'
            from lost where a.job_id = lost.id and a.ended_at is null
         )
         update apalis.jobs j set
            status = case when j.attempts < j.max_attempts then 'Failed' else 'Killed' end,
            run_at = case when j.attempts < j.max_attempts then now() + job_backoff(j.attempts) else j.run_at end,
            lock_by = null, lock_at = null, done_at = now(),
            last_result = '{\"Err\": \"worker lost\"}'::jsonb
         from lost where j.id = lost.id
         returning j.id as job, j.job_type as queue, lost.worker",
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await
}

/// Which of these queues have a job that is due.
pub(super) async fn due_queues(db: &PgPool, queues: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select q.name as \"name!\" from unnest($1::text[]) as q (name) where exists (
            select 1 from apalis.jobs
            where job_type = q.name and run_at <= now()
              and (status = 'Pending' or (status = 'Failed' and attempts < max_attempts)))",
        queues,
    )
    .fetch_all(db)
    .await
}

/// Whether an operator asked one of these workers to stop a job.
pub(super) async fn has_cancel_requests(db: &PgPool, workers: &[String]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        "select exists (select 1 from job_attempts
            where worker = any($1) and ended_at is null and cancel_requested_at is not null) as \"found!\"",
        workers,
    )
    .fetch_one(db)
    .await
}

/// Seconds from the database as a duration; a negative or absurd value is zero.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use shared::testing::TestDatabase;

    use super::{super::backoff::limited, *};

    #[tokio::test]
    async fn progress_of_a_row_that_is_being_settled_waits_for_nobody() {
        let database = TestDatabase::create().await;
        let db = database.pool(2).await;
        crate::queue::migrate(&db).await.unwrap();
        let worker = ["w".to_owned()];
        beat(&db, &worker, &["errand".to_owned()]).await.unwrap();
        sqlx::raw_sql(
            "insert into apalis.jobs (id, job_type, job) values (apalis.generate_ulid(), 'errand', '{}'),
             (apalis.generate_ulid(), 'errand', '{}')",
        )
        .execute(&db)
        .await
        .unwrap();
        let claimed = claim(&db, "errand", "w", 2).await.unwrap();
        let [locked, free] = [claimed[0].id, claimed[1].id];
        let mut other = db.begin().await.unwrap();
        sqlx::query("select from job_attempts where id = $1 for no key update")
            .bind(locked.0)
            .execute(&mut *other)
            .await
            .unwrap();
        let write = async || limited(write_progress(&db, &[(locked, 40), (free, 50)])).await.unwrap();
        let progress = async |of: AttemptId| {
            let query = sqlx::query_scalar("select progress_percent from job_attempts where id = $1");
            query.bind(of.0).fetch_one(&db).await.unwrap()
        };
        write().await;
        assert_eq!((progress(locked).await, progress(free).await), (None, Some(50_i16)));
        other.rollback().await.unwrap();
        write().await;
        assert_eq!((progress(locked).await, progress(free).await), (Some(40_i16), Some(50)));
    }
}
