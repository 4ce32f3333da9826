//! The media of the load generator: VP8 as a browser packs it, noise behind real headers, with the time of sending at the end.

use bytes::{BufMut, Bytes, BytesMut};
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet;

use super::client::VP8;

/// Packets of a frame.
pub(super) const FRAME_PACKETS: u32 = 10;
/// Bytes of RTP payload in a packet: a browser's are of about this size.
pub(super) const PAYLOAD_BYTES: usize = 1_100;
/// RTP's clock of pictures, in ticks a second (RFC 7741, section 4.1).
const CLOCK: u32 = 90_000;
/// The extended descriptor: picture id of 15 bits, TL0PICIDX, TID and KEYIDX (RFC 7741, section 4.2).
const DESCRIPTOR_BYTES: usize = 6;
/// Of what follows the descriptor in a keyframe's first packet: start code and 640x480 (RFC 6386, section 9.1).
const KEYFRAME: [u8; 10] = [0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01];
/// The same of a frame that needs others.
const INTERFRAME: [u8; 10] = [0x11, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];

/// A camera's packets, one by one.
pub(super) struct Pictures {
    ssrc: u32,
    number: u32,
    timestamp: u32,
    picture: u16,
    keyframe: bool,
}

impl Pictures {
    pub(super) fn new(ssrc: u32) -> Self {
        Self { ssrc, number: 0, timestamp: 0, picture: 0, keyframe: true }
    }

    /// The next packet. `keyframe_wanted` is asked when a frame begins.
    pub(super) fn next(
        &mut self,
        at_us: i64,
        packets_per_second: u32,
        keyframe_wanted: impl FnOnce() -> bool,
    ) -> Packet {
        let part = self.number % FRAME_PACKETS;
        if part == 0 {
            self.keyframe = self.number == 0 || keyframe_wanted();
            self.timestamp = self.timestamp.wrapping_add(CLOCK * FRAME_PACKETS / packets_per_second);
            self.picture = self.picture.wrapping_add(1) & 0x7fff;
        }
        let header = Header {
            version: 2,
            marker: part + 1 == FRAME_PACKETS,
            payload_type: VP8,
            sequence_number: self.number as u16,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Header::default()
        };
        self.number = self.number.wrapping_add(1);
        Packet { header, payload: self.payload(part, at_us) }
    }

    fn payload(&self, part: u32, at_us: i64) -> Bytes {
        let mut payload = BytesMut::with_capacity(PAYLOAD_BYTES);
        // X, and S where a frame begins; I, L, T and K.
        payload.put_slice(&[if part == 0 { 0x90 } else { 0x80 }, 0xf0]);
        payload.put_u16(0x8000 | self.picture);
        payload.put_slice(&[self.picture as u8, 0]);
        if part == 0 {
            payload.put_slice(if self.keyframe { &KEYFRAME } else { &INTERFRAME });
        }
        payload.put_bytes(0x5a, PAYLOAD_BYTES - payload.len() - size_of::<i64>());
        payload.put_i64(at_us);
        payload.freeze()
    }
}

/// What a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it was sent, microseconds since 1970.
    pub(super) sent_us: i64,
    /// A keyframe begins with it.
    pub(super) begins_keyframe: bool,
}

/// Reads a payload as it arrives; `None` for one that is none of ours.
pub(super) fn read(payload: &[u8]) -> Option<Seen> {
    let sent_us = i64::from_be_bytes(*payload.last_chunk()?);
    let begins_keyframe = payload.first()? & 0x10 != 0 && payload.get(DESCRIPTOR_BYTES)? & 1 == 0;
    (payload.len() == PAYLOAD_BYTES).then_some(Seen { sent_us, begins_keyframe })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_ten_packets_and_a_keyframe_is_made_when_asked_for() {
        let mut pictures = Pictures::new(7);
        let packets: Vec<Packet> = (0..30).map(|at| pictures.next(at, 300, || at >= 20)).collect();
        let keyframes: Vec<usize> =
            (0..30).filter(|at| read(&packets[*at].payload).unwrap().begins_keyframe).collect();
        assert_eq!(keyframes, [0, 20]);
        assert!(packets[9].header.marker && !packets[10].header.marker);
        assert_eq!(packets[10].header.timestamp - packets[9].header.timestamp, 3_000);
        assert_eq!(read(&packets[5].payload).unwrap().sent_us, 5);
    }
}
