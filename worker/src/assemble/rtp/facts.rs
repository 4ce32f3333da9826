//! When media could not come, on the file's timeline, and what that makes of a span without media.
//!
//! Pure. Knows arrivals and the recording's pauses; times of media are a little earlier than arrivals.

use super::RtpPlan;
use super::survey::{Span, Survey};
use crate::assemble::GapReason;

/// Media may have arrived this much after it was captured, so a fact about arrivals reaches back as far.
const DELAY_US: i64 = 500_000;

/// Where a gap begins is known to a few frames: the last frame's length is a guess.
const SLACK_US: i64 = 100_000;

/// Where the recording's time lies in the file.
#[derive(Debug)]
pub(super) struct Cut {
    start_us: i64,
    pauses: Vec<Span>,
}

impl Cut {
    pub(super) fn new(plan: &RtpPlan) -> Self {
        let mut pauses: Vec<Span> = Vec::new();
        let mut all = plan.pauses.clone();
        all.sort_unstable();
        for (from, to) in all {
            let from = from.max(plan.start_us);
            match pauses.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ if from < to => pauses.push((from, to)),
                _ => {}
            }
        }
        Self { start_us: plan.start_us, pauses }
    }

    /// A time of the edge's clock on the file's timeline; within a pause, where the pause was cut out.
    pub(super) fn place(&self, edge_us: i64) -> i64 {
        let paused = self.pauses.iter().take_while(|(from, _)| *from < edge_us);
        let cut: i64 = paused.map(|(from, to)| edge_us.min(*to).saturating_sub(*from)).sum();
        edge_us.saturating_sub(self.start_us).saturating_sub(cut)
    }

    /// Whether a time is in a pause.
    pub(super) fn is_paused(&self, edge_us: i64) -> bool {
        self.pauses.iter().any(|(from, to)| (*from..*to).contains(&edge_us))
    }

    /// Where pauses were cut out of the file.
    pub(super) fn seams(&self) -> impl Iterator<Item = i64> {
        self.pauses.iter().map(|(from, _)| self.place(*from))
    }

    fn place_span(&self, span: &Span) -> Span {
        let to = if span.1 == i64::MAX { i64::MAX } else { self.place(span.1) };
        (self.place(span.0).max(0), to)
    }
}

/// Spans of the file's timeline, by what happened.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) muted: Vec<Span>,
    absent: Vec<Span>,
    dropped: Vec<Span>,
    damaged: Vec<Span>,
}

impl Facts {
    pub(super) fn new(survey: &Survey, cut: &Cut) -> Self {
        let place = |spans: &[Span]| spans.iter().map(|span| cut.place_span(span)).collect();
        Self {
            muted: place(&survey.muted),
            absent: place(&survey.absent),
            dropped: place(&survey.dropped),
            damaged: place(&survey.damaged),
        }
    }

    /// Whether somebody went and came again in a span without media.
    pub(super) fn was_absent(&self, from_us: i64, to_us: i64) -> bool {
        let within = |(went, came): &Span| went + SLACK_US >= from_us && came - DELAY_US <= to_us;
        self.absent.iter().filter(|(_, came)| *came != i64::MAX).any(within)
    }

    /// Why nothing is there: our own faults first, then what the participant did, else as it looked.
    pub(super) fn reason(&self, from_us: i64, to_us: i64, looked: GapReason) -> GapReason {
        let touches = |spans: &[Span]| {
            spans.iter().any(|(from, to)| {
                from.saturating_sub(DELAY_US) < to_us && to.saturating_add(SLACK_US) > from_us
            })
        };
        let fills_most = |spans: &[Span]| {
            let shared =
                spans.iter().map(|&(from, to)| (to.min(to_us) - from.max(from_us)).max(0)).sum::<i64>();
            shared * 2 > to_us - from_us
        };
        let known = [
            (&self.dropped, GapReason::Disk),
            (&self.damaged, GapReason::Corrupt),
            (&self.absent, GapReason::Disconnected),
            (&self.muted, GapReason::Muted),
        ];
        let lost = looked == GapReason::PacketLoss;
        let mut fitting = known.into_iter().filter(|(spans, _)| touches(spans));
        // What a muted client still sends is not recorded, so a mute looks like one long loss; what is lost beside it was lost.
        fitting
            .find(|(spans, reason)| !(lost && *reason == GapReason::Muted) || fills_most(spans))
            .map_or(looked, |(_, reason)| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_cut_out_and_what_follows_moves_up() {
        let plan =
            RtpPlan { start_us: 1_000, pauses: vec![(3_000, 5_000), (4_000, 6_000)], ..RtpPlan::default() };
        let cut = Cut::new(&plan);
        assert_eq!(
            [2_000, 3_000, 4_500, 6_000, 7_000].map(|us| cut.place(us)),
            [1_000, 2_000, 2_000, 2_000, 3_000]
        );
        assert!(cut.is_paused(3_000) && !cut.is_paused(6_000));
        assert_eq!(cut.seams().collect::<Vec<_>>(), [2_000]);
    }
}
