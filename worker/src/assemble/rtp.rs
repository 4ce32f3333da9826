//! A server track's log of RTP becomes one clean Matroska file with exact times.
//!
//! The log is read twice, because what a sender report says late holds for what came early: first for its clocks
//! ([`survey`], [`Clocks::learn`] over all logs of a participant, so that sound and picture share one clock), then for its
//! media ([`assemble`]). Memory is what waits behind holes (named limits), never a recording. The output is a pure
//! function of the input. This module spawns nothing and knows nothing of storage or jobs.
//!
//! | step | in |
//! |---|---|
//! | sequences and timestamps that do not wrap, absurd ones bounded by arrival | `unwrap` |
//! | what there is: streams, clocks' readings, mutes, absences, pauses, damage | `survey`, `pauses` |
//! | from ticks to the edge's wall clock | `clocks`, `reports`, `path`, `fit` |
//! | order, duplicates, late retransmissions, loss | `reorder` |
//! | packets to frames | `frames`, `depacketize` |
//! | streams side by side in time | `lanes` |
//! | frames to the file: freeze, silence, gaps, pauses | `output`, `side`, `gaps` |
//!
//! The file's zero is the recording's start, for every track of every participant, so that any two files lie side by side
//! as they are: who comes late is silent and unseen until then, and the gap says `disconnected`.

mod clocks;
mod depacketize;
mod facts;
mod fit;
mod frames;
mod gaps;
mod lanes;
mod output;
mod path;
mod pauses;
mod reorder;
mod reports;
mod side;
mod survey;
mod unwrap;

use std::io::{self, Seek, Write};

use shared::capture::rtp::{Logged, StreamDescription};

use super::codec::Codec;
use super::{AssembleError, Assembled};
use lanes::Lanes;
use output::Output;

pub use clocks::Clocks;
pub use pauses::pauses;
pub use survey::{Survey, survey};

/// Gives a log's records in the order of the log.
pub trait LogSource {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// Whatever reading the capture fails with; assembly stops and hands it on.
    fn next_logged(&mut self) -> io::Result<Option<Logged>>;
}

impl<I: Iterator<Item = io::Result<Logged>>> LogSource for I {
    fn next_logged(&mut self) -> io::Result<Option<Logged>> {
        self.next().transpose()
    }
}

/// What becomes of pictures that refer to a lost one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLoss {
    /// The last good picture stands until the next keyframe, but no longer than this; then they are kept.
    FreezeUpTo {
        /// Microseconds.
        us: i64,
    },
    /// They are kept: decoders cope, and smear.
    Keep,
}

impl Default for AfterLoss {
    /// Frozen for at most ten seconds. Where the edge asks for a keyframe, it has one within a second or two, and then
    /// everything in the file plays clean: a VP9 frame behind a lost one is mostly not decoded at all, because its
    /// probabilities are the lost one's, and a browser stops playing at it. Where no keyframe comes for so long, pictures
    /// that smear are better than minutes of none.
    fn default() -> Self {
        Self::FreezeUpTo { us: 10_000_000 }
    }
}

/// What is known of a server track besides its log. Times are microseconds since 1970 by the edge's clock.
#[derive(Debug, Clone, Default)]
pub struct RtpPlan {
    /// When the recording started: the file's zero.
    pub start_us: i64,
    /// When it stopped, when that is known: what is missing at the end is a gap too.
    pub stop_us: Option<i64>,
    /// When the recording was paused: cut out of the file. Ascending.
    pub pauses: Vec<(i64, i64)>,
    /// What becomes of pictures after a loss.
    pub after_loss: AfterLoss,
}

/// From when on pictures are to be turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Microseconds on the file's timeline.
    pub time_us: i64,
    /// Degrees clockwise.
    pub degrees: u16,
}

/// What was assembled from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpAssembled {
    /// The file. Its sessions are SSRCs, its chunks packets.
    pub file: Assembled,
    /// Turns of the picture, as packets told.
    pub rotations: Vec<Rotation>,
    /// Packets that never came.
    pub lost: u64,
    /// Frames that are left out because nothing tells their time.
    pub unplaced: u64,
}

/// Assembles a log into a Matroska file.
///
/// # Errors
/// [`AssembleError`]: the log or the output failed, or there is no media in it at all. Media that is missing in part is
/// no error but a gap.
pub fn assemble<W: Write + Seek>(
    log: &mut dyn LogSource,
    survey: &Survey,
    clocks: &Clocks,
    plan: &RtpPlan,
    out: W,
) -> Result<RtpAssembled, AssembleError> {
    let mut lanes = Lanes::new(survey, clocks);
    let mut output = Output::new(survey, plan, out)?;
    let mut bytes_in = 0;
    while let Some(logged) =
        log.next_logged().map_err(|source| AssembleError::Read { after: None, source })?
    {
        let Logged::Packet { arrival_us, bytes, .. } = logged else { continue };
        bytes_in += bytes.len() as u64;
        lanes.packet(arrival_us, bytes, &mut output)?;
    }
    lanes.finish(&mut output)?;
    if output.is_all_paused() {
        return Err(AssembleError::AllPaused);
    }
    if output.is_empty() {
        let detail = "no frame of a known codec is whole";
        return Err(AssembleError::NoMedia { chunks: survey.packets, detail });
    }
    let (lost, unplaced) = (lanes.lost(), lanes.unplaced());
    let (done, rotations) = output.finish()?;
    let file = Assembled {
        streams: done.streams,
        gaps: done.gaps,
        estimates: done.estimates,
        origin: None,
        readings: Vec::new(),
        duration_us: done.duration_us,
        sessions: survey.streams.len() as u64,
        chunks: survey.packets,
        bytes_in,
        bytes_out: done.bytes,
    };
    Ok(RtpAssembled { file, rotations, lost, unplaced })
}

/// The codec that a stream's description names; `None` for what makes no frames (comfort noise, tones, redundancy).
fn codec_of(description: &StreamDescription) -> Option<Codec> {
    let name = description.mime.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    Some(match name.as_str() {
        "opus" => Codec::Opus,
        "vp8" => Codec::Vp8,
        "vp9" => Codec::Vp9,
        "h264" => Codec::H264,
        "av1" | "av1x" => Codec::Av1,
        _ => return None,
    })
}
