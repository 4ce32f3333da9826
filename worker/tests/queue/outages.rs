//! The database goes away, and comes back.

use std::time::Duration;

use shared::db::jobs::JobState;
use tracing::Level;
use worker::queue::{QueueError, QueueSettings};

use crate::support::{Bench, Log, What, errand, outcomes, quick};

/// Heartbeats that fail in an outage. Between two of them are 0.1 s or 0.2 s: four leases of `quick` for each of two workers,
/// so that all look dead when it is over.
const BEATS_FAILED: usize = 2 * 21;

#[tokio::test]
async fn running_jobs_survive_an_outage_and_their_outcomes_are_written_after_it() {
    let mut bench = Bench::new().await;
    let mut log = Log::from(Level::WARN);
    let workers = [bench.start("a", quick(), 2), bench.start("b", quick(), 2)];
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.enqueue(&errand(What::Wait)).await);
        bench.next_start().await;
    }
    bench.database.cut_off().await;
    bench.go.add_permits(2); // two end while the database is away, two after it is back
    for _ in 0..BEATS_FAILED {
        log.line_with("heartbeat failed").await;
    }
    bench.database.restore().await;
    let fresh = bench.start("c", quick(), 2);
    let late = bench.enqueue(&errand(What::Succeed)).await;
    bench.reaches(&late, JobState::Done).await;
    bench.go.add_permits(2);
    for id in &ids {
        let (job, attempts) = bench.reaches(id, JobState::Done).await;
        assert_eq!((job.attempts, outcomes(&attempts)), (1, vec!["done"]));
    }
    for worker in workers.into_iter().chain([fresh]) {
        worker.stop().await;
    }
}

#[tokio::test]
async fn jobs_survive_the_killing_of_all_connections_again_and_again() {
    let mut bench = Bench::new().await;
    let worker = bench.start("a", quick(), 4);
    let long = bench.enqueue(&errand(What::Wait)).await;
    bench.next_start().await;
    for _ in 0..15 {
        bench.database.kill_connections().await;
        // Refused at most once for each connection that was cut.
        let id = loop {
            let Ok(mut connection) = bench.db.acquire().await else { continue };
            if let Ok(id) = shared::jobs::enqueue(&mut connection, &errand(What::Succeed)).await {
                break id.unwrap();
            }
        };
        bench.reaches(&id, JobState::Done).await;
    }
    bench.go.add_permits(1);
    let (_, attempts) = bench.reaches(&long, JobState::Done).await;
    assert_eq!(outcomes(&attempts), ["done"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_cannot_poll_any_more_ends_with_an_error() {
    let mut bench = Bench::new().await;
    let worker = bench.start("a", QueueSettings { watchdog: Duration::from_secs(1), ..quick() }, 1);
    bench.enqueue(&errand(What::Succeed)).await;
    bench.next_start().await;
    bench.database.cut_off().await;
    let ended = tokio::time::timeout(Duration::from_secs(20), worker.ended).await.expect("it ends").unwrap();
    assert!(matches!(ended, Err(QueueError::Watchdog(..))), "{ended:?}");
}

#[tokio::test]
async fn a_live_worker_keeps_its_jobs_however_long_they_run() {
    let mut bench = Bench::new().await;
    let workers = [bench.start("a", quick(), 10), bench.start("b", quick(), 10)];
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(bench.enqueue(&errand(What::Wait)).await);
    }
    for _ in &ids {
        assert_eq!(bench.next_start().await.1, 1);
    }
    let several_leases_ago = (quick().lease * 4).as_secs_f64();
    let have_lasted = async || {
        let lasted =
            "select true from job_attempts having min(now() - started_at) > make_interval(secs => $1)";
        sqlx::query_scalar::<_, bool>(lasted)
            .bind(several_leases_ago)
            .fetch_optional(&bench.db)
            .await
            .unwrap()
    };
    // The heartbeats of their workers wake it.
    bench.when("all jobs to last for several leases", have_lasted).await;
    bench.go.add_permits(ids.len());
    for id in &ids {
        let (_, attempts) = bench.reaches(id, JobState::Done).await;
        assert_eq!(outcomes(&attempts), ["done"]);
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_job_whose_claim_was_never_answered_is_given_back() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let first = bench.enqueue(&errand(What::Succeed)).await;
    let (job, _) = bench.reaches(&first, JobState::Done).await;
    // What a claim leaves behind when its connection is cut between the commit and the answer.
    let lost = bench.enqueue(&errand(What::Succeed)).await;
    bench.reaches(&lost, JobState::Done).await;
    sqlx::query("update apalis.jobs set status = 'Running', done_at = null, lock_by = $2 where id = $1")
        .bind(lost.as_str())
        .bind(job.worker.as_deref())
        .execute(&bench.db)
        .await
        .unwrap();
    sqlx::query("insert into job_attempts (job_id, attempt, worker, started_at) values ($1, 1, $2, now() - interval '30 s')")
        .bind(lost.as_str())
        .bind(job.worker.as_deref())
        .execute(&bench.db)
        .await
        .unwrap();
    let (_, attempts) = bench.reaches(&lost, JobState::Done).await;
    assert_eq!(outcomes(&attempts), ["done", "returned", "done"]);
    worker.stop().await;
}
