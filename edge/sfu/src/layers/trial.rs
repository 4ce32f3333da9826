//! Tries a picture when none fits the estimate: with nothing sent nothing is learned, and the estimate would stay low for ever.
//!
//! The lowest layer of the most important source is sent for [`TRIAL`] whatever the estimate says; if the path carries it, the
//! estimate has grown by then, and otherwise it is not tried again for ever longer. Must not know packets.

use std::time::{Duration, Instant};

/// Long enough for a keyframe to come, for feedback on it and for a probe.
pub const TRIAL: Duration = Duration::from_secs(3);

/// From the end of a trial to the next one; doubled each time, because a trial that fails costs sound a second of queue.
pub const PAUSE: Duration = Duration::from_secs(8);

/// A picture stays while the estimate is this share of what it needs with its margin, in percent: under jitter an estimate lies
/// a seventh below what flows without harm, while on a line that is too narrow it soon falls further.
pub const TOLERATED_PERCENT: u64 = 60;

/// The longest pause.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The trials of one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Trials {
    state: State,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Something fits, or nothing was tried yet.
    Calm,
    Trying(Instant),
    Resting(Instant),
}

impl Default for Trials {
    fn default() -> Self {
        Self { state: State::Calm, pause: PAUSE }
    }
}

impl Trials {
    /// Raises the estimate to what is `needed` for one picture while that is tried. To be called before each choice.
    pub fn budget(&mut self, now: Instant, estimate_bps: u64, needed_bps: Option<u64>) -> u64 {
        let Some(needed) = needed_bps.filter(|needed| *needed > estimate_bps) else {
            self.succeeded();
            return estimate_bps;
        };
        if needed * TOLERATED_PERCENT / 100 <= estimate_bps {
            self.succeeded();
            return needed;
        }
        self.state = match self.state {
            State::Calm => State::Trying(now + TRIAL),
            State::Trying(until) if now >= until => {
                let rested = now + self.pause;
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                State::Resting(rested)
            }
            State::Resting(until) if now >= until => State::Trying(now + TRIAL),
            same => same,
        };
        match self.state {
            State::Trying(_) => needed,
            State::Calm | State::Resting(_) => estimate_bps,
        }
    }

    fn succeeded(&mut self) {
        if let State::Trying(_) = self.state {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_fails_is_repeated_ever_later() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        let mut begun = Vec::new();
        let mut was = 100;
        for second in 0..200u64 {
            let is = trials.budget(start + Duration::from_secs(second), 100, Some(500));
            if is > was {
                begun.push(second);
            }
            was = is;
        }
        assert_eq!(begun, [0, 11, 30, 65, 128, 191]);
    }

    #[test]
    fn a_trial_that_succeeds_is_forgotten_and_what_fits_needs_none() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        assert_eq!(trials.budget(start, 900, Some(500)), 900);
        assert_eq!(trials.budget(start, 100, None), 100);
        assert_eq!(trials.budget(start, 100, Some(500)), 500);
        assert_eq!(trials.budget(start + TRIAL / 2, 400, Some(500)), 500, "nearly");
        assert_eq!(trials.budget(start + TRIAL / 2, 700, Some(500)), 700);
        assert_eq!(trials.budget(start + TRIAL, 100, Some(500)), 500);
    }
}
