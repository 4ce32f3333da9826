//! Frames in the order of their times become the file: what cannot be decoded is held back, silence is filled with
//! silence, pauses are cut out, and whatever is missing is told.
//!
//! Time never collapses: a frame stands where its clock says, and only a frame of another SSRC that overlaps what is
//! written already is moved, by as little as a file needs.

use std::io::{self, Seek, Write};

use super::depacketize::av1_config;
use super::facts::Facts;
use super::frames::{Frame, Loss};
use super::gaps::Gaps;
use super::side::Side;
use super::survey::Survey;
use super::{AfterLoss, Rotation, RtpPlan};
use crate::assemble::codec::{Codec, Kind, Marked, h264, opus};
use crate::assemble::cut::Cut;
use crate::assemble::timeline::{self, Finished, Timeline};
use crate::assemble::writer::TrackHeader;
use crate::assemble::{Gap, GapReason};

/// Multiples of time in the file: finer than a sample's 1 ms rounding, coarse enough for clusters of three seconds.
pub(super) const TICK_US: i64 = 100;

/// Less missing than this at the beginning is how long a call takes to start.
pub(super) const EDGE_US: i64 = 100_000;

/// The same of sound: a recording may begin between two packets of a silence, which come every 400 ms (RFC 7587, section 3.1.3).
const SOUND_EDGE_US: i64 = EDGE_US + 400_000;

/// Another SSRC that follows within this is a change of layer; later, its sender was gone.
const GONE_US: i64 = 500_000;

/// Sound that says nothing for longer was muted at its source: discontinuous transmission refreshes every 400 ms (RFC 7587,
/// section 3.1.3, and libopus).
const LONGEST_DTX_US: i64 = 1_000_000;

/// Sound that goes on by its own count and this much later by the clock lost something at its source: what sound may be off
/// pictures.
pub(super) const SKIP_US: i64 = 40_000;

/// Ticks of Opus in a millisecond, whatever is encoded (RFC 7587, section 4.1).
const OPUS_TICKS_MS: i64 = 48;

/// A recording that ends this much after its track does ended without its participant.
const TAIL_US: i64 = 1_000_000;

/// The most silence that is filled in at once: longer than any recording may last.
const MAX_SILENCE_US: i64 = 36 * 3_600 * 1_000_000;

/// How far sound may be behind the pictures in a file: what comes later than that is dropped for the silence in its place, and
/// FFmpeg waits for 10 s of a stream before it goes on without it (`max_interleave_delta`).
const SOUND_LAG_US: i64 = 5_000_000;

/// Turns of the picture that are kept.
const MAX_ROTATIONS: usize = 1_440;

/// Silence of every length that Opus has, longest first: microseconds, and the first byte of the packet, mono. What
/// follows is `FF FE`, CELT's silence flag, whatever the length (RFC 6716, sections 3.1 and 4.3).
const SILENCE: [(i64, u8); 4] = [(20_000, 0xF8), (10_000, 0xF0), (5_000, 0xE8), (2_500, 0xE0)];

/// How long a decoder must run in before what it gives is right, nanoseconds (RFC 7845, section 4.6).
const OPUS_PRE_ROLL_NS: u64 = 80_000_000;

/// A frame and when it was captured by the edge's clock.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) ssrc: u32,
    pub(super) edge_us: i64,
    pub(super) frame: Frame,
}

/// The file being made.
pub(super) struct Output<'a, W> {
    timeline: Timeline<W>,
    plan: &'a RtpPlan,
    cut: Cut,
    facts: Facts,
    stereo: bool,
    /// There is sound in the log: then there is in all of the file, if only silence.
    sounds: bool,
    codecs: Vec<Codec>,
    gate: Gate,
    came: Came,
    sound: Side,
    pictures: Side,
    /// The SSRC of the last packet of sound, and the ticks at its end.
    heard: Option<(u32, i64)>,
    /// Where that stands in the file: its end.
    heard_us: i64,
    /// The stereo bit of the last packet of sound.
    stereo_bit: u8,
    gaps: Gaps,
    rotations: Vec<Rotation>,
}

/// What frames have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Nothing,
    /// All of them in pauses.
    Paused,
    Frames,
}

/// Which pictures may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Only a keyframe: a decoder has nothing to begin with.
    Keyframe,
    /// Only a keyframe, for a while from this time on.
    Frozen(i64),
    Open,
}

impl<'a, W: Write + Seek> Output<'a, W> {
    pub(super) fn new(survey: &Survey, plan: &'a RtpPlan, out: W) -> io::Result<Self> {
        let cut = Cut::new(plan.start_us, &plan.pauses);
        Ok(Self {
            timeline: Timeline::new(out, TICK_US)?,
            plan,
            facts: Facts::new(survey, &cut),
            cut,
            stereo: survey.streams.values().any(|stream| stream.stereo),
            sounds: survey.streams.values().any(|stream| stream.sounds),
            codecs: Vec::new(),
            gate: Gate::Keyframe,
            came: Came::Nothing,
            sound: Side::default(),
            pictures: Side::default(),
            heard: None,
            heard_us: 0,
            stereo_bit: 0,
            gaps: Gaps::default(),
            rotations: Vec::new(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.timeline.is_empty()
    }

    /// Whether frames have come, and all of them lay in pauses.
    pub(super) fn is_all_paused(&self) -> bool {
        self.came == Came::Paused
    }

    /// Takes the next frame.
    pub(super) fn frame(&mut self, placed: &Placed) -> io::Result<()> {
        if self.cut.pause_at(placed.edge_us).is_some() {
            self.came = if self.came == Came::Frames { Came::Frames } else { Came::Paused };
            // What has not begun yet was not there before the pause either.
            for side in [&mut self.sound, &mut self.pictures].into_iter().filter(|side| side.source.is_some())
            {
                side.looked = Some(GapReason::Paused);
            }
            self.freeze();
            return Ok(());
        }
        self.came = Came::Frames;
        let time_us = self.cut.place(placed.edge_us);
        match placed.frame.codec.kind() {
            Kind::Audio => self.sound(placed, time_us),
            Kind::Video => self.picture(placed, time_us),
        }
    }

    fn sound(&mut self, placed: &Placed, time_us: i64) -> io::Result<()> {
        let (frame, end_us) = (&placed.frame, self.timeline.end_of(Kind::Audio));
        let lasts_us = opus::duration_us(&frame.data).unwrap_or(0);
        if frame.lost_before != Loss::None {
            self.sound.looked = Some(GapReason::PacketLoss);
        }
        let counts_on = self.heard == Some((placed.ssrc, frame.at.ticks));
        self.heard = Some((placed.ssrc, frame.at.ticks + lasts_us * OPUS_TICKS_MS / 1_000));
        // Sound that is there already, from an SSRC that overlaps, or from before the file's zero.
        if lasts_us == 0 || end_us - time_us > lasts_us / 2 {
            return Ok(());
        }
        let missing_us = time_us - self.heard_us;
        let looked = self.sound.looked(missing_us).or_else(|| match self.sound.source {
            None => (missing_us >= SOUND_EDGE_US).then_some(GapReason::Disconnected),
            Some((ssrc, _)) if ssrc != placed.ssrc && missing_us >= GONE_US => Some(GapReason::Disconnected),
            Some(_) if missing_us >= EDGE_US && self.facts.was_paused(self.heard_us, time_us) => {
                Some(GapReason::Paused)
            }
            Some(_) if missing_us > LONGEST_DTX_US => Some(GapReason::Muted),
            Some(_) => (counts_on && missing_us >= SKIP_US).then_some(GapReason::PacketLoss),
        });
        if let Some(looked) = looked {
            self.gap(self.heard_us, time_us, looked);
        }
        self.stereo_bit = frame.data.first().map_or(0, |toc| toc & 4);
        self.silence(end_us, time_us)?;
        self.sound.source = Some((placed.ssrc, frame.at.epoch));
        self.write(frame, time_us.max(self.sound.last_us + TICK_US))?;
        self.heard_us = self.timeline.end_of(Kind::Audio);
        Ok(())
    }

    /// Lets silence follow the pictures where there is no sound, so that both stand side by side in the file.
    fn silence_behind(&mut self, time_us: i64) -> io::Result<()> {
        let end_us = self.timeline.end_of(Kind::Audio);
        let missing_us = time_us - SOUND_LAG_US - end_us;
        let packets = missing_us / SILENCE[0].0;
        if self.sounds && packets > 0 {
            self.silence(end_us, end_us + packets * SILENCE[0].0)
        } else {
            Ok(())
        }
    }

    /// Fills a span with Opus silence, to less than 2.5 ms.
    fn silence(&mut self, mut at_us: i64, to_us: i64) -> io::Result<()> {
        if to_us - at_us > MAX_SILENCE_US {
            return Ok(());
        }
        for (lasts_us, toc) in SILENCE {
            let packet = [toc | self.stereo_bit, 0xFF, 0xFE];
            while to_us - at_us >= lasts_us {
                self.put(Codec::Opus, at_us, Marked::Key, &packet)?;
                at_us += lasts_us;
            }
        }
        Ok(())
    }

    fn picture(&mut self, placed: &Placed, time_us: i64) -> io::Result<()> {
        let frame = &placed.frame;
        let key = frame.codec.is_keyframe(&frame.data, frame.marked) && self.knows(frame);
        // Another SSRC begins with a keyframe; what else comes of one is a straggler of the layer before.
        if !key && self.pictures.source.is_some_and(|(ssrc, _)| ssrc != placed.ssrc) {
            return Ok(());
        }
        if frame.lost_before != Loss::None {
            self.pictures.looked = Some(GapReason::PacketLoss);
        }
        if frame.lost_before == Loss::Reference {
            self.freeze();
        }
        if !key && !self.passes(time_us) {
            return Ok(());
        }
        self.gate = Gate::Open;
        let time_us = self.pictures.settle((placed.ssrc, frame.at.epoch), time_us);
        let end_us = self.timeline.end_of(Kind::Video);
        let looked = self.pictures.looked(time_us).or_else(|| match self.pictures.source {
            None => (time_us >= EDGE_US).then_some(GapReason::Disconnected),
            Some((ssrc, _)) if ssrc != placed.ssrc && time_us - end_us >= GONE_US => {
                Some(GapReason::Disconnected)
            }
            Some(_) if time_us - end_us >= EDGE_US && self.facts.was_paused(end_us, time_us) => {
                Some(GapReason::Paused)
            }
            Some(_) if time_us - end_us >= GONE_US && self.facts.was_absent(end_us, time_us) => {
                Some(GapReason::Disconnected)
            }
            Some(_) => None,
        });
        if let Some(looked) = looked {
            self.gap(end_us, time_us, looked);
        }
        self.pictures.source = Some((placed.ssrc, frame.at.epoch));
        self.turn(frame, time_us);
        self.silence_behind(time_us)?;
        self.write(frame, time_us)
    }

    /// Whether a picture that needs others may pass.
    fn passes(&self, time_us: i64) -> bool {
        match (self.gate, self.plan.after_loss) {
            (Gate::Open, _) | (Gate::Frozen(_), AfterLoss::Keep) => true,
            (Gate::Keyframe, _) => false,
            (Gate::Frozen(since_us), AfterLoss::FreezeUpTo { us }) => time_us - since_us >= us,
        }
    }

    /// Pictures from here on may refer to one that is missing.
    fn freeze(&mut self) {
        if self.gate == Gate::Open {
            self.gate = Gate::Frozen(self.timeline.end_of(Kind::Video));
        }
    }

    /// Whether the file has a track for the frame's codec; a keyframe tells what one needs.
    fn knows(&mut self, frame: &Frame) -> bool {
        if self.codecs.contains(&frame.codec) {
            return true;
        }
        let mut header = TrackHeader::new(frame.codec);
        header.codec_private = match frame.codec {
            Codec::H264 => match h264::avcc_from(h264::prefixed(&frame.data, 4)) {
                Some(avcc) => avcc,
                None => return false,
            },
            Codec::Av1 => av1_config(&frame.data).unwrap_or_default(),
            _ => Vec::new(),
        };
        self.begin_track(header);
        true
    }

    fn begin_track(&mut self, header: TrackHeader) {
        let codec = header.codec;
        self.codecs.push(codec);
        self.timeline.track_beside(number(codec), header);
    }

    fn turn(&mut self, frame: &Frame, time_us: i64) {
        let Some(degrees) = frame.rotation else { return };
        let before = self.rotations.last().map_or(0, |last| last.degrees);
        if degrees != before && self.rotations.len() < MAX_ROTATIONS {
            self.rotations.push(Rotation { time_us, degrees });
        }
    }

    fn write(&mut self, frame: &Frame, time_us: i64) -> io::Result<()> {
        self.put(frame.codec, time_us, frame.marked, &frame.data)
    }

    fn put(&mut self, codec: Codec, time_us: i64, marked: Marked, data: &[u8]) -> io::Result<()> {
        if codec == Codec::Opus && !self.codecs.contains(&codec) {
            self.begin_track(self.opus_header());
        }
        let side = if codec.kind() == Kind::Audio { &mut self.sound } else { &mut self.pictures };
        side.last_us = side.last_us.max(time_us);
        let frame =
            timeline::Frame { track: number(codec), time_us, marked, duration_us: 0, data, additions: &[] };
        self.timeline.frame(&frame)
    }

    fn opus_header(&self) -> TrackHeader {
        let channels = if self.stereo { 2 } else { 1 };
        TrackHeader {
            codec_private: opus::head(channels, 0),
            channels: channels.into(),
            seek_pre_roll_ns: OPUS_PRE_ROLL_NS,
            ..TrackHeader::new(Codec::Opus)
        }
    }

    fn gap(&mut self, from_us: i64, to_us: i64, looked: GapReason) {
        if to_us - from_us < TICK_US {
            return;
        }
        self.gaps.push(Gap { from_us, to_us, reason: self.facts.reason(from_us, to_us, looked) });
    }

    /// Finishes the file.
    pub(super) fn finish(mut self) -> io::Result<(Finished, Vec<Rotation>)> {
        let end_us = self.timeline.end_us();
        let stop_us = self.plan.stop_us.map_or(end_us, |stop_us| self.cut.place(stop_us));
        let (sound, pictures) = (self.heard_us, self.timeline.end_of(Kind::Video));
        // Who is seen on is there.
        let silent = if pictures - sound > TAIL_US { GapReason::Muted } else { GapReason::Disconnected };
        for (began, from_us, looked) in [
            (self.sound.source.is_some(), sound, silent),
            (self.pictures.source.is_some(), pictures, GapReason::Disconnected),
        ] {
            if began && stop_us - from_us > TAIL_US {
                self.gap(from_us, stop_us, looked);
            }
        }
        let muted = self.facts.muted.iter().map(|&(from, to)| (from.min(end_us), to.min(end_us)));
        let muted = muted.filter(|(from, to)| from < to);
        let muted = muted.map(|(from_us, to_us)| Gap { from_us, to_us, reason: GapReason::Muted });
        let seams = self.cut.seams().filter(|at_us| (0..=end_us).contains(at_us));
        let seams = seams.map(|at_us| Gap { from_us: at_us, to_us: at_us, reason: GapReason::Paused });
        let rotations = self.rotations;
        self.timeline.gaps.extend(self.gaps.joined(muted.chain(seams)));
        Ok((self.timeline.finish()?, rotations))
    }
}

fn number(codec: Codec) -> u64 {
    codec as u64
}
