//! Where a file goes: to the first storage; or, once that has taken no file for `BACKUP_AFTER`, into the backup.
//!
//! Every attempt asks the first storage before it turns to the backup, so that nothing goes there for an outage that is over. Since
//! when the first takes none is shared by all workers ([`outages`]), and counts from the last byte that it took. A file that stops
//! on its way there counts as well: it is left where it is after the same time, and begun anew in the backup. What counts as an
//! outage is what [`StorageError::is_outage`] says: also refused credentials and a full bucket, which somebody must cure, while the
//! recording is complete and safe elsewhere. The last attempt turns to the backup however short the outage was.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::json;
use shared::clock::Timestamp;
use shared::db::artifacts::uploads::{self, Noted};
use shared::db::artifacts::{self, Artifact, backup};
use shared::db::events::{self, EventType};
use shared::db::outages;
use shared::recording::Recording;
use shared::storage::{
    Destination, Fingerprint, Kept, PutFile, Resumption, SharedStorage, StorageError, UploadWatch, verify,
};
use tracing::warn;

use super::attributes;
use crate::ctx::Ctx;
use crate::jobs::stage::{self, StageError};
use crate::queue::Attempt;

/// The least that a file may rest on its way before it counts as stopped: parts arrive whole, one at a time.
const STALL_MIN: Duration = Duration::from_secs(60);

/// Whether the first storage is still worth a try in this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    IsAsked,
    IsAway,
}

/// Where the files of a recording go in one attempt.
pub(super) struct Place<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) recording: &'a Recording,
    pub(super) attempt: &'a Attempt,
    pub(super) first: First,
}

impl Place<'_> {
    /// Stores a file, in one place or the other; `sent` is told how many of its bytes have gone.
    pub(super) async fn store(
        &mut self,
        file: &Artifact,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<(), StageError> {
        if self.first == First::IsAsked {
            let watch = Watch::new(self.ctx, file, Destination::Main, sent);
            match self.put(file, &watch).await {
                Ok(()) if self.ctx.storage.backup.is_some() => return Ok(outages::end(&self.ctx.db).await?),
                Ok(()) => return Ok(()),
                Err(error) => self.wait_or_turn_away(error, watch.moved_at()).await?,
            }
        }
        backup::begin(&self.ctx.db, &file.id).await?;
        let watch = Watch::new(self.ctx, file, Destination::Backup, sent);
        self.put(file, &watch).await.context("into the backup, as the first storage is away")?;
        Ok(())
    }

    /// The error again, unless it is an outage that has lasted for long enough.
    async fn wait_or_turn_away(&mut self, error: anyhow::Error, since: Timestamp) -> Result<(), StageError> {
        let outage = error.downcast_ref::<StorageError>().filter(|error| error.is_outage());
        let (Some(outage), Some(backup)) = (outage, &self.ctx.storage.backup) else {
            return Err(error.into());
        };
        let since = outages::begin(&self.ctx.db, since, outage.code()).await?;
        let lasted = (self.ctx.now() - since).to_std().unwrap_or_default();
        match backup.after.checked_sub(lasted).filter(|left| !left.is_zero()) {
            Some(left) if !self.attempt.is_last() => Err(StageError::AgainWithin(left, error)),
            _ => {
                warn!(recording.id = %self.recording.id, error.code = outage.code(),
                    "storage has taken no file since {since}; recording {} goes into the backup", self.recording.id);
                self.first = First::IsAway;
                Ok(())
            }
        }
    }

    /// Puts a file and has it proven. A failure is told.
    async fn put(&self, file: &Artifact, watch: &Watch<'_>) -> anyhow::Result<()> {
        let storage = self.ctx.storage.at(watch.destination)?;
        let put = store(self.ctx, self.recording, file, storage, watch);
        let done = match (watch.destination, &self.ctx.storage.backup) {
            (Destination::Main, Some(backup)) => {
                unless_stalled(put, watch, backup.after.max(STALL_MIN)).await
            }
            _ => put.await,
        };
        if let Err(error) = &done
            && let Some(error) = error.downcast_ref::<StorageError>()
        {
            self.tell(file, storage, watch.destination, error).await;
        }
        done
    }

    async fn tell(&self, file: &Artifact, storage: &SharedStorage, to: Destination, error: &StorageError) {
        let place = storage.place();
        let data = json!({ "artifact": file.id, "provider": place.provider, "bucket": place.bucket,
            "destination": to, "code": error.code() });
        let (event, id) = (EventType::RecordingUploadFailed, &self.recording.id);
        if let Err(error) = events::about(&self.ctx.db, event, id, data, self.ctx.now()).await {
            warn!(recording.id = %id, "an upload's failure is not among the events: {error}");
        }
    }
}

/// An upload of which nothing arrives any more, although nothing says that it has failed, is dropped.
async fn unless_stalled(
    put: impl Future<Output = anyhow::Result<()>>,
    watch: &Watch<'_>,
    limit: Duration,
) -> anyhow::Result<()> {
    tokio::pin!(put);
    loop {
        let rested = (watch.ctx.now() - watch.moved_at()).to_std().unwrap_or_default();
        let Some(rest) = limit.checked_sub(rested).filter(|rest| !rest.is_zero()) else {
            let reason = format!("nothing has arrived for {} s", limit.as_secs());
            return Err(StorageError::unavailable(reason).into());
        };
        if let Ok(done) = tokio::time::timeout(rest, &mut put).await {
            return done;
        }
    }
}

async fn store(
    ctx: &Ctx,
    recording: &Recording,
    file: &Artifact,
    storage: &SharedStorage,
    watch: &Watch<'_>,
) -> anyhow::Result<()> {
    let (key, attributes) = (file.storage_key.as_str(), attributes(recording, file));
    let expected = Fingerprint { size: file.size, sha256: file.sha256.clone() };
    let scratch = ctx.scratch.attempt()?;
    // Where it is not staged any more, an attempt was killed between reading back and noting it, while another one completed
    // and cleaned up: what counts is whether the object is there, and the check below says so.
    let source = stage::fetch(ctx, file, scratch.path()).await?;
    if let Some(path) = &source {
        let begun = uploads::noted(&ctx.db, &file.id, watch.destination).await?;
        let put = PutFile { key, file: path, attributes: &attributes, resume: begun.as_ref() };
        storage.put_file(&put, watch).await?;
    }
    verify(storage.as_ref(), key, &expected, source.as_deref()).await?;
    let put = (watch.destination, &storage.place());
    if artifacts::stored(&ctx.db, &file.id, put, ctx.now()).await?.is_none() {
        // An attempt that was taken for dead puts a file back after its recording was deleted: no row names it any more.
        storage.delete(key).await?;
        anyhow::bail!("artifact {} is gone with its recording", file.id);
    }
    ctx.metrics.uploaded(file.size);
    Ok(())
}

/// Tells how much has gone, and notes when that was and what the next attempt goes on with.
struct Watch<'a> {
    ctx: &'a Ctx,
    file: &'a Artifact,
    destination: Destination,
    sent: &'a (dyn Fn(u64) + Sync),
    began_at: Timestamp,
    /// Milliseconds from the beginning to the last byte that has gone.
    moved_ms: AtomicI64,
}

impl<'a> Watch<'a> {
    fn new(
        ctx: &'a Ctx,
        file: &'a Artifact,
        destination: Destination,
        sent: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        Self { ctx, file, destination, sent, began_at: ctx.now(), moved_ms: AtomicI64::new(0) }
    }

    /// When the last byte has gone, or the upload has begun.
    fn moved_at(&self) -> Timestamp {
        self.began_at + TimeDelta::milliseconds(self.moved_ms.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl UploadWatch for Watch<'_> {
    fn sent(&self, bytes: u64) {
        self.moved_ms.store((self.ctx.now() - self.began_at).num_milliseconds(), Ordering::Relaxed);
        (self.sent)(bytes);
    }

    async fn keep(&self, state: &Resumption) -> anyhow::Result<Kept> {
        Ok(match uploads::note(&self.ctx.db, &self.file.id, self.destination, state).await? {
            Noted::Yes => Kept::Yes,
            Noted::NotWanted => Kept::No,
        })
    }
}
