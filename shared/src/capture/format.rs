//! The layout of a capture segment: how its header and its records are encoded, and how they are checked.
//!
//! This file must not know files or sequence rules: bytes in, bytes out. Numbers are little-endian.
//!
//! A segment is two equal copies of its header, then records until the end of the file.
//!
//! | header | bytes | what |
//! |---|---|---|
//! | magic | 8 | `CALLREEL` |
//! | version | 2 | [`VERSION`] |
//! | length | 2 | of one header copy, with its CRC |
//! | source, kind | 1 + 1 | `client`/`server`, `video`/`audio`/`screen` |
//! | number | 4 | of the segment within its track |
//! | base | 8 | microseconds since 1970 UTC, to which arrivals are added |
//! | salt | 8 | random, starts every record's CRC |
//! | ids | 3 × (1 + n) | recording, track, participant: length and text |
//! | CRC32C | 4 | of all before |
//!
//! | record | bytes | what |
//! |---|---|---|
//! | marker | 3 | `C5 52 EE`, where reading goes on after damage |
//! | kind | 1 | [`RecordKind`] |
//! | sequence | 4 | of the chunk; extended RTP sequence; 0 for marks |
//! | arrival | 4 | microseconds after the segment's base |
//! | length | 4 | of the body |
//! | head CRC32C | 4 | of the salt and the 16 bytes before |
//! | body CRC32C | 4 | of the salt and the body |
//! | body | length | for a chunk: client time (8), SHA-256 (32), then the media |
//!
//! Decisions:
//! - The header is written twice because everything hangs on it: a flipped bit may cost one copy.
//! - Head and body have CRCs of their own. A damaged body then costs exactly its record, as the length is still
//!   trusted, and a scan for sequences needs not read media.
//! - The salt makes a record unforgeable from inside a body: a client that uploads a capture log as its chunk cannot
//!   have its bytes taken for records when reading resynchronises within that chunk.
//! - 24 bytes a record are 2 % of an RTP packet of 1,200 bytes.

use thiserror::Error;

pub use super::mark::Mark;
use crate::clock::Timestamp;
use crate::id::{RecordingId, TrackId, UserId};
use crate::track::{TrackKind, TrackSource};

/// The version of the layout; a reader refuses a higher one.
pub const VERSION: u16 = 1;
/// The bytes before a record's body.
pub const FRAME_BYTES: usize = 24;
/// The bytes before a chunk's media: client time and SHA-256.
pub const CHUNK_PREFIX_BYTES: usize = 40;
/// The longest body of a record: four times the largest chunk that the settings allow by default, and small enough
/// that a forged length cannot make a reader reserve much.
pub const MAX_BODY_BYTES: u32 = 64 * 1024 * 1024;
/// The longest mime type that is kept; real ones are below 60 bytes.
pub const MAX_MIME_BYTES: usize = 255;

/// What every segment begins with.
const MAGIC: &[u8; 8] = b"CALLREEL";
/// What every record begins with: no UTF-8 text and no start of a WebM or MP4 element contains it.
pub(super) const MARKER: [u8; 3] = [0xC5, 0x52, 0xEE];
/// The bytes of a header copy without its ids.
const HEADER_FIXED: usize = 8 + 2 + 2 + 2 + 4 + 8 + 8;
/// The longest copy of a header: three ids of 255 bytes with their lengths, and the CRC.
pub(super) const MAX_HEADER_COPY: usize = HEADER_FIXED + 3 * 256 + 4;
/// Written in place of a client's time when it gave none.
const NO_TIME: i64 = i64::MIN;

/// Whose medium a track is: the key under which it exists once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackSpec {
    /// The recording.
    pub recording: RecordingId,
    /// The participant.
    pub participant: UserId,
    /// Who captures it.
    pub source: TrackSource,
    /// What it shows.
    pub kind: TrackKind,
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose medium it holds.
    pub spec: TrackSpec,
    /// The track.
    pub track: TrackId,
    /// The segment's number within the track, ascending.
    pub number: u32,
    /// Microseconds since 1970 UTC to which the arrivals of records are added.
    pub base_us: i64,
    /// A random number that starts every record's CRC.
    pub salt: u64,
}

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A blob of a client's `MediaRecorder`.
    Chunk,
    /// An RTP packet.
    Rtp,
    /// An RTCP sender report.
    SenderReport,
    /// A mark on the track's timeline, see [`Mark`].
    Mark,
}

/// A record's frame: all of it but the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What the body holds.
    pub kind: RecordKind,
    /// The chunk's or the packet's sequence.
    pub sequence: u32,
    /// Microseconds after the segment's base.
    pub arrival_us: u32,
    /// Bytes of the body.
    pub len: u32,
    /// CRC32C of the salt and the body.
    pub(super) body_crc: u32,
}

/// A header that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Neither copy is whole.
    #[error("the segment's header is damaged")]
    Damaged,
    /// It was written by a later version.
    #[error("the segment has version {0}, known is {VERSION}")]
    Version(u16),
}

/// Microseconds since 1970 UTC as a [`Timestamp`]; the epoch when out of its range.
#[must_use]
pub fn timestamp_of(us: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(us).unwrap_or_default()
}

impl SegmentHeader {
    /// Both copies of the header, as a segment begins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = [self.spec.recording.as_str(), self.track.as_str(), self.spec.participant.as_str()];
        let len = HEADER_FIXED + ids.iter().map(|id| 1 + id.len()).sum::<usize>() + 4;
        let mut copy = Vec::with_capacity(2 * len);
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&u16::try_from(len).expect("ids are at most 255 bytes each").to_le_bytes());
        copy.push(source_code(self.spec.source));
        copy.push(kind_code(self.spec.kind));
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&self.base_us.to_le_bytes());
        copy.extend_from_slice(&self.salt.to_le_bytes());
        for id in ids {
            copy.push(u8::try_from(id.len()).expect("ids are at most 128 bytes"));
            copy.extend_from_slice(id.as_bytes());
        }
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.extend_from_within(..);
        copy
    }

    /// Reads the header from a segment's first bytes, and says where its records begin.
    ///
    /// `start` should hold twice `MAX_HEADER_COPY` bytes, or the whole segment when it is shorter.
    ///
    /// # Errors
    /// When neither copy is whole, or the version is not known.
    pub fn decode(start: &[u8]) -> Result<(Self, usize), HeaderError> {
        match Self::decode_copy(start) {
            Ok((header, len)) => Ok((header, 2 * len)),
            Err(version @ HeaderError::Version(_)) => Err(version),
            Err(HeaderError::Damaged) => (1..start.len().min(MAX_HEADER_COPY + 1))
                .filter(|&at| start[at..].starts_with(MAGIC))
                .find_map(|at| match Self::decode_copy(&start[at..]) {
                    Ok((header, len)) => (len == at).then_some(Ok((header, 2 * len))),
                    Err(version @ HeaderError::Version(_)) => Some(Err(version)),
                    Err(HeaderError::Damaged) => None,
                })
                .unwrap_or(Err(HeaderError::Damaged)),
        }
    }

    fn decode_copy(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let mut fields = Fields(bytes);
        let damaged = HeaderError::Damaged;
        if fields.take(8) != Some(MAGIC.as_slice()) {
            return Err(damaged);
        }
        let version = fields.array().map(u16::from_le_bytes).ok_or(HeaderError::Damaged)?;
        let len = usize::from(fields.array().map(u16::from_le_bytes).ok_or(HeaderError::Damaged)?);
        let copy = bytes.get(..len).filter(|_| len > HEADER_FIXED + 4).ok_or(HeaderError::Damaged)?;
        let (body, crc) = copy.split_at(len - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(damaged);
        }
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        Self::decode_fields(fields).map(|header| (header, len)).ok_or(damaged)
    }

    fn decode_fields(mut fields: Fields<'_>) -> Option<Self> {
        let source = source_of(fields.array::<1>()?[0])?;
        let kind = kind_of(fields.array::<1>()?[0])?;
        let number = u32::from_le_bytes(fields.array()?);
        let base_us = i64::from_le_bytes(fields.array()?);
        let salt = u64::from_le_bytes(fields.array()?);
        let recording = RecordingId::parse(fields.text()?).ok()?;
        let track = TrackId::parse(fields.text()?).ok()?;
        let participant = UserId::parse(fields.text()?).ok()?;
        let spec = TrackSpec { recording, participant, source, kind };
        Some(Self { spec, track, number, base_us, salt })
    }

    /// A CRC that has taken in the salt, to go on with.
    #[must_use]
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }
}

impl Frame {
    /// The bytes before the body.
    #[must_use]
    pub fn encode(&self, seed: u32) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..3].copy_from_slice(&MARKER);
        bytes[3] = match self.kind {
            RecordKind::Chunk => 1,
            RecordKind::Rtp => 2,
            RecordKind::SenderReport => 3,
            RecordKind::Mark => 4,
        };
        bytes[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.arrival_us.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        let head_crc = crc32c::crc32c_append(seed, &bytes[..16]);
        bytes[16..20].copy_from_slice(&head_crc.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes
    }

    /// Reads a frame; `None` when it is not one, or damaged.
    #[must_use]
    pub fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take(3)? != MARKER {
            return None;
        }
        let kind = match fields.array::<1>()?[0] {
            1 => RecordKind::Chunk,
            2 => RecordKind::Rtp,
            3 => RecordKind::SenderReport,
            4 => RecordKind::Mark,
            _ => return None,
        };
        let sequence = u32::from_le_bytes(fields.array()?);
        let arrival_us = u32::from_le_bytes(fields.array()?);
        let len = u32::from_le_bytes(fields.array()?);
        let head_crc = u32::from_le_bytes(fields.array()?);
        let body_crc = u32::from_le_bytes(fields.array()?);
        let whole = crc32c::crc32c_append(seed, &bytes[..16]) == head_crc && len <= MAX_BODY_BYTES;
        whole.then_some(Self { kind, sequence, arrival_us, len, body_crc })
    }
}

/// What precedes a chunk's media in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPrefix {
    /// The client's own time, milliseconds since 1970, when it gave one.
    pub client_timestamp_ms: Option<i64>,
    /// SHA-256 of the media.
    pub sha256: [u8; 32],
}

impl ChunkPrefix {
    /// The bytes before the media.
    #[must_use]
    pub fn encode(&self) -> [u8; CHUNK_PREFIX_BYTES] {
        let mut bytes = [0; CHUNK_PREFIX_BYTES];
        bytes[..8].copy_from_slice(&self.client_timestamp_ms.unwrap_or(NO_TIME).to_le_bytes());
        bytes[8..].copy_from_slice(&self.sha256);
        bytes
    }

    /// Reads the bytes before the media; `None` when there are too few.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let time = i64::from_le_bytes(fields.array()?);
        let sha256 = fields.array()?;
        Some(Self { client_timestamp_ms: (time != NO_TIME).then_some(time), sha256 })
    }
}

fn source_code(source: TrackSource) -> u8 {
    match source {
        TrackSource::Client => 1,
        TrackSource::Server => 2,
    }
}

fn source_of(code: u8) -> Option<TrackSource> {
    [TrackSource::Client, TrackSource::Server].into_iter().find(|&source| source_code(source) == code)
}

fn kind_code(kind: TrackKind) -> u8 {
    match kind {
        TrackKind::Video => 1,
        TrackKind::Audio => 2,
        TrackKind::Screen => 3,
    }
}

fn kind_of(code: u8) -> Option<TrackKind> {
    [TrackKind::Video, TrackKind::Audio, TrackKind::Screen].into_iter().find(|&kind| kind_code(kind) == code)
}

/// Bytes that are taken from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = self.array::<1>()?[0];
        std::str::from_utf8(self.take(usize::from(len))?).ok()
    }
}
