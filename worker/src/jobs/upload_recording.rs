//! Puts every artifact of a recording into storage and completes the recording.
//!
//! Each file is put, read back (size and checksum), and only then noted as stored; an attempt that follows a crash skips what
//! is noted. The staged files go only after the recording is completed, and by the next attempt when that one was killed
//! before they had gone.

use chrono::TimeDelta;
use serde_json::json;
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Output, Step};
use shared::id::RecordingId;
use shared::jobs::UploadRecording;
use shared::recording::{Format, Recording, RecordingState, Stage};
use shared::storage::{Fingerprint, StorageKey};
use tracing::{info, warn};

use super::stage::{self, Progress, StageError, hopeless};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// The share of the whole processing that is done when this stage begins.
const PROGRESS_FROM: f64 = 0.7;

/// Runs the job.
///
/// # Errors
/// When storage or the database fails.
pub async fn run(ctx: Ctx, job: UploadRecording, attempt: Attempt) -> Result<(), Failure> {
    let step = Step { stage: Stage::Upload, token: job.token };
    let Some(recording) = stage::hold(&ctx, &job.recording, &step).await? else {
        return tidy_up(&ctx, &job.recording).await;
    };
    let result = upload(&ctx, &recording, &step, &attempt).await;
    stage::settle(&ctx, &recording, &step, &attempt, result).await
}

/// What an attempt that was killed after it had completed the recording left.
async fn tidy_up(ctx: &Ctx, id: &RecordingId) -> Result<(), Failure> {
    let found = recordings::find(&ctx.db, id).await.map_err(anyhow::Error::from)?;
    if found.is_some_and(|recording| recording.state == RecordingState::Completed) {
        delete_staged(ctx, id).await;
    }
    Ok(())
}

async fn upload(ctx: &Ctx, recording: &Recording, step: &Step, attempt: &Attempt) -> Result<(), StageError> {
    let files = artifacts::of_recording(&ctx.db, &recording.id).await?;
    let Some(main) = main_file(&files) else {
        return Err(hopeless("no-media", "there is no file to store"));
    };
    let progress = Progress::report(ctx, &recording.id, step);
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for file in files.iter().filter(|file| file.stored_at.is_none()) {
        let sent = |bytes: u64| progress.set(share(done + bytes, total));
        tokio::select! {
            stored = store(ctx, file, &sent) => {
                stored.inspect_err(|_| ctx.metrics.upload_failed())?;
            }
            () = attempt.cancel.cancelled() => return Err(anyhow::anyhow!("cancelled").into()),
        }
        done += file.size;
    }
    drop(progress);
    if complete(ctx, recording, step, main, files.len()).await? {
        info!(recording.id = %recording.id, "completed recording {}", recording.id);
        ctx.metrics.completed();
    }
    delete_staged(ctx, &recording.id).await;
    Ok(())
}

fn share(sent: u64, total: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a float has")]
    let sent = sent as f64 / total.max(1) as f64;
    PROGRESS_FROM + (1.0 - PROGRESS_FROM) * sent
}

/// The file that is "the recording" for whoever asks for one: the only one, or the first participant's.
fn main_file(files: &[Artifact]) -> Option<&Artifact> {
    files.iter().find(|file| file.kind != ArtifactKind::Thumbnail)
}

async fn store(ctx: &Ctx, file: &Artifact, sent: &(dyn Fn(u64) + Send + Sync)) -> anyhow::Result<()> {
    let key = StorageKey::Existing(file.storage_key.clone());
    let expected = Fingerprint { size: file.size, sha256: file.sha256.clone() };
    let staged = file.staged_path.clone().unwrap_or_default();
    let (token, name) = staged.split_once('/').unwrap_or_default();
    match ctx.spool.staged_path(&file.recording, token, name) {
        Ok(path) => ctx.storage.put_file(&key, &path, &file.content_type, sent).await?,
        // An attempt that was killed between reading back and noting it, while another one completed and cleaned up: what
        // counts is whether the object is there, and the check below says so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    ctx.storage.verify(&key, &expected).await?;
    artifacts::stored(&ctx.db, &file.id, ctx.now()).await?;
    ctx.metrics.uploaded(file.size);
    Ok(())
}

/// Returns whether this call completed the recording; if not, another worker did.
async fn complete(
    ctx: &Ctx,
    recording: &Recording,
    step: &Step,
    main: &Artifact,
    files: usize,
) -> anyhow::Result<bool> {
    let (id, call, at, place) = (&recording.id, &recording.call, ctx.now(), ctx.storage.place());
    let ending = main.storage_key.rsplit('.').next().unwrap_or_default();
    let output = Output {
        format: ending.parse::<Format>()?,
        duration_ms: main.duration_ms.unwrap_or(0),
        file_size: main.size,
        key: main.storage_key.clone(),
        provider: place.provider,
        bucket: place.bucket,
        expires_at: ctx.retention_days.map(|days| at + TimeDelta::days(days.into())),
    };
    let mut tx = ctx.db.begin().await?;
    if recordings::complete(&mut tx, id, step, &output, at).await?.is_none() {
        return Ok(false);
    }
    events::about_recording(&mut tx, EventType::RecordingUploaded, call, id, json!({ "files": files }), at)
        .await?;
    let data =
        json!({ "duration": output.duration_ms, "fileSize": output.file_size, "format": output.format });
    events::about_recording(&mut tx, EventType::RecordingCompleted, call, id, data, at).await?;
    tx.commit().await?;
    Ok(true)
}

/// What stays behind goes with the capture, after `CAPTURE_KEEP`.
async fn delete_staged(ctx: &Ctx, recording: &RecordingId) {
    let (spool, id) = (ctx.spool.clone(), recording.clone());
    let deleted = ctx
        .blocking(move || {
            for token in spool.tokens(&id)? {
                spool.delete_staged(&id, &token)?;
            }
            Ok(())
        })
        .await;
    if let Err(error) = deleted {
        warn!(recording.id = %recording, "staged files stay until the capture goes: {error:#}");
    }
}
