//! Asking a publisher for keyframes. Many subscribers ask at once when somebody joins or loses packets; the publisher must make
//! one keyframe, not one for each.

use std::time::{Duration, Instant};

/// At most one request per layer in this time. A keyframe takes an encoder and the network about this long to appear, so a
/// second request within it would be answered by the first one's keyframe anyway.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// The requests of one layer.
#[derive(Debug, Default)]
pub(crate) struct Keyframes {
    asked: Option<Instant>,
    pending: bool,
    count: u64,
}

impl Keyframes {
    /// Somebody needs a keyframe.
    pub(crate) fn want(&mut self) {
        self.pending = true;
    }

    /// One has come: whoever waited has it.
    pub(crate) fn came(&mut self) {
        self.pending = false;
    }

    /// Whether to ask now.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let due = self.pending && self.asked.is_none_or(|asked| now >= asked + MIN_INTERVAL);
        if due {
            self.asked = Some(now);
            self.pending = false;
            self.count += 1;
        }
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.then(|| self.asked.map(|asked| asked + MIN_INTERVAL)).flatten()
    }

    /// Requests so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_make_one_request_and_the_late_ones_another() {
        let start = Instant::now();
        let mut keyframes = Keyframes::default();
        keyframes.want();
        keyframes.want();
        assert!(keyframes.due(start));
        keyframes.want();
        assert!(!keyframes.due(start));
        assert_eq!(keyframes.next(), Some(start + MIN_INTERVAL));
        assert!(keyframes.due(start + MIN_INTERVAL));
        assert_eq!(keyframes.next(), None);
        assert_eq!(keyframes.count(), 2);
    }
}
