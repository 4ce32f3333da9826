//! A tab reloaded: another recorder session goes on in the same track.

use bytes::Bytes;
use worker::assemble::{Assembled, Chunk, Codec, GapReason, Plan};

use crate::probe;
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
    let (assembled, _) = run(cut, &Plan { last_sequence: Some(21) }).unwrap();
    let gap = *assembled.gaps.last().unwrap();
    assert_eq!(gap.reason, GapReason::MissingChunk);
    assert!((gap.to_us - whole.duration_us).abs() < 500_000, "{gap:?}");
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
