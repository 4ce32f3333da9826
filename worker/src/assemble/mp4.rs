//! Reads a session of fragmented MP4 blobs: `moof` and `mdat` across blobs, holes, cuts and rubbish (ISO 14496-12).
//!
//! A fragment times itself (`tfdt`), so a hole needs no arithmetic, only the next `moof`. A fragment that was cut gives the
//! samples that are there. Without its first blob a session has no time scales and no parameter sets: fragments are held
//! until their payloads have told what they are (see `guess`). Knows no other container.

mod boxes;
mod fragment;
mod guess;
mod movie;

use std::io::{self, Seek, Write};

use self::boxes::{Box4, Kind4};
use self::fragment::Sample;
use self::movie::Track;
use super::GapReason;
use super::clock::{Clock, Stamp};
use super::codec::{Codec, Marked};
use super::matroska::{Head, Tail};
use super::timeline::{Frame, Timeline};

/// The largest fragment: 5 s between keyframes at 50 Mb/s.
const MAX_FRAGMENT: usize = 32 * 1024 * 1024;

/// The largest `moov` or `moof`; browsers write 2 KiB.
const MAX_HEAD: usize = 4 * 1024 * 1024;

/// Payload held at most while a session without a head is being guessed.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

/// Fragments held at most for the same.
const MAX_HELD: usize = 256;

/// A fragment may lie this far beyond the one before plus what the clocks of client and server explain.
const MAX_JUMP_US: i64 = 60_000_000;

/// A fragment may lie this far before the one before: of a torn one perhaps only the stream that was ahead is left.
const MAX_BACK_US: i64 = 10_000_000;

/// What one lost chunk may explain of a jump: an interval between keyframes that nobody exceeds.
const MAX_CHUNK_US: i64 = 60_000_000;

/// The longest session believed in.
const MAX_SESSION_US: i64 = 48 * 3_600 * 1_000_000;

/// A fragment's samples with the bytes that they point into.
struct Fragment {
    samples: Vec<Sample>,
    bytes: Vec<u8>,
    stamp: Stamp,
}

/// Reader of one session.
pub(super) struct Reader {
    window: Vec<u8>,
    hunting: bool,
    /// `None` while the head is lost.
    tracks: Option<Vec<Track>>,
    held: Vec<Fragment>,
    held_bytes: usize,
    holes: Vec<(usize, GapReason)>,
    stamp: Stamp,
    last: Option<(i64, Stamp)>,
    clock: Clock,
    why_empty: &'static str,
}

/// Whether boxes of a recording begin at the first byte.
pub(super) fn begins(blob: &[u8]) -> bool {
    boxes::begins(blob)
}

impl Reader {
    pub(super) fn new(head: Head, clock: Clock) -> Self {
        Self {
            window: Vec::new(),
            hunting: false,
            tracks: (head == Head::Present).then(Vec::new),
            held: Vec::new(),
            held_bytes: 0,
            holes: Vec::new(),
            stamp: Stamp::default(),
            last: None,
            clock,
            why_empty: "mp4 without a fragment that can be read",
        }
    }

    /// What the session's chunks and times have in common.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Why nothing came of it, when nothing did.
    pub(super) fn why_empty(&self) -> &'static str {
        self.why_empty
    }

    /// The next blob is missing: the fragment that was begun gives what it has, and the next one may start anywhere.
    pub(super) fn hole<W: Write + Seek>(
        &mut self,
        reason: GapReason,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        self.torn(sink)?;
        self.hunting = true;
        self.tell_hole(reason, sink);
        Ok(())
    }

    fn tell_hole<W: Write + Seek>(&mut self, reason: GapReason, sink: &mut Timeline<W>) {
        if self.held.is_empty() {
            sink.hole(reason);
        } else if self.holes.last().is_none_or(|(at, _)| *at < self.held.len()) {
            self.holes.push((self.held.len(), reason));
        }
    }

    /// Reads one blob.
    pub(super) fn push<W: Write + Seek>(
        &mut self,
        stamp: Stamp,
        blob: &[u8],
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        if blob.is_empty() {
            return Ok(());
        }
        if !self.hunting && boxes::ends_inside(&self.window) && boxes::begins(blob) {
            self.hole(GapReason::Corrupt, sink)?;
        }
        self.stamp = stamp;
        if self.hunting {
            let from = if boxes::begins(blob) { Some(0) } else { boxes::find_fragment(blob, 0) };
            let Some(from) = from else { return Ok(()) };
            self.hunting = false;
            self.window.extend_from_slice(blob.get(from..).unwrap_or_default());
        } else {
            self.window.extend_from_slice(blob);
        }
        self.read(sink)
    }

    /// The session ends: everything held is placed.
    pub(super) fn finish<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<Tail> {
        let torn = self.hunting || !self.window.is_empty();
        self.torn(sink)?;
        if self.tracks.is_none() {
            self.guess(sink, guess::Patience::Decide)?;
        }
        Ok(if torn { Tail::Torn } else { Tail::Whole })
    }

    /// Reads every whole box of the window.
    fn read<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        let mut window = std::mem::take(&mut self.window);
        let mut at = 0;
        while let Some(bytes) = window.get(at..).filter(|bytes| !bytes.is_empty()) {
            match self.next(bytes, sink)? {
                Some(0) => break,
                Some(len) => at += len,
                None => {
                    self.tell_hole(GapReason::Corrupt, sink);
                    match boxes::find_fragment(&window, at + 1) {
                        Some(found) => at = found,
                        None => {
                            self.hunting = true;
                            at = window.len();
                        }
                    }
                }
            }
        }
        window.drain(..at.min(window.len()));
        self.window = window;
        Ok(())
    }

    /// Reads the box, or the whole fragment, at the start: how many bytes it took (0: wait for more), `None` for rubbish.
    fn next<W: Write + Seek>(&mut self, bytes: &[u8], sink: &mut Timeline<W>) -> io::Result<Option<usize>> {
        let first = match boxes::read(bytes) {
            Kind4::Box(found) => found,
            Kind4::Incomplete => return Ok(Some(0)),
            Kind4::Invalid => return Ok(None),
        };
        match &first.name {
            b"moov" if first.size <= MAX_HEAD => {
                let Some(payload) = first.payload(bytes) else { return Ok(Some(0)) };
                self.movie(payload, sink);
                Ok(Some(first.size))
            }
            b"moof" if first.size <= MAX_HEAD => self.fragment(&first, bytes, sink),
            b"mdat" if first.size <= MAX_FRAGMENT => {
                self.why_empty = "mp4 whose samples are not in fragments, or whose fragment heads are lost";
                Ok(Some(if first.size <= bytes.len() { first.size } else { 0 }))
            }
            b"ftyp" | b"styp" | b"sidx" | b"free" | b"skip" | b"emsg" | b"prft" | b"mfra" | b"uuid"
            | b"meta"
                if first.size <= MAX_HEAD =>
            {
                Ok(Some(if first.size <= bytes.len() { first.size } else { 0 }))
            }
            _ => Ok(None),
        }
    }

    /// Reads a `moof` and the `mdat` after it, when both are whole.
    fn fragment<W: Write + Seek>(
        &mut self,
        moof: &Box4,
        bytes: &[u8],
        sink: &mut Timeline<W>,
    ) -> io::Result<Option<usize>> {
        let mut end = moof.size;
        loop {
            let after = match boxes::read(bytes.get(end..).unwrap_or_default()) {
                Kind4::Box(found) => found,
                Kind4::Incomplete => return Ok(Some(0)),
                Kind4::Invalid => return Ok(None),
            };
            if after.size > MAX_FRAGMENT || after.name == *b"moof" {
                return Ok(None);
            }
            end = end.saturating_add(after.size);
            if end > bytes.len() {
                return Ok(if end > MAX_FRAGMENT + MAX_HEAD { None } else { Some(0) });
            }
            if after.name == *b"mdat" {
                break;
            }
        }
        let whole = bytes.get(..end).unwrap_or_default();
        self.samples_of(whole, sink)?;
        Ok(Some(end))
    }

    /// Gives what is there of a fragment that was cut.
    fn torn<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        let window = std::mem::take(&mut self.window);
        if self.hunting || window.get(4..8) != Some(b"moof") {
            return Ok(());
        }
        self.samples_of(&window, sink)
    }

    /// Reads the samples of a fragment whose bytes are there.
    fn samples_of<W: Write + Seek>(&mut self, bytes: &[u8], sink: &mut Timeline<W>) -> io::Result<()> {
        let Kind4::Box(moof) = boxes::read(bytes) else { return Ok(()) };
        if self.tracks.as_ref().is_some_and(Vec::is_empty) {
            // The head was cut: what it would have told is guessed, as when its blob is lost.
            self.tell_hole(GapReason::Corrupt, sink);
            self.tracks = None;
        }
        let Some(payload) = moof.payload(bytes) else { return Ok(()) };
        let mut samples = fragment::samples(payload, moof.size, self.tracks.as_deref());
        samples.retain(|sample| sample.data(bytes).is_some_and(|data| !data.is_empty()));
        if samples.is_empty() {
            return Ok(());
        }
        if self.tracks.is_some() {
            return self.place(&mut samples, bytes, self.stamp, sink);
        }
        self.held_bytes += bytes.len();
        self.held.push(Fragment { samples, bytes: bytes.to_vec(), stamp: self.stamp });
        let full = self.held_bytes > MAX_HELD_BYTES || self.held.len() >= MAX_HELD;
        self.guess(sink, if full { guess::Patience::Decide } else { guess::Patience::Wait })
    }

    /// Hands a fragment's samples on in the order of their times.
    fn place<W: Write + Seek>(
        &mut self,
        samples: &mut [Sample],
        bytes: &[u8],
        stamp: Stamp,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        let Some(tracks) = self.tracks.as_ref() else { return Ok(()) };
        let track = |number: u64| tracks.iter().find(|track| track.number == number);
        samples
            .sort_by_key(|sample| track(sample.track).map_or(i64::MAX, |track| track.us(sample.decode_time)));
        let first = samples.iter().find_map(|sample| Some(track(sample.track)?.us(sample.decode_time)));
        let Some(first_us) = first else { return Ok(()) };
        if self.is_absurd(first_us, &stamp) {
            self.tell_hole(GapReason::Corrupt, sink);
            return Ok(());
        }
        if self.last.is_none_or(|(_, last)| last != stamp) {
            sink.begin_chunk();
        }
        self.last = Some((first_us, stamp));
        self.clock.learn(stamp, first_us);
        for sample in samples.iter() {
            let (Some(track), Some(data)) = (track(sample.track), sample.data(bytes)) else { continue };
            let time_us = track.us(sample.decode_time.saturating_add(sample.composition_offset));
            let duration_us = track.span_us(sample.duration);
            let marked = if sample.is_sync { Marked::Key } else { Marked::Delta };
            sink.frame(&Frame { track: sample.track, time_us, marked, duration_us, data, additions: &[] })?;
        }
        Ok(())
    }

    /// Whether a fragment's time lies beyond anything that the clocks explain.
    fn is_absurd(&self, us: i64, stamp: &Stamp) -> bool {
        let Some((last_us, last)) = self.last else { return !(-MAX_JUMP_US..=MAX_SESSION_US).contains(&us) };
        let lost = (stamp.sequence - last.sequence).saturating_mul(MAX_CHUNK_US);
        let explained = stamp.since(&last).clamp(0, MAX_SESSION_US).max(lost);
        us > last_us.saturating_add(explained).saturating_add(MAX_JUMP_US)
            || us < last_us - MAX_BACK_US
            || us > MAX_SESSION_US
    }

    fn movie<W: Write + Seek>(&mut self, payload: &[u8], sink: &mut Timeline<W>) {
        if self.tracks.as_ref().is_none_or(|tracks| !tracks.is_empty()) {
            return; // a second `moov` changes nothing
        }
        let (tracks, headers): (Vec<_>, Vec<_>) = movie::tracks(payload).into_iter().unzip();
        for (track, header) in tracks.iter().zip(headers) {
            match header {
                Some(header) => sink.track(track.number, header),
                None => sink.leave_out(track.number),
            }
        }
        self.tracks = Some(tracks);
    }

    /// Tries to tell the tracks of a session without a head, and places what was held when it is done.
    fn guess<W: Write + Seek>(
        &mut self,
        sink: &mut Timeline<W>,
        patience: guess::Patience,
    ) -> io::Result<()> {
        let Some(guessed) = guess::tracks(&self.held, &self.clock, patience) else { return Ok(()) };
        for (track, header) in &guessed {
            match header {
                Some(header) => sink.track(track.number, header.clone()),
                None => {
                    self.why_empty = "mp4 whose first chunk, which alone says how to decode it, is lost";
                    sink.leave_out(track.number);
                }
            }
        }
        let is_estimate = guessed.iter().any(|(track, _)| track.scale_is_estimate);
        self.tracks = Some(guessed.into_iter().map(|(track, _)| track).collect());
        let mut holes = std::mem::take(&mut self.holes).into_iter().peekable();
        for (at, mut fragment) in std::mem::take(&mut self.held).into_iter().enumerate() {
            while let Some((_, reason)) = holes.next_if(|(before, _)| *before <= at) {
                sink.hole(reason);
            }
            self.place(&mut fragment.samples, &fragment.bytes, fragment.stamp, sink)?;
        }
        for (_, reason) in holes {
            sink.hole(reason);
        }
        if is_estimate {
            sink.estimated(0, sink.session_end_us());
        }
        Ok(())
    }
}

/// The codec of a sample entry, by its four characters.
fn codec_of(name: [u8; 4]) -> Option<Codec> {
    match &name {
        b"avc1" | b"avc3" => Some(Codec::H264),
        b"vp08" => Some(Codec::Vp8),
        b"vp09" => Some(Codec::Vp9),
        b"av01" => Some(Codec::Av1),
        b"Opus" => Some(Codec::Opus),
        b"mp4a" => Some(Codec::Aac),
        _ => None,
    }
}
