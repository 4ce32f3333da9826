//! VP9 payloads: the descriptor of RFC 9628 4.2.
//!
//! The size is taken from the scalability structure, which browsers put on every keyframe; the largest spatial layer
//! counts. No field says that a frame is not referred to by later ones (`Z` speaks of spatial layers only), so nothing
//! is called discardable.

use super::{BaseIndex, Counters, Look, PictureId, Size, Starts, Worth};

/// The payload descriptor in front of every packet's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The picture id and `TL0PICIDX`.
    pub counters: Counters,
    /// `TID`, 0 where it is not told.
    pub temporal: u8,
    /// `SID`, 0 where it is not told.
    pub spatial: u8,
    /// Whether a keyframe begins: `B` set, `P` clear, base spatial layer.
    pub begins_keyframe: bool,
    /// The largest size in the scalability structure, where there is one.
    pub size: Option<Size>,
}

/// Most reference indices of a frame in flexible mode (RFC 9628 4.2: up to 3 `P_DIFF`).
const MAX_REFERENCES: usize = 3;

impl Descriptor {
    /// Reads the descriptor; `None` when the payload ends in the middle of it.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let [has_picture, predicted, has_layers, flexible, begins, _, has_structure, _] =
            std::array::from_fn(|bit| first & (0x80 >> bit) != 0);
        let mut descriptor = Self {
            counters: Counters::default(),
            temporal: 0,
            spatial: 0,
            begins_keyframe: false,
            size: None,
        };
        let mut at = 1;
        if has_picture {
            let picture = PictureId::read(payload, at)?;
            at += picture.length();
            descriptor.counters.picture = Some(picture);
        }
        if has_layers {
            let layers = *payload.get(at)?;
            descriptor.temporal = layers >> 5;
            descriptor.spatial = layers >> 1 & 0x07;
            at += 1;
            if !flexible {
                let value = *payload.get(at)?;
                descriptor.counters.base = Some(BaseIndex { at: u8::try_from(at).ok()?, value });
                at += 1;
            }
        }
        if predicted && flexible {
            at = after_references(payload, at)?;
        }
        if has_structure {
            descriptor.size = largest(payload, at)?;
        }
        descriptor.begins_keyframe = begins && !predicted && descriptor.spatial == 0;
        Some(descriptor)
    }
}

/// Passes over `P_DIFF` bytes: the lowest bit says that another follows.
fn after_references(payload: &[u8], from: usize) -> Option<usize> {
    for at in from..from + MAX_REFERENCES {
        if payload.get(at)? & 1 == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The last, hence largest, size of the scalability structure: `N_S`, `Y`, then a width and a height for each layer.
fn largest(payload: &[u8], at: usize) -> Option<Option<Size>> {
    let header = *payload.get(at)?;
    if header & 0x10 == 0 {
        return Some(None);
    }
    let layers = usize::from(header >> 5) + 1;
    let sizes = payload.get(at + 1..at + 1 + 4 * layers)?;
    let last: &[u8; 4] = sizes.last_chunk()?;
    let side = |high: u8, low: u8| u32::from(u16::from_be_bytes([high, low]));
    Some(Some(Size { width: side(last[0], last[1]), height: side(last[2], last[3]) }))
}

/// What a VP9 packet says.
pub fn look(payload: &[u8]) -> Look {
    let Some(descriptor) = Descriptor::parse(payload) else { return Look::ORDINARY };
    Look {
        starts: if descriptor.begins_keyframe { Starts::Keyframe(descriptor.size) } else { Starts::Nothing },
        temporal: descriptor.temporal,
        worth: Worth::Needed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PictureWidth;

    #[test]
    fn a_keyframe_tells_the_largest_size() {
        // I, L, B, V; picture id 5 in 15 bits; TID 0, SID 0; TL0PICIDX 9; N_S 1, Y: 320x180 and 640x360.
        let payload = [0xaa, 0x80, 5, 0x00, 9, 0x30, 1, 64, 0, 180, 2, 128, 1, 104, 0xff];
        assert_eq!(look(&payload).starts, Starts::Keyframe(Some(Size { width: 640, height: 360 })));
        let counters = Descriptor::parse(&payload).unwrap().counters;
        assert_eq!(counters.picture.unwrap().width, PictureWidth::Bits15);
        assert_eq!(counters.base, Some(BaseIndex { at: 4, value: 9 }));
        assert_eq!(look(&payload[..10]), Look::ORDINARY);
    }

    #[test]
    fn flexible_mode_has_references_and_no_base_index() {
        // I, P, L, F, B; picture id 3; TID 2, SID 1; two references.
        let descriptor = Descriptor::parse(&[0xf8, 3, 0x42, 0x03, 0x02]).unwrap();
        assert_eq!((descriptor.temporal, descriptor.spatial), (2, 1));
        assert_eq!(descriptor.counters.base, None);
        assert!(!descriptor.begins_keyframe);
        assert_eq!(Descriptor::parse(&[0xf8, 3, 0x42, 0x03, 0x03, 0x03]), None);
    }

    #[test]
    fn an_upper_spatial_layer_does_not_begin_a_keyframe() {
        assert!(Descriptor::parse(&[0x38, 0x00]).unwrap().begins_keyframe);
        assert!(!Descriptor::parse(&[0x38, 0x02]).unwrap().begins_keyframe);
    }
}
