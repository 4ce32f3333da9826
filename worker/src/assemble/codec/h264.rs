//! H.264: NAL units in both packings, parameter sets, `avcC` (ITU-T H.264, 7.3 and annex B; ISO 14496-15, 5.3).
//!
//! Chromium's "WebM" H.264 is Annex B inside Matroska, its MP4 is length-prefixed. Output is always length-prefixed with
//! four bytes, because then one `CodecPrivate` serves FFmpeg's copy to MP4 and to Matroska alike; parameter sets that
//! come in the stream stay there, so a change of resolution survives.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What senders write in SDP; some leave the padding out.
const SPROP: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;

/// How many parameter sets of each kind an `avcC` may hold for us; encoders in browsers write one.
const MAX_PARAMETER_SETS: usize = 8;

/// Bits of a byte string, most significant first.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits (at most 32), or `None` at the end.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number (9.1).
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            (zeros < 32).then_some(())?;
        }
        ((1u32 << zeros) - 1).checked_add(self.take(zeros)?)
    }
}

/// NAL units behind big-endian lengths of `length_size` bytes. Stops where a length does not fit.
pub(crate) fn prefixed(mut bytes: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let prefix = bytes.get(..length_size)?;
        let size = prefix.iter().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        let end = length_size.checked_add(size)?;
        let nal = bytes.get(length_size..end)?;
        bytes = bytes.get(end..)?;
        Some(nal)
    })
}

/// NAL units between start codes, without the zeros that trail them.
pub(crate) fn annex_b(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (nal, next) = match start_code(bytes) {
            Some(at) => (bytes.get(..at)?, bytes.get(at + 3..)),
            None => (bytes, None),
        };
        rest = next;
        let end = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        nal.get(..end)
    })
    .filter(|nal| !nal.is_empty())
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(start_code(bytes)? + 3..)
}

/// Where the next `00 00 01` begins. Steps by what the third byte rules out, so that long payloads cost little.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    while let Some(byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes.get(at - 2..at) == Some(&[0, 0]) => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 0x1F)
}

/// Whether a frame packed with four-byte lengths holds an IDR slice.
pub(crate) fn has_idr(frame: &[u8]) -> bool {
    prefixed(frame, 4).any(|nal| nal_type(nal) == NAL_IDR)
}

/// Whether an Annex B frame holds an IDR slice and a parameter set: what a lost header is recognised by.
pub(crate) fn has_idr_annex_b(frame: &[u8]) -> bool {
    annex_b(frame).any(|nal| nal_type(nal) == NAL_IDR) && avcc_from(annex_b(frame)).is_some()
}

/// The number of bytes that an `avcC` says its lengths have.
pub(crate) fn length_size(avcc: &[u8]) -> usize {
    avcc.get(4).map_or(4, |byte| usize::from(byte & 3) + 1)
}

/// The parameter sets of an `avcC`.
pub(crate) fn parameter_sets(avcc: &[u8]) -> Vec<&[u8]> {
    let mut sets = Vec::new();
    let Some(mut rest) = avcc.get(5..) else { return sets };
    for mask in [0x1F, 0xFF] {
        let Some((count, after)) = rest.split_first() else { return sets };
        rest = after;
        for _ in 0..usize::from(count & mask).min(MAX_PARAMETER_SETS) {
            let Some(set) = prefixed(rest, 2).next() else { return sets };
            sets.push(set);
            rest = rest.get(2 + set.len()..).unwrap_or_default();
        }
    }
    sets
}

/// An `avcC` with four-byte lengths from the parameter sets among these NAL units; `None` without an SPS and a PPS.
pub(crate) fn avcc_from<'a>(nals: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    for nal in nals {
        let sets = match nal_type(nal) {
            NAL_SPS => &mut sps,
            NAL_PPS => &mut pps,
            _ => continue,
        };
        if sets.len() < MAX_PARAMETER_SETS && !sets.contains(&nal) {
            sets.push(nal);
        }
    }
    let first = *sps.first()?;
    let (&[profile, compatible, level], false) = (first.get(1..4)?, pps.is_empty()) else { return None };
    let mut avcc = vec![1, profile, compatible, level, 0xFF];
    for (sets, marker) in [(&sps, 0xE0), (&pps, 0)] {
        avcc.push(marker | u8::try_from(sets.len()).ok()?);
        for set in sets {
            avcc.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
            avcc.extend_from_slice(set);
        }
    }
    Some(avcc)
}

/// The parameter sets in `sprop-parameter-sets` of a stream's format parameters, with four-byte lengths (RFC 6184, section 8.1).
pub(crate) fn sets_of_fmtp(fmtp: &str) -> Vec<u8> {
    let told = fmtp.split(';').filter_map(|pair| pair.trim().split_once('='));
    let sets = told.filter(|(name, _)| name.eq_ignore_ascii_case("sprop-parameter-sets"));
    let nals: Vec<Vec<u8>> = sets
        .flat_map(|(_, sets)| sets.split(','))
        .filter_map(|set| SPROP.decode(set.trim()).ok())
        .filter(|nal| matches!(nal_type(nal), NAL_SPS | NAL_PPS))
        .take(MAX_PARAMETER_SETS * 2)
        .collect();
    let mut packed = Vec::new();
    append(&mut packed, nals.iter().map(Vec::as_slice));
    packed
}

/// Whether a frame packed with four-byte lengths holds a parameter set.
pub(crate) fn has_sets(frame: &[u8]) -> bool {
    prefixed(frame, 4).any(|nal| matches!(nal_type(nal), NAL_SPS | NAL_PPS))
}

/// Appends NAL units with four-byte lengths to `out`.
pub(crate) fn append<'a>(out: &mut Vec<u8>, nals: impl Iterator<Item = &'a [u8]>) {
    for nal in nals {
        let Ok(len) = u32::try_from(nal.len()) else { return };
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(nal);
    }
}

/// The picture size that an SPS tells, cropping applied; `None` for other NAL units (7.3.2.1.1).
pub(crate) fn sps_size(nal: &[u8]) -> Option<(u32, u32)> {
    (nal_type(nal) == NAL_SPS).then_some(())?;
    let clean = unescape(nal.get(1..nal.len().min(128))?);
    let mut bits = Bits::new(&clean);
    let profile = bits.take(8)?;
    bits.take(16)?;
    bits.ue()?;
    let mut chroma = 1;
    if [100, 110, 122, 244, 44, 83, 86, 118, 128].contains(&profile) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.take(1)?;
        (bits.take(1)? == 0).then_some(())?; // scaling lists: no browser's encoder writes them
    }
    bits.ue()?;
    match bits.ue()? {
        0 => drop(bits.ue()?),
        2 => {}
        _ => return None, // picture order count type 1 carries lists: no browser's encoder writes it
    }
    finish_sps(&mut bits, chroma)
}

fn finish_sps(bits: &mut Bits<'_>, chroma: u32) -> Option<(u32, u32)> {
    bits.ue()?;
    bits.take(1)?;
    let width_mbs = bits.ue()?.checked_add(1)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frame_only = bits.take(1)?;
    if frame_only == 0 {
        bits.take(1)?;
    }
    bits.take(1)?;
    let crop = if bits.take(1)? == 1 { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    let (unit_x, unit_y) = (if chroma == 1 || chroma == 2 { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 });
    let full_width = width_mbs.checked_mul(16)?;
    let full_height = height_units.checked_mul(16)?.checked_mul(2 - frame_only)?;
    let cut_x = crop[0].checked_add(crop[1])?.checked_mul(unit_x)?;
    let cut_y = crop[2].checked_add(crop[3])?.checked_mul(unit_y * (2 - frame_only))?;
    Some((full_width.checked_sub(cut_x)?, full_height.checked_sub(cut_y)?))
}

/// Removes emulation prevention bytes (7.4.1).
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = *byte == 3 && at >= 2 && bytes.get(at - 2..at) == Some(&[0, 0]);
        if !escaped {
            clean.push(*byte);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 17] = [
        0x67, 0x42, 0xC0, 0x15, 0x8C, 0x8D, 0x40, 0xA0, 0xF9, 0x35, 0x06, 0x06, 0x06, 0x07, 0x84, 0x42, 0x35,
    ];

    #[test]
    fn start_codes_of_three_and_four_bytes_part_nal_units() {
        let stream = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 4, 5];
        let parts: Vec<_> = annex_b(&stream).collect();
        assert_eq!(parts, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 4, 5]]);
        let mut packed = Vec::new();
        append(&mut packed, annex_b(&stream));
        assert!(has_idr(&packed));
    }

    #[test]
    fn an_avcc_gives_back_its_parameter_sets() {
        let sets = [&SPS[..], &[0x68, 0xCE, 0x3C, 0x80]];
        let avcc = avcc_from(sets.into_iter()).unwrap();
        assert_eq!(parameter_sets(&avcc), sets);
        assert_eq!(length_size(&avcc), 4);
        assert!(avcc_from([&SPS[..]].into_iter()).is_none());
    }

    #[test]
    fn parameter_sets_of_a_description_are_read_and_nothing_else_of_it() {
        let sets = sets_of_fmtp(
            "packetization-mode=1; sprop-parameter-sets=Z0LAFYyNQKD5NQYGBgeEQjU,aM48gA==,ZQQ=,?",
        );
        assert_eq!(prefixed(&sets, 4).collect::<Vec<_>>(), [&SPS[..], &[0x68, 0xCE, 0x3C, 0x80]]);
        assert!(has_sets(&sets) && !has_sets(&[0, 0, 0, 1, 0x65]));
        assert!(sets_of_fmtp("packetization-mode=1").is_empty());
    }

    #[test]
    fn a_baseline_sps_tells_its_size() {
        assert_eq!(sps_size(&SPS), Some((320, 240)));
        assert_eq!(sps_size(&[0x67]), None);
    }
}
