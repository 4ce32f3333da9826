//! Packets that were sent, for receivers that ask for one again (RFC 4585, section 6.2.1), as retransmissions (RFC 4588).
//!
//! It must not know when a packet may be sent again: `allowance` does.
//!
//! Decisions:
//! - What is kept is the publisher's payload, which all subscribers share, and what one subscriber's copy changes in it. With a
//!   payload of its own, a subscriber whose pictures were paused once would hold half a megabyte.
//! - Only for streams that have another for retransmissions: what is sent again under its own number must be the same to the last
//!   bit, header included (RFC 7714, section 8.2), and headers are not kept here.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use rtc::interceptor::StreamInfo;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;

use crate::leg::picture::Patch;
use crate::packet::Packet;

use super::allowance::Verdict;

/// Packets kept per stream: about 2 s of 2 Mbit/s, more than a receiver's jitter buffer waits.
const KEPT_MAX: u16 = 512;

/// The original number in front of the payload (RFC 4588, section 4).
const NUMBER_BYTES: usize = 2;

/// What was sent on the streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Repairs(HashMap<u32, Stream>);

/// One stream, and the stream of its retransmissions. It outlives its binding: a number of that stream is never given twice.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    payload_type: u8,
    next: u16,
    bound: bool,
    sent: Sent,
}

/// The newest packets, one place for each number.
#[derive(Debug, Default)]
struct Sent {
    first: u16,
    places: VecDeque<Option<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    timestamp: u32,
    marker: bool,
    patch: Patch,
    payload: Bytes,
}

impl Repairs {
    /// A stream of ours was agreed on. Tells whether it has another for retransmissions.
    pub(super) fn bind(&mut self, info: &StreamInfo) -> bool {
        let asks = info.rtcp_feedback.iter().any(|it| it.typ == "nack" && it.parameter.is_empty());
        let (Some(ssrc), Some(payload_type), true) = (info.ssrc_rtx, info.payload_type_rtx, asks) else {
            return false;
        };
        let fresh = || Stream { ssrc, payload_type, next: 0, bound: true, sent: Sent::default() };
        let stream = self.0.entry(info.ssrc).or_insert_with(fresh);
        (stream.ssrc, stream.payload_type, stream.bound) = (ssrc, payload_type, true);
        true
    }

    /// A stream of ours is no more, or is about to be agreed on anew.
    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        if let Some(stream) = self.0.get_mut(&info.ssrc) {
            (stream.bound, stream.sent) = (false, Sent::default());
        }
    }

    /// Whether packets of a stream are kept.
    pub(super) fn has(&self, ssrc: u32) -> bool {
        self.0.get(&ssrc).is_some_and(|stream| stream.bound)
    }

    /// Keeps a packet that leaves.
    pub(super) fn keep(&mut self, packet: &Packet, patch: Patch) {
        if let Some(stream) = self.0.get_mut(&packet.ssrc).filter(|stream| stream.bound) {
            let Packet { marker, timestamp, .. } = *packet;
            let kept = Kept { timestamp, marker, patch, payload: packet.payload.clone() };
            stream.sent.put(packet.sequence, kept);
        }
    }

    /// The retransmissions that a receiver asks for, as far as the packets are still here, up to the first that is too large: `may` is
    /// told the bytes of each before it is copied.
    pub(super) fn asked(
        &mut self,
        request: &TransportLayerNack,
        may: &mut dyn FnMut(usize) -> Verdict,
    ) -> Vec<rtp::Packet> {
        let Some(stream) = self.0.get_mut(&request.media_ssrc) else { return Vec::new() };
        let mut packets = Vec::new();
        for number in request.nacks.iter().flat_map(|pair| pair.into_iter()) {
            let Some(kept) = stream.sent.get(number) else { continue };
            if may(NUMBER_BYTES + kept.payload.len()) == Verdict::Drop {
                break;
            }
            packets.extend(stream.again(number));
        }
        packets
    }
}

impl Stream {
    fn again(&mut self, number: u16) -> Option<rtp::Packet> {
        let kept = self.sent.get(number)?;
        let mut payload = BytesMut::with_capacity(NUMBER_BYTES + kept.payload.len());
        payload.put_u16(number);
        payload.put_slice(&kept.payload);
        kept.patch.apply(&mut payload[NUMBER_BYTES..]);
        let header = rtp::Header {
            version: 2,
            marker: kept.marker,
            payload_type: self.payload_type,
            sequence_number: self.next,
            timestamp: kept.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.next = self.next.wrapping_add(1);
        Some(rtp::Packet { header, payload: payload.freeze() })
    }
}

impl Sent {
    fn put(&mut self, number: u16, kept: Kept) {
        let at = usize::from(number.wrapping_sub(self.first));
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(kept);
            return;
        }
        let ahead = number.wrapping_sub(self.first.wrapping_add(self.places.len() as u16));
        if ahead >= KEPT_MAX || self.places.is_empty() {
            // Late beyond what is kept, or a beginning.
            if ahead > u16::MAX / 2 && !self.places.is_empty() {
                return;
            }
            self.places.clear();
            self.first = number;
        }
        while self.first.wrapping_add(self.places.len() as u16) != number {
            self.push(None);
        }
        self.push(Some(kept));
    }

    fn push(&mut self, place: Option<Kept>) {
        if self.places.len() == usize::from(KEPT_MAX) {
            self.places.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.places.push_back(place);
    }

    fn get(&self, number: u16) -> Option<&Kept> {
        self.places.get(usize::from(number.wrapping_sub(self.first)))?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use rtc::interceptor::RTCPFeedback;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;

    use super::*;
    use crate::codec::Codec;

    fn info() -> StreamInfo {
        let nack = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
        let (ssrc_rtx, payload_type_rtx) = (Some(2), Some(97));
        StreamInfo { ssrc: 1, ssrc_rtx, payload_type_rtx, rtcp_feedback: vec![nack], ..StreamInfo::default() }
    }

    fn bound() -> Repairs {
        let mut repairs = Repairs::default();
        repairs.bind(&info());
        repairs
    }

    fn packet(sequence: u16) -> Packet {
        let payload = Bytes::copy_from_slice(&sequence.to_be_bytes());
        let timestamp = u32::from(sequence) * 10;
        Packet {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp,
            ssrc: 1,
            extensions: Vec::new(),
            payload,
        }
    }

    fn asked(repairs: &mut Repairs, numbers: &[u16]) -> Vec<rtp::Packet> {
        let nacks = nack_pairs_from_sequence_numbers(numbers);
        let request = TransportLayerNack { sender_ssrc: 0, media_ssrc: 1, nacks };
        repairs.asked(&request, &mut |_| Verdict::Send)
    }

    /// The numbers of those that come again.
    fn again(repairs: &mut Repairs, numbers: &[u16]) -> Vec<u16> {
        let packets = asked(repairs, numbers);
        let number = |packet: &rtp::Packet| u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
        packets
            .iter()
            .map(|packet| {
                assert_eq!(packet.payload[2..], number(packet).to_be_bytes(), "the payload is that packet's");
                assert_eq!(packet.header.timestamp, u32::from(number(packet)) * 10);
                number(packet)
            })
            .collect()
    }

    #[test]
    fn what_is_asked_for_comes_on_the_stream_of_retransmissions() {
        let mut repairs = bound();
        (65_534..=65_535).chain(0..3).for_each(|number| repairs.keep(&packet(number), Patch::default()));
        let packets = asked(&mut repairs, &[65_535, 1]);
        let heads =
            packets.iter().map(|it| (it.header.ssrc, it.header.payload_type, it.header.sequence_number));
        assert_eq!(heads.collect::<Vec<_>>(), [(2, 97, 0), (2, 97, 1)]);
        assert_eq!(again(&mut repairs, &[65_533, 65_534, 2, 3]), [65_534, 2]);
    }

    #[test]
    fn the_newest_are_kept_whatever_is_missing_or_late() {
        let mut repairs = bound();
        for number in (0..2_000).filter(|number| number % 5 != 0) {
            repairs.keep(&packet(number), Patch::default());
        }
        repairs.keep(&packet(1_995), Patch::default());
        repairs.keep(&packet(100), Patch::default());
        assert_eq!(again(&mut repairs, &[100, 1_486, 1_488, 1_990, 1_995, 1_999]), [1_488, 1_995, 1_999]);
        assert_eq!(repairs.0[&1].sent.places.capacity(), usize::from(KEPT_MAX));
        repairs.keep(&packet(9_000), Patch::default());
        assert_eq!(again(&mut repairs, &[1_999, 9_000]), [9_000]);
    }

    #[test]
    fn a_payload_comes_again_as_it_was_changed_and_is_held_once() {
        let vp8 = Bytes::from_static(&[0x90, 0xe0, 0x80, 0x05, 7, 0, 1, 0]);
        let mut pictures = crate::leg::picture::Pictures::default();
        let counters = Codec::Vp8.counters(&[0x90, 0xe0, 0x80, 0x63, 9, 0, 1, 0]);
        pictures.begin(1, counters);
        pictures.patch(1, 0, counters);
        let counters = Codec::Vp8.counters(&vp8);
        pictures.begin(2, counters);
        let patch = pictures.patch(2, 0, counters);
        let mut repairs = bound();
        repairs.keep(&Packet { payload: vp8.clone(), ..packet(1) }, patch);
        let packets = asked(&mut repairs, &[1]);
        assert_eq!(packets[0].payload[..], [0, 1, 0x90, 0xe0, 0x80, 0x64, 10, 0, 1, 0]);
        let kept = repairs.0[&1].sent.get(1).unwrap();
        assert_eq!(kept.payload.as_ptr(), vp8.as_ptr());
    }

    #[test]
    fn a_renewed_stream_goes_on_with_its_numbers() {
        let mut repairs = bound();
        let mut number = || {
            repairs.keep(&packet(1), Patch::default());
            let packets = asked(&mut repairs, &[1]);
            repairs.unbind(&info());
            repairs.bind(&info());
            packets[0].header.sequence_number
        };
        assert_eq!([number(), number()], [0, 1]);
    }

    #[test]
    fn a_stream_without_another_for_retransmissions_is_not_kept() {
        let mut repairs = Repairs::default();
        assert!(!repairs.bind(&StreamInfo { ssrc_rtx: None, ..info() }) && !repairs.has(1));
        repairs.keep(&packet(1), Patch::default());
        assert_eq!(again(&mut repairs, &[1]), [] as [u16; 0]);
    }

    #[test]
    fn what_is_too_much_is_not_even_copied() {
        let mut repairs = bound();
        (0..500).for_each(|number| repairs.keep(&packet(number), Patch::default()));
        let numbers: Vec<u16> = (0..500).collect();
        let nacks = nack_pairs_from_sequence_numbers(&numbers);
        let (mut left, mut told) = (10, 0);
        let mut may = |bytes: usize| {
            told += 1;
            let fits = left >= bytes;
            left -= if fits { bytes } else { 0 };
            if fits { Verdict::Send } else { Verdict::Drop }
        };
        let request = TransportLayerNack { sender_ssrc: 0, media_ssrc: 1, nacks };
        assert_eq!(repairs.asked(&request, &mut may).len(), 2);
        assert_eq!(told, 3);
    }

    #[test]
    fn a_place_is_small() {
        assert!(size_of::<Option<Kept>>() <= 48, "{}", size_of::<Option<Kept>>());
    }
}
