//! One stream of a publisher as it comes in: a simulcast layer, or the whole track. It must not know who gets it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::{Look, Size, Starts};
use crate::keyframe::Requests;
use crate::layers::{Flow, Layer};
use crate::leg::timestamp::ClockMap;
use crate::packet::Packet;
use crate::peer::Stream;
use crate::quality::{Incoming, Quality};

use super::figures::Figures;

/// A layer without a packet for this long does not flow: its publisher has turned it off. Three frames of a slow screen share.
const FLOWS_WITHIN: Duration = Duration::from_secs(1);

/// The bitrate is averaged over this long: a dozen frames, so that one keyframe does not double it.
const METER: Duration = Duration::from_millis(500);

/// What a simulcast layer is taken for until it was measured: what Chromium makes of 1280x720.
const ASSUMED_BPS: [u64; 3] = [150_000, 500_000, 1_500_000];

/// One stream of the publisher.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) stream: Arc<Stream>,
    pub(crate) requests: Requests,
    pub(crate) layer: Layer,
    /// NTP and RTP time of the last sender report.
    pub(crate) clock: Option<ClockMap>,
    /// Packets that were more than the publisher may send.
    pub(crate) over_limit: u64,
    incoming: Incoming,
    figures: Figures,
    meter: Meter,
    size: Option<Size>,
    last: Instant,
}

impl Arrivals {
    /// `position`: how many layers came before it.
    pub(crate) fn new(now: Instant, stream: &Arc<Stream>, position: usize) -> Self {
        let layer = layer_of(&stream.rid, position);
        let assumed = if stream.rid.is_empty() { 0 } else { ASSUMED_BPS[layer as usize] };
        Self {
            stream: Arc::clone(stream),
            requests: Requests::default(),
            layer,
            clock: None,
            over_limit: 0,
            incoming: Incoming::new(now, stream.codec.clock_rate),
            figures: Figures::new(now),
            meter: Meter { since: now, bytes: 0, bps: assumed },
            size: None,
            last: now,
        }
    }

    /// A packet of it.
    pub(crate) fn count(&mut self, now: Instant, packet: &Packet, look: &Look) {
        let bytes = packet.size();
        self.last = now;
        self.incoming.packet(now, packet.sequence, packet.timestamp, bytes);
        self.meter.bytes += bytes as u64;
        if let Starts::Keyframe(size) = look.starts {
            self.requests.came();
            self.size = size.or(self.size);
        }
    }

    /// Whether packets come.
    pub(crate) fn flows(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FLOWS_WITHIN
    }

    /// What flows, as the choice of layers sees it.
    pub(crate) fn flow(&mut self, now: Instant) -> Flow {
        Flow { bitrate_bps: self.meter.bps(now), size: self.size }
    }

    /// Packets and bytes since the beginning, and the figures of the last interval.
    pub(crate) fn figures(&mut self, now: Instant) -> ((u64, u64), Quality) {
        let incoming = &mut self.incoming;
        let quality = self.figures.renew(now, || incoming.interval(now));
        (self.incoming.totals(), quality)
    }
}

/// The place of a layer by its usual names; by the order in which layers came for others. Without simulcast it is the highest.
fn layer_of(rid: &str, position: usize) -> Layer {
    match rid {
        "" | "f" | "high" => Layer::F,
        "q" | "l" | "low" => Layer::Q,
        "h" | "m" | "medium" => Layer::H,
        _ => Layer::ALL[position.min(Layer::ALL.len() - 1)],
    }
}

/// Bits a second of late.
#[derive(Debug)]
struct Meter {
    since: Instant,
    bytes: u64,
    bps: u64,
}

impl Meter {
    fn bps(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.since);
        if passed >= METER {
            let measured = (self.bytes as f64 * 8.0 / passed.as_secs_f64()) as u64;
            self.bps = if self.bps == 0 { measured } else { self.bps.midpoint(measured) };
            (self.since, self.bytes) = (now, 0);
        }
        self.bps
    }
}
