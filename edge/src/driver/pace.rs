//! When a media thread sends: at once, unless it sends so much that what comes within a moment is better sent together. Packets
//! that come one by one, at even distances, then leave in runs too: the kernel's way for a datagram costs more than ours.
//!
//! It must not know sockets or calls: it counts datagrams.

use std::time::{Duration, Instant};

/// The longest that a datagram is held: a packet of a camera of 750 a second comes meanwhile. A listener hears nothing of it.
const HOLD: Duration = Duration::from_micros(1_500);
/// So many datagrams a second make a thread busy: nearly half of a core at 8 µs each.
const BUSY_PER_SECOND: u64 = 50_000;
/// The rate is measured over so long.
const WINDOW: Duration = Duration::from_millis(100);
/// So many packets for one subscriber are a run: nothing is gained by waiting for more.
const RUN: usize = 4;

/// How much a thread sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Light,
    Busy,
}

/// What to do with what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send it.
    Send,
    /// More may come.
    Hold,
}

/// The pace of one thread.
#[derive(Debug)]
pub(super) struct Pace {
    load: Load,
    since: Instant,
    datagrams: u64,
    until: Option<Instant>,
}

impl Pace {
    /// Of a thread that has sent nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self { load: Load::Light, since: now, datagrams: 0, until: None }
    }

    /// Something waits, of which so many packets are for one subscriber.
    pub(super) fn turn(&mut self, now: Instant, deepest: usize) -> Turn {
        if self.load == Load::Light || deepest >= RUN {
            return Turn::Send;
        }
        let until = *self.until.get_or_insert(now + HOLD);
        if now < until { Turn::Hold } else { Turn::Send }
    }

    /// When what is held has to be sent.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Everything that waited was sent: so many datagrams.
    pub(super) fn sent(&mut self, now: Instant, datagrams: u64) {
        self.until = None;
        self.datagrams += datagrams;
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let busy =
                u128::from(self.datagrams) * 1_000_000 >= u128::from(BUSY_PER_SECOND) * passed.as_micros();
            self.load = if busy { Load::Busy } else { Load::Light };
            (self.since, self.datagrams) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(datagrams_per_ms: u64) -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (1..=100).for_each(|ms| pace.sent(start + MS * ms, datagrams_per_ms));
        (pace, start + MS * 100)
    }

    #[test]
    fn a_thread_with_little_to_do_sends_at_once() {
        let (mut pace, now) = after(49);
        assert_eq!((pace.turn(now, 1), pace.until()), (Turn::Send, None));
    }

    #[test]
    fn a_busy_one_holds_what_comes_alone_for_a_moment() {
        let (mut pace, now) = after(50);
        assert_eq!(pace.turn(now, 1), Turn::Hold);
        assert_eq!(pace.turn(now + MS, 2), Turn::Hold);
        let until = pace.until().unwrap();
        assert_eq!(until, now + HOLD);
        assert_eq!(pace.turn(until, 2), Turn::Send);
        pace.sent(until, 200);
        assert_eq!(pace.until(), None);
        assert_eq!(pace.turn(until, RUN), Turn::Send, "a run is sent at once");
    }

    #[test]
    fn a_thread_that_was_busy_long_ago_is_not() {
        let (mut pace, now) = after(50);
        pace.sent(now + Duration::from_secs(1), 100);
        assert_eq!(pace.turn(now + Duration::from_secs(1), 1), Turn::Send);
    }
}
