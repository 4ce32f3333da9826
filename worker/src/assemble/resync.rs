//! Where Matroska elements begin again after a hole, a cut or rubbish.
//!
//! Evidence, not belief: a place counts as a beginning when a chain of elements that make sense starts there. Chromium ends
//! a blob one byte inside an element (measured: `A3`, `1F` or `A0`), so the start of a blob is first tried as it is, then
//! with what the blob before may have kept. Each place costs a fixed number of headers, so a scan is linear.

use super::ebml::{self, Header, Parsed, id};

/// What a lost blob may have kept of the element that the next blob goes on with.
const PREFIXES: [&[u8]; 7] =
    [&[], &[0xA3], &[0x1F], &[0xA0], &[0x1F, 0x43], &[0x1F, 0x43, 0xB6], &[0x1F, 0x43, 0xB6, 0x75]];

/// How many elements a chain follows. Each block that fits by chance does so once in thousands of places.
const CHAIN: usize = 4;

/// Evidence wanted at the start of a blob, where an element is likely to begin.
const AT_START: usize = 2;

/// Evidence wanted in the middle of rubbish: random bytes reached 2 about once in 10^5 blobs, 3 never.
const IN_RUBBISH: usize = 3;

/// The largest block: one 10 MiB chunk and then some.
pub(super) const MAX_BLOCK: u64 = 16 * 1024 * 1024;

/// The highest track number believed while a session's header is lost.
const MAX_GUESSED_TRACK: u64 = 8;

/// Which track numbers a block may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers<'a> {
    Known(&'a [u64]),
    Lost,
}

impl Numbers<'_> {
    fn allow(self, number: u64) -> bool {
        match self {
            Self::Known(numbers) => numbers.contains(&number),
            Self::Lost => (1..=MAX_GUESSED_TRACK).contains(&number),
        }
    }
}

/// What must be put before a blob so that its elements begin at its first byte; `None` if nothing fits.
pub(super) fn prefix(blob: &[u8], numbers: Numbers<'_>) -> Option<&'static [u8]> {
    PREFIXES.into_iter().find(|prefix| {
        let mut head = [0u8; 64];
        let (prefix_len, taken) = (prefix.len(), blob.len().min(64 - prefix.len()));
        let (Some(kept), Some(begin)) = (head.get_mut(..prefix_len), blob.get(..taken)) else { return false };
        kept.copy_from_slice(prefix);
        if let Some(rest) = head.get_mut(prefix_len..prefix_len + taken) {
            rest.copy_from_slice(begin);
        }
        let view = View { head: &head, prefix_len, blob };
        follow(&view, 0, numbers).is_enough(AT_START)
    })
}

/// Whether nothing speaks against elements beginning at the first byte of `bytes`: for the rest of a blob whose own start
/// makes no sense by itself.
pub(super) fn may_begin(bytes: &[u8], numbers: Numbers<'_>) -> bool {
    !follow(&View { head: &[], prefix_len: 0, blob: bytes }, 0, numbers).broken
}

/// The first offset from `from` on at which elements begin.
pub(super) fn find(bytes: &[u8], from: usize, numbers: Numbers<'_>) -> Option<usize> {
    let view = View { head: &[], prefix_len: 0, blob: bytes };
    (from..bytes.len()).find(|at| {
        let likely = matches!(bytes.get(*at), Some(0xA3 | 0xA0 | 0xE7 | 0x1F | 0x1A));
        likely && follow(&view, *at, numbers).is_enough(IN_RUBBISH)
    })
}

/// A blob with some bytes thought before it, without copying the blob.
struct View<'a> {
    /// The prefix and the blob's first bytes, for the elements that begin in the prefix.
    head: &'a [u8],
    prefix_len: usize,
    blob: &'a [u8],
}

impl View<'_> {
    fn at(&self, at: usize) -> &[u8] {
        if at < self.prefix_len {
            self.head.get(at..).unwrap_or_default()
        } else {
            self.blob.get(at - self.prefix_len..).unwrap_or_default()
        }
    }

    fn len(&self) -> usize {
        self.prefix_len + self.blob.len()
    }
}

/// What a chain of elements proved.
struct Evidence {
    found: usize,
    /// The chain ended where the bytes end, or inside the header of the element after.
    clean_end: bool,
    broken: bool,
}

impl Evidence {
    fn is_enough(&self, wanted: usize) -> bool {
        !self.broken
            && (self.found >= wanted || (self.clean_end && self.found + 1 >= wanted && self.found > 0))
    }
}

/// Follows the elements from `at`.
fn follow(view: &View<'_>, mut at: usize, numbers: Numbers<'_>) -> Evidence {
    let mut evidence = Evidence { found: 0, clean_end: false, broken: false };
    for _ in 0..CHAIN {
        let bytes = view.at(at);
        let head = match ebml::header(bytes) {
            Parsed::Element(head) => head,
            Parsed::Incomplete => {
                evidence.clean_end = true;
                return evidence;
            }
            Parsed::Invalid => {
                evidence.broken = true;
                return evidence;
            }
        };
        let Some((step, worth)) = judge(head, bytes, numbers) else {
            evidence.broken = true;
            return evidence;
        };
        evidence.found += worth;
        at = at.saturating_add(step);
        if at > view.len() {
            return evidence;
        }
    }
    evidence
}

/// How far to the next element, and what this one is worth as evidence; `None` when it makes no sense.
fn judge(head: Header, bytes: &[u8], numbers: Numbers<'_>) -> Option<(usize, usize)> {
    let payload = bytes.get(head.len..).unwrap_or_default();
    let end = |size: u64| usize::try_from(size).ok()?.checked_add(head.len);
    match (head.id, head.size) {
        // A cluster's time comes first; Void, CRC-32 and Position are what else has been seen there.
        (id::CLUSTER, _) => payload
            .first()
            .is_none_or(|byte| matches!(byte, 0xE7 | 0xEC | 0xBF | 0xA7))
            .then_some((head.len, 1)),
        (id::EBML, Some(size)) if size <= 64 => Some((end(size)?, 1)),
        (id::SEGMENT, _) => Some((head.len, 1)),
        (id::SIMPLE_BLOCK, Some(size)) if block_fits(payload, size, numbers, 0x70) => Some((end(size)?, 1)),
        (id::BLOCK_GROUP, Some(size)) if size <= MAX_BLOCK => {
            let Parsed::Element(block) = ebml::header(payload) else {
                return payload.len().lt(&12).then_some((end(size)?, 0));
            };
            let body = payload.get(block.len..).unwrap_or_default();
            let fits = block.id == id::BLOCK && block.size.is_some_and(|inner| inner < size);
            (fits && block_fits(body, block.size?, numbers, 0xF1)).then_some((end(size)?, 1))
        }
        (id::TIMESTAMP | id::POSITION | id::PREV_SIZE, Some(size)) if size <= 8 => Some((end(size)?, 0)),
        (id::CRC_32, Some(4)) => Some((end(4)?, 0)),
        (id::INFO | id::TRACKS | id::CUES | id::TAGS | id::SEEK_HEAD | id::VOID, Some(size))
            if size <= MAX_BLOCK =>
        {
            Some((end(size)?, 0))
        }
        _ => None,
    }
}

/// Whether a block's first four bytes make sense; bytes that are not there yet do.
pub(super) fn block_fits(payload: &[u8], size: u64, numbers: Numbers<'_>, reserved: u8) -> bool {
    let number = payload.first().is_none_or(|byte| byte & 0x80 != 0 && numbers.allow(u64::from(byte & 0x7F)));
    let flags = payload.get(3).is_none_or(|flags| flags & reserved == 0);
    (5..=MAX_BLOCK).contains(&size) && number && flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<u8> {
        (0..count).flat_map(|n| [0xA3, 0x86, 0x81, 0, u8::try_from(n).unwrap(), 0x80, 1, 2]).collect()
    }

    #[test]
    fn a_blob_torn_one_byte_in_is_put_together() {
        let whole = blocks(4);
        assert_eq!(prefix(&whole, Numbers::Known(&[1])), Some(&[][..]));
        assert_eq!(prefix(&whole[1..], Numbers::Known(&[1])), Some(&[0xA3][..]));
        assert_eq!(prefix(&whole[2..], Numbers::Known(&[1])), None);
    }

    #[test]
    fn elements_are_found_behind_rubbish() {
        let mut bytes = vec![0xA3, 0x55, 7, 9, 0x1F, 0x43, 0xA0];
        bytes.extend(blocks(5));
        assert_eq!(find(&bytes, 0, Numbers::Known(&[1])), Some(7));
        assert_eq!(find(&bytes, 0, Numbers::Known(&[2])), None);
    }
}
