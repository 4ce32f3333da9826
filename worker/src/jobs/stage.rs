//! What the three stages of processing have in common: taking hold of a recording, reporting how far they are, and what a
//! failure means for the recording.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::db::artifacts::Artifact;
use shared::db::events::{self, EventType};
use shared::db::recordings::{self, Step};
use shared::db::tracks::{self, Shown};
use shared::id::RecordingId;
use shared::recording::{Recording, RecordingError, RecordingState, STAGE_DEADLINE, Stage};
use shared::storage::StorageError;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use ulid::Ulid;

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::queue::Attempt;

/// How often progress is written to the recording's row.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a stage that fails says.
#[derive(Debug)]
pub(super) enum StageError {
    /// No attempt can succeed: the recording fails with this, and its tracks keep what they have shown.
    Hopeless(RecordingError, Vec<Shown>),
    /// Another attempt may succeed.
    Again(anyhow::Error),
    /// Another attempt may succeed, and should be made within this time.
    AgainWithin(Duration, anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for StageError {
    fn from(error: E) -> Self {
        Self::Again(error.into())
    }
}

/// A [`StageError`] that no attempt mends.
#[must_use]
pub(super) fn hopeless(code: &str, detail: impl Into<String>) -> StageError {
    StageError::Hopeless(RecordingError { code: code.to_owned(), detail: detail.into() }, Vec::new())
}

/// The step that follows, with a token of its own.
#[must_use]
pub(super) fn next(stage: Stage) -> Step {
    Step { stage, token: Ulid::generate().to_string() }
}

/// A folder in the spool for what an attempt stages. It names the revision, which tells whose it is when it was left behind.
#[must_use]
pub(super) fn folder(recording: &Recording) -> String {
    format!("{}-{}", recording.revision, Ulid::generate())
}

/// A staged file where programs can open it: in the spool itself, or a copy in the folder `into`. `None` when it is not staged any
/// more.
pub(super) async fn fetch(ctx: &Ctx, file: &Artifact, into: &Path) -> anyhow::Result<Option<PathBuf>> {
    let (token, name) = file.staged_path.as_deref().and_then(|path| path.split_once('/')).unwrap_or_default();
    let (spool, id, into) = (ctx.spool.clone(), file.recording.clone(), into.to_owned());
    let (token, name) = (token.to_owned(), name.to_owned());
    let fetch = move || match spool.fetch_staged(&id, &token, &name, &into) {
        Ok(path) => Ok(Some(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    };
    ctx.blocking(fetch).await
}

/// Whether a folder of the spool was staged for a revision up to this one. A folder without a revision is older than those.
#[must_use]
pub(super) fn is_staged_up_to(revision: u32, folder: &str) -> bool {
    let of = folder.split_once('-').and_then(|(of, _)| of.parse::<u32>().ok());
    of.is_none_or(|of| of <= revision)
}

/// When the step that begins now is overdue.
#[must_use]
pub(super) fn deadline(ctx: &Ctx) -> Timestamp {
    ctx.now() + STAGE_DEADLINE
}

/// The recording, when the job holds its current step. `None`: there is nothing (more) to do. A re-queued job takes up a
/// recording that failed at its step.
///
/// # Errors
/// When the database fails.
pub(super) async fn hold(ctx: &Ctx, id: &RecordingId, step: &Step) -> Result<Option<Recording>, Failure> {
    let found = recordings::find(&ctx.db, id).await.map_err(anyhow::Error::from)?;
    let Some(mut recording) = found else { return Ok(None) };
    let current = recording.stage == Some(step.stage) && recording.stage_token.as_ref() == Some(&step.token);
    match recording.state {
        RecordingState::Processing if current => Ok(Some(recording)),
        // Only a re-queued job finds its recording failed: while a job may still run, nobody else fails its recording.
        RecordingState::Failed if current && take_up(ctx, &recording, step).await? => {
            recording.state = RecordingState::Processing;
            Ok(Some(recording))
        }
        _ => Ok(None),
    }
}

async fn take_up(ctx: &Ctx, recording: &Recording, step: &Step) -> anyhow::Result<bool> {
    let (call, id) = (&recording.call, &recording.id);
    let mut tx = ctx.db.begin().await?;
    if recordings::take_up(&mut tx, id, step, deadline(ctx)).await?.is_none() {
        return Ok(false);
    }
    events::about_recording(&mut tx, EventType::RecordingProcessing, call, id, json!({}), ctx.now()).await?;
    tx.commit().await?;
    info!(recording.id = %id, "taking up failed recording {id} again");
    Ok(true)
}

/// Turns a stage's end into the job's: a hopeless error, or any on the last attempt, fails the recording as well.
///
/// # Errors
/// The stage's error, as the queue wants it.
pub(super) async fn settle(
    ctx: &Ctx,
    recording: &Recording,
    step: &Step,
    attempt: &Attempt,
    result: Result<(), StageError>,
) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(StageError::Hopeless(error, shown)) => {
            fail(ctx, recording, Some(step), &error, &shown).await?;
            Err(Failure::GiveUp(anyhow::anyhow!("{}: {}", error.code, error.detail)))
        }
        Err(StageError::Again(error)) if attempt.cancel.is_cancelled() => Err(Failure::Retry(error)),
        Err(StageError::Again(error) | StageError::AgainWithin(_, error)) if attempt.is_last() => {
            fail(ctx, recording, Some(step), &in_vain(&error, attempt), &[]).await?;
            Err(error.into())
        }
        Err(StageError::Again(error)) => Err(error.into()),
        Err(StageError::AgainWithin(limit, error)) => Err(Failure::from(error).within(limit, attempt.number)),
    }
}

/// What a client is told of a recording whose last attempt failed. The full error is the operator's, in the job's attempts: it
/// speaks of servers and paths.
fn in_vain(error: &anyhow::Error, attempt: &Attempt) -> RecordingError {
    let code = error.downcast_ref().map_or("processing-failed", StorageError::code);
    let detail = format!("processing failed {} times; the operator sees why", attempt.number);
    RecordingError { code: code.to_owned(), detail }
}

/// Fails a recording and tells why and what its tracks have shown, unless it is elsewhere by now.
///
/// # Errors
/// When the database fails.
pub(super) async fn fail(
    ctx: &Ctx,
    recording: &Recording,
    step: Option<&Step>,
    error: &RecordingError,
    shown: &[Shown],
) -> anyhow::Result<()> {
    let (id, at) = (&recording.id, ctx.now());
    let mut tx = ctx.db.begin().await?;
    if recordings::fail(&mut tx, id, step, error, at).await?.is_some() {
        for track in shown {
            tracks::assembled(&mut tx, track).await?;
        }
        let data = json!({ "error": error });
        events::about_recording(&mut tx, EventType::RecordingFailed, &recording.call, id, data, at).await?;
        tx.commit().await?;
        ctx.metrics.failed();
        warn!(recording.id = %id, error.code = error.code, "recording {id} failed: {}", error.detail);
    }
    Ok(())
}

/// How far a stage is. Written to the recording's row once a second while it lives, and told by events.
#[derive(Debug)]
pub(super) struct Progress {
    seen: Arc<Seen>,
    _writer: AbortOnDropHandle<()>,
}

/// What is to be written next.
#[derive(Debug, Default)]
struct Seen {
    /// In millionths, as an atomic has no fractions.
    share: AtomicU32,
    /// Of all files, while they are uploaded.
    sent: AtomicU64,
    total: AtomicU64,
}

/// The millionths of [`Seen::share`].
const WHOLE: f32 = 1_000_000.0;

impl Progress {
    /// Begins to report.
    #[must_use]
    pub(super) fn report(ctx: &Ctx, id: &RecordingId, step: &Step) -> Self {
        let seen = Arc::new(Seen::default());
        let (ctx, id, step, shown) = (ctx.clone(), id.clone(), step.clone(), Arc::clone(&seen));
        let writer = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PROGRESS_EVERY);
            loop {
                ticks.tick().await;
                // A database that is away is not this job's business: the next tick tries again.
                let (share, data) = shown.told(step.stage);
                let _ = recordings::set_progress(&ctx.db, &id, &step, share, data, ctx.now()).await;
            }
        });
        Self { seen, _writer: AbortOnDropHandle::new(writer) }
    }

    /// Notes how much of the whole processing is done, 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    pub(super) fn set(&self, share: f64) {
        self.seen.share.store((share.clamp(0.0, 1.0) * f64::from(WHOLE)) as u32, Ordering::Relaxed);
    }

    /// Notes how many bytes of all files have been sent.
    pub(super) fn sent(&self, bytes: u64, total: u64) {
        self.seen.sent.store(bytes, Ordering::Relaxed);
        self.seen.total.store(total, Ordering::Relaxed);
    }
}

impl Seen {
    /// The share of the whole that is done, and what an event says.
    fn told(&self, stage: Stage) -> (f32, Value) {
        #[expect(clippy::cast_precision_loss, reason = "a million fits a float's 24 bits")]
        let share = self.share.load(Ordering::Relaxed) as f32 / WHOLE;
        let (sent, total) = (self.sent.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let data = match total {
            0 => json!({ "stage": stage, "progress": share }),
            total => json!({ "stage": stage, "progress": share, "bytes": sent, "totalBytes": total }),
        };
        (share, data)
    }
}
