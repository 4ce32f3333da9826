//! A tab reloaded: another recorder session goes on in the same track.

use bytes::Bytes;
use worker::assemble::{Assembled, Chunk, Codec, GapReason, Plan};

use crate::probe;
use crate::rtp_sender::{Shot, blocks};
use crate::support::{chunks, run};

/// One recording after another in the same track, the second one `after_ms` after the first began.
pub(crate) fn joined(first: &[Chunk], second: &[Chunk], after_ms: i64) -> Vec<Chunk> {
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
pub(crate) fn clusters_with_late_sound(name: &str, silent_ms: i64) -> Vec<Chunk> {
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
