//! Removes what a deleted recording has left: its objects in storage, its capture and staged files in the spool, its rows of
//! artifacts. The recording's own row stays, as a record that there was one.

use anyhow::Context;
use shared::db::{artifacts, recordings};
use shared::jobs::DeleteRecording;
use shared::storage::StorageKey;
use tracing::info;

use crate::ctx::Ctx;
use crate::failure::Failure;
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
    let known = artifacts::keys(&ctx.db, &job.recording).await?;
    let listed = ctx.storage.list(&StorageKey::prefix(&job.recording)).await?;
    for key in known.into_iter().chain(listed) {
        ctx.storage.delete(&key).await?;
    }
    let (spool, id) = (ctx.spool.clone(), job.recording.clone());
    ctx.blocking(move || Ok(spool.delete_recording(&id)?)).await?;
    artifacts::forget(&ctx.db, &job.recording).await?;
    recordings::capture_deleted(&ctx.db, &job.recording, ctx.now()).await?;
    Ok(())
}
