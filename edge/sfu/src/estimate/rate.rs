//! The rate that follows from the delay: additive increase near the known capacity, multiplicative away from it, and a
//! decrease to 85 % of what arrives (draft-ietf-rmcat-gcc-02 section 5.5).
//!
//! Must not know packets.

use super::delay::Usage;
use std::time::{Duration, Instant};

/// Share of the arriving rate after overuse (gcc-02 5.5, beta).
pub(super) const DECREASE: f64 = 0.85;

/// Growth a second while the capacity is unknown (gcc-02 5.5, eta).
const GROWTH: f64 = 1.08;

/// No growth above this multiple of what arrives: what was never sent was never tried (gcc-02 5.5).
const UNTRIED: f64 = 1.5;
const UNTRIED_BPS: f64 = 10_000.0;

/// A packet as it counts for additive growth (gcc-02 5.5: expected packet size).
const PACKET_BITS: f64 = 1_200.0 * 8.0;

/// Additive growth is half a packet per response time, at least this much a second (libwebrtc).
const LEAST_GROWTH_BPS: f64 = 4_000.0;

/// Between two decreases, besides a round trip: the queue has to be seen draining first.
const DECREASE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct DelayRate {
    bps: f64,
    capacity: Capacity,
    last_update: Instant,
    last_decrease: Option<Instant>,
}

impl DelayRate {
    pub(crate) fn new(now: Instant, bps: f64) -> Self {
        Self { bps, capacity: Capacity::default(), last_update: now, last_decrease: None }
    }

    pub(crate) fn bps(&self) -> f64 {
        self.bps
    }

    pub(crate) fn last_decrease(&self) -> Option<Instant> {
        self.last_decrease
    }

    /// A probe went through at this rate: the path is wider than was known.
    pub(crate) fn raise(&mut self, bps: f64) {
        if bps > self.bps {
            self.bps = bps;
            self.capacity = Capacity::default();
        }
    }

    /// Takes a judgement of the delay, and the arriving rate where it is known.
    pub(crate) fn update(&mut self, now: Instant, usage: Usage, arriving: Option<f64>, response: Duration) {
        let passed = now.saturating_duration_since(self.last_update).as_secs_f64().min(1.0);
        self.last_update = now;
        match usage {
            Usage::Over => self.decrease(now, arriving, response),
            Usage::Under => {}
            Usage::Normal => self.increase(passed, arriving, response),
        }
    }

    fn increase(&mut self, passed: f64, arriving: Option<f64>, response: Duration) {
        let Some(arriving) = arriving else { return };
        if self.capacity.is_below(arriving) {
            self.capacity = Capacity::default();
        }
        let grown = if self.capacity.is_near(self.bps) {
            let a_second = PACKET_BITS / 2.0 / (response.as_secs_f64() + 0.1);
            self.bps + passed * a_second.max(LEAST_GROWTH_BPS)
        } else {
            self.bps * GROWTH.powf(passed)
        };
        self.bps = grown.min((arriving * UNTRIED + UNTRIED_BPS).max(self.bps));
    }

    fn decrease(&mut self, now: Instant, arriving: Option<f64>, response: Duration) {
        let wait = response.max(DECREASE_INTERVAL);
        if self.last_decrease.is_some_and(|at| now.saturating_duration_since(at) < wait) {
            return;
        }
        self.last_decrease = Some(now);
        if let Some(arriving) = arriving {
            self.capacity.note(arriving);
        }
        self.bps = self.bps.min(arriving.unwrap_or(self.bps) * DECREASE);
    }
}

/// The rate that arrived at overuse: mean and normalised variance, in kbit/s (libwebrtc's link capacity estimator).
#[derive(Debug, Clone, Copy, Default)]
struct Capacity(Option<(f64, f64)>);

impl Capacity {
    fn note(&mut self, bps: f64) {
        let kbps = bps / 1_000.0;
        self.0 = Some(match self.0 {
            None => (kbps, 0.4),
            Some((mean, variance)) => {
                let new = 0.95 * mean + 0.05 * kbps;
                let error = new - kbps;
                (new, (0.95 * variance + 0.05 * error * error / new.max(1.0)).clamp(0.4, 2.5))
            }
        });
    }

    /// Three deviations either side.
    fn bounds(self) -> Option<(f64, f64)> {
        let (mean, variance) = self.0?;
        let deviation = (variance * mean).sqrt();
        Some(((mean - 3.0 * deviation) * 1_000.0, (mean + 3.0 * deviation) * 1_000.0))
    }

    fn is_below(self, bps: f64) -> bool {
        self.bounds().is_some_and(|(_, high)| bps > high)
    }

    fn is_near(self, bps: f64) -> bool {
        self.bounds().is_some_and(|(low, _)| bps > low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: Duration = Duration::from_millis(100);

    fn seconds(rate: &mut DelayRate, from: Instant, count: u32, arriving: f64) -> Instant {
        for step in 1..=count * 10 {
            rate.update(from + Duration::from_millis(100) * step, Usage::Normal, Some(arriving), RESPONSE);
        }
        from + Duration::from_secs(u64::from(count))
    }

    #[test]
    fn it_grows_by_eight_percent_a_second_but_not_into_the_untried() {
        let start = Instant::now();
        let mut rate = DelayRate::new(start, 300_000.0);
        let now = seconds(&mut rate, start, 1, 300_000.0);
        assert!((rate.bps() - 324_000.0).abs() < 100.0, "{}", rate.bps());
        seconds(&mut rate, now, 60, 300_000.0);
        assert_eq!(rate.bps(), 460_000.0);
    }

    #[test]
    fn overuse_costs_a_decrease_and_growth_is_slow_near_the_capacity() {
        let start = Instant::now();
        let mut rate = DelayRate::new(start, 600_000.0);
        rate.update(start, Usage::Over, Some(500_000.0), RESPONSE);
        rate.update(start, Usage::Over, Some(400_000.0), RESPONSE);
        assert_eq!(rate.bps(), 425_000.0);
        rate.raise(470_000.0);
        assert_eq!(rate.bps(), 470_000.0);
        let later = start + Duration::from_secs(1);
        rate.update(later, Usage::Over, Some(500_000.0), RESPONSE);
        assert_eq!(rate.bps(), 425_000.0);
        let now = seconds(&mut rate, later, 10, 480_000.0);
        let near = rate.bps();
        seconds(&mut rate, now, 1, 480_000.0);
        assert!(rate.bps() - near < 30_000.0, "{near} to {}", rate.bps());
    }
}
