//! Puts every artifact of a recording into storage and completes the recording.
//!
//! Each file is put, verified (size and checksum), and only then noted as stored; an attempt that follows a crash skips what
//! is noted, and goes on with the upload that was under way where the provider can ([`shared::storage::Resumption`]). The staged files go only after the recording is completed, and by the next attempt when that one was killed
//! before they had gone. The same holds for the files in storage that a new revision has replaced.

use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::json;
use shared::db::artifacts::uploads::{self, Noted};
use shared::db::artifacts::{self, Artifact, ArtifactKind};
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Output, Step};
use shared::id::RecordingId;
use shared::jobs::UploadRecording;
use shared::recording::{Format, Recording, RecordingState, Stage};
use shared::storage::{Attributes, Fingerprint, Kept, Metadata, PutFile, Resumption, UploadWatch, verify};
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
    for key in artifacts::replaced_keys(&ctx.db, id).await? {
        ctx.storage.delete(&key).await?;
        artifacts::forget_key(&ctx.db, id, &key).await?;
    }
    Ok(())
}

async fn upload(ctx: &Ctx, recording: &Recording, step: &Step, attempt: &Attempt) -> Result<(), StageError> {
    let files = artifacts::of_revision(&ctx.db, &recording.id, recording.revision).await?;
    let Some(main) = main_file(&files) else {
        return Err(hopeless("no-media", "there is no file to store"));
    };
    let progress = Progress::report(ctx, &recording.id, step);
    let total: u64 = files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for file in files.iter().filter(|file| file.stored_at.is_none()) {
        let watch = Watch { ctx, file, progress: &progress, done, total };
        tokio::select! {
            stored = store(ctx, recording, file, &watch) => {
                stored.inspect_err(|_| ctx.metrics.upload_failed())?;
            }
            () = attempt.cancel.cancelled() => return Err(anyhow::anyhow!("cancelled").into()),
        }
        done += file.size;
    }
    drop(progress);
    if complete(ctx, recording, step, main, &files).await? {
        info!(recording.id = %recording.id, "completed recording {}", recording.id);
        ctx.metrics.completed();
    }
    Ok(())
}

/// Tells how much of all files has gone, and notes what the next attempt goes on with.
struct Watch<'a> {
    ctx: &'a Ctx,
    file: &'a Artifact,
    progress: &'a Progress,
    done: u64,
    total: u64,
}

#[async_trait]
impl UploadWatch for Watch<'_> {
    fn sent(&self, bytes: u64) {
        self.progress.set(share(self.done + bytes, self.total));
    }

    async fn keep(&self, state: &Resumption) -> anyhow::Result<Kept> {
        Ok(match uploads::note(&self.ctx.db, &self.file.id, state).await? {
            Noted::Yes => Kept::Yes,
            Noted::NotStaged => Kept::No,
        })
    }
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

async fn store(ctx: &Ctx, recording: &Recording, file: &Artifact, watch: &Watch<'_>) -> anyhow::Result<()> {
    let (key, attributes) = (file.storage_key.as_str(), attributes(recording, file));
    let expected = Fingerprint { size: file.size, sha256: file.sha256.clone() };
    let scratch = ctx.scratch.attempt()?;
    // Where it is not staged any more, an attempt was killed between reading back and noting it, while another one completed
    // and cleaned up: what counts is whether the object is there, and the check below says so.
    let source = stage::fetch(ctx, file, scratch.path()).await?;
    if let Some(path) = &source {
        let begun = uploads::noted(&ctx.db, &file.id).await?;
        let put = PutFile { key, file: path, attributes: &attributes, resume: begun.as_ref() };
        ctx.storage.put_file(&put, watch).await?;
    }
    verify(ctx.storage.as_ref(), key, &expected, source.as_deref()).await?;
    artifacts::stored(&ctx.db, &file.id, ctx.now()).await?;
    ctx.metrics.uploaded(file.size);
    Ok(())
}

/// What storage keeps beside the file. A recording that is processed anew has other keys, so what is under one stays as it is.
fn attributes(recording: &Recording, file: &Artifact) -> Attributes {
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
    main: &Artifact,
    files: &[Artifact],
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
        expires_at: recording
            .options
            .expires_at
            .or_else(|| ctx.retention.days.map(|days| at + TimeDelta::days(days.into()))),
    };
    let mut tx = ctx.db.begin().await?;
    if recordings::complete(&mut tx, id, step, &output, at).await?.is_none() {
        return Ok(false);
    }
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let data =
        json!({ "files": files.len(), "bytes": bytes, "provider": output.provider, "bucket": output.bucket });
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
