//! Packets of a recorded picture stream that are missing: whether one will not come any more, so that what was recorded shows
//! nothing new until the next keyframe. Nobody who watches asks for that one: there may be nobody, or only on another layer.
//!
//! It must not know how a lost packet, or a keyframe, is asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::peer::ASKED_FOR;

/// A packet that is not asked for again can only have been overtaken: by no more than networks reorder.
const OVERTAKEN_FOR: Duration = Duration::from_millis(100);

/// Missing packets that are remembered, the newest: half a second of 6 Mbit/s. One of them is enough to ask.
const REMEMBERED: u16 = 256;

/// What is missing of one stream.
#[derive(Debug, Default)]
pub(super) struct Holes {
    newest: Option<u16>,
    /// Oldest first, each with when it was missed.
    missing: VecDeque<(u16, Instant)>,
}

impl Holes {
    /// A packet has come. A keyframe needs nothing of what was before it.
    pub(super) fn came(&mut self, now: Instant, sequence: u16, is_keyframe: bool) {
        let newest = *self.newest.get_or_insert(sequence);
        let ahead = sequence.wrapping_sub(newest);
        if ahead.cast_signed() > 0 {
            for back in (1..ahead.min(REMEMBERED + 1)).rev() {
                self.missing.push_back((sequence.wrapping_sub(back), now));
            }
            let beyond = self.missing.len().saturating_sub(usize::from(REMEMBERED));
            self.missing.drain(..beyond);
            self.newest = Some(sequence);
        }
        let is_open = |number: u16| match is_keyframe {
            true => number.wrapping_sub(sequence).cast_signed() > 0,
            false => number != sequence,
        };
        self.missing.retain(|(number, _)| is_open(*number));
    }

    /// Whether some packet will not come any more; told once. `nack`: whether lost packets are asked for.
    pub(super) fn lost(&mut self, now: Instant, nack: bool) -> bool {
        let patience = if nack { ASKED_FOR } else { OVERTAKEN_FOR };
        let is_over = |missed: Instant| now.saturating_duration_since(missed) >= patience;
        let before = self.missing.len();
        while self.missing.pop_front_if(|(_, missed)| is_over(*missed)).is_some() {}
        self.missing.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_that_does_not_come_is_told_once() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        for number in [65_533, 65_535, 1] {
            holes.came(start, number, false);
        }
        assert!(!holes.lost(start + ASKED_FOR - MS, true));
        holes.came(start + 50 * MS, 0, false);
        assert!(holes.lost(start + ASKED_FOR, true));
        assert!(!holes.lost(start + 2 * ASKED_FOR, true));
    }

    #[test]
    fn what_was_sent_again_or_stood_before_a_keyframe_is_not_missing() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        for number in [10, 12, 14] {
            holes.came(start, number, false);
        }
        holes.came(start + 300 * MS, 11, false);
        holes.came(start + 300 * MS, 15, true);
        assert!(!holes.lost(start + 2 * ASKED_FOR, true));
        holes.came(start + 300 * MS, 17, false);
        assert!(holes.lost(start + 300 * MS + OVERTAKEN_FOR, false), "nobody asks for it");
    }

    #[test]
    fn a_line_that_was_dead_for_long_leaves_little() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        holes.came(start, 1, false);
        holes.came(start, 30_000, false);
        assert_eq!(holes.missing.len(), usize::from(REMEMBERED));
        assert!(holes.lost(start + ASKED_FOR, true));
        assert!(holes.missing.is_empty());
    }
}
