//! How fast a publisher sends, and in which rhythm.

use std::fmt;
use std::time::Duration;

use super::pictures::FRAME_PACKETS;

/// A rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// A packet at a time, at even distances: what a pacer makes of a camera.
    Even,
    /// A frame's packets at once, as a sender without a pacer.
    Bursts,
}

/// A speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) packets_per_second: u32,
    pub(super) pace: Pace,
}

impl Rate {
    /// Packets that leave together.
    pub(super) fn together(self) -> u32 {
        match self.pace {
            Pace::Even => 1,
            Pace::Bursts => FRAME_PACKETS,
        }
    }

    /// From one departure to the next.
    pub(super) fn every(self) -> Duration {
        Duration::from_secs(1) * self.together() / self.packets_per_second
    }

    /// Packets in so many seconds, whole frames.
    pub(super) fn packets_in(self, seconds: u64) -> u64 {
        let frame = u64::from(FRAME_PACKETS);
        (u64::from(self.packets_per_second) * seconds).div_ceil(frame) * frame
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.pace {
            Pace::Even => "even",
            Pace::Bursts => "bursts",
        };
        write!(f, "{}/s {pace}", self.packets_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_leave_ten_times_more_seldom() {
        let even = Rate { packets_per_second: 750, pace: Pace::Even };
        let bursts = Rate { pace: Pace::Bursts, ..even };
        assert_eq!(bursts.every().as_micros(), 13_333);
        assert_eq!(even.every().as_micros(), 1_333);
        assert_eq!(bursts.packets_in(5), 3_750);
        assert_eq!(Rate { packets_per_second: 3, ..even }.packets_in(1), 10);
    }
}
