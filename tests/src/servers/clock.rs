//! The servers' time: the machine's, moved forward by a test that does not want to wait for an expiry.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;
use shared::clock::{Clock, SystemClock, Timestamp};

/// A clock that runs with the machine's, ahead of it by what a test has added.
#[derive(Debug, Default)]
pub struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// Moves the clock forward, to the millisecond.
    pub fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + TimeDelta::milliseconds(self.0.load(Ordering::SeqCst))
    }
}
