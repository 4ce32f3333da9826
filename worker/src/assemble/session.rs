//! One recorder session: which container its blobs hold, and the reader for it. Believes bytes, never a mime type.

use std::io::{self, Seek, Write};

use super::GapReason;
use super::clock::{Clock, Stamp};
use super::matroska::{self, Head, Tail};
use super::mp4;
use super::resync;
use super::timeline::Timeline;

/// The reader of the current session.
pub(super) enum Reader {
    Matroska(Box<matroska::Reader>),
    Mp4(Box<mp4::Reader>),
}

/// What a blob turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Matroska(Head),
    Mp4(Head),
}

impl Found {
    pub(super) fn is_mp4(self) -> bool {
        matches!(self, Self::Mp4(_))
    }

    pub(super) fn has_head(self) -> bool {
        matches!(self, Self::Matroska(Head::Present) | Self::Mp4(Head::Present))
    }

    pub(super) fn reader(self, clock: Clock) -> Reader {
        match self {
            Self::Matroska(head) => Reader::Matroska(Box::new(matroska::Reader::new(head, clock))),
            Self::Mp4(head) => Reader::Mp4(Box::new(mp4::Reader::new(head, clock))),
        }
    }
}

/// How every Matroska file begins (RFC 8794, section 11.2.1).
const EBML_MAGIC: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];

/// How far the document type may be from the start; browsers put it within 32 bytes.
const DOC_TYPE_WITHIN: usize = 64;

/// Whether these are the first bytes of a session's head, and the rest is still to come: when no frame is ready at the end
/// of the first timeslice, Chromium's first blob is the single byte `1A` (measured).
pub(super) fn is_torn_head(bytes: &[u8]) -> bool {
    let begins = if bytes.len() < EBML_MAGIC.len() {
        !bytes.is_empty() && EBML_MAGIC.starts_with(bytes)
    } else {
        bytes.starts_with(&EBML_MAGIC)
    };
    begins && bytes.len() < DOC_TYPE_WITHIN && recognise(bytes).is_none()
}

/// What a lost blob kept of the head that this one goes on with.
pub(super) fn mend_head(blob: &[u8]) -> &'static [u8] {
    const KEPT: &[u8] = &[0x1A];
    let goes_on = EBML_MAGIC.strip_prefix(KEPT).is_some_and(|rest| blob.starts_with(rest));
    if goes_on && names_a_type(blob) { KEPT } else { &[] }
}

fn names_a_type(blob: &[u8]) -> bool {
    let begin = blob.get(..blob.len().min(DOC_TYPE_WITHIN)).unwrap_or_default();
    let names = |wanted: &[u8]| begin.windows(wanted.len()).any(|part| part == wanted);
    names(b"webm") || names(b"matroska")
}

/// Recognises the first blob of a session by its magic bytes.
pub(super) fn recognise(blob: &[u8]) -> Option<Found> {
    if blob.starts_with(&EBML_MAGIC) {
        return names_a_type(blob).then_some(Found::Matroska(Head::Present));
    }
    (blob.get(4..8) == Some(b"ftyp")).then_some(Found::Mp4(Head::Present))
}

/// Recognises a later blob of a session whose first is lost.
pub(super) fn recognise_headless(blob: &[u8]) -> Option<Found> {
    if mp4::begins(blob) {
        // Chromium may put `ftyp` into a blob of its own; `moov` is what tells of the tracks.
        let head = if blob.get(4..8) == Some(b"moov") { Head::Present } else { Head::Lost };
        return Some(Found::Mp4(head));
    }
    let lost = resync::Numbers::Lost;
    let found = resync::prefix(blob, lost).is_some() || resync::find(blob, 1, lost).is_some();
    found.then_some(Found::Matroska(Head::Lost))
}

impl Reader {
    pub(super) fn hole<W: Write + Seek>(
        &mut self,
        reason: GapReason,
        timeline: &mut Timeline<W>,
    ) -> io::Result<()> {
        match self {
            Self::Matroska(reader) => reader.hole(reason, timeline),
            Self::Mp4(reader) => reader.hole(reason, timeline),
        }
    }

    pub(super) fn push<W: Write + Seek>(
        &mut self,
        stamp: Stamp,
        blob: &[u8],
        timeline: &mut Timeline<W>,
    ) -> io::Result<()> {
        match self {
            Self::Matroska(reader) => reader.push(stamp, blob, timeline),
            Self::Mp4(reader) => reader.push(stamp, blob, timeline),
        }
    }

    pub(super) fn finish<W: Write + Seek>(&mut self, timeline: &mut Timeline<W>) -> io::Result<Tail> {
        match self {
            Self::Matroska(reader) => reader.finish(timeline),
            Self::Mp4(reader) => reader.finish(timeline),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        match self {
            Self::Matroska(reader) => reader.clock(),
            Self::Mp4(reader) => reader.clock(),
        }
    }

    pub(super) fn why_empty(&self) -> &'static str {
        match self {
            Self::Matroska(_) => "matroska without a block of a known codec",
            Self::Mp4(reader) => reader.why_empty(),
        }
    }
}
