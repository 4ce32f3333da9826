//! One track of the capture becomes one clean Matroska file in the attempt's folder, or is found to hold no media.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use shared::capture::{ChunkRef, ReadError, TrackReader};
use shared::db::tracks::Shown;
use shared::id::{TrackId, UserId};
use shared::recording::Recording;
use shared::spool::Spool;
use shared::track::{Gap, GapReason, Track, TrackKind, TrackSource};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::pauses::{self, Nowhere};
use crate::assemble::{
    self, AssembleError, Assembled, Chunk, ChunkSource, Codec, Kind, Origin, Plan, Span, StreamInfo,
};
use crate::ctx::Ctx;
use crate::media::{Turn, codec_name};

/// A browser's clock is right to this much.
pub(super) const CLOCK_RIGHT_MS: i64 = 3_000;

/// Even the quickest chunk may take this long to come: over an uplink slower than the media, each waits for those before it.
const UPLOADS_TAKE_MS: i64 = 60_000;

/// The same where pauses are cut, which must not be cut elsewhere: a track's first chunk waits for none, and comes in less than this
/// over any uplink that a call is held over.
const FIRST_UPLOAD_TAKES_MS: i64 = 10_000;

/// Written at once to the assembled file.
const BUFFER: usize = 1 << 20;

/// What became of a track.
#[derive(Debug)]
pub(super) struct AssembledTrack {
    /// Which.
    pub(super) id: TrackId,
    /// Whose.
    pub(super) participant: UserId,
    /// Who captured it.
    pub(super) source: TrackSource,
    /// What it shows.
    pub(super) kind: TrackKind,
    /// Name of its file in the attempt's folder; `None` when there is no media in it.
    pub(super) file: Option<String>,
    /// Its streams that hold anything: which of the file's it is, and its codec. A recorder may announce a stream that never
    /// comes.
    pub(super) streams: Vec<(usize, Codec)>,
    /// For each stream of the file, its `CodecDelay` in milliseconds.
    pub(super) delays_ms: Vec<u64>,
    /// For each stream of the file, width and height that hold all of its pictures.
    pub(super) sizes: Vec<(u32, u32)>,
    /// The codecs as the API names them; `None` when there is no media in it.
    pub(super) codec: Option<String>,
    /// Pictures that decode without any before them.
    pub(super) keyframes: u64,
    /// Where its file's zero lies, milliseconds since the epoch, by the client's clock or else by arrival.
    pub(super) began_ms: i64,
    /// The same by the edge's clock, as far as arrivals tell: it was no later. Of the edge's own, when it began.
    pub(super) arrived_ms: i64,
    /// By how much the edge's clock is ahead of the browser's, as the chunk tells that came quickest; 0 of the edge's own.
    pub(super) clock_off_ms: i64,
    /// By how much the edge's clock is ahead of the one that `began_ms` is by, as its pauses were cut; 0 of the edge's own.
    pub(super) ahead_ms: i64,
    /// Its length in milliseconds.
    pub(super) duration_ms: u64,
    /// When its last packet begins, milliseconds.
    pub(super) last_ms: u64,
    /// How its pictures must be turned.
    pub(super) turn: Turn,
    /// What is missing from it.
    pub(super) gaps: Vec<Gap>,
}

impl AssembledTrack {
    /// What assembling it has shown, for its row.
    pub(super) fn shown(&self) -> Shown {
        let (codec, gaps) = (self.codec.clone(), self.gaps.clone());
        Shown { track: self.id.clone(), codec, duration_ms: self.duration_ms, gaps }
    }

    /// Whether it has media, and all of it lies in pauses.
    pub(super) fn is_all_paused(&self) -> bool {
        let is_paused = |gap: &Gap| gap.reason == GapReason::Paused;
        self.file.is_none() && !self.gaps.is_empty() && self.gaps.iter().all(is_paused)
    }

    /// Leaves its pictures out of the participant's file; without sound, all of it.
    pub(super) fn keep_sound_alone(&mut self) {
        self.streams.retain(|(_, codec)| codec.kind() == Kind::Audio);
        self.keyframes = 0;
        self.turn = Turn::None;
        if self.streams.is_empty() {
            self.file = None;
        }
    }
}

/// Assembles a track into `folder`.
///
/// # Errors
/// When the capture cannot be read or the file cannot be written.
pub(super) async fn assemble(
    ctx: &Ctx,
    recording: &Recording,
    track: &Track,
    paused: &[Span],
    folder: &Path,
    cancel: &CancellationToken,
) -> anyhow::Result<AssembledTrack> {
    let paused = paused.to_vec();
    let since_ms = recording.started_at.timestamp_millis();
    let (spool, folder, wanted, cancel) =
        (ctx.spool.clone(), folder.to_owned(), track.clone(), cancel.clone());
    let done =
        ctx.blocking(move || assemble_blocking(&spool, &wanted, since_ms, &paused, &folder, cancel)).await?;
    ctx.metrics.assembled(track.bytes);
    Ok(done)
}

fn assemble_blocking(
    spool: &Spool,
    track: &Track,
    since_ms: i64,
    paused: &[Span],
    folder: &Path,
    cancel: CancellationToken,
) -> anyhow::Result<AssembledTrack> {
    let reader = TrackReader::open(spool, &track.recording, &track.id)?;
    for span in reader.damaged() {
        warn!(track.id = %track.id, "capture of track {} is damaged: {span:?}", track.id);
    }
    let stamped: Vec<Stamped> = reader.chunks().iter().filter_map(Stamped::of).collect();
    let last_sequence = reader.last_sequence().or(track.last_sequence);
    let mut plan = Plan { last_sequence, ..Plan::default() };
    let mut source = Source { reader, next: 0, cancel };
    let ahead_ms = if paused.is_empty() { 0 } else { ahead_ms(track, &stamped) };
    if !paused.is_empty() {
        match assemble::assemble(&mut source, &plan, Nowhere::default()) {
            Ok(Assembled { origin: Some(origin), readings, .. }) => {
                plan.zero_us = origin.zero_us;
                plan.pauses = pauses::by_the_browsers_clock(paused, ahead_ms, &readings);
            }
            Ok(_) | Err(AssembleError::NoMedia { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        source.next = 0;
    }
    let name = format!("{}.mkv", track.id);
    let out = BufWriter::with_capacity(BUFFER, File::create(folder.join(&name))?);
    match assemble::assemble(&mut source, &plan, out) {
        Ok(assembled) => {
            let Began { told_ms, arrived_ms } = Began::of(track, &source.reader, assembled.origin);
            let clock_off_ms = clock_off_ms(&stamped, ms(assembled.duration_us));
            let usable = usable(track, name, told_ms, &assembled);
            Ok(AssembledTrack { arrived_ms, clock_off_ms, ahead_ms, ..usable })
        }
        Err(AssembleError::NoMedia { detail, .. }) => {
            warn!(track.id = %track.id, "track {} holds no media: {detail}", track.id);
            Ok(unusable(track, since_ms, &source.reader))
        }
        Err(AssembleError::AllPaused) => Ok(all_paused(track, since_ms)),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn usable(track: &Track, file: String, began_ms: i64, assembled: &Assembled) -> AssembledTrack {
    let found = assembled.streams.iter().enumerate().filter(|(_, stream)| stream.packets > 0);
    let streams: Vec<(usize, Codec)> = found.map(|(n, stream)| (n, stream.codec)).collect();
    let names: Vec<&str> = streams.iter().map(|(_, codec)| codec_name(*codec)).collect();
    let videos = assembled.streams.iter().filter(|stream| stream.kind == Kind::Video);
    let keyframes = videos.map(|stream| stream.keyframes);
    AssembledTrack {
        id: track.id.clone(),
        participant: track.participant.clone(),
        source: track.source,
        kind: track.kind,
        file: Some(file),
        codec: (!names.is_empty()).then(|| names.join(",")),
        streams,
        delays_ms: assembled.streams.iter().map(|stream| (stream.codec_delay_us + 500) / 1_000).collect(),
        sizes: assembled.streams.iter().map(StreamInfo::largest).collect(),
        keyframes: keyframes.sum(),
        began_ms,
        arrived_ms: began_ms,
        clock_off_ms: 0,
        ahead_ms: 0,
        duration_ms: ms(assembled.duration_us),
        last_ms: ms(assembled.streams.iter().map(|stream| stream.last_us).max().unwrap_or(0)),
        turn: Turn::None,
        gaps: assembled.gaps.iter().map(gap).collect(),
    }
}

/// Nothing of the track can be played: all of it is a gap, as long as its uploads took. Of a lone blob that tells no time of its
/// own it is known that it was made after the recording began and before it came; so it is missing between the two. A time of
/// its own is by the browser's clock, and believed between the same two.
fn unusable(track: &Track, since_ms: i64, reader: &TrackReader) -> AssembledTrack {
    let Began { told_ms, arrived_ms } = Began::of(track, reader, None);
    let began_ms = told_ms.max(since_ms).min(arrived_ms);
    let last_ms = reader.chunks().last().map_or(began_ms, |chunk| chunk.arrival().timestamp_millis());
    let began_ms = if last_ms > began_ms { began_ms } else { since_ms.min(last_ms) };
    // What came in the millisecond in which the recording began is told too.
    empty(track, began_ms, u64::try_from(last_ms - began_ms).unwrap_or(0).max(1), GapReason::Corrupt)
}

/// A track of which nothing can be played.
pub(super) fn empty(track: &Track, began_ms: i64, duration_ms: u64, reason: GapReason) -> AssembledTrack {
    AssembledTrack {
        id: track.id.clone(),
        participant: track.participant.clone(),
        source: track.source,
        kind: track.kind,
        file: None,
        streams: Vec::new(),
        delays_ms: Vec::new(),
        sizes: Vec::new(),
        codec: None,
        keyframes: 0,
        began_ms,
        arrived_ms: began_ms,
        clock_off_ms: 0,
        ahead_ms: 0,
        duration_ms,
        last_ms: 0,
        turn: Turn::None,
        gaps: if duration_ms > 0 { vec![Gap { from: 0, to: duration_ms, reason }] } else { Vec::new() },
    }
}

/// A track of which all lies in pauses: nothing is missing from it.
pub(super) fn all_paused(track: &Track, began_ms: i64) -> AssembledTrack {
    let seam = Gap { from: 0, to: 0, reason: GapReason::Paused };
    AssembledTrack { gaps: vec![seam], ..empty(track, began_ms, 0, GapReason::Paused) }
}

fn gap(gap: &assemble::Gap) -> Gap {
    Gap { from: ms(gap.from_us), to: ms(gap.to_us), reason: reason(gap.reason) }
}

/// The reason as the API names it.
pub(super) fn reason(reason: assemble::GapReason) -> GapReason {
    match reason {
        assemble::GapReason::MissingChunk => GapReason::MissingChunk,
        assemble::GapReason::Corrupt => GapReason::Corrupt,
        assemble::GapReason::Disconnected => GapReason::Disconnected,
        assemble::GapReason::PacketLoss => GapReason::PacketLoss,
        assemble::GapReason::Muted => GapReason::Muted,
        assemble::GapReason::Paused => GapReason::Paused,
        assemble::GapReason::Disk => GapReason::Disk,
    }
}

/// To the nearest millisecond.
pub(super) fn ms(us: i64) -> u64 {
    u64::try_from((us + 500) / 1000).unwrap_or(0)
}

/// Where a track's timeline begins, milliseconds since the epoch.
struct Began {
    /// By the browser's clock, or else by arrival.
    told_ms: i64,
    /// By arrival: no earlier than it did.
    arrived_ms: i64,
}

impl Began {
    /// As the chunk tells that ties the timeline to the clocks; without one, the first.
    fn of(track: &Track, reader: &TrackReader, origin: Option<Origin>) -> Self {
        let named = |origin: Origin| reader.chunks().iter().find(|chunk| chunk.sequence() == origin.sequence);
        let chunk = origin.and_then(named).or(reader.chunks().first());
        let into_ms = origin.map_or(0, |origin| (origin.time_us + 500) / 1_000);
        let arrived_ms = chunk.map_or(track.started_at, ChunkRef::arrival).timestamp_millis();
        let told_ms = chunk.and_then(ChunkRef::client_timestamp_ms).unwrap_or(arrived_ms);
        Self { told_ms: told_ms.saturating_sub(into_ms), arrived_ms: arrived_ms.saturating_sub(into_ms) }
    }
}

/// A chunk by both clocks, milliseconds since the epoch.
struct Stamped {
    sequence: u64,
    /// When its media began, by the browser's.
    told_ms: i64,
    /// When it came, by the edge's.
    arrival_ms: i64,
}

impl Stamped {
    fn of(chunk: &ChunkRef) -> Option<Self> {
        let told_ms = chunk.client_timestamp_ms()?;
        Some(Self { sequence: chunk.sequence(), told_ms, arrival_ms: chunk.arrival().timestamp_millis() })
    }
}

/// By how much the edge's clock is ahead of the browser's. A chunk comes when its media end and later by what uploading takes,
/// so it is the least of all chunks' arrival less begin, less the usual chunk's length; of a lone chunk, less the track's.
fn clock_off_ms(chunks: &[Stamped], duration_ms: u64) -> i64 {
    let delays = chunks.iter().map(|chunk| chunk.arrival_ms.saturating_sub(chunk.told_ms));
    let follow = chunks.windows(2).filter(|pair| pair[0].sequence + 1 == pair[1].sequence);
    let mut lengths: Vec<i64> = follow.map(|pair| pair[1].told_ms.saturating_sub(pair[0].told_ms)).collect();
    lengths.sort_unstable();
    let alone = i64::try_from(duration_ms).unwrap_or(i64::MAX);
    let length = lengths.get(lengths.len() / 2).copied().unwrap_or(alone);
    delays.min().map_or(0, |least| least.saturating_sub(length))
}

/// What of an offset is the clock's for sure: no chunk comes before its media end, while all of them may come late.
pub(super) fn surely_off(off_ms: i64) -> i64 {
    beyond(off_ms, UPLOADS_TAKE_MS)
}

/// What of an offset uploads cannot explain that take as long as is said.
fn beyond(off_ms: i64, uploads_take_ms: i64) -> i64 {
    if (-CLOCK_RIGHT_MS..=uploads_take_ms).contains(&off_ms) { 0 } else { off_ms }
}

/// By how much the edge's clock is ahead of the browser's, for its pauses; a lone chunk does not tell.
fn ahead_ms(track: &Track, chunks: &[Stamped]) -> i64 {
    let off_ms = if chunks.len() > 1 { clock_off_ms(chunks, 0) } else { 0 };
    let ahead_ms = beyond(off_ms, FIRST_UPLOAD_TAKES_MS);
    if off_ms.saturating_abs() > CLOCK_RIGHT_MS {
        warn!(
            track.id = %track.id,
            "track {} came {off_ms} ms behind its browser's clock: its pauses are cut {ahead_ms} ms off that", track.id
        );
    }
    ahead_ms
}

/// The capture as the assembly reads it: one chunk in memory at a time.
struct Source {
    reader: TrackReader,
    next: usize,
    cancel: CancellationToken,
}

impl ChunkSource for Source {
    fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        while let Some(at) = self.reader.chunks().get(self.next).copied() {
            self.next += 1;
            let bytes = match self.reader.read(&at) {
                Ok(bytes) => bytes,
                Err(ReadError::Damaged(sequence)) => {
                    // Its CRC is wrong: left out like one that never came, and told as a gap.
                    warn!("chunk {sequence} is damaged in the spool and left out");
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            return Ok(Some(Chunk {
                sequence: at.sequence(),
                timestamp_ms: at.client_timestamp_ms(),
                arrival_ms: at.arrival().timestamp_millis(),
                bytes,
            }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of a second whose browser's clock is an hour slow; each takes as long to upload as is said.
    fn slow(uploads_ms: &[i64]) -> Vec<Stamped> {
        let stamped = |(n, upload_ms): (u64, &i64)| {
            let told_ms = 1_000 * n.cast_signed();
            Stamped { sequence: n, told_ms, arrival_ms: told_ms + 3_600_000 + 1_000 + upload_ms }
        };
        (0..).zip(uploads_ms).map(stamped).collect()
    }

    #[test]
    fn the_chunk_that_came_quickest_tells_how_far_a_clock_is_off() {
        assert_eq!(clock_off_ms(&slow(&[40_000, 30_000, 90, 80, 5_000]), 5_000), 3_600_080);
        let mut reloaded = slow(&[90, 90, 90, 90, 90]);
        for chunk in &mut reloaded[3..] {
            chunk.told_ms += 60_000;
            chunk.arrival_ms += 60_000;
        }
        assert_eq!(clock_off_ms(&reloaded, 65_000), 3_600_090, "a pause is no chunk's length");
    }

    #[test]
    fn pauses_are_cut_by_a_clock_that_is_off_by_more_than_a_first_upload_takes() {
        for (off_ms, ahead_ms) in [(-3_600_000, -3_600_000), (-2_000, 0), (6_000, 0), (20_000, 20_000)] {
            assert_eq!(beyond(off_ms, FIRST_UPLOAD_TAKES_MS), ahead_ms);
        }
    }

    #[test]
    fn a_lone_chunk_is_as_long_as_its_track_and_none_tells_nothing() {
        let minute = [Stamped { sequence: 0, told_ms: 0, arrival_ms: 60_200 }];
        assert_eq!((clock_off_ms(&minute, 60_000), clock_off_ms(&[], 60_000)), (200, 0));
    }
}
