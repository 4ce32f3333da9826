//! How long a track leaves the spool alone after a move has failed.
//!
//! This file must not know why it failed: the segments stay where they are, and follow when the spool is back.

use std::time::Duration;

/// After the first failure: the next tick may try again.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: a spool that is back is noticed within this, and a log line for each try of each track stays bearable.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from a second to half a minute, until a move succeeds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    wait: Duration,
    until_us: i64,
}

impl Pause {
    /// Whether a move may be tried.
    pub(super) fn is_over(&self, now_us: i64) -> bool {
        now_us >= self.until_us
    }

    /// What follows a failure.
    pub(super) fn after_failure(self, now_us: i64) -> Self {
        let wait = if self.wait.is_zero() { FIRST } else { (self.wait * 2).min(LONGEST) };
        let wait_us = i64::try_from(wait.as_micros()).expect("it is at most LONGEST");
        Self { wait, until_us: now_us.saturating_add(wait_us) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut pause, mut now_us) = (Pause::default(), 0);
        assert!(pause.is_over(now_us));
        let mut waits_s = Vec::new();
        for _ in 0..7 {
            pause = pause.after_failure(now_us);
            assert!(!pause.is_over(now_us) && pause.is_over(pause.until_us));
            waits_s.push((pause.until_us - now_us) / 1_000_000);
            now_us = pause.until_us;
        }
        assert_eq!(waits_s, [1, 2, 4, 8, 16, 30, 30]);
    }
}
