//! What happens by time: schedules, timetables, wake-ups, cleaning, migrations.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    db::jobs::JobState,
    jobs::{self, Job},
};
use tokio::time::Instant;
use tracing::Level;
use worker::queue::{QueueSettings, migrate};

use crate::support::{Bench, Log, What, errand, quick, start};

async fn database_now(bench: &Bench) -> DateTime<Utc> {
    sqlx::query_scalar("select now()").fetch_one(&bench.db).await.unwrap()
}

#[tokio::test]
async fn a_scheduled_job_starts_within_a_second_of_its_time() {
    let bench = Bench::new().await;
    let worker = bench.start("a", QueueSettings::default(), 1);
    let run_at = database_now(&bench).await + TimeDelta::milliseconds(1_500);
    let mut connection = bench.db.acquire().await.unwrap();
    let id = jobs::enqueue_at(&mut connection, &errand(What::Succeed), run_at).await.unwrap().unwrap();
    drop(connection);
    assert_eq!(bench.get(&id).await.0.state, JobState::Scheduled);
    let (_, attempts) = bench.reaches(&id, JobState::Done).await;
    let late = attempts[0].started_at - run_at;
    assert!(late >= TimeDelta::zero() && late < TimeDelta::seconds(1), "{late}");
    worker.stop().await;
}

#[derive(Serialize, Deserialize)]
struct Tick;

impl Job for Tick {
    const QUEUE: &'static str = "tick";
    const MAX_ATTEMPTS: u32 = 1;
}

#[tokio::test]
async fn two_workers_make_one_job_of_each_tick() {
    let bench = Bench::new().await;
    let ticking = |name| {
        let runner = bench.runner(name, quick(), 1);
        start(runner.register(1, Duration::from_secs(5), |_, Tick, _| async { Ok(()) }).cron(
            "tick",
            Duration::from_secs(1),
            || Tick,
        ))
    };
    let workers = [ticking("a"), ticking("b")];
    let four_ticks = async || {
        let keys: Vec<String> =
            sqlx::query_scalar("select idempotency_key from apalis.jobs where job_type = 'tick' order by id")
                .fetch_all(&bench.db)
                .await
                .unwrap();
        let ticks: Vec<i64> = keys.iter().map(|key| key["tick:".len()..].parse().unwrap()).collect();
        assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ticks:?}");
        (ticks.len() >= 4).then_some(())
    };
    bench.when("four ticks", four_ticks).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_every_single_enqueue() {
    let mut bench = Bench::new().await;
    // No poll can help: only notifications wake it.
    let worker = bench.start("a", QueueSettings { poll: Duration::from_secs(600), ..quick() }, 1);
    let first = bench.enqueue(&errand(What::Succeed)).await;
    bench.reaches(&first, JobState::Done).await;
    bench.next_start().await;
    for _ in 0..100 {
        let id = bench.enqueue(&errand(What::Succeed)).await;
        let asked = Instant::now();
        assert_eq!(bench.next_start().await.0, id);
        assert!(asked.elapsed() < Duration::from_secs(5), "stalled for {:?}", asked.elapsed());
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_burst_is_run_completely_and_each_job_once() {
    let bench = Bench::new().await;
    let mut log = Log::from(Level::WARN);
    let workers = [bench.start("a", quick(), 10), bench.start("b", quick(), 10)];
    sqlx::query(
        "insert into apalis.jobs (id, job_type, job, max_attempts)
         select apalis.generate_ulid(), 'errand', convert_to('{\"what\":\"Succeed\"}', 'UTF8'), 3 from generate_series(1, 2000)",
    )
    .execute(&bench.db)
    .await
    .unwrap();
    let all_done = async || {
        let left = "select count(*) from apalis.jobs where job_type = 'errand' and status <> 'Done'";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&bench.db).await.unwrap();
        (left == 0).then_some(())
    };
    bench.when("all jobs to be done", all_done).await;
    let mut said = log.rest();
    // A busy machine is slow, and that is no fault of the queue's.
    said.retain(|line| !line.contains("sqlx::query: slow statement"));
    assert!(said.is_empty(), "there is nothing to warn of: {said:?}");
    let attempts: i64 = sqlx::query_scalar(
        "select count(*) from job_attempts a join apalis.jobs j on j.id = a.job_id where job_type = 'errand'",
    )
    .fetch_one(&bench.db)
    .await
    .unwrap();
    assert_eq!(attempts, 2000);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn old_done_jobs_and_forgotten_workers_are_purged() {
    let bench = Bench::new().await;
    let first = bench.start("a", quick(), 1);
    let (old, dead) =
        (bench.enqueue(&errand(What::Succeed)).await, bench.enqueue(&errand(What::GiveUp)).await);
    bench.reaches(&old, JobState::Done).await;
    bench.reaches(&dead, JobState::Dead).await;
    first.stop().await;
    sqlx::raw_sql(
        "update apalis.jobs set done_at = now() - interval '8 days', lock_by = null where job_type = 'errand';
         update apalis.jobs set idempotency_key = idempotency_key || ' before' where job_type = 'purge-jobs';
         update apalis.workers set last_seen = now() - interval '8 days';",
    )
    .execute(&bench.db)
    .await
    .unwrap();
    let second = bench.start("b", quick(), 1);
    let purged = async || {
        let forgotten: i64 =
            sqlx::query_scalar("select count(*) from apalis.workers where id like 'a:errand:%'")
                .fetch_one(&bench.db)
                .await
                .unwrap();
        let mut connection = bench.db.acquire().await.unwrap();
        let is_gone = shared::db::jobs::get(&mut connection, &old).await.unwrap().is_none();
        (forgotten == 0 && is_gone).then_some(())
    };
    bench.when("the purge", purged).await;
    assert_eq!(bench.get(&dead).await.0.state, JobState::Dead);
    second.stop().await;
}

#[tokio::test]
async fn several_processes_migrate_at_once_and_twice_without_harm() {
    let database = shared::testing::TestDatabase::create().await;
    let pools =
        [database.pool(2).await, database.pool(2).await, database.pool(2).await, database.pool(2).await];
    for _ in 0..2 {
        let migrations = pools.iter().map(migrate);
        for migrated in futures::future::join_all(migrations).await {
            migrated.unwrap();
        }
    }
}
