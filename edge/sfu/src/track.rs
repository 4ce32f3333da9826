//! A published track: its streams as they come in, and its legs as they go out.
//!
//! It must not know connections: it says which packet goes to whom.

pub(crate) mod figures;
mod holes;
pub(crate) mod recorder;
pub(crate) mod stream;

use std::time::Instant;

use std::sync::Arc;

use crate::codec::{Look, Starts};
use crate::command::Muting;
use crate::format::{Codec, Extensions};
use crate::forward::{Arriving, Leg, Taken};
use crate::ids::{Medium, Mid, PeerId, User};
use crate::layers::switch::Need;
use crate::layers::{Choice, Flow, Layer, Rank, Source, Wish};
use crate::leg::SenderReport;
use crate::leg::timestamp::ClockMap;
use crate::packet::Packet;
use crate::peer::Stream;
use crate::session::Wanted;

use recorder::Tapped;
use stream::Arrivals;

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
    pub(crate) layers: Vec<Arrivals>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) muting: Muting,
    /// When it took the place of one with another codec.
    pub(crate) replaced_at: Option<Instant>,
    /// Whether it was told that more comes than may.
    pub(crate) over_limit_told: bool,
    tapped: Tapped,
}

/// A packet on its way to a subscriber.
pub(crate) struct Out {
    pub(crate) peer: PeerId,
    pub(crate) taken: Taken,
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
            replaced_at: None,
            over_limit_told: false,
            tapped: Tapped::default(),
        }
    }

    /// A stream of it has sent its first packet, perhaps in place of another: the publisher may begin anew under another SSRC.
    pub(crate) fn add_layer(&mut self, now: Instant, stream: &Arc<Stream>) {
        let replaced = |layer: &Arrivals| layer.stream.rid == stream.rid || layer.stream.ssrc == stream.ssrc;
        let gone: Vec<u32> =
            self.layers.extract_if(.., |layer| replaced(layer)).map(|it| it.stream.ssrc).collect();
        self.layers.push(Arrivals::new(now, stream, self.layers.len()));
        for ssrc in gone {
            for at in 0..self.legs.len() {
                let need = self.legs[at].replaced(ssrc);
                self.need(now, need);
            }
        }
    }

    /// A packet of it: counts it, and turns it into what each subscriber gets.
    pub(crate) fn forward(&mut self, now: Instant, packet: &Packet, look: Look, out: &mut Vec<Out>) {
        let Some(layer) = self.layers.iter_mut().find(|layer| layer.stream.ssrc == packet.ssrc) else {
            return;
        };
        layer.count(now, packet, &look);
        if self.muting == Muting::Muted {
            return;
        }
        let arriving = Arriving { layer: layer.layer, look, clock: layer.clock };
        for leg in &mut self.legs {
            if let Some(taken) = leg.take(now, packet, arriving) {
                out.push(Out { peer: leg.peer, taken });
            }
        }
    }

    /// What a payload says of itself. Sound needs no keyframe; and one of a codec that cannot be asked counts as a keyframe:
    /// better a torn picture than none.
    pub(crate) fn look(&self, payload: &[u8]) -> Look {
        let stands_alone = Look { starts: Starts::Keyframe(None), ..Look::ORDINARY };
        match self.codec.known() {
            Some(known) if self.medium.is_picture() => known.look(payload),
            _ => stands_alone,
        }
    }

    /// The track as a subscriber with this wish sees it.
    pub(crate) fn source(&mut self, now: Instant, wanted: Wanted, rank: Rank) -> Source {
        let mut flows = [None::<Flow>; 3];
        let simulcast = self.layers.len() > 1;
        for layer in self.layers.iter_mut().filter(|_| self.muting == Muting::Unmuted) {
            if !simulcast || layer.flows(now) {
                flows[layer.layer as usize] = Some(layer.flow(now));
            }
        }
        let most = [Layer::Q, Layer::H, Layer::F][wanted.layer as usize];
        Source { wish: Wish::UpTo(most), rank, tile: wanted.tile, flows }
    }

    /// What comes in of all layers together.
    pub(crate) fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.layers.iter_mut().map(|layer| layer.flow(now).bitrate_bps).sum()
    }

    /// Sends this on a leg from now on.
    pub(crate) fn aim(&mut self, now: Instant, leg: usize, choice: Choice) {
        let need = self.legs[leg].aim(choice);
        self.need(now, need);
    }

    /// Nothing flows any more until legs are aimed again.
    pub(crate) fn pause(&mut self) {
        for leg in &mut self.legs {
            leg.aim(Choice::Pause);
        }
    }

    fn need(&mut self, now: Instant, need: Need) {
        if let Some(layer) = self.needed(need) {
            layer.requests.wish(now);
        }
    }

    fn needed(&mut self, need: Need) -> Option<&mut Arrivals> {
        let Need::Keyframe(layer) = need else { return None };
        self.layers.iter_mut().find(|it| it.layer == layer && self.medium.is_picture())
    }

    /// Every layer's next keyframe is needed.
    pub(crate) fn want_keyframes(&mut self, now: Instant) {
        for layer in self.layers.iter_mut().filter(|_| self.medium.is_picture()) {
            layer.requests.wish(now);
        }
    }

    /// A subscriber needs a keyframe of what it gets.
    pub(crate) fn want_keyframe_for(&mut self, now: Instant, leg: u32) {
        let Some(leg) = self.legs.iter().find(|other| other.ssrc == leg) else { return };
        let need = leg.lost();
        if let Some(layer) = self.needed(need) {
            layer.requests.lost(now);
        }
    }

    /// The publisher tells how its clock goes. Returns what the subscribers of that layer are told.
    pub(crate) fn report(&mut self, now: Instant, ssrc: u32, clock: ClockMap) -> Vec<(PeerId, SenderReport)> {
        let Some(layer) = self.layers.iter_mut().find(|layer| layer.stream.ssrc == ssrc) else {
            return Vec::new();
        };
        layer.clock = Some(clock);
        let legs = self.legs.iter_mut().filter(|leg| leg.source() == Some(ssrc));
        legs.filter_map(|leg| Some((leg.peer, leg.report(now, ssrc, clock)?))).collect()
    }

    /// When a keyframe request is due at the latest.
    pub(crate) fn next_keyframe(&self) -> Option<Instant> {
        self.layers.iter().filter_map(|layer| layer.requests.next()).min()
    }

    /// When it has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next_keyframe().into_iter().chain(self.next_mending()).min()
    }
}
