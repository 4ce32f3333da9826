//! One block: its track, its time within the cluster, its frames, laced or not (RFC 9559, section 10).

use crate::assemble::codec::Marked;
use crate::assemble::ebml::{self, Vint, id};

/// A `SimpleBlock` or the block of a `BlockGroup`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) track: u64,
    /// Ticks from the cluster's timestamp.
    pub(super) relative: i16,
    pub(super) marked: Marked,
    pub(super) lacing: u8,
    pub(super) data: &'a [u8],
    pub(super) additions: &'a [u8],
}

/// The largest `BlockAdditions` that is carried over: alpha is a video frame of its own.
const MAX_ADDITIONS: usize = 4 * 1024 * 1024;

/// Reads a `SimpleBlock`'s payload.
pub(super) fn simple(payload: &[u8]) -> Option<Block<'_>> {
    let mut block = body(payload)?;
    block.marked = if payload.get(3)? & 0x80 != 0 { Marked::Key } else { Marked::Delta };
    Some(block)
}

/// Reads a `BlockGroup`'s payload.
pub(super) fn group(payload: &[u8]) -> Option<Block<'_>> {
    let (mut found, mut additions, mut marked) = (None, &[][..], Marked::Key);
    for (child, value) in ebml::children(payload) {
        match child {
            id::BLOCK => found = body(value),
            id::BLOCK_ADDITIONS if value.len() <= MAX_ADDITIONS => additions = value,
            id::REFERENCE_BLOCK => marked = Marked::Delta,
            _ => {}
        }
    }
    let block = found?;
    Some(Block { marked, additions, ..block })
}

fn body(payload: &[u8]) -> Option<Block<'_>> {
    let Vint::Value(Some(track), len) = ebml::vint(payload) else { return None };
    let &[high, low, flags] = payload.get(len..len + 3)? else { return None };
    let data = payload.get(len + 3..).filter(|data| !data.is_empty())?;
    let (relative, lacing) = (i16::from_be_bytes([high, low]), flags >> 1 & 3);
    Some(Block { track, relative, marked: Marked::Key, lacing, data, additions: &[] })
}

impl<'a> Block<'a> {
    /// The frames of the block: one, unless it is laced. `None` when the lacing does not add up.
    pub(super) fn frames(&self) -> Option<Vec<&'a [u8]>> {
        let (count, rest) = self.data.split_first()?;
        let count = usize::from(*count) + 1;
        let (sizes, mut rest) = match self.lacing {
            0 => return Some(vec![self.data]),
            1 => xiph(rest, count)?,
            3 => ebml_sizes(rest, count)?,
            _ => (vec![rest.len() / count; count - 1], rest),
        };
        let mut frames = Vec::with_capacity(count);
        for size in sizes {
            frames.push(rest.get(..size)?);
            rest = rest.get(size..)?;
        }
        frames.push(rest);
        frames.iter().all(|frame| !frame.is_empty()).then_some(frames)
    }
}

fn xiph(mut rest: &[u8], count: usize) -> Option<(Vec<usize>, &[u8])> {
    let mut sizes = Vec::with_capacity(count);
    for _ in 1..count {
        let mut size = 0;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            size += usize::from(*byte);
            if *byte != 255 {
                break;
            }
        }
        sizes.push(size);
    }
    Some((sizes, rest))
}

fn ebml_sizes(mut rest: &[u8], count: usize) -> Option<(Vec<usize>, &[u8])> {
    let mut sizes: Vec<usize> = Vec::with_capacity(count);
    for _ in 1..count {
        let Vint::Value(Some(raw), len) = ebml::vint(rest) else { return None };
        rest = rest.get(len..)?;
        let size = match sizes.last() {
            None => i64::try_from(raw).ok()?,
            Some(before) => {
                let bias = (1i64 << (7 * len - 1)) - 1;
                i64::try_from(*before).ok()?.checked_add(i64::try_from(raw).ok()? - bias)?
            }
        };
        sizes.push(usize::try_from(size).ok()?);
    }
    Some((sizes, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laced(lacing: u8, data: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut payload = vec![0x81, 0, 0, lacing << 1];
        payload.extend_from_slice(data);
        let frames = simple(&payload)?.frames()?;
        Some(frames.into_iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn all_three_lacings_are_taken_apart() {
        let want = Some(vec![vec![1, 1], vec![2, 2], vec![3, 3]]);
        assert_eq!(laced(1, &[2, 2, 2, 1, 1, 2, 2, 3, 3]), want);
        assert_eq!(laced(2, &[2, 1, 1, 2, 2, 3, 3]), want);
        assert_eq!(laced(3, &[2, 0x82, 0xBF, 1, 1, 2, 2, 3, 3]), want);
    }

    #[test]
    fn lacing_that_does_not_add_up_is_no_block() {
        assert_eq!(laced(1, &[2, 200, 200, 1]), None);
        assert_eq!(laced(2, &[9, 1]), None);
    }
}
