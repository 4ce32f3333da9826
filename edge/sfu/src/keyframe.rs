//! Requests for keyframes of one stream: the throttle, whether one is to go out at the next flush, and how many did.
//!
//! It must not know who wished, nor how a request is written.

use std::time::Instant;

use crate::throttle::{Ask, Keyframes};

/// The requests of one stream.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    keyframes: Keyframes,
    due: Due,
    count: u64,
}

/// Whether a request is to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Due {
    #[default]
    No,
    Yes,
}

impl Requests {
    /// Somebody needs a keyframe.
    pub(crate) fn wish(&mut self, now: Instant) {
        let ask = self.keyframes.wish(now);
        self.note(ask);
    }

    /// Somebody lost a picture: perhaps the keyframe that was asked for.
    pub(crate) fn lost(&mut self, now: Instant) {
        let ask = self.keyframes.wish_after_loss(now);
        self.note(ask);
    }

    fn note(&mut self, ask: Ask) {
        if ask == Ask::Now {
            self.due = Due::Yes;
        }
    }

    /// One has come: whoever waited has it.
    pub(crate) fn came(&mut self) {
        self.keyframes.passed();
    }

    /// Whether to ask now; a request that was given out is not given out again.
    pub(crate) fn take(&mut self, now: Instant) -> Due {
        let ask = self.keyframes.timeout(now);
        self.note(ask);
        let due = std::mem::take(&mut self.due);
        self.count += u64::from(due == Due::Yes);
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.keyframes.poll_timeout()
    }

    /// Requests so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::MIN_INTERVAL;

    #[test]
    fn many_wishes_make_one_request_and_the_late_ones_another() {
        let start = Instant::now();
        let mut requests = Requests::default();
        requests.wish(start);
        requests.wish(start);
        assert_eq!(requests.take(start), Due::Yes);
        assert_eq!(requests.take(start), Due::No);
        requests.came();
        requests.wish(start);
        assert_eq!(requests.take(start), Due::No);
        assert_eq!(requests.next(), Some(start + MIN_INTERVAL));
        assert_eq!(requests.take(start + MIN_INTERVAL), Due::Yes);
        assert_eq!(requests.count(), 2);
    }
}
