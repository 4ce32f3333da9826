//! The group commit: writes what waits for a track, makes it durable with one fdatasync, and only then answers.
//!
//! This file must not know how records look. While a sync runs, further chunks of the track gather for the next.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, TryLockError};
use std::time::Instant;

use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::append::AppendError;
use super::index::Slot;
use super::log::Log;
use super::pause::Pause;
use super::track::{Committer, Entry, State, Track, TrackLog, What};
use super::{CaptureFact, Env, Lag, blocking, last};
use crate::spool;

/// How many records one sync makes durable at most: all that a track may have under way.
const MAX_BATCH: usize = 64;

/// Commits until nothing waits for the track. To be called when that begins, and on the runtime.
pub(super) fn start(track: Arc<Track>) {
    let env = track.env.clone();
    if let Some(track) = env.turns.ask(track) {
        drop(tokio::task::spawn_blocking(move || take_turns(&env, track)));
    }
}

/// One commit for this track, then for those that wait.
fn take_turns(env: &Env, track: Arc<Track>) {
    let mut next = Some(track);
    while let Some(track) = next {
        next = env.turns.pass(match take_turn(&track) {
            Left::More => Some(track),
            Left::Nothing => None,
        });
    }
}

fn take_turn(track: &Arc<Track>) -> Left {
    let Ok(round) = catch_unwind(AssertUnwindSafe(|| track.commit())) else {
        error!(track.id = %track.id, "the commit of track {} panicked", track.id);
        track.abandon();
        return Left::Nothing;
    };
    if round.segment == Segment::Closed {
        // Left to itself: what it does not do or finish is found by the next tick, or by the next start.
        drop(track.begin_shipping());
    }
    round.left
}

/// What a commit left.
struct Round {
    segment: Segment,
    left: Left,
}

/// Whether it closed a segment, which can move to the spool.
#[derive(PartialEq, Eq)]
enum Segment {
    Open,
    Closed,
}

/// Whether something waits for the next commit. Otherwise the track is idle.
enum Left {
    More,
    Nothing,
}

impl Track {
    fn commit(&self) -> Round {
        let batch: Vec<Entry> = {
            let mut state = self.state();
            let many = state.pending.len().min(MAX_BATCH);
            state.pending.drain(..many).collect()
        };
        let segment = self.write_and_answer(batch);
        let mut state = self.state();
        if state.pending.is_empty() {
            state.committer = Committer::Idle;
            return Round { segment, left: Left::Nothing };
        }
        Round { segment, left: Left::More }
    }

    fn write_and_answer(&self, batch: Vec<Entry>) -> Segment {
        let mut log = self.log.lock().expect("no code panics while it holds the log of a track");
        let (mut written, mut segment) = (Vec::with_capacity(batch.len()), Segment::Open);
        for entry in batch {
            if log.is_due(self, entry.arrival_us) {
                self.settle(&mut log, &mut written);
                segment = self.roll(&mut log);
            }
            match log.write(self, &entry.what, entry.arrival_us) {
                Ok(()) => written.push(entry),
                Err(error) => self.refuse(entry, &error.into()),
            }
        }
        self.settle(&mut log, &mut written);
        if log.is_due(self, self.env.now_us()) {
            segment = self.roll(&mut log);
        }
        segment
    }

    fn roll(&self, log: &mut Log) -> Segment {
        self.sync(log);
        log.close();
        self.to_ship.store(true, SeqCst);
        Segment::Closed
    }

    /// Makes packets durable that were not acknowledged as such.
    fn sync(&self, log: &mut Log) {
        let begun = Instant::now();
        match log.sync(self) {
            Ok(0) => {}
            Ok(bytes) => self.env.observe(&CaptureFact::Synced { took: begun.elapsed(), records: 1, bytes }),
            Err(failed) => {
                error!(track.id = %self.id, "cannot sync track {}: {failed}", self.id);
                self.env.observe(&CaptureFact::SyncFailed);
                self.to_ship.store(true, SeqCst);
            }
        }
    }

    /// Makes what was written durable, and answers. Packets are synced when their time has come.
    fn settle(&self, log: &mut Log, written: &mut Vec<Entry>) {
        if written.is_empty() {
            return;
        }
        let acknowledged = written.iter().any(|entry| !matches!(entry.what, What::Batch(_)));
        if !acknowledged && !log.must_sync(self.env.now_us()) {
            written.drain(..).for_each(|entry| self.accept(entry));
            return;
        }
        let begun = Instant::now();
        match log.sync(self) {
            Ok(bytes) => {
                let (took, records) = (begun.elapsed(), written.len());
                self.env.observe(&CaptureFact::Synced { took, records, bytes });
                written.drain(..).for_each(|entry| self.accept(entry));
            }
            Err(failed) => {
                error!(track.id = %self.id, "cannot sync track {}: {failed}", self.id);
                self.env.observe(&CaptureFact::SyncFailed);
                self.to_ship.store(true, SeqCst);
                let failed = AppendError::from(failed);
                written.drain(..).for_each(|entry| self.refuse(entry, &failed));
            }
        }
    }

    fn accept(&self, entry: Entry) {
        match entry.what {
            What::Complete { last_sequence } => self.state().held.last_sequence = Some(last_sequence),
            What::Batch(batch) => self.state().held.add_batch(&batch),
            What::Chunk { sequence, mime, body, .. } => {
                let size = u32::try_from(body.len).expect("a chunk's length was checked");
                let slot = Slot { sha256: body.sha256, arrival_us: entry.arrival_us, size };
                if self.index().put(sequence, &slot).is_err() {
                    self.index_stale.store(true, SeqCst);
                }
                let mut state = self.state();
                state.held.add(sequence, &slot);
                state.held.mime = mime.or(state.held.mime.take());
                answer(&mut state, sequence, &Ok(()));
            }
        }
        // Whoever asked may be gone.
        let _ = entry.done.send(Ok(()));
    }

    fn refuse(&self, entry: Entry, error: &AppendError) {
        if let What::Chunk { sequence, .. } = entry.what {
            answer(&mut self.state(), sequence, &Err(error.clone()));
        }
        // Whoever asked may be gone.
        let _ = entry.done.send(Err(error.clone()));
    }

    /// After a panic: whoever waits is answered by the drop of what they wait for.
    fn abandon(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.under_way.clear();
        state.committer = Committer::Idle;
    }

    /// Moves every closed segment to the spool, after the move that is under way.
    fn ship(&self) -> io::Result<()> {
        let mut shipping = self.shipping.lock().expect("no code panics while it moves segments");
        self.ship_alone(&mut shipping)
    }

    /// Moves closed segments to the spool on a thread for blocking work. `None`: as many moves as may be are under way, and
    /// `to_ship` stays set for the next tick.
    fn begin_shipping(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let turn = self.env.ships.clone().try_acquire_owned().ok()?;
        let this = self.clone();
        Some(tokio::task::spawn_blocking(move || {
            this.ship_and_log();
            drop(turn);
        }))
    }

    /// Does so unless a move is under way: one that hangs must hold one thread, not one for each segment that follows.
    /// Then `to_ship` stays set for the next tick.
    fn ship_and_log(&self) {
        let mut shipping = match self.shipping.try_lock() {
            Ok(shipping) => shipping,
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(_)) => panic!("no code panics while it moves segments"),
        };
        if !shipping.is_over(self.env.now_us()) {
            return;
        }
        if let Err(error) = self.ship_alone(&mut shipping) {
            warn!(track.id = %self.id, "cannot move segments of track {} to the spool yet: {error}", self.id);
        }
    }

    /// The caller holds `shipping`.
    fn ship_alone(&self, pause: &mut Pause) -> io::Result<()> {
        self.to_ship.store(false, SeqCst);
        let shipped = self.ship_closed();
        *pause = match &shipped {
            Ok(()) => Pause::default(),
            Err(_) => pause.after_failure(self.env.now_us()),
        };
        if shipped.is_err() {
            self.to_ship.store(true, SeqCst);
            self.env.observe(&CaptureFact::ShipFailed);
        }
        shipped
    }

    fn ship_closed(&self) -> io::Result<()> {
        let numbers = self.closed_segments()?;
        if numbers.is_empty() {
            return Ok(());
        }
        if self.index_stale.load(SeqCst) {
            self.rebuild_index()?;
        }
        if let Err(error) = self.index().sync() {
            self.index_stale.store(true, SeqCst);
            return Err(error);
        }
        for number in numbers {
            let (begun, from) = (Instant::now(), self.dir.join(spool::segment_name(number)));
            let (bytes, spool) = (std::fs::metadata(&from)?.len(), &self.env.config.spool);
            if spool.may_be_away() {
                last::keep(&self.dir, number)?;
            }
            spool.publish(&self.spec.recording, &self.id, number, &from)?;
            last::drop_before(&self.dir, number)?;
            self.env.observe(&CaptureFact::Shipped { bytes, took: begun.elapsed() });
        }
        Ok(())
    }

    /// The numbers of the segments here that nothing is written to any more.
    fn closed_segments(&self) -> io::Result<Vec<u32>> {
        // The list comes first: a segment that is opened after it is not in it.
        let mut numbers = spool::segment_numbers(&self.dir)?;
        let open = self.log.lock().expect("no code panics while it holds the log of a track").open_number();
        numbers.retain(|&number| Some(number) != open);
        Ok(numbers)
    }
}

impl TrackLog {
    /// Closes the open segment and moves all to the spool. The track must be closed.
    pub(super) async fn flush_and_ship(&self) -> io::Result<()> {
        let track = self.0.clone();
        let turn = track.env.ships.clone().acquire_owned().await.expect("the semaphore is never closed");
        blocking(move || {
            track.roll(&mut track.log.lock().expect("no code panics while it holds the log of a track"));
            let shipped = track.ship();
            drop(turn);
            shipped
        })
        .await
    }

    /// Closes the open segment when it is old enough, and makes durable what has waited long enough for it.
    pub(super) async fn sync_due(&self) {
        let due = match self.0.log.try_lock() {
            Ok(log) => {
                let now_us = self.0.env.now_us();
                log.is_due(&self.0, now_us) || log.must_sync(now_us)
            }
            // It is being written to, and the writer looks at the time as well.
            Err(_) => false,
        };
        if !due && !self.0.to_ship.load(SeqCst) {
            return;
        }
        let track = self.0.clone();
        blocking(move || {
            let mut log = track.log.lock().expect("no code panics while it holds the log of a track");
            if log.is_due(&track, track.env.now_us()) {
                track.roll(&mut log);
            } else if log.must_sync(track.env.now_us()) {
                track.sync(&mut log);
            }
        })
        .await;
    }

    /// Begins to move what is closed to the spool, when something may be.
    pub(super) fn ship_due(&self) -> Option<JoinHandle<()>> {
        self.0.to_ship.load(SeqCst).then(|| self.0.begin_shipping()).flatten()
    }

    /// What of it the spool lacks. Blocks.
    pub(super) fn lag(&self) -> io::Result<Lag> {
        if !self.0.to_ship.load(SeqCst) && self.0.shipping.try_lock().is_ok() {
            return Ok(Lag::default());
        }
        let closed = self.0.closed_segments()?;
        closed.into_iter().try_fold(Lag::default(), |lag, number| {
            match std::fs::metadata(self.0.dir.join(spool::segment_name(number))) {
                Ok(file) => Ok(lag.and(Lag { bytes: file.len(), since: Some(file.modified()?.into()) })),
                // It has reached the spool meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(lag),
                Err(error) => Err(error),
            }
        })
    }
}

fn answer(state: &mut State, sequence: u32, fate: &Result<(), AppendError>) {
    for waiter in state.under_way.remove(&sequence).unwrap_or_default() {
        // Whoever asked may be gone.
        let _ = waiter.send(fate.clone());
    }
}
