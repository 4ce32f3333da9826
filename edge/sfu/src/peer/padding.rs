//! What is sent beyond media while the estimator looks for room: recent packets once more, as retransmissions, evenly paced.
//! Unlike empty padding a receiver may even have use for them.
//!
//! It must not know why or how much: [`Probe`] says it.

use std::time::{Duration, Instant};

use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

use crate::estimate::Probe;

/// Padding leaves in slices this far apart: a packet or two each at the rates of a call.
const SLICE: Duration = Duration::from_millis(5);

/// So many packets are repeated in turn: fewer than a receiver remembers, so that it drops them as known.
const REPEATED: u16 = 16;

/// At most so many packets in a slice, whatever the rate: 20 Mbit/s.
const MAX_IN_SLICE: usize = 12;

/// A packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) bytes: usize,
}

/// A probe that is being sent.
#[derive(Debug)]
pub(super) struct Padding {
    probe: Probe,
    began: Instant,
    next: Instant,
    /// Sent since then, media included.
    bytes: u64,
    newest: Sent,
    back: u16,
}

impl Padding {
    pub(super) fn new(now: Instant, probe: Probe, newest: Sent) -> Self {
        Self { probe, began: now, next: now, bytes: 0, newest, back: 0 }
    }

    /// A packet has left.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// When to call [`Self::due`].
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.began + self.probe.duration
    }

    /// What to send again now, as the receiver would ask for it.
    pub(super) fn due(&mut self, now: Instant) -> Option<TransportLayerNack> {
        if now < self.next || self.is_over(now) {
            return None;
        }
        self.next = now + SLICE;
        let passed = (now - self.began + SLICE).as_micros() as u64;
        let owed = (self.probe.rate_bps * passed / 8_000_000).saturating_sub(self.bytes);
        let packets = usize::try_from(owed).unwrap_or(usize::MAX) / self.newest.bytes.max(1);
        let nacks: Vec<NackPair> = (0..packets.min(MAX_IN_SLICE)).map(|_| self.again()).collect();
        (!nacks.is_empty()).then_some(TransportLayerNack {
            sender_ssrc: 0,
            media_ssrc: self.newest.ssrc,
            nacks,
        })
    }

    fn again(&mut self) -> NackPair {
        let sequence = self.newest.sequence.wrapping_sub(self.back);
        self.back = (self.back + 1) % REPEATED;
        NackPair::new(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_media_count() {
        let start = Instant::now();
        let probe = Probe { rate_bps: 1_600_000, duration: Duration::from_millis(60) };
        let mut padding = Padding::new(start, probe, Sent { ssrc: 7, sequence: 3, bytes: 1_000 });
        let (mut sent, mut now) = (0, start);
        while !padding.is_over(now) {
            let packets = padding.due(now).map_or(0, |request| request.nacks.len());
            (0..packets).for_each(|_| padding.sent(1_000));
            sent += packets;
            if now == start + 2 * SLICE {
                padding.sent(4_000);
            }
            now = padding.next();
        }
        assert_eq!(sent, 8, "12,000 bytes in all");
        assert_eq!(padding.due(now), None);
    }
}
