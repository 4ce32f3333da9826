//! One leg: one track on its way to one subscriber. It holds what differs between the publisher's packets and the subscriber's:
//! SSRC, payload type, extension ids, sequence numbers and timestamps.
//!
//! It must not know connections: it turns a packet into a packet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::Layer;
use crate::format::{Codec, Extensions, FORWARDED};
use crate::ids::PeerId;
use crate::packet::Packet;
use crate::peer::{Receipt, SenderId};

/// A publisher's track as one subscriber gets it.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) peer: PeerId,
    pub(crate) sender: SenderId,
    pub(crate) ssrc: u32,
    pub(crate) up_to: Layer,
    /// Set once the subscriber has agreed.
    agreed: Option<Agreed>,
    source: Option<u32>,
    rewrite: Rewrite,
    sent: Sent,
    quality: Quality,
}

/// What the subscriber's side calls things.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agreed {
    payload_type: u8,
    /// The publisher's extension ids and the subscriber's.
    extensions: Vec<(u8, u8)>,
}

#[derive(Debug, Default)]
struct Sent {
    packets: u64,
    bytes: u64,
}

/// What the subscriber's receiver reports tell.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) loss: f32,
    pub(crate) jitter: Duration,
    pub(crate) round_trip: Option<Duration>,
    /// The middle of our last sender report's NTP time, and when it left.
    reported: Option<(u32, Instant)>,
}

impl Leg {
    pub(crate) fn new(peer: PeerId, sender: SenderId, ssrc: u32, up_to: Layer) -> Self {
        let (rewrite, sent, quality) = (Rewrite::default(), Sent::default(), Quality::default());
        Self { peer, sender, ssrc, up_to, agreed: None, source: None, rewrite, sent, quality }
    }

    /// The subscriber has agreed to something: find our codec and extensions in it. Returns whether packets can flow.
    pub(crate) fn agree(
        &mut self,
        codec: &Codec,
        ids: &Extensions,
        theirs: Option<(&[Codec], &Extensions)>,
    ) -> bool {
        self.agreed = theirs.and_then(|(codecs, their_ids)| {
            let payload_type = codecs.iter().find(|known| known.accepts(codec))?.payload_type;
            let extensions =
                FORWARDED.iter().filter_map(|uri| Some((ids.id(uri)?, their_ids.id(uri)?))).collect();
            Some(Agreed { payload_type, extensions })
        });
        self.agreed.is_some()
    }

    /// The SSRC of the publisher that flows.
    pub(crate) fn source(&self) -> Option<u32> {
        self.source
    }

    /// The publisher's packet as the subscriber shall get it; `None` before it has agreed.
    pub(crate) fn take(&mut self, now: Instant, packet: &Packet, clock_rate: u32) -> Option<Packet> {
        let agreed = self.agreed.as_ref()?;
        if self.source != Some(packet.ssrc) {
            self.source = Some(packet.ssrc);
            self.rewrite.splice(now, packet, clock_rate);
        }
        let (sequence, timestamp) = self.rewrite.apply(now, packet);
        self.sent.packets += 1;
        self.sent.bytes += packet.payload.len() as u64;
        let rename = |(id, value): &(u8, bytes::Bytes)| {
            let (_, theirs) = agreed.extensions.iter().find(|(ours, _)| ours == id)?;
            Some((*theirs, value.clone()))
        };
        Some(Packet {
            marker: packet.marker,
            payload_type: agreed.payload_type,
            sequence,
            timestamp,
            ssrc: self.ssrc,
            extensions: packet.extensions.iter().filter_map(rename).collect(),
            payload: packet.payload.clone(),
        })
    }

    /// Nothing flows for a while; what comes next is joined on without a gap in the sequence numbers.
    pub(crate) fn pause(&mut self) {
        self.source = None;
    }

    /// The publisher's sender report in the subscriber's timestamps: the NTP time stays the publisher's, so that its sound and
    /// picture keep their distance (RFC 3550, section 6.4.1).
    pub(crate) fn report(&mut self, now: Instant, ntp: u64, rtp: u32) -> Option<Report> {
        self.agreed.as_ref()?;
        self.quality.reported = Some(((ntp >> 16) as u32, now));
        let (packets, bytes) = (self.sent.packets as u32, self.sent.bytes as u32);
        Some(Report {
            ssrc: self.ssrc,
            ntp,
            rtp: rtp.wrapping_add(self.rewrite.timestamp_offset),
            packets,
            bytes,
        })
    }

    /// The subscriber has told how the packets arrive.
    pub(crate) fn on_receipt(&mut self, now: Instant, receipt: &Receipt, clock_rate: u32) {
        self.quality.loss = f32::from(receipt.fraction_lost) / 256.0;
        self.quality.jitter =
            Duration::from_secs_f64(f64::from(receipt.jitter) / f64::from(clock_rate.max(1)));
        if let Some((middle, at)) = self.quality.reported
            && middle == receipt.last_report
            && middle != 0
        {
            let held = Duration::from_secs_f64(f64::from(receipt.since_last_report) / 65_536.0);
            self.quality.round_trip = Some(now.saturating_duration_since(at).saturating_sub(held));
        }
    }

    /// Packets, bytes of payload, and what the receiver says about them.
    pub(crate) fn figures(&self) -> (u64, u64, Quality) {
        (self.sent.packets, self.sent.bytes, self.quality)
    }
}

/// A sender report as it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ssrc: u32,
    pub(crate) ntp: u64,
    pub(crate) rtp: u32,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
}

/// Joins sources into one stream of numbers.
#[derive(Debug, Default)]
struct Rewrite {
    sequence_offset: u16,
    timestamp_offset: u32,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    sequence: u16,
    timestamp: u32,
    at: Instant,
}

impl Rewrite {
    /// The next packet continues the last one: next number, and as many ticks later as time has passed (one at least).
    fn splice(&mut self, now: Instant, packet: &Packet, clock_rate: u32) {
        let Some(last) = &self.last else {
            return;
        };
        let ticks = now.saturating_duration_since(last.at).as_secs_f64() * f64::from(clock_rate);
        self.sequence_offset = last.sequence.wrapping_add(1).wrapping_sub(packet.sequence);
        self.timestamp_offset =
            last.timestamp.wrapping_add((ticks as u32).max(1)).wrapping_sub(packet.timestamp);
    }

    fn apply(&mut self, now: Instant, packet: &Packet) -> (u16, u32) {
        let sequence = packet.sequence.wrapping_add(self.sequence_offset);
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_offset);
        let newer = self.last.as_ref().is_none_or(|last| sequence.wrapping_sub(last.sequence) < 0x8000);
        if newer {
            self.last = Some(Last { sequence, timestamp, at: now });
        }
        (sequence, timestamp)
    }
}

/// Names that a publisher's layers usually have, and their rank.
pub(crate) fn rank(rid: &str, position: usize) -> usize {
    match rid {
        "q" | "l" | "low" => 0,
        "h" | "m" | "medium" => 1,
        "f" | "high" => 2,
        _ => position,
    }
}

/// Shared name of a layer; empty without simulcast.
pub(crate) type Rid = Arc<str>;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn codec() -> Codec {
        Codec {
            payload_type: 96,
            mime: "video/VP8".into(),
            clock_rate: 90_000,
            channels: 0,
            fmtp: String::new(),
        }
    }

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        let extensions = vec![(1, Bytes::from_static(b"x")), (3, Bytes::from_static(b"y"))];
        Packet {
            marker: false,
            payload_type: 96,
            sequence,
            timestamp,
            ssrc,
            extensions,
            payload: Bytes::new(),
        }
    }

    fn leg() -> Leg {
        let mut leg = Leg::new(PeerId(1), SenderId::default(), 77, Layer::Full);
        let ours =
            Extensions(vec![(3, crate::format::VIDEO_ORIENTATION.into()), (1, crate::format::MID.into())]);
        let theirs = Extensions(vec![(9, crate::format::VIDEO_ORIENTATION.into())]);
        let accepted = [Codec { payload_type: 120, ..codec() }];
        assert!(leg.agree(&codec(), &ours, Some((&accepted, &theirs))));
        leg
    }

    #[test]
    fn names_are_the_subscribers() {
        let out = leg().take(Instant::now(), &packet(5, 1, 1), 90_000).unwrap();
        assert_eq!((out.ssrc, out.payload_type), (77, 120));
        assert_eq!(out.extensions, [(9, Bytes::from_static(b"y"))]);
    }

    #[test]
    fn a_change_of_source_continues_numbers_and_time() {
        let (mut leg, now) = (leg(), Instant::now());
        let first = leg.take(now, &packet(5, 65_535, 1000), 90_000).unwrap();
        let second =
            leg.take(now + Duration::from_millis(100), &packet(6, 10, 4_000_000_000), 90_000).unwrap();
        assert_eq!(second.sequence, first.sequence.wrapping_add(1));
        assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 9000);
    }

    #[test]
    fn a_sender_report_moves_as_its_packets_do() {
        let (mut leg, now) = (leg(), Instant::now());
        leg.take(now, &packet(5, 1, 1000), 90_000);
        let later = leg.take(now + Duration::from_secs(1), &packet(6, 7, 500_000), 90_000).unwrap();
        let report = leg.report(now, 0x1234_5678_9ABC_DEF0, 500_900).unwrap();
        assert_eq!(report.rtp.wrapping_sub(later.timestamp), 900);
        assert_eq!((report.ntp, report.packets), (0x1234_5678_9ABC_DEF0, 2));
        let receipt = Receipt {
            ssrc: 77,
            fraction_lost: 64,
            jitter: 9000,
            last_report: 0x5678_9ABC,
            since_last_report: 32_768,
        };
        leg.on_receipt(now + Duration::from_millis(620), &receipt, 90_000);
        let quality = leg.figures().2;
        assert_eq!(quality.round_trip, Some(Duration::from_millis(120)));
        assert_eq!((quality.loss, quality.jitter), (0.25, Duration::from_millis(100)));
    }
}
