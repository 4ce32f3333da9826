//! A job that fails again and again is dead and its recording has failed; once the cause is gone, an operator requeues it.

use std::fs;
use std::sync::Arc;

use e2e::client::Client;
use e2e::fixtures::Fixture;
use serde_json::json;
use shared::jobs::{Sweep, enqueue};

use crate::moments::{Hold, until};
use crate::result::{assert_tidy, assert_whole};
use crate::workshop::{Recorded, Workshop, dismiss};

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_could_not_be_stored_is_completed_by_a_requeue() {
    let workshop = Workshop::open(&[]).await;
    let one = workshop.record(&Arc::new(Fixture::load("ff-webm-vp8")), json!({})).await;
    let worker = workshop.worker("", &[]).await;
    // A file where the folder ought to be: nothing can be stored.
    let storage = workshop.system.folders.recordings();
    fs::remove_dir_all(&storage).unwrap();
    fs::write(&storage, "").unwrap();
    workshop.reaches(&one.recording, "upload").await;
    workshop.run("update apalis.jobs set max_attempts = 3 where job_type = 'upload-recording'").await;
    let failing = async || {
        workshop.free_all_jobs().await;
        (workshop.stage(&one.recording).await == "failed").then_some(())
    };
    until("the recording to fail", failing).await;
    let dead = until("the job to be dead", async || {
        let job = workshop.job(&one.recording, "upload-recording").await;
        (job.status == "Killed").then_some(job)
    });
    assert_eq!(dead.await.outcomes, ["failed"; 3]);
    let told = one.client.recording(&one.recording).await;
    assert_eq!(told["error"]["code"], "storage-io", "{told}");
    assert!(!told.to_string().contains(workshop.system.folders.root().to_str().unwrap()), "{told}");

    fs::remove_file(&storage).unwrap();
    requeue(&workshop, &one, "upload-recording").await;
    workshop.reaches(&one.recording, "completed").await;
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_tidy(&workshop.system);
    assert_whole(&workshop.system, &one.client, &one.recording, &[("ann", &one.fixture)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_job_kills_its_workers_fails_and_is_completed_by_a_requeue() {
    let workshop = Workshop::open(&[]).await;
    let one = workshop.record(&Arc::new(Fixture::load("ff-webm-vp8")), json!({})).await;
    workshop.run("update apalis.jobs set max_attempts = 1 where job_type = 'mux-recording'").await;
    let recordings = Hold::recordings(&workshop.url).await;
    let mut killed = workshop.worker("mux-recording", &[]).await;
    workshop.claimed(&one.recording, "mux-recording").await;
    killed.kill9();
    recordings.release_without_waiters().await;

    let worker = workshop.worker("", &[]).await;
    let rescued =
        async || (workshop.job(&one.recording, "mux-recording").await.outcomes == ["lost"]).then_some(());
    until("the rescue", rescued).await;
    let mut connection = workshop.system.db.acquire().await.unwrap();
    enqueue(&mut connection, &Sweep {}).await.unwrap();
    drop(connection);
    workshop.reaches(&one.recording, "failed").await;
    let told = one.client.recording(&one.recording).await;
    assert_eq!(told["error"]["code"], "job-lost", "{told}");

    requeue(&workshop, &one, "mux-recording").await;
    workshop.reaches(&one.recording, "completed").await;
    workshop.all_jobs_end().await;
    dismiss([worker]).await;
    assert_tidy(&workshop.system);
    assert_whole(&workshop.system, &one.client, &one.recording, &[("ann", &one.fixture)]).await;
}

async fn requeue(workshop: &Workshop, one: &Recorded, queue: &str) {
    let operator =
        Client::with_claims(&workshop.system.edge.url(), json!({ "sub": "operator", "role": "admin" }));
    let job = workshop.job(&one.recording, queue).await;
    let answer = operator.post(&format!("/admin/jobs/{}/requeue", job.id), &json!({})).await;
    assert!(matches!(answer.status, 200 | 202), "{}: {}", answer.status, answer.json());
}
