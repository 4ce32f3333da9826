//! Probing: for a moment more is sent than the estimate allows, and what arrives of it tells whether there is room.
//!
//! A forwarder cannot make its media larger, so without probes the estimate would stay at 1.5 times the layer that is
//! sent. The caller fills up with padding; media sent meanwhile counts as well. Must not know RTP.

use crate::twcc::Told;
use std::time::{Duration, Instant};

/// What the caller is asked to do: from now on and for so long, send at this rate, media included, evenly paced; what
/// media does not fill is filled with padding (retransmissions of recent packets on the RTX stream, or RTP padding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Bits a second in all.
    pub rate_bps: u64,
    /// For so long.
    pub duration: Duration,
}

impl Probe {
    /// Bytes in all, media included.
    pub fn bytes(&self) -> u64 {
        self.rate_bps * self.duration.as_micros() as u64 / 8_000_000
    }
}

/// Long enough for ten packets of padding at 400 kbit/s, short enough that a probe at twice the capacity leaves no more
/// than 60 ms of queue.
pub(crate) const DURATION: Duration = Duration::from_millis(60);

/// A probe asks for this multiple of the estimate at most.
const STEP: f64 = 2.0;

/// And for this much more than is wanted: what arrives is measured a little lower than what was asked for.
const ABOVE_WANTED: f64 = 1.1;

/// Time between two probes; doubled after each that found nothing, up to the longest, and shortened again by success.
const INTERVAL: Duration = Duration::from_secs(2);
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// No probe for this long after overuse.
const CALM: Duration = Duration::from_secs(3);

/// Feedback is waited for so long after the probe.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fewer packets tell nothing.
const LEAST_PACKETS: u32 = 5;

/// Below this share of what was sent, what arrives is the path's capacity, of which a little is left free.
const SATURATED: f64 = 0.9;
const HEADROOM: f64 = 0.95;

#[derive(Debug)]
struct Running {
    ends: Instant,
    packets: u32,
    bytes: u64,
    sent: Ends<u64>,
    arrived: Ends<i64>,
}

/// First and last instant with the size of the packet there, in microseconds.
#[derive(Debug, Default)]
struct Ends<T> {
    first: Option<(T, u32)>,
    last: Option<(T, u32)>,
}

impl<T: Copy + Ord> Ends<T> {
    fn note(&mut self, at: T, bytes: u32) {
        if self.first.is_none_or(|it| at < it.0) {
            self.first = Some((at, bytes));
        }
        if self.last.is_none_or(|it| at >= it.0) {
            self.last = Some((at, bytes));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Prober {
    running: Option<Running>,
    last: Option<Instant>,
    interval: Duration,
}

impl Prober {
    pub(crate) fn new() -> Self {
        Self { running: None, last: None, interval: INTERVAL }
    }

    /// Whether packets sent now belong to a probe.
    pub(crate) fn is_sending(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|it| now <= it.ends)
    }

    /// A probe, if it is time for one and something would be gained.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        estimate: f64,
        wanted: f64,
        overused: Option<Instant>,
    ) -> Option<Probe> {
        let soon = |at: Option<Instant>, wait| at.is_some_and(|at| now.saturating_duration_since(at) < wait);
        if wanted <= estimate
            || self.running.is_some()
            || soon(self.last, self.interval)
            || soon(overused, CALM)
        {
            return None;
        }
        self.last = Some(now);
        let (sent, arrived) = (Ends::default(), Ends::default());
        self.running = Some(Running { ends: now + DURATION, packets: 0, bytes: 0, sent, arrived });
        Some(Probe { rate_bps: (wanted * ABOVE_WANTED).min(estimate * STEP) as u64, duration: DURATION })
    }

    /// A packet of the probe arrived.
    pub(crate) fn arrived(&mut self, told: &Told, arrival_us: i64) {
        if let Some(running) = &mut self.running {
            running.packets += 1;
            running.bytes += u64::from(told.bytes);
            running.sent.note(told.sent_us, told.bytes);
            running.arrived.note(arrival_us, told.bytes);
        }
    }

    /// The path filled up meanwhile: what is known will do.
    pub(crate) fn abort(&mut self) {
        if self.running.take().is_some() {
            self.interval = (self.interval * 2).min(MAX_INTERVAL);
        }
    }

    /// The rate that went through, once the probe is over and told.
    pub(crate) fn finish(&mut self, now: Instant, newest_sent: Instant, estimate: f64) -> Option<f64> {
        let running = self.running.as_ref()?;
        if newest_sent <= running.ends && now < running.ends + PATIENCE {
            return None;
        }
        let found = self.running.take().and_then(|it| it.rate()).filter(|it| *it > estimate);
        self.interval = if found.is_some() { INTERVAL } else { (self.interval * 2).min(MAX_INTERVAL) };
        found
    }
}

impl Running {
    fn rate(&self) -> Option<f64> {
        if self.packets < LEAST_PACKETS {
            return None;
        }
        let (first_sent, last_sent) = (self.sent.first?, self.sent.last?);
        let (first_arrived, last_arrived) = (self.arrived.first?, self.arrived.last?);
        // The first packet's time is the end of what was before it, the last one's the begin of what is after it.
        let sent = rate(self.bytes - u64::from(last_sent.1), (last_sent.0 - first_sent.0) as f64)?;
        let came = rate(self.bytes - u64::from(first_arrived.1), (last_arrived.0 - first_arrived.0) as f64)?;
        Some(if came < sent * SATURATED { came * HEADROOM } else { came.min(sent) })
    }
}

fn rate(bytes: u64, micros: f64) -> Option<f64> {
    (micros > 1_000.0).then(|| bytes as f64 * 8e6 / micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twcc::{Fate, Mark};

    /// A probe of ten packets, 6 ms apart, that arrive so far apart.
    fn probed(apart_us: i64) -> Option<f64> {
        let (mut prober, now) = (Prober::new(), Instant::now());
        prober.start(now, 400e3, 5e6, None).unwrap();
        for index in 0..10 {
            let arrival = index * apart_us;
            let sent_us = index as u64 * 6_000;
            let told = Told { sent_us, bytes: 600, mark: Mark::Probe, fate: Fate::Arrived(arrival) };
            prober.arrived(&told, arrival);
        }
        let later = now + Duration::from_millis(200);
        assert_eq!(prober.finish(now, now, 400e3), None, "not over");
        prober.finish(later, later, 400e3)
    }

    #[test]
    fn what_goes_through_is_believed_and_no_more() {
        assert_eq!(probed(6_000), Some(800e3));
        assert_eq!(probed(1_000), Some(800e3));
        assert_eq!(probed(8_000), Some(600e3 * HEADROOM));
        assert_eq!(probed(20_000), None, "less than the estimate says nothing");
    }

    #[test]
    fn probes_are_rare_and_rarer_without_success() {
        let (mut prober, start) = (Prober::new(), Instant::now());
        assert_eq!(prober.start(start, 400e3, 300e3, None), None, "nothing to gain");
        let probe = prober.start(start, 400e3, 5e6, None).unwrap();
        assert_eq!((probe.rate_bps, probe.bytes()), (800_000, 6_000));
        let mut now = start;
        let mut count = 0;
        while now < start + Duration::from_secs(120) {
            now += Duration::from_millis(50);
            prober.finish(now, now, 400e3);
            count += u32::from(prober.start(now, 400e3, 5e6, None).is_some());
        }
        assert!((4..=8).contains(&count), "{count}");
        assert_eq!(Prober::new().start(start, 400e3, 5e6, Some(start)), None, "too soon after overuse");
    }
}
