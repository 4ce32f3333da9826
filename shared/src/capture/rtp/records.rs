//! Reads a server track's log: its records in the order of the log, one in memory at a time.
//!
//! This file must not know what packets mean. Damage costs what it touches and is told at its place.

use std::fs::File;
use std::io;
use std::path::Path;

use super::SenderReport;
use super::buffered::Buffered;
use crate::capture::format::{HeaderError, Mark, RecordKind, SegmentHeader, TrackSpec};
use crate::capture::reader::{DamagedSpan, ReadError};
use crate::capture::segment::{Check, Item, Located, Segment, SegmentError};
use crate::id::{RecordingId, TrackId};
use crate::spool::{self, Spool};

/// Something that stands in the log. Arrivals are microseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// A packet, whole: see [`RtpPacket::parse`](super::RtpPacket::parse).
    Packet {
        /// When it came.
        arrival_us: i64,
        /// The low 32 bits of its extended sequence, as the edge counted.
        sequence: u32,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// A sender report.
    SenderReport {
        /// When it came.
        arrival_us: i64,
        /// What it says.
        report: SenderReport,
    },
    /// A mark.
    Mark {
        /// When it was set.
        arrival_us: i64,
        /// The mark.
        mark: Mark,
    },
    /// Bytes that hold no whole record: what they held is missing.
    Damaged(DamagedSpan),
}

/// A log that is read.
pub struct Records {
    open: Box<dyn Fn(u32) -> io::Result<File> + Send>,
    expected: Option<(RecordingId, TrackId)>,
    numbers: std::vec::IntoIter<u32>,
    current: Option<(u32, Segment<Buffered<File>>)>,
    header: Option<SegmentHeader>,
}

impl Records {
    /// Stands before the first record of a track in the spool. Blocks, as all of this type does.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn open(spool: &Spool, recording: &RecordingId, track: &TrackId) -> Result<Self, ReadError> {
        let numbers = spool.segments(recording, track)?;
        let (spool, recording, track) = (spool.clone(), recording.clone(), track.clone());
        let expected = Some((recording.clone(), track.clone()));
        let open = move |number| spool.open_segment(&recording, &track, number);
        Ok(Self::new(Box::new(open), expected, numbers))
    }

    /// Stands before the first record of the segments in a folder, whosever they are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Self, ReadError> {
        let numbers = spool::segment_numbers(folder)?;
        let folder = folder.to_owned();
        let open = move |number| {
            let path = folder.join(spool::segment_name(number));
            File::open(&path).map_err(spool::at(&path))
        };
        Ok(Self::new(Box::new(open), None, numbers))
    }

    fn new(
        open: Box<dyn Fn(u32) -> io::Result<File> + Send>,
        expected: Option<(RecordingId, TrackId)>,
        numbers: Vec<u32>,
    ) -> Self {
        Self { open, expected, numbers: numbers.into_iter(), current: None, header: None }
    }

    /// Whose medium it is, once a segment with a whole header was met.
    #[must_use]
    pub fn spec(&self) -> Option<&TrackSpec> {
        self.header.as_ref().map(|header| &header.spec)
    }

    /// The header of the segment that was read last.
    #[must_use]
    pub fn header(&self) -> Option<&SegmentHeader> {
        self.header.as_ref()
    }

    /// The next thing in the log; `None` at its end. Chunks, and marks of a later version, are passed over.
    ///
    /// # Errors
    /// When reading fails, or a segment is another track's or a later version's. Damage is no error.
    pub fn read_next(&mut self) -> Result<Option<Logged>, ReadError> {
        loop {
            let Some((number, segment)) = &mut self.current else {
                let Some(number) = self.numbers.next() else { return Ok(None) };
                match self.open_segment(number)? {
                    Some(damaged) => return Ok(Some(Logged::Damaged(damaged))),
                    None => continue,
                }
            };
            let number = *number;
            match segment.next_item()? {
                None => self.current = None,
                Some(Item::Damaged { offset, len }) => {
                    return Ok(Some(Logged::Damaged(DamagedSpan { segment: number, offset, len })));
                }
                Some(Item::Record(record)) => {
                    if let Some(logged) = take(segment, number, &record)? {
                        return Ok(Some(logged));
                    }
                }
            }
        }
    }

    /// Opens a segment; gives the damaged span when its header is of no use.
    fn open_segment(&mut self, number: u32) -> Result<Option<DamagedSpan>, ReadError> {
        let file = (self.open)(number)?;
        let len = file.metadata()?.len();
        let segment = match Segment::open(Buffered::new(file), Check::Heads) {
            Ok(segment) => segment,
            Err(SegmentError::Io(error)) => return Err(error.into()),
            Err(SegmentError::Header(HeaderError::Version(_))) => return Err(ReadError::Version(number)),
            Err(SegmentError::Header(HeaderError::Damaged) | SegmentError::Damaged(_)) => {
                return Ok(Some(DamagedSpan { segment: number, offset: 0, len }));
            }
        };
        let header = segment.header().clone();
        let foreign = |(recording, track): &(RecordingId, TrackId)| {
            header.track != *track || header.spec.recording != *recording
        };
        if self.expected.as_ref().is_some_and(foreign) {
            return Err(ReadError::Foreign(number));
        }
        self.expected = Some((header.spec.recording.clone(), header.track.clone()));
        self.header = Some(header);
        self.current = Some((number, segment));
        Ok(None)
    }
}

fn take(
    segment: &mut Segment<Buffered<File>>,
    number: u32,
    record: &Located,
) -> Result<Option<Logged>, ReadError> {
    if record.frame.kind == RecordKind::Chunk {
        return Ok(None);
    }
    let arrival_us = segment.arrival_us(&record.frame);
    let span = DamagedSpan { segment: number, offset: record.offset, len: record.end() - record.offset };
    let body = match segment.body(record) {
        Ok(body) => body,
        Err(SegmentError::Io(error)) => return Err(error.into()),
        Err(SegmentError::Damaged(_) | SegmentError::Header(_)) => return Ok(Some(Logged::Damaged(span))),
    };
    Ok(match record.frame.kind {
        RecordKind::Rtp => Some(Logged::Packet { arrival_us, sequence: record.frame.sequence, bytes: body }),
        RecordKind::SenderReport => Some(
            SenderReport::decode(&body)
                .map_or(Logged::Damaged(span), |report| Logged::SenderReport { arrival_us, report }),
        ),
        RecordKind::Mark => Mark::decode(&body).map(|mark| Logged::Mark { arrival_us, mark }),
        RecordKind::Chunk => None,
    })
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("header", &self.header).finish_non_exhaustive()
    }
}
