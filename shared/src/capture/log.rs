//! The end of a track's log: the open segment, what is written to it and when it is closed.
//!
//! This file must not know who waits for a write. It keeps the log clean: a record that could not be written whole is
//! cut off again, and what a failed sync leaves in doubt is cut off and its segment never written to again. A server track's
//! packets were not acknowledged: after a failed sync they stay, and their CRCs tell what is left of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::batch::{Batch, SYNC_AFTER};
use super::format::{CHUNK_PREFIX_BYTES, ChunkPrefix, FRAME_BYTES, Frame, Mark, RecordKind, SegmentHeader};
use super::receive::{Body, ReceivedBody};
use super::track::{Track, What};
use super::{crc, file};
use crate::spool;
use crate::track::TrackSource;

/// How much of a body is copied from its file at once.
const COPY_BYTES: usize = 256 * 1024;

/// Where a track's log is written.
#[derive(Debug)]
pub(super) struct Log {
    next_number: u32,
    open: Option<Open>,
}

/// A segment's base is at most so long ago, an hour: from there its records' heads reach 71 minutes. What says that it came before is held
/// at the base, as it is of a clock that stepped back.
const BASE_AGO_MAX_US: i64 = 3_600_000_000;

#[derive(Debug)]
struct Open {
    file: File,
    number: u32,
    base_us: i64,
    seed: u32,
    /// Where the next record goes.
    end: u64,
    /// Up to where it is on stable storage.
    synced: u64,
    /// When the first record came that is not.
    unsynced_since_us: Option<i64>,
    name: Name,
    state: Health,
    mime: Option<String>,
}

/// Whether a segment's name is on stable storage.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    New,
    Durable,
}

#[derive(Debug, PartialEq, Eq)]
enum Health {
    Sound,
    Broken,
}

impl Log {
    /// A log whose next segment has this number.
    pub(super) fn new(next_number: u32) -> Self {
        Self { next_number, open: None }
    }

    pub(super) fn open_number(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.number)
    }

    /// Whether the open segment must be closed before something that arrives now is written.
    pub(super) fn is_due(&self, track: &Track, now_us: i64) -> bool {
        let config = &track.env.config;
        self.open.as_ref().is_some_and(|open| {
            open.state == Health::Broken
                || open.end >= config.segment_bytes
                || u128::from(now_us.abs_diff(open.base_us)) >= config.segment_age.as_micros()
        })
    }

    /// Whether packets have waited long enough for a sync.
    pub(super) fn must_sync(&self, now_us: i64) -> bool {
        let since = self.open.as_ref().and_then(|open| open.unsynced_since_us);
        since.is_some_and(|since_us| u128::from(now_us.abs_diff(since_us)) >= SYNC_AFTER.as_micros())
    }

    /// Closes the open segment. All of it that counts has been synced.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Writes something, opening a segment when there is none. Not on stable storage before [`Log::sync`].
    pub(super) fn write(&mut self, track: &Track, what: &What, arrival_us: i64) -> io::Result<()> {
        if self.open.is_none() {
            let base_us = arrival_us.max(track.env.now_us().saturating_sub(BASE_AGO_MAX_US));
            self.open = Some(Open::create(track, &mut self.next_number, base_us)?);
        }
        let open = self.open.as_mut().expect("it was just opened");
        let start = open.end;
        let written = open.write(track, what, arrival_us);
        match &written {
            Ok(()) => _ = open.unsynced_since_us.get_or_insert(arrival_us),
            Err(_) => open.cut(start),
        }
        written
    }

    /// Puts all that was written on stable storage; gives the bytes that were not there before.
    pub(super) fn sync(&mut self, track: &Track) -> io::Result<u64> {
        let Some(open) = self.open.as_mut() else { return Ok(0) };
        let synced = open.sync(track);
        if synced.is_err() {
            if track.spec.source == TrackSource::Client {
                open.cut(open.synced);
            }
            self.close();
        }
        synced
    }
}

impl Open {
    fn create(track: &Track, next_number: &mut u32, base_us: i64) -> io::Result<Self> {
        let number = *next_number;
        *next_number += 1;
        let path = track.dir.join(spool::segment_name(number));
        let (spec, id) = (track.spec.clone(), track.id.clone());
        let header = SegmentHeader { spec, track: id, number, base_us, salt: rand::random() };
        let bytes = header.encode();
        let file = file::create(&path)?;
        let mut open = Self {
            file,
            number,
            base_us,
            seed: header.seed(),
            end: 0,
            synced: 0,
            unsynced_since_us: None,
            name: Name::New,
            state: Health::Sound,
            mime: None,
        };
        let begun = open.put(track, &[&bytes]).and_then(|()| open.restate(track, base_us));
        if let Err(error) = begun {
            // An empty segment is of no use; if it stays, recovery deletes it.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(open)
    }

    /// Repeats what holds from before, so that each segment can be read without the others.
    fn restate(&mut self, track: &Track, arrival_us: i64) -> io::Result<()> {
        let (mime, last_sequence, flow) = {
            let state = track.state();
            (state.held.mime.clone(), state.held.last_sequence, state.held.restated())
        };
        for mark in flow {
            self.mark(track, &mark, arrival_us)?;
        }
        if let Some(mime) = mime {
            self.mark(track, &Mark::Mime(mime.clone()), arrival_us)?;
            self.mime = Some(mime);
        }
        last_sequence
            .map_or(Ok(()), |last_sequence| self.mark(track, &Mark::Complete { last_sequence }, arrival_us))
    }

    fn write(&mut self, track: &Track, what: &What, arrival_us: i64) -> io::Result<()> {
        match what {
            What::Complete { last_sequence } => {
                self.mark(track, &Mark::Complete { last_sequence: *last_sequence }, arrival_us)
            }
            What::Batch(batch) => self.batch(track, batch),
            What::Chunk { sequence, client_timestamp_ms, mime, body } => {
                let new_mime = mime.clone().filter(|mime| self.mime.as_ref() != Some(mime));
                if let Some(mime) = &new_mime {
                    self.mark(track, &Mark::Mime(mime.clone()), arrival_us)?;
                }
                let prefix = ChunkPrefix { client_timestamp_ms: *client_timestamp_ms, sha256: body.sha256 };
                self.chunk(track, *sequence, &prefix, body, arrival_us)?;
                self.mime = new_mime.or(self.mime.take());
                Ok(())
            }
        }
    }

    fn mark(&mut self, track: &Track, mark: &Mark, arrival_us: i64) -> io::Result<()> {
        let body = mark.encode();
        let body_crc = crc32c::crc32c_append(self.seed, &body);
        let head = self.head(RecordKind::Mark, 0, arrival_us, body.len(), body_crc);
        self.put(track, &[&head, &body])
    }

    fn batch(&mut self, track: &Track, batch: &Batch) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(batch.bytes() + batch.len() * FRAME_BYTES);
        for (record, body) in batch.iter() {
            let body_crc = crc32c::crc32c_append(self.seed, body);
            bytes.extend_from_slice(&self.head(
                record.kind,
                record.sequence,
                record.arrival_us,
                body.len(),
                body_crc,
            ));
            bytes.extend_from_slice(body);
        }
        self.put(track, &[&bytes])
    }

    fn chunk(
        &mut self,
        track: &Track,
        sequence: u32,
        prefix: &ChunkPrefix,
        body: &ReceivedBody,
        arrival_us: i64,
    ) -> io::Result<()> {
        let prefix = prefix.encode();
        let len = u32::try_from(body.len).expect("a chunk's length was checked");
        let prefix_crc = crc32c::crc32c_append(self.seed, &prefix);
        let body_crc = crc::combine(prefix_crc, body.crc, len);
        let head =
            self.head(RecordKind::Chunk, sequence, arrival_us, CHUNK_PREFIX_BYTES + len as usize, body_crc);
        let begin: [&[u8]; 2] = [&head, &prefix];
        match &body.body {
            Body::Memory { blocks, .. } => {
                let parts: Vec<&[u8]> =
                    begin.into_iter().chain(blocks.iter().map(|block| &**block)).collect();
                self.put(track, &parts)
            }
            Body::File { file, .. } => {
                self.put(track, &begin)?;
                self.copy(track, file, body)
            }
        }
    }

    /// Copies a body from its file, which must hold what was received.
    fn copy(&mut self, track: &Track, from: &File, body: &ReceivedBody) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        let (mut done, mut crc) = (0_u64, 0);
        while done < body.len {
            let part = usize::try_from(body.len - done).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
            let part = &mut buffer[..part];
            from.read_exact_at(part, done)?;
            crc = crc32c::crc32c_append(crc, part);
            self.put(track, &[part])?;
            done += part.len() as u64;
        }
        if crc == body.crc { Ok(()) } else { Err(io::Error::other("the body changed while it waited")) }
    }

    fn head(
        &self,
        kind: RecordKind,
        sequence: u32,
        arrival_us: i64,
        len: usize,
        body_crc: u32,
    ) -> [u8; FRAME_BYTES] {
        // A clock that stepped back is held at the segment's base; a segment is too young for the other end.
        let arrival_us = u32::try_from(arrival_us.saturating_sub(self.base_us).max(0)).unwrap_or(u32::MAX);
        let len = u32::try_from(len).expect("a record's length was checked");
        Frame { kind, sequence, arrival_us, len, body_crc }.encode(self.seed)
    }

    fn put(&mut self, track: &Track, parts: &[&[u8]]) -> io::Result<()> {
        file::write_all_at(&track.env, &self.file, parts, self.end)?;
        self.end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    fn sync(&mut self, track: &Track) -> io::Result<u64> {
        if self.synced == self.end {
            return Ok(0);
        }
        file::sync_data(&track.env, &self.file)?;
        if self.name == Name::New {
            spool::sync_dir(&track.dir)?;
            self.name = Name::Durable;
        }
        let bytes = self.end - self.synced;
        self.synced = self.end;
        self.unsynced_since_us = None;
        Ok(bytes)
    }

    fn cut(&mut self, end: u64) {
        self.end = end;
        if self.synced == end {
            self.unsynced_since_us = None;
        }
        if self.file.set_len(end).is_err() {
            self.state = Health::Broken;
        }
    }
}
