//! One track being assembled: chunk after chunk, session after session, to one timeline. It must not know where chunks come from, nor how
//! frames are placed.

use std::io::{self, Seek, Write};

use super::clock::{Clock, Stamp};
use super::matroska::Tail;
use super::session::{self, Found, Reader, mend_head, recognise, recognise_headless};
use super::timeline::{self, Timeline};
use super::{AssembleError, Assembled, Chunk, GapReason, Origin, Plan, Reading};

/// The client's clock may run this far ahead of arrivals before arrivals are believed instead: chunks are uploaded
/// within minutes or, after an outage, late, but never long before they were recorded.
const MAX_CLOCK_LEAD_US: i64 = 10 * 60 * 1_000_000;
/// Multiples of time in the file for Matroska input, which has whole milliseconds itself.
const MATROSKA_TICK_US: i64 = 1_000;
/// Multiples of time in the file for MP4 input: fine enough for 30000/1001, coarse enough for clusters of three seconds.
const MP4_TICK_US: i64 = 100;

/// A track being assembled.
pub(super) struct Assembly<'a, W> {
    plan: &'a Plan,
    readings: Vec<Reading>,
    /// Taken when the first media is recognised, because that tells the file's time scale.
    out: Option<W>,
    timeline: Option<Timeline<W>>,
    reader: Option<Reader>,
    /// A hole before anything was recognised.
    early_hole: Option<GapReason>,
    /// The first bytes of a session's head that goes on in the next chunk, and the chunk that they came in.
    torn_head: Option<(Stamp, Vec<u8>)>,
    /// A chunk and when its media began on the track's timeline: what later sessions are placed by.
    origin: Option<(Stamp, i64)>,
    sessions: u64,
    chunks: u64,
    bytes_in: u64,
}

impl<'a, W: Write + Seek> Assembly<'a, W> {
    pub(super) fn new(out: W, plan: &'a Plan) -> Self {
        Self {
            plan,
            readings: Vec::new(),
            out: Some(out),
            timeline: None,
            reader: None,
            early_hole: None,
            torn_head: None,
            origin: None,
            sessions: 0,
            chunks: 0,
            bytes_in: 0,
        }
    }

    pub(super) fn hole(&mut self, reason: GapReason) -> io::Result<()> {
        self.torn_head = None;
        match (&mut self.reader, &mut self.timeline) {
            (Some(reader), Some(timeline)) => reader.hole(reason, timeline),
            _ => {
                self.early_hole.get_or_insert(reason);
                Ok(())
            }
        }
    }

    pub(super) fn chunk(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.chunks += 1;
        self.bytes_in += chunk.bytes.len() as u64;
        let stamp = Stamp::of(chunk);
        let (head_stamp, before) = self.torn_head.take().unwrap_or((stamp, Vec::new()));
        let start = if before.is_empty() { mend_head(&chunk.bytes) } else { &before };
        let joined = if start.is_empty() { Vec::new() } else { [start, &chunk.bytes].concat() };
        let bytes = if joined.is_empty() { chunk.bytes.as_ref() } else { &joined };
        if session::is_torn_head(bytes) {
            self.torn_head = Some((head_stamp, bytes.to_vec()));
            return Ok(());
        }
        if let Some(found) = recognise(bytes) {
            self.begin_session(found, head_stamp)?;
        } else if self.reader.is_none() {
            match recognise_headless(bytes) {
                Some(found) => self.begin_session(found, stamp)?,
                None if bytes.is_empty() => {}
                None => self.early_hole = Some(GapReason::Corrupt),
            }
        }
        if let (Some(reader), Some(timeline)) = (&mut self.reader, &mut self.timeline) {
            reader.push(stamp, bytes, timeline)?;
            if let Some((_, us)) = reader.clock().last().filter(|(last, _)| last.sequence == stamp.sequence) {
                self.readings.push(Reading { wall_us: stamp.wall_us(), time_us: timeline.placed(us) });
            }
            self.origin = self.origin.or_else(|| reader.clock().first());
        }
        Ok(())
    }

    fn begin_session(&mut self, found: Found, stamp: Stamp) -> io::Result<()> {
        if let Some(mut old) = self.reader.take() {
            if let Some(timeline) = &mut self.timeline {
                old.finish(timeline)?;
                timeline.hole(GapReason::Disconnected);
            }
            self.origin = self.origin.or_else(|| old.clock().first());
        }
        let tick_us = if found.is_mp4() { MP4_TICK_US } else { MATROSKA_TICK_US };
        if let Some(out) = self.out.take() {
            let Plan { zero_us, .. } = *self.plan;
            let timeline = Timeline::new(out, tick_us)?;
            self.timeline = Some(timeline.cut_out(self.plan.cut(zero_us), self.plan.rests(zero_us)));
        }
        let Some(timeline) = &mut self.timeline else { return Ok(()) };
        if let Some(reason) = self.early_hole.take() {
            timeline.hole(reason);
        }
        timeline.interleaved(if found.is_mp4() { timeline::BY_FRAGMENT_US } else { timeline::BY_BLOCK_US });
        timeline.begin_session(self.origin.map_or(0, |(first, us)| us.saturating_add(since(&stamp, &first))));
        if self.sessions == 0 && found.has_head() {
            self.origin = Some((stamp, 0));
        }
        self.sessions += 1;
        self.reader = Some(found.reader(Clock::new(self.plan.rests(0))));
        Ok(())
    }

    pub(super) fn finish(mut self, last: Option<u64>) -> Result<Assembled, AssembleError> {
        let no_media = |detail| AssembleError::NoMedia { chunks: self.chunks, detail };
        let (Some(mut reader), Some(mut timeline)) = (self.reader.take(), self.timeline.take()) else {
            return Err(no_media("neither matroska nor mp4"));
        };
        let tail = reader.finish(&mut timeline)?;
        if timeline.is_empty() {
            return Err(match (timeline.is_all_paused(), timeline.end_us()) {
                (true, _) => AssembleError::AllPaused,
                (false, 0) => no_media(reader.why_empty()),
                (false, _) => no_media("no keyframe after a pause"),
            });
        }
        let origin = self.origin.or_else(|| reader.clock().first());
        let chunk_us = reader.clock().mean_chunk_us();
        let missing = self.plan.last_sequence.unwrap_or(0).saturating_sub(last.unwrap_or(0));
        let missing_us = chunk_us.saturating_mul(i64::try_from(missing).unwrap_or(i64::MAX));
        if missing > 0 {
            timeline.missing_until(timeline.end_us().saturating_add(missing_us), GapReason::MissingChunk);
        } else if tail == Tail::Torn {
            let due_us = reader.clock().end_of_last().max(timeline.session_end_us() + 1_000);
            let end_us = timeline.end_us() + due_us - timeline.session_end_us();
            timeline.missing_until(end_us, GapReason::Corrupt);
        }
        let done = timeline.finish()?;
        Ok(Assembled {
            streams: done.streams,
            gaps: done.gaps,
            estimates: done.estimates,
            origin: origin.map(|(stamp, time_us)| Origin {
                sequence: stamp.sequence.unsigned_abs(),
                time_us,
                zero_us: stamp.wall_us().saturating_sub(time_us),
            }),
            readings: self.readings,
            duration_us: done.duration_us,
            sessions: self.sessions,
            chunks: self.chunks,
            bytes_in: self.bytes_in,
            bytes_out: done.bytes,
        })
    }
}

/// How long after `before` a session's first chunk lies: by the client's clock, unless arrivals cannot explain it.
fn since(stamp: &Stamp, before: &Stamp) -> i64 {
    let arrivals = stamp.arrival_us.saturating_sub(before.arrival_us);
    let client = stamp.since(before);
    if client > arrivals.saturating_add(MAX_CLOCK_LEAD_US) { arrivals } else { client }
}
