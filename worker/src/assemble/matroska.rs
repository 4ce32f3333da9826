//! Reads a session of Matroska or WebM blobs: elements across blobs, holes, cuts and rubbish.
//!
//! A window holds what is not read yet: the blob at hand and the few bytes of an element that the one before ended in.
//! An element is read when all of it is there. Whether a blob goes on where the one before stopped is never taken on
//! trust: a blob whose tail was cut looks just like one that was torn inside an element. Knows no other container, and
//! leaves times to the placer.

mod block;
mod header;
mod placer;

use std::io::{self, Seek, Write};

use self::header::Muxer;
use self::placer::Placer;
use super::GapReason;
use super::clock::{Clock, Stamp};
use super::ebml::{self, Header, Parsed, id};
use super::resync::{self, MAX_BLOCK, Numbers};
use super::timeline::Timeline;

/// The largest `Info` or `Tracks`; browsers write 200 bytes.
const MAX_HEAD: u64 = 64 * 1024;

/// A block's header with its size in four bytes is longer than this.
const SIZE_IN_FOUR: usize = 4;

/// The smallest size that needs four bytes (RFC 8794, section 4).
const NEEDS_FOUR: usize = (1 << 21) - 1;

/// Whether a session's first bytes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Present,
    Lost,
}

/// Reader of one session.
pub(super) struct Reader {
    window: Vec<u8>,
    /// Bytes of an element of no interest that are still to come.
    skip: u64,
    /// Element boundaries are lost: the next ones are to be found.
    hunting: bool,
    scale_ns: i64,
    numbers: Option<Vec<u64>>,
    head: Head,
    placer: Placer,
}

/// What became of the bytes at a position.
enum Step {
    Next(usize),
    Wait,
    Bad,
}

impl Reader {
    pub(super) fn new(head: Head, clock: Clock) -> Self {
        let (tracks, hunting) = match head {
            Head::Present => (Some(Vec::new()), false),
            Head::Lost => (None, true),
        };
        Self {
            window: Vec::new(),
            skip: 0,
            hunting,
            scale_ns: 1_000_000,
            numbers: None,
            head,
            placer: Placer::new(tracks, clock),
        }
    }

    /// What the session's chunks and times have in common.
    pub(super) fn clock(&self) -> &Clock {
        &self.placer.clock
    }

    /// The next blob is missing: what was begun is lost, and the one after starts anywhere.
    pub(super) fn hole<W: Write + Seek>(
        &mut self,
        reason: GapReason,
        sink: &mut Timeline<W>,
    ) -> io::Result<()> {
        self.lose_head();
        self.salvage(sink)?;
        self.window.clear();
        self.skip = 0;
        self.hunting = true;
        self.placer.hole(reason, sink)
    }

    /// A head that was cut before it told of the tracks is as good as lost.
    fn lose_head(&mut self) {
        if self.head == Head::Present && self.numbers.is_none() {
            self.head = Head::Lost;
            self.placer.tracks_are_lost();
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
        if !self.hunting && !self.goes_on(blob) {
            self.hole(GapReason::Corrupt, sink)?;
        }
        self.placer.begin_chunk(stamp);
        sink.begin_chunk();
        if self.hunting {
            let Some(prefix) = self.start_of(blob) else { return Ok(()) };
            self.window.clear();
            self.window.extend_from_slice(prefix.0);
            self.window.extend_from_slice(blob.get(prefix.1..).unwrap_or_default());
            self.hunting = false;
        } else {
            self.window.extend_from_slice(blob);
        }
        self.read(sink)
    }

    /// The session ends: everything held is placed. Says whether an element was cut.
    pub(super) fn finish<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<Tail> {
        let torn = matches!(ebml::header(&self.window), Parsed::Element(_)) || self.skip > 0;
        self.salvage(sink)?;
        self.window.clear();
        self.placer.finish(sink)?;
        Ok(if torn || self.hunting { Tail::Torn } else { Tail::Whole })
    }

    fn numbers(&self) -> Numbers<'_> {
        self.numbers.as_deref().map_or(Numbers::Lost, Numbers::Known)
    }

    /// Where elements begin in a blob of which nothing is known: bytes to put before it, or how many to leave out.
    fn start_of(&self, blob: &[u8]) -> Option<(&'static [u8], usize)> {
        if let Some(prefix) = resync::prefix(blob, self.numbers()) {
            return Some((prefix, 0));
        }
        resync::find(blob, 1, self.numbers()).map(|at| (&[][..], at))
    }

    /// Whether the blob goes on where the window stops.
    fn goes_on(&self, blob: &[u8]) -> bool {
        if self.skip > 0 {
            return resync::prefix(blob, self.numbers()).is_none();
        }
        match ebml::header(&self.window) {
            Parsed::Incomplete => self.header_goes_on(blob),
            Parsed::Invalid => false,
            Parsed::Element(head) => {
                if resync::prefix(blob, self.numbers()).is_some() {
                    return false; // a blob that makes sense by itself is no element's tail
                }
                let end = head.size.and_then(|size| usize::try_from(size).ok()?.checked_add(head.len));
                let rest = end.and_then(|end| blob.get(end.checked_sub(self.window.len())?..));
                rest.is_none_or(|rest| resync::may_begin(rest, self.numbers()))
            }
        }
    }

    /// Whether the blob completes a header of which the window holds the first bytes, possibly none.
    fn header_goes_on(&self, blob: &[u8]) -> bool {
        if self.window.is_empty() {
            return true; // if it does not make sense, reading will tell
        }
        let prefix = resync::prefix(blob, self.numbers());
        prefix.is_none_or(|prefix| prefix == self.window.as_slice()) || {
            let mut joined = self.window.clone();
            joined.extend_from_slice(blob.get(..blob.len().min(256 * 1024)).unwrap_or_default());
            resync::may_begin(&joined, self.numbers())
        }
    }

    /// Reads every whole element of the window.
    fn read<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        let window = std::mem::take(&mut self.window);
        let mut at = 0;
        while at < window.len() {
            let bytes = window.get(at..).unwrap_or_default();
            if self.skip > 0 {
                let step = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= step as u64;
                at += step;
                continue;
            }
            match self.element(bytes, sink)? {
                Step::Next(len) => at += len.max(1),
                Step::Wait => break,
                Step::Bad => {
                    self.placer.hole(GapReason::Corrupt, sink)?;
                    let prefix = if at == 0 { resync::prefix(bytes, self.numbers()) } else { None };
                    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
                        self.window = [prefix, &window].concat();
                        return self.read(sink);
                    }
                    match resync::find(&window, at + 1, self.numbers()) {
                        Some(found) => at = found,
                        None => {
                            self.hunting = true;
                            at = window.len();
                        }
                    }
                }
            }
        }
        self.window = window;
        self.window.drain(..at.min(self.window.len()));
        Ok(())
    }

    /// Looks for whole elements inside one that was cut: a size that lied hides what follows it.
    fn salvage<W: Write + Seek>(&mut self, sink: &mut Timeline<W>) -> io::Result<()> {
        if self.hunting || self.skip > 0 {
            return Ok(());
        }
        while let Some(found) = resync::find(&self.window, 1, self.numbers()) {
            self.placer.hole(GapReason::Corrupt, sink)?;
            self.window.drain(..found);
            self.read(sink)?;
            if self.hunting {
                break;
            }
        }
        Ok(())
    }

    fn element<W: Write + Seek>(&mut self, bytes: &[u8], sink: &mut Timeline<W>) -> io::Result<Step> {
        let head = match ebml::header(bytes) {
            Parsed::Element(head) => head,
            Parsed::Incomplete => return Ok(Step::Wait),
            Parsed::Invalid => return Ok(Step::Bad),
        };
        match head.id {
            id::SEGMENT => return Ok(Step::Next(head.len)),
            id::CLUSTER => {
                self.placer.cluster();
                return Ok(Step::Next(head.len));
            }
            id::EBML
            | id::SEEK_HEAD
            | id::CUES
            | id::TAGS
            | id::CHAPTERS
            | id::ATTACHMENTS
            | id::VOID
            | id::CRC_32
            | id::POSITION
            | id::PREV_SIZE => return Ok(self.pass_over(head)),
            _ => {}
        }
        let limit = match head.id {
            id::TIMESTAMP => 8,
            id::INFO | id::TRACKS => MAX_HEAD,
            id::SIMPLE_BLOCK | id::BLOCK_GROUP => MAX_BLOCK,
            _ => return Ok(Step::Bad),
        };
        let Some(size) = head.size.filter(|size| *size <= limit) else { return Ok(Step::Bad) };
        let end = head.len + usize::try_from(size).unwrap_or(usize::MAX - 16);
        let Some(payload) = bytes.get(head.len..end) else { return Ok(self.unfinished(head, bytes)) };
        let good = self.whole(head, payload, sink)?;
        Ok(if good { Step::Next(end) } else { Step::Bad })
    }

    fn pass_over(&mut self, head: Header) -> Step {
        match head.size {
            Some(size) if size <= MAX_BLOCK => {
                self.skip = size;
                Step::Next(head.len)
            }
            _ => Step::Bad,
        }
    }

    /// An element that ends beyond the window is waited for, if its first bytes make sense.
    fn unfinished(&self, head: Header, bytes: &[u8]) -> Step {
        let payload = bytes.get(head.len..).unwrap_or_default();
        let fits = head.id != id::SIMPLE_BLOCK
            || resync::block_fits(payload, head.size.unwrap_or(0), self.numbers(), 0x70);
        if fits { Step::Wait } else { Step::Bad }
    }

    /// Reads a whole element; false when it makes no sense.
    fn whole<W: Write + Seek>(
        &mut self,
        head: Header,
        payload: &[u8],
        sink: &mut Timeline<W>,
    ) -> io::Result<bool> {
        match head.id {
            id::TIMESTAMP => {
                let ticks = i64::try_from(ebml::uint(payload)).unwrap_or(i64::MAX);
                self.placer.timestamp(ticks.saturating_mul(self.scale_ns) / 1_000, sink)?;
                return Ok(true);
            }
            id::INFO => {
                self.scale_ns = i64::try_from(header::timestamp_scale(payload)).unwrap_or(1_000_000);
                return Ok(true);
            }
            id::TRACKS => {
                self.tracks(payload, sink);
                return Ok(true);
            }
            _ => {}
        }
        let reserved = if head.id == id::SIMPLE_BLOCK { 0x70 } else { 0 };
        if reserved != 0 && !resync::block_fits(payload, payload.len() as u64, self.numbers(), reserved) {
            return Ok(false);
        }
        let block = if head.id == id::SIMPLE_BLOCK { block::simple(payload) } else { block::group(payload) };
        let Some(block) = block else { return Ok(false) };
        self.lose_head();
        if self.head == Head::Lost && head.len > SIZE_IN_FOUR && payload.len() < NEEDS_FOUR {
            self.placer.muxer_is(Muxer::Padded);
        }
        let relative_us = i64::from(block.relative) * self.scale_ns / 1_000;
        self.placer.block(&block, relative_us, sink)?;
        Ok(true)
    }

    fn tracks<W: Write + Seek>(&mut self, payload: &[u8], sink: &mut Timeline<W>) {
        if self.head == Head::Lost || self.numbers.is_some() {
            return; // a second `Tracks` changes nothing
        }
        let (tracks, headers): (Vec<_>, Vec<_>) = header::tracks(payload).into_iter().unzip();
        for (track, header) in tracks.iter().zip(headers) {
            sink.track(track.number, header);
        }
        let numbers = header::numbers(payload);
        for number in numbers.iter().filter(|number| tracks.iter().all(|track| track.number != **number)) {
            sink.leave_out(*number);
        }
        self.numbers = Some(numbers);
        self.placer.tracks_are(tracks);
    }
}

/// How a session's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// Inside an element, or inside rubbish.
    Torn,
}
