//! A session's head: time scale and tracks out of `Info` and `Tracks`.

use crate::assemble::codec::{Codec, Kind, opus};
use crate::assemble::ebml::{self, id};
use crate::assemble::writer::{MAX_CODEC_PRIVATE, TrackHeader};

/// The largest `Colour` element that is carried over; browsers write about 40 bytes.
const MAX_COLOUR: usize = 256;

/// Tracks beyond this many are not looked at.
const MAX_TRACK_ENTRIES: usize = 16;

/// A track of a session.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) number: u64,
    pub(super) codec: Codec,
    /// What laced frames last where the codec does not tell; microseconds, 0 if unknown.
    pub(super) default_duration_us: i64,
}

/// Nanoseconds per tick in an `Info` payload (RFC 9559: 1,000,000 unless it says otherwise).
pub(super) fn timestamp_scale(info: &[u8]) -> u64 {
    const DEFAULT: u64 = 1_000_000;
    let found = ebml::children(info).find(|(child, _)| *child == id::TIMESTAMP_SCALE);
    found.map_or(DEFAULT, |(_, value)| ebml::uint(value)).clamp(1, 1_000_000_000)
}

/// The tracks of a `Tracks` payload that can be kept.
pub(super) fn tracks(payload: &[u8]) -> Vec<(Track, TrackHeader)> {
    let entries = ebml::children(payload).filter(|(child, _)| *child == id::TRACK_ENTRY);
    entries.take(MAX_TRACK_ENTRIES).filter_map(|(_, entry)| track(entry)).collect()
}

/// Every track number of a `Tracks` payload, also of tracks that cannot be kept: blocks may have them all.
pub(super) fn numbers(payload: &[u8]) -> Vec<u64> {
    let entries =
        ebml::children(payload).filter(|(child, _)| *child == id::TRACK_ENTRY).take(MAX_TRACK_ENTRIES);
    let number = |entry| ebml::children(entry).find(|(child, _)| *child == id::TRACK_NUMBER);
    entries.filter_map(|(_, entry)| number(entry)).map(|(_, value)| ebml::uint(value)).collect()
}

fn track(entry: &[u8]) -> Option<(Track, TrackHeader)> {
    let child =
        |wanted: u32| ebml::children(entry).find(|(found, _)| *found == wanted).map(|(_, value)| value);
    let number = ebml::uint(child(id::TRACK_NUMBER)?);
    let codec = Codec::from_matroska_id(child(id::CODEC_ID)?)?;
    let mut header = TrackHeader::new(codec);
    let private = child(id::CODEC_PRIVATE).filter(|data| data.len() <= MAX_CODEC_PRIVATE);
    header.codec_private = private.unwrap_or_default().to_vec();
    header.codec_delay_ns = child(id::CODEC_DELAY).map_or(0, ebml::uint);
    header.seek_pre_roll_ns = child(id::SEEK_PRE_ROLL).map_or(0, ebml::uint);
    match codec.kind() {
        Kind::Video => video(child(id::VIDEO).unwrap_or_default(), &mut header),
        Kind::Audio => audio(child(id::AUDIO).unwrap_or_default(), &mut header),
    }
    let default_ns = child(id::DEFAULT_DURATION).map_or(0, ebml::uint);
    let default_duration_us = i64::try_from(default_ns / 1_000).unwrap_or(0).min(1_000_000);
    Some((Track { number, codec, default_duration_us }, header))
}

fn video(payload: &[u8], header: &mut TrackHeader) {
    let (mut width, mut height) = (0, 0);
    for (child, value) in ebml::children(payload) {
        match child {
            id::PIXEL_WIDTH => width = u32::try_from(ebml::uint(value)).unwrap_or(0),
            id::PIXEL_HEIGHT => height = u32::try_from(ebml::uint(value)).unwrap_or(0),
            id::ALPHA_MODE => header.has_alpha = ebml::uint(value) == 1,
            id::COLOUR if value.len() <= MAX_COLOUR => header.colour = value.to_vec(),
            _ => {}
        }
    }
    header.size = (width > 0 && height > 0).then_some((width, height));
}

fn audio(payload: &[u8], header: &mut TrackHeader) {
    for (child, value) in ebml::children(payload) {
        match child {
            id::SAMPLING_FREQUENCY => {
                let rate = ebml::float(value).filter(|hz| (1_000.0..=768_000.0).contains(hz));
                header.sample_rate = rate.unwrap_or(header.sample_rate);
            }
            id::CHANNELS => header.channels = ebml::uint(value).clamp(1, 255),
            id::BIT_DEPTH => header.bit_depth = ebml::uint(value).min(64),
            _ => {}
        }
    }
}

/// Who wrote a session, told from how its elements are written: all that is left when its head is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Muxer {
    /// Sizes as short as can be (libwebm, Chromium).
    Tight,
    /// Block sizes always in four bytes (Firefox).
    Padded,
}

/// A header for a track whose own is lost, from one of its keyframes or packets.
pub(super) fn guessed(codec: Codec, frame: &[u8], muxer: Muxer) -> TrackHeader {
    const SEEK_PRE_ROLL_NS: u64 = 80_000_000; // RFC 7845, section 4.6
    let mut header = TrackHeader::new(codec);
    header.size = if codec == Codec::H264 { None } else { codec.picture_size(frame) }; // Annex B still
    if codec == Codec::Opus {
        let channels = if opus::is_stereo(frame) { 2 } else { 1 };
        header.channels = channels.into();
        let pre_skip = if muxer == Muxer::Padded { opus::FIREFOX_PRE_SKIP } else { 0 };
        header.codec_private = opus::head(channels, pre_skip);
        header.codec_delay_ns = u64::from(pre_skip) * 1_000_000_000 / 48_000;
        header.seek_pre_roll_ns = if muxer == Muxer::Padded { SEEK_PRE_ROLL_NS } else { 0 };
    }
    header
}
