//! One track's log as the edge uses it: append, complete, status.
//!
//! This file must not know how records reach the disk; see `commit` and `log` beside it. It decides which sequence is
//! new, a duplicate or a conflict, and lets only one copy of a sequence be on its way at a time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::append::{AppendError, Appended, ChunkHeader, Outcome};
use super::batch::Batch;
use super::facts::{TrackFacts, TrackStatus};
use super::format::{MAX_BODY_BYTES, MAX_MIME_BYTES, SegmentHeader, TrackSpec};
use super::held::Held;
use super::index::{Index, Slot};
use super::log::Log;
use super::pause::Pause;
use super::receive::ReceivedBody;
use super::{Closed, Env, TrackError, blocking, closed_path, commit, recording_dir, recover};
use crate::chunk::checked_sequence;
use crate::id::TrackId;

/// How many appends of one track may be under way; more wait for their turn. A browser sends few at once.
const MAX_UNDER_WAY: u32 = 64;

/// The log of one track. Cheap to clone.
#[derive(Clone)]
pub struct TrackLog(pub(super) Arc<Track>);

pub(super) struct Track {
    pub(super) env: Arc<Env>,
    pub(super) id: TrackId,
    pub(super) spec: TrackSpec,
    pub(super) dir: PathBuf,
    /// Locked before `state` where both are.
    pub(super) log: Mutex<Log>,
    pub(super) state: Mutex<State>,
    pub(super) index: Mutex<Arc<Index>>,
    /// Whether a note for the index was lost, so that it must be rebuilt before anything relies on it.
    pub(super) index_stale: AtomicBool,
    /// Whether there may be closed segments that are not in the spool.
    pub(super) to_ship: AtomicBool,
    /// Held while segments move to the spool; says until when that is not tried again.
    pub(super) shipping: Mutex<Pause>,
    room: Arc<Semaphore>,
}

pub(super) struct State {
    pub(super) held: Held,
    pub(super) closed: Closed,
    pub(super) pending: VecDeque<Entry>,
    /// The chunks that are on their way to the disk, with those who wait for their fate.
    pub(super) under_way: HashMap<u32, Vec<Waiter>>,
    pub(super) committer: Committer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committer {
    Idle,
    Running,
}

pub(super) type Waiter = oneshot::Sender<Result<(), AppendError>>;

/// Something to be written.
pub(super) struct Entry {
    pub(super) what: What,
    pub(super) arrival_us: i64,
    pub(super) done: Waiter,
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum What {
    Chunk { sequence: u32, client_timestamp_ms: Option<i64>, mime: Option<String>, body: ReceivedBody },
    Complete { last_sequence: u32 },
    Batch(Batch),
}

impl TrackLog {
    /// Stores a chunk. When this returns `Ok`, the chunk is on stable storage, and so it is for a duplicate.
    /// Giving up on the future does not take the chunk back.
    ///
    /// # Errors
    /// See [`AppendError`]; after an error nothing was acknowledged, and the same call may be repeated.
    pub async fn append_chunk(
        &self,
        header: ChunkHeader,
        body: ReceivedBody,
    ) -> Result<Appended, AppendError> {
        let sequence = checked_sequence(header.sequence)?;
        let (size, sha256) = (body.len, body.sha256);
        if size > u64::from(MAX_BODY_BYTES) - super::CHUNK_PREFIX_BYTES as u64 {
            return Err(AppendError::TooLarge(size));
        }
        let mime = header.mime.filter(|mime| mime.len() <= MAX_MIME_BYTES);
        let client_timestamp_ms = header.client_timestamp_ms;
        let mut write = Some((What::Chunk { sequence, client_timestamp_ms, mime, body }, self.room().await));
        let fate = loop {
            match self.admit(sequence, &mut write)? {
                Admission::Held => return self.compare(sequence, size, sha256).await,
                // What became of the first copy decides what this one is: its error leaves the place to this one.
                Admission::UnderWay(fate) => drop(fate.await),
                Admission::New(fate) => break fate,
            }
        };
        settled(fate).await?;
        Ok(Appended { outcome: Outcome::Stored, size, sha256 })
    }

    /// Writes records of a server track. When this returns `Ok`, a killed process does not lose them; they are on stable
    /// storage within a second, and before their segment leaves for the spool.
    ///
    /// # Errors
    /// See [`AppendError`]; then none of them is in the log.
    pub async fn append_batch(&self, batch: Batch) -> Result<(), AppendError> {
        let Some((arrival_us, _)) = batch.arrivals_us() else { return Ok(()) };
        let room = self.room().await;
        let fate = {
            let mut state = self.0.state();
            if state.closed == Closed::Yes {
                return Err(AppendError::Closed);
            }
            if self.0.env.reserve.disk()?.below_reserve {
                return Err(AppendError::DiskFull);
            }
            self.enqueue(&mut state, What::Batch(batch), arrival_us, room)
        };
        settled(fate).await
    }

    /// Notes that the client has sent all it has. On stable storage when it returns `Ok`; a later call replaces it.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn complete(&self, last_sequence: u64) -> Result<TrackStatus, AppendError> {
        let last_sequence = checked_sequence(last_sequence)?;
        let room = self.room().await;
        let fate = {
            let mut state = self.0.state();
            if state.held.last_sequence == Some(last_sequence) {
                None
            } else if state.closed == Closed::Yes {
                return Err(AppendError::Closed);
            } else {
                Some(self.enqueue(&mut state, What::Complete { last_sequence }, self.0.env.now_us(), room))
            }
        };
        if let Some(fate) = fate {
            settled(fate).await?;
        }
        Ok(self.status())
    }

    /// Whether a chunk is held under the sequence.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        checked_sequence(sequence).is_ok_and(|sequence| self.0.state().held.ranges.contains(sequence))
    }

    /// Compares a chunk with what is held under its sequence, and stores nothing. `None`: nothing is held.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when other bytes are held.
    pub async fn compare_chunk(
        &self,
        sequence: u64,
        size: u64,
        sha256: [u8; 32],
    ) -> Result<Option<Appended>, AppendError> {
        let number = checked_sequence(sequence)?;
        if !self.holds(sequence) {
            return Ok(None);
        }
        self.compare(number, size, sha256).await.map(Some)
    }

    /// What is held.
    #[must_use]
    pub fn status(&self) -> TrackStatus {
        let held = self.0.state().held.clone();
        held.into()
    }

    /// The track's id, the same for ever.
    #[must_use]
    pub fn id(&self) -> &TrackId {
        &self.0.id
    }

    /// Whose medium it is.
    #[must_use]
    pub fn spec(&self) -> &TrackSpec {
        &self.0.spec
    }

    /// The id, the spec and the status together.
    #[must_use]
    pub fn facts(&self) -> TrackFacts {
        TrackFacts { id: self.0.id.clone(), spec: self.0.spec.clone(), status: self.status() }
    }

    /// Makes a track with a new id, durably, so that no database need be up.
    pub(super) fn create(env: &Arc<Env>, spec: &TrackSpec) -> Result<Self, TrackError> {
        if closed_path(&recording_dir(&env.config.capture_dir, &spec.recording)).exists() {
            return Err(TrackError::Closed);
        }
        let id = TrackId::generate();
        let dir = env.track_dir(&spec.recording, &id);
        crate::spool::make_dir(&dir)?;
        let header = SegmentHeader { spec: spec.clone(), track: id.clone(), number: 0, base_us: 0, salt: 0 };
        let file = super::file::create(&dir.join(recover::TRACK))?;
        super::file::write_all_at(env, &file, &[&header.encode()], 0)?;
        file.sync_all()?;
        let index = Index::create(&dir.join(recover::INDEX))?;
        crate::spool::sync_dir(&dir)?;
        Ok(Self::assemble(env, id, spec, index, Held::default(), Log::new(0), Closed::No))
    }

    pub(super) fn assemble(
        env: &Arc<Env>,
        id: TrackId,
        spec: &TrackSpec,
        index: Index,
        held: Held,
        log: Log,
        closed: Closed,
    ) -> Self {
        let state = State {
            held,
            closed,
            pending: VecDeque::new(),
            under_way: HashMap::new(),
            committer: Committer::Idle,
        };
        Self(Arc::new(Track {
            dir: env.track_dir(&spec.recording, &id),
            env: env.clone(),
            id,
            spec: spec.clone(),
            log: Mutex::new(log),
            state: Mutex::new(state),
            index: Mutex::new(Arc::new(index)),
            index_stale: AtomicBool::new(false),
            to_ship: AtomicBool::new(true),
            shipping: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY as usize)),
        }))
    }

    /// Takes no more, and waits for all that is under way.
    pub(super) async fn close(&self) {
        self.0.state().closed = Closed::Yes;
        drop(self.0.room.clone().acquire_many_owned(MAX_UNDER_WAY).await);
    }

    async fn room(&self) -> OwnedSemaphorePermit {
        self.0.room.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Decides what a sequence may do, and when it is new, takes what is to be written.
    fn admit(
        &self,
        sequence: u32,
        write: &mut Option<(What, OwnedSemaphorePermit)>,
    ) -> Result<Admission, AppendError> {
        let mut state = self.0.state();
        if state.held.ranges.contains(sequence) {
            return Ok(Admission::Held);
        }
        if let Some(waiters) = state.under_way.get_mut(&sequence) {
            let (waiter, fate) = oneshot::channel();
            waiters.push(waiter);
            return Ok(Admission::UnderWay(fate));
        }
        if state.closed == Closed::Yes {
            return Err(AppendError::Closed);
        }
        if self.0.env.reserve.disk()?.below_reserve {
            return Err(AppendError::DiskFull);
        }
        let (what, room) = write.take().expect("an append is new at most once");
        state.under_way.insert(sequence, Vec::new());
        Ok(Admission::New(self.enqueue(&mut state, what, self.0.env.now_us(), room)))
    }

    fn enqueue(&self, state: &mut State, what: What, arrival_us: i64, room: OwnedSemaphorePermit) -> Fate {
        let (done, fate) = oneshot::channel();
        state.pending.push_back(Entry { what, arrival_us, done, _room: room });
        if state.committer == Committer::Idle {
            state.committer = Committer::Running;
            commit::start(self.0.clone());
        }
        fate
    }

    async fn compare(&self, sequence: u32, size: u64, sha256: [u8; 32]) -> Result<Appended, AppendError> {
        let track = self.0.clone();
        let slot = blocking(move || track.slot(sequence)).await?;
        if u64::from(slot.size) == size && slot.sha256 == sha256 {
            Ok(Appended { outcome: Outcome::Duplicate, size, sha256 })
        } else {
            Err(AppendError::Conflict(sequence.into()))
        }
    }
}

impl Track {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the state of a track")
    }

    pub(super) fn index(&self) -> Arc<Index> {
        self.index.lock().expect("no code panics while it holds the index of a track").clone()
    }

    /// What was stored under a sequence that is held; rebuilds the index when it does not know.
    fn slot(&self, sequence: u32) -> io::Result<Slot> {
        if let Ok(Some(slot)) = self.index().get(sequence) {
            return Ok(slot);
        }
        self.rebuild_index()?;
        self.index().get(sequence)?.ok_or_else(|| io::Error::other("a chunk that was held is damaged"))
    }

    pub(super) fn rebuild_index(&self) -> io::Result<()> {
        let _log = self.log.lock().expect("no code panics while it holds the log of a track");
        let (index, _) = recover::rebuild(&self.env, &self.dir, &self.spec.recording, &self.id)?;
        *self.index.lock().expect("no code panics while it holds the index of a track") = Arc::new(index);
        self.index_stale.store(false, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

impl std::fmt::Debug for TrackLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TrackLog").field(&self.0.id).finish()
    }
}

/// What a sequence may do.
enum Admission {
    Held,
    UnderWay(Fate),
    New(Fate),
}

type Fate = oneshot::Receiver<Result<(), AppendError>>;

async fn settled(fate: Fate) -> Result<(), AppendError> {
    fate.await.unwrap_or_else(|_| Err(io::Error::other("the write was abandoned").into()))
}
