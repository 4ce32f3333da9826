//! What becomes of a job by what its handler does.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::{
    db::jobs::JobState,
    jobs::{self, Job},
};

use crate::support::{Bench, Errand, What, errand, outcomes, quick, start};

#[tokio::test]
async fn a_committed_job_runs_once_and_is_done() {
    let mut bench = Bench::new().await;
    let worker = bench.start("a", quick(), 2);
    let id = bench.enqueue(&errand(What::Succeed)).await;
    assert_eq!(bench.next_start().await, (id.clone(), 1));
    let (job, attempts) = bench.reaches(&id, JobState::Done).await;
    assert_eq!((job.attempts, job.error), (1, None));
    assert_eq!(outcomes(&attempts), ["done"]);
    assert!(attempts[0].worker.starts_with("a:errand:"), "{}", attempts[0].worker);
    worker.stop().await;
    assert!(bench.events.try_recv().is_err(), "it ran again");
}

#[tokio::test]
async fn a_job_shares_the_fate_of_its_transaction() {
    let bench = Bench::new().await;
    let mut tx = bench.db.begin().await.unwrap();
    let id = jobs::enqueue(&mut tx, &errand(What::Succeed)).await.unwrap().unwrap();
    tx.rollback().await.unwrap();
    let mut connection = bench.db.acquire().await.unwrap();
    assert!(shared::db::jobs::get(&mut connection, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_second_job_with_the_same_key_is_not_enqueued() {
    let bench = Bench::new().await;
    let job = Errand { key: Some("once".to_owned()), ..errand(What::Succeed) };
    bench.enqueue(&job).await;
    let mut connection = bench.db.acquire().await.unwrap();
    assert_eq!(jobs::enqueue(&mut connection, &job).await.unwrap(), None);
}

#[tokio::test]
async fn errors_are_retried_with_backoff_until_the_job_is_dead() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let id = bench.enqueue(&errand(What::Fail)).await;
    let (job, attempts) = bench.reaches(&id, JobState::Dead).await;
    assert_eq!((job.attempts, job.error.as_deref()), (3, Some("disk on fire")));
    assert_eq!(outcomes(&attempts), ["failed"; 3]);
    for (pair, least_ms) in attempts.windows(2).zip([1_000, 2_000]) {
        let waited = pair[1].started_at - pair[0].ended_at.unwrap();
        assert!(
            waited.num_milliseconds() >= least_ms && waited.num_milliseconds() < 3 * least_ms,
            "{waited}"
        );
    }
    worker.stop().await;
}

#[tokio::test]
async fn the_time_that_a_handler_names_is_waited() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let wait = Duration::from_millis(300);
    let id = bench.enqueue(&errand(What::FailAndWait(wait))).await;
    let (_, attempts) = bench.reaches(&id, JobState::Dead).await;
    for pair in attempts.windows(2) {
        let waited = (pair[1].started_at - pair[0].ended_at.unwrap()).to_std().unwrap();
        assert!(waited >= wait && waited < wait + Duration::from_millis(700), "{waited:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn giving_up_is_dead_at_once() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let id = bench.enqueue(&errand(What::GiveUp)).await;
    let (job, attempts) = bench.reaches(&id, JobState::Dead).await;
    assert_eq!((job.attempts, outcomes(&attempts)), (1, vec!["gave-up"]));
    assert_eq!(attempts[0].error.as_deref(), Some("no such track"));
    worker.stop().await;
}

/// Sends what an errand cannot decode, into the errands' queue.
#[derive(Serialize, Deserialize)]
struct Garbage {
    what: u32,
}

impl Job for Garbage {
    const QUEUE: &'static str = "errand";
    const MAX_ATTEMPTS: u32 = 1;
}

#[tokio::test]
async fn panics_and_undecodable_payloads_are_failed_attempts_and_the_worker_goes_on() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let panicking = bench.enqueue(&errand(What::Panic)).await;
    let garbage = bench.enqueue(&Garbage { what: 7 }).await;
    let (_, attempts) = bench.reaches(&garbage, JobState::Dead).await;
    assert!(attempts[0].error.as_deref().unwrap().starts_with("payload does not decode:"), "{attempts:?}");
    let (_, attempts) = bench.reaches(&panicking, JobState::Dead).await;
    assert_eq!(attempts[0].error.as_deref(), Some("panicked: kaboom"));
    let fine = bench.enqueue(&errand(What::Succeed)).await;
    bench.reaches(&fine, JobState::Done).await;
    worker.stop().await;
}

/// A queue whose jobs have hardly any time.
#[derive(Serialize, Deserialize)]
struct Hasty;

impl Job for Hasty {
    const QUEUE: &'static str = "hasty";
    const MAX_ATTEMPTS: u32 = 1;
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_a_failed_attempt() {
    let bench = Bench::new().await;
    let runner = bench.runner("a", quick(), 1).register(1, Duration::from_millis(100), |_, Hasty, _| async {
        std::future::pending::<()>().await;
        Ok(())
    });
    let worker = start(runner);
    let id = bench.enqueue(&Hasty).await;
    let (_, attempts) = bench.reaches(&id, JobState::Dead).await;
    assert_eq!(attempts[0].error.as_deref(), Some("timed out after 0.1 s"));
    worker.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_running_jobs() {
    let mut bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let running = bench.enqueue(&errand(What::Wait)).await;
    bench.next_start().await;
    let waiting = bench.enqueue(&errand(What::Succeed)).await;
    worker.shutdown.cancel();
    bench.go.add_permits(1);
    worker.stop().await;
    assert_eq!(bench.get(&running).await.0.state, JobState::Done);
    assert_eq!(bench.get(&waiting).await.0.state, JobState::Pending);
}

#[tokio::test]
async fn a_shutdown_gives_back_what_does_not_finish_in_its_grace() {
    let mut bench = Bench::new().await;
    let settings = worker::queue::QueueSettings { shutdown_grace: Duration::from_millis(100), ..quick() };
    let worker = bench.start("a", settings, 2);
    let polite = bench.enqueue(&errand(What::Wait)).await;
    let stubborn = bench.enqueue(&errand(What::Stubborn)).await;
    bench.next_start().await;
    bench.next_start().await;
    worker.stop().await;
    for id in [polite, stubborn] {
        let (job, attempts) = bench.get(&id).await;
        assert_eq!((job.state, job.attempts, job.worker), (JobState::Pending, 0, None));
        assert_eq!(outcomes(&attempts), ["returned"]);
    }
}
