//! Where one side of a log stands in the file: its sound, or its pictures. A shared screen has both in one log, and neither may stand
//! in the way of the other.

use super::output::{EDGE_US, TICK_US};
use crate::assemble::GapReason;

/// How far apart frames stand that were moved: what WebM can tell apart.
const NUDGE_US: i64 = 1_000;

/// The SSRC and epoch that frames come from.
pub(super) type Source = (u32, usize);

#[derive(Debug)]
pub(super) struct Side {
    /// Of the last frame that was kept.
    pub(super) source: Option<Source>,
    /// When that stands.
    pub(super) last_us: i64,
    /// What happened since.
    pub(super) looked: Option<GapReason>,
    /// Frames of the current source stand after this.
    floor_us: i64,
}

impl Default for Side {
    fn default() -> Self {
        Self { source: None, last_us: -TICK_US, looked: None, floor_us: -NUDGE_US }
    }
}

impl Side {
    /// What seems to have happened since the last frame. Before the first one little is missing if anything: a capture that begins
    /// in the middle of a stream begins with the rest of a picture, and nothing of that was lost.
    pub(super) fn looked(&mut self, missing_us: i64) -> Option<GapReason> {
        let begins = self.source.is_none() && missing_us < EDGE_US;
        self.looked.take().filter(|looked| !(begins && *looked == GapReason::PacketLoss))
    }

    /// Moves a frame behind what another source has written. Within a source times may go back: those are B frames.
    pub(super) fn settle(&mut self, source: Source, time_us: i64) -> i64 {
        if self.source.is_some_and(|before| before != source) {
            self.floor_us = self.last_us;
        }
        if time_us > self.floor_us {
            return time_us.max(0);
        }
        self.floor_us += NUDGE_US;
        self.floor_us
    }
}
