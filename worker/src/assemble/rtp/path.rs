//! From a stream's media time to its sender's wall clock: a line where one fits the sender reports, else piece by piece.
//!
//! A media clock that counts samples leaves the wall clock when a sound card or its thread loses some: a browser on an
//! overloaded machine ran 390 ms behind in 27 s (14,000 ppm), partly in jumps. Two things tell of that, each wrong in its
//! own way: a report (RFC 3550, section 6.4.1) is exact but comes every second (pictures) to five seconds (sound) and may
//! be absurd; the arrivals are dense but late by whatever the network does. So what both say is followed:
//!
//! 1. All reports within [`FIT_US`] of one line (drift up to 500 ppm, `fit`): the line.
//! 2. Else the reports that packets agree with are kept, without the steps of the sender's wall clock (`reports`).
//! 3. If what is left fits a line, the line. Else the line goes from report to report, and a change of [`JUMP_US`] and more
//!    between two is put where packets show it: at the largest steps from one packet's lateness to the next's that are
//!    still there in the quickest packets of a second, no larger than the reports tell. What no packet shows is spread evenly.
//! 4. Before the first report and after the last the drift of the reports within [`END_US`] goes on for as long as they
//!    span, which bounds what a few wrong ones do; beyond that no drift is known.
//!
//! Limits: a jump of less than 300 ms (what begins an epoch, `unwrap`) before the first report or after the last is not
//! seen (and moves no other stream), nor is a drift that fewer than two right reports tell of. Loss of less than
//! [`JUMP_US`] at once is spread between two reports, and so is a jump during a second of jitter as large as itself,
//! which is wrong by its size at most. Half of the reports must be right, else the line is what it is and `clocks` may
//! believe arrivals alone. A step of the sender's wall clock of which fewer than three reports of any one stream tell, on
//! either side of it, is taken for wrong reports; that moves no stream against another.

use super::fit::{Line, Through, line};
use super::reports::{AGREE_US, Low, NEAR_US, Report, agreeing, between, quickest, take_off_steps};

/// A line that is off by no more fits: half of the 40 ms that sound may be off pictures.
const FIT_US: i64 = 20_000;

/// A drift between the media's and the sender's clock shows above this; reports are a few milliseconds off.
const REPORT_NOISE_US: f64 = 5_000.0;

/// A change between two reports is looked for as a jump from here on: it is an Opus packet of the usual length.
const JUMP_US: i64 = 20_000;

/// Reports at an end whose drift goes on beyond it: of [`END_US`], and at least so many.
const END: usize = 5;

/// What a report is off says little about the drift over this long: four intervals of sound's.
const END_US: i64 = 20_000_000;

/// Media time to the sender's wall clock.
#[derive(Debug, Clone)]
pub(super) enum Path {
    Straight(Line),
    Bent {
        pieces: Vec<Piece>,
        /// The first report and the last.
        told_us: (i64, i64),
    },
}

/// From a media time on: an offset at another media time, and how it changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    from_us: i64,
    at_us: i64,
    offset_us: i64,
    drift: f64,
}

impl Piece {
    fn at(at_us: i64, offset_us: i64, drift: f64) -> Self {
        Self { from_us: at_us, at_us, offset_us, drift }
    }
}

impl Path {
    /// Follows reports (media time, sender's clock); `lows` are in the order of their media times.
    pub(super) fn follow(reports: &[(i64, i64)], lows: &[Low]) -> Option<Self> {
        let straight = line(reports, Through::Middle, REPORT_NOISE_US)?;
        if reports.iter().all(|report| fits(&straight, report)) {
            return Some(Self::Straight(straight));
        }
        let mut kept = agreeing(reports, lows);
        if kept.len() < 2 || kept.len() * 2 < reports.len() {
            return Some(Self::Straight(straight));
        }
        take_off_steps(&mut kept);
        let points: Vec<_> = kept.iter().map(|one| (one.media_us, one.media_us + one.offset_us)).collect();
        let straight = line(&points, Through::Middle, REPORT_NOISE_US)?;
        let off = |n: usize| points.get(n).is_none_or(|point| !fits(&straight, point));
        // One report that is off between two that are not is noise; a second, or one at an end, is not.
        if (0..points.len()).all(|n| !off(n) || (n > 0 && !off(n - 1) && !off(n + 1))) {
            return Some(Self::Straight(straight));
        }
        let told_us = (kept[0].media_us, kept[kept.len() - 1].media_us);
        Some(Self::Bent { pieces: bend(&kept, lows), told_us })
    }

    /// The sender's clock at a media time.
    pub(super) fn at(&self, media_us: i64) -> i64 {
        match self {
            Self::Straight(line) => line.at(media_us),
            Self::Bent { pieces, .. } => {
                let after = pieces.partition_point(|piece| piece.from_us <= media_us);
                pieces.get(after.saturating_sub(1)).map_or(media_us, |piece| {
                    let since_us = media_us.saturating_sub(piece.at_us);
                    media_us.saturating_add(piece.offset_us).saturating_add(scaled(since_us, piece.drift))
                })
            }
        }
    }

    /// From the first report to the last of a path that is bent; what lies beyond must not move other streams.
    pub(super) fn bent(&self) -> Option<(i64, i64)> {
        if let Self::Bent { told_us, .. } = self { Some(*told_us) } else { None }
    }
}

/// Whether one line fits all reports.
pub(super) fn fits_a_line(reports: &[(i64, i64)]) -> bool {
    let line = line(reports, Through::Middle, REPORT_NOISE_US);
    line.is_none_or(|line| reports.iter().all(|report| fits(&line, report)))
}

fn fits(line: &Line, &(media_us, sender_us): &(i64, i64)) -> bool {
    (sender_us - line.at(media_us)).abs() <= FIT_US
}

/// Pieces from report to report, with jumps where packets show them.
fn bend(kept: &[Report], lows: &[Low]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    // The reports' offsets without the jumps before them: what is left is drift.
    let (mut even, mut jumped_us) = (vec![(kept[0].media_us, kept[0].offset_us)], 0);
    for pair in kept.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let by_us = b.offset_us - a.offset_us;
        let jumps = jumps(lows, (a.media_us, b.media_us), by_us);
        let sum_us: i64 = jumps.iter().map(|(_, by_us)| by_us).sum();
        let drift = ratio(by_us - sum_us, b.media_us - a.media_us);
        let mut piece = Piece { from_us: a.media_us, at_us: a.media_us, offset_us: a.offset_us, drift };
        pieces.push(piece);
        for (from_us, by_us) in jumps {
            piece.from_us = from_us;
            piece.offset_us += by_us;
            // A report that was sent while the clock stood still tells of a media time that came after it.
            while pieces.pop_if(|last| last.from_us >= from_us).is_some() {}
            pieces.push(piece);
        }
        jumped_us += sum_us;
        even.push((b.media_us, b.offset_us - jumped_us));
    }
    begin(&mut pieces, &kept[0], &even);
    end(&mut pieces, &kept[kept.len() - 1], &even);
    pieces
}

/// Before the first report: the drift of those after it, for as long as they span.
fn begin(pieces: &mut Vec<Piece>, first: &Report, even: &[(i64, i64)]) {
    let near = even.iter().take_while(|(media_us, _)| media_us - first.media_us <= END_US).count().max(END);
    let (drift, spans_us) = drift(&even[..near.min(even.len())]);
    let even = Piece::at(first.media_us - spans_us, first.offset_us - scaled(spans_us, drift), 0.0);
    let drifting = Piece { from_us: even.at_us, ..Piece::at(first.media_us, first.offset_us, drift) };
    pieces.splice(..0, [Piece { from_us: i64::MIN, ..even }, drifting]);
}

/// After the last report, likewise.
fn end(pieces: &mut Vec<Piece>, last: &Report, even: &[(i64, i64)]) {
    let near = even.iter().rev().take_while(|(media_us, _)| last.media_us - media_us <= END_US).count();
    let (drift, spans_us) = drift(&even[even.len().saturating_sub(near.max(END))..]);
    pieces.push(Piece::at(last.media_us, last.offset_us, drift));
    pieces.push(Piece::at(last.media_us + spans_us, last.offset_us + scaled(spans_us, drift), 0.0));
}

/// The drift of some reports, and how long they span.
fn drift(reports: &[(i64, i64)]) -> (f64, i64) {
    match (reports.first(), reports.last()) {
        (Some(first), Some(last)) => (ratio(last.1 - first.1, last.0 - first.0), last.0 - first.0),
        _ => (0.0, 0),
    }
}

/// Where between two reports, whose offsets differ by `by_us`, the clock jumped, and by how much: in order.
fn jumps(lows: &[Low], (from_us, to_us): (i64, i64), by_us: i64) -> Vec<(i64, i64)> {
    let (sign, mut left_us) = (by_us.signum(), by_us.abs());
    let shown = between(lows, from_us - NEAR_US, to_us + NEAR_US).iter().map(|low| low.step);
    let mut steps: Vec<_> = shown
        .filter(|(at_us, by_us)| (from_us - NEAR_US + 1..=to_us).contains(at_us) && by_us * sign >= JUMP_US)
        .collect();
    // Before the first report only for what nothing else explains: that report was sent while the clock stood still.
    steps.sort_unstable_by_key(|(at_us, by_us)| (*at_us <= from_us, -by_us.abs()));
    let mut jumps: Vec<(i64, i64)> = Vec::new();
    for (at_us, _) in steps {
        // Not across a jump that is known already.
        let known = || jumps.iter().map(|(known_us, _)| *known_us);
        let since_us = known().filter(|us| *us <= at_us).max().unwrap_or(i64::MIN);
        let until_us = known().filter(|us| *us > at_us).min().unwrap_or(i64::MAX);
        let before = quickest(between(lows, since_us.max(at_us - NEAR_US), at_us));
        let after = quickest(between(lows, at_us, until_us.min(at_us + NEAR_US)));
        let stays_us = before.zip(after).map_or(0, |(before, after)| (after - before) * sign);
        // More than the reports tell of is the network's.
        if (JUMP_US..=left_us + AGREE_US).contains(&stays_us) && left_us >= JUMP_US {
            let jump_us = stays_us.min(left_us);
            jumps.push((at_us, jump_us * sign));
            left_us -= jump_us;
        }
    }
    jumps.sort_unstable();
    jumps
}

#[expect(clippy::cast_precision_loss, reason = "offsets of days are below 2^53 microseconds")]
pub(super) fn ratio(by_us: i64, over_us: i64) -> f64 {
    if over_us == 0 { 0.0 } else { by_us as f64 / over_us as f64 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "drift of days is below 2^53"
)]
pub(super) fn scaled(us: i64, drift: f64) -> i64 {
    (us as f64 * drift).round() as i64
}

#[cfg(test)]
mod tests;
