//! Blobs of other shapes than a camera's and a microphone's, as browsers were seen to give them: heads torn apart or cut, pictures
//! of a screen that hardly changes, sound that steps unevenly.

use bytes::Bytes;
use worker::assemble::{Assembled, Chunk, Codec, Gap, GapReason, Plan};

use crate::probe::{self, Packet};
use crate::support::{chunks, run};

/// How far a told gap may be from what is missing, microseconds.
const GAP_US: i64 = 50_000;

/// A container's times are whole milliseconds.
const SAME_MS: f64 = 1.01;

fn packets_of(chunks: Vec<Chunk>) -> (Assembled, Vec<Packet>) {
    let plan = Plan { last_sequence: chunks.last().map(|chunk| chunk.sequence), ..Plan::default() };
    let (assembled, file) = run(chunks, &plan).unwrap();
    (assembled, probe::packets("matroska", &file))
}

fn without(name: &str, lost: u64) -> (Assembled, Vec<Packet>) {
    packets_of(chunks(name).into_iter().filter(|chunk| chunk.sequence != lost).collect())
}

/// Every packet of `found` is in `whole` at the same time, and how many of `whole` are not in `found`.
#[track_caller]
fn missing(whole: &[Packet], found: &[Packet]) -> usize {
    let is_same =
        |a: &Packet, b: &Packet| a.kind == b.kind && a.hash == b.hash && (a.ms - b.ms).abs() <= SAME_MS;
    for packet in found {
        assert!(whole.iter().any(|other| is_same(packet, other)), "moved or made up: {packet:?}");
    }
    whole.len() - found.len()
}

#[track_caller]
fn is_told(gaps: &[Gap], from_us: i64, to_us: i64, reason: GapReason) {
    let [gap] = gaps else { panic!("{gaps:?}") };
    assert!((gap.from_us - from_us).abs() <= GAP_US && (gap.to_us - to_us).abs() <= GAP_US, "{gap:?}");
    assert_eq!(gap.reason, reason);
}

/// The first blob in two.
fn torn_at(name: &str, at: usize) -> Vec<Chunk> {
    let mut all = chunks(name);
    let first = all[0].clone();
    all[0].bytes = first.bytes.slice(at..);
    for chunk in &mut all {
        chunk.sequence += 1;
    }
    all.insert(0, Chunk { bytes: first.bytes.slice(..at), ..first });
    all
}

#[test]
fn a_head_that_comes_in_two_blobs_is_a_head() {
    for (name, at) in
        [("chrome-webm-vp9", 1), ("ff-webm-vp8", 3), ("chrome-webm-h264", 20), ("chrome-mp4-avc1-kf1", 36)]
    {
        let (whole, file) = run(chunks(name), &Plan::default()).unwrap();
        let (assembled, again) = run(torn_at(name, at), &Plan::default()).unwrap();
        assert_eq!(assembled.gaps, [], "{name}");
        assert_eq!((assembled.streams, again == file), (whole.streams, true), "{name}");
    }
}

#[test]
fn the_first_piece_of_a_torn_head_costs_no_media() {
    for (name, at) in [("chrome-webm-vp9", 1), ("chrome-mp4-avc1-kf1", 36)] {
        let whole = packets_of(chunks(name)).1;
        let rest = torn_at(name, at).split_off(1);
        assert_eq!(missing(&whole, &packets_of(rest).1), 0, "{name}");
    }
}

#[test]
fn a_head_that_was_cut_is_as_good_as_lost() {
    for name in ["chrome-webm-audio", "chrome-webm-vp8", "chrome-mp4-avc3-opus-resize", "chrome-mp4-audio"] {
        let mut cut = chunks(name);
        cut[0].bytes = cut[0].bytes.slice(..150);
        let whole = packets_of(chunks(name)).1;
        let (assembled, found) = packets_of(cut);
        assert_eq!(missing(&whole, &found), missing(&whole, &without(name, 0).1), "{name}");
        assert!(
            assembled.gaps.iter().all(|gap| gap.reason == GapReason::Corrupt),
            "{name}: {:?}",
            assembled.gaps
        );
    }
}

#[test]
fn loud_sound_of_firefox_keeps_its_times_without_the_first_blob() {
    let whole = packets_of(chunks("ff-webm-audio")).1;
    let (assembled, found) = without("ff-webm-audio", 0);
    assert_eq!(assembled.streams[0].codec_delay_us, 6_500);
    assert!(missing(&whole, &found) <= 12);
}

#[test]
fn sound_that_steps_unevenly_is_known_without_the_first_blob() {
    let (assembled, found) = without("chrome-webm-audio-uneven", 0);
    assert_eq!(assembled.streams[0].codec, Codec::Opus);
    assert!(found.len() > 120, "{}", found.len());
}

#[test]
fn pictures_of_a_screen_stay_at_their_times_when_one_blob_is_lost() {
    // All of it is one cluster, so that every time is still known.
    let all = packets_of(chunks("chrome-webm-screen")).1;
    for lost in 2..9 {
        missing(&all, &without("chrome-webm-screen", lost).1);
    }
}

#[test]
fn sound_that_is_missing_beside_slow_pictures_is_told() {
    let name = "ff-webm-screen";
    let whole = packets_of(chunks(name)).1;
    for lost in 4..10 {
        let (assembled, found) = without(name, lost);
        let gone: Vec<&Packet> = whole
            .iter()
            .filter(|packet| {
                packet.kind == "audio" && !found.iter().any(|other| (other.ms - packet.ms).abs() < SAME_MS)
            })
            .collect();
        let edge = |packet: Option<&&Packet>| packet.map_or(0, |packet| (packet.ms * 1_000.0) as i64);
        is_told(&assembled.gaps, edge(gone.first()), edge(gone.last()) + 20_000, GapReason::MissingChunk);
    }
}

#[test]
fn samples_are_samples_without_the_first_blob() {
    // Made here: nobody wants a megabyte of floats in a repository.
    let float = |n: usize| ((n as f32 / 20.0).sin() * 0.5).to_le_bytes();
    let block = |n: usize| {
        let mut block = vec![0xA3, 0x47, 0x84, 0x81];
        block.extend_from_slice(&u16::try_from(n * 10).unwrap().to_be_bytes());
        block.push(0x80);
        block.extend((0..480).flat_map(|at| float(n * 480 + at)));
        block
    };
    let mut cluster =
        vec![0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xE7, 0x82, 0x03, 0xE8];
    cluster.extend((0..50).flat_map(block));
    let chunk =
        Chunk { sequence: 1, timestamp_ms: Some(1_000), arrival_ms: 2_000, bytes: Bytes::from(cluster) };
    let (assembled, found) = packets_of(vec![chunk]);
    assert_eq!((assembled.streams[0].codec, found.len()), (Codec::PcmFloat, 50));
    assert_eq!(found[0].ms, 1_000.0);
}

#[test]
fn what_a_cut_fragment_lost_is_told_for_the_stream_that_lost_it() {
    let name = "chrome-mp4-avc1-kf1";
    let whole = packets_of(chunks(name)).1;
    for keep in [3, 5, 7, 9] {
        let mut cut = chunks(name);
        cut[5].bytes = cut[5].bytes.slice(..cut[5].bytes.len() * keep / 10);
        let (assembled, found) = packets_of(cut);
        let gone: Vec<&Packet> = whole
            .iter()
            .filter(|packet| {
                let same =
                    |other: &&Packet| other.kind == packet.kind && (other.ms - packet.ms).abs() < SAME_MS;
                found.iter().find(same).is_none()
            })
            .collect();
        assert_eq!(gone.len(), missing(&whole, &found));
        let from = gone.iter().map(|packet| packet.ms).fold(f64::MAX, f64::min);
        let last = gone.iter().map(|packet| packet.ms).fold(0.0, f64::max);
        is_told(
            &assembled.gaps,
            (from * 1_000.0) as i64,
            (last * 1_000.0) as i64 + 55_000,
            GapReason::Corrupt,
        );
    }
}
