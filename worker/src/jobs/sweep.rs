//! Ends what has overrun its deadline, so that nothing waits for ever, and cleans up what crashes have left.
//!
//! A recording whose edge did not come back is not given up as long as the spool holds some of it: it is sealed with what is
//! there, and what was still on the edge is a gap. An edge that is alive is left to act itself; and after a start, when edge
//! and worker may come up together, nobody is given up before the edge had time to say that it is there.
//!
//! A recording in processing needs no deadline of its own as long as one of its jobs can still run: jobs have time limits and
//! a last attempt. One without such a job goes on without its thumbnails, or fails.

use serde_json::json;
use shared::capture::TrackReader;
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Overdue, Step};
use shared::db::tracks;
use shared::id::RecordingId;
use shared::jobs::{MuxRecording, Sweep, UploadRecording, enqueue};
use shared::recording::{RecordingError, Stage};
use shared::spool::Spool;
use shared::track::Track;
use tracing::info;

use super::stage;
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// How many are taken in one run; the next run takes the next.
const BATCH: i64 = 200;

/// Runs the job.
///
/// # Errors
/// When the database or the spool fails; every step may be repeated.
pub async fn run(ctx: Ctx, _job: Sweep, _attempt: Attempt) -> Result<(), Failure> {
    Ok(sweep(&ctx).await?)
}

/// One recording that cannot be ended must not keep the others waiting; its error is told when all have had their turn.
async fn sweep(ctx: &Ctx) -> anyhow::Result<()> {
    let mut ended = Vec::new();
    let by = ctx.now() - ctx.sweep_patience;
    if ctx.started_at < by {
        for overdue in recordings::overdue(&ctx.db, by, BATCH).await? {
            ended.push(salvage(ctx, &overdue, by).await);
        }
    }
    for stuck in recordings::without_job(&ctx.db, BATCH).await? {
        ended.push(go_on_or_fail(ctx, &stuck).await);
    }
    let scratch = std::sync::Arc::clone(&ctx.scratch);
    ended.push(ctx.blocking(move || Ok(scratch.delete_abandoned()?)).await);
    ended.into_iter().collect()
}

/// A recording does not fail for want of a picture; without any other job it does.
async fn go_on_or_fail(ctx: &Ctx, stuck: &Overdue) -> anyhow::Result<()> {
    let held = stuck.stage.zip(stuck.token.clone()).map(|(stage, token)| Step { stage, token });
    match held {
        Some(held) if held.stage == Stage::Thumbnails => {
            let next = stage::next(Stage::Upload);
            let mut tx = ctx.db.begin().await?;
            if recordings::advance(&mut tx, &stuck.id, &held, &next, stage::deadline(ctx)).await?.is_some() {
                enqueue(&mut tx, &UploadRecording { recording: stuck.id.clone(), token: next.token }).await?;
                tx.commit().await?;
                info!(recording.id = %stuck.id, "recording {} goes on without thumbnails: their job is dead", stuck.id);
            }
            Ok(())
        }
        held => fail(ctx, stuck, held.as_ref(), "job-lost", "its job was cancelled or is dead").await,
    }
}

async fn fail(
    ctx: &Ctx,
    overdue: &Overdue,
    held: Option<&Step>,
    code: &str,
    detail: &str,
) -> anyhow::Result<()> {
    let Some(recording) = recordings::find(&ctx.db, &overdue.id).await? else { return Ok(()) };
    let error = RecordingError { code: code.to_owned(), detail: detail.to_owned() };
    stage::fail(ctx, &recording, held, &error, &[]).await
}

/// Seals a recording whose edge is gone with what the spool holds of it.
async fn salvage(ctx: &Ctx, overdue: &Overdue, by: Timestamp) -> anyhow::Result<()> {
    let (spool, id, now) = (ctx.spool.clone(), overdue.id.clone(), ctx.now());
    let held = ctx.blocking(move || in_spool(&spool, &id, now)).await?;
    if held.is_empty() {
        return fail(ctx, overdue, None, "edge-lost", "the edge that captured it did not come back").await;
    }
    let (id, at, step) = (&overdue.id, ctx.now(), stage::next(Stage::Mux));
    let mut tx = ctx.db.begin().await?;
    if !recordings::lock_overdue(&mut tx, id, by).await? {
        return Ok(());
    }
    recordings::stop(&mut tx, id, at, at).await?;
    for track in &held {
        tracks::upsert(&mut *tx, track).await?;
    }
    if recordings::begin_processing(&mut tx, id, &step, at, stage::deadline(ctx)).await?.is_none() {
        return Ok(());
    }
    enqueue(&mut tx, &MuxRecording { recording: id.clone(), token: step.token }).await?;
    let data = json!({ "salvaged": true });
    events::about_recording(&mut tx, EventType::RecordingProcessing, &overdue.call, id, data, at).await?;
    tx.commit().await?;
    info!(recording.id = %id, "sealed recording {id} without its edge, from what had reached the spool");
    Ok(())
}

/// The tracks that the spool holds of a recording, as far as the segments themselves tell; `otherwise` is when one began whose
/// chunks tell no arrival. Blocks.
fn in_spool(spool: &Spool, recording: &RecordingId, otherwise: Timestamp) -> anyhow::Result<Vec<Track>> {
    let mut held = Vec::new();
    for id in spool.tracks(recording)? {
        let facts = TrackReader::open(spool, recording, &id)?.facts();
        held.extend(facts.filter(|facts| facts.status.chunks > 0).map(|facts| facts.row(otherwise)));
    }
    Ok(held)
}
