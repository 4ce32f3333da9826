//! Measures the queue in one run, on a database of its own in `TEST_DATABASE_URL`'s cluster: from enqueue to start when idle,
//! and no-op jobs per second out of a backlog. `cargo run --release -p worker --example bench_queue`.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    jobs::{self, Job},
    testing::TestDatabase,
};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use worker::queue::{QueueSettings, Runner, migrate};

/// Idle enqueues; enough for a p99 of twenty samples.
const SINGLE: u32 = 2_000;
/// Jobs in the backlog.
const BACKLOG: i32 = 20_000;

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
    for concurrency in [1, 10, 50, 200] {
        throughput(&db, concurrency).await?;
    }
    Ok(())
}

/// A worker that reports every start.
fn start(db: &PgPool, concurrency: usize) -> (CancellationToken, mpsc::UnboundedReceiver<(u32, Instant)>) {
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
    tokio::spawn(runner.run(shutdown.clone()));
    (shutdown, started)
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn idle_latency(db: &PgPool) -> anyhow::Result<()> {
    let (shutdown, mut started) = start(db, 1);
    let mut connection = db.acquire().await?;
    let mut waits = Vec::new();
    for n in 0..SINGLE {
        let enqueued = Instant::now();
        jobs::enqueue(&mut connection, &Noop { n }).await?;
        let (_, at) = started.recv().await.ok_or_else(|| anyhow::anyhow!("the worker ended"))?;
        waits.push(at - enqueued);
        // Until the worker is idle again: the outcome is written.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("enqueue to start, idle: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(1.0));
    shutdown.cancel();
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
async fn throughput(db: &PgPool, concurrency: usize) -> anyhow::Result<()> {
    sqlx::query("delete from apalis.jobs where job_type = 'noop'").execute(db).await?;
    sqlx::query(
        "insert into apalis.jobs (id, job_type, job, max_attempts)
         select apalis.generate_ulid(), 'noop', convert_to('{}', 'UTF8'), 3 from generate_series(1, $1)",
    )
    .bind(BACKLOG)
    .execute(db)
    .await?;
    sqlx::query("analyze apalis.jobs").execute(db).await?;
    let began = Instant::now();
    let (shutdown, mut started) = start(db, concurrency);
    for _ in 0..BACKLOG {
        started.recv().await;
    }
    while sqlx::query_scalar::<_, bool>(
        "select exists (select 1 from apalis.jobs where job_type = 'noop' and status <> 'Done')",
    )
    .fetch_one(db)
    .await?
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rate = f64::from(BACKLOG) / began.elapsed().as_secs_f64();
    println!("concurrency {concurrency}: {rate:.0} no-op jobs/s, outcomes written");
    shutdown.cancel();
    Ok(())
}
