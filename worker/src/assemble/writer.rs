//! Writes one clean Matroska file: known sizes, exact times, nothing random (RFC 9559).
//!
//! The output is a pure function of what is written: no random UIDs, no dates. The head is written last, into space
//! kept for it, because a track's codec data or a second session's extra track is known only later. Clusters are built in
//! memory and written whole, so a payload is copied once and no `BufWriter` is needed. No Cues: FFmpeg remuxes this file.

use std::io::{self, Seek, SeekFrom, Write};

use super::codec::{Codec, Kind};
use super::ebml::{self, id};

/// Room kept for everything before the first cluster. Four tracks with the largest codec data fit twice over.
const HEAD_BYTES: usize = 8 * 1024;

/// The largest codec data that is written: `avcC` with eight parameter sets of 100 bytes, or `OpusHead` with its map.
pub(super) const MAX_CODEC_PRIVATE: usize = 1024;

/// How many tracks a file may have: MediaRecorder records one of each kind; two more for what a second session adds.
pub(super) const MAX_TRACKS: usize = 4;

/// A cluster is closed when it holds this much, so that memory stays small however long the span.
const MAX_CLUSTER_BYTES: usize = 2 * 1024 * 1024;

/// A cluster is closed when it spans this many ticks: block times are 16 bits, signed.
const MAX_CLUSTER_TICKS: i64 = 30_000;

/// What a track's header says, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TrackHeader {
    pub(super) codec: Codec,
    pub(super) codec_private: Vec<u8>,
    /// Nanoseconds, as the source said.
    pub(super) codec_delay_ns: u64,
    pub(super) seek_pre_roll_ns: u64,
    pub(super) size: Option<(u32, u32)>,
    pub(super) has_alpha: bool,
    /// The `Colour` element's payload, as the source had it.
    pub(super) colour: Vec<u8>,
    pub(super) sample_rate: f64,
    pub(super) channels: u64,
    pub(super) bit_depth: u64,
}

impl TrackHeader {
    /// A header that knows the codec alone.
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            codec_private: Vec::new(),
            codec_delay_ns: 0,
            seek_pre_roll_ns: 0,
            size: None,
            has_alpha: false,
            colour: Vec::new(),
            sample_rate: 48_000.0,
            channels: 1,
            bit_depth: 0,
        }
    }
}

/// One block as it goes into the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// Index of the track, from 0.
    pub(super) track: usize,
    pub(super) time_us: i64,
    pub(super) kind: BlockKind,
    pub(super) data: &'a [u8],
    /// The payload of a `BlockAdditions` element (VP8 and VP9 alpha), empty when there is none.
    pub(super) additions: &'a [u8],
}

/// Whether a block can be decoded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Key,
    Delta,
}

/// A Matroska file being written.
pub(super) struct Writer<W> {
    out: W,
    tick_us: i64,
    cluster: Vec<u8>,
    cluster_ticks: i64,
    /// Bytes written to `out` so far, head included.
    written: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file whose times are multiples of `tick_us`.
    pub(super) fn new(mut out: W, tick_us: i64) -> io::Result<Self> {
        out.write_all(&[0; HEAD_BYTES])?;
        Ok(Self {
            out,
            tick_us: tick_us.max(1),
            cluster: Vec::new(),
            cluster_ticks: 0,
            written: HEAD_BYTES as u64,
        })
    }

    /// Appends one block; blocks come in the order in which they are to be read.
    pub(super) fn write(&mut self, block: &Block<'_>) -> io::Result<()> {
        let ticks = (block.time_us.max(0) + self.tick_us / 2) / self.tick_us;
        let span = (ticks - self.cluster_ticks).abs();
        if self.cluster.is_empty() || span > MAX_CLUSTER_TICKS || self.cluster.len() > MAX_CLUSTER_BYTES {
            self.begin_cluster(ticks)?;
        }
        let relative = i16::try_from(ticks - self.cluster_ticks).unwrap_or(i16::MAX);
        if block.additions.is_empty() {
            self.simple_block(block, relative);
        } else {
            self.block_group(block, relative);
        }
        Ok(())
    }

    fn simple_block(&mut self, block: &Block<'_>, relative: i16) {
        ebml::put_id(&mut self.cluster, id::SIMPLE_BLOCK);
        let flags = if block.kind == BlockKind::Key { 0x80 } else { 0 };
        self.block_body(block, relative, flags);
    }

    fn block_group(&mut self, block: &Block<'_>, relative: i16) {
        let mut tail = Vec::with_capacity(block.additions.len() + 16);
        ebml::put(&mut tail, id::BLOCK_ADDITIONS, block.additions);
        if block.kind == BlockKind::Delta {
            ebml::put(&mut tail, id::REFERENCE_BLOCK, &[0xFF]);
        }
        let mut size = Vec::with_capacity(9);
        ebml::put_size(&mut size, block.data.len() + 4);
        ebml::put_id(&mut self.cluster, id::BLOCK_GROUP);
        ebml::put_size(&mut self.cluster, 1 + size.len() + 4 + block.data.len() + tail.len());
        ebml::put_id(&mut self.cluster, id::BLOCK);
        self.block_body(block, relative, 0);
        self.cluster.extend_from_slice(&tail);
    }

    fn block_body(&mut self, block: &Block<'_>, relative: i16, flags: u8) {
        ebml::put_size(&mut self.cluster, block.data.len() + 4);
        self.cluster.push(0x80 | u8::try_from(block.track + 1).unwrap_or(1));
        self.cluster.extend_from_slice(&relative.to_be_bytes());
        self.cluster.push(flags);
        self.cluster.extend_from_slice(block.data);
    }

    fn begin_cluster(&mut self, ticks: i64) -> io::Result<()> {
        self.flush()?;
        self.cluster_ticks = ticks;
        ebml::put_id(&mut self.cluster, id::CLUSTER);
        ebml::put_size8(&mut self.cluster, 0);
        ebml::put_uint(&mut self.cluster, id::TIMESTAMP, ticks.unsigned_abs());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        const SIZE_AT: usize = 4;
        const PAYLOAD_AT: usize = SIZE_AT + 8;
        let size = self.cluster.len().saturating_sub(PAYLOAD_AT) as u64;
        let Some(field) = self.cluster.get_mut(SIZE_AT..PAYLOAD_AT) else { return Ok(()) };
        field.copy_from_slice(&(size | 1 << 56).to_be_bytes());
        self.out.write_all(&self.cluster)?;
        self.written += self.cluster.len() as u64;
        self.cluster.clear();
        Ok(())
    }

    /// Writes the last cluster and the head; returns the file's size in bytes.
    pub(super) fn finish(mut self, tracks: &[TrackHeader], duration_us: i64) -> io::Result<u64> {
        self.flush()?;
        let head = self.head(tracks, duration_us);
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head)?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.written)
    }

    fn head(&self, tracks: &[TrackHeader], duration_us: i64) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut doc_type = Vec::new();
        ebml::put(&mut doc_type, id::DOC_TYPE, b"matroska");
        ebml::put_uint(&mut doc_type, 0x4287, 4); // DocTypeVersion
        ebml::put_uint(&mut doc_type, 0x4285, 2); // DocTypeReadVersion
        ebml::put(&mut head, id::EBML, &doc_type);
        ebml::put_id(&mut head, id::SEGMENT);
        let payload_at = head.len() as u64 + 8;
        ebml::put_size8(&mut head, self.written.saturating_sub(payload_at));
        ebml::put(&mut head, id::INFO, &self.info(duration_us));
        let mut entries = Vec::new();
        for (index, track) in tracks.iter().take(MAX_TRACKS).enumerate() {
            ebml::put(&mut entries, id::TRACK_ENTRY, &entry(index as u64 + 1, track));
        }
        ebml::put(&mut head, id::TRACKS, &entries);
        let padding = HEAD_BYTES.saturating_sub(head.len() + 9);
        ebml::put_id(&mut head, id::VOID);
        ebml::put_size8(&mut head, padding as u64);
        head.resize(HEAD_BYTES, 0);
        head
    }

    fn info(&self, duration_us: i64) -> Vec<u8> {
        let mut info = Vec::new();
        ebml::put_uint(&mut info, id::TIMESTAMP_SCALE, self.tick_us.unsigned_abs() * 1_000);
        ebml::put_float(&mut info, id::DURATION, duration_us as f64 / self.tick_us as f64);
        ebml::put(&mut info, id::MUXING_APP, b"callreel");
        ebml::put(&mut info, id::WRITING_APP, b"callreel");
        info
    }
}

/// The payload of one `TrackEntry`.
fn entry(number: u64, track: &TrackHeader) -> Vec<u8> {
    let mut entry = Vec::new();
    ebml::put_uint(&mut entry, id::TRACK_NUMBER, number);
    ebml::put_uint(&mut entry, id::TRACK_UID, number);
    ebml::put_uint(&mut entry, id::FLAG_LACING, 0);
    ebml::put(&mut entry, id::CODEC_ID, track.codec.matroska_id().as_bytes());
    if !track.codec_private.is_empty() {
        ebml::put(&mut entry, id::CODEC_PRIVATE, &track.codec_private);
    }
    if track.codec_delay_ns > 0 {
        ebml::put_uint(&mut entry, id::CODEC_DELAY, track.codec_delay_ns);
    }
    if track.seek_pre_roll_ns > 0 {
        ebml::put_uint(&mut entry, id::SEEK_PRE_ROLL, track.seek_pre_roll_ns);
    }
    let mut detail = Vec::new();
    match track.codec.kind() {
        Kind::Video => {
            ebml::put_uint(&mut entry, id::TRACK_TYPE, 1);
            if track.has_alpha {
                ebml::put_uint(&mut entry, id::MAX_BLOCK_ADDITION_ID, 1);
                ebml::put_uint(&mut detail, id::ALPHA_MODE, 1);
            }
            if let Some((width, height)) = track.size {
                ebml::put_uint(&mut detail, id::PIXEL_WIDTH, width.into());
                ebml::put_uint(&mut detail, id::PIXEL_HEIGHT, height.into());
            }
            if !track.colour.is_empty() {
                ebml::put(&mut detail, id::COLOUR, &track.colour);
            }
            ebml::put(&mut entry, id::VIDEO, &detail);
        }
        Kind::Audio => {
            ebml::put_uint(&mut entry, id::TRACK_TYPE, 2);
            ebml::put_float(&mut detail, id::SAMPLING_FREQUENCY, track.sample_rate);
            ebml::put_uint(&mut detail, id::CHANNELS, track.channels);
            if track.bit_depth > 0 {
                ebml::put_uint(&mut detail, id::BIT_DEPTH, track.bit_depth);
            }
            ebml::put(&mut entry, id::AUDIO, &detail);
        }
    }
    entry
}
