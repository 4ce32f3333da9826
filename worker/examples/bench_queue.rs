//! Measures the queue in one run, on a database of its own in `TEST_DATABASE_URL`'s cluster: from enqueue to start when idle,
//! and no-op jobs per second out of a backlog, beside apalis' own Postgres worker on the same database.
//! `cargo run --release -p worker --example bench_queue`.
//!
//! Decision: with one slot, every job waits for the commit of its own claim, some milliseconds on a slow disk; a backlog that
//! is long enough for 200 slots would then take minutes and say no more. So the backlog grows with the slots.

use std::{sync::Arc, time::Duration};

use apalis_core::{error::BoxDynError, worker::builder::WorkerBuilder};
use serde::{Deserialize, Serialize};
use shared::{
    jobs::{self, Job},
    testing::TestDatabase,
};
use sqlx::PgPool;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use worker::queue::{QueueError, QueueSettings, Runner, migrate};

/// Idle enqueues; enough for a p99 of ten samples.
const SINGLE: u32 = 1_000;
/// Slots, and jobs in the backlog.
const ROUNDS: [(usize, i32); 4] = [(1, 1_000), (10, 10_000), (50, 20_000), (200, 20_000)];
/// Rows that apalis' own worker claims at once, which decide its rate, and jobs in the backlog.
const STOCK_ROUNDS: [(usize, i32); 2] = [(10, 10_000), (50, 20_000)];
/// Where the jobs of apalis' own worker wait.
const STOCK_QUEUE: &str = "noop-stock";
/// Between two looks whether all outcomes are written.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Serialize, Deserialize)]
struct Noop {
    #[serde(default)]
    n: u32,
}

impl Job for Noop {
    const QUEUE: &'static str = "noop";
    const MAX_ATTEMPTS: u32 = 3;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = TestDatabase::create().await;
    let db = database.pool(4).await;
    migrate(&db).await?;
    idle_latency(&db).await?;
    for (slots, jobs) in ROUNDS {
        throughput(&db, slots, jobs).await?;
    }
    for (batch, jobs) in STOCK_ROUNDS {
        stock(&db, batch, jobs).await?;
    }
    Ok(())
}

/// A worker that reports every start.
struct Worker {
    started: mpsc::UnboundedReceiver<(u32, Instant)>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), QueueError>>,
}

impl Worker {
    fn start(db: &PgPool, concurrency: usize) -> Self {
        let (starts, started) = mpsc::unbounded_channel();
        let starts = Arc::new(starts);
        let shutdown = CancellationToken::new();
        let runner = Runner::new(db.clone(), QueueSettings::default(), starts).register(
            concurrency,
            Duration::from_secs(60),
            |starts, job: Noop, _| async move {
                let _ = starts.send((job.n, Instant::now()));
                Ok(())
            },
        );
        let running = tokio::spawn(runner.run(shutdown.clone()));
        Self { started, shutdown, running }
    }

    /// Ends it, so that the next measurement has the database for itself.
    async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.running.await??)
    }
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn idle_latency(db: &PgPool) -> anyhow::Result<()> {
    let mut worker = Worker::start(db, 1);
    let mut connection = db.acquire().await?;
    let mut waits = Vec::new();
    for n in 0..SINGLE {
        let enqueued = Instant::now();
        jobs::enqueue(&mut connection, &Noop { n }).await?;
        let (_, at) = worker.started.recv().await.ok_or_else(|| anyhow::anyhow!("the worker ended"))?;
        waits.push(at - enqueued);
        // Until the worker is idle again: the outcome is written.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("enqueue to start, idle: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(1.0));
    worker.end().await
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn throughput(db: &PgPool, slots: usize, jobs: i32) -> anyhow::Result<()> {
    fill(db, Noop::QUEUE, jobs).await?;
    let began = Instant::now();
    let worker = Worker::start(db, slots);
    all_done(db, Noop::QUEUE).await?;
    let rate = f64::from(jobs) / began.elapsed().as_secs_f64();
    println!("concurrency {slots}: {rate:.0} no-op jobs/s, outcomes written");
    worker.end().await
}

/// What apalis' own worker makes of the same jobs.
#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn stock(db: &PgPool, batch: usize, jobs: i32) -> anyhow::Result<()> {
    fill(db, STOCK_QUEUE, jobs).await?;
    let config = apalis_postgres::Config::default().queue(STOCK_QUEUE).batch_size(batch);
    let backend = apalis_postgres::PostgresStorage::<Noop>::new(db).with_config(config);
    let began = Instant::now();
    let worker = WorkerBuilder::new(format!("stock-{batch}"))
        .backend(backend)
        .build(|_: Noop| async { Ok::<(), BoxDynError>(()) });
    let running = tokio::spawn(worker.run());
    all_done(db, STOCK_QUEUE).await?;
    let rate = f64::from(jobs) / began.elapsed().as_secs_f64();
    println!("stock apalis, batch {batch}: {rate:.0} no-op jobs/s, outcomes written");
    running.abort();
    Ok(())
}

async fn fill(db: &PgPool, queue: &str, jobs: i32) -> anyhow::Result<()> {
    sqlx::query("delete from apalis.jobs").execute(db).await?;
    sqlx::query(
        "insert into apalis.jobs (id, job_type, job, max_attempts)
         select apalis.generate_ulid(), $1, convert_to('{}', 'UTF8'), 3 from generate_series(1, $2)",
    )
    .bind(queue)
    .bind(jobs)
    .execute(db)
    .await?;
    // What the rounds before have left would slow the scans of this one.
    sqlx::query("vacuum analyze apalis.jobs").execute(db).await?;
    sqlx::query("vacuum analyze job_attempts").execute(db).await?;
    Ok(())
}

async fn all_done(db: &PgPool, queue: &str) -> anyhow::Result<()> {
    while sqlx::query_scalar::<_, bool>(
        "select exists (select 1 from apalis.jobs where job_type = $1 and status <> 'Done')",
    )
    .bind(queue)
    .fetch_one(db)
    .await?
    {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
