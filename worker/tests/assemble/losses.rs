//! Blobs lost, cut, swapped and doubled: nothing else may move.

use std::collections::HashMap;

use bytes::Bytes;
use worker::assemble::{Assembled, Chunk, GapReason, Plan};

use crate::probe::{self, Packet};
use crate::support::{FIXTURES, Seeded, chunks, run};

fn format_of(name: &str) -> &'static str {
    if name.contains("mp4") { "mov" } else { "matroska" }
}

/// The fixture as FFmpeg sees it, whole. H.264 in Annex B is brought to MP4's packing first, as any remuxer does.
fn reference(name: &str) -> Vec<Packet> {
    let whole: Vec<u8> = chunks(name).iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
    if name.contains("h264") {
        return probe::packets("matroska", &probe::copied(&whole, "mkv"));
    }
    probe::packets(format_of(name), &whole)
}

/// How the output differs from the fixture whole.
#[derive(Debug, Default)]
struct Compared {
    kept: usize,
    /// Milliseconds of the packets that are missing, first to end.
    missing: Vec<f64>,
    mistimed: Vec<(f64, f64)>,
    foreign: usize,
    worst_ms: f64,
}

fn compare(want: &[Packet], got: &[Packet], tolerance_ms: f64) -> Compared {
    let mut by_hash: HashMap<(&str, &str), Vec<f64>> = HashMap::new();
    for packet in got {
        by_hash.entry((&packet.kind, &packet.hash)).or_default().push(packet.ms);
    }
    let mut result = Compared::default();
    let mut unmatched = Vec::new();
    for packet in want {
        let times = by_hash.get_mut(&(packet.kind.as_str(), packet.hash.as_str()));
        let near = times.and_then(|times| {
            let at = times.iter().position(|ms| (ms - packet.ms).abs() <= tolerance_ms)?;
            Some(times.swap_remove(at))
        });
        match near {
            Some(ms) => {
                result.kept += 1;
                result.worst_ms = result.worst_ms.max((ms - packet.ms).abs());
            }
            None => unmatched.push(packet),
        }
    }
    for packet in unmatched {
        let times = by_hash.get_mut(&(packet.kind.as_str(), packet.hash.as_str()));
        match times.and_then(Vec::pop) {
            Some(ms) => result.mistimed.push((packet.ms, ms)),
            None => result.missing.push(packet.ms),
        }
    }
    result.foreign = by_hash.values().map(Vec::len).sum();
    result
}

fn check(name: &str, what: &str, want: &[Packet], chunks: Vec<Chunk>, plan: &Plan) -> (Assembled, Compared) {
    let (assembled, file) = run(chunks, plan).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
    let compared = compare(want, &probe::packets("matroska", &file), 1.01);
    assert!(
        compared.mistimed.is_empty(),
        "{name}, {what}: mistimed {:?} gaps {:?}",
        compared.mistimed,
        assembled.gaps
    );
    assert_eq!(compared.foreign, 0, "{name}, {what}: packets that the fixture does not have");
    (assembled, compared)
}

#[test]
fn a_whole_recording_keeps_every_packet_and_time() {
    for name in FIXTURES {
        let want = reference(name);
        assert!(want.len() > 100, "{name}");
        let (assembled, compared) = check(name, "whole", &want, chunks(name), &Plan::default());
        assert_eq!(compared.missing.len(), 0, "{name}");
        assert_eq!(assembled.gaps, [], "{name}");
        assert_eq!(assembled.estimates, [], "{name}");
        let packets: u64 = assembled.streams.iter().map(|stream| stream.packets).sum();
        assert_eq!(packets, want.len() as u64, "{name}");
    }
}

#[test]
fn keyframes_are_marked_as_ffmpeg_marks_them() {
    for name in FIXTURES {
        let (_, file) = run(chunks(name), &Plan::default()).unwrap();
        let keys = |packets: &[Packet]| packets.iter().filter(|packet| packet.key).count();
        assert_eq!(keys(&probe::packets("matroska", &file)), keys(&reference(name)), "{name}");
    }
}

#[test]
fn every_output_decodes_without_complaint() {
    for name in FIXTURES {
        let (_, file) = run(chunks(name), &Plan::default()).unwrap();
        let whole: Vec<u8> = chunks(name).iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        // Hidden frames of alpha make FFmpeg complain of the browser's own file as well.
        assert_eq!(
            probe::decode_complaints(&file),
            probe::decode_complaints_of(format_of(name), &whole),
            "{name}"
        );
    }
}

#[test]
fn a_lost_blob_costs_only_its_own_media_wherever_it_is() {
    for name in FIXTURES {
        let want = reference(name);
        let all = chunks(name);
        for lost in 1..all.len() {
            let mut rest = all.clone();
            rest.remove(lost);
            let plan = Plan { last_sequence: Some(all.len() as u64 - 1), ..Plan::default() };
            let (assembled, compared) = check(name, &format!("without blob {lost}"), &want, rest, &plan);
            check_gap(name, lost, &assembled, &compared, &all, GapReason::MissingChunk);
        }
    }
}

/// The packets that are missing must be no more than the blob held, and the gap must span them.
fn check_gap(
    name: &str,
    lost: usize,
    assembled: &Assembled,
    compared: &Compared,
    all: &[Chunk],
    reason: GapReason,
) {
    let blob = &all[lost];
    if compared.missing.is_empty() {
        return;
    }
    let share = blob.bytes.len() as f64 / all.iter().map(|chunk| chunk.bytes.len()).sum::<usize>() as f64;
    let total = (compared.kept + compared.missing.len()) as f64;
    assert!(
        (compared.missing.len() as f64) < total * share * 3.0 + 8.0,
        "{name} without {lost}: {} of {total} packets are missing",
        compared.missing.len()
    );
    let from = compared.missing.iter().copied().fold(f64::MAX, f64::min);
    let to = compared.missing.iter().copied().fold(f64::MIN, f64::max);
    assert_eq!(assembled.gaps.len(), 1, "{name} without {lost}: {:?}", assembled.gaps);
    let gap = assembled.gaps[0];
    assert_eq!(gap.reason, reason, "{name} without {lost}");
    let (gap_from, gap_to) = (gap.from_us as f64 / 1_000.0, gap.to_us as f64 / 1_000.0);
    assert!(
        (gap_from - from).abs() <= 40.0,
        "{name} without {lost}: gap from {gap_from}, missing from {from}"
    );
    let last = lost + 1 == all.len();
    assert!(
        (gap_to >= to - 5.0 && gap_to <= to + 95.0) || last,
        "{name} without {lost}: gap to {gap_to}, last missing packet at {to}"
    );
}

#[test]
fn blobs_swapped_or_doubled_and_ordered_again_are_as_whole() {
    for name in FIXTURES {
        let whole = run(chunks(name), &Plan::default()).unwrap();
        let mut mixed = chunks(name);
        mixed.swap(2, 3);
        mixed.push(mixed[4].clone());
        mixed.sort_by_key(|chunk| chunk.sequence);
        mixed.dedup_by_key(|chunk| chunk.sequence);
        let again = run(mixed, &Plan::default()).unwrap();
        assert_eq!(again.0, whole.0, "{name}");
        assert!(again.1 == whole.1, "{name}: the same chunks made another file");
    }
}

#[test]
fn a_blob_cut_anywhere_costs_only_what_was_cut() {
    let mut random = Seeded(7);
    for name in FIXTURES {
        let want = reference(name);
        let all = chunks(name);
        for _ in 0..12 {
            let which = 1 + random.below(all.len() - 2);
            let keep = random.below(all[which].bytes.len());
            let mut cut = all.clone();
            cut[which].bytes = cut[which].bytes.slice(..keep);
            let what = format!("blob {which} cut to {keep} of {}", all[which].bytes.len());
            let (assembled, compared) = check(name, &what, &want, cut, &Plan::default());
            check_gap(name, which, &assembled, &compared, &all, GapReason::Corrupt);
        }
    }
}

#[test]
fn a_blob_of_noise_costs_only_itself() {
    let mut random = Seeded(11);
    for name in FIXTURES {
        let want = reference(name);
        let all = chunks(name);
        for which in [1, all.len() / 2] {
            let mut noisy = all.clone();
            let noise: Vec<u8> = (0..all[which].bytes.len()).map(|_| random.below(256) as u8).collect();
            noisy[which].bytes = Bytes::from(noise);
            let (assembled, compared) =
                check(name, &format!("blob {which} is noise"), &want, noisy, &Plan::default());
            check_gap(name, which, &assembled, &compared, &all, GapReason::Corrupt);
        }
    }
}

#[test]
fn the_first_blob_lost_costs_only_itself() {
    for name in FIXTURES {
        let want = reference(name);
        let all = chunks(name);
        let rest = all[1..].to_vec();
        if name.contains("avc1") {
            continue; // its parameter sets were in the first blob alone; see the test beneath
        }
        let (assembled, compared) = check(name, "without the first blob", &want, rest, &Plan::default());
        check_gap(name, 0, &assembled, &compared, &all, GapReason::MissingChunk);
    }
}

#[test]
fn blobs_torn_anywhere_are_put_together() {
    let mut random = Seeded(5);
    for name in FIXTURES {
        let (want, file) = run(chunks(name), &Plan::default()).unwrap();
        let whole: Vec<u8> = chunks(name).iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        for longest in [700, 9_000, 60_000] {
            let (mut at, mut torn) = (0, Vec::new());
            while at < whole.len() {
                let end = (at + 200 + random.below(longest)).min(whole.len());
                let bytes = Bytes::copy_from_slice(&whole[at..end]);
                torn.push(Chunk { sequence: torn.len() as u64, timestamp_ms: None, arrival_ms: 0, bytes });
                at = end;
            }
            let (assembled, again) = run(torn, &Plan::default()).unwrap();
            assert_eq!(assembled.gaps, want.gaps, "{name} in pieces of up to {longest}");
            assert!(again == file, "{name} in pieces of up to {longest}");
        }
    }
}

#[test]
fn several_blobs_lost_at_once_move_nothing() {
    let mut random = Seeded(9);
    for name in FIXTURES {
        let want = reference(name);
        let all = chunks(name);
        for _ in 0..6 {
            let mut rest = all.clone();
            for _ in 0..2 + random.below(all.len() / 3) {
                rest.remove(1 + random.below(rest.len() - 1));
            }
            let plan = Plan { last_sequence: Some(all.len() as u64 - 1), ..Plan::default() };
            let kept: Vec<u64> = rest.iter().map(|chunk| chunk.sequence).collect();
            let (assembled, _) = check(name, &format!("only {kept:?}"), &want, rest, &plan);
            assert!(!assembled.gaps.is_empty(), "{name} only {kept:?}");
        }
    }
}
