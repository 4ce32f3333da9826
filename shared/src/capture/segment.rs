//! Reads one segment: its records in the order of the log, and the spans that are damaged.
//!
//! This file must not know tracks or folders. It reads forward with bounded memory; a record is taken only when its
//! head's CRC is right, and after damage reading goes on at the next marker whose head is right.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::format::{FRAME_BYTES, Frame, HeaderError, MARKER, MAX_HEADER_COPY, RecordKind, SegmentHeader};

/// How much is read at once while looking for a marker or checking a body.
const WINDOW_BYTES: usize = 64 * 1024;

/// What is checked while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Heads, and the bodies of marks: media is skipped, and checked when it is read.
    Heads,
    /// Every byte.
    Bodies,
}

/// A record and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Where its frame begins, in bytes from the start of the segment.
    pub offset: u64,
    /// Its frame.
    pub frame: Frame,
}

impl Located {
    /// Where its body begins.
    #[must_use]
    pub fn body_offset(&self) -> u64 {
        self.offset + FRAME_BYTES as u64
    }

    /// Where the next record begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.body_offset() + u64::from(self.frame.len)
    }
}

/// What stands next in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Located),
    /// Bytes that are no whole record.
    Damaged {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        len: u64,
    },
}

/// A segment that cannot be opened, or a body that cannot be read.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// Its header is of no use.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The body at this offset is not what was written.
    #[error("the record at {0} is damaged")]
    Damaged(u64),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An open segment.
#[derive(Debug)]
pub struct Segment<R> {
    source: R,
    header: SegmentHeader,
    seed: u32,
    check: Check,
    len: u64,
    next: u64,
}

impl<R: Read + Seek> Segment<R> {
    /// Reads the header and stands before the first record.
    ///
    /// # Errors
    /// When the header is damaged twice or of a later version, or reading fails.
    pub fn open(mut source: R, check: Check) -> Result<Self, SegmentError> {
        let len = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        source.by_ref().take(2 * MAX_HEADER_COPY as u64).read_to_end(&mut start)?;
        let (header, records) = SegmentHeader::decode(&start)?;
        let seed = header.seed();
        Ok(Self { source, header, seed, check, len, next: records as u64 })
    }

    /// What the segment says of itself.
    #[must_use]
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// When a record arrived, in microseconds since 1970 UTC.
    #[must_use]
    pub fn arrival_us(&self, frame: &Frame) -> i64 {
        self.header.base_us.saturating_add(i64::from(frame.arrival_us))
    }

    /// The next record or damaged span; `None` at the end.
    ///
    /// # Errors
    /// When reading fails; damage is no error.
    pub fn next_item(&mut self) -> Result<Option<Item>, io::Error> {
        if self.next >= self.len {
            return Ok(None);
        }
        let offset = self.next;
        match self.frame_at(offset)?.map(|frame| Located { offset, frame }) {
            Some(found) if found.end() > self.len => self.damaged(offset, self.len),
            Some(found) if self.must_check(&found) && !self.body_is_whole(&found)? => {
                self.damaged(offset, found.end())
            }
            Some(found) => {
                self.next = found.end();
                Ok(Some(Item::Record(found)))
            }
            None => {
                let end = self.find_record(offset + 1)?;
                self.damaged(offset, end)
            }
        }
    }

    /// The body of a record, checked.
    ///
    /// # Errors
    /// [`SegmentError::Damaged`] when it is not what was written.
    pub fn body(&mut self, record: &Located) -> Result<Vec<u8>, SegmentError> {
        if record.end() > self.len {
            return Err(SegmentError::Damaged(record.offset));
        }
        let mut body = vec![0; record.frame.len as usize];
        self.source.seek(SeekFrom::Start(record.body_offset()))?;
        self.source.read_exact(&mut body)?;
        if crc32c::crc32c_append(self.seed, &body) != record.frame.body_crc {
            return Err(SegmentError::Damaged(record.offset));
        }
        Ok(body)
    }

    /// The frame at an offset, when there is one.
    ///
    /// # Errors
    /// When reading fails.
    pub fn frame_at(&mut self, offset: u64) -> Result<Option<Frame>, io::Error> {
        let mut bytes = [0; FRAME_BYTES];
        if offset + FRAME_BYTES as u64 > self.len {
            return Ok(None);
        }
        self.source.seek(SeekFrom::Start(offset))?;
        self.source.read_exact(&mut bytes)?;
        Ok(Frame::decode(&bytes, self.seed))
    }

    /// The first bytes of a body, not checked beyond what [`Check`] asks.
    ///
    /// # Errors
    /// When reading fails, or the body is shorter.
    pub fn body_start<const N: usize>(&mut self, record: &Located) -> Result<[u8; N], io::Error> {
        if (record.frame.len as usize) < N {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = [0; N];
        self.source.seek(SeekFrom::Start(record.body_offset()))?;
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn must_check(&self, record: &Located) -> bool {
        self.check == Check::Bodies || record.frame.kind == RecordKind::Mark
    }

    fn damaged(&mut self, offset: u64, end: u64) -> Result<Option<Item>, io::Error> {
        self.next = end;
        Ok(Some(Item::Damaged { offset, len: end - offset }))
    }

    fn body_is_whole(&mut self, record: &Located) -> Result<bool, io::Error> {
        self.source.seek(SeekFrom::Start(record.body_offset()))?;
        let mut left = record.frame.len as usize;
        let mut window = vec![0; WINDOW_BYTES.min(left)];
        let mut crc = self.seed;
        while left > 0 {
            let part = &mut window[..WINDOW_BYTES.min(left)];
            self.source.read_exact(part)?;
            crc = crc32c::crc32c_append(crc, part);
            left -= part.len();
        }
        Ok(crc == record.frame.body_crc)
    }

    /// The offset of the next whole head from `from` on, or the end of the segment.
    fn find_record(&mut self, from: u64) -> Result<u64, io::Error> {
        let mut window = Vec::with_capacity(WINDOW_BYTES);
        let mut at = from;
        while at + FRAME_BYTES as u64 <= self.len {
            window.clear();
            self.source.seek(SeekFrom::Start(at))?;
            self.source.by_ref().take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
            let found = window
                .windows(FRAME_BYTES)
                .position(|bytes| bytes.starts_with(&MARKER) && Frame::decode(bytes, self.seed).is_some());
            if let Some(found) = found {
                return Ok(at + found as u64);
            }
            // A head may begin in the last bytes of this window and end in the next.
            at += (window.len() - (FRAME_BYTES - 1)) as u64;
        }
        Ok(self.len)
    }
}
