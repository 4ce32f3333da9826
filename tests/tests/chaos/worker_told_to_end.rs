//! A worker that is told to end finishes what it does, or gives it back; no attempt is lost by it.

use std::sync::Arc;

use e2e::fixtures::Fixture;
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::moments::{frozen_ffmpeg, working_below};
use crate::result::{assert_tidy, assert_whole};
use crate::workshop::{Recorded, Workshop, dismiss};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_finishes_its_job_first() {
    let (workshop, recorded) = one_recording().await;
    let scratch = workshop.system.folders.scratch();
    let found = tokio::spawn(frozen_ffmpeg(scratch.clone()));
    let mut worker = workshop.worker("mux-recording", &[]).await;
    let ffmpeg = found.await.unwrap();
    worker.signal(Signal::SIGTERM);
    worker.line_with("asked to stop").await;
    assert!(worker.runs());
    kill(ffmpeg, Signal::SIGCONT).unwrap();
    let status = worker.ended().await;
    assert!(status.success(), "{status}\n{}", worker.log());
    assert_tidy(&workshop.system);
    let job = workshop.job(&recorded.recording, "mux-recording").await;
    assert_eq!((job.status.as_str(), job.outcomes), ("Done", vec!["done".to_owned()]));
    finish(&workshop, &recorded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gives_back_what_its_grace_does_not_suffice_for() {
    let (workshop, recorded) = one_recording().await;
    let scratch = workshop.system.folders.scratch();
    let found = tokio::spawn(frozen_ffmpeg(scratch.clone()));
    let mut worker = workshop.worker("mux-recording", &[("SHUTDOWN_GRACE", "1s")]).await;
    found.await.unwrap();
    let status = worker.term().await;
    assert!(status.success(), "{status}\n{}", worker.log());
    assert_eq!(working_below(&scratch), [], "FFmpeg goes on without its worker");
    let job = workshop.job(&recorded.recording, "mux-recording").await;
    assert_eq!((job.status.as_str(), job.outcomes), ("Pending", vec!["returned".to_owned()]));
    finish(&workshop, &recorded).await;
    let job = workshop.job(&recorded.recording, "mux-recording").await;
    assert_eq!(job.outcomes, ["returned", "done"]);
    let attempts: i32 = sqlx::query_scalar("select attempts from apalis.jobs where id = $1")
        .bind(&job.id)
        .fetch_one(&workshop.system.db)
        .await
        .unwrap();
    assert_eq!(attempts, 1, "what was given back does not count");
}

async fn one_recording() -> (Workshop, Recorded) {
    let workshop = Workshop::open(&[]).await;
    let recorded = workshop.record(&Arc::new(Fixture::load("ff-webm-vp8")), json!({})).await;
    (workshop, recorded)
}

async fn finish(workshop: &Workshop, one: &Recorded) {
    let worker = workshop.worker("", &[]).await;
    workshop.reaches(&one.recording, "completed").await;
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_tidy(&workshop.system);
    assert_whole(&workshop.system, &one.client, &one.recording, &[("ann", &one.fixture)]).await;
}
