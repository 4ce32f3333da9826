//! The one timeline of a track: places every session's frames on it, keeps the streams, and accounts for what is missing.
//!
//! Readers hand frames over with times of their own session; this adds the session's offset, so that nothing overlaps
//! what is already written. Its own times hold the recording's pauses; those of the file, and all that it tells at the end, do not.
//! It knows no container's syntax on the way in, and leaves the way out to the writer.

mod hole;
mod stream;

use std::io::{self, Seek, Write};

use self::hole::{Closing, Edge, Open};
use self::stream::{Stream, repack};

use super::codec::{Codec, Kind, Marked, h264};
use super::cut::{Cut, Span};
use super::writer::{Block, BlockKind, MAX_TRACKS, TrackHeader, Writer};
use super::{Estimate, Gap, GapReason, StreamInfo};

/// Gaps kept one by one; a recording that has more is rubbish, and its last gap then covers the rest.
const MAX_GAPS: usize = 10_000;

/// Spans whose times are estimates, kept one by one; more are merged into the last.
const MAX_ESTIMATES: usize = 1_000;

/// A stream that fell silent longer ago than this does not tell where a gap begins.
const SILENT_US: i64 = 500_000;

/// A stream whose frames come more often than this is missed at once: sound, and pictures of a camera. Those of a screen that
/// hardly changes tell a gap's edges only where nothing else does.
const STEADY_US: i64 = 125_000;

/// How Matroska interleaves its streams.
pub(super) const BY_BLOCK_US: i64 = 2_000_000;

/// How fragmented MP4 does: a fragment goes from one keyframe to the next, and has one stream after the other.
pub(super) const BY_FRAGMENT_US: i64 = 30_000_000;

/// A stream without a frame for this long (across a hole, too) is not waited for after one.
const ACTIVE_US: i64 = 60_000_000;

/// What a frame of an unknown cadence is taken to last: MediaRecorder's default is 30 frames a second.
const DEFAULT_FRAME_US: i64 = 33_000;

/// Sound that skips this much at the start of a chunk was cut between two elements, which nothing else shows.
const MAX_SKIP_US: i64 = 100_000;

/// Less missing than this is rounding of a 1 ms timestamp, not a gap.
const ROUNDING_US: i64 = 1_000;

/// One frame as a reader gives it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// The session's own number of the track.
    pub(super) track: u64,
    /// Microseconds from the session's zero.
    pub(super) time_us: i64,
    pub(super) marked: Marked,
    /// What the container says it lasts; 0 where it does not say.
    pub(super) duration_us: i64,
    pub(super) data: &'a [u8],
    pub(super) additions: &'a [u8],
}

/// Where a session's track goes, and what its payloads need on the way.
struct Route {
    number: u64,
    to: Destination,
    /// Bytes of a NAL unit's length; 0 means Annex B.
    length_size: usize,
    /// Parameter sets that the output's header does not hold, packed, to go before each keyframe.
    inject: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    Stream(usize),
    /// The stream of this kind has another codec, or there are too many: (from, to) of what is left out.
    LeftOut(i64, i64),
}

/// The timeline being filled.
pub(super) struct Timeline<W> {
    writer: Writer<W>,
    /// Streams are interleaved to within this, microseconds: one that comes back later after a hole, or stopped earlier before
    /// it, was silent.
    interleaved_us: i64,
    streams: Vec<Stream>,
    routes: Vec<Route>,
    offset_us: i64,
    /// Pauses of the recording.
    cut: Cut,
    /// When a recorder rested: sessions' times do not hold that.
    rests: Cut,
    /// A frame came that lay in no pause.
    saw_unpaused: bool,
    /// A hole that no frame has ended yet: since when, and why.
    open: Option<Open>,
    /// A hole that a frame has ended, while the other streams have still to come back.
    closing: Option<Closing>,
    /// No sound has come since a chunk began.
    at_chunk_start: bool,
    pub(super) gaps: Vec<Gap>,
    pub(super) estimates: Vec<Estimate>,
    scratch: Vec<u8>,
}

impl<W: Write + Seek> Timeline<W> {
    /// An empty timeline; times in the file are multiples of `tick_us`.
    pub(super) fn new(out: W, tick_us: i64) -> io::Result<Self> {
        Ok(Self {
            writer: Writer::new(out, tick_us)?,
            interleaved_us: BY_BLOCK_US,
            streams: Vec::new(),
            routes: Vec::new(),
            offset_us: 0,
            cut: Cut::default(),
            rests: Cut::default(),
            saw_unpaused: false,
            open: None,
            closing: None,
            at_chunk_start: false,
            gaps: Vec::new(),
            estimates: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Leaves out what lies in pauses. `rests`: when a recorder rested, in which nothing lies.
    pub(super) fn cut_out(self, cut: Cut, rests: Cut) -> Self {
        Self { cut, rests, ..self }
    }

    /// A time of the current session on this timeline.
    pub(super) fn placed(&self, session_us: i64) -> i64 {
        self.rests.unplace(self.rests.place(self.offset_us).saturating_add(session_us))
    }

    /// Starts a session whose zero lies at `offset_us`, or after everything written, whichever is later.
    pub(super) fn begin_session(&mut self, offset_us: i64) {
        self.close();
        self.close_routes();
        self.offset_us = offset_us.max(self.end_us());
    }

    /// Starts a session whose zero lies at `zero_us` of the current session's time.
    pub(super) fn begin_session_at(&mut self, zero_us: i64) {
        self.begin_session(self.placed(zero_us));
    }

    /// How the container of the session that begins interleaves its streams.
    pub(super) fn interleaved(&mut self, within_us: i64) {
        self.interleaved_us = within_us;
    }

    /// Tells of a track of the current session. A number told twice keeps its first meaning, unless that was none.
    pub(super) fn track(&mut self, number: u64, header: TrackHeader) {
        if let Some(at) = self.routes.iter().position(|route| route.number == number) {
            let Some(Destination::LeftOut(from_us, to_us)) = self.routes.get(at).map(|route| route.to) else {
                return;
            };
            self.push_gap(from_us, to_us, GapReason::Corrupt);
            self.routes.remove(at);
        }
        let length_size = length_size(&header);
        let same_kind = |stream: &Stream| stream.header.codec.kind() == header.codec.kind();
        let found = self.streams.iter().position(|stream| stream.header.codec == header.codec);
        let mut inject = Vec::new();
        let to = if let Some(index) = found {
            self.adopt(index, &header, &mut inject);
            Destination::Stream(index)
        } else if self.streams.iter().any(same_kind) || self.streams.len() >= MAX_TRACKS {
            Destination::LeftOut(i64::MAX, i64::MIN)
        } else {
            self.streams.push(Stream::new(header));
            Destination::Stream(self.streams.len() - 1)
        };
        self.routes.push(Route { number, to, length_size, inject });
    }

    /// Tells of a track that gets a stream of its own although there is one of its kind: RTP changes codecs in mid-track.
    pub(super) fn track_beside(&mut self, number: u64, header: TrackHeader) {
        if self.streams.len() >= MAX_TRACKS {
            return self.leave_out(number);
        }
        let length_size = length_size(&header);
        self.streams.push(Stream::new(header));
        let to = Destination::Stream(self.streams.len() - 1);
        self.routes.push(Route { number, to, length_size, inject: Vec::new() });
    }

    /// Tells of a track of the current session that cannot be kept; its span becomes a gap.
    pub(super) fn leave_out(&mut self, number: u64) {
        if self.routes.iter().any(|route| route.number == number) {
            return;
        }
        let to = Destination::LeftOut(i64::MAX, i64::MIN);
        self.routes.push(Route { number, to, length_size: 0, inject: Vec::new() });
    }

    /// A later session's header for a stream that exists: keeps what differs where it can be kept.
    fn adopt(&mut self, index: usize, header: &TrackHeader, inject: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.header.has_alpha |= header.has_alpha;
        if stream.header.codec_private.is_empty() {
            stream.header.codec_private.clone_from(&header.codec_private);
        } else if header.codec == Codec::H264 && stream.header.codec_private != header.codec_private {
            h264::append(inject, h264::parameter_sets(&header.codec_private).into_iter());
        }
    }

    /// Places one frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let time_us = self.placed(frame.time_us).max(0);
        let Some(index) = self.stream_of(frame, time_us) else { return Ok(()) };
        self.notice_skip(index, time_us);
        let route = self.routes.iter().find(|route| route.number == frame.track);
        let (Some(stream), Some(route)) = (self.streams.get_mut(index), route) else { return Ok(()) };
        let (data, key) = if stream.header.codec == Codec::H264 {
            repack(&mut self.scratch, stream, route, frame.data)
        } else {
            (frame.data, stream.header.codec.is_keyframe(frame.data, frame.marked))
        };
        stream.advance(time_us, frame.duration_us, data);
        let paused = self.cut.pause_at(time_us);
        let waited_since = stream.waits(paused, key);
        self.saw_unpaused |= paused.is_none();
        if paused.is_none() && stream.resumed_us.is_none() {
            stream.count(time_us, data, key, &self.cut);
            let kind = if key { BlockKind::Key } else { BlockKind::Delta };
            let time_us = self.cut.place(time_us);
            self.writer.write(&Block { track: index, time_us, kind, data, additions: frame.additions })?;
        }
        if let Some(resumed_us) = waited_since {
            self.push_gap(resumed_us, time_us, GapReason::Paused);
        }
        self.end_hole(index, time_us);
        Ok(())
    }

    /// The stream that a frame goes to; a frame that goes nowhere is noted.
    fn stream_of(&mut self, frame: &Frame<'_>, time_us: i64) -> Option<usize> {
        let route = self.routes.iter_mut().find(|route| route.number == frame.track)?;
        match &mut route.to {
            Destination::Stream(index) => Some(*index),
            Destination::LeftOut(from, to) => {
                *from = (*from).min(time_us);
                *to = (*to).max(time_us + frame.duration_us.max(DEFAULT_FRAME_US));
                None
            }
        }
    }

    /// A new chunk's frames follow.
    pub(super) fn begin_chunk(&mut self) {
        self.at_chunk_start = true;
    }

    /// Sound that skips between two chunks says that something was cut where elements meet.
    fn notice_skip(&mut self, index: usize, time_us: i64) {
        let Some(stream) = self.streams.get(index) else { return };
        if !self.at_chunk_start || stream.info.kind != Kind::Audio {
            return;
        }
        self.at_chunk_start = false;
        let covered = self.open.is_some() || self.closing.is_some() || stream.info.packets == 0;
        if !covered && time_us - stream.end_us > MAX_SKIP_US {
            self.push_gap(stream.end_us, time_us, GapReason::Corrupt);
        }
    }

    /// A frame after a hole.
    fn end_hole(&mut self, index: usize, time_us: i64) {
        if let Some(open) = self.open.take() {
            let awaited = self.active().fold(0, |bits, at| bits | 1u32 << at.min(31));
            self.closing = Some(Closing::new(open, time_us, awaited));
        }
        let Some(closing) = &mut self.closing else { return };
        let bit = 1u32 << index.min(31);
        let is_late = time_us - closing.first_us > self.interleaved_us;
        if closing.awaited & bit != 0 && !is_late {
            closing.came_back(index, time_us, self.interleaved_us);
        }
        closing.awaited &= !bit;
        if closing.awaited == 0 || is_late {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(closing) = self.closing.take() {
            let (from_us, to_us) = closing.span();
            self.push_gap(from_us, to_us, closing.open.reason);
        }
    }

    /// The streams that the current session feeds, but for those that had long been silent.
    fn active(&self) -> impl Iterator<Item = usize> {
        let newest = self.streams.iter().map(|stream| stream.last_us).max().unwrap_or(0);
        self.routes.iter().filter_map(move |route| {
            let Destination::Stream(index) = route.to else { return None };
            let stream = self.streams.get(index)?;
            (stream.info.packets == 0 || stream.last_us >= newest - ACTIVE_US).then_some(index)
        })
    }

    /// Something is missing from here on, until the next frame. A hole inside a hole keeps the first one's reason.
    pub(super) fn hole(&mut self, reason: GapReason) {
        self.close();
        if self.open.is_none() {
            let before = self.streams.iter().map(Stream::edge).collect();
            self.open = Some(Open { from_us: self.expected_us(), reason, before });
        }
    }

    /// What follows was lost up to `to_us`, the end of the track as far as it can be told.
    pub(super) fn missing_until(&mut self, to_us: i64, reason: GapReason) {
        self.close();
        let (from_us, reason) =
            self.open.take().map_or((self.expected_us(), reason), |open| (open.from_us, open.reason));
        self.push_gap(from_us, to_us, reason);
    }

    /// Notes that the times of a span of the current session are estimates.
    pub(super) fn estimated(&mut self, from_us: i64, to_us: i64) {
        let span = Estimate { from_us: self.placed(from_us), to_us: self.placed(to_us) };
        let full = self.estimates.len() >= MAX_ESTIMATES;
        match self.estimates.last_mut() {
            Some(last) if full => last.to_us = span.to_us,
            _ => self.estimates.push(span),
        }
    }

    /// The end of everything that has come, on the track's timeline.
    pub(super) fn end_us(&self) -> i64 {
        self.streams.iter().map(|stream| stream.end_us).max().unwrap_or(0)
    }

    /// The end of what has come of a kind.
    pub(super) fn end_of(&self, kind: Kind) -> i64 {
        let streams = self.streams.iter().filter(|stream| stream.info.kind == kind);
        streams.map(|stream| stream.end_us).max().unwrap_or(0)
    }

    /// The end of everything that has come, in the current session's time.
    pub(super) fn session_end_us(&self) -> i64 {
        self.rests.place(self.end_us()) - self.rests.place(self.offset_us)
    }

    /// Whether anything was written at all.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.iter().all(|stream| stream.info.packets == 0)
    }

    /// Whether frames have come, and all of them lay in pauses.
    pub(super) fn is_all_paused(&self) -> bool {
        self.end_us() > 0 && !self.saw_unpaused
    }

    /// When the next frame is due: the middle of the ends of those streams that are not silent.
    fn expected_us(&self) -> i64 {
        let end = self.end_us();
        let ends = self.streams.iter().filter(|stream| stream.info.packets > 0).map(|stream| stream.end_us);
        let earliest = ends.filter(|us| *us >= end - SILENT_US).min().unwrap_or(end);
        i64::midpoint(earliest, end)
    }

    fn push_gap(&mut self, from_us: i64, to_us: i64, reason: GapReason) {
        if to_us.saturating_sub(from_us) < ROUNDING_US {
            return;
        }
        let full = self.gaps.len() >= MAX_GAPS;
        match self.gaps.last_mut() {
            Some(last) if full => last.to_us = last.to_us.max(to_us),
            _ => self.gaps.push(Gap { from_us, to_us, reason }),
        }
    }

    fn close_routes(&mut self) {
        for route in std::mem::take(&mut self.routes) {
            if let Destination::LeftOut(from_us, to_us) = route.to {
                self.push_gap(from_us, to_us, GapReason::Corrupt);
            }
        }
    }

    /// Tells how much longer than the pauses a recorder rested.
    fn tell_rests(&mut self) {
        let end_us = self.end_us();
        let rests: Vec<Span> = self.rests.spans().filter(|(from, _)| *from < end_us).collect();
        for (from_us, to_us) in rests {
            let to_us = to_us.min(end_us);
            if self.cut.place(to_us) - self.cut.place(from_us) >= ROUNDING_US {
                self.push_gap(from_us, to_us, GapReason::Paused);
            }
        }
    }

    /// Tells of the pictures that still wait for a keyframe: they are not in the file.
    fn tell_waiting(&mut self) {
        let waiting = self.streams.iter().filter_map(|stream| Some((stream.resumed_us?, stream.end_us)));
        for (resumed_us, end_us) in waiting.collect::<Vec<_>>() {
            self.push_gap(resumed_us, end_us, GapReason::Paused);
        }
    }

    /// Brings what is told to the file's times, and tells of the pauses.
    fn cut_told(&mut self) {
        let cut = &self.cut;
        let end_us = cut.place(self.end_us());
        for gap in &mut self.gaps {
            (gap.from_us, gap.to_us) = (cut.place(gap.from_us), cut.place(gap.to_us));
        }
        self.gaps.retain(|gap| gap.reason == GapReason::Paused || gap.to_us - gap.from_us >= ROUNDING_US);
        let seams = cut.seams().filter(|at_us| (0..=end_us).contains(at_us));
        self.gaps.extend(seams.map(|at_us| Gap { from_us: at_us, to_us: at_us, reason: GapReason::Paused }));
        self.gaps.sort_by_key(|gap| (gap.from_us, gap.to_us));
        for span in &mut self.estimates {
            (span.from_us, span.to_us) = (cut.place(span.from_us), cut.place(span.to_us));
        }
    }

    /// Finishes the file; returns what is in it and its size in bytes.
    pub(super) fn finish(mut self) -> io::Result<Finished> {
        self.close();
        self.close_routes();
        self.tell_waiting();
        self.tell_rests();
        self.cut_told();
        let duration_us = self.streams.iter().map(|stream| stream.info.end_us).max().unwrap_or(0);
        let headers: Vec<TrackHeader> = self.streams.iter().map(|stream| stream.header.clone()).collect();
        let bytes = self.writer.finish(&headers, duration_us)?;
        let streams = self.streams.into_iter().map(Stream::into_info).collect();
        Ok(Finished { streams, gaps: self.gaps, estimates: self.estimates, duration_us, bytes })
    }
}

/// Bytes of a NAL unit's length as an `avcC` says (ISO/IEC 14496-15, section 5.3.3.1.2); 0 without one.
fn length_size(header: &TrackHeader) -> usize {
    if header.codec_private.first() == Some(&1) { h264::length_size(&header.codec_private) } else { 0 }
}

/// What a finished timeline holds.
pub(super) struct Finished {
    pub(super) streams: Vec<StreamInfo>,
    pub(super) gaps: Vec<Gap>,
    pub(super) estimates: Vec<Estimate>,
    pub(super) duration_us: i64,
    pub(super) bytes: u64,
}
