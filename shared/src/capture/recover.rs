//! Takes up what an earlier process left: cuts torn ends, rebuilds what is known of each track, and goes on.
//!
//! This file must not know who asks. Segments in the capture folder are scanned whole and synced, because their last
//! records may have been written but not acknowledged; those in the spool are in the index already. A segment of another
//! format version stops the start: after a downgrade, what the later program has written must be there for its return.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::format::{CHUNK_PREFIX_BYTES, ChunkPrefix, HeaderError, Mark, RecordKind, SegmentHeader};
use super::held::Held;
use super::index::{Index, Slot};
use super::log::Log;
use super::segment::{Check, Item, Segment, SegmentError};
use super::track::TrackLog;
use super::{Closed, Env, RecoveredTrack, closed_path, last};
use crate::id::{RecordingId, TrackId};
use crate::spool::{self, names, segment_name, segment_numbers};

/// The file that says which track a folder is.
pub(super) const TRACK: &str = "track";
/// The file of the index.
pub(super) const INDEX: &str = "index";

/// Beyond this many records their count says nothing of how many segments there may be: one of 8 MiB holds 6,000 packets.
const MAX_RECORDS_TAKEN_FOR_SEGMENTS: u32 = 1 << 24;

/// Every track under the capture folder.
pub(super) fn all(env: &Arc<Env>) -> io::Result<Vec<RecoveredTrack>> {
    let mut recovered = Vec::new();
    let root = env.config.capture_dir.join("tracks");
    for recording in names(&root)?.iter().filter_map(|name| RecordingId::parse(name).ok()) {
        let dir = root.join(recording.as_str());
        let closed = if closed_path(&dir).exists() { Closed::Yes } else { Closed::No };
        for track in names(&dir)?.iter().filter_map(|name| TrackId::parse(name).ok()) {
            recovered.extend(one(env, &dir.join(track.as_str()), &recording, &track, closed)?);
        }
    }
    Ok(recovered)
}

fn one(
    env: &Arc<Env>,
    dir: &Path,
    recording: &RecordingId,
    id: &TrackId,
    closed: Closed,
) -> io::Result<Option<RecoveredTrack>> {
    let numbers = segment_numbers(dir)?;
    // Before anything is cut: a folder that holds another version is not touched at all.
    numbers.iter().try_for_each(|&number| is_known(&dir.join(segment_name(number))))?;
    let mut found = Found::default();
    for number in numbers {
        cut_and_sync(dir, number, &mut found)?;
    }
    spool::sync_dir(dir)?;
    let Some(header) = identity(dir)?.or(found.header.take()) else {
        // It was being made when the process ended: nothing was acknowledged for it.
        warn!(track.id = %id, "a track's folder holds no track: {}", dir.display());
        return Ok(None);
    };
    let (index, held) = match known(env, dir, recording, id, &found) {
        Ok(known) => known,
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::NotFound) => {
            rebuild(env, dir, recording, id)?
        }
        Err(error) => return Err(error),
    };
    let next = next_number(env, recording, id, found.next_number, &held)?;
    let log = TrackLog::assemble(env, id.clone(), &header.spec, index, held, Log::new(next), closed);
    Ok(Some(RecoveredTrack { log, closed, damaged_bytes: found.cut_bytes + found.damaged_bytes }))
}

/// What the folder's own file says of the track. `None`: it is not there, or not whole.
fn identity(dir: &Path) -> io::Result<Option<SegmentHeader>> {
    let path = dir.join(TRACK);
    let Ok(bytes) = fs::read(&path) else { return Ok(None) };
    match SegmentHeader::decode(&bytes) {
        Ok((header, _)) => Ok(Some(header)),
        Err(version @ HeaderError::Version(_)) => Err(spool::at(&path)(unsupported(version))),
        Err(HeaderError::Damaged) => Ok(None),
    }
}

/// Whether a segment is of a version that this program knows, as far as its header tells.
fn is_known(path: &Path) -> io::Result<()> {
    match Segment::open(File::open(path)?, Check::Heads) {
        Err(SegmentError::Header(version @ HeaderError::Version(_))) => {
            Err(spool::at(path)(unsupported(version)))
        }
        Err(SegmentError::Io(error)) => Err(spool::at(path)(error)),
        _ => Ok(()),
    }
}

/// What another version has written is whole, and may be all that there is: it is left as it is, for a program that knows it.
fn unsupported(version: HeaderError) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, version)
}

/// The number of the track's next segment: no other may have it, here or in the spool.
fn next_number(
    env: &Env,
    recording: &RecordingId,
    id: &TrackId,
    after_local: u32,
    held: &Held,
) -> io::Result<u32> {
    let shipped = last_shipped(env, recording, id)?;
    let next = after_local.max(shipped.map_or(0, |last| last + 1));
    let held = held.ranges.count() + held.flow.packets;
    let chunks = u32::try_from(held).unwrap_or(MAX_RECORDS_TAKEN_FOR_SEGMENTS);
    if next > 0 || chunks == 0 {
        return Ok(next);
    }
    // The spool is not mounted, or was emptied. Hardly a segment is without a chunk, so the count is beyond their numbers.
    warn!(track.id = %id, "track {id} holds {chunks} chunks, but the spool has no segment of it: is it mounted?");
    Ok(chunks + 1)
}

/// The number of the last segment that the spool has, or may have.
fn last_shipped(env: &Env, recording: &RecordingId, id: &TrackId) -> io::Result<Option<u32>> {
    match env.config.spool.may_be_away() {
        true => last::number(&env.track_dir(recording, id)),
        false => Ok(env.config.spool.segments(recording, id)?.last().copied()),
    }
}

fn open_shipped(env: &Env, recording: &RecordingId, id: &TrackId, number: u32) -> io::Result<File> {
    match env.config.spool.may_be_away() {
        true => last::open(&env.track_dir(recording, id), number),
        false => env.config.spool.open_segment(recording, id, number),
    }
}

/// What the segments of the capture folder hold.
#[derive(Default)]
struct Found {
    header: Option<SegmentHeader>,
    next_number: u32,
    cut_bytes: u64,
    damaged_bytes: u64,
    held: Held,
    chunks: Vec<(u32, Slot)>,
}

/// Scans a segment of the capture folder, cuts its torn end and puts the rest on stable storage.
fn cut_and_sync(dir: &Path, number: u32, found: &mut Found) -> io::Result<()> {
    let path = dir.join(segment_name(number));
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let len = file.metadata()?.len();
    found.next_number = found.next_number.max(number + 1);
    let mut end = 0;
    let mut damaged = 0;
    let scanned = scan(&file, Check::Bodies, &mut found.held, &mut |item, chunk| {
        match item {
            Item::Record(record) => end = record.end(),
            Item::Damaged { offset, len: span } if offset + span < len => damaged += span,
            Item::Damaged { .. } => {}
        }
        found.chunks.extend(chunk);
    })
    .map_err(spool::at(&path))?;
    let found_header = scanned.is_some();
    found.header = scanned.or(found.header.take());
    if end == 0 {
        // No record is whole in it. One whose header is lost as well is kept aside for a look.
        found.cut_bytes += len;
        return if found_header {
            fs::remove_file(&path)
        } else {
            fs::rename(&path, path.with_extension("damaged"))
        };
    }
    found.cut_bytes += len - end;
    found.damaged_bytes += damaged;
    file.set_len(end)?;
    file.sync_all()
}

/// What the index and the scanned segments know together.
fn known(
    env: &Env,
    dir: &Path,
    recording: &RecordingId,
    id: &TrackId,
    found: &Found,
) -> io::Result<(Index, Held)> {
    // A torn end alone was not acknowledged, and what the index tells of shipped segments was synced before they went. A spool
    // that may be away is read for more than that only, as it takes a download of all that it has of the track.
    let doubtful = if env.config.spool.may_be_away() { 0 } else { found.cut_bytes };
    if found.damaged_bytes + doubtful > 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "the index may name chunks that are lost"));
    }
    let index = Index::open(&dir.join(INDEX))?;
    for (sequence, slot) in &found.chunks {
        index.put(*sequence, slot)?;
    }
    let mut held = Held::default();
    index.load(|sequence, slot| held.add(sequence, &slot))?;
    // Each segment repeats what holds from before it, so the last one knows.
    held.take_over(&found.held);
    if found.chunks.is_empty()
        && found.held == Held::default()
        && let Some(last) = last_shipped(env, recording, id)?
    {
        let mut before = Held::default();
        let segment = open_shipped(env, recording, id, last)?;
        scan(&segment, Check::Heads, &mut before, &mut |_, _| {})?;
        held.take_over(&before);
    }
    Ok((index, held))
}

/// Builds the index anew from all segments, wherever they are, and puts it in the place of the old one.
pub(super) fn rebuild(
    env: &Env,
    dir: &Path,
    recording: &RecordingId,
    id: &TrackId,
) -> io::Result<(Index, Held)> {
    let aside = dir.join("index.part");
    let index = Index::create(&aside)?;
    let mut held = Held::default();
    let mut failed = Ok(());
    let mut note = |_: Item, chunk: Option<(u32, Slot)>| {
        if let (Some((sequence, slot)), Ok(())) = (chunk, &failed) {
            failed = index.put(sequence, &slot);
        }
    };
    for number in env.config.spool.segments(recording, id)? {
        // Heads alone: a long recording has gigabytes here, and its media is checked when it is read.
        scan(&env.config.spool.open_segment(recording, id, number)?, Check::Heads, &mut held, &mut note)?;
    }
    for number in segment_numbers(dir)? {
        scan(&File::open(dir.join(segment_name(number)))?, Check::Bodies, &mut held, &mut note)?;
    }
    failed?;
    index.load(|sequence, slot| held.add(sequence, &slot))?;
    index.sync()?;
    fs::rename(&aside, dir.join(INDEX))?;
    spool::sync_dir(dir)?;
    Ok((index, held))
}

/// Reads a segment: marks go to `held`, and every item, with its chunk, to `each`. A segment without a header is one
/// damaged span and gives `None`.
fn scan(
    file: &File,
    check: Check,
    held: &mut Held,
    each: &mut dyn FnMut(Item, Option<(u32, Slot)>),
) -> io::Result<Option<SegmentHeader>> {
    let mut segment = match Segment::open(file, check) {
        Ok(segment) => segment,
        Err(SegmentError::Io(error)) => return Err(error),
        Err(SegmentError::Header(version @ HeaderError::Version(_))) => return Err(unsupported(version)),
        Err(SegmentError::Header(_) | SegmentError::Damaged(_)) => return Ok(None),
    };
    while let Some(item) = segment.next_item()? {
        let Item::Record(record) = item else {
            each(item, None);
            continue;
        };
        match record.frame.kind {
            RecordKind::Chunk => {
                let start = segment.body_start::<CHUNK_PREFIX_BYTES>(&record)?;
                let size = record.frame.len - u32::try_from(CHUNK_PREFIX_BYTES).expect("it is 40");
                let sha256 = ChunkPrefix::decode(&start).expect("the prefix has its length").sha256;
                let arrival_us = segment.arrival_us(&record.frame);
                each(item, Some((record.frame.sequence, Slot { sha256, arrival_us, size })));
            }
            RecordKind::Mark => {
                if let Some(mark) = segment.body(&record).ok().as_deref().and_then(Mark::decode) {
                    held.add_mark(mark, segment.arrival_us(&record.frame));
                }
                each(item, None);
            }
            RecordKind::Rtp => {
                held.add_packet(segment.arrival_us(&record.frame), record.frame.len.into());
                each(item, None);
            }
            RecordKind::SenderReport => each(item, None),
        }
    }
    Ok(Some(segment.header().clone()))
}
