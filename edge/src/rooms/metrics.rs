//! How well media flow, as operators see it: distributions over all streams of this edge. No label names a call or a person.
//!
//! Each stream is observed once per `QUALITY_INTERVAL_MS`, from the same reports that people are told.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, Registry};
use sfu::{PeerId, PeerReport};
use shared::id::CallId;

/// Shares of packets lost: none, what a good line loses, what retransmissions repair (10 %), and what they do not.
const LOSS: [f64; 8] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3];
/// Seconds of jitter: a cable's, wireless networks', and more than players' buffers hold.
const JITTER: [f64; 7] = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3];
/// Seconds of round trip: a town, a continent, the world (ITU-T G.114 wants 0.3 at most for talking), and lines that are full.
const ROUND_TRIP: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0];
/// Bits a second: silence, speech, the three sizes of a camera, a screen.
const BITRATE: [f64; 8] = [8e3, 3.2e4, 6.4e4, 1.5e5, 5e5, 1e6, 2e6, 4e6];

/// The metrics, and what was counted of each session before.
pub(super) struct Metrics {
    loss: HistogramVec,
    jitter: HistogramVec,
    bitrate: HistogramVec,
    round_trip: HistogramVec,
    asked_again: IntCounter,
    keyframes: IntCounter,
    /// As of each room's last report, which may be missed some times.
    counted: HashMap<CallId, HashMap<PeerId, Counted>>,
}

/// Counters of a session when it was last seen.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    asked_again: u64,
    keyframes: u64,
}

/// Which way a stream flows.
const PUBLISHED: &str = "published";
const RECEIVED: &str = "received";

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            HistogramVec::new(options, &["direction"])
        };
        let metrics = Self {
            loss: histogram("callreel_media_loss_ratio", "Share of a stream's packets lost of late", &LOSS)?,
            jitter: histogram("callreel_media_jitter_seconds", "Interarrival jitter of a stream", &JITTER)?,
            bitrate: histogram("callreel_media_bitrate_bps", "Bits a second of a stream of late", &BITRATE)?,
            round_trip: histogram(
                "callreel_media_round_trip_seconds",
                "Round trip to a receiver",
                &ROUND_TRIP,
            )?,
            asked_again: IntCounter::new(
                "callreel_media_packets_asked_again_total",
                "Packets that receivers asked for again (NACK)",
            )?,
            keyframes: IntCounter::new(
                "callreel_media_keyframes_asked_total",
                "Keyframes that publishers were asked for (PLI)",
            )?,
            counted: HashMap::new(),
        };
        for histogram in [&metrics.loss, &metrics.jitter, &metrics.bitrate, &metrics.round_trip] {
            registry.register(Box::new(histogram.clone()))?;
        }
        registry.register(Box::new(metrics.asked_again.clone()))?;
        registry.register(Box::new(metrics.keyframes.clone()))?;
        Ok(metrics)
    }

    /// Takes in the figures of a call's room. Streams that stand still tell nothing of the network.
    pub(super) fn observe(&mut self, call: &CallId, peers: &[PeerReport]) {
        let before = self.counted.remove(call).unwrap_or_default();
        let mut counted = HashMap::with_capacity(peers.len());
        for peer in peers {
            for track in peer.published.iter().filter(|track| track.bitrate_bps > 0) {
                self.stream(PUBLISHED, track.bitrate_bps, track.loss, track.jitter);
            }
            for leg in peer.received.iter().filter(|leg| leg.bitrate_bps > 0) {
                self.stream(RECEIVED, leg.bitrate_bps, leg.loss, leg.jitter);
                if let Some(round_trip) = leg.round_trip {
                    self.round_trip.with_label_values(&[RECEIVED]).observe(round_trip.as_secs_f64());
                }
            }
            let before = before.get(&peer.peer).copied().unwrap_or_default();
            counted.insert(peer.peer, self.count(peer, before));
        }
        self.counted.insert(call.clone(), counted);
    }

    /// Forgets the rooms that are no more.
    pub(super) fn forget_all_but(&mut self, calls: &[CallId]) {
        let there: HashSet<&CallId> = calls.iter().collect();
        self.counted.retain(|call, _| there.contains(call));
    }

    fn stream(&self, direction: &str, bitrate_bps: u64, loss: f32, jitter: Duration) {
        self.bitrate.with_label_values(&[direction]).observe(bitrate_bps as f64);
        self.loss.with_label_values(&[direction]).observe(loss.into());
        self.jitter.with_label_values(&[direction]).observe(jitter.as_secs_f64());
    }

    fn count(&self, peer: &PeerReport, before: Counted) -> Counted {
        let keyframes = peer.published.iter().map(|track| track.keyframe_requests).sum();
        let now = Counted { asked_again: peer.asked_again, keyframes };
        self.asked_again.inc_by(now.asked_again.saturating_sub(before.asked_again));
        // A track that ended takes its count along.
        self.keyframes.inc_by(now.keyframes.saturating_sub(before.keyframes));
        now
    }
}

#[cfg(test)]
mod tests {
    use sfu::{RoomId, User};

    use super::*;

    fn report(peer: u64, asked_again: u64) -> PeerReport {
        PeerReport {
            room: RoomId::new("room"),
            peer: PeerId(peer),
            user: User::new("ann"),
            published: Vec::new(),
            received: Vec::new(),
            estimate_bps: 0,
            asked_again,
        }
    }

    #[test]
    fn what_was_counted_is_counted_once_though_a_report_was_missed() {
        let mut metrics = Metrics::register(&Registry::new()).unwrap();
        let (call, other) = (CallId::generate(), CallId::generate());
        let calls = [call.clone(), other.clone()];
        metrics.observe(&call, &[report(1, 5), report(2, 1)]);
        for _ in 0..3 {
            metrics.forget_all_but(&calls);
            metrics.observe(&other, &[]);
        }
        metrics.observe(&call, &[report(1, 7)]);
        assert_eq!(metrics.asked_again.get(), 5 + 1 + 2);
        assert_eq!(metrics.counted[&call].len(), 1, "the second has left");
        metrics.forget_all_but(&calls[1..]);
        assert_eq!(metrics.counted.keys().collect::<Vec<_>>(), [&other]);
    }
}
