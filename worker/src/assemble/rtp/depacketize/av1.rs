//! AV1 (RTP Payload Format For AV1, version 1.0, section 4): OBU elements become OBUs with sizes, and their `av1C`.
//!
//! Temporal delimiters, tile lists and padding are left out, as Matroska and MP4 want it (AV1 in ISO-BMFF, 2.4).

use super::{Begins, Part, Reference};
use crate::assemble::codec::Marked;
use crate::assemble::codec::h264::Bits;

const SEQUENCE_HEADER: u8 = 1;
const LEFT_OUT: [u8; 3] = [2, 8, 15];

/// An OBU whose end is in the next packet.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    open: Option<Vec<u8>>,
}

impl Fragment {
    pub(super) fn push(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<Part> {
        let (&head, mut rest) = payload.split_first()?;
        let (continues, goes_on, count, new) =
            (head & 0x80 != 0, head & 0x40 != 0, head >> 4 & 3, head & 8 != 0);
        (continues == self.open.is_some()).then_some(())?;
        let mut taken = 0;
        while !rest.is_empty() {
            taken += 1;
            let last = count != 0 && taken == count;
            let element = if last { std::mem::take(&mut rest) } else { sized(&mut rest)? };
            let mut obu = self.open.take().unwrap_or_default();
            obu.extend_from_slice(element);
            if rest.is_empty() && goes_on {
                self.open = Some(obu);
            } else {
                append(&obu, out)?;
            }
        }
        // Any OBU may stand first in a packet: only a new sequence proves that nothing of the unit came before.
        Some(Part {
            begins: if new && !continues { Begins::Yes } else { Begins::No },
            marked: if new { Marked::Key } else { Marked::Delta },
            reference: Reference::Yes,
        })
    }

    pub(super) fn finish(self) -> Option<()> {
        self.open.is_none().then_some(())
    }
}

/// Takes an element behind its length.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (size, len) = leb128(rest)?;
    let element = rest.get(len..len.checked_add(size)?)?;
    *rest = rest.get(len + size..)?;
    Some(element)
}

/// A number in base 128, and the bytes that it takes.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    /// Enough for any size that fits a packet or a frame.
    const MAX_BYTES: usize = 4;
    let mut value = 0;
    for (n, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}

fn put_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(0x80 | u8::try_from(value & 0x7F).unwrap_or_default());
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

/// Appends an OBU with its size.
fn append(obu: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let head = *obu.first()?;
    if LEFT_OUT.contains(&(head >> 3 & 15)) {
        return Some(());
    }
    let mut at = if head & 4 != 0 { 2 } else { 1 };
    let (extension, mut payload) = (obu.get(1..at)?, obu.get(at..)?);
    if head & 2 != 0 {
        let (size, len) = leb128(payload)?;
        at = len.checked_add(size)?;
        payload = payload.get(len..at)?;
    }
    out.push(head | 2);
    out.extend_from_slice(extension);
    put_leb128(payload.len(), out);
    out.extend_from_slice(payload);
    Some(())
}

/// The `av1C` of a temporal unit that has a sequence header (AV1 in ISO-BMFF, section 2.3).
pub(crate) fn config(unit: &[u8]) -> Option<Vec<u8>> {
    let mut rest = unit;
    while let Some(&head) = rest.first() {
        let skip = if head & 4 != 0 { 2 } else { 1 };
        let (size, len) = leb128(rest.get(skip..)?)?;
        let end = skip.checked_add(len)?.checked_add(size)?;
        let obu = rest.get(..end)?;
        if head >> 3 & 15 == SEQUENCE_HEADER {
            let mut config = vec![0x81];
            config.extend(summary(obu.get(skip + len..)?)?);
            config.push(0);
            config.extend_from_slice(obu);
            return Some(config);
        }
        rest = rest.get(end..)?;
    }
    None
}

/// The second and third byte of an `av1C`, from a sequence header (AV1 bitstream specification, 5.5).
fn summary(payload: &[u8]) -> Option<[u8; 2]> {
    let mut bits = Bits::new(payload);
    let profile = bits.take(3)?;
    bits.take(1)?;
    let reduced = bits.take(1)? == 1;
    let (level, tier) = if reduced { (bits.take(5)?, 0) } else { operating_point(&mut bits)? };
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    bits.take(width_bits)?;
    bits.take(height_bits)?;
    if !reduced && bits.take(1)? == 1 {
        bits.take(7)?; // frame ids
    }
    bits.take(3)?; // 128x128 superblocks, filter intra, intra edge filter
    if !reduced {
        tools(&mut bits)?;
    }
    bits.take(3)?; // super resolution, cdef, restoration
    let colour = colour(&mut bits, profile)?;
    Some([u8::try_from(profile << 5 | level).ok()?, u8::try_from(tier << 7).ok()? | colour])
}

/// Level and tier of the first operating point, and past all of them.
fn operating_point(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    (bits.take(1)? == 0).then_some(())?; // timing_info_present: no browser's encoder writes it
    let delay = bits.take(1)?;
    let mut first = None;
    for _ in 0..=bits.take(5)? {
        bits.take(12)?;
        let level = bits.take(5)?;
        let tier = if level > 7 { bits.take(1)? } else { 0 };
        first.get_or_insert((level, tier));
        if delay == 1 && bits.take(1)? == 1 {
            bits.take(4)?;
        }
    }
    first
}

/// Past the coding tools of a sequence header that is not reduced.
fn tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.take(4)?; // interintra, masked, warped, dual filter
    let order_hint = bits.take(1)? == 1;
    if order_hint {
        bits.take(2)?;
    }
    let screen = if bits.take(1)? == 1 { 2 } else { bits.take(1)? };
    if screen > 0 && bits.take(1)? == 0 {
        bits.take(1)?;
    }
    if order_hint {
        bits.take(3)?;
    }
    Some(())
}

/// The colour bits of an `av1C`.
fn colour(bits: &mut Bits<'_>, profile: u32) -> Option<u8> {
    const SRGB: [u32; 3] = [1, 13, 0];
    let high = bits.take(1)?;
    let twelve = if profile == 2 && high == 1 { bits.take(1)? } else { 0 };
    let mono = if profile == 1 { 0 } else { bits.take(1)? };
    let described =
        if bits.take(1)? == 1 { Some([bits.take(8)?, bits.take(8)?, bits.take(8)?]) } else { None };
    let (mut x, mut y, mut position) = (1, 1, 0);
    if mono == 0 && described == Some(SRGB) {
        (x, y) = (0, 0);
    } else if mono == 0 {
        bits.take(1)?; // colour range
        (x, y) = match profile {
            0 => (1, 1),
            1 => (0, 0),
            _ if twelve == 1 && bits.take(1)? == 1 => (1, bits.take(1)?),
            _ if twelve == 1 => (0, 0),
            _ => (1, 0),
        };
        if x == 1 && y == 1 {
            position = bits.take(2)?;
        }
    }
    u8::try_from(high << 6 | twelve << 5 | mono << 4 | x << 3 | y << 2 | position).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obu_over_three_packets_is_one_with_its_size() {
        let (mut fragment, mut out) = (Fragment::default(), Vec::new());
        fragment.push(&[0x58, 0x30, 1], &mut out).unwrap();
        fragment.push(&[0xD0, 2], &mut out).unwrap();
        fragment.push(&[0x90, 3], &mut out).unwrap();
        assert_eq!(out, [0x32, 3, 1, 2, 3]);
        assert!(fragment.finish().is_some());
        assert_eq!(Fragment::default().push(&[0x90, 3], &mut out), None);
    }

    #[test]
    fn elements_with_lengths_are_parted_and_delimiters_left_out() {
        let mut out = Vec::new();
        Fragment::default().push(&[0x00, 1, 0x10, 2, 0x30, 7, 2, 0x30, 8], &mut out).unwrap();
        assert_eq!(out, [0x32, 1, 7, 0x32, 1, 8]);
    }

    #[test]
    fn a_sequence_header_tells_its_av1c() {
        // 320x240, main profile, as libaom in Chromium writes it.
        let unit = [0x0A, 0x0A, 0x00, 0x00, 0x00, 0x02, 0xAF, 0xFF, 0x9B, 0x5F, 0x30, 0x08];
        let config = config(&unit).unwrap();
        assert_eq!(config[..4], [0x81, 0x00, 0x0C, 0x00]);
        assert_eq!(config[4..], unit);
    }
}
