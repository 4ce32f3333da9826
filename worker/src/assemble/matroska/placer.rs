//! Gives every block its time, also where the cluster that timed it is lost.
//!
//! A block's time is its cluster's plus its own 16 bits. After a hole the cluster is unknown, so blocks are held until the
//! next one: then the last sound held must end where the first sound after it begins, which is exact for Opus (0 ms off in
//! every case tried). A track without sound gets the cadence of its frames, and what has no cluster at all the client's
//! clock; both are reported as estimates. A session without a head is held until its payloads have shown their codecs.

mod recover;
mod strangers;

use std::io::{self, Seek, Write};

use super::block::Block;
use super::header::{Muxer, Track};
use crate::assemble::GapReason;
use crate::assemble::clock::{Clock, Stamp};
use crate::assemble::codec::Marked;
use crate::assemble::timeline::{Frame, Timeline};

/// Payload held at most while times or codecs are unknown: a minute of 1.2 Mb/s.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

/// Blocks held at most: a minute of sound and pictures at 60 a second, many times over.
const MAX_HELD_BLOCKS: usize = 20_000;

/// A cluster may lie this far beyond what the clocks of client and server explain: a laptop that slept.
const MAX_JUMP_US: i64 = 60_000_000;

/// What one lost chunk may explain of a jump: the longest timeslice that clients use.
const MAX_CHUNK_US: i64 = 10_000_000;

/// A cluster may lie this far before what is written; more is another session, or rubbish.
const MAX_BACK_US: i64 = 1_500_000;

/// The longest session believed in.
const MAX_SESSION_US: i64 = 48 * 3_600 * 1_000_000;

/// After this many clusters in a row that make no sense, the timeline goes on from them.
const MAX_STRIKES: u32 = 3;

/// Times of one track may step back by rounding only.
const ROUNDING_US: i64 = 5_000;

/// What a frame lasts while no cadence is known.
const DEFAULT_FRAME_US: i64 = 33_000;

/// Something whose turn has not come.
enum Held {
    Frame(HeldFrame),
    Hole(GapReason),
}

struct HeldFrame {
    track: u64,
    /// Microseconds from the cluster.
    relative_us: i64,
    time_us: Option<i64>,
    marked: Marked,
    data: Vec<u8>,
    additions: Vec<u8>,
    stamp: Stamp,
}

/// What is known of a track's times so far.
struct Pace {
    track: u64,
    last_us: i64,
    frame_us: i64,
}

/// Whether to wait for more or to decide now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Wait,
    Decide,
}

/// The placer of one session.
pub(super) struct Placer {
    /// `None` while the head is lost.
    tracks: Option<Vec<Track>>,
    /// The head is lost, and tracks are told by what they hold.
    headless: bool,
    muxer: Muxer,
    base_us: Option<i64>,
    /// The cluster before the hole, which may well be the one after it.
    old_base_us: Option<i64>,
    /// Added to every cluster's time, after rubbish made the timeline go on from elsewhere.
    shift_us: i64,
    last_cluster: Option<(i64, Stamp)>,
    strikes: u32,
    clusters_since_chunk: u32,
    clusters_since_held: u32,
    after_lost_chunk: bool,
    held: Vec<Held>,
    held_bytes: usize,
    /// Where in `held` the frames without a time begin.
    untimed_from: Option<usize>,
    /// Held frames at which codecs are guessed again: doubling keeps the work linear.
    guess_at: usize,
    /// Frames of tracks that have not shown themselves: more of one tell its codec together.
    strangers: Vec<HeldFrame>,
    paces: Vec<Pace>,
    pub(super) clock: Clock,
    stamp: Stamp,
}

impl Placer {
    pub(super) fn new(tracks: Option<Vec<Track>>, clock: Clock) -> Self {
        Self {
            headless: tracks.is_none(),
            tracks,
            muxer: Muxer::Tight,
            base_us: None,
            old_base_us: None,
            shift_us: 0,
            last_cluster: None,
            strikes: 0,
            clusters_since_chunk: 0,
            clusters_since_held: 0,
            after_lost_chunk: false,
            held: Vec::new(),
            held_bytes: 0,
            untimed_from: None,
            guess_at: 8,
            strangers: Vec::new(),
            paces: Vec::new(),
            clock,
            stamp: Stamp::default(),
        }
    }

    /// The session's head has come.
    pub(super) fn tracks_are(&mut self, tracks: Vec<Track>) {
        self.tracks = Some(tracks);
    }

    /// The session's head will not come.
    pub(super) fn tracks_are_lost(&mut self) {
        self.tracks = None;
        self.headless = true;
    }

    /// What follows belongs to this chunk.
    pub(super) fn begin_chunk(&mut self, stamp: Stamp) {
        self.stamp = stamp;
        self.clusters_since_chunk = 0;
    }

    /// A cluster begins; its time is still to come.
    pub(super) fn cluster(&mut self) {
        self.base_us = None;
        self.old_base_us = None;
        self.clusters_since_chunk += 1;
        self.clusters_since_held += 1;
    }

    /// The current cluster's time, as written.
    pub(super) fn timestamp<W: Write + Seek>(
        &mut self,
        raw_us: i64,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        let us = raw_us.saturating_add(self.shift_us);
        let end_us = self.paces.iter().map(|pace| pace.last_us).max();
        let backward = end_us.is_some_and(|end| us < end - MAX_BACK_US);
        if backward && self.after_lost_chunk {
            return self.begin_headless(raw_us, sink);
        }
        if (backward || self.too_far(us)) && !self.strike() {
            self.base_us = None;
            return Ok(());
        }
        let us = if self.strikes > 0 && (backward || self.too_far(us)) {
            self.settle(sink)?;
            let us = self.clock.estimate(&self.stamp).max(sink.session_end_us());
            self.shift_us = us - raw_us;
            sink.estimated(us, us);
            us
        } else {
            us
        };
        self.strikes = 0;
        self.after_lost_chunk = false;
        self.base_us = Some(us);
        self.last_cluster = Some((us, self.stamp));
        Ok(())
    }

    fn strike(&mut self) -> bool {
        self.strikes += 1;
        self.strikes >= MAX_STRIKES
    }

    fn too_far(&self, us: i64) -> bool {
        let Some((last_us, stamp)) = self.last_cluster else { return !(0..=MAX_SESSION_US).contains(&us) };
        let lost = (self.stamp.sequence - stamp.sequence).saturating_mul(MAX_CHUNK_US);
        let explained = self.stamp.since(&stamp).clamp(0, MAX_SESSION_US).max(lost);
        us > last_us.saturating_add(explained).saturating_add(MAX_JUMP_US) || us > MAX_SESSION_US
    }

    /// After a lost chunk time goes back: the lost chunk began another session, whose head went with it.
    fn begin_headless<W: Write + Seek>(&mut self, raw_us: i64, sink: &mut Timeline<W>) -> io::Result<()> {
        let run = self.untimed_from.take().map_or_else(Vec::new, |from| self.held.split_off(from));
        self.finish(sink)?;
        let zero_us = self.clock.estimate(&self.stamp).saturating_sub(raw_us);
        sink.begin_session_at(zero_us);
        let stamp = self.stamp;
        let muxer = self.muxer;
        *self = Self::new(None, self.clock.anew());
        (self.stamp, self.muxer) = (stamp, muxer);
        self.held_bytes = run.iter().map(Held::bytes).sum();
        self.untimed_from = (!run.is_empty()).then_some(0);
        self.held = run;
        self.base_us = Some(raw_us);
        self.last_cluster = Some((raw_us, stamp));
        Ok(())
    }

    /// Something is missing from here on, and with it perhaps a cluster.
    pub(super) fn hole<W: Write + Seek>(
        &mut self,
        reason: GapReason,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        if self.tracks.is_none() {
            self.guess_codecs(Patience::Wait, sink);
        }
        self.time_held(Patience::Decide, sink);
        self.release(sink)?;
        if self.held.is_empty() {
            self.leave_strangers(sink)?;
            sink.hole(reason);
        } else if !matches!(self.held.last(), Some(Held::Hole(_))) {
            self.held.push(Held::Hole(reason));
        }
        self.after_lost_chunk |= reason == GapReason::MissingChunk;
        self.old_base_us = self.base_us.take().or(self.old_base_us);
        self.clusters_since_held = 0;
        Ok(())
    }

    /// Notes how the session's elements are written.
    pub(super) fn muxer_is(&mut self, muxer: Muxer) {
        self.muxer = muxer;
    }

    /// Places a block, now or later. `tick_us` turns its ticks into microseconds.
    pub(super) fn block<W: Write + Seek>(
        &mut self,
        block: &Block<'_>,
        relative_us: i64,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        let Some(frames) = block.frames() else { return self.hole(GapReason::Corrupt, sink) };
        let known = self.tracks.as_ref().and_then(|all| all.iter().find(|track| track.number == block.track));
        let (codec, default_us) =
            known.map_or((None, 0), |track| (Some(track.codec), track.default_duration_us));
        let went_back = |base: i64| {
            let pace = self.paces.iter().find(|pace| pace.track == block.track);
            pace.is_some_and(|pace| base + relative_us < pace.last_us - ROUNDING_US)
        };
        if self.clusters_since_chunk == 0 && self.base_us.is_some_and(went_back) {
            // A cut that fell between two elements took a cluster with it.
            self.base_us = None;
            self.hole(GapReason::Corrupt, sink)?;
        }
        let mut relative_us = relative_us;
        for data in frames {
            let lasts = codec.and_then(|codec| codec.duration_us(data)).unwrap_or(default_us);
            let frame = HeldFrame {
                track: block.track,
                relative_us,
                time_us: self.base_us.map(|base| base + relative_us),
                marked: block.marked,
                data: Vec::new(),
                additions: Vec::new(),
                stamp: self.stamp,
            };
            match frame.time_us {
                Some(us) if self.held.is_empty() && self.tracks.is_some() => {
                    self.emit(&frame, us, data, block.additions, sink)?;
                }
                _ => {
                    self.hold(
                        HeldFrame { data: data.to_vec(), additions: block.additions.to_vec(), ..frame },
                        sink,
                    )?;
                }
            }
            relative_us += lasts;
        }
        Ok(())
    }

    fn hold<W: Write + Seek>(&mut self, frame: HeldFrame, sink: &mut Timeline<W>) -> io::Result<()> {
        if frame.time_us.is_none() && self.untimed_from.is_none() {
            self.untimed_from = Some(self.held.len());
            self.clusters_since_held = 0;
        }
        self.held_bytes += frame.data.len() + frame.additions.len();
        self.held.push(Held::Frame(frame));
        if self.held_bytes > MAX_HELD_BYTES || self.held.len() > MAX_HELD_BLOCKS {
            return self.settle(sink);
        }
        if self.tracks.is_none() {
            self.guess_codecs(Patience::Wait, sink);
        }
        self.time_held(Patience::Wait, sink);
        self.release(sink)
    }

    /// Places everything that is held, by the best that is known now.
    pub(super) fn settle<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        if self.tracks.is_none() {
            self.guess_codecs(Patience::Decide, sink);
        }
        self.time_held(Patience::Decide, sink);
        self.release(sink)
    }

    /// The same, when nothing more comes.
    pub(super) fn finish<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        self.settle(sink)?;
        self.leave_strangers(sink)
    }

    fn release<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        if self.held.is_empty() || self.untimed_from.is_some() || self.tracks.is_none() {
            return Ok(());
        }
        self.held_bytes = 0;
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Hole(reason) => {
                    self.leave_strangers(sink)?;
                    sink.hole(reason);
                }
                Held::Frame(frame) => {
                    let us = frame.time_us.unwrap_or(0);
                    self.emit(&frame, us, &frame.data, &frame.additions, sink)?;
                }
            }
        }
        Ok(())
    }

    fn emit<W: Write + Seek>(
        &mut self,
        frame: &HeldFrame,
        time_us: i64,
        data: &[u8],
        additions: &[u8],
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        if self.headless && !self.is_track(frame.track) {
            let (data, additions) = (data.to_vec(), additions.to_vec());
            let stranger = HeldFrame { time_us: Some(time_us), data, additions, ..*frame };
            if !self.meet(stranger, sink)? {
                return Ok(());
            }
        }
        if let Some(pace) = self.paces.iter_mut().find(|pace| pace.track == frame.track) {
            let step = time_us - pace.last_us;
            if (1..=1_000_000).contains(&step) {
                pace.frame_us = step;
            }
            pace.last_us = pace.last_us.max(time_us);
        } else if self.is_track(frame.track) {
            self.paces.push(Pace { track: frame.track, last_us: time_us, frame_us: DEFAULT_FRAME_US });
        }
        if self.is_track(frame.track) {
            self.clock.learn(frame.stamp, time_us);
        }
        sink.frame(&Frame {
            track: frame.track,
            time_us,
            marked: frame.marked,
            duration_us: 0,
            data,
            additions,
        })
    }

    fn is_track(&self, number: u64) -> bool {
        self.tracks.as_ref().is_some_and(|tracks| tracks.iter().any(|track| track.number == number))
    }
}

impl Held {
    fn bytes(&self) -> usize {
        if let Self::Frame(frame) = self { frame.data.len() + frame.additions.len() } else { 0 }
    }
}
