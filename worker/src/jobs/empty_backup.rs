//! Moves files from the backup to the first storage once that takes files again, and deletes what nobody needs in the backup.
//!
//! A file is copied and proven at the first storage; then its row says so; and the copy in the backup goes with the next run, as a
//! link to it may have been handed out. A worker that is killed in between leaves a row that points to a proven copy, and the next
//! run goes on: it looks whether the file has arrived before it puts it. The row of a file that was deleted meanwhile stays until a
//! run has deleted both copies once more: one may have been on its way.

use std::path::Path;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::db::artifacts::uploads::{self, Noted};
use shared::db::artifacts::{Artifact, backup};
use shared::db::events::{self, EventType};
use shared::db::{jobs, outages, recordings};
use shared::id::RecordingId;
use shared::jobs::{EmptyBackup, Job};
use shared::storage::{
    Attributes, Destination, Fingerprint, Kept, PutFile, Resumption, SharedStorage, StorageError,
    UploadWatch, verify,
};
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use super::upload_recording::attributes;
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// How many are taken in one run; the next run takes the next.
const BATCH: i64 = 500;
/// The recording of which the probe is named: nobody's, and always the same, so that a worker that is killed leaves one at most.
const PROBE: &str = "rec_00000000000000000000000000";

/// Runs the job.
///
/// # Errors
/// When the database fails, or a file cannot be moved although both storages answer.
pub async fn run(ctx: Ctx, _job: EmptyBackup, attempt: Attempt) -> Result<(), Failure> {
    let Some(backup) = ctx.storage.backup.clone() else { return Ok(()) };
    let earlier = jobs::earlier_runs(&ctx.db, EmptyBackup::QUEUE, &attempt.job).await;
    if earlier.map_err(anyhow::Error::from)? {
        return Ok(());
    }
    tokio::select! {
        done = empty(&ctx, &backup.storage) => Ok(done?),
        () = attempt.cancel.cancelled() => Err(Failure::Retry(anyhow::anyhow!("cancelled"))),
    }
}

/// Each step has its turn, whatever became of the one before. An outage is waited out, and is no failure of the job.
async fn empty(ctx: &Ctx, backup: &SharedStorage) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for done in [delete_unwanted(ctx, backup).await, move_over(ctx, backup).await] {
        let Err(error) = done else { continue };
        match error.downcast_ref::<StorageError>() {
            Some(storage) if storage.is_outage() => {
                warn!(error.code = storage.code(), "the backup is emptied later: {error:#}");
            }
            _ => failed = Err(error),
        }
    }
    failed
}

async fn move_over(ctx: &Ctx, backup: &SharedStorage) -> anyhow::Result<()> {
    // Both are looked up before anything is moved: what this run moves is deleted by the next.
    let (spare, held) = (backup::spare(&ctx.db, BATCH).await?, backup::held(&ctx.db, BATCH).await?);
    if spare.is_empty() && held.is_empty() {
        return Ok(());
    }
    probe(ctx, backup).await.context("ask the first storage")?;
    let deleted = delete_spare(ctx, backup, &spare).await;
    move_held(ctx, backup, &held).await.and(deleted)
}

async fn delete_unwanted(ctx: &Ctx, backup: &SharedStorage) -> anyhow::Result<()> {
    for file in backup::unwanted(&ctx.db, BATCH).await? {
        ctx.storage.main.delete(&file.storage_key).await?;
        backup.delete(&file.storage_key).await?;
        backup::forget(&ctx.db, &file.id).await?;
    }
    Ok(())
}

/// It was proven there; that it still is costs one question more.
async fn delete_spare(ctx: &Ctx, backup: &SharedStorage, spare: &[Artifact]) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for file in spare {
        let head = ctx.storage.main.head(&file.storage_key).await?;
        if head.is_none_or(|head| head.size != file.size) {
            failed = Err(StorageError::NotFound(file.storage_key.clone()).into());
            continue;
        }
        backup.delete(&file.storage_key).await?;
        backup::emptied(&ctx.db, &file.id).await?;
    }
    failed
}

/// One file that cannot be moved must not keep the others, unless storage takes none at all.
async fn move_held(ctx: &Ctx, backup: &SharedStorage, held: &[Artifact]) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for file in held {
        let moved = move_file(ctx, backup, file).await;
        match moved.with_context(|| format!("move {}", file.storage_key)) {
            Ok(()) => {}
            Err(error) if error.downcast_ref().is_some_and(StorageError::is_outage) => return Err(error),
            Err(error) => failed = Err(error),
        }
    }
    failed
}

/// Whether the first storage takes files, and is another place than the backup: a file that was moved onto itself and then deleted
/// where it came from would be lost.
async fn probe(ctx: &Ctx, backup: &SharedStorage) -> anyhow::Result<()> {
    let key = ctx.keys.probe(&PROBE.parse::<RecordingId>()?);
    let main = &ctx.storage.main;
    main.put_bytes(&key, Bytes::from_static(b"callreel"), &Attributes::default()).await?;
    let seen = backup.head(&key).await;
    main.delete(&key).await?;
    if seen?.is_some() {
        bail!(
            "the backup is the first storage itself; cure: let RECORDING_STORAGE_BACKUP_… name another place"
        );
    }
    Ok(())
}

async fn move_file(ctx: &Ctx, backup: &SharedStorage, file: &Artifact) -> anyhow::Result<()> {
    let Some(recording) = recordings::find(&ctx.db, &file.recording).await? else { return Ok(()) };
    let (main, key) = (&ctx.storage.main, file.storage_key.as_str());
    let print = Fingerprint { size: file.size, sha256: file.sha256.clone() };
    if !has_arrived(main, key, &print).await? {
        let folder = ctx.scratch.attempt()?;
        let path = folder.path().join("file");
        fetch(backup, key, &print, &path).await?;
        let (attributes, begun) =
            (attributes(&recording, file), uploads::noted(&ctx.db, &file.id, Destination::Main).await?);
        let put = PutFile { key, file: &path, attributes: &attributes, resume: begun.as_ref() };
        main.put_file(&put, &Watch { ctx, file }).await?;
        verify(main.as_ref(), key, &print, Some(&path)).await?;
    }
    let (place, mut tx) = (main.place(), ctx.db.begin().await?);
    // Before the artifact's row, as whoever completes the recording does: it notes where the file is.
    if recordings::lock(&mut tx, &file.recording).await?.is_none() {
        return Ok(());
    }
    if backup::moved(&mut tx, file, &place).await?.is_some() {
        let data = json!({ "artifact": file.id, "provider": place.provider, "bucket": place.bucket });
        events::about(&mut *tx, EventType::RecordingMoved, &file.recording, data, ctx.now()).await?;
        outages::end(&mut *tx).await?;
        tx.commit().await?;
        info!(recording.id = %file.recording, "moved {key} from the backup to where it belongs");
    }
    Ok(())
}

/// Whether an earlier run has put it, or an attempt whose success was not told. Read back, as nothing else proves it here.
async fn has_arrived(main: &SharedStorage, key: &str, print: &Fingerprint) -> Result<bool, StorageError> {
    match verify(main.as_ref(), key, print, None).await {
        Ok(()) => Ok(true),
        Err(StorageError::NotFound(_) | StorageError::Mismatch { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies an object into a file, and compares it with what was put.
async fn fetch(storage: &SharedStorage, key: &str, print: &Fingerprint, to: &Path) -> anyhow::Result<()> {
    let mut blocks = storage.get_range(key, 0..print.size).await?;
    let (mut out, mut hash, mut size) = (tokio::fs::File::create(to).await?, Sha256::new(), 0);
    while let Some(block) =
        blocks.try_next().await.map_err(|error| StorageError::unavailable(error.to_string()))?
    {
        hash.update(&block);
        size += block.len() as u64;
        out.write_all(&block).await?;
    }
    out.flush().await?;
    let found = Fingerprint { size, sha256: hex::encode(hash.finalize()) };
    if found != *print {
        let told = |print: &Fingerprint| format!("{} bytes with SHA-256 {}", print.size, print.sha256);
        let (expected, found) = (told(print), told(&found));
        return Err(StorageError::Mismatch { key: key.to_owned(), expected, found }.into());
    }
    Ok(())
}

/// Notes what the next run goes on with.
struct Watch<'a> {
    ctx: &'a Ctx,
    file: &'a Artifact,
}

#[async_trait]
impl UploadWatch for Watch<'_> {
    fn sent(&self, _bytes: u64) {}

    async fn keep(&self, state: &Resumption) -> anyhow::Result<Kept> {
        Ok(match uploads::note(&self.ctx.db, &self.file.id, Destination::Main, state).await? {
            Noted::Yes => Kept::Yes,
            Noted::NotWanted => Kept::No,
        })
    }
}
