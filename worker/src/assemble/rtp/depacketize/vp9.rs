//! VP9 (RFC 9628, section 4.2). Spatial layers of one picture become a superframe, as decoders want them.

use super::{Begins, Part, Reference};
use crate::assemble::codec::Marked;

/// Layers of one picture that an index can tell (VP9 bitstream specification, annex B).
const MAX_LAYERS: usize = 8;
/// Differences to reference pictures in one descriptor.
const MAX_DIFFERENCES: usize = 3;

/// Where the layers of a picture begin.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    begins: Vec<usize>,
}

impl Layers {
    pub(super) fn push(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<Part> {
        let first = *payload.first()?;
        let (at, layer) = descriptor(payload)?;
        let data = payload.get(at..).filter(|data| !data.is_empty())?;
        let begins_layer = first & 0x08 != 0;
        if begins_layer {
            (self.begins.len() < MAX_LAYERS).then(|| self.begins.push(out.len()))?;
        }
        out.extend_from_slice(data);
        let begins =
            if begins_layer && self.begins.len() == 1 && layer == 0 { Begins::Yes } else { Begins::No };
        let key = begins == Begins::Yes && first & 0x40 == 0;
        let marked = if key { Marked::Key } else { Marked::Delta };
        Some(Part { begins, marked, reference: Reference::Yes })
    }

    /// Appends the index of a superframe where there is more than one layer.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Option<()> {
        if self.begins.len() < 2 {
            return Some(());
        }
        let ends = self.begins.iter().skip(1).copied().chain([out.len()]);
        let sizes: Vec<usize> = self.begins.iter().zip(ends).map(|(begin, end)| end - begin).collect();
        let marker = 0xC0 | 3 << 3 | u8::try_from(sizes.len() - 1).ok()?;
        out.push(marker);
        for size in sizes {
            out.extend_from_slice(&u32::try_from(size).ok()?.to_le_bytes());
        }
        out.push(marker);
        Some(())
    }
}

/// The descriptor's length, and its spatial layer.
fn descriptor(payload: &[u8]) -> Option<(usize, u8)> {
    let first = *payload.first()?;
    let flexible = first & 0x10 != 0;
    let (mut at, mut layer) = (1, 0);
    if first & 0x80 != 0 {
        at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    if first & 0x20 != 0 {
        layer = *payload.get(at)? >> 1 & 7;
        at += if flexible { 1 } else { 2 };
    }
    if flexible && first & 0x40 != 0 {
        for n in 1..=MAX_DIFFERENCES {
            let more = *payload.get(at)? & 1 != 0;
            at += 1;
            if !more {
                break;
            }
            (n < MAX_DIFFERENCES).then_some(())?;
        }
    }
    if first & 0x02 != 0 {
        at = structure(payload, at)?;
    }
    Some((at, layer))
}

/// Where the scalability structure ends.
fn structure(payload: &[u8], mut at: usize) -> Option<usize> {
    let head = *payload.get(at)?;
    at += 1;
    if head & 0x10 != 0 {
        at += 4 * (usize::from(head >> 5) + 1);
    }
    if head & 0x08 != 0 {
        let pictures = *payload.get(at)?;
        at += 1;
        for _ in 0..pictures {
            at += 1 + usize::from(*payload.get(at)? >> 2 & 3);
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalability_structure_is_passed_over() {
        let payload = [0x8B, 0x81, 0x02, 0x18, 5, 0, 2, 208, 1, 0x04, 1, 0xAA];
        let (mut layers, mut out) = (Layers::default(), Vec::new());
        let part = layers.push(&payload, &mut out).unwrap();
        assert_eq!((part.begins, part.marked, out.as_slice()), (Begins::Yes, Marked::Key, [0xAA].as_slice()));
        assert_eq!(Layers::default().push(&payload[..8], &mut Vec::new()), None);
    }

    #[test]
    fn layers_of_one_picture_get_an_index() {
        let (mut layers, mut out) = (Layers::default(), Vec::new());
        layers.push(&[0xA8, 1, 0x00, 0, 1, 2, 3], &mut out).unwrap();
        layers.push(&[0xAC, 1, 0x02, 0, 4, 5], &mut out).unwrap();
        layers.finish(&mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 4, 5, 0xD9, 3, 0, 0, 0, 2, 0, 0, 0, 0xD9]);
    }
}
