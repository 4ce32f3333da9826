//! The first reading of a log: what streams there are, what is known of their clocks, and when media could not come.
//!
//! Keeps no media. Memory is a few numbers for every half second and every sender report of a stream, 7 MB for a day of it,
//! until its participant's clocks are learnt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use shared::capture::Mark;
use shared::capture::rtp::{Logged, RtpPacket, StreamDescription};

use super::pauses::STRAGGLERS_US;
use super::reports::Low;
use super::unwrap::Unwrapper;
use super::{LogSource, codec_of};
use crate::assemble::GapReason;
use crate::assemble::codec::{Codec, opus};

/// Of the packets of this long, the one that came quickest is kept.
const LOW_EVERY_US: i64 = 10_000_000;

/// The same, to see a media clock jump between two sender reports: 25 packets of sound, or eight pictures.
const FINE_EVERY_US: i64 = 500_000;

/// Of those, kept of an epoch: a day of them.
const MAX_FINE: usize = 172_800;

/// Quickest packets and sender reports kept of an epoch: a day of each at one per ten seconds and one per second.
const MAX_SAMPLES: usize = 86_400;

/// SSRCs of one log at most; a participant makes one per join and layer. Packets of any more are left out.
pub(super) const MAX_STREAMS: usize = 1_024;

/// Spans of each kind kept at most; the last one then covers the rest.
const MAX_SPANS: usize = 10_000;

/// A span of arrivals, microseconds since 1970.
pub(super) type Span = (i64, i64);

/// What a first reading found.
#[derive(Debug, Default)]
pub struct Survey {
    pub(super) streams: BTreeMap<u32, Stream>,
    descriptions: HashMap<(u32, u8), StreamDescription>,
    /// Payload types of packets that nothing had described when they came.
    undescribed: HashSet<u8>,
    /// Whether any of them was described later.
    described_late: bool,
    pub(super) muted: Vec<Span>,
    pub(super) absent: Vec<Span>,
    pub(super) paused: Vec<Span>,
    pub(super) dropped: Vec<Span>,
    pub(super) damaged: Vec<Span>,
    /// Records with a packet.
    pub packets: u64,
    pub(super) first_packet_us: Option<i64>,
    /// First and last arrival.
    pub arrivals: Option<Span>,
}

/// What is known of one SSRC.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) rate: i64,
    pub(super) first_sequence: i64,
    pub(super) stereo: bool,
    /// Some of it is sound.
    pub(super) sounds: bool,
    pub(super) epochs: Vec<EpochFacts>,
    unwrapper: Unwrapper,
    /// Sequence, media time and arrival of the newest frame's first packet.
    newest: Option<(i64, i64, i64)>,
}

/// What is known of one epoch of an SSRC's clock.
#[derive(Debug, Default)]
pub(super) struct EpochFacts {
    /// Media time and arrival of the quickest packets.
    pub(super) lows: Vec<(i64, i64)>,
    low_since_us: i64,
    /// The same more often, with the steps between packets.
    pub(super) fine: Vec<Low>,
    fine_since_us: i64,
    /// Media time and arrival of the first and of the last packet.
    ends: Option<((i64, i64), (i64, i64))>,
    /// Media time and the sender's wall clock.
    pub(super) reports: Vec<(i64, i64)>,
}

/// Reads a whole log. It is opened once more where packets came before what describes them, as they do after damage, so that
/// they are placed from the first one on, by this reader and by the next.
///
/// # Errors
/// When it cannot be opened or read.
pub fn survey<L: LogSource, E: From<io::Error>>(mut open: impl FnMut() -> Result<L, E>) -> Result<Survey, E> {
    let survey = read(&mut open()?, HashMap::new())?;
    Ok(if survey.described_late { read(&mut open()?, survey.descriptions)? } else { survey })
}

fn read(log: &mut dyn LogSource, descriptions: HashMap<(u32, u8), StreamDescription>) -> io::Result<Survey> {
    let mut survey = Survey { descriptions, ..Survey::default() };
    let mut open = Open::default();
    while let Some(logged) = log.next_logged()? {
        survey.note(&mut open, &logged);
    }
    open.close(&mut survey);
    Ok(survey)
}

/// Spans that have begun and not ended.
#[derive(Debug, Default)]
struct Open {
    muted: Option<i64>,
    absent: Option<i64>,
    paused: Option<i64>,
    /// Damage after this arrival, whose end the next record tells.
    damaged: Option<i64>,
    last_us: i64,
}

impl Survey {
    /// What a packet holds, as its stream's description has it; else as another stream's of the same payload type.
    pub(super) fn description(&self, ssrc: u32, payload_type: u8) -> Option<&StreamDescription> {
        self.descriptions.get(&(ssrc, payload_type)).or_else(|| {
            let same = self.descriptions.iter().filter(|((_, known), _)| *known == payload_type);
            same.min_by_key(|((ssrc, _), _)| *ssrc).map(|(_, found)| found)
        })
    }

    /// Why there is no media, where there is none: who sent nothing was muted or away.
    #[must_use]
    pub fn why_empty(&self) -> GapReason {
        match (self.packets, self.muted.is_empty()) {
            (0, false) => GapReason::Muted,
            (0, true) => GapReason::Disconnected,
            _ => GapReason::Corrupt,
        }
    }

    fn note(&mut self, open: &mut Open, logged: &Logged) {
        let arrival_us = match logged {
            Logged::Packet { arrival_us, .. }
            | Logged::SenderReport { arrival_us, .. }
            | Logged::Mark { arrival_us, .. } => *arrival_us,
            Logged::Damaged(_) => {
                open.damaged.get_or_insert(open.last_us);
                return;
            }
        };
        // A log that begins late tells of what was long ago, which says nothing of where damage begins or ends.
        if let Some(from) = open.damaged.take_if(|from| arrival_us >= *from) {
            push(&mut self.damaged, (from, arrival_us));
        }
        open.last_us = open.last_us.max(arrival_us);
        let (first, last) = self.arrivals.unwrap_or((arrival_us, arrival_us));
        self.arrivals = Some((first.min(arrival_us), last.max(arrival_us)));
        match logged {
            Logged::Packet { bytes, .. } => {
                self.first_packet_us.get_or_insert(arrival_us);
                if let Some(from) = open.paused.take_if(|from| arrival_us > *from + STRAGGLERS_US) {
                    push(&mut self.paused, (from, arrival_us));
                }
                self.packet(bytes, arrival_us);
            }
            Logged::SenderReport { report, .. } => {
                if let Some(stream) = self.streams.get_mut(&report.ssrc) {
                    stream.report(report.rtp, report.ntp_us(), arrival_us);
                }
            }
            Logged::Mark { mark, .. } => self.mark(open, mark, arrival_us),
            Logged::Damaged(_) => {}
        }
    }

    fn mark(&mut self, open: &mut Open, mark: &Mark, at_us: i64) {
        let end = |from: &mut Option<i64>, spans: &mut Vec<Span>| {
            if let Some(from) = from.take() {
                push(spans, (from, at_us));
            }
        };
        match mark {
            Mark::Muted => drop(open.muted.get_or_insert(at_us)),
            Mark::Unmuted => end(&mut open.muted, &mut self.muted),
            Mark::Left => drop(open.absent.get_or_insert(at_us)),
            Mark::Joined => end(&mut open.absent, &mut self.absent),
            Mark::Paused => drop(open.paused.get_or_insert(at_us)),
            Mark::Resumed => end(&mut open.paused, &mut self.paused),
            Mark::Dropped { from_us, to_us, .. } => push(&mut self.dropped, (*from_us, *to_us)),
            Mark::Stream(found) if self.descriptions.len() < MAX_STREAMS * 2 => {
                self.described_late |= self.undescribed.contains(&found.payload_type);
                self.descriptions.insert((found.ssrc, found.payload_type), found.clone());
            }
            Mark::Stream(_)
            | Mark::Complete { .. }
            | Mark::Mime(_)
            | Mark::Keyframe { .. }
            | Mark::Totals { .. } => {}
        }
    }

    fn packet(&mut self, bytes: &[u8], arrival_us: i64) {
        self.packets += 1;
        let Some(packet) = RtpPacket::parse(bytes) else { return };
        let full = self.streams.len() >= MAX_STREAMS;
        let Some(found) = self.description(packet.ssrc, packet.payload_type) else {
            self.undescribed.insert(packet.payload_type);
            return;
        };
        let (rate, codec) = (found.clock_rate, codec_of(found));
        if full && !self.streams.contains_key(&packet.ssrc) {
            return;
        }
        let stream =
            self.streams.entry(packet.ssrc).or_insert_with(|| Stream::new(rate, packet.sequence.into()));
        stream.sounds |= codec == Some(Codec::Opus);
        stream.stereo |= codec == Some(Codec::Opus) && opus::is_stereo(packet.payload);
        stream.packet(&packet, arrival_us);
    }
}

impl Stream {
    fn new(rate: u32, first_sequence: i64) -> Self {
        let unwrapper = Unwrapper::new(rate);
        Self {
            rate: rate.max(1).into(),
            first_sequence,
            stereo: false,
            sounds: false,
            epochs: Vec::new(),
            unwrapper,
            newest: None,
        }
    }

    fn packet(&mut self, packet: &RtpPacket<'_>, arrival_us: i64) {
        let Some(at) = self.unwrapper.place(packet.sequence, packet.timestamp, arrival_us) else { return };
        self.first_sequence = self.first_sequence.min(at.sequence);
        if self.epochs.len() <= at.epoch {
            self.epochs.resize_with(at.epoch + 1, EpochFacts::default);
        }
        let media_us = self.unwrapper.us(at.ticks);
        let step_us = self.step(at.sequence, media_us, arrival_us);
        self.epochs[at.epoch].low(media_us, arrival_us);
        self.epochs[at.epoch].fine(media_us, arrival_us, step_us);
    }

    /// How much later a frame's first packet is than the one of the frame sent before it.
    fn step(&mut self, sequence: i64, media_us: i64, arrival_us: i64) -> i64 {
        match self.newest {
            Some((newest, before_us, _)) if sequence <= newest || media_us == before_us => 0,
            newest => {
                self.newest = Some((sequence, media_us, arrival_us));
                newest.map_or(0, |(_, before_us, before)| (arrival_us - before) - (media_us - before_us))
            }
        }
    }

    fn report(&mut self, rtp: u32, ntp_us: i64, arrival_us: i64) {
        let Some((epoch, ticks)) = self.unwrapper.report(rtp, arrival_us) else { return };
        let media_us = self.unwrapper.us(ticks);
        if let Some(facts) = self.epochs.get_mut(epoch).filter(|facts| facts.reports.len() < MAX_SAMPLES) {
            facts.reports.push((media_us, ntp_us));
        }
    }
}

impl EpochFacts {
    /// Whether its packets came in less than half of the time in which they were made, as a queue empties after a stall;
    /// or it is a single frame, which is more often late than all that a clock has to say after it stood still.
    pub(super) fn drains(&self) -> bool {
        self.ends.is_some_and(|(first, last)| {
            let made_us = last.0 - first.0;
            made_us == 0 || made_us > 2 * (last.1 - first.1).max(0)
        })
    }

    fn low(&mut self, media_us: i64, arrival_us: i64) {
        let now = (media_us, arrival_us);
        self.ends = Some((self.ends.map_or(now, |(first, _)| first), now));
        let full = self.lows.len() >= MAX_SAMPLES;
        match self.lows.last_mut() {
            Some(last) if full || arrival_us - self.low_since_us < LOW_EVERY_US => {
                if arrival_us - media_us < last.1 - last.0 {
                    *last = (media_us, arrival_us);
                }
            }
            _ => {
                self.low_since_us = arrival_us;
                self.lows.push((media_us, arrival_us));
            }
        }
    }
}

impl EpochFacts {
    fn fine(&mut self, media_us: i64, arrival_us: i64, step_us: i64) {
        let low = Low { media_us, arrival_us, step: (media_us, step_us) };
        let full = self.fine.len() >= MAX_FINE;
        match self.fine.last_mut() {
            Some(last) if arrival_us - self.fine_since_us < FINE_EVERY_US => {
                if low.offset_us() < last.offset_us() {
                    (last.media_us, last.arrival_us) = (media_us, arrival_us);
                }
                if step_us.abs() > last.step.1.abs() {
                    last.step = low.step;
                }
            }
            _ if full => {}
            _ => {
                self.fine_since_us = arrival_us;
                self.fine.push(low);
            }
        }
    }
}

impl Open {
    /// What has not ended goes on to the end of time.
    fn close(self, survey: &mut Survey) {
        let spans = [
            (self.muted, &mut survey.muted),
            (self.absent, &mut survey.absent),
            (self.paused, &mut survey.paused),
            (self.damaged, &mut survey.damaged),
        ];
        for (from, spans) in spans {
            if let Some(from) = from {
                push(spans, (from, i64::MAX));
            }
        }
    }
}

fn push(spans: &mut Vec<Span>, span: Span) {
    let full = spans.len() >= MAX_SPANS;
    match spans.last_mut() {
        Some(last) if full => last.1 = span.1,
        _ => spans.push(span),
    }
}

#[cfg(test)]
mod tests;
