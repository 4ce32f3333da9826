//! Deletes recordings that have reached their age, and captures whose recording has been finished for long enough.

use serde_json::json;
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::id::{CallId, RecordingId};
use shared::jobs::{DeleteRecording, ExpireRecordings, enqueue};
use tracing::info;

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// How many are taken in one run; the next run takes the next.
const BATCH: i64 = 500;
/// How many of the spool's recordings are looked up at once.
const SPOOL_BATCH: usize = 500;

/// Runs the job.
///
/// # Errors
/// When the database or the spool fails; every step may be repeated.
pub async fn run(ctx: Ctx, _job: ExpireRecordings, _attempt: Attempt) -> Result<(), Failure> {
    Ok(expire(&ctx).await?)
}

async fn expire(ctx: &Ctx) -> anyhow::Result<()> {
    let now = ctx.now();
    for (recording, call) in recordings::expired(&ctx.db, now, BATCH).await? {
        delete(ctx, &recording, &call, now).await?;
    }
    let before = now - chrono::TimeDelta::from_std(ctx.capture_keep)?;
    // Noted first: whoever takes the recording up again must not read a capture that is half gone.
    for recording in recordings::finished_captures(&ctx.db, before, BATCH).await? {
        recordings::capture_deleted(&ctx.db, &recording, now).await?;
    }
    delete_captures(ctx).await
}

/// Deletes what the spool holds of recordings that have no more use for it: noted just now, by a run that was killed, or
/// shipped by an edge that came back after the recording was deleted.
async fn delete_captures(ctx: &Ctx) -> anyhow::Result<()> {
    let spool = ctx.spool.clone();
    let held = ctx.blocking(move || Ok(spool.recordings()?)).await?;
    for some in held.chunks(SPOOL_BATCH) {
        for recording in recordings::without_use_of_capture(&ctx.db, some).await? {
            let (spool, id) = (ctx.spool.clone(), recording.clone());
            ctx.blocking(move || Ok(spool.delete_recording(&id)?)).await?;
            info!(recording.id = %recording, "deleted the capture of recording {recording}");
        }
    }
    Ok(())
}

async fn delete(ctx: &Ctx, recording: &RecordingId, call: &CallId, now: Timestamp) -> anyhow::Result<()> {
    let mut tx = ctx.db.begin().await?;
    if recordings::delete(&mut tx, recording, now).await?.is_some() {
        enqueue(&mut tx, &DeleteRecording { recording: recording.clone() }).await?;
        let data = json!({ "reason": "expired" });
        events::about_recording(&mut tx, EventType::RecordingDeleted, call, recording, data, now).await?;
        info!(recording.id = %recording, "recording {recording} has reached its age");
    }
    Ok(tx.commit().await?)
}
