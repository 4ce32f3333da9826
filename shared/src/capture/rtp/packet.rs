//! An RTP packet as it stands in a record: its header, its header extensions, its payload (RFC 3550, 5.1; RFC 8285).
//!
//! This file must not know payload formats. It reads hostile bytes and copies nothing.

use crate::capture::format::Fields;

/// Profile of one-byte header extensions (RFC 8285, section 4.2).
const ONE_BYTE: u16 = 0xBEDE;
/// Profile of two-byte header extensions; its low four bits are the application's (RFC 8285, section 4.3).
const TWO_BYTE: u16 = 0x1000;

/// A packet that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// What its payload is, by the stream's description.
    pub payload_type: u8,
    /// The last packet of a picture; the first after silence in sound.
    pub marker: bool,
    /// The low 16 bits of its sequence.
    pub sequence: u16,
    /// The low 32 bits of its time, in ticks of the stream's clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: u32,
    profile: u16,
    extensions: &'a [u8],
    /// The payload without padding; empty in packets that only probe.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet; `None` when it is not one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let [first, second] = fields.array()?;
        (first >> 6 == 2).then_some(())?;
        let sequence = u16::from_be_bytes(fields.array()?);
        let timestamp = u32::from_be_bytes(fields.array()?);
        let ssrc = u32::from_be_bytes(fields.array()?);
        fields.take(4 * usize::from(first & 0x0F))?;
        let (mut profile, mut extensions) = (0, [].as_slice());
        if first & 0x10 != 0 {
            profile = u16::from_be_bytes(fields.array()?);
            let words = u16::from_be_bytes(fields.array()?);
            extensions = fields.take(4 * usize::from(words))?;
        }
        let payload = fields.0;
        let padding = if first & 0x20 == 0 { 0 } else { usize::from(*payload.last()?) };
        let payload = payload.get(..payload.len().checked_sub(padding)?)?;
        let (payload_type, marker) = (second & 0x7F, second & 0x80 != 0);
        Some(Self { payload_type, marker, sequence, timestamp, ssrc, profile, extensions, payload })
    }

    /// The value of a header extension.
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        let mut fields = Fields(self.extensions);
        loop {
            let head = fields.array::<1>()?[0];
            if head == 0 {
                continue; // padding between elements
            }
            let (found, len) = match self.profile {
                ONE_BYTE if head >> 4 == 15 => return None,
                ONE_BYTE => (head >> 4, usize::from(head & 0x0F) + 1),
                profile if profile & 0xFFF0 == TWO_BYTE => (head, usize::from(fields.array::<1>()?[0])),
                _ => return None,
            };
            let value = fields.take(len)?;
            if found == id {
                return Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_extensions_of_both_forms_are_found() {
        let one = [
            0x90, 0xE0, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7, 0xBE, 0xDE, 0, 2, 0x21, 1, 2, 0, 0x40, 5, 0, 0,
            0xAA,
        ];
        let packet = RtpPacket::parse(&one).unwrap();
        assert_eq!((packet.payload_type, packet.marker, packet.sequence), (0x60, true, 0x1234));
        assert_eq!((packet.timestamp, packet.ssrc, packet.payload), (9, 7, [0xAA].as_slice()));
        assert_eq!(packet.extension(2), Some([1, 2].as_slice()));
        assert_eq!(packet.extension(4), Some([5].as_slice()));
        assert_eq!(packet.extension(5), None);
        let two = [0x90, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0x10, 0x00, 0, 1, 200, 1, 6, 0, 0xAA];
        assert_eq!(RtpPacket::parse(&two).unwrap().extension(200), Some([6].as_slice()));
    }

    #[test]
    fn padding_is_taken_off_and_lies_about_it_are_refused() {
        let mut padded = vec![0xA0, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0xAA, 0, 2];
        assert_eq!(RtpPacket::parse(&padded).unwrap().payload, [0xAA]);
        padded[14] = 9;
        assert_eq!(RtpPacket::parse(&padded), None);
        assert_eq!(RtpPacket::parse(&padded[..12]), None);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_is_fatal() {
        let whole = [
            0xB1, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0x21, 1, 2, 0, 0xAA,
            0xBB, 1,
        ];
        assert!(RtpPacket::parse(&whole).is_some());
        for cut in 0..whole.len() {
            let _ = RtpPacket::parse(&whole[..cut]);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Some(packet) = RtpPacket::parse(&flipped) {
                let _ = (0..=255).filter_map(|id| packet.extension(id)).count();
            }
        }
    }
}
