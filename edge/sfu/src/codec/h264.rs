//! H264 payloads: single NAL units, STAP-A and FU-A of RFC 6184 5.6 to 5.8, and the size in a sequence parameter set.
//!
//! A keyframe begins with its sequence parameter set, or, for senders that told it in SDP alone, with the first slice
//! of the IDR picture (`first_mb_in_slice` 0): a later slice is no place to begin. So both packets of a sender that
//! sends them apart count; whoever waits for a keyframe takes the first. A slice with `nal_ref_idc` 0 is discardable.

use super::bits::Bits;
use super::{Look, Size, Starts, Worth};

/// NAL unit types (H.264 table 7-1, RFC 6184 table 1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// What an H264 packet says.
pub fn look(payload: &[u8]) -> Look {
    let Some(&header) = payload.first() else { return Look::ORDINARY };
    match header & 0x1f {
        STAP_A => aggregate(&payload[1..]),
        FU_A => fragment(payload),
        kind => Look { starts: starts(kind, &payload[1..]), temporal: 0, worth: worth(kind, header) },
    }
}

/// What begins with a whole unit, or with the first fragment of one; `body` follows the unit's header byte.
fn starts(kind: u8, body: &[u8]) -> Starts {
    match kind {
        SPS => Starts::Keyframe(size(body)),
        IDR if body.first().is_some_and(|byte| byte & 0x80 != 0) => Starts::Keyframe(None),
        _ => Starts::Nothing,
    }
}

fn worth(kind: u8, header: u8) -> Worth {
    if kind == SLICE && header & 0x60 == 0 { Worth::Discardable } else { Worth::Needed }
}

/// Units, each behind its length in 16 bits. The packet can be left out only if all of them can.
fn aggregate(mut rest: &[u8]) -> Look {
    let mut seen = Look { worth: Worth::Discardable, ..Look::ORDINARY };
    let mut units = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(([header, body @ ..], behind)) = behind.split_at_checked(length) else { break };
        units += 1;
        if worth(header & 0x1f, *header) == Worth::Needed {
            seen.worth = Worth::Needed;
        }
        match (seen.starts, starts(header & 0x1f, body)) {
            (Starts::Nothing, found) => seen.starts = found,
            (Starts::Keyframe(None), found @ Starts::Keyframe(Some(_))) => seen.starts = found,
            _ => {}
        }
        rest = behind;
    }
    if units == 0 { Look::ORDINARY } else { seen }
}

/// FU indicator (with `nal_ref_idc`), FU header (`S`, type), then the unit without its header.
fn fragment(payload: &[u8]) -> Look {
    let [indicator, header, body @ ..] = payload else { return Look::ORDINARY };
    let kind = header & 0x1f;
    let starts = if header & 0x80 != 0 { starts(kind, body) } else { Starts::Nothing };
    Look { starts, temporal: 0, worth: worth(kind, *indicator) }
}

/// Longest parameter set that is read: one with all scaling lists stays under this.
const MAX_SPS: usize = 256;

/// The size in a sequence parameter set (H.264 7.3.2.1.1), after cropping.
fn size(sps: &[u8]) -> Option<Size> {
    let mut clean = [0u8; MAX_SPS];
    let length = unescape(sps, &mut clean);
    let mut bits = Bits::new(&clean[..length]);
    let profile = bits.take(8)?;
    bits.skip(16)?;
    bits.golomb()?;
    let chroma = if HIGH_PROFILES.contains(&profile) { chroma_and_scaling(&mut bits)? } else { Chroma::C420 };
    bits.golomb()?;
    picture_order(&mut bits)?;
    bits.golomb()?;
    bits.skip(1)?;
    let width = bits.golomb()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.golomb()?.checked_add(1)?.checked_mul(16)?;
    let frames_only = bits.flag()?;
    let fields = if frames_only { 1 } else { 2 };
    bits.skip(if frames_only { 1 } else { 2 })?;
    let height = map_units.checked_mul(fields)?;
    let (cut_x, cut_y) = if bits.flag()? { cropping(&mut bits, chroma, fields)? } else { (0, 0) };
    Some(Size { width: width.checked_sub(cut_x)?, height: height.checked_sub(cut_y)? })
}

/// Profiles whose parameter set tells chroma format and scaling lists (7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// `chroma_format_idc`, as far as cropping needs it.
#[derive(Debug, Clone, Copy)]
enum Chroma {
    Gray,
    C420,
    C422,
    C444,
}

fn chroma_and_scaling(bits: &mut Bits<'_>) -> Option<Chroma> {
    let chroma = match bits.golomb()? {
        0 => Chroma::Gray,
        1 => Chroma::C420,
        2 => Chroma::C422,
        3 => Chroma::C444,
        _ => return None,
    };
    if matches!(chroma, Chroma::C444) {
        bits.skip(1)?;
    }
    bits.golomb()?;
    bits.golomb()?;
    bits.skip(1)?;
    if bits.flag()? {
        let lists = if matches!(chroma, Chroma::C444) { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

/// 7.3.2.1.1.1: deltas, until the next scale is 0.
fn scaling_list(bits: &mut Bits<'_>, entries: u32) -> Option<()> {
    let mut next = 8i32;
    for _ in 0..entries {
        if next == 0 {
            break;
        }
        next = next.wrapping_add(bits.signed_golomb()?).rem_euclid(256);
    }
    Some(())
}

fn picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed_golomb()?;
            bits.signed_golomb()?;
            for _ in 0..bits.golomb()?.min(255) {
                bits.signed_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// What is cut from width and height (7-19 to 7-22).
fn cropping(bits: &mut Bits<'_>, chroma: Chroma, fields: u32) -> Option<(u32, u32)> {
    let (unit_x, unit_y) = match chroma {
        Chroma::Gray | Chroma::C444 => (1, 1),
        Chroma::C422 => (2, 1),
        Chroma::C420 => (2, 2),
    };
    let x = bits.golomb()?.checked_add(bits.golomb()?)?;
    let y = bits.golomb()?.checked_add(bits.golomb()?)?;
    Some((x.checked_mul(unit_x)?, y.checked_mul(unit_y * fields)?))
}

/// Takes out emulation prevention bytes (7.4.1): the 3 of `00 00 03`. Gives the length.
fn unescape(raw: &[u8], clean: &mut [u8; MAX_SPS]) -> usize {
    let (mut length, mut zeros) = (0, 0);
    for &byte in raw {
        if length == MAX_SPS {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        clean[length] = byte;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264's parameter set of 1280x720, High profile.
    const SPS_720: [u8; 24] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83,
    ];
    /// x264's parameter set of 320x180, cropped from 192 lines, constrained baseline.
    const SPS_180: [u8; 22] = [
        0x67, 0x42, 0xc0, 0x0c, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1,
    ];

    #[test]
    fn a_parameter_set_tells_the_size() {
        assert_eq!(look(&SPS_720).starts, Starts::Keyframe(Some(Size { width: 1280, height: 720 })));
    }

    #[test]
    fn cropping_is_taken_off() {
        assert_eq!(look(&SPS_180).starts, Starts::Keyframe(Some(Size { width: 320, height: 180 })));
    }

    #[test]
    fn an_aggregate_is_looked_into() {
        let mut payload = vec![0x78, 0, 2, 0x68, 0xce, 0, SPS_720.len() as u8];
        payload.extend(SPS_720);
        assert_eq!(look(&payload).starts, Starts::Keyframe(Some(Size { width: 1280, height: 720 })));
        payload.truncate(8);
        assert_eq!(look(&payload).starts, Starts::Nothing);
    }

    #[test]
    fn only_the_first_slice_of_an_idr_picture_begins_it() {
        assert_eq!(look(&[0x65, 0x88]).starts, Starts::Keyframe(None));
        assert_eq!(look(&[0x65, 0x01]).starts, Starts::Nothing);
        assert_eq!(look(&[0x7c, 0x85, 0x88]).starts, Starts::Keyframe(None));
        assert_eq!(look(&[0x7c, 0x05, 0x88]).starts, Starts::Nothing);
    }

    #[test]
    fn a_slice_that_nothing_refers_to_is_discardable() {
        assert_eq!(look(&[0x01, 0x9a]).worth, Worth::Discardable);
        assert_eq!(look(&[0x41, 0x9a]).worth, Worth::Needed);
        assert_eq!(look(&[0x1c, 0x01, 0x9a]).worth, Worth::Discardable);
        assert_eq!(look(&[0x06, 0x05]).worth, Worth::Needed);
    }
}
