//! When to ask a source for a keyframe: every subscriber who joins, switches layer or lost a packet wants one, and one
//! serves them all.
//!
//! At most one request goes out in [`MIN_INTERVAL`]; wishes in between are merged into the next. A wish that comes
//! soon after a keyframe passed is kept too: its subscriber may have lost that very keyframe. When no keyframe comes,
//! the request is repeated, ever more slowly, and given up after [`MAX_REPEATS`]: a camera that is off has none, and
//! the next wish begins again. Must not know who wished, nor how a request is sent (PLI, FIR).

use std::time::{Duration, Instant};

/// Least time between two requests to one source: three in a second. Browsers encode at most one requested keyframe in 300 ms
/// (the minimum interval of libwebrtc's encoder feedback), so more requests than that only cost packets.
pub const MIN_INTERVAL: Duration = Duration::from_millis(334);

/// A request without a keyframe is repeated after this long: a round trip of 200 ms, a frame interval and the pacing
/// of a large frame have passed. Doubled with every repetition.
pub const REPEAT_AFTER: Duration = Duration::from_millis(600);

/// Longest wait between two repetitions.
pub const MAX_REPEAT_AFTER: Duration = Duration::from_secs(5);

/// Repetitions before a request is given up: about half a minute.
pub const MAX_REPEATS: u32 = 8;

/// What the caller does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Send a request to the source.
    Now,
    /// Nothing: a request is under way, or [`Keyframes::timeout`] will say when.
    Later,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nobody waits.
    Idle,
    /// Somebody waits, but the last request was too short ago.
    Held,
    /// A request is under way.
    Asked { repeats: u32 },
}

/// The requests to one source (one SSRC: each simulcast layer has its own).
#[derive(Debug, Clone, Copy)]
pub struct Keyframes {
    state: State,
    last_asked: Option<Instant>,
}

impl Default for Keyframes {
    fn default() -> Self {
        Self { state: State::Idle, last_asked: None }
    }
}

impl Keyframes {
    /// Somebody needs a keyframe.
    pub fn wish(&mut self, now: Instant) -> Ask {
        match self.state {
            State::Held => Ask::Later,
            State::Asked { repeats } if repeats < MAX_REPEATS => Ask::Later,
            State::Idle | State::Asked { .. } if self.may_ask(now) => self.ask(now, 0),
            State::Idle | State::Asked { .. } => {
                self.state = State::Held;
                Ask::Later
            }
        }
    }

    /// A keyframe of the source began: whoever waited has it. A wish held back stays, it came after the request that
    /// this keyframe answers.
    pub fn passed(&mut self) {
        if let State::Asked { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// Somebody lost a packet while a request is under way, whose keyframe may be the one that was lost.
    pub fn wish_after_loss(&mut self, now: Instant) -> Ask {
        if let State::Asked { .. } = self.state {
            if self.may_ask(now) {
                return self.ask(now, 0);
            }
            return Ask::Later;
        }
        self.wish(now)
    }

    /// When [`Self::timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last_asked?;
        match self.state {
            State::Held => Some(last + MIN_INTERVAL),
            State::Asked { repeats } if repeats < MAX_REPEATS => Some(last + repeat_after(repeats)),
            State::Idle | State::Asked { .. } => None,
        }
    }

    /// Sends what was held back, or repeats what was not answered.
    pub fn timeout(&mut self, now: Instant) -> Ask {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ask::Later;
        }
        let repeats = match self.state {
            State::Asked { repeats } => repeats + 1,
            State::Idle | State::Held => 0,
        };
        self.ask(now, repeats)
    }

    fn ask(&mut self, now: Instant, repeats: u32) -> Ask {
        self.state = State::Asked { repeats };
        self.last_asked = Some(now);
        Ask::Now
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.last_asked.is_none_or(|last| now.saturating_duration_since(last) >= MIN_INTERVAL)
    }
}

fn repeat_after(repeats: u32) -> Duration {
    (REPEAT_AFTER * (1 << repeats.min(8))).min(MAX_REPEAT_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn wishes_are_merged_into_one_request() {
        let (mut keyframes, start) = (Keyframes::default(), Instant::now());
        assert_eq!(keyframes.wish(start), Ask::Now);
        for ms in 0..334 {
            assert_eq!(keyframes.wish(start + ms * MS), Ask::Later);
        }
        keyframes.passed();
        assert_eq!(keyframes.poll_timeout(), None);
    }

    #[test]
    fn a_wish_soon_after_a_keyframe_is_held_and_kept() {
        let (mut keyframes, start) = (Keyframes::default(), Instant::now());
        keyframes.wish(start);
        keyframes.passed();
        assert_eq!(keyframes.wish(start + 100 * MS), Ask::Later);
        keyframes.passed();
        let due = keyframes.poll_timeout().unwrap();
        assert_eq!(due, start + MIN_INTERVAL);
        assert_eq!(keyframes.timeout(due), Ask::Now);
    }

    #[test]
    fn a_request_without_a_keyframe_is_repeated_and_given_up() {
        let (mut keyframes, start) = (Keyframes::default(), Instant::now());
        keyframes.wish(start);
        let mut sent = 0;
        while let Some(due) = keyframes.poll_timeout() {
            assert_eq!(keyframes.timeout(due - MS), Ask::Later);
            assert_eq!(keyframes.timeout(due), Ask::Now);
            sent += 1;
        }
        assert_eq!(sent, MAX_REPEATS);
        assert_eq!(keyframes.wish(start + Duration::from_secs(60)), Ask::Now);
    }

    #[test]
    fn a_loss_does_not_wait_for_a_repetition() {
        let (mut keyframes, start) = (Keyframes::default(), Instant::now());
        keyframes.wish(start);
        assert_eq!(keyframes.wish_after_loss(start + MIN_INTERVAL - MS), Ask::Later);
        assert_eq!(keyframes.wish_after_loss(start + MIN_INTERVAL), Ask::Now);
    }

    #[test]
    fn requests_are_never_closer_than_the_interval() {
        let (mut random, start) = (Random::seeded(5), Instant::now());
        let (mut keyframes, mut now, mut last) = (Keyframes::default(), start, None::<Instant>);
        for _ in 0..50_000 {
            now += MS * random.below(60) as u32;
            let ask = match random.below(4) {
                0 => keyframes.wish(now),
                1 => keyframes.wish_after_loss(now),
                2 => keyframes.timeout(now),
                _ => {
                    keyframes.passed();
                    Ask::Later
                }
            };
            if ask == Ask::Now {
                assert!(last.is_none_or(|last| now - last >= MIN_INTERVAL));
                last = Some(now);
            }
        }
    }
}
