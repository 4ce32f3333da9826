//! A room: who is there, what they publish, and who records it.
//!
//! It must not know connections.

use std::collections::HashMap;
use std::time::Instant;

use crate::command::Pausing;
use crate::ids::{Medium, PeerId, User};
use crate::speaker::Speakers;
use crate::tap::{Tap, TapMark};
use crate::track::{Track, TrackId};

/// One room.
#[derive(Default)]
pub(crate) struct Room {
    pub(crate) members: Vec<PeerId>,
    pub(crate) tracks: HashMap<TrackId, Track>,
    pub(crate) tap: Option<Box<dyn Tap>>,
    pub(crate) pausing: Pausing,
    pub(crate) speakers: Speakers<PeerId>,
    /// When layers are chosen next; `None` while nobody gets anything.
    pub(crate) share_at: Option<Instant>,
}

impl Room {
    /// Notes something on the recording's timeline, if there is one.
    pub(crate) fn mark(&mut self, user: &User, medium: Option<Medium>, arrival_us: i64, mark: TapMark) {
        if let Some(tap) = &mut self.tap {
            tap.mark(user, medium, arrival_us, mark);
        }
    }

    /// Tracks of one session.
    pub(crate) fn tracks_of(&self, owner: PeerId) -> Vec<TrackId> {
        let mut ids: Vec<TrackId> =
            self.tracks.values().filter(|track| track.owner == owner).map(|track| track.id).collect();
        ids.sort_unstable();
        ids
    }

    /// All tracks in the order in which they came.
    pub(crate) fn track_ids(&self) -> Vec<TrackId> {
        let mut ids: Vec<TrackId> = self.tracks.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// When it has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.share_at.into_iter().chain(self.speakers.poll_timeout()).min()
    }

    /// Whether the shard may forget it.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.tap.is_none()
    }
}
