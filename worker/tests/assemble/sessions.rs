//! A tab reloaded: another recorder session goes on in the same track.

use bytes::Bytes;
use worker::assemble::{AssembleError, Assembled, Chunk, Codec, Gap, GapReason, Meanwhile, Pause, Plan};

use crate::probe;
use crate::rtp_sender::{Shot, blocks};
use crate::support::{chunks, run};

/// One recording after another in the same track, the second one `after_ms` after the first began.
fn joined(first: &[Chunk], second: &[Chunk], after_ms: i64) -> Vec<Chunk> {
    let shifted = second.iter().cloned().enumerate().map(|(n, chunk)| Chunk {
        sequence: (first.len() + n) as u64,
        timestamp_ms: chunk.timestamp_ms.map(|ms| ms + after_ms),
        arrival_ms: chunk.arrival_ms + after_ms,
        bytes: chunk.bytes,
    });
    first.iter().cloned().chain(shifted).collect()
}

fn packets(assembled: &Assembled) -> u64 {
    assembled.streams.iter().map(|stream| stream.packets).sum()
}

#[test]
fn a_second_session_goes_on_where_the_clients_clock_says() {
    for (first, second) in [
        ("chrome-webm-vp8", "chrome-webm-vp8-pause"),
        ("chrome-webm-vp8", "ff-webm-vp8"),
        ("ff-webm-vp8", "chrome-webm-vp8"),
        ("chrome-webm-h264", "chrome-mp4-avc1-kf1"),
        ("chrome-mp4-avc1-kf1", "chrome-mp4-avc3-opus-resize"),
    ] {
        let (one, two) = (chunks(first), chunks(second));
        let alone = run(one.clone(), &Plan::default()).unwrap().0;
        let other = run(two.clone(), &Plan::default()).unwrap().0;
        let (both, file) = run(joined(&one, &two, 60_000), &Plan::default()).unwrap();
        assert_eq!(packets(&both), packets(&alone) + packets(&other), "{first} then {second}");
        assert_eq!(both.sessions, 2);
        assert_eq!(both.gaps.len(), 1, "{:?}", both.gaps);
        assert_eq!(both.gaps[0].reason, GapReason::Disconnected);
        assert!((both.gaps[0].from_us - alone.duration_us).abs() < 60_000, "{:?}", both.gaps);
        assert!((both.gaps[0].to_us - 60_000_000).abs() < 60_000, "{:?}", both.gaps);
        assert!((both.duration_us - 60_000_000 - other.duration_us).abs() < 2_000);
        assert_eq!(probe::decode_complaints(&file), "", "{first} then {second}");
    }
}

#[test]
fn a_session_never_overlaps_the_one_before() {
    let (one, two) = (chunks("chrome-webm-vp8"), chunks("chrome-webm-vp8-pause"));
    let (both, file) = run(joined(&one, &two, -5_000), &Plan::default()).unwrap();
    let alone = run(one, &Plan::default()).unwrap().0;
    let mut last = [f64::MIN; 2];
    for packet in probe::packets("matroska", &file) {
        let last = &mut last[usize::from(packet.kind == "audio")];
        assert!(packet.ms > *last);
        *last = packet.ms;
    }
    assert!(both.duration_us > alone.duration_us);
}

#[test]
fn another_codec_in_a_later_session_is_left_out_and_told() {
    let (one, two) = (chunks("chrome-webm-vp8"), chunks("chrome-webm-vp9"));
    let (both, file) = run(joined(&one, &two, 60_000), &Plan::default()).unwrap();
    assert_eq!(both.streams.iter().filter(|stream| stream.codec == Codec::Vp9).count(), 0);
    let left_out = both.gaps.iter().find(|gap| gap.reason == GapReason::Corrupt).unwrap();
    assert!(left_out.from_us >= 60_000_000 && left_out.to_us > 80_000_000, "{left_out:?}");
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn a_later_session_without_its_head_is_still_placed() {
    let (one, two) = (chunks("chrome-webm-vp8"), chunks("ff-webm-vp8"));
    let alone = run(one.clone(), &Plan::default()).unwrap().0;
    let mut both = joined(&one, &two, 60_000);
    both.remove(one.len());
    let (both, file) = run(both, &Plan::default()).unwrap();
    assert!(packets(&both) > packets(&alone) + 900, "{} {}", packets(&both), packets(&alone));
    assert_eq!(both.gaps.len(), 1, "{:?}", both.gaps);
    assert!((both.gaps[0].to_us - 61_000_000).abs() < 1_500_000, "{:?}", both.gaps);
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn avc1_without_its_first_blob_keeps_the_sound_and_tells_of_the_pictures() {
    let mut rest = chunks("chrome-mp4-avc1-kf1");
    rest.remove(0);
    let (assembled, file) = run(rest, &Plan::default()).unwrap();
    assert_eq!(assembled.streams.len(), 1);
    assert_eq!(assembled.streams[0].codec, Codec::Opus);
    assert!(assembled.gaps.iter().any(|gap| gap.reason == GapReason::Corrupt && gap.to_us > 13_000_000));
    assert_eq!(probe::decode_complaints(&file), "");
}

#[test]
fn a_declared_end_that_never_came_is_a_gap() {
    let mut cut = chunks("chrome-webm-vp8");
    let whole = run(cut.clone(), &Plan::default()).unwrap().0;
    cut.truncate(18);
    let (assembled, _) = run(cut, &Plan { last_sequence: Some(21), ..Plan::default() }).unwrap();
    let gap = *assembled.gaps.last().unwrap();
    assert_eq!(gap.reason, GapReason::MissingChunk);
    assert!((gap.to_us - whole.duration_us).abs() < 500_000, "{gap:?}");
}

/// By the client's clock, as every chunk tells when its media began.
fn pause(chunks: &[Chunk], (from_ms, to_ms): (i64, i64), meanwhile: Meanwhile) -> Plan {
    let zero_ms = chunks[0].timestamp_ms.unwrap();
    let us = |ms: i64| if ms == i64::MAX { ms } else { (zero_ms + ms) * 1_000 };
    Plan { pauses: vec![Pause { from_us: us(from_ms), to_us: us(to_ms), meanwhile }], ..Plan::default() }
}

/// When each packet of sound is, and what it is, in milliseconds.
fn sounds(file: &[u8]) -> Vec<(i64, String)> {
    let packets = probe::packets("matroska", file).into_iter();
    packets
        .filter(|packet| packet.kind == "audio")
        .map(|packet| (packet.ms.round() as i64, packet.hash))
        .collect()
}

#[test]
fn a_pause_is_cut_out_of_a_recorder_that_went_on() {
    for name in ["chrome-webm-vp8", "chrome-mp4-avc3-opus-resize", "ff-webm-vp8"] {
        let all = chunks(name);
        let (whole, before) = run(all.clone(), &Plan::default()).unwrap();
        let (cut, file) = run(all.clone(), &pause(&all, (4_000, 9_000), Meanwhile::WentOn)).unwrap();
        let shorter_us = whole.duration_us - cut.duration_us;
        assert!((shorter_us - 5_000_000).abs() <= 1_000, "{name}: {shorter_us}");
        let seam = |gap: &&Gap| gap.reason == GapReason::Paused && gap.from_us == 4_000_000;
        let frozen_us = cut.gaps.iter().filter(seam).map(|gap| gap.to_us - gap.from_us).max().unwrap();
        let pictures = probe::packets("matroska", &before).into_iter();
        let mut whole_pictures = pictures.filter(|packet| packet.kind == "video" && packet.key);
        let next = whole_pictures.find(|packet| packet.ms >= 9_000.0).unwrap().ms.round() as i64;
        let off_ms = frozen_us / 1_000 - (next - 9_000);
        assert!(off_ms.abs() <= 1, "{name}: until the next picture that is whole, {off_ms}");
        let told: Vec<&Gap> = cut.gaps.iter().filter(|gap| gap.reason != GapReason::Paused).collect();
        assert_eq!(told.len(), whole.gaps.len(), "{name}: {told:?}");
        assert_eq!(probe::decode_complaints(&file), "", "{name}");
        // FFmpeg takes a decoder's delay off the times of sound, which a pause knows nothing of.
        let delays_us = whole.streams.iter().map(|stream| stream.codec_delay_us);
        let delay_ms = (delays_us.max().unwrap() as i64 + 500) / 1_000;
        let kept = sounds(&before).into_iter().filter(|(ms, _)| !(4_000..9_000).contains(&(ms + delay_ms)));
        let moved = kept.map(|(ms, hash)| (if ms + delay_ms < 9_000 { ms } else { ms - 5_000 }, hash));
        let moved: Vec<_> = moved.collect();
        assert_eq!(sounds(&file), moved, "{name}: every packet of the sound");
    }
}

#[test]
fn nothing_is_cut_out_of_a_recorder_that_rested_itself() {
    let mut all = chunks("chrome-webm-vp8");
    let (whole, before) = run(all.clone(), &Plan::default()).unwrap();
    let plan = pause(&all, (4_500, 64_500), Meanwhile::Rested);
    for chunk in &mut all[5..] {
        chunk.timestamp_ms = chunk.timestamp_ms.map(|ms| ms + 60_000);
        chunk.arrival_ms += 60_000;
    }
    let (cut, file) = run(all.clone(), &plan).unwrap();
    assert_eq!((cut.duration_us, sounds(&file)), (whole.duration_us, sounds(&before)));
    let seam = Gap { from_us: 4_500_000, to_us: 4_500_000, reason: GapReason::Paused };
    assert_eq!(cut.gaps, [seam]);
    let second = joined(&all, &chunks("chrome-webm-vp8"), 60_000 + whole.duration_us / 1_000);
    let (both, _) = run(second, &plan).unwrap();
    assert!((both.duration_us - 2 * whole.duration_us).abs() < 100_000, "{}", both.duration_us);
}

#[test]
fn a_recorder_that_was_stopped_for_a_pause_goes_on_where_it_began() {
    let first = chunks("chrome-webm-vp8");
    let whole_us = run(first.clone(), &Plan::default()).unwrap().0.duration_us;
    let later_ms = whole_us / 1_000 + 60_000;
    let plan = pause(&first, (whole_us / 1_000, later_ms), Meanwhile::WentOn);
    let (cut, _) = run(joined(&first, &first, later_ms), &plan).unwrap();
    assert!((cut.duration_us - 2 * whole_us).abs() < 50_000, "{} {whole_us}", cut.duration_us);
    let missing = cut.gaps.iter().filter(|gap| gap.reason != GapReason::Paused);
    assert!(missing.clone().all(|gap| gap.to_us - gap.from_us < 10_000), "{:?}", cut.gaps);
}

#[test]
fn a_pause_without_end_ends_the_file_and_one_over_all_leaves_none() {
    let all = chunks("chrome-webm-vp8");
    let (cut, _) = run(all.clone(), &pause(&all, (4_000, i64::MAX), Meanwhile::WentOn)).unwrap();
    assert!((3_900_000..4_001_000).contains(&cut.duration_us), "{}", cut.duration_us);
    let over_all = pause(&all, (-1, i64::MAX), Meanwhile::WentOn);
    assert!(matches!(run(all.clone(), &over_all), Err(AssembleError::AllPaused)));
}

#[test]
fn changes_of_resolution_are_told() {
    for name in ["chrome-webm-vp8-resize", "chrome-mp4-avc3-opus-resize"] {
        let (assembled, _) = run(chunks(name), &Plan::default()).unwrap();
        let sizes = &assembled.streams.iter().find(|stream| !stream.sizes.is_empty()).unwrap().sizes;
        assert!(sizes.len() > 1, "{name}: {sizes:?}");
    }
}

#[test]
fn outputs_can_be_copied_into_what_holds_their_codecs() {
    for (name, extensions) in [
        ("chrome-webm-h264", &["mp4", "mkv"][..]),
        ("chrome-mp4-avc1-kf1", &["mp4", "mkv"]),
        ("chrome-mp4-avc3-opus-resize", &["mp4", "mkv"]),
        ("chrome-webm-vp8", &["webm", "mkv"]),
        ("chrome-webm-vp9", &["webm", "mp4", "mkv"]),
        ("ff-webm-vp8", &["webm", "mkv"]),
    ] {
        let (_, file) = run(chunks(name), &Plan::default()).unwrap();
        let want = probe::packets("matroska", &file).len();
        for extension in extensions {
            let format = if *extension == "mp4" { "mov" } else { "matroska" };
            let copy = probe::copied(&file, extension);
            assert_eq!(probe::packets(format, &copy).len(), want, "{name} to {extension}");
            assert_eq!(probe::decode_complaints_of(format, &copy), "", "{name} to {extension}");
        }
    }
}

#[test]
fn the_same_chunks_make_the_same_bytes_and_empty_blobs_change_nothing() {
    let all = chunks("chrome-webm-vp8");
    let (_, first) = run(all.clone(), &Plan::default()).unwrap();
    let (_, again) = run(all.clone(), &Plan::default()).unwrap();
    assert!(first == again);
    let mut with_empty = all.clone();
    with_empty.push(Chunk {
        sequence: all.len() as u64,
        timestamp_ms: None,
        arrival_ms: 0,
        bytes: Bytes::new(),
    });
    assert!(run(with_empty, &Plan::default()).unwrap().1 == first);
}

/// A whole WebM recording as chunks of a cluster each, the head before them, without the sound of its first `silent_ms`.
fn clusters_with_late_sound(name: &str, silent_ms: i64) -> Vec<Chunk> {
    let file: Vec<u8> = chunks(name).iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
    let sound = run(chunks(name), &Plan::default()).unwrap().0;
    let sound = sound.streams.iter().position(|stream| stream.codec == Codec::Opus).unwrap();
    let (mut parts, mut at, mut cluster_ms) = (vec![Vec::new()], 0, 0);
    while at < file.len() {
        let id = file[at].leading_zeros() as usize + 1;
        let size = file[at + id].leading_zeros() as usize + 1;
        let number = |bytes: &[u8]| bytes.iter().fold(0i64, |number, byte| number << 8 | i64::from(*byte));
        let length = number(&file[at + id..at + id + size]) & ((1 << (7 * size)) - 1);
        let body = at + id + size;
        let is_master = matches!(number(&file[at..at + id]), 0x1853_8067 | 0x1F43_B675);
        let end = if is_master { body } else { body + length as usize };
        if number(&file[at..at + id]) == 0x1F43_B675 {
            parts.push(Vec::new());
        }
        let payload = &file[body..end];
        if number(&file[at..at + id]) == 0xE7 {
            cluster_ms = number(payload);
        }
        let is_block = number(&file[at..at + id]) == 0xA3;
        let ms = cluster_ms + payload.get(1..3).map_or(0, number);
        if !(is_block && usize::from(payload[0] & 0x7F) == sound + 1 && ms < silent_ms) {
            parts.last_mut().unwrap().extend_from_slice(&file[at..end]);
        }
        at = end;
    }
    let chunk = |(n, bytes): (usize, Vec<u8>)| Chunk {
        sequence: n as u64,
        timestamp_ms: None,
        arrival_ms: 0,
        bytes: Bytes::from(bytes),
    };
    parts.into_iter().enumerate().map(chunk).collect()
}

#[test]
fn sound_that_comes_late_in_a_session_without_its_head_is_recognised() {
    for name in ["chrome-webm-vp8", "ff-webm-vp8"] {
        let parts = clusters_with_late_sound(name, 5_000);
        let sounds = |parts: &[Chunk]| -> (Assembled, Vec<Shot>) {
            let (done, file) = run(parts.to_vec(), &Plan::default()).unwrap();
            let sound = done.streams.iter().position(|stream| stream.codec == Codec::Opus);
            let mut shots = blocks(&file);
            shots.retain(|shot| Some(shot.track) == sound.map(|sound| sound as u64 + 1));
            (done, shots.into_iter().map(|shot| Shot { track: 0, ..shot }).collect())
        };
        let (whole, wanted) = sounds(&parts);
        let (done, found) = sounds(&parts[1..]);
        assert_eq!(whole.streams.len(), 2, "{name}");
        assert!(wanted.len() > 50 && wanted[0].us >= 5_000_000, "{name}: it has sound, which is late");
        assert!(found == wanted, "{name}: {} of {} packets of sound", found.len(), wanted.len());
        let lost = done.gaps.iter().all(|gap| gap.reason == GapReason::MissingChunk);
        assert!(lost, "{name}: nothing is left out: {:?}", done.gaps);
    }
}
