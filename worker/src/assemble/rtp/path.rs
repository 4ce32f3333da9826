//! From a stream's media time to its sender's wall clock: a line where one fits the sender reports, else piece by piece.
//!
//! A media clock that counts samples leaves the wall clock when a sound card or its thread loses some: a browser on an
//! overloaded machine ran 390 ms behind in 27 s (14,000 ppm), partly in jumps. Two things tell of that, each wrong in its
//! own way: a report (RFC 3550, section 6.4.1) is exact but comes every second (pictures) to five seconds (sound) and may
//! be absurd; the arrivals are dense but late by whatever the network does. So what both say is followed:
//!
//! 1. All reports within [`FIT_US`] of one line (drift up to 500 ppm, `fit`): the line.
//! 2. Else each report is held against the quickest packets around it. The difference is the same for all right reports,
//!    whatever the media clock does; one that is [`AGREE_US`] off the median of its [`AROUND`] neighbours on either side is
//!    left out. So a lone wrong report moves nothing, nor does a late or a doubled one: they are sorted by media time.
//! 3. A step of the reports that arrivals do not show at all is one of the sender's wall clock, which a sender's streams
//!    share. It is taken off again, on each stream, so media go on as they were.
//! 4. If what is left fits a line, the line. Else the line goes from report to report, and a change of [`JUMP_US`] and more
//!    between two is put where packets show it: at the largest steps from one packet's lateness to the next's that are
//!    still there in the quickest packets of [`NEAR_US`], no larger than the reports tell. What no packet shows is spread evenly.
//! 5. Before the first report and after the last the drift of the [`END`] reports next to it goes on.
//!
//! Limits: a jump of less than 300 ms (what begins an epoch, `unwrap`) before the first report or after the last is not
//! seen (and moves no other stream), nor is a drift that fewer than two right reports tell of. Loss of less than
//! [`JUMP_US`] at once is spread between two reports, and so is a jump during a second of jitter as large as itself,
//! which is wrong by its size at most. Half of the reports must be right, else the line is what it is and `clocks` may
//! believe arrivals alone.

use super::fit::{Line, Through, line};

/// A line that is off by no more fits: half of the 40 ms that sound may be off pictures.
const FIT_US: i64 = 20_000;

/// A drift between the media's and the sender's clock shows above this; reports are a few milliseconds off.
const REPORT_NOISE_US: f64 = 5_000.0;

/// How far a right report and the quickest packets around it disagree: reports' noise, and a second's jitter.
const AGREE_US: i64 = 30_000;

/// Reports on either side that say together what one should be.
const AROUND: usize = 4;

/// Packets this near to a report or to a jump tell of it: fifty of sound, enough for one that came quickly.
const NEAR_US: i64 = 1_000_000;

/// A change between two reports is looked for as a jump from here on: it is an Opus packet of the usual length.
const JUMP_US: i64 = 20_000;

/// Steps of the sender's wall clock from here on are taken off: above two reports' noise and a second's jitter.
const CLOCK_STEP_US: i64 = 50_000;

/// Reports at an end whose drift goes on beyond it: 20 s of sound's.
const END: usize = 5;

/// The quickest packet of a short while, and the largest step in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Low {
    pub(super) media_us: i64,
    pub(super) arrival_us: i64,
    /// Media time of a packet, and how much later it was than the one sent before.
    pub(super) step: (i64, i64),
}

impl Low {
    pub(super) fn offset_us(&self) -> i64 {
        self.arrival_us - self.media_us
    }
}

/// Media time to the sender's wall clock.
#[derive(Debug, Clone)]
pub(super) enum Path {
    Straight(Line),
    Bent(Vec<Piece>),
}

/// From a media time on: an offset at another media time, and how it changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    from_us: i64,
    at_us: i64,
    offset_us: i64,
    drift: f64,
}

/// A report that packets agree with.
#[derive(Debug, Clone, Copy)]
struct Report {
    media_us: i64,
    /// Sender's clock minus media time.
    offset_us: i64,
    /// What the quickest packet around it has above that.
    delay_us: i64,
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
        take_off_clock_steps(&mut kept);
        let points: Vec<_> = kept.iter().map(|one| (one.media_us, one.media_us + one.offset_us)).collect();
        let straight = line(&points, Through::Middle, REPORT_NOISE_US)?;
        let off = |n: usize| points.get(n).is_none_or(|point| !fits(&straight, point));
        // One report that is off between two that are not is noise; a second, or one at an end, is not.
        if (0..points.len()).all(|n| !off(n) || (n > 0 && !off(n - 1) && !off(n + 1))) {
            return Some(Self::Straight(straight));
        }
        Some(Self::Bent(bend(&kept, lows)))
    }

    /// The sender's clock at a media time.
    pub(super) fn at(&self, media_us: i64) -> i64 {
        match self {
            Self::Straight(line) => line.at(media_us),
            Self::Bent(pieces) => {
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
        let Self::Bent(pieces) = self else { return None };
        Some((pieces.first()?.at_us, pieces.last()?.at_us))
    }
}

fn fits(line: &Line, &(media_us, sender_us): &(i64, i64)) -> bool {
    (sender_us - line.at(media_us)).abs() <= FIT_US
}

/// The lows whose media time lies in `from_us..to_us`.
fn between(lows: &[Low], from_us: i64, to_us: i64) -> &[Low] {
    let at = |us: i64| lows.partition_point(|low| low.media_us < us);
    lows.get(at(from_us)..at(to_us)).unwrap_or_default()
}

fn quickest(lows: &[Low]) -> Option<i64> {
    lows.iter().map(Low::offset_us).min()
}

fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The reports that agree with the packets around them as their neighbours do, in order, one for each media time.
fn agreeing(reports: &[(i64, i64)], lows: &[Low]) -> Vec<Report> {
    let near = |media_us: i64| between(lows, media_us - NEAR_US, media_us + NEAR_US);
    let mut all: Vec<Report> = reports
        .iter()
        .filter_map(|&(media_us, sender_us)| {
            let offset_us = sender_us - media_us;
            let delay_us = quickest(near(media_us))? - offset_us;
            Some(Report { media_us, offset_us, delay_us })
        })
        .collect();
    all.sort_unstable_by_key(|one| (one.media_us, one.offset_us));
    all.dedup_by_key(|one| (one.media_us, one.offset_us));
    let agrees = |&n: &usize| {
        let around = &all[n.saturating_sub(AROUND)..all.len().min(n + AROUND + 1)];
        let usual_us = median(around.iter().map(|one| one.delay_us));
        // Any packet will do: just after a jump the quickest one may be from before it.
        let off_us = |low: &Low| low.offset_us() - all[n].offset_us - usual_us;
        near(all[n].media_us).iter().any(|low| off_us(low).abs() <= AGREE_US)
    };
    let mut kept: Vec<Report> = (0..all.len()).filter(agrees).map(|n| all[n]).collect();
    kept.dedup_by_key(|one| one.media_us);
    kept
}

/// Takes off what the reports step by, for good, beyond their drift, and arrivals do not.
fn take_off_clock_steps(kept: &mut [Report]) {
    let mut stepped_us = 0;
    let mut steps = vec![0; kept.len()];
    let drifts: Vec<f64> = kept
        .windows(2)
        .map(|pair| ratio(pair[1].offset_us - pair[0].offset_us, pair[1].media_us - pair[0].media_us))
        .collect();
    for n in 1..kept.len() {
        let mut around = drifts[(n - 1).saturating_sub(AROUND)..drifts.len().min(n + AROUND)].to_vec();
        around.sort_unstable_by(f64::total_cmp);
        let drifted_us = scaled(kept[n].media_us - kept[n - 1].media_us, around[around.len() / 2]);
        let by_us = kept[n].offset_us - kept[n - 1].offset_us - drifted_us;
        let before_us = median(kept[n.saturating_sub(AROUND)..n].iter().map(|one| one.delay_us));
        let after_us = median(kept[n..kept.len().min(n + AROUND)].iter().map(|one| one.delay_us));
        let unseen = (after_us - before_us + by_us).abs() <= JUMP_US.max(by_us.abs() / 10);
        if by_us.abs() >= CLOCK_STEP_US && unseen {
            stepped_us += by_us;
        }
        steps[n] = stepped_us;
    }
    for (one, step_us) in kept.iter_mut().zip(steps) {
        one.offset_us -= step_us;
    }
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
    let drift = |ends: &[(i64, i64)]| match (ends.first(), ends.last()) {
        (Some(first), Some(last)) => ratio(last.1 - first.1, last.0 - first.0),
        _ => 0.0,
    };
    let (first, last) = (kept[0], kept[kept.len() - 1]);
    let piece = |one: Report, drift| Piece {
        from_us: one.media_us,
        at_us: one.media_us,
        offset_us: one.offset_us,
        drift,
    };
    let before = Piece { from_us: i64::MIN, ..piece(first, drift(&even[..even.len().min(END)])) };
    pieces.insert(0, before);
    pieces.push(piece(last, drift(&even[even.len().saturating_sub(END)..])));
    pieces
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
fn ratio(by_us: i64, over_us: i64) -> f64 {
    if over_us == 0 { 0.0 } else { by_us as f64 / over_us as f64 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "drift of days is below 2^53"
)]
fn scaled(us: i64, drift: f64) -> i64 {
    (us as f64 * drift).round() as i64
}

#[cfg(test)]
mod tests;
