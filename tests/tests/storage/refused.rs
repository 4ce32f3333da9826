//! An upload that storage refuses: its job ends with a reason that an operator can act on, and loses nothing.

use e2e::faults::{Proxy, Weather};
use e2e::seaweed::Seaweed;
use e2e::system::{Builder, Folders, System};
use shared::db::jobs;
use shared::recording::RecordingState;
use shared::storage::verify;
use shared::testing::Changes;

use crate::killed::{assert_stored, behind};
use crate::staged::{Staged, completed, reaches, stage};

const SECRET: &str = "RECORDING_S3_SECRET_ACCESS_KEY";

#[tokio::test]
async fn an_upload_with_wrong_credentials_says_so_and_is_completed_by_a_requeue() {
    let server = Seaweed::start().await;
    let set = |builder: Builder, (name, value): (&str, String)| builder.set(name, value);
    let builder = server.variables().into_iter().fold(System::builder().workers(0), set);
    let mut system = builder.set(SECRET, "expired-hunter2").start().await;
    let staged = stage(&system, &[20_000_000, 5_000]).await;
    let hasten = "update apalis.jobs set max_attempts = 2 where job_type = 'upload-recording'";
    sqlx::query(hasten).execute(&system.db).await.unwrap();
    system.spawn_worker().await;
    let failed = reaches(&system, &staged.id, RecordingState::Failed).await;
    assert_eq!(failed.error.unwrap().code, "storage-credentials");
    system.worker().term().await;
    let told: Vec<String> = sqlx::query_scalar(
        "select a.error from job_attempts a join apalis.jobs j on j.id = a.job_id where j.job_type = 'upload-recording'",
    )
    .fetch_all(&system.db)
    .await
    .unwrap();
    assert_eq!(told.len(), 2);
    for told in told {
        assert!(
            told.starts_with("storage-credentials: ") && told.contains("; cure: renew the credentials"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert_eq!(Folders::files(&system.folders.spool()).len(), 2, "what is not in storage stays");

    let right = server.variables().into_iter().find(|(name, _)| *name == SECRET).unwrap().1;
    system.set(SECRET, right);
    assert_eq!(jobs::requeue_dead(&system.db, Some("upload-recording")).await.unwrap(), 1);
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let storage = server.settings(&[]).open().await.unwrap();
    for (key, print) in &staged.objects {
        verify(storage.as_ref(), key, print, None).await.unwrap();
    }
}

/// The reasons that the events of uploads tell.
async fn told(system: &System, staged: &Staged) -> Vec<String> {
    let sql = "select concat_ws(' ', data->>'provider', data->>'destination', data->>'code') from event
        where recording_id = $1 and type = 'recording.upload-failed' order by id";
    sqlx::query_scalar(sql).bind(staged.id.as_str()).fetch_all(&system.db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_and_an_expired_credential_are_told_and_after_the_cure_a_requeue_completes() {
    let server = Seaweed::start().await;
    let proxy = Proxy::before(server.address()).await;
    let mut system = behind(&proxy, &server, &[]).await;
    let storage = server.settings(&[]).open().await.unwrap();
    for (weather, code) in [(Weather::Full, "storage-full"), (Weather::Expired, "storage-credentials")] {
        proxy.set(weather);
        let staged = stage(&system, &[20_000_000, 5_000]).await;
        let hasten = "update apalis.jobs set max_attempts = 2 where job_type = 'upload-recording'";
        sqlx::query(hasten).execute(&system.db).await.unwrap();
        if system.workers.is_empty() {
            system.spawn_worker().await;
        }
        let failed = reaches(&system, &staged.id, RecordingState::Failed).await;
        assert_eq!(failed.error.unwrap().code, code);
        assert_eq!(told(&system, &staged).await, vec![format!("s3 main {code}"); 2]);
        assert_eq!(Folders::files(&system.folders.spool()).len(), 2, "what is not in storage stays");

        proxy.set(Weather::Fair);
        // The job is dead a moment after its recording has failed.
        let mut jobs = Changes::of(&system.db, &["apalis.jobs"]).await;
        while jobs::requeue_dead(&system.db, Some("upload-recording")).await.unwrap() == 0 {
            jobs.next().await;
        }
        completed(&system, &staged.id).await;
        assert_stored(&storage, &staged).await;
    }
}
