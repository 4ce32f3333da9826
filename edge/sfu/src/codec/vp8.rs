//! VP8 payloads: the descriptor of RFC 7741 4.2 and the first bytes of a frame (4.3, RFC 6386 9.1).
//!
//! Payloads under 4 bytes are legal (a descriptor of 1 and 1 of data) and are read as far as they go.

use super::{BaseIndex, Counters, Look, PictureId, Size, Starts, Worth};

/// The payload descriptor in front of every packet's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The picture id and `TL0PICIDX`.
    pub counters: Counters,
    /// `TID`, 0 where it is not told.
    pub temporal: u8,
    /// `N`: whether the frame may be left out.
    pub worth: Worth,
    /// Whether the first byte of the frame follows (`S` set and `PID` 0).
    pub begins_frame: bool,
    /// Bytes of the descriptor; the frame's data follow.
    pub length: usize,
}

impl Descriptor {
    /// Reads the descriptor; `None` when the payload ends in the middle of it.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            counters: Counters::default(),
            temporal: 0,
            worth: if first & 0x20 == 0 { Worth::Needed } else { Worth::Discardable },
            begins_frame: first & 0x10 != 0 && first & 0x07 == 0,
            length: 1,
        };
        if first & 0x80 != 0 {
            descriptor.extend(payload)?;
        }
        Some(descriptor)
    }

    /// The extended control bits and the fields they announce: I, L, then T and K in one byte.
    fn extend(&mut self, payload: &[u8]) -> Option<()> {
        let extension = *payload.get(1)?;
        let mut at = 2;
        if extension & 0x80 != 0 {
            let picture = PictureId::read(payload, at)?;
            at += picture.length();
            self.counters.picture = Some(picture);
        }
        if extension & 0x40 != 0 {
            self.counters.base = Some(BaseIndex { at: u8::try_from(at).ok()?, value: *payload.get(at)? });
            at += 1;
        }
        if extension & 0x30 != 0 {
            let byte = *payload.get(at)?;
            if extension & 0x20 != 0 {
                self.temporal = byte >> 6;
            }
            at += 1;
        }
        self.length = at;
        Some(())
    }
}

/// What a VP8 packet says. A keyframe begins where a frame begins whose `P` bit is 0.
pub fn look(payload: &[u8]) -> Look {
    let Some(descriptor) = Descriptor::parse(payload) else { return Look::ORDINARY };
    let frame = payload.get(descriptor.length..).unwrap_or_default();
    let key = descriptor.begins_frame && frame.first().is_some_and(|tag| tag & 1 == 0);
    Look {
        starts: if key { Starts::Keyframe(size(frame)) } else { Starts::Nothing },
        temporal: descriptor.temporal,
        worth: if key { Worth::Needed } else { descriptor.worth },
    }
}

/// Frame tag (3 bytes), start code `9d 01 2a`, then width and height of 14 bits, each under 2 bits of scaling.
fn size(frame: &[u8]) -> Option<Size> {
    let header: &[u8; 10] = frame.first_chunk()?;
    if header[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some(Size { width: side(header[6], header[7]), height: side(header[8], header[9]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PictureWidth;

    /// X, S; I, L, T; picture id 0x1234 in 15 bits; TL0PICIDX 7; TID 2.
    const FULL: [u8; 6] = [0x90, 0xe0, 0x92, 0x34, 7, 0x80];
    /// The first bytes of a 640x360 keyframe.
    const KEY: [u8; 10] = [0x50, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x41];

    #[test]
    fn a_full_descriptor_is_read() {
        let descriptor = Descriptor::parse(&FULL).unwrap();
        let picture = descriptor.counters.picture.unwrap();
        assert_eq!((picture.at, picture.value, picture.width), (2, 0x1234, PictureWidth::Bits15));
        assert_eq!(descriptor.counters.base, Some(BaseIndex { at: 4, value: 7 }));
        assert_eq!((descriptor.temporal, descriptor.length), (2, 6));
        assert_eq!(Descriptor::parse(&FULL[..5]), None);
    }

    #[test]
    fn a_keyframe_tells_its_size_and_ignores_the_scaling() {
        let payload = [&FULL[..], &KEY[..]].concat();
        let starts = Starts::Keyframe(Some(Size { width: 640, height: 360 }));
        assert_eq!(look(&payload), Look { starts, temporal: 2, worth: Worth::Needed });
    }

    #[test]
    fn a_keyframe_of_libvpx_is_read() {
        let payload = [0x10, 0x30, 0x51, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 0x00, 0x47];
        assert_eq!(look(&payload).starts, Starts::Keyframe(Some(Size { width: 320, height: 180 })));
    }

    #[test]
    fn payloads_under_four_bytes_are_legal() {
        assert_eq!(look(&[0x10, 0x00]).starts, Starts::Keyframe(None));
        assert_eq!(look(&[0x10, 0x01]).starts, Starts::Nothing);
        assert_eq!(look(&[0x30, 0x01]).worth, Worth::Discardable);
        assert_eq!(look(&[0x00, 0x00]), Look::ORDINARY);
        assert_eq!(look(&[]), Look::ORDINARY);
    }

    #[test]
    fn a_later_partition_does_not_begin_a_keyframe() {
        assert_eq!(look(&[0x11, 0x00, 0x00, 0x00]).starts, Starts::Nothing);
    }

    #[test]
    fn a_picture_id_of_seven_bits_is_one_byte() {
        let picture = Descriptor::parse(&[0x80, 0x80, 0x7f]).unwrap().counters.picture.unwrap();
        assert_eq!((picture.value, picture.width), (127, PictureWidth::Bits7));
    }
}
