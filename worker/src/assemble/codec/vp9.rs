//! The first bits of a VP9 frame: whether it is a keyframe, and its size (VP9 bitstream specification, section 6.2).

use super::h264::Bits;

/// Width and height of a keyframe; `None` for any other frame and for anything that is not VP9.
pub(super) fn size(frame: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(frame);
    (bits.take(2)? == 2).then_some(())?;
    let profile = bits.take(1)? | bits.take(1)? << 1;
    if profile == 3 && bits.take(1)? != 0 {
        return None;
    }
    let (shows_existing, not_key) = (bits.take(1)?, bits.take(1)?);
    if shows_existing != 0 || not_key != 0 {
        return None;
    }
    bits.take(2)?; // show_frame, error_resilient_mode
    (bits.take(24)? == 0x49_83_42).then_some(())?;
    skip_colour(&mut bits, profile)?;
    Some((bits.take(16)? + 1, bits.take(16)? + 1))
}

fn skip_colour(bits: &mut Bits<'_>, profile: u32) -> Option<()> {
    const SRGB: u32 = 7;
    if profile >= 2 {
        bits.take(1)?;
    }
    let subsampled = profile & 1 == 0;
    if bits.take(3)? == SRGB {
        if !subsampled {
            bits.take(1)?;
        }
    } else {
        bits.take(if subsampled { 1 } else { 4 })?;
    }
    Some(())
}
