//! What is missing from the file, as it is found.

use super::output::SKIP_US;
use crate::assemble::{Gap, GapReason};

/// Gaps kept one by one; more are merged into the last.
const MAX_GAPS: usize = 10_000;

/// Gaps in the order in which they are found.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn push(&mut self, gap: Gap) {
        let full = self.0.len() >= MAX_GAPS;
        match self.0.last_mut() {
            Some(last) if full => last.to_us = last.to_us.max(gap.to_us),
            _ => self.0.push(gap),
        }
    }

    /// With more of them in the order of their times, those of one reason that touch made one.
    pub(super) fn joined(mut self, more: impl Iterator<Item = Gap>) -> Vec<Gap> {
        self.0.extend(more);
        self.0.sort_by_key(|gap| (gap.reason as u8, gap.from_us));
        let mut joined: Vec<Gap> = Vec::new();
        for gap in self.0 {
            match joined.last_mut() {
                Some(last)
                    if last.reason == gap.reason && gap.from_us <= last.to_us + seam_us(gap.reason) =>
                {
                    last.to_us = last.to_us.max(gap.to_us);
                }
                _ => joined.push(gap),
            }
        }
        joined.sort_by_key(|gap| gap.from_us);
        joined
    }
}

/// How far apart gaps are one: the sides of a pause end with the frames that were whole.
fn seam_us(reason: GapReason) -> i64 {
    if reason == GapReason::Paused { SKIP_US } else { 0 }
}
