//! AV1 payloads: the aggregation header (RTP payload format 4.4) and the sequence header OBU (AV1 5.5).
//!
//! A keyframe begins where `N` is set and the first element is not a continuation: `N` marks the first packet of a
//! coded video sequence, which begins with a keyframe. The temporal layer is that of the first OBU's extension header.
//! Which frame nothing refers to is said by the dependency descriptor alone, an RTP header extension whose templates
//! have to be remembered; so nothing is called discardable here.

use super::bits::Bits;
use super::{Look, Size, Starts, Worth};

const SEQUENCE_HEADER: u8 = 1;

/// One more than the largest number of elements looked at: the sequence header is the first or follows a delimiter.
const MAX_ELEMENTS: usize = 4;

/// What an AV1 packet says.
pub fn look(payload: &[u8]) -> Look {
    let Some((&header, mut rest)) = payload.split_first() else { return Look::ORDINARY };
    let (continues, new_sequence) = (header & 0x80 != 0, header & 0x08 != 0);
    let elements = usize::from(header >> 4 & 3);
    let key = new_sequence && !continues && !rest.is_empty();
    let (mut size, mut temporal) = (None, 0);
    for index in 0..MAX_ELEMENTS {
        let Some((element, behind)) = element(rest, index + 1 == elements) else { break };
        if index == 0 && !continues {
            temporal = temporal_of(element);
        }
        if key && size.is_none() {
            size = size_of(element);
        }
        if index + 1 == elements {
            break;
        }
        rest = behind;
    }
    let starts = if key { Starts::Keyframe(size) } else { Starts::Nothing };
    Look { starts, temporal, worth: Worth::Needed }
}

/// The next OBU element: all that is left if it is the last of a counted list, else as long as its length in LEB128.
fn element(rest: &[u8], is_last: bool) -> Option<(&[u8], &[u8])> {
    if rest.is_empty() {
        return None;
    }
    if is_last {
        return Some((rest, &[]));
    }
    let (length, taken) = leb128(rest)?;
    rest.get(taken..)?.split_at_checked(length)
}

/// A length and how many bytes it took (AV1 4.10.5; more than 4 bytes cannot be a length inside a datagram).
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// `temporal_id` of an OBU's extension header (AV1 5.3.3), 0 without one.
fn temporal_of(obu: &[u8]) -> u8 {
    match obu {
        [header, extension, ..] if header & 0x04 != 0 => extension >> 5,
        _ => 0,
    }
}

/// The size in a sequence header OBU; `None` for any other.
fn size_of(obu: &[u8]) -> Option<Size> {
    let (&header, mut body) = obu.split_first()?;
    if header >> 3 & 0x0f != SEQUENCE_HEADER {
        return None;
    }
    if header & 0x04 != 0 {
        body = body.get(1..)?;
    }
    if header & 0x02 != 0 {
        let (_, taken) = leb128(body)?;
        body = body.get(taken..)?;
    }
    sequence_size(&mut Bits::new(body))
}

/// `sequence_header_obu()` up to the largest frame's size (AV1 5.5.1).
fn sequence_size(bits: &mut Bits<'_>) -> Option<Size> {
    bits.skip(4)?;
    if bits.flag()? {
        bits.skip(5)?;
    } else {
        let delay_bits = if bits.flag()? { timing(bits)? } else { None };
        operating_points(bits, delay_bits)?;
    }
    let width_bits = bits.take(4)? + 1;
    let height_bits = bits.take(4)? + 1;
    Some(Size { width: bits.take(width_bits)? + 1, height: bits.take(height_bits)? + 1 })
}

/// `timing_info()` and `decoder_model_info()`: gives the length of delays where there is a decoder model.
fn timing(bits: &mut Bits<'_>) -> Option<Option<usize>> {
    bits.skip(64)?;
    if bits.flag()? {
        bits.golomb()?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let delay_bits = bits.take(5)? as usize + 1;
    bits.skip(32 + 5 + 5)?;
    Some(Some(delay_bits))
}

fn operating_points(bits: &mut Bits<'_>, delay_bits: Option<usize>) -> Option<()> {
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        if bits.take(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libaom's sequence header of 640x360, without its size field, as RTP carries it.
    const SEQUENCE: [u8; 14] =
        [0x08, 0x20, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x36, 0xbe, 0x48, 0x08, 0x68, 0x01];
    /// SVT-AV1's, with the size field that some senders leave in.
    const SIZED: [u8; 13] = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x3e, 0xfe, 0x40, 0x10];

    #[test]
    fn a_keyframe_tells_its_size() {
        let mut payload = vec![0x28, SEQUENCE.len() as u8];
        payload.extend(SEQUENCE);
        payload.extend([0x30, 0xff]);
        let starts = Starts::Keyframe(Some(Size { width: 640, height: 360 }));
        assert_eq!(look(&payload), Look { starts, ..Look::ORDINARY });
    }

    #[test]
    fn a_list_without_a_count_gives_every_length() {
        let mut payload = vec![0x08, SEQUENCE.len() as u8];
        payload.extend(SEQUENCE);
        assert_eq!(look(&payload).starts, Starts::Keyframe(Some(Size { width: 640, height: 360 })));
    }

    #[test]
    fn a_size_field_left_in_is_passed_over() {
        let payload = [&[0x18], &SIZED[..]].concat();
        assert_eq!(look(&payload).starts, Starts::Keyframe(Some(Size { width: 640, height: 360 })));
    }

    #[test]
    fn a_continuation_begins_nothing() {
        assert_eq!(look(&[0x98, 0x08, 0x00]).starts, Starts::Nothing);
        assert_eq!(look(&[0x10, 0x32, 0x00]).starts, Starts::Nothing);
        assert_eq!(look(&[0x18]).starts, Starts::Nothing);
    }

    #[test]
    fn the_temporal_layer_is_in_the_extension_header() {
        assert_eq!(look(&[0x10, 0x36, 0x40, 0x00]).temporal, 2);
    }
}
