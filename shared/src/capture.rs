//! The durable capture: what makes "201 means on stable storage" true.
//!
//! This module must not know HTTP, rows or jobs. The edge opens it once, asks for a [`TrackLog`] per track and appends;
//! a worker reads closed segments from the spool with [`TrackReader`].
//!
//! | under the capture folder | what |
//! |---|---|
//! | `lock` | held by the one process that may write here |
//! | `incoming/` | bodies on their way in; emptied at the start |
//! | `tracks/{recording}/closed` | there when the recording takes no more |
//! | `tracks/{recording}/{track}/track` | a segment header without records: which track this is |
//! | `tracks/{recording}/{track}/index` | what was stored under each sequence |
//! | `tracks/{recording}/{track}/{NNNNNN}.seg` | segments that are not in the spool yet |
//! | `tracks/{recording}/{track}/{NNNNNN}.last` | the last one that has left for a bucket, so that a start need not ask there |
//!
//! Decisions, measured on ext4 on a virtual disk, two cores, 256 KiB chunks, MB/s in the same run as a bare sequential
//! append and fdatasync (710 to 810):
//!
//! | scheme | 20 tracks | 200 tracks |
//! |---|---|---|
//! | fdatasync per file, 1 thread | 570 | 640-770 |
//! | 4 threads | 940-1119 | 957-985 |
//! | **16 threads** | **1315-1540** | **1446-1474** |
//! | 16 threads, segments preallocated | 1495 | 1720-1761 |
//! | write to all, then one syncfs | 903-1419 | 1711-2052 |
//! | one shared file, 16 chunks a sync | 745-1607 | |
//!
//! - So each track has its own file and its own fdatasync, on a bounded pool: the journal merges concurrent commits, and
//!   while a track's sync runs its next chunks gather for the following one. A shared commit file would write every
//!   byte twice, `syncfs` would wait for FFmpeg's pages, and preallocation's tenth does not pay for 8 MiB reserved by
//!   each idle track.
//! - A failed fdatasync is never repeated: the kernel may have dropped the pages and say yes. The segment is cut to what
//!   was synced before and closed, its unacknowledged chunks fail, and clients send them again into a new segment.
//! - When a sequence stands in the log twice, the later record holds: the earlier was never acknowledged.

mod append;
mod batch;
mod commit;
mod config;
mod crc;
mod disk;
mod facts;
mod file;
mod format;
mod held;
mod index;
mod last;
mod log;
mod mark;
mod pause;
mod reader;
mod receive;
mod recover;
pub mod rtp;
mod segment;
mod track;
mod turns;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, Timestamp};
use crate::id::{RecordingId, TrackId};
use crate::spool;

pub use append::{AppendError, Appended, ChunkHeader, Outcome};
pub use batch::Batch;
pub use config::{CaptureConfig, CaptureFact};
pub use disk::{Disk, DiskReserve, Reserve};
pub use facts::{TrackFacts, TrackStatus};
pub use format::{
    CHUNK_PREFIX_BYTES, ChunkPrefix, FRAME_BYTES, Frame, HeaderError, MAX_BODY_BYTES, MAX_MIME_BYTES, Mark,
    RecordKind, SegmentHeader, TrackSpec, VERSION, timestamp_of,
};
pub use reader::{ChunkRef, DamagedSpan, ReadError, TrackReader};
pub use receive::{MEMORY_BUDGET_BYTES, ReceiveError, ReceivedBody, Receiving, SMALL_BODY_BYTES};
pub use segment::{Check, Item, Located, Segment, SegmentError};
pub use track::TrackLog;

/// How often [`Capture::run`] looks for segments that are due.
const TICK: Duration = Duration::from_secs(1);

/// How long [`Capture::open`] waits for the folder's former owner to let go: one that was just told to end is still syncing.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A capture that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process writes to the folder.
    #[error("the capture folder {0} is in use by another process")]
    Locked(PathBuf),
    /// The operating system failed.
    #[error("cannot open the capture folder")]
    Io(#[from] io::Error),
}

/// A track that cannot be had.
#[derive(Debug, Error)]
pub enum TrackError {
    /// The recording takes no more.
    #[error("the recording is closed")]
    Closed,
    /// The operating system failed.
    #[error("cannot make the track's log")]
    Io(#[from] io::Error),
}

/// A track that an earlier process left.
#[derive(Debug, Clone)]
pub struct RecoveredTrack {
    /// Its log, ready to go on.
    pub log: TrackLog,
    /// Whether the recording had been closed already.
    pub closed: Closed,
    /// Bytes that were cut from the end or are damaged in the middle: nothing acknowledged is in a cut end.
    pub damaged_bytes: u64,
}

/// What has not reached the spool yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Bytes of closed segments.
    pub bytes: u64,
    /// When the oldest of them was written to last; `None` when nothing waits.
    pub since: Option<Timestamp>,
}

impl Lag {
    fn and(self, other: Self) -> Self {
        let since = [self.since, other.since].into_iter().flatten().min();
        Self { bytes: self.bytes + other.bytes, since }
    }
}

/// Whether a recording takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It does.
    No,
    /// It does not.
    Yes,
}

/// What all tracks share.
pub(crate) struct Env {
    config: CaptureConfig,
    clock: SharedClock,
    reserve: Reserve,
    turns: turns::Turns,
    ships: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    #[cfg(test)]
    faults: file::Faults,
    _lock: File,
}

/// The open capture folder. Cheap to clone.
#[derive(Clone)]
pub struct Capture {
    env: Arc<Env>,
    tracks: Arc<Mutex<HashMap<TrackSpec, TrackLog>>>,
    /// Held while a track is made or a recording is closed or forgotten, so that these never cross. Not while segments move.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Capture {
    /// Opens the folder, takes up what an earlier process left, and locks others out. Blocks: call it before serving,
    /// or on a blocking thread.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process is here.
    pub fn open(config: CaptureConfig, clock: SharedClock) -> Result<(Self, Vec<RecoveredTrack>), OpenError> {
        let dir = &config.capture_dir;
        std::fs::create_dir_all(dir.join("tracks"))?;
        let lock = lock(dir)?;
        spool::delete_dir(&dir.join(receive::INCOMING))?;
        std::fs::create_dir_all(dir.join(receive::INCOMING))?;
        let env = Arc::new(Env {
            reserve: Reserve::new(dir.clone(), config.reserve),
            turns: turns::Turns::new(config.sync_concurrency),
            ships: Arc::new(Semaphore::new(config.ship_concurrency)),
            memory: Arc::new(Semaphore::new(receive::budget_units())),
            #[cfg(test)]
            faults: file::Faults::default(),
            _lock: lock,
            config,
            clock,
        });
        let recovered = recover::all(&env)?;
        let tracks = recovered.iter().map(|track| (track.log.spec().clone(), track.log.clone())).collect();
        let capture = Self {
            env,
            tracks: Arc::new(Mutex::new(tracks)),
            changing: Arc::new(tokio::sync::Mutex::new(())),
        };
        Ok((capture, recovered))
    }

    /// The log of a track, made when it is not there yet.
    ///
    /// # Errors
    /// [`TrackError::Closed`] when the recording takes no more.
    pub async fn track(&self, spec: &TrackSpec) -> Result<TrackLog, TrackError> {
        if let Some(log) = self.find(spec) {
            return Ok(log);
        }
        let _changing = self.changing.lock().await;
        if let Some(log) = self.find(spec) {
            return Ok(log);
        }
        let (env, spec) = (self.env.clone(), spec.clone());
        let log = blocking(move || TrackLog::create(&env, &spec)).await?;
        self.locked().insert(log.spec().clone(), log.clone());
        Ok(log)
    }

    /// The log of a track when there is one.
    #[must_use]
    pub fn find(&self, spec: &TrackSpec) -> Option<TrackLog> {
        self.locked().get(spec).cloned()
    }

    /// All logs of a recording, by the ids of their tracks.
    #[must_use]
    pub fn tracks_of(&self, recording: &RecordingId) -> Vec<TrackLog> {
        let mut logs: Vec<_> =
            self.locked().values().filter(|log| log.spec().recording == *recording).cloned().collect();
        logs.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        logs
    }

    /// Begins to take in a body of at most `max_bytes`.
    #[must_use]
    pub fn receive(&self, max_bytes: u64) -> Receiving {
        Receiving::new(self.env.clone(), max_bytes)
    }

    /// How full the disk is, at most a second ago.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn disk(&self) -> io::Result<Disk> {
        self.env.reserve.disk()
    }

    /// Takes no more for a recording, and moves all of it to the spool. Safe to repeat, also after a crash: what was
    /// done stays done. When it fails, nothing is lost and it can be called again.
    ///
    /// # Errors
    /// When the folder cannot be written or the spool cannot be reached.
    pub async fn close_recording(&self, recording: &RecordingId) -> io::Result<Vec<TrackFacts>> {
        let changing = self.changing.lock().await;
        let logs = self.tracks_of(recording);
        if !logs.is_empty() {
            let dir = recording_dir(&self.env.config.capture_dir, recording);
            blocking(move || mark_closed(&dir)).await?;
        }
        for log in &logs {
            log.close().await;
        }
        // A spool that hangs must not keep other recordings from beginning their tracks.
        drop(changing);
        for log in &logs {
            log.flush_and_ship().await?;
        }
        Ok(logs.iter().map(TrackLog::facts).collect())
    }

    /// Drops a recording from this folder and from memory; the spool keeps what it has. Safe to repeat.
    ///
    /// # Errors
    /// When the folder cannot be deleted.
    pub async fn forget(&self, recording: &RecordingId) -> io::Result<()> {
        let _changing = self.changing.lock().await;
        for log in self.tracks_of(recording) {
            log.close().await;
            self.locked().remove(log.spec());
        }
        let dir = recording_dir(&self.env.config.capture_dir, recording);
        blocking(move || spool::delete_dir(&dir)).await
    }

    /// Closes segments that are old enough and moves closed ones to the spool; returns when all of that is done. What fails is
    /// logged, and tried again by a later call.
    pub async fn tick(&self) {
        for moving in self.begin_tick().await {
            // A move that panicked was logged, and leaves its segments to the next start.
            let _ = moving.await;
        }
    }

    /// Does the same every second until the token is cancelled, but waits for no move: a spool that is slow or away must not
    /// keep packets from stable storage.
    pub async fn run(&self, stop: CancellationToken) {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(timer.tick()).await.is_some() {
            drop(self.begin_tick().await);
        }
    }

    async fn begin_tick(&self) -> Vec<JoinHandle<()>> {
        let logs: Vec<TrackLog> = self.locked().values().cloned().collect();
        let mut moves = Vec::new();
        for log in logs {
            log.sync_due().await;
            moves.extend(log.ship_due());
        }
        moves
    }

    /// What the spool lacks: the closed segments that are still here.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn lag(&self) -> io::Result<Lag> {
        let logs: Vec<TrackLog> = self.locked().values().cloned().collect();
        blocking(move || logs.iter().try_fold(Lag::default(), |lag, log| Ok(lag.and(log.lag()?)))).await
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<TrackSpec, TrackLog>> {
        self.tracks.lock().expect("no code panics while it holds the map of tracks")
    }
}

impl Env {
    fn now_us(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }

    fn observe(&self, fact: &CaptureFact) {
        (self.config.observe)(fact);
    }

    fn track_dir(&self, recording: &RecordingId, track: &TrackId) -> PathBuf {
        recording_dir(&self.config.capture_dir, recording).join(track.as_str())
    }
}

fn recording_dir(capture_dir: &Path, recording: &RecordingId) -> PathBuf {
    capture_dir.join("tracks").join(recording.as_str())
}

fn closed_path(recording_dir: &Path) -> PathBuf {
    recording_dir.join("closed")
}

fn mark_closed(recording_dir: &Path) -> io::Result<()> {
    File::create(closed_path(recording_dir))?;
    spool::sync_dir(recording_dir)
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = File::create(dir.join("lock"))?;
    let patient_until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patient_until => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Runs blocking work; a panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
