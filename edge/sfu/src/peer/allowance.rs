//! How much may be sent again: a receiver that asks for more than its line carries would otherwise drown its own sound.
//!
//! What media leave of the estimate is free for retransmissions, and a tenth of it always. It must not know packets: it counts
//! bytes.

use std::time::{Duration, Instant};

/// Share of the estimate that is always for retransmissions, in percent: what a usual bad line loses.
const LEAST_PERCENT: u64 = 10;

/// What was not used is kept for this long: a burst of losses is repaired at once.
const KEPT: Duration = Duration::from_millis(500);

/// The allowance of one connection.
#[derive(Debug)]
pub(super) struct Allowance {
    since: Instant,
    left_over: u64,
    least: u64,
}

/// What to do with a retransmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    Drop,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, left_over: 0, least: 0 }
    }

    /// A packet of media leaves.
    pub(super) fn media(&mut self, now: Instant, estimate_bps: u64, bytes: usize) {
        self.earn(now, estimate_bps);
        self.left_over = self.left_over.saturating_sub(bytes as u64);
    }

    /// Whether so much may be sent again now; if so it is taken off.
    pub(super) fn take(&mut self, now: Instant, estimate_bps: u64, bytes: usize) -> Verdict {
        self.earn(now, estimate_bps);
        for bucket in [&mut self.left_over, &mut self.least] {
            if let Some(left) = bucket.checked_sub(bytes as u64) {
                *bucket = left;
                return Verdict::Send;
            }
        }
        Verdict::Drop
    }

    fn earn(&mut self, now: Instant, estimate_bps: u64) {
        let bytes = |bps: u64, time: Duration| bps * time.as_micros() as u64 / 8_000_000;
        let passed = now.saturating_duration_since(self.since).min(KEPT);
        self.since = now;
        for (bucket, bps) in
            [(&mut self.left_over, estimate_bps), (&mut self.least, estimate_bps * LEAST_PERCENT / 100)]
        {
            *bucket = (*bucket + bytes(bps, passed)).min(bytes(bps, KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 1 kB sent again in ten seconds, when one is asked for each millisecond and media take so much of 800 kbit/s.
    fn again(media_percent: u64) -> u64 {
        let start = Instant::now();
        let (mut allowance, mut sent) = (Allowance::new(start), 0);
        for ms in 1..=10_000 {
            let now = start + Duration::from_millis(ms);
            allowance.media(now, 800_000, media_percent as usize);
            sent += u64::from(allowance.take(now, 800_000, 1_000) == Verdict::Send);
        }
        sent
    }

    #[test]
    fn what_media_leave_may_be_used_and_a_tenth_always() {
        assert!((390..=410).contains(&(again(70))), "{}", again(70));
        assert!((95..=105).contains(&(again(100))), "{}", again(100));
    }
}
