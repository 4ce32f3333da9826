//! Sender reports held against the packets around them: which are right, and where the sender's wall clock stepped.
//!
//! The difference between a report and the quickest packets around it is the same for all right reports, whatever the
//! media clock does; one that is [`AGREE_US`] off the median of its [`AROUND`] neighbours on either side is left out. So a
//! lone wrong report moves nothing, nor does a late or a doubled one: they are sorted by media time.
//!
//! A step of the reports that arrivals do not show at all is one of the sender's wall clock. All streams of a sender share
//! it, but a stream with few reports on one side of it does not show it: those few look wrong. So a step that one stream
//! shows is taken off all of that sender, and media of all go on as they were before it.

use super::clocks::SAME_SENDER_US;
use super::path::{fits_a_line, ratio, scaled};

/// How far a right report and the quickest packets around it disagree: reports' noise, and a second's jitter.
pub(super) const AGREE_US: i64 = 30_000;

/// Reports on either side that say together what one should be.
const AROUND: usize = 4;

/// Packets this near to a report or to a jump tell of it: fifty of sound, enough for one that came quickly.
pub(super) const NEAR_US: i64 = 1_000_000;

/// Steps of the sender's wall clock from here on are taken off: above two reports' noise and a second's jitter.
const CLOCK_STEP_US: i64 = 50_000;

/// What of a clock's step arrivals may show: reports' noise.
const SHOWN_US: i64 = 20_000;

/// Steps of one participant's wall clocks at most: a clock that is set so often tells no time.
const MAX_STEPS: usize = 64;

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

/// A report among packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) media_us: i64,
    /// Sender's clock minus media time.
    pub(super) offset_us: i64,
    /// What the quickest packet around it has above that.
    delay_us: i64,
}

impl Report {
    /// When it came as quickly as the quickest packet around it.
    fn arrival_us(&self) -> i64 {
        self.media_us + self.offset_us + self.delay_us
    }
}

/// A step of a sender's wall clock, between two arrivals.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockStep {
    from_us: i64,
    to_us: i64,
    by_us: i64,
    /// What quick packets had above the sender's clock before it and after it.
    delays_us: (i64, i64),
}

/// The lows whose media time lies in `from_us..to_us`.
pub(super) fn between(lows: &[Low], from_us: i64, to_us: i64) -> &[Low] {
    let at = |us: i64| lows.partition_point(|low| low.media_us < us);
    lows.get(at(from_us)..at(to_us)).unwrap_or_default()
}

/// Arrival minus media time of the quickest.
pub(super) fn quickest(lows: &[Low]) -> Option<i64> {
    lows.iter().map(Low::offset_us).min()
}

fn near(lows: &[Low], media_us: i64) -> &[Low] {
    between(lows, media_us - NEAR_US, media_us + NEAR_US)
}

fn among(lows: &[Low], &(media_us, sender_us): &(i64, i64)) -> Option<Report> {
    let offset_us = sender_us - media_us;
    let delay_us = quickest(near(lows, media_us))? - offset_us;
    Some(Report { media_us, offset_us, delay_us })
}

/// The reports (media time, sender's clock) that agree with the packets around them as their neighbours do, in order, one
/// for each media time.
pub(super) fn agreeing(reports: &[(i64, i64)], lows: &[Low]) -> Vec<Report> {
    let mut all: Vec<Report> = reports.iter().filter_map(|report| among(lows, report)).collect();
    all.sort_unstable_by_key(|one| (one.media_us, one.offset_us));
    all.dedup_by_key(|one| (one.media_us, one.offset_us));
    let agrees = |&n: &usize| {
        let around = &all[n.saturating_sub(AROUND)..all.len().min(n + AROUND + 1)];
        let usual_us = delay(around);
        // Any packet will do: just after a jump the quickest one may be from before it.
        let off_us = |low: &Low| low.offset_us() - all[n].offset_us - usual_us;
        near(lows, all[n].media_us).iter().any(|low| off_us(low).abs() <= AGREE_US)
    };
    let mut kept: Vec<Report> = (0..all.len()).filter(agrees).map(|n| all[n]).collect();
    kept.dedup_by_key(|one| one.media_us);
    kept
}

/// Takes the steps of the sender's wall clock off.
pub(super) fn take_off_steps(kept: &mut [Report]) {
    for (n, by_us) in steps(kept) {
        kept[n..].iter_mut().for_each(|one| one.offset_us -= by_us);
    }
}

/// Where the reports step, for good, beyond their drift, and arrivals do not: the first report after it, and by how much.
fn steps(kept: &[Report]) -> Vec<(usize, i64)> {
    let drifts: Vec<f64> = kept
        .windows(2)
        .map(|pair| ratio(pair[1].offset_us - pair[0].offset_us, pair[1].media_us - pair[0].media_us))
        .collect();
    let step = |n: usize| {
        let mut around = drifts[(n - 1).saturating_sub(AROUND)..drifts.len().min(n + AROUND)].to_vec();
        around.sort_unstable_by(f64::total_cmp);
        let drifted_us = scaled(kept[n].media_us - kept[n - 1].media_us, around[around.len() / 2]);
        let by_us = kept[n].offset_us - kept[n - 1].offset_us - drifted_us;
        let (before_us, after_us) = delays(kept, n);
        let unseen = (after_us - before_us + by_us).abs() <= SHOWN_US.max(by_us.abs() / 10);
        (by_us.abs() >= CLOCK_STEP_US && unseen).then_some((n, by_us))
    };
    (1..kept.len()).filter_map(step).collect()
}

fn delays(kept: &[Report], n: usize) -> (i64, i64) {
    (delay(&kept[n.saturating_sub(AROUND)..n]), delay(&kept[n..kept.len().min(n + AROUND)]))
}

/// The median of what the quickest packets have above the sender's clock.
fn delay(reports: &[Report]) -> i64 {
    let mut delays: Vec<i64> = reports.iter().map(|one| one.delay_us).collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied().unwrap_or(0)
}

/// The steps of the wall clock that a stream's reports show.
pub(super) fn clock_steps(reports: &[(i64, i64)], lows: &[Low]) -> Vec<ClockStep> {
    if fits_a_line(reports) {
        return Vec::new();
    }
    let kept = agreeing(reports, lows);
    let step = |(n, by_us): (usize, i64)| ClockStep {
        from_us: kept[n - 1].arrival_us(),
        to_us: kept[n].arrival_us(),
        by_us,
        delays_us: delays(&kept, n),
    };
    steps(&kept).into_iter().map(step).collect()
}

impl ClockStep {
    fn overlaps(&self, other: &Self) -> bool {
        self.from_us < other.to_us && other.from_us < self.to_us
    }

    fn is_before(&self, report: &Report) -> bool {
        report.arrival_us() >= i64::midpoint(self.from_us, self.to_us)
    }

    /// Whether the sender of these reports made it; they came before it and after it.
    fn is_of_sender(&self, before: &[Report], after: &[Report]) -> bool {
        let same = |a: i64, b: i64| (a - b).abs() < SAME_SENDER_US;
        match (before, after) {
            ([], []) => false,
            (before, []) => same(self.delays_us.0, delay(&before[before.len().saturating_sub(AROUND)..])),
            (_, after) => same(self.delays_us.1, delay(&after[..after.len().min(AROUND)])),
        }
    }
}

/// Steps that several streams show, once each: as the stream shows it whose reports are the nearest to it.
pub(super) fn distinct(mut steps: Vec<ClockStep>) -> Vec<ClockStep> {
    steps.sort_by_key(|step| step.to_us - step.from_us);
    let mut distinct: Vec<ClockStep> = Vec::new();
    for step in steps {
        let same = |known: &ClockStep| (known.delays_us.1 - step.delays_us.1).abs() < SAME_SENDER_US;
        if !distinct.iter().any(|known| same(known) && known.overlaps(&step)) {
            distinct.push(step);
        }
    }
    distinct.truncate(MAX_STEPS);
    distinct
}

/// Takes steps of wall clocks off a stream's reports, where they are its sender's.
pub(super) fn take_off(clocks: &[ClockStep], reports: &mut [(i64, i64)], lows: &[Low]) {
    let all: Vec<Report> = reports.iter().filter_map(|report| among(lows, report)).collect();
    let fits = fits_a_line(reports);
    let is_its = |step: &&ClockStep| {
        let (after, before): (Vec<Report>, Vec<Report>) = all.iter().partition(|one| step.is_before(one));
        // A clock whose reports are even over a step has not made it.
        let is_even = fits && !before.is_empty() && !after.is_empty();
        !is_even && step.is_of_sender(&before, &after)
    };
    let its: Vec<&ClockStep> = clocks.iter().filter(is_its).collect();
    for report in reports.iter_mut().filter(|_| !its.is_empty()) {
        if let Some(one) = among(lows, report) {
            report.1 -= its.iter().filter(|step| step.is_before(&one)).map(|step| step.by_us).sum::<i64>();
        }
    }
}
