//! Reads a track from the spool: its chunks in ascending sequence, each checked when it is read.
//!
//! This file must not know how a log is written. Memory is 32 bytes for each chunk, whatever its size. Of a server track, which
//! has packets instead, it tells how much there is; its media is read with [`Records`](super::rtp::Records).

use std::fs::File;
use std::io;

use bytes::Bytes;
use thiserror::Error;

use super::facts::TrackFacts;
use super::format::{CHUNK_PREFIX_BYTES, ChunkPrefix, Mark, RecordKind, TrackSpec, timestamp_of};
use super::held::Held;
use super::segment::{Check, Item, Located, Segment, SegmentError};
use crate::clock::Timestamp;
use crate::id::{RecordingId, TrackId};
use crate::spool::Spool;

/// A chunk, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    sequence: u32,
    segment: u32,
    offset: u32,
    len: u32,
    client_timestamp_ms: i64,
    arrival_us: i64,
}

/// Bytes of a segment that hold no whole record: what they held is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedSpan {
    /// The segment's number.
    pub segment: u32,
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
}

/// A track or a chunk that cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The chunk is not what was written; its media is lost.
    #[error("chunk {0} is damaged")]
    Damaged(u64),
    /// The segments belong to another track.
    #[error("segment {0} belongs to another track")]
    Foreign(u32),
    /// A later version wrote them.
    #[error("segment {0} was written by a later version")]
    Version(u32),
    /// The operating system failed.
    #[error("cannot read the track")]
    Io(#[from] io::Error),
}

impl ChunkRef {
    /// Its sequence.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence.into()
    }

    /// Bytes of media.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.into()
    }

    /// Whether it has no media.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The client's time, milliseconds since 1970, when it gave one. Checked only when the chunk is read.
    #[must_use]
    pub fn client_timestamp_ms(&self) -> Option<i64> {
        (self.client_timestamp_ms != i64::MIN).then_some(self.client_timestamp_ms)
    }

    /// When it arrived.
    #[must_use]
    pub fn arrival(&self) -> Timestamp {
        timestamp_of(self.arrival_us)
    }
}

/// A track that is read.
#[derive(Debug)]
pub struct TrackReader {
    spool: Spool,
    recording: RecordingId,
    track: TrackId,
    spec: Option<TrackSpec>,
    chunks: Vec<ChunkRef>,
    damaged: Vec<DamagedSpan>,
    held: Held,
    current: Option<(u32, Segment<File>)>,
}

impl TrackReader {
    /// Reads the heads of all records, and says what there is. Blocks, as all of this type does.
    ///
    /// # Errors
    /// When the spool cannot be read, or holds another track's or a later version's segments. Damage is no error.
    pub fn open(spool: &Spool, recording: &RecordingId, track: &TrackId) -> Result<Self, ReadError> {
        let mut reader = Self {
            spool: spool.clone(),
            recording: recording.clone(),
            track: track.clone(),
            spec: None,
            chunks: Vec::new(),
            damaged: Vec::new(),
            held: Held::default(),
            current: None,
        };
        for number in spool.segments(recording, track)? {
            reader.index(number)?;
        }
        // The sort is stable, so of equal sequences the last one is the last in the log, and that one holds.
        reader.chunks.sort_by_key(|chunk| chunk.sequence);
        reader.chunks.reverse();
        reader.chunks.dedup_by_key(|chunk| chunk.sequence);
        reader.chunks.reverse();
        for chunk in &reader.chunks {
            reader.held.add_chunk(chunk.sequence, chunk.len, chunk.arrival_us);
        }
        Ok(reader)
    }

    /// The chunks, ascending, each sequence once.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// What holds no record. A damaged body shows only when it is read.
    #[must_use]
    pub fn damaged(&self) -> &[DamagedSpan] {
        &self.damaged
    }

    /// The last sequence, when the client declared it.
    #[must_use]
    pub fn last_sequence(&self) -> Option<u64> {
        self.held.last_sequence.map(u64::from)
    }

    /// The mime type that was given last.
    #[must_use]
    pub fn mime(&self) -> Option<&str> {
        self.held.mime.as_deref()
    }

    /// Whose medium it is; `None` when there is no whole segment.
    #[must_use]
    pub fn spec(&self) -> Option<&TrackSpec> {
        self.spec.as_ref()
    }

    /// What the segments tell of the track; `None` when there is no whole one.
    #[must_use]
    pub fn facts(&self) -> Option<TrackFacts> {
        let (id, spec) = (self.track.clone(), self.spec.clone()?);
        Some(TrackFacts { id, spec, status: self.held.clone().into() })
    }

    /// A chunk's media, checked.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when it is not what was written: the other chunks may still be read.
    pub fn read(&mut self, chunk: &ChunkRef) -> Result<Bytes, ReadError> {
        let segment = self.segment(chunk.segment)?;
        let damaged = || ReadError::Damaged(chunk.sequence());
        let offset = u64::from(chunk.offset);
        let frame =
            segment.frame_at(offset)?.filter(|frame| frame.sequence == chunk.sequence).ok_or_else(damaged)?;
        match segment.body(&Located { offset, frame }) {
            Ok(body) => Ok(Bytes::from(body).slice(CHUNK_PREFIX_BYTES..)),
            Err(SegmentError::Io(error)) => Err(error.into()),
            Err(SegmentError::Damaged(_) | SegmentError::Header(_)) => Err(damaged()),
        }
    }

    /// All chunks with their media, ascending, one at a time in memory.
    pub fn iter(&mut self) -> impl Iterator<Item = (ChunkRef, Result<Bytes, ReadError>)> {
        (0..self.chunks.len()).map(|at| {
            let chunk = self.chunks[at];
            (chunk, self.read(&chunk))
        })
    }

    fn segment(&mut self, number: u32) -> Result<&mut Segment<File>, ReadError> {
        if self.current.as_ref().is_none_or(|(current, _)| *current != number) {
            let file = self.spool.open_segment(&self.recording, &self.track, number)?;
            let segment = Segment::open(file, Check::Heads).map_err(|error| match error {
                SegmentError::Io(error) => ReadError::Io(error),
                SegmentError::Header(_) | SegmentError::Damaged(_) => ReadError::Version(number),
            })?;
            self.current = Some((number, segment));
        }
        Ok(&mut self.current.as_mut().expect("it was just set").1)
    }

    fn index(&mut self, number: u32) -> Result<(), ReadError> {
        let file = self.spool.open_segment(&self.recording, &self.track, number)?;
        let len = file.metadata()?.len();
        let mut segment = match Segment::open(file, Check::Heads) {
            Ok(segment) => segment,
            Err(SegmentError::Io(error)) => return Err(error.into()),
            Err(SegmentError::Header(super::HeaderError::Version(_))) => {
                return Err(ReadError::Version(number));
            }
            Err(SegmentError::Header(_) | SegmentError::Damaged(_)) => {
                self.damaged.push(DamagedSpan { segment: number, offset: 0, len });
                return Ok(());
            }
        };
        let header = segment.header();
        if header.track != self.track || header.spec.recording != self.recording {
            return Err(ReadError::Foreign(number));
        }
        self.spec = Some(header.spec.clone());
        while let Some(item) = segment.next_item()? {
            match item {
                Item::Damaged { offset, len } => {
                    self.damaged.push(DamagedSpan { segment: number, offset, len });
                }
                Item::Record(record) => self.note(&mut segment, number, record)?,
            }
        }
        Ok(())
    }

    fn note(&mut self, segment: &mut Segment<File>, number: u32, record: Located) -> Result<(), ReadError> {
        match record.frame.kind {
            RecordKind::Chunk => self.chunks.extend(chunk_of(segment, number, &record)?),
            RecordKind::Mark => {
                if let Some(mark) = segment.body(&record).ok().as_deref().and_then(Mark::decode) {
                    self.held.add_mark(mark, segment.arrival_us(&record.frame));
                }
            }
            RecordKind::Rtp => {
                self.held.add_packet(segment.arrival_us(&record.frame), record.frame.len.into());
            }
            RecordKind::SenderReport => {}
        }
        Ok(())
    }
}

fn chunk_of(segment: &mut Segment<File>, number: u32, record: &Located) -> io::Result<Option<ChunkRef>> {
    let (Ok(offset), Some(len)) = (
        u32::try_from(record.offset),
        record.frame.len.checked_sub(u32::try_from(CHUNK_PREFIX_BYTES).expect("it is 40")),
    ) else {
        return Ok(None);
    };
    let prefix = ChunkPrefix::decode(&segment.body_start::<CHUNK_PREFIX_BYTES>(record)?);
    Ok(Some(ChunkRef {
        sequence: record.frame.sequence,
        segment: number,
        offset,
        len,
        client_timestamp_ms: prefix.and_then(|prefix| prefix.client_timestamp_ms).unwrap_or(i64::MIN),
        arrival_us: segment.arrival_us(&record.frame),
    }))
}
