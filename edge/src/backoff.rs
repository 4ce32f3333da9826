//! Waits between tries of what fails while the database or a disk is away.

use std::time::Duration;

/// The first wait: a dropped connection is replaced within this.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait: a database that comes back is noticed within this, and a log line for each try stays bearable.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles from 200 ms to 5 s. The tries have no limit in number: what waits on them must not be lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next()).collect();
        assert_eq!((waits[0], waits[1], waits[7]), (FIRST, 2 * FIRST, LONGEST));
    }
}
