//! Opus packets: how long one sounds, and the header that a decoder wants (RFC 6716, section 3; RFC 7845, section 5).

/// The lookahead of libopus at 48 kHz, which Firefox declares as pre-skip (measured: 312 samples, 6.5 ms).
pub(crate) const FIREFOX_PRE_SKIP: u16 = 312;

/// What fraction of neighbours must fit before a track without a header is taken for Opus: all but one in this many.
const AGREEMENT: usize = 8;

/// How many neighbours must fit about, where they do not fit exactly.
const MANY: usize = 6;

/// Packets that fit about only are at least this long, in milliseconds: pictures come more often than that is wrong.
const LONG_MS: i64 = 20;

/// How long a packet sounds, in microseconds; `None` where the packet breaks the format's rules.
pub(crate) fn duration_us(packet: &[u8]) -> Option<i64> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame_us = match config {
        0..12 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        12..16 => [10_000, 20_000][usize::from(config & 1)],
        _ => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(*packet.get(1)? & 0x3F),
    };
    let total = frame_us * frames;
    (1..=120_000).contains(&total).then_some(total)
}

/// Whether the packet is coded as stereo.
pub(crate) fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 4 != 0)
}

/// Whether packets at these times (milliseconds) last until the next one, which no other codec's bytes do: each exactly, or
/// each about and all of them together exactly, as where sound comes in buffers that packets do not divide (measured: steps
/// of 59, 69 and 52 ms from Web Audio).
pub(crate) fn times_agree<'a>(mut packets: impl Iterator<Item = (i64, &'a [u8])>) -> bool {
    let (mut fit, mut about, mut misfit) = (0usize, 0usize, 0usize);
    let (mut drift, mut longest) = (0i64, 0i64);
    let Some(mut before) = packets.next() else { return false };
    for after in packets {
        let step = after.0 - before.0;
        match duration_us(before.1).map(|us| us / 1_000) {
            Some(ms) if (step - ms).abs() <= 1 => fit += 1,
            Some(ms) if ms >= LONG_MS && (step - ms).abs() <= ms / 2 => {
                about += 1;
                drift += step - ms;
                longest = longest.max(ms);
            }
            _ => misfit += 1,
        }
        before = after;
    }
    let exact = fit >= 2 && misfit + about <= fit / AGREEMENT;
    exact || (fit + about >= MANY && drift.abs() <= longest && misfit <= (fit + about) / AGREEMENT)
}

/// An `OpusHead` for a track whose own is lost.
pub(crate) fn head(channels: u8, pre_skip: u16) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&pre_skip.to_le_bytes());
    head.extend_from_slice(&48_000u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_twenty_millisecond_frames_last_sixty() {
        assert_eq!(duration_us(&[0xFB, 0x03, 0xFF, 0xFE]), Some(60_000));
        assert_eq!(duration_us(&[0xF8, 0xFF, 0xFE]), Some(20_000));
        assert_eq!(duration_us(&[0xFB, 0x3F]), None);
        assert_eq!(duration_us(&[]), None);
    }

    #[test]
    fn packets_that_do_not_fill_their_times_are_not_opus() {
        let packet: &[u8] = &[0xF8, 0xFF, 0xFE];
        assert!(times_agree([(0, packet), (20, packet), (40, packet), (60, packet)].into_iter()));
        assert!(!times_agree([(0, packet), (33, packet), (66, packet), (99, packet)].into_iter()));
    }
}
