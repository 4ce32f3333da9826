//! From a stream's ticks to the edge's wall clock, for every stream of one participant at once.
//!
//! Sender reports tie a stream to its sender's wall clock, exactly and for all of the sender's streams alike, so sound and
//! picture stay together, also where a media clock jumps or drifts (`path`) or the wall clock is set (`reports`); what lies
//! before the first report is placed by it too. The sender's clock is tied to the edge's by the packets that came quickest,
//! over all streams of that sender and over time, because two computers' clocks drift apart by 180 ms an hour at 50 ppm. A
//! stream without reports is tied to the edge's clock by its own quickest packets: that is the same as taking the sender's
//! offset off and putting it on again.
//!
//! The time so given is later than the capture by the quickest way from the sender to the edge, for all streams alike.

use std::collections::HashMap;
use std::sync::Arc;

use super::fit::{Line, Through, line};
use super::path::Path;
use super::reports::{Low, clock_steps, distinct, take_off};
use super::survey::{EpochFacts, Survey};

/// Clocks whose offsets from the edge's differ by less are the same sender's: two devices of one person rarely agree so
/// well, and when they do, taking them for one is wrong by less than that.
pub(super) const SAME_SENDER_US: i64 = 250_000;

/// A drift against the edge's clock shows above this; the quickest of ten seconds' packets are some milliseconds late.
const ARRIVAL_NOISE_US: f64 = 20_000.0;

/// Reports that put the quickest packets of ten seconds this far from their arrival tell no time, and arrivals are
/// believed: above the longest stall of a call, far below the hours that absurd reports make.
const MAX_DELAY_US: i64 = 20_000_000;

/// The clocks of one log's streams.
#[derive(Debug, Default)]
pub struct Clocks {
    clocks: HashMap<(u32, usize), Clock>,
}

/// The clock of one epoch of one stream.
#[derive(Debug, Clone)]
enum Clock {
    /// By arrivals alone.
    Arrival(Line),
    /// By reports to the sender's clock, and on to the edge's.
    Sender(Arc<Path>, Line),
}

impl Clocks {
    /// Learns the clocks of one participant's logs; the answer has their order. What the surveys hold for it alone is taken
    /// out of them.
    #[must_use]
    pub fn learn(surveys: &mut [Survey]) -> Vec<Self> {
        let mut learnt: Vec<Self> = surveys.iter().map(|_| Self::default()).collect();
        let mut all = Vec::new();
        for (log, survey) in surveys.iter_mut().enumerate() {
            for (ssrc, stream) in &mut survey.streams {
                all.extend(runs(std::mem::take(&mut stream.epochs)).into_iter().map(|run| (log, *ssrc, run)));
            }
        }
        let set = distinct(all.iter().flat_map(|(_, _, run)| clock_steps(&run.reports, &run.fine)).collect());
        let mut reported = Vec::new();
        for (log, ssrc, mut run) in all {
            take_off(&set, &mut run.reports, &run.fine);
            match Path::follow(&run.reports, &run.fine) {
                Some(to_sender) => reported.push(Reported::new((log, ssrc), run, to_sender)),
                None => learnt[log].learn_run(ssrc, &run, run.by_arrival().as_ref()),
            }
        }
        for group in by_sender(reported) {
            let mut points: Vec<(i64, i64)> = group.iter().flat_map(|one| one.lows.iter().copied()).collect();
            points.sort_unstable();
            let Some(to_edge) = line(&points, Through::LowerEdge, ARRIVAL_NOISE_US) else { continue };
            for one in group {
                let clock = one.clock(to_edge);
                learnt[one.log].learn_run(one.ssrc, &one.run, clock.as_ref());
            }
        }
        learnt
    }

    fn learn_run(&mut self, ssrc: u32, run: &Run, clock: Option<&Clock>) {
        let clock = clock.into_iter();
        self.clocks.extend(
            clock.flat_map(|clock| run.epochs.iter().map(move |epoch| ((ssrc, *epoch), clock.clone()))),
        );
    }

    /// The edge's wall clock, microseconds since 1970, at a media time of a stream.
    pub(super) fn edge_us(&self, ssrc: u32, epoch: usize, media_us: i64) -> Option<i64> {
        Some(match self.clocks.get(&(ssrc, epoch))? {
            Clock::Arrival(to_edge) => to_edge.at(media_us),
            Clock::Sender(to_sender, to_edge) => to_edge.at(to_sender.at(media_us)),
        })
    }
}

/// Epochs of one stream whose clock went on: a stall lay between them, or an absurd timestamp.
#[derive(Debug, Default)]
struct Run {
    epochs: Vec<usize>,
    lows: Vec<(i64, i64)>,
    reports: Vec<(i64, i64)>,
    fine: Vec<Low>,
    /// Arrival minus media time of the quickest packet of its last epoch.
    offset_us: i64,
}

impl Run {
    fn add(&mut self, epoch: usize, facts: EpochFacts) {
        self.epochs.push(epoch);
        append(&mut self.lows, facts.lows);
        append(&mut self.reports, facts.reports);
        append(&mut self.fine, facts.fine);
    }

    fn by_arrival(&self) -> Option<Clock> {
        line(&self.lows, Through::LowerEdge, ARRIVAL_NOISE_US).map(Clock::Arrival)
    }
}

/// The first is moved, not copied: it is all of most streams.
fn append<T>(to: &mut Vec<T>, mut more: Vec<T>) {
    if to.is_empty() { *to = more } else { to.append(&mut more) }
}

/// Puts epochs together whose quickest packets are equally quick: the one clock cannot have stood still between them.
fn runs(epochs: Vec<EpochFacts>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (n, mut facts) in epochs.into_iter().enumerate() {
        let Some(offset_us) = facts.lows.iter().map(|(media, arrival)| arrival - media).min() else {
            continue;
        };
        let stalled = |run: &&mut Run| {
            let late = (0..=MAX_DELAY_US).contains(&(offset_us - run.offset_us));
            late && run.epochs.last().is_some_and(|last| last + 1 == n)
        };
        if let Some(run) = runs.iter_mut().find(stalled).filter(|_| facts.drains()) {
            // It was still catching up when it ended, so it does not tell how quick packets can be.
            facts.lows.clear();
            run.add(n, facts);
            continue;
        }
        let same = |run: &&mut Run| (run.offset_us - offset_us).abs() < SAME_SENDER_US;
        let run = match runs.iter_mut().rev().find(same) {
            Some(run) => run,
            None => {
                runs.push(Run::default());
                runs.last_mut().expect("it was just pushed")
            }
        };
        run.add(n, facts);
        run.offset_us = offset_us;
    }
    runs.iter_mut().for_each(|run| run.fine.sort_by_key(|low| low.media_us));
    runs
}

/// A run that has sender reports.
struct Reported {
    log: usize,
    ssrc: u32,
    run: Run,
    to_sender: Arc<Path>,
    /// The sender's clock and the arrival of the quickest packets.
    lows: Vec<(i64, i64)>,
    /// The least difference between the two.
    offset_us: i64,
}

impl Reported {
    fn new((log, ssrc): (usize, u32), run: Run, to_sender: Path) -> Self {
        // Where a media clock runs away, what came quickest of ten seconds by it did not by the sender's.
        let lows: Vec<_> = match to_sender.bent() {
            Some((from, to)) => {
                let told = run.fine.iter().filter(|low| (from..=to).contains(&low.media_us));
                told.map(|low| (low.media_us, low.arrival_us)).collect()
            }
            None => Vec::new(),
        };
        let lows = if lows.is_empty() { &run.lows } else { &lows };
        let lows: Vec<_> = lows.iter().map(|&(media, arrival)| (to_sender.at(media), arrival)).collect();
        let offset_us = lows.iter().map(|(sender, arrival)| arrival - sender).min().unwrap_or(0);
        Self { log, ssrc, run, to_sender: Arc::new(to_sender), lows, offset_us }
    }
}

impl Reported {
    /// By the sender's clock, unless that puts a quick packet too far from its arrival, wherever in the run.
    fn clock(&self, to_edge: Line) -> Option<Clock> {
        let late_us = |&(media, arrival): &(i64, i64)| arrival - to_edge.at(self.to_sender.at(media));
        if self.run.lows.iter().all(|low| late_us(low).abs() <= MAX_DELAY_US) {
            Some(Clock::Sender(Arc::clone(&self.to_sender), to_edge))
        } else {
            self.run.by_arrival()
        }
    }
}

fn by_sender(mut reported: Vec<Reported>) -> Vec<Vec<Reported>> {
    reported.sort_by_key(|one| one.offset_us);
    let mut groups: Vec<Vec<Reported>> = Vec::new();
    for one in reported {
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| one.offset_us - last.offset_us < SAME_SENDER_US) =>
            {
                group.push(one);
            }
            _ => groups.push(vec![one]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::io;

    use shared::capture::Mark;
    use shared::capture::rtp::Logged;

    use super::super::survey::survey;
    use super::*;

    #[test]
    fn what_clocks_are_learnt_from_is_not_held_any_longer() {
        let packet = |n: u8| Logged::Packet {
            arrival_us: i64::from(n) * 1_000_000,
            sequence: n.into(),
            bytes: vec![0x80, 111, 0, n, 0, n, 0, 0, 0, 0, 0, 7, 0xFC],
        };
        let mark = Logged::Mark { arrival_us: 0, mark: Mark::Stream(shared::testing::opus(7)) };
        let log: Vec<Logged> = std::iter::once(mark).chain((0..9).map(packet)).collect();
        let mut surveys = [survey(|| io::Result::Ok(log.clone().into_iter().map(Ok))).unwrap()];
        assert!(!surveys[0].streams[&7].epochs.is_empty());
        let clocks = Clocks::learn(&mut surveys);
        assert!(clocks[0].edge_us(7, 0, 0).is_some() && surveys[0].streams[&7].epochs.capacity() == 0);
    }
}
