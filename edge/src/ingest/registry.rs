//! The live recordings of this edge, in memory: who may upload to each, whether it still takes chunks, and what its finish
//! waits for. The chunk path asks this and never the database, so chunks are taken while Postgres is away.
//!
//! This file must not know SQL, HTTP or the capture log.
//!
//! Decisions:
//! - A recording is closed by taking its gate for writing; an append holds it for reading. So no chunk is answered 201 after
//!   its recording's capture was flushed, and closing waits for appends that run (one fdatasync), never for bodies that arrive.
//! - Instants, not wall-clock times, decide when a recording is finished: a clock that is set does not cut uploads short.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shared::clock::Timestamp;
use shared::id::{CallId, RecordingId, UserId};
use shared::recording::Pause;
use tokio::sync::{Notify, OwnedRwLockReadGuard};
use tokio::time::Instant;

use super::{EdgeCaptures, LiveRecording};

/// How many recordings that left are remembered: a row that was read before one left is acted on within seconds, and an edge
/// does not seal so many in that time.
const LEFT_MAX: usize = 4096;

/// The live recordings.
#[derive(Debug, Default)]
pub(super) struct Registry(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    live: HashMap<RecordingId, Arc<Live>>,
    left: Left,
}

/// The recordings that left last: what somebody still knows of them is stale.
#[derive(Debug, Default)]
struct Left {
    ids: HashSet<RecordingId>,
    /// Oldest first.
    order: VecDeque<RecordingId>,
}

/// One live recording.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: RecordingId,
    pub(super) call: CallId,
    pub(super) host: UserId,
    /// When it must have been stopped; the edge stops it itself then.
    pub(super) deadline_at: Timestamp,
    edge_captures: EdgeCaptures,
    participants: RwLock<BTreeSet<UserId>>,
    pause: Mutex<Pause>,
    progress: Mutex<Progress>,
    gate: Arc<tokio::sync::RwLock<Gate>>,
    changed: Notify,
}

/// What a finish waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Whether it was stopped, and since when this edge knows.
    pub(super) phase: Phase,
    /// Uploads whose body is arriving or being written.
    pub(super) in_flight: usize,
    /// When the last chunk was stored.
    pub(super) last_chunk: Option<Instant>,
}

/// Where a live recording stands, as far as uploads are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not known to have been stopped.
    On,
    /// Stopped; late chunks are taken.
    Finishing {
        /// When this edge learned of it.
        since: Instant,
    },
    /// No more chunks; the capture is being shipped and the rows written.
    Sealing,
}

/// Whether chunks may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
}

/// The recording takes no more chunks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the recording takes no more chunks")]
pub(super) struct NotLive;

/// Whether a call changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It did.
    Made,
    /// It had been made before.
    None,
}

/// An upload that is on its way; counted until dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Live>);

/// Held while a chunk is appended: the recording is not closed meanwhile.
pub(super) struct OpenGate(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<Gate>);

impl Registry {
    pub(super) fn find(&self, id: &RecordingId) -> Option<Arc<Live>> {
        self.read().live.get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.read().live.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.read().live.len()
    }

    /// Adds a recording, or finds the one that is there: it may be told by its start and be seen in the database at once.
    /// One that has left does not come back: its capture is closed.
    pub(super) fn add(&self, recording: LiveRecording) -> Result<Arc<Live>, NotLive> {
        let mut known = self.write();
        if known.left.ids.contains(&recording.id) {
            return Err(NotLive);
        }
        let id = recording.id.clone();
        Ok(known.live.entry(id).or_insert_with(|| Arc::new(Live::new(recording))).clone())
    }

    pub(super) fn remove(&self, id: &RecordingId) {
        let mut known = self.write();
        known.live.remove(id);
        known.left.note(id);
    }

    /// Replaces who takes part in a call, in each of its live recordings.
    pub(super) fn set_participants(&self, call: &CallId, participants: &BTreeSet<UserId>) {
        for live in self.all().iter().filter(|live| live.call == *call) {
            live.participants.write().unwrap_or_else(PoisonError::into_inner).clone_from(participants);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    fn note(&mut self, id: &RecordingId) {
        if !self.ids.insert(id.clone()) {
            return;
        }
        self.order.push_back(id.clone());
        if self.order.len() > LEFT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

impl Live {
    fn new(recording: LiveRecording) -> Self {
        Self {
            id: recording.id,
            call: recording.call,
            host: recording.host,
            deadline_at: recording.deadline_at,
            edge_captures: recording.edge_captures,
            participants: RwLock::new(recording.participants),
            pause: Mutex::new(recording.pause),
            progress: Mutex::new(Progress { phase: Phase::On, in_flight: 0, last_chunk: None }),
            gate: Arc::new(tokio::sync::RwLock::new(Gate::Open)),
            changed: Notify::new(),
        }
    }

    /// Whether the user is the host or a known participant of the call.
    pub(super) fn knows(&self, user: &UserId) -> bool {
        *user == self.host || self.participants.read().unwrap_or_else(PoisonError::into_inner).contains(user)
    }

    /// Whether it is on and what the edge itself receives belongs to it.
    pub(super) fn takes_server_media(&self) -> bool {
        self.edge_captures == EdgeCaptures::Yes && self.lock().phase == Phase::On
    }

    /// Since when it is paused.
    pub(super) fn paused_since(&self) -> Option<Timestamp> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).since
    }

    /// Takes in a reading of its pause, unless a newer one is known: two turns' commits may be told in another order, and a row
    /// may have been read before either.
    pub(super) fn turn(&self, read: Pause) -> Change {
        let mut known = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if read.turns <= known.turns {
            return Change::None;
        }
        *known = read;
        Change::Made
    }

    /// Adds a participant whom the database knew and this edge did not.
    pub(super) fn learn(&self, user: UserId) {
        self.participants.write().unwrap_or_else(PoisonError::into_inner).insert(user);
    }

    pub(super) fn progress(&self) -> Progress {
        *self.lock()
    }

    /// Counts an upload in.
    pub(super) fn enter(self: &Arc<Self>) -> Result<InFlight, NotLive> {
        let mut progress = self.lock();
        if progress.phase == Phase::Sealing {
            return Err(NotLive);
        }
        progress.in_flight += 1;
        Ok(InFlight(Arc::clone(self)))
    }

    /// Keeps the recording open while a chunk is appended.
    pub(super) async fn open_gate(&self) -> Result<OpenGate, NotLive> {
        let gate = Arc::clone(&self.gate).read_owned().await;
        match *gate {
            Gate::Open => Ok(OpenGate(gate)),
            Gate::Shut => Err(NotLive),
        }
    }

    /// Notes that a chunk was stored or a track declared complete.
    pub(super) fn touch(&self) {
        self.lock().last_chunk = Some(Instant::now());
        self.changed.notify_waiters();
    }

    /// Notes that the recording was stopped.
    pub(super) fn stop(&self) -> Change {
        let mut progress = self.lock();
        if progress.phase != Phase::On {
            return Change::None;
        }
        progress.phase = Phase::Finishing { since: Instant::now() };
        drop(progress);
        self.changed.notify_waiters();
        Change::Made
    }

    /// Refuses chunks from now on; returns when no append runs any more.
    pub(super) async fn shut(&self) {
        self.lock().phase = Phase::Sealing;
        *self.gate.write().await = Gate::Shut;
    }

    /// Resolves at the next change of what a finish waits for, counted from the creation of the future.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::recording::RecordingState;

    fn live() -> Arc<Live> {
        Arc::new(Live::new(recording()))
    }

    fn recording() -> LiveRecording {
        let user = |id: &str| UserId::parse(id).unwrap();
        LiveRecording {
            id: RecordingId::generate(),
            call: CallId::generate(),
            host: user("host"),
            participants: BTreeSet::from([user("ann")]),
            state: RecordingState::Recording,
            pause: Pause::default(),
            deadline_at: Timestamp::default(),
            edge_captures: EdgeCaptures::Yes,
        }
    }

    #[test]
    fn a_recording_that_left_does_not_come_back() {
        let (registry, recording) = (Registry::default(), recording());
        registry.add(recording.clone()).unwrap();
        registry.remove(&recording.id);
        assert_eq!(registry.add(recording).unwrap_err(), NotLive);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut left = Left::default();
        let first = RecordingId::generate();
        left.note(&first);
        (0..LEFT_MAX).for_each(|_| left.note(&RecordingId::generate()));
        assert_eq!((left.ids.len(), left.order.len()), (LEFT_MAX, LEFT_MAX));
        assert!(!left.ids.contains(&first));
    }

    #[test]
    fn host_and_participants_are_known() {
        let live = live();
        let knows = |id: &str| live.knows(&UserId::parse(id).unwrap());
        assert!(knows("host") && knows("ann") && !knows("eve"));
        live.learn(UserId::parse("eve").unwrap());
        assert!(live.knows(&UserId::parse("eve").unwrap()));
    }

    #[tokio::test]
    async fn a_shut_recording_takes_nothing() {
        let live = live();
        let upload = live.enter().unwrap();
        assert_eq!(live.progress().in_flight, 1);
        live.shut().await;
        assert!(live.open_gate().await.is_err(), "an upload that was let in before may not append");
        assert!(live.enter().is_err());
        drop(upload);
        assert_eq!(live.progress().in_flight, 0);
    }

    #[tokio::test]
    async fn shutting_waits_for_an_append_that_runs() {
        let live = live();
        let gate = live.open_gate().await.unwrap();
        let shut = live.shut();
        tokio::pin!(shut);
        assert!(futures::poll!(&mut shut).is_pending());
        drop(gate);
        shut.await;
    }

    #[test]
    fn the_newest_reading_of_a_pause_holds() {
        let (live, since) = (live(), Some(Timestamp::default()));
        assert_eq!(live.turn(Pause { since, turns: 1 }), Change::Made);
        assert_eq!(live.turn(Pause { since: None, turns: 2 }), Change::Made);
        assert_eq!(live.turn(Pause { since, turns: 1 }), Change::None);
        assert_eq!(live.paused_since(), None);
    }

    #[test]
    fn a_second_stop_changes_nothing() {
        let live = live();
        assert_eq!(live.stop(), Change::Made);
        assert_eq!(live.stop(), Change::None);
    }
}
