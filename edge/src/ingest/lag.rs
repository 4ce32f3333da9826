//! How far the spool is behind the capture: closed segments that are on this machine's disk alone. Told to Prometheus, and to the
//! log when it lasts.
//!
//! This file must not be in the way of a chunk: it looks on, and nothing waits for it.

use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use shared::capture::{Capture, Lag};
use shared::clock::SharedClock;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Between two looks at the capture's folders.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A spool is behind when a segment has waited for so long: several tries at moving it have failed by then.
const BEHIND_AFTER: Duration = Duration::from_secs(30);
/// Between two warnings of a spool that stays behind.
const WARN_EVERY: Duration = Duration::from_secs(5 * 60);

/// What Prometheus is told.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    bytes: IntGauge,
    seconds: IntGauge,
    /// Moves to the spool that failed and are tried again.
    pub(super) failures: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            bytes: IntGauge::new(
                "callreel_spool_lag_bytes",
                "Bytes of closed segments that have not reached the spool",
            )?,
            seconds: IntGauge::new(
                "callreel_spool_lag_seconds",
                "Seconds that the oldest closed segment waits to reach the spool",
            )?,
            failures: IntCounter::new(
                "callreel_spool_failures_total",
                "Moves of segments to the spool that failed and are tried again",
            )?,
        };
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    fn set(&self, bytes: u64, waits: Duration) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.seconds.set(i64::try_from(waits.as_secs()).unwrap_or(i64::MAX));
    }
}

/// Looks until the token is cancelled.
pub(super) async fn run(capture: Capture, clock: SharedClock, metrics: Metrics, stop: CancellationToken) {
    let (mut looks, mut teller) = (interval(LOOK_EVERY), Teller::default());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let Lag { bytes, since } = match capture.lag().await {
            Ok(lag) => lag,
            Err(error) => {
                warn!("cannot tell how far the spool is behind: {error}");
                continue;
            }
        };
        // A clock that was set back makes it none.
        let waits = since.and_then(|since| (clock.now() - since).to_std().ok()).unwrap_or_default();
        metrics.set(bytes, waits);
        match teller.tell(waits, Instant::now()) {
            Some(Told::Behind) => warn!(
                "the spool is behind: {bytes} bytes are on this machine alone, the oldest for {} s; \
                 calls go on, and it follows when the spool is back",
                waits.as_secs()
            ),
            Some(Told::CaughtUp) => info!("the spool has caught up with the capture"),
            None => {}
        }
    }
}

/// What there is to be said.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Behind,
    CaughtUp,
}

/// Says each thing once, and again when it lasts.
#[derive(Debug, Default)]
struct Teller {
    warned_at: Option<Instant>,
}

impl Teller {
    fn tell(&mut self, waits: Duration, now: Instant) -> Option<Told> {
        match self.warned_at {
            Some(_) if waits < BEHIND_AFTER => {
                self.warned_at = None;
                Some(Told::CaughtUp)
            }
            Some(at) if now < at + WARN_EVERY => None,
            _ if waits < BEHIND_AFTER => None,
            _ => {
                self.warned_at = Some(now);
                Some(Told::Behind)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_stays_behind_is_told_now_and_then_and_its_return_once() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let long = BEHIND_AFTER * 2;
        assert_eq!(teller.tell(Duration::ZERO, start), None);
        assert_eq!(teller.tell(long, start), Some(Told::Behind));
        assert_eq!(teller.tell(long, start + LOOK_EVERY), None);
        assert_eq!(teller.tell(long, start + WARN_EVERY), Some(Told::Behind));
        assert_eq!(teller.tell(Duration::ZERO, start + WARN_EVERY), Some(Told::CaughtUp));
        assert_eq!(teller.tell(Duration::ZERO, start + WARN_EVERY), None);
    }
}
