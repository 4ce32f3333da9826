//! Figures of an interval, kept for whoever asks again soon: two who ask must not take the packets from each other.

use std::time::{Duration, Instant};

use crate::quality::Quality;

/// Figures are renewed at most this often: a shorter interval holds too few packets to tell a share of loss.
pub(crate) const RENEW_AFTER: Duration = Duration::from_millis(900);

/// The last figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    last: Quality,
    since: Instant,
}

impl Figures {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: Quality::default(), since: now }
    }

    /// The last ones, or new ones if it is time.
    pub(crate) fn renew(&mut self, now: Instant, interval: impl FnOnce() -> Quality) -> Quality {
        if now.saturating_duration_since(self.since) >= RENEW_AFTER {
            (self.last, self.since) = (interval(), now);
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_soon_gets_the_same() {
        let start = Instant::now();
        let mut figures = Figures::new(start);
        let of = |packets| move || Quality { packets, ..Quality::default() };
        assert_eq!(figures.renew(start + RENEW_AFTER, of(5)).packets, 5);
        assert_eq!(figures.renew(start + RENEW_AFTER, of(6)).packets, 5);
        assert_eq!(figures.renew(start + 2 * RENEW_AFTER, of(7)).packets, 7);
    }
}
