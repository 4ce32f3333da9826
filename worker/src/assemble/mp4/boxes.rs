//! ISO-BMFF boxes as bytes (ISO 14496-12, section 4.2).

/// A box's name, the length of its header and its whole size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Box4 {
    pub(super) name: [u8; 4],
    pub(super) header: usize,
    pub(super) size: usize,
}

/// What the bytes at a position are.
pub(super) enum Kind4 {
    Box(Box4),
    Incomplete,
    Invalid,
}

impl Box4 {
    /// The payload, when all of it is there. `bytes` begin with the box.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.header..self.size)
    }
}

/// Reads a box header. A size of 0 ("to the end of the file") is refused: a stream of blobs has no such end.
pub(super) fn read(bytes: &[u8]) -> Kind4 {
    let Some(head) = bytes.get(..8) else { return Kind4::Incomplete };
    let mut name = [0; 4];
    name.copy_from_slice(head.get(4..8).unwrap_or_default());
    if !name.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Kind4::Invalid;
    }
    let (header, size) = match u32_at(bytes, 0).unwrap_or(0) {
        1 => {
            let Some(large) = bytes.get(8..16) else { return Kind4::Incomplete };
            (16, large.iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte)))
        }
        size => (8, u64::from(size)),
    };
    match usize::try_from(size) {
        Ok(size) if size >= header => Kind4::Box(Box4 { name, header, size }),
        _ => Kind4::Invalid,
    }
}

/// The boxes of a payload, as (name, payload). Stops at the first that does not fit.
pub(super) fn children(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let Kind4::Box(found) = read(bytes) else { return None };
        let payload = found.payload(bytes)?;
        bytes = bytes.get(found.size..)?;
        Some((found.name, payload))
    })
}

/// The first child of this name.
pub(super) fn child<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    children(bytes).find(|(found, _)| found == name).map(|(_, payload)| payload)
}

/// Big-endian 32 bits at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Big-endian 64 bits at an offset.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Whether boxes of a recording begin at the first byte.
pub(super) fn begins(blob: &[u8]) -> bool {
    const BEGINNINGS: [&[u8; 4]; 8] =
        [b"ftyp", b"moov", b"moof", b"mdat", b"styp", b"sidx", b"emsg", b"prft"];
    let Kind4::Box(found) = read(blob) else { return false };
    let known = BEGINNINGS.contains(&&found.name);
    known && (found.name != *b"moof" || blob.get(12..16) == Some(b"mfhd"))
}

/// Whether the bytes stop inside a box.
pub(super) fn ends_inside(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Kind4::Box(found) = read(bytes) else { return true };
        let Some(rest) = bytes.get(found.size..) else { return true };
        bytes = rest;
    }
    false
}

/// Where the next fragment begins, from an offset on: `moof` with `mfhd` first in it.
pub(super) fn find_fragment(bytes: &[u8], from: usize) -> Option<usize> {
    let window = bytes.get(from..)?;
    let at = window
        .windows(16)
        .position(|part| part.get(4..8) == Some(b"moof") && part.get(12..16) == Some(b"mfhd"))?;
    Some(from + at)
}
