//! What an operator can see and do.

use std::time::Duration;

use shared::{
    db::jobs::{self, Cancelled, JobFilter, JobState, RequeueError},
    jobs::JobId,
};
use tokio::time::Instant;

use crate::support::{Bench, Errand, Event, What, errand, outcomes, quick};

#[tokio::test]
async fn a_dead_job_is_requeued_with_fresh_attempts_and_keeps_its_history() {
    let bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let id = bench.enqueue(&errand(What::GiveUp)).await;
    bench.reaches(&id, JobState::Dead).await;
    let mut connection = bench.db.acquire().await.unwrap();
    assert_eq!(jobs::requeue(&mut connection, &id).await.unwrap(), Some(JobState::Pending));
    bench.when("it to run again", async || (bench.get(&id).await.1.len() == 2).then_some(())).await;
    let (job, attempts) = bench.reaches(&id, JobState::Dead).await;
    assert_eq!((job.attempts, outcomes(&attempts)), (1, vec!["gave-up", "gave-up"]));
    assert_eq!(attempts[1].attempt, 1);
    worker.stop().await;
    assert_eq!(jobs::requeue_dead(&bench.db, Some("other")).await.unwrap(), 0);
    assert_eq!(jobs::requeue_dead(&bench.db, Some("errand")).await.unwrap(), 1);
    assert_eq!(bench.get(&id).await.0.state, JobState::Pending);
}

#[tokio::test]
async fn a_running_job_is_not_requeued_and_an_unknown_one_is_not_found() {
    let mut bench = Bench::new().await;
    let worker = bench.start("a", quick(), 1);
    let id = bench.enqueue(&errand(What::Wait)).await;
    bench.next_start().await;
    let mut connection = bench.db.acquire().await.unwrap();
    assert!(matches!(jobs::requeue(&mut connection, &id).await, Err(RequeueError::Running)));
    let unknown: JobId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    assert!(jobs::requeue(&mut connection, &unknown).await.unwrap().is_none());
    assert!(jobs::cancel(&mut connection, &unknown).await.unwrap().is_none());
    bench.go.add_permits(1);
    bench.reaches(&id, JobState::Done).await;
    assert_eq!(jobs::requeue(&mut connection, &id).await.unwrap(), Some(JobState::Done));
    assert_eq!(jobs::cancel(&mut connection, &id).await.unwrap(), Some(Cancelled::AlreadyEnded));
    worker.stop().await;
}

#[tokio::test]
async fn a_cancelled_waiting_job_never_runs() {
    let mut bench = Bench::new().await;
    let (cancelled, fine) =
        (bench.enqueue(&errand(What::Succeed)).await, bench.enqueue(&errand(What::Succeed)).await);
    let mut connection = bench.db.acquire().await.unwrap();
    assert_eq!(jobs::cancel(&mut connection, &cancelled).await.unwrap(), Some(Cancelled::NeverRuns));
    let worker = bench.start("a", quick(), 1);
    assert_eq!(bench.next_start().await.0, fine);
    bench.reaches(&fine, JobState::Done).await;
    worker.stop().await;
    assert_eq!(bench.get(&cancelled).await.0.state, JobState::Cancelled);
    assert_eq!(jobs::requeue_dead(&bench.db, None).await.unwrap(), 0, "cancelled is not dead");
}

#[tokio::test]
async fn a_running_job_is_told_within_two_seconds() {
    let mut bench = Bench::new().await;
    // With the settings of production: a heartbeat of 5 s must not be waited for.
    let worker = bench.start("a", worker::queue::QueueSettings::default(), 1);
    let id = bench.enqueue(&errand(What::Wait)).await;
    bench.next_start().await;
    let asked = Instant::now();
    let mut connection = bench.db.acquire().await.unwrap();
    assert_eq!(jobs::cancel(&mut connection, &id).await.unwrap(), Some(Cancelled::Stopping));
    assert_eq!(bench.event().await, Event::Cancelled(id.clone()));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let (job, attempts) = bench.reaches(&id, JobState::Cancelled).await;
    assert_eq!((job.attempts, outcomes(&attempts)), (1, vec!["cancelled"]));
    assert_eq!(attempts[0].progress_percent, Some(40));
    worker.stop().await;
}

#[tokio::test]
async fn jobs_are_listed_by_queue_state_and_recording_page_by_page() {
    let bench = Bench::new().await;
    let of = |recording: &str| Errand { recording: Some(recording.to_owned()), ..errand(What::Succeed) };
    let mut jobs_of = Vec::new();
    for recording in ["r1", "r2", "r1"] {
        jobs_of.push((bench.enqueue(&of(recording)).await, recording));
    }
    // Ids of one millisecond have an order, but not that of their making.
    jobs_of.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    let ids: Vec<JobId> = jobs_of.iter().map(|(id, _)| id.clone()).collect();
    sqlx::raw_sql("insert into apalis.jobs (id, job_type, job) values ('00000000000000000000000000', 'errand', '\\xff00')")
        .execute(&bench.db)
        .await
        .unwrap();
    let page = |filter: JobFilter, before: Option<JobId>, limit| {
        let db = bench.db.clone();
        async move {
            let rows = jobs::list(&db, &filter, before.as_ref(), limit).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        }
    };
    let all = JobFilter { queue: Some("errand".to_owned()), ..JobFilter::default() };
    let newest = page(all.clone(), None, 2).await;
    assert_eq!(newest, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(page(all, newest.last().cloned(), 1).await, [ids[0].clone()]);
    let of_r1 = JobFilter { recording: Some("r1".to_owned()), ..JobFilter::default() };
    let newest_of_r1: Vec<JobId> =
        jobs_of.iter().rev().filter(|(_, recording)| *recording == "r1").map(|(id, _)| id.clone()).collect();
    assert_eq!(page(of_r1, None, 10).await, newest_of_r1);
    let dead = JobFilter { state: Some(JobState::Dead), ..JobFilter::default() };
    assert!(page(dead, None, 10).await.is_empty());
    let stats = jobs::stats(&bench.db).await.unwrap();
    assert_eq!((stats[0].queue.as_str(), stats[0].pending, stats[0].running), ("errand", 4, 0));
    assert!(stats[0].oldest_wait_s > 0.0);
}
