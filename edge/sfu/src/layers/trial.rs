//! What is sent at least although it does not fit the estimate: an estimate may be low because nothing larger was sent, or because
//! feedback came late from a receiver that has no time, and with nothing sent nothing is learned.
//!
//! So the pictures that are there stay in their lowest layer, and the most important one comes, until the path itself shows that
//! it does not carry them. They then rest, and are tried again after ever longer pauses. Must not know packets.

use crate::estimate::Strain;
use std::time::{Duration, Instant};

/// After so long without strain a trial has succeeded: a keyframe has come, and feedback on it, and a queue would have filled.
pub const TRIAL: Duration = Duration::from_secs(3);

/// From the first strain of a trial to its end: the keyframe it begins with may be more than the path carries in a moment.
pub const TOLERATED: Duration = Duration::from_millis(500);

/// From the end of a trial to the next one, if the path is calm by then; doubled each time, because a trial that fails costs
/// sound a second of queue.
pub const PAUSE: Duration = Duration::from_secs(1);

/// A picture stays under strain while the estimate is this share of what it needs with its margin, in percent: on a line that is
/// too narrow it soon falls further.
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
    /// More than fits is sent since then, and strains the path since then.
    Trying {
        since: Instant,
        strained: Option<Instant>,
    },
    Resting(Instant),
}

impl Default for Trials {
    fn default() -> Self {
        Self { state: State::Calm, pause: PAUSE }
    }
}

impl Trials {
    /// Raises the estimate to what is `needed` at least while that is tried. To be called before each choice.
    pub fn budget(
        &mut self,
        now: Instant,
        estimate_bps: u64,
        needed_bps: Option<u64>,
        strain: Strain,
    ) -> u64 {
        let Some(needed) = needed_bps.filter(|needed| *needed > estimate_bps) else {
            self.succeeded();
            return estimate_bps;
        };
        let nearly = needed * TOLERATED_PERCENT / 100 <= estimate_bps;
        self.state = match self.state {
            State::Calm => State::Trying { since: now, strained: None },
            State::Trying { since, .. } if strain == Strain::Calm => {
                if now.saturating_duration_since(since) >= TRIAL {
                    self.pause = PAUSE;
                }
                State::Trying { since, strained: None }
            }
            State::Trying { since, strained } => {
                let first = strained.unwrap_or(now);
                if nearly || now.saturating_duration_since(first) < TOLERATED {
                    State::Trying { since, strained: Some(first) }
                } else {
                    let rested = now + self.pause;
                    self.pause = (self.pause * 2).min(MAX_PAUSE);
                    State::Resting(rested)
                }
            }
            State::Resting(until) if nearly || now >= until && strain == Strain::Calm => {
                State::Trying { since: now, strained: None }
            }
            State::Resting(until) => State::Resting(until),
        };
        match self.state {
            State::Trying { .. } => needed,
            State::Calm | State::Resting(_) => estimate_bps,
        }
    }

    fn succeeded(&mut self) {
        if let State::Trying { .. } = self.state {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_strains_the_path_is_repeated_ever_later() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        let (mut begun, mut was) = (Vec::new(), 100);
        for tenth in 0..2_000u64 {
            let strain = if was > 100 { Strain::Congested } else { Strain::Calm };
            let is = trials.budget(start + Duration::from_millis(100 * tenth), 100, Some(500), strain);
            if is > was {
                begun.push(tenth / 10);
            }
            was = is;
        }
        assert_eq!(begun, [0, 1, 4, 8, 17, 34, 66, 127, 187]);
    }

    #[test]
    fn what_does_not_strain_the_path_is_never_taken_away() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(trials.budget(now, 50, Some(500), Strain::Calm), 500, "at {second}");
        }
    }

    #[test]
    fn a_moment_of_strain_is_no_failure_and_a_rest_is_over_when_the_path_is_calm() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        let mut at =
            |ms: u64, strain| trials.budget(start + Duration::from_millis(ms), 100, Some(500), strain);
        assert_eq!(at(0, Strain::Calm), 500);
        assert_eq!(at(100, Strain::Congested), 500);
        assert_eq!(at(500, Strain::Calm), 500);
        assert_eq!(at(600, Strain::Congested), 500);
        assert_eq!(at(1_100, Strain::Congested), 100);
        assert_eq!(at(2_100, Strain::Congested), 100);
        assert_eq!(at(2_200, Strain::Calm), 500);
    }

    #[test]
    fn what_fits_needs_no_trial_and_what_nearly_fits_stays() {
        let (start, mut trials) = (Instant::now(), Trials::default());
        assert_eq!(trials.budget(start, 900, Some(500), Strain::Congested), 900);
        assert_eq!(trials.budget(start, 100, None, Strain::Congested), 100);
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert_eq!(trials.budget(now, 300, Some(500), Strain::Congested), 500);
        }
    }
}
