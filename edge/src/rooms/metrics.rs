//! How well media flow, as operators see it: distributions over all streams of this edge. No label names a call or a person.
//!
//! Each stream is observed once per `QUALITY_INTERVAL_MS`, from the same reports that people are told.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, Registry};
use sfu::{PeerId, PeerReport};

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
    counted: HashMap<PeerId, Counted>,
}

/// Counters of a session when it was last seen.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    asked_again: u64,
    keyframes: u64,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Seen {
    /// In this interval.
    #[default]
    Now,
    Before,
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

    /// Takes in a room's figures. Streams that stand still tell nothing of the network.
    pub(super) fn observe(&mut self, peers: &[PeerReport]) {
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
            self.count(peer);
        }
    }

    /// To be called when all rooms were observed.
    pub(super) fn forget_the_gone(&mut self) {
        self.counted.retain(|_, counted| counted.seen == Seen::Now);
        self.counted.values_mut().for_each(|counted| counted.seen = Seen::Before);
    }

    fn stream(&self, direction: &str, bitrate_bps: u64, loss: f32, jitter: Duration) {
        self.bitrate.with_label_values(&[direction]).observe(bitrate_bps as f64);
        self.loss.with_label_values(&[direction]).observe(loss.into());
        self.jitter.with_label_values(&[direction]).observe(jitter.as_secs_f64());
    }

    fn count(&mut self, peer: &PeerReport) {
        let keyframes = peer.published.iter().map(|track| track.keyframe_requests).sum();
        let now = Counted { asked_again: peer.asked_again, keyframes, seen: Seen::Now };
        let before = self.counted.insert(peer.peer, now).unwrap_or_default();
        self.asked_again.inc_by(now.asked_again.saturating_sub(before.asked_again));
        // A track that ended takes its count along.
        self.keyframes.inc_by(now.keyframes.saturating_sub(before.keyframes));
    }
}
