//! The pure rules of chunk sequences: what has been received, what is missing, what is too high.
//!
//! This file must not know files, clocks or the network: it is arithmetic on ranges. The ranges are all that a live
//! track keeps in memory of its past, so a recording of any length costs eight bytes for each run without a gap.

use thiserror::Error;

/// The highest sequence that a client may use: 2^20 - 1, which is twelve days of one chunk each second, and three days
/// of one each 250 ms. It bounds the duplicate index of a track (48 MiB, sparse) and, with every other chunk missing,
/// its ranges in memory (4 MiB).
pub const MAX_SEQUENCE: u64 = (1 << 20) - 1;

/// A sequence number above [`MAX_SEQUENCE`].
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("sequence {0} is above {MAX_SEQUENCE}")]
pub struct SequenceTooHigh(pub u64);

/// A sequence number within bounds, as the log stores it.
///
/// # Errors
/// When it is above [`MAX_SEQUENCE`].
pub fn checked_sequence(sequence: u64) -> Result<u32, SequenceTooHigh> {
    u32::try_from(sequence).ok().filter(|_| sequence <= MAX_SEQUENCE).ok_or(SequenceTooHigh(sequence))
}

/// A set of sequences, held as inclusive ranges that are ascending and never touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

/// What [`Ranges::insert`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The sequence was not there before.
    New,
    /// The sequence was there already.
    Held,
}

impl Ranges {
    /// Whether the sequence is in the set.
    #[must_use]
    pub fn contains(&self, sequence: u32) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= sequence);
        after > 0 && sequence <= self.0[after - 1].1
    }

    /// Adds one sequence, joining the ranges it touches.
    pub fn insert(&mut self, sequence: u32) -> Inserted {
        let after = self.0.partition_point(|&(first, _)| first <= sequence);
        if after > 0 && sequence <= self.0[after - 1].1 {
            return Inserted::Held;
        }
        let joins_left = after > 0 && self.0[after - 1].1.checked_add(1) == Some(sequence);
        let joins_right = after < self.0.len() && sequence.checked_add(1) == Some(self.0[after].0);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[after - 1].1 = self.0[after].1;
                self.0.remove(after);
            }
            (true, false) => self.0[after - 1].1 = sequence,
            (false, true) => self.0[after].0 = sequence,
            (false, false) => self.0.insert(after, (sequence, sequence)),
        }
        Inserted::New
    }

    /// The highest sequence held.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|&(_, last)| u64::from(last))
    }

    /// How many sequences are held.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The ranges, inclusive and ascending, as the API and the rows show them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|&(first, last)| (first.into(), last.into())).collect()
    }

    /// The ranges that are missing from 0 to the declared last sequence, or to the highest held one when none is
    /// declared (or when more than the declared arrived).
    #[must_use]
    pub fn missing(&self, declared_last: Option<u64>) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut next = 0_u64;
        for (first, last) in self.pairs() {
            if first > next {
                missing.push((next, first - 1));
            }
            next = last + 1;
        }
        if let Some(last) = declared_last.filter(|&last| last >= next) {
            missing.push((next, last));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn ranges_of(sequences: &[u32]) -> Ranges {
        let mut ranges = Ranges::default();
        for &sequence in sequences {
            ranges.insert(sequence);
        }
        ranges
    }

    #[test]
    fn sequences_in_any_order_become_the_same_ranges() {
        let ranges = ranges_of(&[5, 1, 0, 2, 7, 6, 9]);
        assert_eq!(ranges.pairs(), vec![(0, 2), (5, 7), (9, 9)]);
        assert_eq!((ranges.count(), ranges.last()), (7, Some(9)));
    }

    #[test]
    fn a_sequence_is_new_once() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(3), Inserted::New);
        assert_eq!(ranges.insert(3), Inserted::Held);
    }

    #[test]
    fn what_is_missing_is_counted_to_the_declared_last() {
        let ranges = ranges_of(&[1, 2, 5]);
        assert_eq!(ranges.missing(None), vec![(0, 0), (3, 4)]);
        assert_eq!(ranges.missing(Some(7)), vec![(0, 0), (3, 4), (6, 7)]);
        assert_eq!(Ranges::default().missing(Some(0)), vec![(0, 0)]);
        assert_eq!(Ranges::default().missing(None), vec![]);
    }

    #[test]
    fn a_sequence_above_the_highest_is_refused() {
        assert_eq!(checked_sequence(MAX_SEQUENCE), Ok((1 << 20) - 1));
        assert_eq!(checked_sequence(MAX_SEQUENCE + 1), Err(SequenceTooHigh(1 << 20)));
        assert!(checked_sequence(u64::MAX).is_err());
    }

    #[test]
    fn the_edges_of_the_number_range_do_not_overflow() {
        assert_eq!(ranges_of(&[u32::MAX, 0, u32::MAX - 1]).pairs().len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn ranges_agree_with_a_plain_set(sequences in proptest::collection::vec(0_u32..64, 0..128)) {
            let set: BTreeSet<u32> = sequences.iter().copied().collect();
            let ranges = ranges_of(&sequences);
            for sequence in 0..66 {
                assert_eq!(ranges.contains(sequence), set.contains(&sequence));
            }
            assert_eq!(ranges.count(), set.len() as u64);
        }
    }
}
