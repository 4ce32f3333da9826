//! A published track: its layers as they come in, and its legs as they go out.
//!
//! It must not know connections: it says which packet goes to whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::codec::{Look, Starts};
use crate::command::{Layer as Wanted, Muting};
use crate::format::{Codec, Extensions};
use crate::forward::{Leg, Rid, rank};
use crate::ids::{Medium, Mid, PeerId, User};
use crate::keyframe::Keyframes;
use crate::packet::Packet;
use crate::peer::Stream;
use crate::tap::{StreamInfo, Tap, TapMark};

/// A layer without a packet for this long does not flow: its publisher has turned it off. Three frames of a slow screen share.
const FLOWS_WITHIN: Duration = Duration::from_secs(1);

/// A track of this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TrackId(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) owner: PeerId,
    pub(crate) user: User,
    pub(crate) medium: Medium,
    pub(crate) mid: Mid,
    pub(crate) codec: Codec,
    pub(crate) extensions: Extensions,
    pub(crate) layers: Vec<Layer>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) muting: Muting,
    /// The layer that the recorder gets.
    tapped: Option<u32>,
}

/// One stream of the publisher.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) stream: Arc<Stream>,
    pub(crate) keyframes: Keyframes,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    rank: usize,
    last: Instant,
    /// NTP and RTP time of the last sender report.
    report: Option<(u64, u32)>,
}

impl Layer {
    pub(crate) fn rid(&self) -> &Rid {
        &self.stream.rid
    }

    fn flows(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FLOWS_WITHIN
    }
}

/// What a track gives to its subscribers for one packet.
pub(crate) struct Out {
    pub(crate) peer: PeerId,
    pub(crate) packet: Packet,
    /// Of the new layer, when it has changed: so that the receiver knows its clock at once.
    pub(crate) report: Option<crate::forward::Report>,
}

impl Track {
    pub(crate) fn new(
        id: TrackId,
        (owner, user): (PeerId, User),
        medium: Medium,
        stream: &Stream,
        muting: Muting,
    ) -> Self {
        Self {
            id,
            owner,
            user,
            medium,
            mid: stream.mid.clone(),
            codec: stream.codec.clone(),
            extensions: stream.extensions.clone(),
            layers: Vec::new(),
            legs: Vec::new(),
            muting,
            tapped: None,
        }
    }

    /// A stream of it has sent its first packet.
    pub(crate) fn add_layer(&mut self, now: Instant, stream: &Arc<Stream>) {
        let rank = rank(&stream.rid, self.layers.len());
        // The publisher has begun anew under another SSRC.
        self.layers.retain(|layer| layer.stream.rid != stream.rid && layer.stream.ssrc != stream.ssrc);
        let (stream, keyframes) = (Arc::clone(stream), Keyframes::default());
        self.layers.push(Layer { stream, keyframes, packets: 0, bytes: 0, rank, last: now, report: None });
    }

    /// A packet of it: counts it, and turns it into what each subscriber gets.
    pub(crate) fn forward(&mut self, now: Instant, packet: &Packet, out: &mut Vec<Out>) {
        let Some(at) = self.layers.iter().position(|layer| layer.stream.ssrc == packet.ssrc) else { return };
        let keyframe = self.medium.is_picture() && look(&self.codec, &packet.payload).is_keyframe();
        let layer = &mut self.layers[at];
        layer.last = now;
        layer.packets += 1;
        layer.bytes += packet.payload.len() as u64;
        if keyframe {
            layer.keyframes.came();
        }
        if self.muting == Muting::Muted {
            self.legs.iter_mut().for_each(Leg::pause);
            return;
        }
        let report = self.layers[at].report;
        for leg in &mut self.legs {
            let Some(former) = choose(&mut self.layers, now, leg.source(), leg.up_to, packet.ssrc, keyframe)
            else {
                continue;
            };
            let Some(taken) = leg.take(now, packet, self.codec.clock_rate) else { continue };
            let report = report
                .filter(|_| former != Some(packet.ssrc))
                .and_then(|(ntp, rtp)| leg.report(now, ntp, rtp));
            out.push(Out { peer: leg.peer, packet: taken, report });
        }
    }

    /// Gives a packet to the recorder, if it is of the layer that is recorded.
    pub(crate) fn tap(
        &mut self,
        now: Instant,
        arrival_us: i64,
        packet: &Packet,
        tap: &mut dyn Tap,
        wire: &mut BytesMut,
    ) {
        if self.muting == Muting::Muted {
            return;
        }
        let look = look(&self.codec, &packet.payload);
        let keyframe = self.medium.is_picture() && look.is_keyframe();
        let Some(former) = choose(&mut self.layers, now, self.tapped, Wanted::Full, packet.ssrc, keyframe)
        else {
            return;
        };
        if former != Some(packet.ssrc) {
            self.tapped = Some(packet.ssrc);
            if let Some(layer) = self.layers.iter().find(|layer| layer.stream.ssrc == packet.ssrc) {
                tap.stream(&self.user, self.medium, &describe(&layer.stream));
            }
        }
        if let Starts::Keyframe(Some(size)) = look.starts {
            let pixels = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
            let mark = TapMark::Keyframe { width: pixels(size.width), height: pixels(size.height) };
            tap.mark(&self.user, Some(self.medium), arrival_us, mark);
        }
        wire.clear();
        packet.write(wire);
        tap.rtp(&self.user, self.medium, arrival_us, wire);
    }

    /// A recording begins: it has seen nothing yet.
    pub(crate) fn begin_tap(&mut self) {
        self.tapped = None;
        self.want_keyframes();
    }

    /// Everybody needs a keyframe.
    pub(crate) fn want_keyframes(&mut self) {
        if self.medium.is_picture() {
            self.layers.iter_mut().for_each(|layer| layer.keyframes.want());
        }
    }

    /// A subscriber needs a keyframe of what it gets.
    pub(crate) fn want_keyframe_for(&mut self, leg: u32) {
        let Some(source) = self.legs.iter().find(|other| other.ssrc == leg).and_then(Leg::source) else {
            return;
        };
        if let Some(layer) = self.layers.iter_mut().find(|layer| layer.stream.ssrc == source) {
            layer.keyframes.want();
        }
    }

    /// The publisher tells how its clock goes. Returns what the subscribers of that layer are told.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        ssrc: u32,
        ntp: u64,
        rtp: u32,
    ) -> Vec<(PeerId, crate::forward::Report)> {
        let Some(layer) = self.layers.iter_mut().find(|layer| layer.stream.ssrc == ssrc) else {
            return Vec::new();
        };
        layer.report = Some((ntp, rtp));
        let legs = self.legs.iter_mut().filter(|leg| leg.source() == Some(ssrc));
        legs.filter_map(|leg| Some((leg.peer, leg.report(now, ntp, rtp)?))).collect()
    }

    /// When a keyframe request is due at the latest.
    pub(crate) fn next_keyframe(&self) -> Option<Instant> {
        self.layers.iter().filter_map(|layer| layer.keyframes.next()).min()
    }
}

/// Whether a receiver that gets `source` and wants at most `up_to` shall get this packet, and what it got before. Layers change only
/// at a keyframe of the new one, which is asked for.
fn choose(
    layers: &mut [Layer],
    now: Instant,
    source: Option<u32>,
    up_to: Wanted,
    ssrc: u32,
    keyframe: bool,
) -> Option<Option<u32>> {
    if layers.len() == 1 {
        return Some(source);
    }
    let best = best(layers, now, up_to)?;
    if source == Some(best) || source.is_none() && ssrc != best {
        return (source == Some(ssrc)).then_some(source);
    }
    if ssrc == best && keyframe {
        return Some(source);
    }
    if ssrc == best
        && let Some(layer) = layers.iter_mut().find(|layer| layer.stream.ssrc == best)
    {
        layer.keyframes.want();
    }
    (source == Some(ssrc)).then_some(source)
}

/// The best layer that flows and is not above `up_to`; the lowest one when all are.
fn best(layers: &[Layer], now: Instant, up_to: Wanted) -> Option<u32> {
    let limit = up_to as usize;
    let flowing = || layers.iter().filter(|layer| layer.flows(now));
    let fitting = flowing().filter(|layer| layer.rank <= limit).max_by_key(|layer| layer.rank);
    fitting.or_else(|| flowing().min_by_key(|layer| layer.rank)).map(|layer| layer.stream.ssrc)
}

fn describe(stream: &Stream) -> StreamInfo {
    StreamInfo {
        ssrc: stream.ssrc,
        payload_type: stream.codec.payload_type,
        mime: stream.codec.mime.clone(),
        clock_rate: stream.codec.clock_rate,
        channels: stream.codec.channels,
        fmtp: stream.codec.fmtp.clone(),
        rid: stream.rid.to_string(),
        extensions: stream.extensions.0.iter().map(|(id, uri)| (*id, uri.to_string())).collect(),
    }
}

/// What a payload says of itself. One of a codec that cannot be asked counts as a keyframe: better a torn picture than none.
fn look(codec: &Codec, payload: &[u8]) -> Look {
    let unknown = Look { starts: Starts::Keyframe(None), ..Look::ORDINARY };
    codec.known().map_or(unknown, |known| known.look(payload))
}
