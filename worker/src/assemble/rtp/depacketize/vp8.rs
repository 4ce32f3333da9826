//! VP8 (RFC 7741, section 4.2).

use super::{Begins, Part, Reference};
use crate::assemble::codec::Marked;

/// Takes the payload descriptor off. A payload of one byte behind it is legal.
pub(super) fn push(payload: &[u8], out: &mut Vec<u8>) -> Option<Part> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(at)?;
        at += 1;
        if extended & 0x80 != 0 {
            at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extended & 0x40 != 0) + usize::from(extended & 0x30 != 0);
    }
    let data = payload.get(at..)?;
    out.extend_from_slice(data);
    let begins = if first & 0x17 == 0x10 { Begins::Yes } else { Begins::No };
    let key = begins == Begins::Yes && data.first().is_some_and(|tag| tag & 1 == 0);
    Some(Part {
        begins,
        marked: if key { Marked::Key } else { Marked::Delta },
        reference: if first & 0x20 == 0 { Reference::Yes } else { Reference::No },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_every_length_are_taken_off() {
        for (payload, left) in [
            (&[0x10, 0xAA][..], &[0xAA][..]),
            (&[0x90, 0x80, 0x11, 0xAA], &[0xAA]),
            (&[0x90, 0x80, 0x81, 0x11, 0xAA], &[0xAA]),
            (&[0x90, 0xE0, 0x81, 0x11, 1, 2, 0xAA], &[0xAA]),
            (&[0x90, 0x10, 2, 0xAA, 0xBB], &[0xAA, 0xBB]),
        ] {
            let mut out = Vec::new();
            assert_eq!(push(payload, &mut out).unwrap().begins, Begins::Yes);
            assert_eq!(out, left);
        }
        assert_eq!(push(&[0x90, 0x80, 0x81], &mut Vec::new()), None);
    }
}
