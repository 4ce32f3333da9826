//! Gives up uploads that were begun and that nobody goes on with: what a worker has left that was killed before it could note
//! what it began, or whose recording was deleted meanwhile. Providers charge for what has arrived, and show it nowhere.
//!
//! The same of the spool, when that is a bucket: there nobody goes on with anything.
//!
//! A bucket may hold uploads of others. Ours are those to a key that names a recording of this database.

use anyhow::Context;
use chrono::TimeDelta;
use futures::TryStreamExt;
use shared::db::artifacts::uploads;
use shared::jobs::AbortUploads;
use shared::storage::{SharedStorage, Unfinished, recordings_in};
use tracing::{info, warn};

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// What was begun to be staged so long ago in a spool that is a bucket will not be finished: no attempt of a job lasts longer than
/// a day.
const SPOOL_PATIENCE: TimeDelta = TimeDelta::days(2);

/// Runs the job.
///
/// # Errors
/// When storage, the spool or the database fails; every step may be repeated.
pub async fn run(ctx: Ctx, _job: AbortUploads, _attempt: Attempt) -> Result<(), Failure> {
    abort_all(&ctx).await?;
    let (spool, before) = (ctx.spool.clone(), ctx.now() - SPOOL_PATIENCE);
    Ok(ctx.blocking(move || Ok(spool.abort_unfinished(before)?)).await?)
}

/// One that cannot be aborted must not keep the others, nor one storage the other; its error is told when all have had their turn.
async fn abort_all(ctx: &Ctx) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for storage in ctx.storage.all() {
        failed = abort_at(ctx, storage).await.and(failed);
    }
    failed
}

async fn abort_at(ctx: &Ctx, storage: &SharedStorage) -> anyhow::Result<()> {
    // Under any prefix: the template of keys may have been another when they were begun.
    let mut unfinished = storage.unfinished("");
    let mut failed = None;
    while let Some(upload) = unfinished.try_next().await.context("list unfinished uploads")? {
        if !is_left(ctx, &upload).await? {
            continue;
        }
        match storage.abort(&upload.upload).await {
            Ok(()) => info!("gave up an upload of {} that nobody goes on with", upload.key),
            Err(error) => {
                warn!("an upload of {} that nobody goes on with stays: {error}", upload.key);
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error).context("abort unfinished uploads"))
}

/// One that was begun just now may not have been noted yet.
async fn is_left(ctx: &Ctx, upload: &Unfinished) -> anyhow::Result<bool> {
    let old = upload.begun_at.is_some_and(|at| at < ctx.now() - ctx.sweep_patience);
    // A spool in the same bucket has keys that name recordings too, and patience of its own.
    let staged = ctx.spool.prefix().is_some_and(|prefix| upload.key.starts_with(prefix));
    Ok(old && !staged && uploads::is_left(&ctx.db, &recordings_in(&upload.key), &upload.upload).await?)
}
