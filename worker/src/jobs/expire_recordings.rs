//! Deletes recordings that have reached their age, the oldest when all together are too large or leave too little of the disk free,
//! and captures whose recording has been finished for long enough.
//!
//! A recording is marked as deleted, and a job of its own removes its files: what could not be removed is tried again by it, and is
//! seen in it. What is on its way out counts as gone, so that no run deletes more for it.

use std::path::Path;

use serde_json::json;
use shared::capture::{Disk, DiskReserve, Reserve};
use shared::clock::Timestamp;
use shared::db::events::{self, EventType};
use shared::db::recordings;
use shared::env::EnvError;
use shared::id::{CallId, RecordingId};
use shared::jobs::{DeleteRecording, ExpireRecordings, enqueue};
use tracing::{error, info, warn};

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
        delete(ctx, &recording, &call, Why::Expired, now).await?;
    }
    make_room(ctx, now, disk(ctx)?.map(|disk| disk.free)).await?;
    let before = now - chrono::TimeDelta::from_std(ctx.capture_keep)?;
    // Noted first: whoever takes the recording up again must not read a capture that is half gone.
    for recording in recordings::finished_captures(&ctx.db, before, BATCH).await? {
        recordings::capture_deleted(&ctx.db, &recording, now).await?;
    }
    delete_captures(ctx).await
}

/// Why a recording is deleted; told by its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Expired,
    MaxSize,
    MinFree,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MaxSize => "max-size",
            Self::MinFree => "min-free",
        }
    }
}

/// Refuses to keep more free than the disk of the storage holds: no recording would be left.
///
/// # Errors
/// When that is asked for, or the disk does not say how large it is.
pub(crate) fn must_fit_the_disk(ctx: &Ctx) -> anyhow::Result<()> {
    match ctx.retention.min_free.zip(disk(ctx)?) {
        Some((least, disk)) if least >= disk.total => {
            let what = format!("fewer bytes than the {} of the storage's whole disk", disk.total);
            Err(EnvError::wants("RECORDING_RETENTION_MIN_FREE", &what).into())
        }
        _ => Ok(()),
    }
}

/// Deletes the oldest recordings until the limits of size hold. `free`: bytes of the storage's disk.
async fn make_room(ctx: &Ctx, now: Timestamp, free: Option<u64>) -> anyhow::Result<()> {
    let (kept, going) = recordings::stored_bytes(&ctx.db).await?;
    let over = ctx.retention.max_bytes.map_or(0, |max| kept.saturating_sub(max));
    let min_free = ctx.retention.min_free.zip(free);
    let mut lacking = min_free.map_or(0, |(least, free)| least.saturating_sub(free.saturating_add(going)));
    if lacking > kept {
        error!(
            "{lacking} more bytes should be free, and all recordings together have {kept}: none is deleted for it"
        );
        lacking = 0;
    }
    let (mut room, wanted) = (0, over.max(lacking));
    let why = if over >= lacking { Why::MaxSize } else { Why::MinFree };
    while room < wanted {
        let oldest = recordings::by_age(&ctx.db, BATCH).await?;
        if oldest.is_empty() {
            warn!(
                "{} more bytes should be free, and there is no finished recording left to delete",
                wanted - room
            );
            break;
        }
        for recording in oldest {
            if room >= wanted {
                break;
            }
            delete(ctx, &recording.id, &recording.call, why, now).await?;
            room += recording.bytes;
        }
    }
    Ok(())
}

/// The disk of a storage that is a folder.
fn disk(ctx: &Ctx) -> anyhow::Result<Option<Disk>> {
    let keep = DiskReserve { percent: 0, min_bytes: 0 };
    let disk = |folder: &Path| Reserve::new(folder.to_owned(), keep).disk();
    Ok(ctx.storage.main.folder().map(disk).transpose()?)
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

async fn delete(
    ctx: &Ctx,
    recording: &RecordingId,
    call: &CallId,
    why: Why,
    now: Timestamp,
) -> anyhow::Result<()> {
    let mut tx = ctx.db.begin().await?;
    if recordings::delete(&mut tx, recording, now).await?.is_some() {
        enqueue(&mut tx, &DeleteRecording { recording: recording.clone() }).await?;
        let data = json!({ "reason": why.as_str() });
        events::about_recording(&mut tx, EventType::RecordingDeleted, call, recording, data, now).await?;
        info!(recording.id = %recording, "recording {recording} is deleted: {}", why.as_str());
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests;
