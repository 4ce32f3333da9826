//! H.264 (RFC 6184): single NAL units, STAP-A and FU-A, which is all that packetization mode 1 has.
//!
//! Output has four-byte lengths, as everywhere in the assembly.

use super::{Begins, Part, Reference};
use crate::assemble::codec::{Marked, h264};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const IDR: u8 = 5;

/// A NAL unit whose end has not come: where its length goes.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    open: Option<usize>,
}

impl Fragment {
    pub(super) fn push(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Option<Part> {
        let (&first, rest) = payload.split_first()?;
        match first & 0x1F {
            1..=23 => {
                self.closed()?;
                h264::append(out, [payload].into_iter());
                Some(part(payload))
            }
            STAP_A => {
                self.closed()?;
                let nals: Vec<&[u8]> = h264::prefixed(rest, 2).filter(|nal| !nal.is_empty()).collect();
                h264::append(out, nals.iter().copied());
                nals.iter().map(|nal| part(nal)).reduce(|all, one| Part {
                    begins: all.begins,
                    marked: if one.marked == Marked::Key { Marked::Key } else { all.marked },
                    reference: if one.reference == Reference::Yes { Reference::Yes } else { all.reference },
                })
            }
            FU_A => self.fragment(first, rest, out),
            _ => None,
        }
    }

    fn fragment(&mut self, indicator: u8, rest: &[u8], out: &mut Vec<u8>) -> Option<Part> {
        let (&header, data) = rest.split_first()?;
        let nal = indicator & 0xE0 | header & 0x1F;
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start {
            self.closed()?;
            self.open = Some(out.len());
            out.extend_from_slice(&[0, 0, 0, 0, nal]);
        }
        let at = self.open?;
        out.extend_from_slice(data);
        if end {
            let size = u32::try_from(out.len() - at - 4).ok()?;
            out.get_mut(at..at + 4)?.copy_from_slice(&size.to_be_bytes());
            self.open = None;
        }
        let mut found = part(&[nal, *data.first()?]);
        if !start {
            found.begins = Begins::No;
        }
        Some(found)
    }

    fn closed(&self) -> Option<()> {
        self.open.is_none().then_some(())
    }

    pub(super) fn finish(self) -> Option<()> {
        self.closed()
    }
}

/// A NAL unit begins a picture when it is no slice, or its slice begins with the first macroblock: then the first bit
/// behind its header is set (ITU-T H.264, 7.3.3, an Exp-Golomb 0).
fn part(nal: &[u8]) -> Part {
    let head = nal.first().copied().unwrap_or_default();
    let kind = head & 0x1F;
    let slice = (1..=IDR).contains(&kind);
    let begins = !slice || nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
    Part {
        begins: if begins { Begins::Yes } else { Begins::No },
        marked: if kind == IDR { Marked::Key } else { Marked::Delta },
        reference: if head & 0x60 == 0 && slice { Reference::No } else { Reference::Yes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_the_unit_that_they_were() {
        let (mut fragment, mut out) = (Fragment::default(), Vec::new());
        let first = fragment.push(&[0x7C, 0x85, 0x88, 1], &mut out).unwrap();
        assert_eq!((first.begins, first.marked), (Begins::Yes, Marked::Key));
        assert_eq!(fragment.push(&[0x7C, 0x05, 2], &mut out).unwrap().begins, Begins::No);
        fragment.push(&[0x7C, 0x45, 3], &mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 5, 0x65, 0x88, 1, 2, 3]);
        assert_eq!(fragment.finish(), Some(()));
    }

    #[test]
    fn an_aggregate_is_taken_apart_and_a_middle_without_its_start_is_refused() {
        let mut out = Vec::new();
        let part = Fragment::default().push(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68], &mut out).unwrap();
        assert_eq!(part.begins, Begins::Yes);
        assert_eq!(out, [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x68]);
        assert_eq!(Fragment::default().push(&[0x7C, 0x05, 2], &mut out), None);
    }
}
