//! Removes what a deleted recording has left: its objects in storage, its capture and staged files in the spool, its rows of
//! artifacts. The recording's own row stays, as a record that there was one.
//!
//! Rows say which objects there are. Where keys have a prefix that the recording alone has, what no row knows goes too.

use anyhow::Context;
use futures::TryStreamExt;
use shared::db::{artifacts, recordings};
use shared::jobs::DeleteRecording;
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
    for key in known {
        ctx.storage.delete(&key).await?;
    }
    if let Some(prefix) = ctx.keys.prefix(&job.recording) {
        let mut listed = ctx.storage.list(&prefix);
        while let Some(object) = listed.try_next().await? {
            ctx.storage.delete(&object.key).await?;
        }
    }
    let (spool, id) = (ctx.spool.clone(), job.recording.clone());
    ctx.blocking(move || Ok(spool.delete_recording(&id)?)).await?;
    artifacts::forget(&ctx.db, &job.recording).await?;
    recordings::capture_deleted(&ctx.db, &job.recording, ctx.now()).await?;
    Ok(())
}
