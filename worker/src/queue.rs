//! Runs jobs from Postgres, at least once each, through anything that may happen to this process, its neighbours and the
//! database. Knows nothing of recordings or FFmpeg; a job is a payload and a handler.
//!
//! How a job runs: its insert rings a bell (`wake`), a fetcher claims it when a slot is free (`fetch`), apalis' worker calls
//! the executor (`driver`), the handler runs in its own task (`execute`), the outcome is written with others (`settle`). Beside
//! that, a heartbeat keeps the lease and rescues the jobs of the dead (`pulse`). All SQL stands in `ledger`.
//!
//! Decisions:
//! - apalis' own Postgres worker is not used. Measured with 1.0.0: one failed database call ends it and drops the running job;
//!   a killed worker's job comes back after 299 s, and for ever when it kills its process; errors are retried three times
//!   within 30 ms; with a batch above the free slots a live worker's jobs run 2 to 4 times. See `driver` for what is used.
//! - The queue has a small pool of its own: handlers that use up theirs cannot hold up a heartbeat or an outcome.
//! - Execution is at least once: a handler looks first, acts, records, and is safe to run twice, on two machines at once.

mod attempt;
mod backoff;
mod cron;
mod driver;
mod execute;
mod fetch;
mod ledger;
mod metrics;
mod migrate;
mod pulse;
mod roster;
mod settings;
mod settle;
mod supervise;
mod wake;

use std::{sync::Arc, time::Duration};

use shared::jobs::Job;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub use self::{
    attempt::Attempt,
    metrics::register_metrics,
    migrate::{MigrateError, migrate},
    settings::{QueueFilter, QueueSettings},
};
use self::{cron::Cron, execute::Handler};
use crate::failure::Failure;

/// Why the queue stopped although nobody asked it to. The process ends with it, and the platform starts it again.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database could not be polled for that long.
    #[error("no successful poll of the database for {0:?}: {1}")]
    Watchdog(Duration, sqlx::Error),
    /// apalis' worker loop ended.
    #[error("worker loop ended: {0}")]
    Worker(String),
    /// One of the queue's own tasks ended or panicked.
    #[error("task {0} of the queue ended")]
    Task(String),
}

/// The queue of the queue's own cleaning. Some process must serve it.
pub const PURGE_QUEUE: &str = "purge-jobs";

/// One queue that this process serves.
struct Registered {
    queue: &'static str,
    concurrency: usize,
    timeout: Duration,
    handler: Handler,
}

/// The names under which this process works: a worker for each queue, new at every start.
#[derive(Debug)]
struct Names {
    workers: Vec<String>,
    queues: Vec<String>,
}

impl Names {
    fn queue_of(&self, worker: &str) -> &str {
        let at = self.workers.iter().position(|name| name == worker);
        at.and_then(|at| self.queues.get(at)).map_or("unknown", String::as_str)
    }
}

/// Collects handlers and timetables, then runs them. `C` is what every handler gets beside its payload.
pub struct Runner<C> {
    db: PgPool,
    settings: QueueSettings,
    ctx: C,
    queues: Vec<Registered>,
    crons: Vec<Cron>,
}

impl<C: Clone + Send + Sync + 'static> Runner<C> {
    /// A runner that uses `pool`'s database, through connections of its own. The queue's own cleaning is registered.
    pub fn new(pool: PgPool, settings: QueueSettings, ctx: C) -> Self {
        let (db, keep_s) = (pool.clone(), settings.jobs_keep.as_secs());
        Self { db: pool, settings, ctx, queues: Vec::new(), crons: Vec::new() }
            .register(1, cron::PURGE_TIMEOUT, move |_, job: cron::PurgeJobs, _| cron::purge(db.clone(), job))
            .cron("purge-jobs", cron::PURGE_EVERY, move || cron::PurgeJobs { keep_s })
    }

    /// Serves `J`'s queue with `handler`, up to `concurrency` jobs at a time, each for `timeout` at most. A queue that the
    /// settings leave out is not served; a concurrency of 0 counts as 1.
    #[must_use]
    pub fn register<J, H, F>(mut self, concurrency: usize, timeout: Duration, handler: H) -> Self
    where
        J: Job,
        H: Fn(C, J, Attempt) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        if self.settings.queues.has(J::QUEUE) {
            let ctx = self.ctx.clone();
            let handler: Handler = Box::new(move |payload, attempt| {
                let job = serde_json::from_slice::<J>(payload)?;
                Ok(Box::pin(handler(ctx.clone(), job, attempt)))
            });
            self.queues.push(Registered {
                queue: J::QUEUE,
                concurrency: concurrency.max(1),
                timeout,
                handler,
            });
        }
        self
    }

    /// Enqueues `make()` at every multiple of `every` since 1970, once for all workers together, and once for a tick that was
    /// missed. `name` is part of the jobs' keys and must stay; `every` must be shorter than [`QueueSettings::jobs_keep`].
    #[must_use]
    pub fn cron<J: Job>(
        mut self,
        name: &'static str,
        every: Duration,
        make: impl Fn() -> J + Send + Sync + 'static,
    ) -> Self {
        self.crons.push(Cron::new(name, every, make));
        self
    }

    /// Works until `shutdown`. Then nothing more is claimed; running jobs may finish for [`QueueSettings::shutdown_grace`],
    /// are then cancelled, and are given back without counting the attempt.
    ///
    /// # Errors
    /// See [`QueueError`]: the process must end then, because jobs may be left running without a heartbeat.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), QueueError> {
        supervise::run(self.db, Arc::new(self.settings), self.queues, self.crons, shutdown).await
    }
}
