//! Rewriting of one publisher's packets for one subscriber, who sees a single stream that never breaks, whatever
//! happens to its sources: layers change, packets are left out, a source pauses, goes and comes back with another SSRC.
//!
//! | part | keeps continuous |
//! |---|---|
//! | [`sequence`] | sequence numbers, and which incoming packet got which |
//! | [`timestamp`] | the timeline, by sender reports or arrival |
//! | [`picture`] | VP8 and VP9 picture ids and `TL0PICIDX` |
//!
//! Which source to follow and which packet to leave out is decided elsewhere: the caller says [`Leg::follow`], then
//! [`Leg::forward`] or [`Leg::skip`] for every packet. Must not know subscribers, sockets or RTCP's wire format.
//!
//! After a switch, late packets of the source before it still get the numbers that were kept free for them. Packets
//! of the new source older than the one the switch happened at are refused: no number was kept for them.

pub mod picture;
pub mod sequence;
pub mod timestamp;

use crate::codec::Codec;
use picture::{Patch, Pictures};
use sequence::{Place, Sequencer};
use std::time::Instant;
use timestamp::{ClockMap, Timeline};

/// A packet as it came from the publisher.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Its source.
    pub ssrc: u32,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// When it came.
    pub arrival: Instant,
    /// The source's last sender report, if there was one.
    pub clock: Option<ClockMap>,
    /// Behind header and extensions, without padding.
    pub payload: &'a [u8],
}

/// What to write into the packet before it goes out; marker and payload stay, but for the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The leg's SSRC.
    pub ssrc: u32,
    /// The payload type negotiated with the subscriber.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Changes to the payload's first bytes.
    pub patch: Patch,
}

/// A sender report on the leg's timeline (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The leg's SSRC.
    pub ssrc: u32,
    /// The publisher's wall clock, unchanged: it is what keeps audio and video together.
    pub ntp: u64,
    /// The same instant in the leg's timestamps.
    pub rtp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

/// How a leg begins: what the subscriber negotiated, and numbers drawn at random by the caller (RFC 3550 5.1).
#[derive(Debug, Clone, Copy)]
pub struct LegStart {
    /// The leg's SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// What the payloads are.
    pub codec: Codec,
    /// Ticks of the RTP clock a second.
    pub clock_rate: u32,
    /// First sequence number.
    pub sequence: u16,
    /// First timestamp.
    pub timestamp: u32,
}

/// One track on its way to one subscriber. About 1.5 KiB (a call of 50 has a hundred legs for each), and nothing is allocated after it was made.
#[derive(Debug)]
pub struct Leg {
    ssrc: u32,
    payload_type: u8,
    codec: Codec,
    sequencer: Sequencer,
    timeline: Timeline,
    pictures: Pictures,
    packets: u32,
    octets: u32,
}

impl Leg {
    /// A leg that follows nothing yet.
    pub fn new(start: LegStart) -> Self {
        Self {
            ssrc: start.ssrc,
            payload_type: start.payload_type,
            codec: start.codec,
            sequencer: Sequencer::new(start.sequence),
            timeline: Timeline::new(start.clock_rate, start.timestamp),
            pictures: Pictures::default(),
            packets: 0,
            octets: 0,
        }
    }

    /// The leg's SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Takes another payload type after a negotiation.
    pub fn set_payload_type(&mut self, payload_type: u8) {
        self.payload_type = payload_type;
    }

    /// From the next packet of this source on, the leg continues with it. Also to be said at the end of a pause and
    /// when the same SSRC began anew.
    pub fn follow(&mut self, ssrc: u32) {
        self.sequencer.follow(ssrc);
    }

    /// Says how to send a packet, or `None` when it must not be sent: not a followed source, a duplicate, or too old.
    ///
    /// A packet without payload (a publisher's padding) is left out as by [`Leg::skip`], unless it is late: then it
    /// fills the place that was kept for it.
    pub fn forward(&mut self, packet: &Packet<'_>) -> Option<Outgoing> {
        if packet.payload.is_empty() && self.sequencer.is_newest(packet.ssrc, packet.sequence) {
            self.skip(packet);
            return None;
        }
        let place = self.sequencer.place(packet.ssrc, packet.sequence)?;
        let counters = self.codec.counters(packet.payload);
        let (timestamp, patch) = match place {
            Place::First { epoch, .. } => {
                self.pictures.begin(epoch, counters);
                (self.timeline.begin(epoch, packet), self.pictures.patch(epoch, 0, counters))
            }
            Place::Next { epoch, skipped_pictures, .. } => {
                let timestamp = self.timeline.next(epoch, packet);
                (timestamp, self.pictures.patch(epoch, skipped_pictures, counters))
            }
            Place::Late { epoch, skipped_pictures, .. } => {
                let timestamp = self.timeline.late(epoch, packet.timestamp)?;
                (timestamp, self.pictures.patch(epoch, skipped_pictures, counters))
            }
        };
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(packet.payload.len()).unwrap_or(u32::MAX));
        Some(self.outgoing(place.sequence(), timestamp, patch))
    }

    /// Leaves a packet of the followed source out, without a gap in the leg's sequence numbers or picture ids.
    pub fn skip(&mut self, packet: &Packet<'_>) {
        let picture = self.codec.counters(packet.payload).picture;
        let is_new_picture = self.pictures.is_new(self.sequencer.epoch(), picture);
        let is_new_picture = is_new_picture && self.sequencer.is_newest(packet.ssrc, packet.sequence);
        self.sequencer.skip(packet.ssrc, packet.sequence, u16::from(is_new_picture));
        self.pictures.saw(self.sequencer.epoch(), picture);
    }

    /// A packet of padding on the leg itself, for subscribers without RTX: only between frames (after a marker), with
    /// the last timestamp. `None` before anything was sent.
    pub fn padding(&mut self) -> Option<Outgoing> {
        let timestamp = self.timeline.last()?;
        let sequence = self.sequencer.pad()?;
        self.packets = self.packets.wrapping_add(1);
        Some(self.outgoing(sequence, timestamp, Patch::default()))
    }

    /// Maps a sender report of the followed source; `None` for another one, or before its first packet was sent.
    pub fn sender_report(&self, ssrc: u32, clock: ClockMap) -> Option<SenderReport> {
        let epoch = self.sequencer.started(ssrc)?;
        Some(SenderReport {
            ssrc: self.ssrc,
            ntp: clock.ntp,
            rtp: self.timeline.late(epoch, clock.rtp)?,
            packets: self.packets,
            octets: self.octets,
        })
    }

    fn outgoing(&self, sequence: u16, timestamp: u32, patch: Patch) -> Outgoing {
        Outgoing { ssrc: self.ssrc, payload_type: self.payload_type, sequence, timestamp, patch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use std::collections::HashMap;
    use std::time::Duration;

    fn leg(codec: Codec) -> Leg {
        let clock_rate = 90_000;
        Leg::new(LegStart {
            ssrc: 1,
            payload_type: 96,
            codec,
            clock_rate,
            sequence: 65_530,
            timestamp: 4_294_967_000,
        })
    }

    fn packet(ssrc: u32, sequence: u16, timestamp: u32, arrival: Instant, payload: &[u8]) -> Packet<'_> {
        Packet { ssrc, sequence, timestamp, arrival, clock: None, payload }
    }

    /// S; I, L, T: picture id in 15 bits, TL0PICIDX, TID.
    fn vp8(picture: u16, base: u8, temporal: u8) -> [u8; 8] {
        let [high, low] = picture.to_be_bytes();
        [0x90, 0xe0, high | 0x80, low, base, temporal << 6, 0x01, 0x00]
    }

    fn patched(outgoing: Outgoing, payload: &[u8]) -> (u16, u8) {
        let mut payload = payload.to_vec();
        outgoing.patch.apply(&mut payload);
        let counters = Codec::Vp8.counters(&payload);
        (counters.picture.unwrap().value, counters.base.unwrap().value)
    }

    #[test]
    fn a_layer_switch_continues_numbers_timeline_and_pictures() {
        let (mut leg, start) = (leg(Codec::Vp8), Instant::now());
        leg.follow(10);
        let low = vp8(100, 7, 0);
        let before = leg.forward(&packet(10, 5, 1_000, start, &low)).unwrap();
        leg.follow(20);
        let high = vp8(9_000, 200, 0);
        let at = start + Duration::from_millis(40);
        let after = leg.forward(&packet(20, 40_000, 77, at, &high)).unwrap();
        assert_eq!((before.sequence, after.sequence), (65_530, 65_531));
        assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 3_600);
        let (was, is) = (patched(before, &low), patched(after, &high));
        assert_eq!((is.0.wrapping_sub(was.0), is.1.wrapping_sub(was.1)), (1, 1));
    }

    #[test]
    fn left_out_frames_leave_no_gap() {
        let (mut leg, start) = (leg(Codec::Vp8), Instant::now());
        leg.follow(10);
        let mut seen = Vec::new();
        for index in 0..40u16 {
            let payload = vp8(index, (index / 2) as u8, (index % 2) as u8);
            let packet = packet(10, index, u32::from(index) * 3_000, start, &payload);
            if index % 2 == 1 {
                leg.skip(&packet);
            } else {
                let out = leg.forward(&packet).unwrap();
                seen.push((out.sequence, patched(out, &payload)));
            }
        }
        for pair in seen.windows(2) {
            assert_eq!(pair[1].0.wrapping_sub(pair[0].0), 1);
            assert_eq!(pair[1].1.0.wrapping_sub(pair[0].1.0), 1);
            assert_eq!(pair[1].1.1.wrapping_sub(pair[0].1.1), 1);
        }
    }

    #[test]
    fn a_late_packet_of_the_source_before_gets_the_number_kept_for_it() {
        let (mut leg, start) = (leg(Codec::H264), Instant::now());
        leg.follow(10);
        let first = leg.forward(&packet(10, 1, 0, start, &[1])).unwrap();
        leg.forward(&packet(10, 3, 0, start, &[1])).unwrap();
        leg.follow(20);
        leg.forward(&packet(20, 500, 0, start, &[1])).unwrap();
        let late = leg.forward(&packet(10, 2, 0, start, &[1])).unwrap();
        assert_eq!(late.sequence, first.sequence.wrapping_add(1));
        assert_eq!(late.timestamp, first.timestamp);
        assert_eq!(leg.forward(&packet(10, 2, 0, start, &[1])), None, "a duplicate");
        assert_eq!(leg.forward(&packet(10, 4, 0, start, &[1])), None, "not followed any more");
        assert_eq!(leg.forward(&packet(30, 4, 0, start, &[1])), None, "never followed");
    }

    #[test]
    fn padding_of_the_publisher_leaves_no_gap_and_our_own_takes_a_number() {
        let (mut leg, start) = (leg(Codec::H264), Instant::now());
        assert_eq!(leg.padding(), None);
        leg.follow(10);
        let first = leg.forward(&packet(10, 1, 0, start, &[1])).unwrap();
        assert_eq!(leg.forward(&packet(10, 2, 0, start, &[])), None);
        let second = leg.forward(&packet(10, 3, 3_000, start, &[1])).unwrap();
        let padding = leg.padding().unwrap();
        let third = leg.forward(&packet(10, 4, 6_000, start, &[1])).unwrap();
        let from_first = |it: Outgoing| it.sequence.wrapping_sub(first.sequence);
        assert_eq!([second, padding, third].map(from_first), [1, 2, 3]);
        assert_eq!(padding.timestamp, second.timestamp);
    }

    #[test]
    fn a_leg_is_small() {
        assert!(size_of::<Leg>() <= 1_536, "{}", size_of::<Leg>());
    }

    #[test]
    fn a_sender_report_lies_on_the_legs_timeline() {
        let (mut leg, start) = (leg(Codec::H264), Instant::now());
        leg.follow(10);
        let clock = ClockMap { ntp: 5 << 32, rtp: 90_500 };
        assert_eq!(leg.sender_report(10, clock), None);
        let out = leg.forward(&packet(10, 1, 90_000, start, &[1, 2])).unwrap();
        let report = leg.sender_report(10, clock).unwrap();
        assert_eq!(report.rtp.wrapping_sub(out.timestamp), 500);
        assert_eq!((report.ntp, report.packets, report.octets), (5 << 32, 1, 2));
        leg.follow(20);
        assert_eq!(leg.sender_report(20, clock), None);
        assert_eq!(leg.sender_report(11, clock), None);
    }

    #[test]
    fn no_number_is_used_for_two_packets_whatever_comes() {
        let mut random = Random::seeded(11);
        for _ in 0..30 {
            storm(&mut random);
        }
    }

    /// Loss, reordering, duplicates, skips, switches to and fro, and jumps of the publisher's numbers.
    fn storm(random: &mut Random) {
        let (mut leg, start) = (leg(Codec::H264), Instant::now());
        let mut sources = [(10u32, random.next() as u16), (20, random.next() as u16)];
        let (mut current, mut waiting) = (0, Vec::new());
        let (mut used, mut epochs) = (HashMap::new(), 0u64);
        leg.follow(sources[0].0);
        for step in 0..4_000u64 {
            if random.chance(0.5) {
                current = 1 - current;
                epochs += 1;
                leg.follow(sources[current].0);
            }
            if random.chance(0.1) {
                sources[current].1 = random.next() as u16;
                epochs += 1;
            }
            sources[current].1 = sources[current].1.wrapping_add(1);
            waiting.push((sources[current].0, sources[current].1, epochs));
            while !waiting.is_empty() && random.chance(80.0) {
                let index = random.below(waiting.len().min(8) as u64) as usize;
                let (ssrc, sequence, epoch) = waiting[index];
                if !random.chance(10.0) {
                    waiting.remove(index);
                }
                let packet = packet(ssrc, sequence, 0, start + Duration::from_millis(step), &[1]);
                if random.chance(10.0) {
                    leg.skip(&packet);
                } else if let Some(out) = leg.forward(&packet) {
                    let before = used.insert(out.sequence, (ssrc, sequence, epoch, step));
                    let within = before.is_some_and(|it: (u32, u16, u64, u64)| step - it.3 < 30_000);
                    assert!(!within, "{} was {before:?}, is {ssrc} {sequence}", out.sequence);
                }
            }
        }
        assert!(used.len() > 1_000);
    }
}
