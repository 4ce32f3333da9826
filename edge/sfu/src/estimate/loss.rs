//! The bound that follows from loss: draft-ietf-rmcat-gcc-02 section 6, less the loss that does not come from us.
//!
//! Radio links lose packets at any rate; taken as it stands, the draft's rule (above 10 %: decrease) would end at
//! nothing on a link that loses 11 %. So loss is judged above its own slow mean: a queue that overflows shows at once,
//! and the decreases it causes end it long before the mean has learned it, while random loss, which no decrease ends,
//! is learned within seconds. What is learned is bounded by [`MAX_INHERENT`]. Must not know packets or delay.

use std::time::{Duration, Instant};

/// Above this loss the bound decreases, below the other it grows (gcc-02 6).
const HIGH: f64 = 0.10;
const LOW: f64 = 0.02;

/// Growth a second below [`LOW`] (gcc-02 6: 1.05 per feedback of about a second).
const GROWTH: f64 = 1.05;

/// Time constants of the loss that is judged and of the loss that is taken as the link's own.
const FAST: f64 = 0.8;
const SLOW: f64 = 6.0;

/// No more than this is taken as the link's own: a call at 20 % loss is no call.
const MAX_INHERENT: f64 = 0.20;

/// Time between two decreases, besides a round trip (gcc-02 6: at most one per feedback; libwebrtc: 300 ms + RTT).
const DECREASE_INTERVAL: Duration = Duration::from_millis(300);

/// Fewer packets than this are collected with the next ones: one lost of ten is no 10 %.
const LEAST_PACKETS: u32 = 20;

#[derive(Debug)]
pub(crate) struct LossBound {
    bps: f64,
    lost: i64,
    packets: u32,
    fast: f64,
    slow: f64,
    last: Instant,
    last_decrease: Option<Instant>,
}

impl LossBound {
    /// With a bound to begin with: as good as none, where delay is known too.
    pub(crate) fn new(now: Instant, bps: f64) -> Self {
        Self { bps, lost: 0, packets: 0, fast: 0.0, slow: 0.0, last: now, last_decrease: None }
    }

    pub(crate) fn bps(&self) -> f64 {
        self.bps
    }

    /// The link's own loss, 0 to [`MAX_INHERENT`].
    pub(crate) fn inherent(&self) -> f64 {
        self.slow.min(MAX_INHERENT)
    }

    /// Whether loss speaks against sending more.
    pub(crate) fn is_calm(&self) -> bool {
        self.fast - self.inherent() < HIGH / 2.0
    }

    pub(crate) fn raise(&mut self, bps: f64) {
        self.bps = self.bps.max(bps);
    }

    /// Packets of which so many are missing; less than none when packets came that were called missing before.
    pub(crate) fn told(&mut self, packets: u32, lost: i64) {
        self.packets += packets;
        self.lost += lost;
    }

    /// Judges what was collected. `sending` is the estimate that was kept to; the bound goes from `least`, which goes through, to
    /// `most`.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        sending: f64,
        (least, most): (f64, f64),
        response: Duration,
    ) {
        if self.packets < LEAST_PACKETS {
            return;
        }
        let share = (self.lost.max(0) as f64 / f64::from(self.packets)).min(1.0);
        let passed = now.saturating_duration_since(self.last).as_secs_f64().min(2.0);
        (self.lost, self.packets, self.last) = (self.lost.min(0), 0, now);
        self.fast += (share - self.fast) * (1.0 - (-passed / FAST).exp());
        self.slow += (share - self.slow) * (1.0 - (-passed / SLOW).exp());
        let (excess, before) = (self.fast - self.inherent(), self.bps);
        if excess > HIGH {
            self.decrease(now, sending, excess, response);
            self.bps = self.bps.max(least.min(before));
        } else if excess < LOW {
            self.bps = (self.bps * GROWTH.powf(passed)).min(most.max(self.bps));
        }
    }

    fn decrease(&mut self, now: Instant, sending: f64, excess: f64, response: Duration) {
        let wait = DECREASE_INTERVAL + response;
        if self.last_decrease.is_some_and(|at| now.saturating_duration_since(at) < wait) {
            return;
        }
        self.last_decrease = Some(now);
        self.bps = self.bps.min(sending) * (1.0 - 0.5 * excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: Duration = Duration::from_millis(100);
    const STEP: Duration = Duration::from_millis(200);

    #[test]
    fn random_loss_is_learned_and_does_not_end_at_nothing() {
        let start = Instant::now();
        let mut bound = LossBound::new(start, 1e6);
        for step in 1..300 {
            bound.told(100, 15);
            bound.update(start + STEP * step, bound.bps(), (0.0, 2e6), RESPONSE);
        }
        assert!(bound.bps() > 1e6, "{}", bound.bps());
        assert!((bound.inherent() - 0.15).abs() < 0.01);
    }

    #[test]
    fn a_policer_is_obeyed_within_five_seconds() {
        let start = Instant::now();
        let mut bound = LossBound::new(start, 1e6);
        for step in 1..25 {
            let lost = (1.0 - 5e5 / bound.bps()).max(0.0) * 100.0;
            bound.told(100, lost as i64);
            bound.update(start + STEP * step, bound.bps(), (0.0, 1e6), RESPONSE);
        }
        assert!(bound.bps() < 6.5e5, "{}", bound.bps());
    }

    #[test]
    fn packets_that_came_late_are_no_loss() {
        let start = Instant::now();
        let mut bound = LossBound::new(start, 1e6);
        for step in 1..50 {
            bound.told(30, if step % 2 == 0 { 10 } else { -10 });
            bound.update(start + STEP * step, 1e6, (0.0, 1e6), RESPONSE);
        }
        assert!(bound.bps() > 0.8e6, "{}", bound.bps());
    }
}
