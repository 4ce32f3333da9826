//! Takes chunks in: from a client's request to the durable capture, and from a stopped recording to the workers' first job.
//!
//! [`Ingest`] is all that the rest of the edge sees. It is told when recordings start and stop and who takes part; it asks
//! the database only about what it does not hold itself, so that chunks of live recordings are taken while Postgres is away.
//! This module must not know HTTP.
//!
//! | file | holds |
//! |---|---|
//! | `registry` | the live recordings in memory |
//! | `admit` | who may upload to which recording |
//! | `log` | the capture, as the ingest uses it |
//! | `packets` | the way in for what the edge captures itself |
//! | `coverage` | what is missing of a track |
//! | `rows` | facts of live tracks on their way to the database |
//! | `watch` | keeps memory and database of one mind; deadlines |
//! | `lag` | how far the spool is behind the capture |
//! | `finish` | the wait for late chunks, and the seal |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::capture::DiskReserve;
use shared::clock::{SharedClock, Timestamp};
use shared::env::{Env, EnvError};
use shared::id::{CallId, EdgeId, RecordingId, UserId};
use shared::lifecycle::Tasks;
use shared::recording::{Pause, RecordingOptions, RecordingState, Source};
use shared::spool::SpoolSettings;
use shared::track::Track;
use sqlx::PgPool;
use tokio::sync::{oneshot, watch as changes};
use tracing::warn;

mod admit;
mod coverage;
mod edge_id;
mod finish;
mod lag;
mod log;
mod metrics;
mod packets;
mod registry;
mod rows;
mod watch;

pub(crate) use admit::{Admission, Refused};
pub(crate) use coverage::{is_complete, missing};
pub(crate) use log::{NewChunk, Outcome, Stored};
pub(crate) use metrics::ChunkResult;
pub(crate) use packets::ServerCapture;
use registry::{Change, Live, NotLive};

/// The largest chunk unless `CHUNK_MAX_BYTES` says otherwise (API, section 5).
const CHUNK_MAX_BYTES: u64 = 10 << 20;
/// The largest that `CHUNK_MAX_BYTES` may say: half of the longest record of the capture's log.
const CHUNK_MAX_BYTES_LIMIT: u64 = 32 << 20;
/// How long after the last upload a stopped recording is sealed, unless `RECORDING_FINISH_TIMEOUT` says otherwise.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest recording unless `RECORDING_MAX_DURATION` says otherwise.
const MAX_DURATION: Duration = Duration::from_secs(12 * 3600);
/// The least that `RECORDING_MAX_DURATION` may say: with nothing, every recording would end as it begins.
const MAX_DURATION_LEAST: Duration = Duration::from_secs(1);
/// The most that it may say: chunks are counted to 2^20, and a client sends one a second, so that 12 days can be counted.
const MAX_DURATION_MOST: Duration = Duration::from_secs(12 * 24 * 3600);
/// How often the live recordings are compared with the database: a stop by somebody else is noticed within this.
const WATCH_EVERY: Duration = Duration::from_secs(3);
/// How long [`Ingest::open`] waits for the database: a process that starts together with its Postgres finds it within this,
/// and one that starts without it serves what does not need it. Until it is there, recordings are adopted one by one.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// What the ingest needs to know.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// `CAPTURE_DIR`: where the log of live recordings is written; this process alone.
    pub capture_dir: PathBuf,
    /// `SPOOL_URL`: where closed segments wait for a worker.
    pub spool: SpoolSettings,
    /// `CHUNK_MAX_BYTES`.
    pub chunk_max_bytes: u64,
    /// `DISK_RESERVE`: when the capture's disk counts as full.
    pub disk_reserve: DiskReserve,
    /// `RECORDING_FINISH_TIMEOUT`: how long after the last upload a stopped recording is sealed.
    pub finish_timeout: Duration,
    /// `RECORDING_MAX_DURATION`: what a start's deadline is made from.
    pub max_duration: Duration,
    /// `PUBLIC_URL`: where clients reach this edge.
    pub public_url: String,
}

impl IngestSettings {
    /// Reads them; the spool is a setting that edge and worker share.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn from_env(env: &Env, spool: SpoolSettings, public_url: String) -> Result<Self, EnvError> {
        Ok(Self {
            capture_dir: env.optional("CAPTURE_DIR")?.unwrap_or("data/capture").into(),
            spool,
            chunk_max_bytes: chunk_max_bytes(env)?,
            disk_reserve: disk_reserve(env)?,
            finish_timeout: env.duration("RECORDING_FINISH_TIMEOUT", FINISH_TIMEOUT)?,
            max_duration: max_duration(env)?,
            public_url,
        })
    }
}

fn chunk_max_bytes(env: &Env) -> Result<u64, EnvError> {
    let bytes = env.bytes("CHUNK_MAX_BYTES", CHUNK_MAX_BYTES)?;
    let fits = (1..=CHUNK_MAX_BYTES_LIMIT).contains(&bytes);
    fits.then_some(bytes).ok_or_else(|| EnvError::wants("CHUNK_MAX_BYTES", "a size from 1 to 32MiB"))
}

fn max_duration(env: &Env) -> Result<Duration, EnvError> {
    let max = env.duration("RECORDING_MAX_DURATION", MAX_DURATION)?;
    let fits = (MAX_DURATION_LEAST..=MAX_DURATION_MOST).contains(&max);
    fits.then_some(max).ok_or_else(|| EnvError::wants("RECORDING_MAX_DURATION", "a duration from 1s to 12d"))
}

/// `DISK_RESERVE`: `5%`, or a size, which then is the whole reserve.
fn disk_reserve(env: &Env) -> Result<DiskReserve, EnvError> {
    let wants = || EnvError::wants("DISK_RESERVE", "a share of the disk such as 5%, or a size such as 2GiB");
    let Some(raw) = env.optional("DISK_RESERVE")? else { return Ok(DiskReserve::default()) };
    if let Some(percent) = raw.strip_suffix('%') {
        let percent = percent.trim().parse().ok().filter(|percent| *percent < 100).ok_or_else(wants)?;
        return Ok(DiskReserve { percent, ..DiskReserve::default() });
    }
    let min_bytes = env.bytes("DISK_RESERVE", 0).map_err(|_| wants())?;
    Ok(DiskReserve { percent: 0, min_bytes })
}

/// A recording that takes chunks on this edge.
#[derive(Debug, Clone)]
pub struct LiveRecording {
    /// Its id.
    pub id: RecordingId,
    /// The call it belongs to.
    pub call: CallId,
    /// Who created the call.
    pub host: UserId,
    /// Who else takes part.
    pub participants: BTreeSet<UserId>,
    /// Where it stands.
    pub state: RecordingState,
    /// Whether it rests.
    pub pause: Pause,
    /// When it must have been stopped.
    pub deadline_at: Timestamp,
    /// Whether what the edge itself receives belongs to it.
    pub edge_captures: EdgeCaptures,
}

/// Whether the edge captures the call's own media for a recording, beside what clients upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeCaptures {
    /// It does.
    Yes,
    /// Clients alone.
    No,
}

impl EdgeCaptures {
    /// What a recording's options ask for.
    #[must_use]
    pub fn of(options: &RecordingOptions) -> Self {
        if options.takes(Source::Server) { Self::Yes } else { Self::No }
    }
}

/// The ingest of this edge. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

/// What all parts of the ingest share.
pub(crate) struct Inner {
    settings: IngestSettings,
    db: PgPool,
    clock: SharedClock,
    tasks: Tasks,
    edge_id: EdgeId,
    registry: registry::Registry,
    log: log::Log,
    rows: rows::Rows,
    metrics: metrics::Metrics,
    changed: changes::Sender<()>,
}

impl Ingest {
    /// Takes up what an earlier process left in the capture, and begins to watch. Waits up to ten seconds for the database;
    /// when that is away for longer, recordings are adopted as soon as it is back.
    ///
    /// # Errors
    /// When the capture's folder cannot be used, another process uses it, or a metric's name is taken.
    pub async fn open(
        settings: IngestSettings,
        db: PgPool,
        clock: SharedClock,
        tasks: Tasks,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let opened = Self::unwatched(settings, db, clock, tasks, registry).await?;
        let inner = &opened.inner;
        inner.sample_disk();
        let (first, read) = oneshot::channel();
        inner.tasks.spawn(watch::run(Arc::clone(inner), first));
        if tokio::time::timeout(OPEN_PATIENCE, read).await.is_err() {
            warn!("the database is away: live recordings are taken up as soon as it is back");
        }
        Ok(opened)
    }

    /// One that knows only the recordings it is told of.
    pub(crate) async fn unwatched(
        settings: IngestSettings,
        db: PgPool,
        clock: SharedClock,
        tasks: Tasks,
        registry: &prometheus::Registry,
    ) -> anyhow::Result<Self> {
        let metrics = metrics::Metrics::register(registry)?;
        let log = log::Log::open(&settings, clock.clone(), &tasks, registry).await?;
        let edge_id = edge_id::load_or_make(&settings.capture_dir)?;
        let rows = rows::Rows::start(db.clone(), &tasks);
        let registry = registry::Registry::default();
        let (changed, _) = changes::channel(());
        let inner =
            Arc::new(Inner { settings, db, clock, tasks, edge_id, registry, log, rows, metrics, changed });
        Ok(Self { inner })
    }

    /// This edge's id, kept beside its capture.
    #[must_use]
    pub fn edge_id(&self) -> &EdgeId {
        &self.inner.edge_id
    }

    /// Takes chunks of a recording from now on. Called after the transaction of its start was committed.
    pub fn started(&self, recording: LiveRecording) {
        let state = recording.state;
        // The watch may have seen it in the database, and its end, before this.
        let Ok(live) = self.inner.add(recording) else { return };
        if state == RecordingState::Stopping {
            self.inner.stopped(&live);
        }
    }

    /// Says who takes part in a call now.
    #[expect(clippy::needless_pass_by_value, reason = "the caller has made the set for this")]
    pub fn participants_changed(&self, call: &CallId, participants: BTreeSet<UserId>) {
        self.inner.registry.set_participants(call, &participants);
    }

    /// Begins the wait for a recording's late chunks, then seals it. Called after the transaction of its stop was committed;
    /// a second call changes nothing.
    pub fn stopped(&self, recording: &RecordingId) {
        if let Some(live) = self.inner.registry.find(recording) {
            self.inner.stopped(&live);
        }
    }

    /// Follows a recording's pause. Called after the transaction of its turn was committed.
    pub fn turned(&self, recording: &RecordingId, pause: Pause) {
        if let Some(live) = self.inner.registry.find(recording) {
            self.inner.turned(&live, pause);
        }
    }

    /// Resolves whenever a recording began, was paused, went on or was stopped here.
    pub(crate) fn changes(&self) -> changes::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// The recording that is on in a call and takes what the edge receives, and since when it is paused.
    pub(crate) fn captured_in(&self, call: &CallId) -> Option<(RecordingId, Option<Timestamp>)> {
        let mut live = self.inner.registry.all().into_iter();
        let live = live.find(|live| live.call == *call && live.takes_server_media())?;
        Some((live.id.clone(), live.paused_since()))
    }

    /// The tracks of a recording that takes chunks here; `None` when it does not.
    #[must_use]
    pub fn live_tracks(&self, recording: &RecordingId) -> Option<Vec<Track>> {
        let tracks = self.inner.log.tracks(recording);
        // Asked afterwards: a recording that was sealed meanwhile has its tracks in the rows, and maybe no longer here.
        self.inner.registry.find(recording).map(|_| tracks)
    }

    /// Whether the disk has room beyond its reserve.
    #[must_use]
    pub fn has_disk(&self) -> bool {
        self.inner.log.has_disk()
    }

    /// How many recordings take chunks here or are being sealed.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.inner.registry.len()
    }

    /// The largest chunk taken, in bytes.
    #[must_use]
    pub fn chunk_max_bytes(&self) -> u64 {
        self.inner.settings.chunk_max_bytes
    }

    /// A folder on the capture's disk for bodies that wait to be parsed. What is put there has no name.
    pub(crate) fn scratch_dir(&self) -> &Path {
        &self.inner.settings.capture_dir
    }

    /// Counts how an upload ended and, when it was stored, what it brought and how long it took.
    pub(crate) fn observe(&self, result: ChunkResult, stored_bytes: u64, took: Duration) {
        self.inner.metrics.count(result);
        if matches!(result, ChunkResult::Stored | ChunkResult::Duplicate) {
            self.inner.metrics.ack_seconds.observe(took.as_secs_f64());
        }
        self.inner.metrics.bytes.inc_by(stored_bytes);
    }
}

impl Inner {
    fn add(&self, recording: LiveRecording) -> Result<Arc<Live>, NotLive> {
        let live = self.registry.add(recording);
        self.changed.send_replace(());
        self.metrics.live.set(i64::try_from(self.registry.len()).unwrap_or(i64::MAX));
        live
    }

    fn forget(&self, recording: &RecordingId) {
        self.registry.remove(recording);
        self.changed.send_replace(());
        self.metrics.live.set(i64::try_from(self.registry.len()).unwrap_or(i64::MAX));
    }

    fn turned(&self, live: &Live, pause: Pause) {
        if live.turn(pause) == Change::Made {
            self.changed.send_replace(());
        }
    }

    fn stopped(self: &Arc<Self>, live: &Arc<Live>) {
        if live.stop() == Change::Made {
            self.changed.send_replace(());
            self.tasks.spawn(finish::run(Arc::clone(self), Arc::clone(live)));
        }
    }

    fn sample_disk(&self) {
        if let Some(free) = self.log.disk_free() {
            self.metrics.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_or_a_size() {
        let reserve = |raw| disk_reserve(&Env::from_pairs([("DISK_RESERVE", raw)]));
        let gib = 1 << 30;
        assert_eq!(reserve(""), Ok(DiskReserve { percent: 5, min_bytes: gib }));
        assert_eq!(reserve("10%"), Ok(DiskReserve { percent: 10, min_bytes: gib }));
        assert_eq!(reserve("2GiB"), Ok(DiskReserve { percent: 0, min_bytes: 2 * gib }));
        assert!(reserve("100%").is_err() && reserve("some").is_err());
    }

    #[test]
    fn a_chunk_has_a_size_that_the_log_holds() {
        let size = |raw| chunk_max_bytes(&Env::from_pairs([("CHUNK_MAX_BYTES", raw)]));
        assert_eq!(size(""), Ok(CHUNK_MAX_BYTES));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert!(size("0").is_err() && size("1GiB").is_err());
    }
}
