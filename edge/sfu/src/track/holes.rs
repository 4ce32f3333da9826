//! Packets of a recorded picture stream that are missing: whether one will not come any more, so that what was recorded shows
//! nothing new until the next keyframe. Nobody who watches asks for that one: there may be nobody, or only on another layer.
//!
//! It must not know how a lost packet, or a keyframe, is asked for.

use std::collections::VecDeque;
use std::time::Instant;

use crate::peer::ASKED_FOR;

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

    /// Whether some packet will not come any more; told once.
    pub(super) fn lost(&mut self, now: Instant) -> bool {
        let before = self.missing.len();
        while self.missing.pop_front_if(|(_, missed)| *missed + ASKED_FOR <= now).is_some() {}
        self.missing.len() < before
    }

    /// When [`Self::lost`] may have something to tell, whether or not another packet comes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.missing.front().map(|(_, missed)| *missed + ASKED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_that_does_not_come_is_told_once() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        for number in [65_533, 65_535, 1] {
            holes.came(start, number, false);
        }
        assert!(!holes.lost(start + ASKED_FOR - MS));
        assert_eq!(holes.next(), Some(start + ASKED_FOR));
        holes.came(start + 50 * MS, 0, false);
        assert!(holes.lost(start + ASKED_FOR));
        assert!(!holes.lost(start + 2 * ASKED_FOR));
    }

    #[test]
    fn what_was_sent_again_or_stood_before_a_keyframe_is_not_missing() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        for number in [10, 12, 14] {
            holes.came(start, number, false);
        }
        holes.came(start + 300 * MS, 11, false);
        holes.came(start + 300 * MS, 15, true);
        assert!(!holes.lost(start + 2 * ASKED_FOR));
        assert_eq!(holes.next(), None);
    }

    #[test]
    fn a_line_that_was_dead_for_long_leaves_little() {
        let (start, mut holes) = (Instant::now(), Holes::default());
        holes.came(start, 1, false);
        holes.came(start, 30_000, false);
        assert_eq!(holes.missing.len(), usize::from(REMEMBERED));
        assert!(holes.lost(start + ASKED_FOR));
        assert!(holes.missing.is_empty());
    }
}
