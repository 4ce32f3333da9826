//! Streaming assembly: the blobs of one track of one participant become one clean Matroska file with exact times.
//!
//! Blobs are no segments: they end inside elements, time themselves by headers in other blobs, begin anew when a tab is
//! reloaded, go missing, arrive cut or are not media at all. `cat` and FFmpeg make of one missing blob a recording that is
//! a second off and says nothing; so this is our own code. Only what a lost blob held is lost, nothing else moves, and
//! every hole is told.
//!
//! Memory is a blob or two and what is held while a time is unknown (named limits), never a recording. The output is a
//! pure function of the input. This module spawns nothing, believes no mime type, and knows nothing of storage or jobs.

mod assembly;
mod clock;
mod codec;
mod cut;
mod ebml;
mod matroska;
mod mp4;
mod resync;
pub mod rtp;
mod session;
mod timeline;
mod writer;

use std::io::{self, Seek, Write};

use bytes::Bytes;

use self::assembly::Assembly;
pub use self::codec::{Codec, Kind};
pub(crate) use self::cut::{Cut, Span};

/// The largest chunk accepted: the most that the edge's `CHUNK_MAX_BYTES` may say.
pub const MAX_CHUNK_BYTES: usize = 32 * 1024 * 1024;

/// Gives the chunks of one track in ascending sequence, each sequence once.
pub trait ChunkSource {
    /// The next chunk, or `None` after the last.
    ///
    /// # Errors
    /// Whatever reading the capture fails with; assembly stops and hands it on.
    fn next_chunk(&mut self) -> io::Result<Option<Chunk>>;
}

impl<I: Iterator<Item = io::Result<Chunk>>> ChunkSource for I {
    fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        self.next().transpose()
    }
}

/// One uploaded blob.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Position among the track's chunks, from 0.
    pub sequence: u64,
    /// When the blob's media began by the client's wall clock, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// When the server had it, milliseconds since the epoch.
    pub arrival_ms: i64,
    /// The blob.
    pub bytes: Bytes,
}

/// What is known of a track besides its chunks.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The last sequence as the client declared it: what is missing at the end is a gap too.
    pub last_sequence: Option<u64>,
    /// When the recording was paused: cut out of the file.
    pub pauses: Vec<Pause>,
    /// Where the track's timeline has its zero by the clock of its pauses, as an [`Origin`] told that was found without them.
    pub zero_us: i64,
}

impl Plan {
    /// The pauses on a timeline whose zero is at `zero_us`.
    fn cut(&self, zero_us: i64) -> Cut {
        let spans = self.pauses.iter().map(|pause| (pause.from_us, pause.to_us));
        moved(spans, zero_us)
    }

    /// When the recorder rested: as if it had begun to as each pause did, so that all that follows is right.
    fn rests(&self, zero_us: i64) -> Cut {
        let rest = |pause: &Pause| match pause.meanwhile {
            Meanwhile::Rested { us } => Some((pause.from_us, pause.from_us.saturating_add(us))),
            Meanwhile::WentOn => None,
        };
        moved(self.pauses.iter().filter_map(rest), zero_us)
    }
}

/// Spans on a timeline whose zero is at `zero_us`; one without end has none there either.
fn moved(spans: impl Iterator<Item = Span>, zero_us: i64) -> Cut {
    let from_zero = |us: i64| if us == i64::MAX { us } else { us.saturating_sub(zero_us) };
    let spans: Vec<Span> = spans.map(|(from, to)| (from_zero(from), from_zero(to))).collect();
    Cut::new(0, &spans)
}

/// A pause of the recording, microseconds since the epoch by the client's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub from_us: i64,
    /// Until when.
    pub to_us: i64,
    /// What the client's recorder did meanwhile.
    pub meanwhile: Meanwhile,
}

/// What a client's recorder did during a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// It went on, or was stopped: what it recorded meanwhile is left out.
    WentOn,
    /// It was paused, too, within its session, for so long: `MediaRecorder.pause()` leaves no time for that in the media.
    Rested {
        /// Microseconds.
        us: i64,
    },
}

/// Two readings of one moment: when a chunk's media began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// By the client's clock, or else by arrival, microseconds since the epoch.
    pub wall_us: i64,
    /// By the media, microseconds on the track's timeline.
    pub time_us: i64,
}

/// Why a span of the track is not in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// A chunk was never received.
    MissingChunk,
    /// A chunk was received, but not whole or not as media that can be kept.
    Corrupt,
    /// The recorder stopped and another one started: a tab was reloaded.
    Disconnected,
    /// RTP packets never came, or the sender lost sound before it was sent: its media clock jumped.
    PacketLoss,
    /// The participant was muted.
    Muted,
    /// The recording was paused: cut out, so the gap has no length.
    Paused,
    /// The edge could not write.
    Disk,
}

/// A span of the track that is not in the output. Times are microseconds on the track's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// End of the last packet before.
    pub from_us: i64,
    /// Start of the first packet after.
    pub to_us: i64,
    /// Why.
    pub reason: GapReason,
}

/// A span whose times are the best bound there was, because no timestamp of it survived: right to about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// First packet of the span, microseconds.
    pub from_us: i64,
    /// Last packet of the span, microseconds.
    pub to_us: i64,
}

/// From when on pictures have this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Microseconds on the track's timeline.
    pub time_us: i64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// One stream of the output, in the order of its tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Seen or heard.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// How much of its beginning a decoder throws away, as the file's `CodecDelay` says, microseconds.
    pub codec_delay_us: u64,
    /// Packets written.
    pub packets: u64,
    /// Packets that decode without any before them.
    pub keyframes: u64,
    /// Start of the first packet, microseconds.
    pub first_us: i64,
    /// Start of the last packet, microseconds.
    pub last_us: i64,
    /// End of the last packet, microseconds.
    pub end_us: i64,
    /// The picture's size, and every change of it, as keyframes tell.
    pub sizes: Vec<PictureSize>,
}

impl StreamInfo {
    /// Width and height that hold all of its pictures; 0 of sound.
    #[must_use]
    pub fn largest(&self) -> (u32, u32) {
        let all = || self.sizes.iter();
        let width = all().map(|size| size.width).max().unwrap_or(0);
        (width, all().map(|size| size.height).max().unwrap_or(0))
    }
}

/// A chunk, and where on the track's timeline its media begin: what ties the timeline to the chunk's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The chunk.
    pub sequence: u64,
    /// Microseconds on the track's timeline.
    pub time_us: i64,
    /// Where the timeline has its zero by the chunk's clock, microseconds since the epoch.
    pub zero_us: i64,
}

/// What was assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// What the file holds.
    pub streams: Vec<StreamInfo>,
    /// What it does not hold, in order.
    pub gaps: Vec<Gap>,
    /// Spans whose times are estimates.
    pub estimates: Vec<Estimate>,
    /// The first chunk with a time; a timeline made of RTP has none.
    pub origin: Option<Origin>,
    /// Of every chunk with media, in order; a timeline made of RTP has none.
    pub readings: Vec<Reading>,
    /// End of the last packet, microseconds.
    pub duration_us: i64,
    /// Recorder sessions that were put one after the other.
    pub sessions: u64,
    /// Chunks read.
    pub chunks: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes of the file.
    pub bytes_out: u64,
}

/// Why nothing could be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The capture could not be read.
    #[error("cannot read chunk after {after:?}")]
    Read {
        /// The last sequence that was read.
        after: Option<u64>,
        /// What reading failed with.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("cannot write the assembled file")]
    Write(#[from] io::Error),
    /// The source broke its promise of order.
    #[error("chunk {found} came after chunk {after}")]
    OutOfOrder {
        /// The sequence before.
        after: u64,
        /// The sequence that does not follow it.
        found: u64,
    },
    /// A chunk is larger than any that uploads accept.
    #[error("chunk {sequence} has {bytes} bytes, more than {MAX_CHUNK_BYTES}")]
    ChunkTooLarge {
        /// Which chunk.
        sequence: u64,
        /// Its size.
        bytes: usize,
    },
    /// All that there is lies in pauses.
    #[error("all of it lies in pauses")]
    AllPaused,
    /// There are chunks, but nothing in them is media that a file can hold.
    #[error("no media in {chunks} chunks: {detail}")]
    NoMedia {
        /// How many chunks were read.
        chunks: u64,
        /// What was found instead.
        detail: &'static str,
    },
}

/// Assembles the chunks of one track into a Matroska file.
///
/// # Errors
/// [`AssembleError`]: the capture or the output failed, or there is no media in the chunks at all. Media that is missing or
/// damaged in part is no error but a [`Gap`].
pub fn assemble<W: Write + Seek>(
    source: &mut dyn ChunkSource,
    plan: &Plan,
    out: W,
) -> Result<Assembled, AssembleError> {
    let mut assembly = Assembly::new(out, plan);
    let mut last = None;
    while let Some(chunk) =
        source.next_chunk().map_err(|source| AssembleError::Read { after: last, source })?
    {
        if let Some(after) = last.filter(|last| *last >= chunk.sequence) {
            return Err(AssembleError::OutOfOrder { after, found: chunk.sequence });
        }
        if chunk.bytes.len() > MAX_CHUNK_BYTES {
            return Err(AssembleError::ChunkTooLarge { sequence: chunk.sequence, bytes: chunk.bytes.len() });
        }
        if chunk.sequence != last.map_or(0, |last| last + 1) {
            assembly.hole(GapReason::MissingChunk)?;
        }
        last = Some(chunk.sequence);
        assembly.chunk(&chunk)?;
    }
    assembly.finish(last)
}
