//! Removes what a deleted recording has left: its objects in storage, its capture and staged files in the spool, its rows of
//! artifacts. The recording's own row stays, as a record that there was one; so do, until the backup is emptied, the rows of files
//! that it may have something of.
//!
//! Rows say which objects there are. Where keys have a prefix that the recording alone has, what no row knows goes too.

use anyhow::Context;
use futures::TryStreamExt;
use serde_json::json;
use shared::db::artifacts::{self, Artifact};
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::jobs::{DeleteRecording, EmptyBackup, enqueue};
use shared::storage::{Destination, SharedStorage, StorageError};
use tracing::{info, warn};

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::jobs::upload_recording::must_be_here;
use crate::queue::Attempt;

/// Runs the job.
///
/// # Errors
/// When storage, the spool or the database fails; every step may be repeated.
pub async fn run(ctx: Ctx, job: DeleteRecording, _attempt: Attempt) -> Result<(), Failure> {
    if recordings::find(&ctx.db, &job.recording).await.context("look the recording up")?.is_some() {
        // Not deleted, whoever enqueued this: it may not lose its files.
        return Err(Failure::GiveUp(anyhow::anyhow!("recording {} is not deleted", job.recording)));
    }
    delete(&ctx, &job).await?;
    info!(recording.id = %job.recording, "removed the files of deleted recording {}", job.recording);
    Ok(())
}

async fn delete(ctx: &Ctx, job: &DeleteRecording) -> anyhow::Result<()> {
    let known = artifacts::all(&ctx.db, &job.recording).await?;
    for file in known.iter().filter(|file| file.stored_at.is_some()) {
        must_be_here(ctx, file).await?;
    }
    let (in_main, in_backup) = (keys(&known, |_| true), keys(&known, |file| file.backup.is_some()));
    let mut deleted = delete_at(ctx, job, Destination::Main, &in_main).await;
    if !in_backup.is_empty() {
        // Where one storage is away, the other's copies go at once.
        deleted = delete_at(ctx, job, Destination::Backup, &in_backup).await.and(deleted);
    }
    deleted?;
    let (spool, id) = (ctx.spool.clone(), job.recording.clone());
    ctx.blocking(move || Ok(spool.delete_recording(&id)?)).await?;
    for file in &known {
        artifacts::forget(&ctx.db, &file.id).await?;
    }
    if !in_backup.is_empty() {
        // What was on its way from there is looked for once more.
        enqueue(&mut *ctx.db.acquire().await?, &EmptyBackup {}).await?;
    }
    recordings::capture_deleted(&ctx.db, &job.recording, ctx.now()).await?;
    Ok(())
}

fn keys(files: &[Artifact], wanted: impl Fn(&Artifact) -> bool) -> Vec<&str> {
    files.iter().filter(|file| wanted(file)).map(|file| file.storage_key.as_str()).collect()
}

/// Deletes what is known, and what has the recording's prefix. A failure is told.
async fn delete_at(
    ctx: &Ctx,
    job: &DeleteRecording,
    destination: Destination,
    known: &[&str],
) -> anyhow::Result<()> {
    let storage = ctx.storage.at(destination)?;
    let Err(error) = delete_objects(ctx, job, storage, known).await else { return Ok(()) };
    let place = storage.place();
    let data = json!({ "provider": place.provider, "bucket": place.bucket, "destination": destination,
        "code": error.code() });
    let (event, id) = (EventType::RecordingDeleteFailed, &job.recording);
    if let Err(error) = events::about(&ctx.db, event, id, data, ctx.now()).await {
        warn!(recording.id = %id, "a deletion's failure is not among the events: {error}");
    }
    Err(error.into())
}

async fn delete_objects(
    ctx: &Ctx,
    job: &DeleteRecording,
    storage: &SharedStorage,
    known: &[&str],
) -> Result<(), StorageError> {
    for key in known {
        storage.delete(key).await?;
    }
    if let Some(prefix) = ctx.keys.prefix(&job.recording) {
        let mut listed = storage.list(&prefix);
        while let Some(object) = listed.try_next().await? {
            storage.delete(&object.key).await?;
        }
    }
    Ok(())
}
