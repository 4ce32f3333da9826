//! AV1: the sequence header inside a temporal unit, and the `av1C` record made of it
//! (AV1 bitstream specification, section 5.5; AV1 in ISO-BMFF, section 2.3).

use super::h264::Bits;

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// How many OBUs of a temporal unit are looked at: encoders put the sequence header first or second.
const OBUS_LOOKED_AT: usize = 8;

/// A sequence header: the largest picture it allows, and the OBU itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) size: (u32, u32),
}

/// Finds the sequence header of a temporal unit, which encoders repeat with every keyframe.
pub(crate) fn sequence(unit: &[u8]) -> Option<Sequence> {
    let mut rest = unit;
    for _ in 0..OBUS_LOOKED_AT {
        let (kind, payload, after) = obu(rest)?;
        match kind {
            OBU_SEQUENCE_HEADER => return Some(Sequence { size: size(payload)? }),
            OBU_TEMPORAL_DELIMITER => rest = after,
            _ => return None,
        }
    }
    None
}

/// The `av1C` record of a keyframe, for a track whose header is lost; FFmpeg cannot mux pictures without it that come before any
/// keyframe. Eight bits and 4:2:0 are all that browsers record.
pub(crate) fn config_record(unit: &[u8]) -> Option<Vec<u8>> {
    const MARKER_AND_VERSION: u8 = 0x81;
    const SUBSAMPLED_BOTH_WAYS: u8 = 0x0C;
    let mut rest = unit;
    for _ in 0..OBUS_LOOKED_AT {
        let (kind, payload, after) = obu(rest)?;
        if kind == OBU_SEQUENCE_HEADER {
            // With one header for moving pictures, as `size` wants it, the level is the 25th bit and four more.
            let profile_and_level = payload.first()? & 0xE0 | payload.get(3)? >> 3;
            let header = rest.get(..rest.len() - after.len())?;
            return Some(
                [&[MARKER_AND_VERSION, profile_and_level, SUBSAMPLED_BOTH_WAYS, 0], header].concat(),
            );
        }
        rest = after;
    }
    None
}

/// One OBU: its type, its payload, and what follows it.
fn obu(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let head = *bytes.first()?;
    let kind = head >> 3 & 15;
    if head & 0x81 != 0 || head & 2 == 0 {
        return None; // forbidden and reserved bits; inside a container every OBU but the last has a size
    }
    let mut at = if head & 4 != 0 { 2 } else { 1 };
    let (mut size, mut shift) = (0usize, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        size |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        (shift <= 28).then_some(())?;
    }
    let end = at.checked_add(size)?;
    Some((kind, bytes.get(at..end)?, bytes.get(end..)?))
}

/// Reads a sequence header as far as its picture size. Timing and operating points are skipped where they are simple.
fn size(payload: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(payload);
    bits.take(3)?; // seq_profile
    bits.take(1)?; // still_picture
    if bits.take(1)? == 1 {
        bits.take(5)?; // reduced_still_picture_header: seq_level_idx
    } else {
        (bits.take(1)? == 0).then_some(())?; // timing_info_present: no browser's encoder writes it
        let delay = bits.take(1)?;
        let points = bits.take(5)? + 1;
        for _ in 0..points {
            bits.take(12)?;
            if bits.take(5)? > 7 {
                bits.take(1)?;
            }
            if delay == 1 && bits.take(1)? == 1 {
                bits.take(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    Some((bits.take(width_bits)? + 1, bits.take(height_bits)? + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_behind_a_temporal_delimiter() {
        // 320x240, main profile, one operating point, as libaom in Chromium writes it.
        let unit = [0x12, 0x00, 0x0A, 0x0A, 0x00, 0x00, 0x00, 0x02, 0xAF, 0xFF, 0x9B, 0x5F, 0x30, 0x08];
        assert!(sequence(&unit).is_some());
        assert!(sequence(&unit[..5]).is_none());
        assert!(sequence(&[0x32; 40]).is_none());
    }
}
