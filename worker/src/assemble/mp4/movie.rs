//! A session's head: what `moov` says of its tracks (ISO 14496-12, section 8; Opus in ISO-BMFF; ISO 14496-1 for `esds`).

use super::boxes::{child, children, u32_at, u64_at};
use super::codec_of;
use crate::assemble::codec::{Codec, Kind};
use crate::assemble::writer::{MAX_CODEC_PRIVATE, TrackHeader};

/// Tracks beyond this many are not looked at.
const MAX_TRACKS: usize = 16;

/// How a track's numbers are to be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    pub(super) number: u64,
    pub(super) timescale: i64,
    /// Ticks that an edit list adds to every time.
    pub(super) shift: i64,
    pub(super) default_duration: u32,
    pub(super) default_size: u32,
    pub(super) default_flags: u32,
    /// The time scale was guessed from other tracks.
    pub(super) scale_is_estimate: bool,
}

impl Track {
    /// A time in ticks as microseconds of the session.
    pub(super) fn us(&self, ticks: i64) -> i64 {
        self.span_us(ticks.saturating_add(self.shift))
    }

    /// A length in ticks as microseconds, to the nearest.
    pub(super) fn span_us(&self, ticks: i64) -> i64 {
        let scale = i128::from(self.timescale.max(1));
        let us = (i128::from(ticks) * 1_000_000 + scale / 2).div_euclid(scale);
        i64::try_from(us).unwrap_or(i64::MAX / 4)
    }
}

/// The tracks of a `moov`; one that no file of ours can hold has no header.
pub(super) fn tracks(moov: &[u8]) -> Vec<(Track, Option<TrackHeader>)> {
    let movie_scale = child(moov, b"mvhd").and_then(timescale).unwrap_or(1_000);
    let traks = children(moov).filter(|(name, _)| name == b"trak").take(MAX_TRACKS);
    let mut found: Vec<_> = traks.filter_map(|(_, trak)| track(trak, movie_scale)).collect();
    let extends = child(moov, b"mvex").unwrap_or_default();
    for (_, trex) in children(extends).filter(|(name, _)| name == b"trex") {
        let number = u32_at(trex, 4).map_or(0, u64::from);
        if let Some((track, _)) = found.iter_mut().find(|(track, _)| track.number == number) {
            track.default_duration = u32_at(trex, 12).unwrap_or(0);
            track.default_size = u32_at(trex, 16).unwrap_or(0);
            track.default_flags = u32_at(trex, 20).unwrap_or(0);
        }
    }
    found
}

fn track(trak: &[u8], movie_scale: i64) -> Option<(Track, Option<TrackHeader>)> {
    let tkhd = child(trak, b"tkhd")?;
    let number = u64::from(u32_at(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 })?);
    let mdia = child(trak, b"mdia")?;
    let timescale = timescale(child(mdia, b"mdhd")?)?;
    let shift = child(trak, b"edts")
        .and_then(|edts| child(edts, b"elst"))
        .map_or(0, |elst| shift(elst, timescale, movie_scale));
    let stsd = child(child(child(mdia, b"minf")?, b"stbl")?, b"stsd")?;
    let (name, entry) = children(stsd.get(8..)?).next()?;
    Some((Track { number, timescale, shift, ..Track::default() }, header(name, entry)))
}

fn timescale(box_payload: &[u8]) -> Option<i64> {
    let at = if box_payload.first() == Some(&1) { 20 } else { 12 };
    u32_at(box_payload, at).filter(|scale| *scale > 0).map(i64::from)
}

/// What an edit list adds to every time: an empty edit delays, a first edit inside the media hides its beginning.
fn shift(elst: &[u8], timescale: i64, movie_scale: i64) -> i64 {
    let wide = elst.first() == Some(&1);
    let entry = if wide { 20 } else { 12 };
    let count = u32_at(elst, 4).unwrap_or(0).min(4) as usize;
    let mut delay = 0i64;
    for index in 0..count {
        let at = 8 + index * entry;
        let (length, media_time) = if wide {
            (u64_at(elst, at).map(u64::cast_signed), u64_at(elst, at + 8).map(u64::cast_signed))
        } else {
            (u32_at(elst, at).map(i64::from), u32_at(elst, at + 4).map(|time| i64::from(time.cast_signed())))
        };
        let (Some(length), Some(media_time)) = (length, media_time) else { break };
        if media_time >= 0 {
            return delay.saturating_sub(media_time);
        }
        delay = delay.saturating_add(length.saturating_mul(timescale) / movie_scale.max(1));
    }
    delay
}

fn header(name: [u8; 4], entry: &[u8]) -> Option<TrackHeader> {
    let codec = codec_of(name)?;
    let mut header = TrackHeader::new(codec);
    let inside = entry.get(if codec.kind() == Kind::Video { 78 } else { 28 }..)?;
    if codec.kind() == Kind::Video {
        let size = u32_at(entry, 24)?;
        header.size = (size >> 16 > 0 && size & 0xFFFF > 0).then_some((size >> 16, size & 0xFFFF));
    } else {
        header.channels = u64::from(u32_at(entry, 16)? >> 16).clamp(1, 255);
        header.sample_rate = f64::from(u32_at(entry, 24)? >> 16).clamp(1_000.0, 768_000.0);
    }
    let private = match codec {
        Codec::H264 => child(inside, b"avcC")?.to_vec(),
        Codec::Av1 => child(inside, b"av1C")?.to_vec(),
        Codec::Opus => opus_head(child(inside, b"dOps")?)?,
        Codec::Aac => audio_specific_config(child(inside, b"esds")?)?.to_vec(),
        Codec::Vp8 | Codec::Vp9 | Codec::PcmFloat => Vec::new(),
    };
    header.codec_private = Some(private).filter(|private| private.len() <= MAX_CODEC_PRIVATE)?;
    Some(header)
}

/// An `OpusHead` from a `dOps`, which has the same fields the other way round.
fn opus_head(dops: &[u8]) -> Option<Vec<u8>> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(*dops.get(1)?);
    for (from, to) in [(2, 4), (4, 8), (8, 10)] {
        head.extend(dops.get(from..to)?.iter().rev());
    }
    head.extend_from_slice(dops.get(10..)?);
    Some(head)
}

/// The decoder-specific bytes (tag 5) inside an `esds`.
fn audio_specific_config(esds: &[u8]) -> Option<&[u8]> {
    let (tag, body) = descriptor(esds.get(4..)?)?;
    (tag == 3).then_some(())?;
    let (tag, body) = descriptor(body.get(3..)?)?;
    (tag == 4).then_some(())?;
    let (tag, body) = descriptor(body.get(13..)?)?;
    (tag == 5).then_some(body)
}

fn descriptor(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (tag, mut rest) = bytes.split_first()?;
    let mut size = 0usize;
    for _ in 0..4 {
        let (byte, after) = rest.split_first()?;
        rest = after;
        size = size << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((*tag, rest.get(..size.min(rest.len()))?))
}
