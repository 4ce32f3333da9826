//! A first storage that is named anew, while a recording is not completed yet, or has files in the one before.

use std::path::PathBuf;

use e2e::system::{Folders, System};
use shared::clock::{Clock, SystemClock};
use shared::db::{artifacts, jobs, recordings};
use shared::jobs::{DeleteRecording, enqueue};
use shared::testing::Changes;

use crate::staged::{Staged, completed, stage};

const PUT_ELSEWHERE: &str =
    "update artifact set state = 'stored', stored_at = now(), place = 's3:former' where kind = any($1)";

/// What is in storage, smallest first.
fn stored(system: &System) -> Vec<(u64, PathBuf)> {
    let folder = system.folders.recordings();
    let files = Folders::files(&folder).into_iter().map(|file| folder.join(file));
    let mut stored: Vec<_> = files.map(|file| (file.metadata().unwrap().len(), file)).collect();
    stored.sort();
    stored
}

fn sizes(system: &System) -> Vec<u64> {
    stored(system).into_iter().map(|(size, _)| size).collect()
}

async fn delete(system: &System, staged: &Staged) {
    let mut tx = system.db.begin().await.unwrap();
    recordings::delete(&mut tx, &staged.id, SystemClock.now()).await.unwrap().unwrap();
    enqueue(&mut tx, &DeleteRecording { recording: staged.id.clone() }).await.unwrap();
    sqlx::query("update apalis.jobs set max_attempts = 1 where job_type = 'delete-recording'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_recording_is_completed_in_one_place() {
    let mut system = System::builder().workers(0).start().await;
    let staged = stage(&system, &[5_000, 3_000]).await;
    sqlx::query(PUT_ELSEWHERE).bind(["recording"]).execute(&system.db).await.unwrap();
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    assert_eq!(sizes(&system), [3_000, 5_000]);
}

#[tokio::test]
async fn what_lies_elsewhere_is_not_taken_for_deleted() {
    let mut system = System::builder().workers(0).start().await;
    let staged = stage(&system, &[5_000, 3_000]).await;
    system.spawn_worker().await;
    completed(&system, &staged.id).await;
    let (_, main) = stored(&system).pop().unwrap();
    let aside = system.folders.recordings().with_extension("aside");
    std::fs::rename(&main, &aside).unwrap();
    sqlx::query(PUT_ELSEWHERE).bind(["recording", "thumbnail"]).execute(&system.db).await.unwrap();
    let mut rows = Changes::of(&system.db, &["apalis.jobs", "artifact"]).await;
    delete(&system, &staged).await;
    let error = "select a.error from job_attempts a join apalis.jobs j on j.id = a.job_id
        where j.job_type = 'delete-recording' and a.error is not null";
    let told: String = loop {
        match sqlx::query_scalar(error).fetch_optional(&system.db).await.unwrap() {
            Some(told) => break told,
            None => rows.next().await,
        }
    };
    assert!(told.contains("was put into s3:former, and storage is local:local now"), "{told}");
    assert_eq!(artifacts::all(&system.db, &staged.id).await.unwrap().len(), 2);

    // Its objects have been copied here.
    std::fs::rename(aside, main).unwrap();
    while jobs::requeue_dead(&system.db, Some("delete-recording")).await.unwrap() == 0 {
        rows.next().await;
    }
    while !artifacts::all(&system.db, &staged.id).await.unwrap().is_empty() {
        rows.next().await;
    }
    assert_eq!(sizes(&system), [] as [u64; 0]);
}
