//! Where a hole begins and ends: told from where each stream stopped before it and goes on after it.
//!
//! Streams do not stop and go on at the same time, and a stream may miss nothing at all: only those count that do.

use super::{ROUNDING_US, SILENT_US};
use crate::assemble::GapReason;

/// A hole that no frame has ended yet.
pub(super) struct Open {
    pub(super) from_us: i64,
    pub(super) reason: GapReason,
    /// Where each stream stood.
    pub(super) before: Vec<Edge>,
}

/// Where a stream stops before a hole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) end_us: i64,
    /// From its last frame but one to its last.
    pub(super) step_us: i64,
    pub(super) is_steady: bool,
}

/// A hole whose end is being learnt.
pub(super) struct Closing {
    pub(super) open: Open,
    pub(super) first_us: i64,
    last_us: i64,
    /// Streams, as bits, that have not come back.
    pub(super) awaited: u32,
    /// What each stream misses that has come back: from, to, and whether it is a steady one.
    missing: Vec<(i64, i64, bool)>,
}

impl Closing {
    /// The first frame after the hole has come.
    pub(super) fn new(open: Open, time_us: i64, awaited: u32) -> Self {
        Self { open, first_us: time_us, last_us: time_us, awaited, missing: Vec::new() }
    }

    /// The first frame of a stream after the hole.
    pub(super) fn came_back(&mut self, index: usize, time_us: i64, interleaved_us: i64) {
        if time_us - self.first_us <= SILENT_US {
            self.last_us = self.last_us.max(time_us);
        }
        let newest = self.open.before.iter().map(|edge| edge.end_us).max().unwrap_or(self.open.from_us);
        // A stream that had not begun is missed from the start, if that was just before.
        let new = if newest < interleaved_us { 0 } else { newest };
        let new = Edge { end_us: new, step_us: 0, is_steady: true };
        let edge = self.open.before.get(index).copied().filter(|edge| edge.end_us > 0).unwrap_or(new);
        let was_silent = edge.end_us < newest - interleaved_us;
        if !was_silent && time_us - edge.end_us > (edge.step_us / 2).max(ROUNDING_US) {
            self.missing.push((edge.end_us, time_us, edge.is_steady));
        }
    }

    /// From the end of the first stream that misses something to where the last one goes on.
    pub(super) fn span(&self) -> (i64, i64) {
        let steady = self.missing.iter().any(|(_, _, is_steady)| *is_steady);
        let counted = self.missing.iter().filter(|(_, _, is_steady)| *is_steady || !steady);
        let bounds =
            counted.map(|(from, to, _)| (*from, *to)).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
        bounds.unwrap_or((self.open.from_us, i64::midpoint(self.first_us, self.last_us)))
    }
}
