//! The tracks of a session whose `moov` is lost, from what its fragments hold.
//!
//! Opus tells its own durations, so its time scale is one of a few. Pictures tell no time: their scale is the one that makes them
//! end with the sound, taken to the nearest whole thousand, which is what recorders use (measured: Chromium writes frames
//! per second times 1,000). Streams end within a packet of each other, so some seconds must have passed before one
//! candidate alone is left. `avc1` without its parameter sets cannot be decoded by anyone, and is left out.

use super::Fragment;
use super::fragment::Sample;
use super::movie::Track;
use crate::assemble::clock::Clock;
use crate::assemble::codec::{self, Codec, h264, opus};
use crate::assemble::writer::TrackHeader;

/// Streams of a fragment end this close to each other: one Opus packet of 60 ms and some.
const SKEW_US: i64 = 70_000;

/// Time scales for pictures that are no whole thousand.
const ODD_SCALES: [i64; 4] = [600, 12_288, 15_360, 11_520];

/// Time scales for sound.
const SOUND_SCALES: [i64; 4] = [48_000, 1_000, 90_000, 1_000_000];

/// Packets that must agree on a time scale.
const MIN_PACKETS: usize = 4;

/// How far they may be off together: one part in this many.
const SOUND_WITHIN: i128 = 12;

/// Whether to wait for more fragments or to decide now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    Decide,
}

/// What the held fragments' tracks are; `None` when more fragments would tell more. A track without a header cannot be
/// decoded.
pub(super) fn tracks(
    held: &[Fragment],
    clock: &Clock,
    patience: Patience,
) -> Option<Vec<(Track, Option<TrackHeader>)>> {
    let mut numbers: Vec<u64> =
        held.iter().flat_map(|part| &part.samples).map(|sample| sample.track).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let sound: Vec<_> = numbers.iter().filter_map(|number| opus_track(held, *number)).collect();
    let sound_end = sound.iter().map(|(track, _)| track.us(end_of(held, track.number))).max();
    let span = sound_end
        .map(|us| (us, Scale::FromSound))
        .or_else(|| Some((clock_span(held, clock)?, Scale::FromClock)));
    let mut found = Vec::new();
    for number in numbers {
        if let Some((track, header)) = sound.iter().find(|(track, _)| track.number == number) {
            found.push((track.clone(), Some(header.clone())));
            continue;
        }
        let (timescale, certain) =
            span.map_or((30_000, false), |(us, _)| picture_scale(end_of(held, number), us));
        if !certain && patience == Patience::Wait {
            return None;
        }
        let from_sound = matches!(span, Some((_, Scale::FromSound)));
        let track =
            Track { number, timescale, scale_is_estimate: !(certain && from_sound), ..Track::default() };
        let header = picture_header(held, number);
        if header.is_none() && patience == Patience::Wait {
            return None;
        }
        found.push((track, header));
    }
    (!found.is_empty()).then_some(found)
}

#[derive(Debug, Clone, Copy)]
enum Scale {
    FromSound,
    FromClock,
}

fn payloads(held: &[Fragment], number: u64) -> impl Iterator<Item = (&Sample, &[u8])> {
    held.iter().flat_map(move |part| {
        let of_track = part.samples.iter().filter(move |sample| sample.track == number);
        of_track.filter_map(|sample| Some((sample, sample.data(&part.bytes)?)))
    })
}

fn end_of(held: &[Fragment], number: u64) -> i64 {
    payloads(held, number)
        .map(|(sample, _)| sample.decode_time.saturating_add(sample.duration))
        .max()
        .unwrap_or(0)
}

/// How much media the client's clock says there is, without sound to tell it.
fn clock_span(held: &[Fragment], clock: &Clock) -> Option<i64> {
    let (first, last) = (held.first()?, held.last()?);
    let us = clock.media_between(&first.stamp, &last.stamp).unwrap_or_else(|| last.stamp.since(&first.stamp));
    (us > 0).then_some(us)
}

/// An Opus track: every packet's own duration is the same number of ticks per second.
fn opus_track(held: &[Fragment], number: u64) -> Option<(Track, TrackHeader)> {
    // One by one they need not agree: sound that comes in buffers which packets do not divide steps unevenly.
    let (mut packets, mut ticks, mut us) = (0, 0i64, 0i64);
    for (sample, data) in payloads(held, number) {
        packets += 1;
        ticks = ticks.saturating_add(sample.duration);
        us = us.saturating_add(opus::duration_us(data)?);
    }
    (packets >= MIN_PACKETS).then_some(())?;
    let near = |scale: &i64| {
        let wanted = i128::from(us) * i128::from(*scale) / 1_000_000;
        (i128::from(ticks) - wanted).abs() * SOUND_WITHIN <= wanted
    };
    let scale = SOUND_SCALES.into_iter().find(near)?;
    let (_, data) = payloads(held, number).next()?;
    let channels = if opus::is_stereo(data) { 2 } else { 1 };
    let mut header = TrackHeader::new(Codec::Opus);
    header.channels = channels.into();
    header.codec_private = opus::head(channels, 0);
    Some((Track { number, timescale: scale, ..Track::default() }, header))
}

/// The time scale under which `ticks` last about `us`, and whether no other one does.
fn picture_scale(ticks: i64, us: i64) -> (i64, bool) {
    const FASTEST: i64 = 90;
    let error = |scale: &i64| (ticks.saturating_mul(1_000_000) / scale - us).abs();
    let whole = (1..=FASTEST).map(|thousands| thousands * 1_000);
    let all = whole.chain(ODD_SCALES);
    let near = all.clone().filter(|scale| error(scale) <= SKEW_US).count();
    (all.min_by_key(error).unwrap_or(30_000), near == 1)
}

/// A header for a picture track, if a keyframe tells all that a decoder needs.
fn picture_header(held: &[Fragment], number: u64) -> Option<TrackHeader> {
    payloads(held, number).find_map(|(_, data)| {
        let codec = match codec::sniff(std::iter::once((0, data))) {
            Some(codec) => codec,
            None if h264::has_idr(data) => Codec::H264,
            None => return None,
        };
        let mut header = TrackHeader::new(codec);
        header.size = codec.picture_size(data);
        if codec == Codec::H264 {
            header.codec_private = h264::avcc_from(h264::prefixed(data, 4))?;
        }
        Some(header)
    })
}
