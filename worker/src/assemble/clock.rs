//! Estimates when a chunk's media began, from what is known of other chunks: the last resort where no timestamp survived.
//!
//! Clients say when a blob's media began by their wall clock; that clock and the media's differ by a nearly constant offset
//! (measured: ±30 ms, one video frame). Without it, the mean length of a chunk serves.

use std::collections::VecDeque;

use super::Chunk;
use super::cut::Cut;

/// How many chunks the median offset is taken over: enough to outvote a late event, few enough to follow drift.
const SAMPLES: usize = 9;

/// A client's clock that is further off than this from chunk to chunk tells something else than when media began.
const AGREE_US: i64 = 250_000;

/// The length of a chunk while none has been seen: the timeslice of every known client.
const DEFAULT_CHUNK_US: i64 = 1_000_000;

/// What is known of a chunk besides its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) sequence: i64,
    pub(super) timestamp_us: Option<i64>,
    pub(super) arrival_us: i64,
}

impl Stamp {
    pub(super) fn of(chunk: &Chunk) -> Self {
        Self {
            sequence: i64::try_from(chunk.sequence).unwrap_or(i64::MAX / 2),
            timestamp_us: chunk.timestamp_ms.map(|ms| ms.saturating_mul(1_000)),
            arrival_us: chunk.arrival_ms.saturating_mul(1_000),
        }
    }

    /// When its media began by the client's clock, else when it came.
    pub(super) fn wall_us(&self) -> i64 {
        self.timestamp_us.unwrap_or(self.arrival_us)
    }

    /// How far this chunk lies behind `before` by the client's clock, else by arrival, in microseconds.
    pub(super) fn since(&self, before: &Self) -> i64 {
        let arrivals = self.arrival_us.saturating_sub(before.arrival_us);
        match (self.timestamp_us, before.timestamp_us) {
            (Some(after), Some(before)) => after.saturating_sub(before),
            _ => arrivals,
        }
    }
}

/// Pairs of a chunk's stamp and the time of its first frame, in the session's time.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When recorders rested, by the client's clock: media's times do not hold that.
    rests: Cut,
    samples: VecDeque<(Stamp, i64)>,
    first: Option<(Stamp, i64)>,
}

impl Clock {
    pub(super) fn new(rests: Cut) -> Self {
        Self { rests, ..Self::default() }
    }

    /// That of a session that comes next.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.rests.clone())
    }

    /// How much media lies between two chunks by the client's clock; `None` when one tells no time.
    pub(super) fn media_between(&self, before: &Stamp, after: &Stamp) -> Option<i64> {
        let (before, after) = (before.timestamp_us?, after.timestamp_us?);
        self.rests.place(after).checked_sub(self.rests.place(before))
    }

    /// Learns that the first frame of the chunk lies at `time_us`. Only the first call for a chunk counts.
    pub(super) fn learn(&mut self, stamp: Stamp, time_us: i64) {
        if self.samples.back().is_some_and(|(last, _)| last.sequence == stamp.sequence) {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.first.get_or_insert((stamp, time_us));
        self.samples.push_back((stamp, time_us));
    }

    /// When the first frame of the chunk probably lies.
    pub(super) fn estimate(&self, stamp: &Stamp) -> i64 {
        let Some(&(last, last_us)) = self.samples.back() else {
            return stamp.sequence.saturating_mul(DEFAULT_CHUNK_US);
        };
        let mut guesses: Vec<i64> = self
            .samples
            .iter()
            .filter_map(|(known, us)| us.checked_add(self.media_between(known, stamp)?))
            .collect();
        guesses.sort_unstable();
        match guesses.get(guesses.len() / 2) {
            Some(median) if agree(&guesses) => *median,
            _ => {
                last_us.saturating_add((stamp.sequence - last.sequence).saturating_mul(self.mean_chunk_us()))
            }
        }
    }

    /// The first chunk whose first frame has a time.
    pub(super) fn first(&self) -> Option<(Stamp, i64)> {
        self.first
    }

    /// The last chunk whose first frame has a time.
    pub(super) fn last(&self) -> Option<(Stamp, i64)> {
        self.samples.back().copied()
    }

    /// When the last chunk probably ended.
    pub(super) fn end_of_last(&self) -> i64 {
        self.samples.back().map_or(0, |(_, us)| us.saturating_add(self.mean_chunk_us()))
    }

    /// The mean length of a chunk so far.
    pub(super) fn mean_chunk_us(&self) -> i64 {
        match (self.first, self.samples.back()) {
            (Some((first, first_us)), Some((last, last_us))) if last.sequence > first.sequence => {
                ((last_us - first_us) / (last.sequence - first.sequence)).max(1)
            }
            _ => DEFAULT_CHUNK_US,
        }
    }
}

/// Whether the middle half says the same: times of upload, say, do not.
fn agree(sorted: &[i64]) -> bool {
    let (low, high) = (sorted.get(sorted.len() / 4), sorted.get(sorted.len() * 3 / 4));
    low.zip(high).is_some_and(|(low, high)| high - low <= AGREE_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: i64, timestamp_ms: Option<i64>) -> Stamp {
        Stamp { sequence, timestamp_us: timestamp_ms.map(|ms| ms * 1_000), arrival_us: 0 }
    }

    #[test]
    fn one_late_event_does_not_move_the_estimate() {
        let mut clock = Clock::default();
        for (n, ms) in [(0, 5_000), (1, 6_010), (2, 7_900), (3, 8_000), (4, 9_005)] {
            clock.learn(stamp(n, Some(ms)), n * 1_000_000);
        }
        assert!((clock.estimate(&stamp(6, Some(11_000))) - 6_000_000).abs() <= 10_000);
    }

    #[test]
    fn a_clock_that_tells_of_uploads_is_not_believed() {
        let mut clock = Clock::default();
        for n in 0..6 {
            clock.learn(stamp(n, Some(5_000 + n * 7)), n * 1_000_000);
        }
        assert_eq!(clock.estimate(&stamp(7, Some(5_049))), 7_000_000);
    }

    #[test]
    fn what_a_recorder_rested_is_no_media() {
        let mut clock = Clock::new(Cut::new(0, &[(8_500_000, 68_500_000)]));
        for n in 0..4 {
            clock.learn(stamp(n, Some(5_000 + n * 1_000)), n * 1_000_000);
        }
        assert_eq!(clock.estimate(&stamp(5, Some(70_000))), 5_000_000);
        assert_eq!(clock.estimate(&stamp(6, Some(71_000))), 6_000_000);
    }

    #[test]
    fn without_timestamps_the_mean_chunk_serves() {
        let mut clock = Clock::default();
        clock.learn(stamp(0, None), 0);
        clock.learn(stamp(4, None), 2_000_000);
        assert_eq!(clock.estimate(&stamp(6, None)), 3_000_000);
    }
}
