//! EBML as bytes: variable-length numbers, element headers, children of a small master element (RFC 8794).
//!
//! Pure functions over slices. Knows nothing of blobs, holes or time. No function here panics on any input, and none
//! looks further than twelve bytes for a header, so that a caller can afford to call them at every offset.

/// The ids that assembly reads or writes (RFC 9559, appendix A).
pub(crate) mod id {
    pub(crate) const EBML: u32 = 0x1A45_DFA3;
    pub(crate) const DOC_TYPE: u32 = 0x4282;
    pub(crate) const SEGMENT: u32 = 0x1853_8067;
    pub(crate) const SEEK_HEAD: u32 = 0x114D_9B74;
    pub(crate) const INFO: u32 = 0x1549_A966;
    pub(crate) const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
    pub(crate) const DURATION: u32 = 0x4489;
    pub(crate) const MUXING_APP: u32 = 0x4D80;
    pub(crate) const WRITING_APP: u32 = 0x5741;
    pub(crate) const TRACKS: u32 = 0x1654_AE6B;
    pub(crate) const TRACK_ENTRY: u32 = 0xAE;
    pub(crate) const TRACK_NUMBER: u32 = 0xD7;
    pub(crate) const TRACK_UID: u32 = 0x73C5;
    pub(crate) const TRACK_TYPE: u32 = 0x83;
    pub(crate) const FLAG_LACING: u32 = 0x9C;
    pub(crate) const CODEC_ID: u32 = 0x86;
    pub(crate) const CODEC_PRIVATE: u32 = 0x63A2;
    pub(crate) const CODEC_DELAY: u32 = 0x56AA;
    pub(crate) const SEEK_PRE_ROLL: u32 = 0x56BB;
    pub(crate) const DEFAULT_DURATION: u32 = 0x0023_E383;
    pub(crate) const MAX_BLOCK_ADDITION_ID: u32 = 0x55EE;
    pub(crate) const VIDEO: u32 = 0xE0;
    pub(crate) const PIXEL_WIDTH: u32 = 0xB0;
    pub(crate) const PIXEL_HEIGHT: u32 = 0xBA;
    pub(crate) const ALPHA_MODE: u32 = 0x53C0;
    pub(crate) const COLOUR: u32 = 0x55B0;
    pub(crate) const AUDIO: u32 = 0xE1;
    pub(crate) const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub(crate) const CHANNELS: u32 = 0x9F;
    pub(crate) const BIT_DEPTH: u32 = 0x6264;
    pub(crate) const CLUSTER: u32 = 0x1F43_B675;
    pub(crate) const TIMESTAMP: u32 = 0xE7;
    pub(crate) const POSITION: u32 = 0xA7;
    pub(crate) const PREV_SIZE: u32 = 0xAB;
    pub(crate) const SIMPLE_BLOCK: u32 = 0xA3;
    pub(crate) const BLOCK_GROUP: u32 = 0xA0;
    pub(crate) const BLOCK: u32 = 0xA1;
    pub(crate) const BLOCK_ADDITIONS: u32 = 0x75A1;
    pub(crate) const REFERENCE_BLOCK: u32 = 0xFB;
    pub(crate) const CUES: u32 = 0x1C53_BB6B;
    pub(crate) const TAGS: u32 = 0x1254_C367;
    pub(crate) const CHAPTERS: u32 = 0x1043_A770;
    pub(crate) const ATTACHMENTS: u32 = 0x1941_A469;
    pub(crate) const VOID: u32 = 0xEC;
    pub(crate) const CRC_32: u32 = 0xBF;
}

/// An element's id, its payload size (`None`: unknown) and how many bytes both took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u32,
    pub(super) size: Option<u64>,
    pub(super) len: usize,
}

/// What the bytes at a position are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    Element(Header),
    /// A header that goes on after the last byte.
    Incomplete,
    /// No header can begin like this.
    Invalid,
}

/// Reads the element header at the start of `bytes`.
pub(super) fn header(bytes: &[u8]) -> Parsed {
    let Some(&first) = bytes.first() else { return Parsed::Incomplete };
    let id_len = first.leading_zeros() as usize + 1;
    if id_len > 4 {
        return Parsed::Invalid;
    }
    let Some(id_bytes) = bytes.get(..id_len) else { return Parsed::Incomplete };
    let id = id_bytes.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
    match vint(bytes.get(id_len..).unwrap_or_default()) {
        Vint::Value(size, len) => Parsed::Element(Header { id, size, len: id_len + len }),
        Vint::Incomplete => Parsed::Incomplete,
        Vint::Invalid => Parsed::Invalid,
    }
}

/// A variable-length number: its value (`None`: all ones, "unknown") and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vint {
    Value(Option<u64>, usize),
    Incomplete,
    Invalid,
}

/// Reads a variable-length number at the start of `bytes` (RFC 8794, section 4).
pub(super) fn vint(bytes: &[u8]) -> Vint {
    let Some(&first) = bytes.first() else { return Vint::Incomplete };
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Vint::Invalid;
    }
    let Some(all) = bytes.get(..len) else { return Vint::Incomplete };
    let raw = all.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = (1u64 << (7 * len)) - 1;
    let value = raw & mask;
    Vint::Value((value != mask).then_some(value), len)
}

/// The direct children of a master element's payload, as (id, payload). Stops at the first thing that does not fit.
pub(super) fn children(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let Parsed::Element(head) = header(bytes) else { return None };
        let end = head.len.checked_add(usize::try_from(head.size?).ok()?)?;
        let payload = bytes.get(head.len..end)?;
        bytes = bytes.get(end..)?;
        Some((head.id, payload))
    })
}

/// An unsigned integer payload of 0 to 8 bytes; longer ones are cut to their last 8.
pub(super) fn uint(payload: &[u8]) -> u64 {
    payload.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A float payload of 4 or 8 bytes.
pub(super) fn float(payload: &[u8]) -> Option<f64> {
    match payload.len() {
        4 => Some(f64::from(f32::from_be_bytes(payload.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(payload.try_into().ok()?)),
        _ => None,
    }
}

/// Appends an element id.
pub(super) fn put_id(out: &mut Vec<u8>, id: u32) {
    let skip = (id.leading_zeros() / 8) as usize;
    out.extend_from_slice(id.to_be_bytes().get(skip..).unwrap_or_default());
}

/// Appends a size in as few bytes as hold it.
pub(super) fn put_size(out: &mut Vec<u8>, size: usize) {
    let size = size as u64;
    let len = (1..=8).find(|len| size < (1u64 << (7 * len)) - 1).unwrap_or(8);
    let marked = size | 1u64 << (7 * len);
    out.extend_from_slice(marked.to_be_bytes().get(8 - len..).unwrap_or_default());
}

/// Appends a size in eight bytes, so that it can be patched later.
pub(super) fn put_size8(out: &mut Vec<u8>, size: u64) {
    out.extend_from_slice(&(size | 1u64 << 56).to_be_bytes());
}

/// Appends an element with a binary payload.
pub(super) fn put(out: &mut Vec<u8>, id: u32, payload: &[u8]) {
    put_id(out, id);
    put_size(out, payload.len());
    out.extend_from_slice(payload);
}

/// Appends an unsigned integer element.
pub(super) fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let skip = (value.leading_zeros() / 8).min(7) as usize;
    put(out, id, value.to_be_bytes().get(skip..).unwrap_or_default());
}

/// Appends an eight-byte float element.
pub(super) fn put_float(out: &mut Vec<u8>, id: u32, value: f64) {
    put(out, id, &value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_written_are_read_back() {
        for size in [0usize, 1, 126, 127, 128, 16_382, 16_383, 2_097_150, 2_097_151, 1 << 33] {
            let mut out = Vec::new();
            put_size(&mut out, size);
            assert_eq!(vint(&out), Vint::Value(Some(size as u64), out.len()));
        }
    }

    #[test]
    fn an_unknown_size_of_any_length_is_unknown() {
        assert_eq!(vint(&[0xFF]), Vint::Value(None, 1));
        assert_eq!(vint(&[0x01, 255, 255, 255, 255, 255, 255, 255]), Vint::Value(None, 8));
    }

    #[test]
    fn a_header_cut_anywhere_is_incomplete() {
        let whole = [0x1F, 0x43, 0xB6, 0x75, 0x40, 0x02];
        for cut in 0..whole.len() {
            assert_eq!(header(&whole[..cut]), Parsed::Incomplete);
        }
        assert_eq!(header(&whole), Parsed::Element(Header { id: id::CLUSTER, size: Some(2), len: 6 }));
        assert_eq!(header(&[0x00]), Parsed::Invalid);
    }

    #[test]
    fn children_stop_at_a_size_that_does_not_fit() {
        assert_eq!(children(&[0xD7, 0x81, 5, 0x86, 0x90, 1]).count(), 1);
    }
}
