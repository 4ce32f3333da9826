//! Jobs that come by the clock. A tick is an enqueue under the key `name:tick`, so any number of workers make one job of it.
//! The queue's own cleaning is such a job.

use std::{pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use shared::jobs::{self, Job, JobId};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, limited};
use crate::failure::Failure;

type Enqueue = Pin<Box<dyn Future<Output = sqlx::Result<Option<JobId>>> + Send>>;

/// One entry of the timetable.
pub(super) struct Cron {
    name: &'static str,
    every: Duration,
    enqueue: Box<dyn Fn(PgPool, String) -> Enqueue + Send + Sync>,
}

impl Cron {
    pub(super) fn new<J: Job>(
        name: &'static str,
        every: Duration,
        make: impl Fn() -> J + Send + Sync + 'static,
    ) -> Self {
        let enqueue = move |db: PgPool, key: String| -> Enqueue {
            let job = make();
            Box::pin(async move {
                let mut connection = db.acquire().await?;
                jobs::enqueue_keyed(&mut connection, &job, key).await
            })
        };
        Self { name, every, enqueue: Box::new(enqueue) }
    }

    /// Enqueues each tick until `stop`. The tick that is under way at the start is enqueued too, if nobody did: after a
    /// downtime the work is done once, at once.
    pub(super) async fn run(self, db: PgPool, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let ticked = stop.run_until_cancelled(limited(self.tick(&db))).await;
            let went_on = match ticked {
                None => None,
                Some(Ok(until_next)) => {
                    backoff = Backoff::default();
                    stop.run_until_cancelled(tokio::time::sleep(until_next)).await
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot enqueue the tick of {}", self.name);
                    stop.run_until_cancelled(backoff.wait()).await
                }
            };
            if went_on.is_none() {
                return;
            }
        }
    }

    /// Enqueues the current tick by the database's clock and returns the time until the next.
    async fn tick(&self, db: &PgPool) -> sqlx::Result<Duration> {
        let now_s =
            sqlx::query_scalar!("select extract(epoch from now())::float8 as \"now!\"").fetch_one(db).await?;
        let tick = (now_s / self.every.as_secs_f64()).floor();
        if let Some(job) = (self.enqueue)(db.clone(), format!("{}:{tick}", self.name)).await? {
            tracing::info!(job.id = %job, "enqueued {} by the clock", self.name);
        }
        let until_next_s = (tick + 1.0) * self.every.as_secs_f64() - now_s;
        Ok(Duration::try_from_secs_f64(until_next_s).unwrap_or(self.every))
    }
}

/// Deletes done jobs, with their attempts, and workers that nobody refers to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PurgeJobs {
    /// Seconds since a job was done.
    pub(super) keep_s: u64,
}

impl Job for PurgeJobs {
    const QUEUE: &'static str = super::PURGE_QUEUE;
    const MAX_ATTEMPTS: u32 = 3;
}

/// How often it runs: often enough that one run has little to do, and within the purge's own 15 minutes.
pub(super) const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long one purge may take.
pub(super) const PURGE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Rows in one transaction: a purge never locks more.
const PURGE_BATCH: i64 = 1_000;
/// A worker that was not heard of for a day is history, once none of its jobs are left.
const WORKER_KEPT_S: f64 = 24.0 * 3600.0;

pub(super) async fn purge(db: PgPool, job: PurgeJobs) -> Result<(), Failure> {
    let keep_s = Duration::from_secs(job.keep_s).as_secs_f64();
    loop {
        let deleted = purge_batch(&db, keep_s).await.map_err(anyhow::Error::from)?;
        if deleted < PURGE_BATCH.unsigned_abs() {
            break;
        }
    }
    sqlx::query!(
        "delete from apalis.workers w
         where last_seen < now() - make_interval(secs => $1)
           and not exists (select 1 from apalis.jobs where lock_by = w.id)",
        WORKER_KEPT_S,
    )
    .execute(&db)
    .await
    .map_err(anyhow::Error::from)?;
    Ok(())
}

async fn purge_batch(db: &PgPool, keep_s: f64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from apalis.jobs where id in (
            select id from apalis.jobs
            where status = 'Done' and done_at < now() - make_interval(secs => $1)
            limit $2 for update skip locked)",
        keep_s,
        PURGE_BATCH,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
