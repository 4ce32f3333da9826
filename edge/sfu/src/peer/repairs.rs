//! Packets that were sent, for receivers that ask for one again (RFC 4585, section 6.2.1), as retransmissions (RFC 4588).
//!
//! It must not know when a packet may be sent again: `allowance` does.
//!
//! Decisions:
//! - What is kept is the publisher's payload, which all subscribers share, and what one subscriber's copy changes in it. With a
//!   payload of its own, a subscriber whose pictures were paused once would hold half a megabyte.
//! - A stream that has another for retransmissions keeps no headers. One that has none repeats packets under their own number, and those
//!   must be the same to the last bit, header included (RFC 7714, section 8.2): they are kept whole.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use rtc::interceptor::StreamInfo;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use crate::leg::picture::Patch;
use crate::packet::Packet;

use super::allowance::Verdict;

/// Packets kept of a picture: about 2 s of 2 Mbit/s, more than a receiver's jitter buffer waits.
const PICTURES_MAX: usize = 512;
/// The same of sound: 1.3 s of the usual 20 ms.
const SOUNDS_MAX: usize = 64;

/// The original number in front of the payload (RFC 4588, section 4).
const NUMBER_BYTES: usize = 2;

/// What was sent on the streams of one connection.
#[derive(Debug, Default)]
pub(super) struct Repairs(HashMap<u32, Stream>);

/// How packets of a stream come again.
#[derive(Debug)]
enum Stream {
    /// On another stream. It outlives its binding: a number of that stream is never given twice.
    Apart { ssrc: u32, payload_type: u8, next: u16, bound: bool, sent: Sent<Kept> },
    /// As they were.
    Same(Sent<(Packet, Patch)>),
}

/// The newest packets, one place for each number.
#[derive(Debug)]
struct Sent<T> {
    first: u16,
    places: VecDeque<Option<T>>,
    most: usize,
}

#[derive(Debug, Clone)]
struct Kept {
    timestamp: u32,
    marker: bool,
    patch: Patch,
    payload: Bytes,
}

impl Repairs {
    /// A stream of ours was agreed on.
    pub(super) fn bind(&mut self, info: &StreamInfo) {
        let is_sound = info.mime_type.starts_with("audio/");
        let most = if is_sound { SOUNDS_MAX } else { PICTURES_MAX };
        // A client may ask for sound without having said so: browsers do when our offer says that they may.
        let asks =
            is_sound || info.rtcp_feedback.iter().any(|it| it.typ == "nack" && it.parameter.is_empty());
        if !asks {
            return;
        }
        let Some((apart, apart_type)) = info.ssrc_rtx.zip(info.payload_type_rtx) else {
            self.0.insert(info.ssrc, Stream::Same(Sent::new(most)));
            return;
        };
        match self.0.get_mut(&info.ssrc) {
            Some(Stream::Apart { ssrc, payload_type, bound, .. }) => {
                (*ssrc, *payload_type, *bound) = (apart, apart_type, true);
            }
            _ => {
                let (ssrc, payload_type, sent) = (apart, apart_type, Sent::new(most));
                self.0.insert(info.ssrc, Stream::Apart { ssrc, payload_type, next: 0, bound: true, sent });
            }
        }
    }

    /// A stream of ours is no more, or is about to be agreed on anew.
    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        match self.0.get_mut(&info.ssrc) {
            Some(Stream::Apart { bound, sent, .. }) => (*bound, *sent) = (false, Sent::new(sent.most)),
            Some(Stream::Same(_)) => drop(self.0.remove(&info.ssrc)),
            None => {}
        }
    }

    /// Keeps a packet that leaves.
    pub(super) fn keep(&mut self, packet: &Packet, patch: Patch) {
        match self.0.get_mut(&packet.ssrc) {
            Some(Stream::Apart { bound: true, sent, .. }) => {
                let Packet { marker, timestamp, .. } = *packet;
                sent.put(packet.sequence, Kept { timestamp, marker, patch, payload: packet.payload.clone() });
            }
            Some(Stream::Same(sent)) => sent.put(packet.sequence, (packet.clone(), patch)),
            _ => {}
        }
    }

    /// The packets that a receiver asks for, as far as they are still here, up to the first that is too large: `may` is told the bytes of
    /// each before it is copied. Each comes with what is to be changed in it.
    pub(super) fn asked(
        &mut self,
        request: &TransportLayerNack,
        may: &mut dyn FnMut(usize) -> Verdict,
    ) -> Vec<(Packet, Patch)> {
        let Some(stream) = self.0.get_mut(&request.media_ssrc) else { return Vec::new() };
        let mut packets = Vec::new();
        for number in request.nacks.iter().flat_map(|pair| pair.into_iter()) {
            let Some(bytes) = stream.bytes(number) else { continue };
            if may(bytes) == Verdict::Drop {
                break;
            }
            packets.extend(stream.again(number));
        }
        packets
    }
}

impl Stream {
    /// What a packet will take of the way.
    fn bytes(&self, number: u16) -> Option<usize> {
        match self {
            Self::Apart { sent, .. } => Some(NUMBER_BYTES + sent.get(number)?.payload.len()),
            Self::Same(sent) => Some(sent.get(number)?.0.payload.len()),
        }
    }

    fn again(&mut self, number: u16) -> Option<(Packet, Patch)> {
        let (ssrc, payload_type, next, kept) = match self {
            Self::Same(sent) => return sent.get(number).cloned(),
            Self::Apart { ssrc, payload_type, next, sent, .. } => {
                (*ssrc, *payload_type, next, sent.get(number)?)
            }
        };
        let mut payload = BytesMut::with_capacity(NUMBER_BYTES + kept.payload.len());
        payload.put_u16(number);
        payload.put_slice(&kept.payload);
        kept.patch.apply(&mut payload[NUMBER_BYTES..]);
        let packet = Packet {
            marker: kept.marker,
            payload_type,
            sequence: *next,
            timestamp: kept.timestamp,
            ssrc,
            extensions: Vec::new(),
            payload: payload.freeze(),
        };
        *next = next.wrapping_add(1);
        Some((packet, Patch::default()))
    }
}

impl<T> Sent<T> {
    fn new(most: usize) -> Self {
        Self { first: 0, places: VecDeque::new(), most }
    }

    fn put(&mut self, number: u16, kept: T) {
        let at = usize::from(number.wrapping_sub(self.first));
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(kept);
            return;
        }
        let ahead = number.wrapping_sub(self.first.wrapping_add(self.places.len() as u16));
        if usize::from(ahead) >= self.most || self.places.is_empty() {
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

    fn push(&mut self, place: Option<T>) {
        if self.places.len() == self.most {
            self.places.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.places.push_back(place);
    }

    fn get(&self, number: u16) -> Option<&T> {
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

    fn asked(repairs: &mut Repairs, numbers: &[u16]) -> Vec<Packet> {
        let nacks = nack_pairs_from_sequence_numbers(numbers);
        let request = TransportLayerNack { sender_ssrc: 0, media_ssrc: 1, nacks };
        repairs.asked(&request, &mut |_| Verdict::Send).into_iter().map(|(packet, _)| packet).collect()
    }

    /// The places of the one stream.
    fn places(repairs: &Repairs) -> &Sent<Kept> {
        let Stream::Apart { sent, .. } = &repairs.0[&1] else { panic!("it has another for retransmissions") };
        sent
    }

    /// The numbers of those that come again.
    fn again(repairs: &mut Repairs, numbers: &[u16]) -> Vec<u16> {
        let packets = asked(repairs, numbers);
        let number = |packet: &Packet| u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
        packets
            .iter()
            .map(|packet| {
                assert_eq!(packet.payload[2..], number(packet).to_be_bytes(), "the payload is that packet's");
                assert_eq!(packet.timestamp, u32::from(number(packet)) * 10);
                number(packet)
            })
            .collect()
    }

    #[test]
    fn what_is_asked_for_comes_on_the_stream_of_retransmissions() {
        let mut repairs = bound();
        (65_534..=65_535).chain(0..3).for_each(|number| repairs.keep(&packet(number), Patch::default()));
        let packets = asked(&mut repairs, &[65_535, 1]);
        let heads = packets.iter().map(|it| (it.ssrc, it.payload_type, it.sequence));
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
        assert_eq!(places(&repairs).places.capacity(), PICTURES_MAX);
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
        let kept = places(&repairs).get(1).unwrap();
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
            packets[0].sequence
        };
        assert_eq!([number(), number()], [0, 1]);
    }

    #[test]
    fn a_stream_without_another_for_retransmissions_repeats_the_same() {
        let mut repairs = Repairs::default();
        let alone = StreamInfo { ssrc_rtx: None, ..info() };
        repairs.bind(&alone);
        let sent = |number| Packet { extensions: vec![(5, Bytes::from_static(&[0, 7]))], ..packet(number) };
        (0..600).for_each(|number| repairs.keep(&sent(number), Patch::default()));
        assert_eq!(asked(&mut repairs, &[87, 88, 599]), [sent(88), sent(599)]);
        repairs.unbind(&alone);
        assert_eq!(asked(&mut repairs, &[599]), []);
        repairs.bind(&StreamInfo { rtcp_feedback: Vec::new(), ..alone });
        repairs.keep(&sent(1), Patch::default());
        assert_eq!(asked(&mut repairs, &[1]), [], "nobody can ask");
    }

    #[test]
    fn sound_is_repeated_though_nobody_said_so_and_for_a_moment() {
        let mut repairs = Repairs::default();
        let mime_type = "audio/opus".to_owned();
        repairs.bind(&StreamInfo { ssrc: 1, mime_type, ..StreamInfo::default() });
        (0..100).for_each(|number| repairs.keep(&packet(number), Patch::default()));
        assert_eq!(asked(&mut repairs, &[35, 36, 99]), [packet(36), packet(99)]);
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
