//! When media could not come, on the file's timeline, and what that makes of a span without media.
//!
//! Pure. Knows arrivals and the recording's pauses; times of media are a little earlier than arrivals.

use super::survey::Survey;
use crate::assemble::GapReason;
use crate::assemble::cut::{Cut, Span};

/// Media may have arrived this much after it was captured, so a fact about arrivals reaches back as far.
const DELAY_US: i64 = 500_000;

/// Where a gap begins is known to a few frames: the last frame's length is a guess.
const SLACK_US: i64 = 100_000;

/// Spans of the file's timeline, by what happened.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) muted: Vec<Span>,
    absent: Vec<Span>,
    dropped: Vec<Span>,
    damaged: Vec<Span>,
    /// When the tap rested beyond the recording's pauses: it follows them a little later.
    paused: Vec<Span>,
}

impl Facts {
    pub(super) fn new(survey: &Survey, cut: &Cut) -> Self {
        let place = |spans: &[Span]| spans.iter().map(|span| place_span(cut, span)).collect();
        let paused: Vec<Span> = place(&survey.paused);
        Self {
            paused: paused.into_iter().filter(|(from, to)| from < to).collect(),
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

    /// Whether the tap rested in a span without media.
    pub(super) fn was_paused(&self, from_us: i64, to_us: i64) -> bool {
        shared_us(&self.paused, from_us, to_us) >= SLACK_US
    }

    /// Why nothing is there: our own faults first, then what the participant did, else as it looked.
    pub(super) fn reason(&self, from_us: i64, to_us: i64, looked: GapReason) -> GapReason {
        let touches = |spans: &[Span]| {
            spans.iter().any(|(from, to)| {
                from.saturating_sub(DELAY_US) < to_us && to.saturating_add(SLACK_US) > from_us
            })
        };
        if fills_most(&self.paused, from_us, to_us) && !touches(&self.dropped) {
            return GapReason::Paused;
        }
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
            .find(|(spans, reason)| {
                !(lost && *reason == GapReason::Muted) || fills_most(spans, from_us, to_us)
            })
            .map_or(looked, |(_, reason)| reason)
    }
}

/// Whether spans are most of one.
fn fills_most(spans: &[Span], from_us: i64, to_us: i64) -> bool {
    shared_us(spans, from_us, to_us) * 2 > to_us - from_us
}

/// How much of one spans are.
fn shared_us(spans: &[Span], from_us: i64, to_us: i64) -> i64 {
    spans.iter().map(|&(from, to)| (to.min(to_us) - from.max(from_us)).max(0)).sum()
}

fn place_span(cut: &Cut, &(from, to): &Span) -> Span {
    (cut.place(from).max(0), if to == i64::MAX { to } else { cut.place(to) })
}
