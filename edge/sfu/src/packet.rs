//! An RTP packet as the forwarding sees it. It must not know the library that decrypts and encrypts.

use bytes::{BufMut, Bytes, BytesMut};

/// A received packet (RFC 3550, section 5.1). Cloning is cheap: payload and extensions are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) extensions: Vec<(u8, Bytes)>,
    pub(crate) payload: Bytes,
}

/// Two-byte extension headers (RFC 8285, section 4.3): any id and length fits.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// One-byte extension headers (RFC 8285, section 4.2): ids up to 14, 1 to 16 bytes.
const ONE_BYTE_PROFILE: u16 = 0xBEDE;

impl Packet {
    /// Bytes of header and payload.
    pub(crate) fn size(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, value)| 1 + value.len()).sum();
        let header = if self.extensions.is_empty() { 12 } else { 16 + extensions.next_multiple_of(4) };
        header + self.payload.len()
    }

    /// The packet as it would be on the wire before encryption.
    pub(crate) fn write(&self, into: &mut BytesMut) {
        into.put_u8(0x80 | if self.extensions.is_empty() { 0 } else { 0x10 });
        into.put_u8(u8::from(self.marker) << 7 | self.payload_type);
        into.put_u16(self.sequence);
        into.put_u32(self.timestamp);
        into.put_u32(self.ssrc);
        if !self.extensions.is_empty() {
            self.write_extensions(into);
        }
        into.put_slice(&self.payload);
    }

    fn write_extensions(&self, into: &mut BytesMut) {
        let short = self
            .extensions
            .iter()
            .all(|(id, value)| (1..=14).contains(id) && (1..=16).contains(&value.len()));
        let header = if short { 1 } else { 2 };
        let length: usize = self.extensions.iter().map(|(_, value)| header + value.len()).sum();
        let words = length.div_ceil(4);
        into.put_u16(if short { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE });
        into.put_u16(u16::try_from(words).unwrap_or(u16::MAX));
        for (id, value) in &self.extensions {
            let size = u8::try_from(value.len()).unwrap_or(u8::MAX);
            if short {
                into.put_u8(id << 4 | (size - 1));
            } else {
                into.put_u8(*id);
                into.put_u8(size);
            }
            into.put_slice(&value[..usize::from(size)]);
        }
        into.put_bytes(0, words * 4 - length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_padded_to_words() {
        let packet = Packet {
            marker: true,
            payload_type: 96,
            sequence: 1,
            timestamp: 2,
            ssrc: 3,
            extensions: vec![(1, Bytes::from_static(&[7])), (3, Bytes::from_static(&[1, 2, 3]))],
            payload: Bytes::from_static(&[9, 9]),
        };
        let mut wire = BytesMut::new();
        packet.write(&mut wire);
        assert_eq!(wire[..2], [0x90, 0xE0]);
        assert_eq!(wire[12..], [0xBE, 0xDE, 0, 2, 0x10, 7, 0x32, 1, 2, 3, 0, 0, 9, 9]);
    }
}
