//! One leg: one track on its way to one subscriber. It joins what the policies say about it: [`Switch`] which packets go out,
//! [`leg`] how they are numbered, [`Outbound`] how they arrive; and it renames payload types and header extensions.
//!
//! It must not know connections: it turns a packet into a packet.

use std::time::Instant;

use bytes::Bytes;

use crate::codec::Look;
use crate::format::{Codec, Extensions, FORWARDED};
use crate::ids::PeerId;
use crate::layers::share::Subscription;
use crate::layers::switch::{Need, Step, Switch};
use crate::layers::{Choice, Layer, Rank, Source, Wish};
use crate::leg::picture::Patch;
use crate::leg::timestamp::ClockMap;
use crate::leg::{self, LegStart};
use crate::packet::Packet;
use crate::peer::SenderId;
use crate::quality::{Outbound, Quality, Receipt, ReportBlock};
use crate::session::Wanted;
use crate::track::figures::Figures;

/// A publisher's track as one subscriber gets it.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) peer: PeerId,
    pub(crate) sender: SenderId,
    pub(crate) ssrc: u32,
    pub(crate) wanted: Wanted,
    /// What was chosen for it last.
    pub(crate) share: Subscription,
    /// Set once the subscriber has agreed.
    agreed: Option<Agreed>,
    /// The SSRC of the publisher that flows.
    source: Option<u32>,
    switch: Switch,
    rewrite: leg::Leg,
    sent: Outbound,
    figures: Figures,
}

/// What the subscriber's side calls things.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agreed {
    /// The publisher's extension ids and the subscriber's.
    extensions: Vec<(u8, u8)>,
}

/// What a leg has to know of a packet besides the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arriving {
    pub(crate) layer: Layer,
    /// Sound counts as keyframes: every packet stands alone.
    pub(crate) look: Look,
    pub(crate) clock: Option<ClockMap>,
}

/// What becomes of a packet.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its payload is the publisher's, which all legs share.
    pub(crate) packet: Packet,
    /// What changes in the payload.
    pub(crate) patch: Patch,
    /// Of the new layer, when it has changed: so that the receiver knows its clock at once.
    pub(crate) report: Option<leg::SenderReport>,
}

impl Leg {
    /// `resting` is what an earlier track left on the same SSRC: its numbers go on, since no number may be encrypted twice.
    pub(crate) fn new(
        now: Instant,
        (peer, sender, ssrc): (PeerId, SenderId, u32),
        codec: &Codec,
        wanted: Wanted,
        resting: Option<leg::Leg>,
    ) -> Self {
        let nothing = Source { wish: Wish::No, rank: Rank::Other, tile: None, flows: [None; 3] };
        Self {
            peer,
            sender,
            ssrc,
            wanted,
            share: Subscription::new(nothing),
            agreed: None,
            source: None,
            switch: Switch::Paused,
            rewrite: resting.unwrap_or_else(|| begin(ssrc, codec)),
            sent: Outbound::new(now, codec.clock_rate),
            figures: Figures::new(now),
        }
    }

    /// The subscriber has agreed to something: find our codec and extensions in it.
    pub(crate) fn agree(&mut self, codec: &Codec, ids: &Extensions, theirs: Option<(&[Codec], &Extensions)>) {
        let found = theirs.and_then(|(codecs, their_ids)| {
            let payload_type = codecs.iter().find(|known| known.accepts(codec))?.payload_type;
            let extensions =
                FORWARDED.iter().filter_map(|uri| Some((ids.id(uri)?, their_ids.id(uri)?))).collect();
            Some((payload_type, Agreed { extensions }))
        });
        if let Some((payload_type, _)) = found {
            self.rewrite.set_payload_type(payload_type);
        }
        self.agreed = found.map(|(_, agreed)| agreed);
    }

    /// The SSRC of the publisher that flows.
    pub(crate) fn source(&self) -> Option<u32> {
        self.source
    }

    /// Sends this from now on; pictures change at a keyframe, which has to be asked for.
    pub(crate) fn aim(&mut self, choice: Choice) -> Need {
        if choice == Choice::Pause {
            self.source = None;
        }
        self.switch.aim(choice)
    }

    /// The layer whose keyframe helps the subscriber now.
    pub(crate) fn lost(&self) -> Need {
        self.switch.lost()
    }

    /// A stream of the publisher is no more; another one takes its place.
    pub(crate) fn replaced(&mut self, ssrc: u32) -> Need {
        if self.source != Some(ssrc) {
            return Need::Nothing;
        }
        self.source = None;
        self.switch.restart()
    }

    /// The publisher's packet as the subscriber shall get it; `None` when it shall not.
    pub(crate) fn take(&mut self, now: Instant, packet: &Packet, arriving: Arriving) -> Option<Taken> {
        self.agreed.as_ref()?;
        let step = self.switch.packet(arriving.layer, &arriving.look);
        match step {
            Step::Change => {
                self.rewrite.follow(packet.ssrc);
                self.source = Some(packet.ssrc);
            }
            Step::Forward => {}
            // A layer that was left: numbers were kept for its late packets. But nothing of what is paused.
            Step::Ignore if self.source.is_none_or(|source| source == packet.ssrc) => return None,
            Step::Ignore => {}
        }
        let outgoing = self.rewrite.forward(&leg::Packet {
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            arrival: now,
            clock: arriving.clock,
            payload: &packet.payload,
        })?;
        let packet = self.renamed(packet, outgoing)?;
        self.sent.packet(packet.size());
        let clock = arriving.clock.filter(|_| step == Step::Change);
        let report = clock.and_then(|clock| self.report(now, self.source?, clock));
        Some(Taken { packet, patch: outgoing.patch, report })
    }

    fn renamed(&self, packet: &Packet, outgoing: leg::Outgoing) -> Option<Packet> {
        let agreed = self.agreed.as_ref()?;
        let rename = |(id, value): &(u8, Bytes)| {
            let (_, theirs) = agreed.extensions.iter().find(|(ours, _)| ours == id)?;
            Some((*theirs, value.clone()))
        };
        Some(Packet {
            marker: packet.marker,
            payload_type: outgoing.payload_type,
            sequence: outgoing.sequence,
            timestamp: outgoing.timestamp,
            ssrc: outgoing.ssrc,
            extensions: packet.extensions.iter().filter_map(rename).collect(),
            payload: packet.payload.clone(),
        })
    }

    /// The publisher's sender report in the subscriber's timestamps: the NTP time stays the publisher's, so that its sound and
    /// picture keep their distance (RFC 3550, section 6.4.1). `None` for a stream that does not flow.
    pub(crate) fn report(&mut self, now: Instant, ssrc: u32, clock: ClockMap) -> Option<leg::SenderReport> {
        self.agreed.as_ref()?;
        let report = self.rewrite.sender_report(ssrc, clock)?;
        self.sent.report_sent(now, report.ntp);
        Some(report)
    }

    /// The subscriber has told how the packets arrive.
    pub(crate) fn on_receipt(&mut self, now: Instant, block: ReportBlock) -> Receipt {
        self.sent.received(now, block)
    }

    /// Packets and bytes since the beginning, and the figures of the last interval.
    pub(crate) fn figures(&mut self, now: Instant) -> ((u64, u64), Quality) {
        let sent = &mut self.sent;
        let quality = self.figures.renew(now, || sent.interval(now));
        (self.sent.totals(), quality)
    }

    /// The numbers of its SSRC, for the next track on it.
    pub(crate) fn rest(self) -> leg::Leg {
        self.rewrite
    }
}

/// Numbers of an SSRC that nothing was sent with. A codec that cannot be asked has no counters, as sound has none.
fn begin(ssrc: u32, codec: &Codec) -> leg::Leg {
    leg::Leg::new(LegStart {
        ssrc,
        payload_type: codec.payload_type,
        codec: codec.known().unwrap_or(crate::codec::Codec::Opus),
        clock_rate: codec.clock_rate,
        sequence: rand::random(),
        timestamp: rand::random(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Starts;

    fn codec() -> Codec {
        Codec {
            payload_type: 96,
            mime: "video/H264".into(),
            clock_rate: 90_000,
            channels: 0,
            fmtp: String::new(),
        }
    }

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        let extensions = vec![(1, Bytes::from_static(b"x")), (3, Bytes::from_static(b"y"))];
        let payload = Bytes::from_static(&[1]);
        Packet { marker: false, payload_type: 96, sequence, timestamp, ssrc, extensions, payload }
    }

    fn leg(resting: Option<leg::Leg>) -> Leg {
        let ids = (PeerId(1), SenderId::default(), 77);
        let wanted = Wanted { layer: crate::Layer::Full, tile: None };
        let mut leg = Leg::new(Instant::now(), ids, &codec(), wanted, resting);
        let ours =
            Extensions(vec![(3, crate::format::VIDEO_ORIENTATION.into()), (1, crate::format::MID.into())]);
        let theirs = Extensions(vec![(9, crate::format::VIDEO_ORIENTATION.into())]);
        let accepted = [Codec { payload_type: 120, ..codec() }];
        leg.agree(&codec(), &ours, Some((&accepted, &theirs)));
        leg
    }

    fn arriving(layer: Layer, starts: Starts) -> Arriving {
        Arriving { layer, look: Look { starts, ..Look::ORDINARY }, clock: None }
    }

    const KEY: Starts = Starts::Keyframe(None);

    #[test]
    fn names_are_the_subscribers_and_a_keyframe_comes_first() {
        let (mut leg, now) = (leg(None), Instant::now());
        assert_eq!(leg.aim(Choice::Send(Layer::F)), Need::Keyframe(Layer::F));
        assert!(leg.take(now, &packet(5, 1, 1), arriving(Layer::F, Starts::Nothing)).is_none());
        let out = leg.take(now, &packet(5, 2, 1), arriving(Layer::F, KEY)).unwrap().packet;
        assert_eq!((out.ssrc, out.payload_type), (77, 120));
        assert_eq!(out.extensions, [(9, Bytes::from_static(b"y"))]);
    }

    #[test]
    fn a_change_of_layer_a_pause_and_another_track_leave_no_gap() {
        let (mut leg, now) = (leg(None), Instant::now());
        leg.aim(Choice::Send(Layer::Q));
        let first = leg.take(now, &packet(5, 65_535, 1_000), arriving(Layer::Q, KEY)).unwrap().packet;
        leg.aim(Choice::Send(Layer::F));
        let second = leg.take(now, &packet(6, 10, 77), arriving(Layer::F, KEY)).unwrap().packet;
        leg.aim(Choice::Pause);
        assert!(leg.take(now, &packet(6, 11, 77), arriving(Layer::F, Starts::Nothing)).is_none());
        leg.aim(Choice::Send(Layer::F));
        let third = leg.take(now, &packet(6, 99, 900), arriving(Layer::F, KEY)).unwrap().packet;
        let mut other = self::leg(Some(leg.rest()));
        other.aim(Choice::Send(Layer::F));
        let fourth = other.take(now, &packet(8, 5, 5), arriving(Layer::F, KEY)).unwrap().packet;
        let numbers = [second, third, fourth].map(|it| it.sequence.wrapping_sub(first.sequence));
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn a_change_is_followed_by_the_new_layers_clock() {
        let (mut leg, now) = (leg(None), Instant::now());
        leg.aim(Choice::Send(Layer::F));
        let clock = Some(ClockMap { ntp: 5 << 32, rtp: 1_900 });
        let taken =
            leg.take(now, &packet(5, 1, 1_000), Arriving { clock, ..arriving(Layer::F, KEY) }).unwrap();
        let report = taken.report.unwrap();
        assert_eq!(report.rtp.wrapping_sub(taken.packet.timestamp), 900);
        assert_eq!((report.ntp, report.packets), (5 << 32, 1));
        assert!(leg.take(now, &packet(5, 2, 1_000), arriving(Layer::F, KEY)).unwrap().report.is_none());
    }
}
