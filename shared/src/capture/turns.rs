//! Which tracks may commit now, and which wait for their turn.
//!
//! This file must not know what a commit does.
//!
//! Decision: a thread that has ended a turn takes the next waiting track itself. With a semaphore, each commit under load
//! woke a task, and that a thread; and a chunk that came alone cost two of each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::track::Track;

/// The turns of all tracks. A track waits at most once, for it has one committer.
pub(super) struct Turns(Mutex<Waiting>);

struct Waiting {
    free: usize,
    tracks: VecDeque<Arc<Track>>,
}

impl Turns {
    /// So many tracks commit at once.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Mutex::new(Waiting { free: at_once, tracks: VecDeque::new() }))
    }

    /// Gives the track a turn, or lets it wait for one.
    pub(super) fn ask(&self, track: Arc<Track>) -> Option<Arc<Track>> {
        let mut waiting = self.lock();
        if waiting.free == 0 {
            waiting.tracks.push_back(track);
            return None;
        }
        waiting.free -= 1;
        Some(track)
    }

    /// Ends a turn and begins that of the next track, if one waits. A track that has more to do waits behind the others.
    pub(super) fn pass(&self, again: Option<Arc<Track>>) -> Option<Arc<Track>> {
        let mut waiting = self.lock();
        waiting.tracks.extend(again);
        let next = waiting.tracks.pop_front();
        if next.is_none() {
            waiting.free += 1;
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no code panics while it holds the turns")
    }
}
