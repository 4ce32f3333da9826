//! Puts every artifact of a recording into storage and completes the recording.
//!
//! Each file is put, verified (size and checksum), and only then noted as stored; an attempt that follows a crash skips what
//! is noted, and goes on with the upload that was under way where the provider can ([`shared::storage::Resumption`]). The staged files go only after the recording is completed, and by the next attempt when that one was killed
//! before they had gone. The same holds for the files in storage that a new revision has replaced.

use chrono::TimeDelta;
use serde_json::json;
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Output, Step};
use shared::id::{ArtifactId, RecordingId};
use shared::jobs::UploadRecording;
use shared::recording::{Format, Recording, RecordingState, Stage};
use shared::storage::{Attributes, Destination, Metadata};
use tracing::{info, warn};

use self::place::{First, Place};
use super::stage::{self, Progress, StageError, hopeless};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

mod place;

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
    stage::settle(&ctx, &recording, &step, &attempt, result).await?;
    tidy_up(&ctx, &job.recording).await
}

/// Deletes what a completed recording has no more use for, also when an earlier attempt was killed before it did.
async fn tidy_up(ctx: &Ctx, id: &RecordingId) -> Result<(), Failure> {
    let found = recordings::find(&ctx.db, id).await.map_err(anyhow::Error::from)?;
    let Some(recording) = found.filter(|recording| recording.state == RecordingState::Completed) else {
        return Ok(());
    };
    delete_staged(ctx, &recording).await;
    Ok(delete_replaced(ctx, id).await?)
}

/// Deletes the files that the completed revision replaces. A row goes after its object, so that none is forgotten.
async fn delete_replaced(ctx: &Ctx, id: &RecordingId) -> anyhow::Result<()> {
    for file in artifacts::replaced(&ctx.db, id).await? {
        must_be_here(ctx, &file).await?;
        ctx.storage.main.delete(&file.storage_key).await?;
        if file.backup.is_some() {
            ctx.storage.at(Destination::Backup)?.delete(&file.storage_key).await?;
        }
        artifacts::forget(&ctx.db, &file.id).await?;
    }
    Ok(())
}

/// A file that was put into another storage than the one that is named now does not count as deleted because it is not here.
///
/// # Errors
/// When it lies elsewhere, or storage does not say.
pub(super) async fn must_be_here(ctx: &Ctx, file: &Artifact) -> anyhow::Result<()> {
    let first = &ctx.storage.main;
    if !file.is_elsewhere(&first.place()) || first.head(&file.storage_key).await?.is_some() {
        return Ok(());
    }
    let (key, was, is) = (&file.storage_key, file.place.as_deref().unwrap_or_default(), first.place());
    anyhow::bail!(
        "{key} was put into {was}, and storage is {is} now: name that one again, or copy its objects here, and re-queue the job"
    )
}

async fn upload(ctx: &Ctx, recording: &Recording, step: &Step, attempt: &Attempt) -> Result<(), StageError> {
    let files = artifacts::of_revision(&ctx.db, &recording.id, recording.revision).await?;
    let Some(main) = main_file(&files) else {
        return Err(hopeless("no-media", "there is no file to store"));
    };
    let progress = Progress::report(ctx, &recording.id, step);
    let total: u64 = files.iter().map(|file| file.size).sum();
    // What an earlier attempt put into a storage that is not named any more is put into the one that is: the recording has one place.
    let first = ctx.storage.main.place();
    let is_done = |file: &&Artifact| file.stored_at.is_some() && !file.is_elsewhere(&first);
    let mut done: u64 = files.iter().filter(is_done).map(|file| file.size).sum();
    let mut place = Place { ctx, recording, attempt, first: First::IsAsked };
    for file in files.iter().filter(|file| !is_done(file)) {
        let sent = |bytes| {
            progress.set(share(done + bytes, total));
            progress.sent(done + bytes, total);
        };
        tokio::select! {
            stored = place.store(file, &sent) => {
                stored.inspect_err(|_| ctx.metrics.upload_failed())?;
            }
            () = attempt.cancel.cancelled() => return Err(anyhow::anyhow!("cancelled").into()),
        }
        done += file.size;
    }
    drop(progress);
    if complete(ctx, recording, step, &main.id, &files).await? {
        info!(recording.id = %recording.id, "completed recording {}", recording.id);
        ctx.metrics.completed();
    }
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

/// What storage keeps beside the file. A recording that is processed anew has other keys, so what is under one stays as it is.
pub(super) fn attributes(recording: &Recording, file: &Artifact) -> Attributes {
    Attributes {
        content_type: file.content_type.clone(),
        cache_control: Some("private, max-age=31536000, immutable".to_owned()),
        metadata: Metadata {
            call: Some(recording.call.to_string()),
            recording: Some(recording.id.to_string()),
            participant: file.participant.as_ref().map(ToString::to_string),
            kind: Some(file.kind.as_str().to_owned()),
            duration_ms: file.duration_ms,
        },
    }
}

/// Returns whether this call completed the recording; if not, another worker did.
async fn complete(
    ctx: &Ctx,
    recording: &Recording,
    step: &Step,
    main: &ArtifactId,
    files: &[Artifact],
) -> anyhow::Result<bool> {
    let (id, call, at) = (&recording.id, &recording.call, ctx.now());
    let mut tx = ctx.db.begin().await?;
    // Read again, with where they have been stored; locked, as they may be moved meanwhile.
    if recordings::lock(&mut tx, id).await?.is_none() {
        return Ok(false);
    }
    let stored = artifacts::of_revision(&mut *tx, id, recording.revision).await?;
    let Some(main) = stored.iter().find(|file| file.id == *main) else { return Ok(false) };
    let place = ctx.storage.at(main.destination())?.place();
    let ending = main.storage_key.rsplit('.').next().unwrap_or_default();
    let output = Output {
        format: ending.parse::<Format>()?,
        duration_ms: main.duration_ms.unwrap_or(0),
        file_size: main.size,
        key: main.storage_key.clone(),
        provider: place.provider,
        bucket: place.bucket,
        expires_at: recording
            .options
            .expires_at
            .or_else(|| ctx.retention.days.map(|days| at + TimeDelta::days(days.into()))),
    };
    if recordings::complete(&mut tx, id, step, &output, at).await?.is_none() {
        return Ok(false);
    }
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let data = json!({ "files": files.len(), "bytes": bytes, "provider": output.provider, "bucket": output.bucket,
        "destination": main.destination() });
    events::about_recording(&mut tx, EventType::RecordingUploaded, call, id, data, at).await?;
    let data =
        json!({ "duration": output.duration_ms, "fileSize": output.file_size, "format": output.format });
    events::about_recording(&mut tx, EventType::RecordingCompleted, call, id, data, at).await?;
    tx.commit().await?;
    Ok(true)
}

/// What stays behind goes with the capture, after `CAPTURE_KEEP`. A later revision may have been begun meanwhile, and what it has
/// staged stays.
async fn delete_staged(ctx: &Ctx, recording: &Recording) {
    let (spool, id, revision) = (ctx.spool.clone(), recording.id.clone(), recording.revision);
    let deleted = ctx
        .blocking(move || {
            for token in spool.tokens(&id)?.iter().filter(|token| stage::is_staged_up_to(revision, token)) {
                spool.delete_staged(&id, token)?;
            }
            Ok(())
        })
        .await;
    if let Err(error) = deleted {
        warn!(recording.id = %recording.id, "staged files stay until the capture goes: {error:#}");
    }
}
