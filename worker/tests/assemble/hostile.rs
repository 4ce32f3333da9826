//! What was never media, or was and is no more: an error or gaps, never a panic, bounded time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use worker::assemble::{AssembleError, Chunk, GapReason, MAX_CHUNK_BYTES, Plan};

use crate::support::{FIXTURES, Seeded, chunks, run};

/// What any hostile input may take at most: measured 40 ms in a debug build.
const PATIENCE: Duration = Duration::from_secs(20);

fn chunk(sequence: u64, bytes: Vec<u8>) -> Chunk {
    Chunk { sequence, timestamp_ms: None, arrival_ms: 0, bytes: Bytes::from(bytes) }
}

fn only(bytes: Vec<u8>) -> Vec<Chunk> {
    vec![chunk(0, bytes)]
}

fn head() -> Vec<u8> {
    chunks("chrome-webm-vp8")[0].bytes[..200].to_vec()
}

#[test]
fn what_is_not_media_is_an_error() {
    let playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n/etc/passwd\n".to_vec();
    for bytes in [
        b"ffconcat version 1.0\nfile secret.mkv\n".to_vec(),
        playlist,
        vec![0; 1_000_000],
        vec![0xFF; 1_000_000],
        Vec::new(),
        b"\x1A\x45\xDF\xA3".to_vec(),
        b"\0\0\0\x18ftypisom".to_vec(),
    ] {
        assert!(matches!(run(only(bytes), &Plan::default()), Err(AssembleError::NoMedia { .. })));
    }
    assert!(matches!(run(Vec::new(), &Plan::default()), Err(AssembleError::NoMedia { .. })));
}

#[test]
fn noise_is_an_error_and_costs_no_time() {
    let mut random = Seeded(3);
    let began = Instant::now();
    for _ in 0..10 {
        let noise: Vec<u8> = (0..500_000).map(|_| random.below(256) as u8).collect();
        assert!(run(only(noise), &Plan::default()).is_err());
    }
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn lengths_that_lie_are_refused() {
    let lies: [&[u8]; 5] = [
        &[0xA3, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0x81, 0, 0, 0x80],
        &[0xA3, 0x01, 0, 0, 1, 0, 0, 0, 0, 0x81, 0, 0, 0x80],
        &[0xEC, 0x08, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x12, 0x54, 0xC3, 0x67, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0xA3, 0xFF, 0x81, 0, 0, 0x80],
    ];
    let whole = chunks("chrome-webm-vp8");
    for lie in lies {
        let mut hostile = whole.clone();
        let first = [&whole[0].bytes[..], lie].concat();
        hostile[0].bytes = Bytes::from(first);
        let (assembled, _) = run(hostile, &Plan::default()).unwrap();
        assert!(assembled.streams.iter().map(|stream| stream.packets).sum::<u64>() > 750);
    }
    let box_of_4_gib =
        [&b"\0\0\0\x18ftypisom\0\0\0\0isomisom"[..], &[0xFF, 0xFF, 0xFF, 0xFF], b"moof"].concat();
    assert!(run(only(box_of_4_gib), &Plan::default()).is_err());
}

#[test]
fn bombs_of_nesting_and_of_tiny_elements_fizzle() {
    let nested = [head(), [0x1F, 0x43, 0xB6, 0x75, 0xFF].repeat(200_000)].concat();
    let groups = [head(), [0xA0, 0xFF].repeat(500_000)].concat();
    let tiny = [head(), [0xEC, 0x80].repeat(10_000), [0xA7, 0x81, 0].repeat(300_000)].concat();
    let segments = [0x18, 0x53, 0x80, 0x67, 0xFF].repeat(200_000);
    let blocks = [head(), [0xA3, 0x85, 0x81, 0, 0, 0x80, 0xFC].repeat(150_000)].concat();
    let moofs = [&b"\0\0\0\x18ftypisom\0\0\0\0isomisom"[..], &b"\0\0\0\x10moof\0\0\0\x08mfhd".repeat(50_000)]
        .concat();
    for bomb in [nested, groups, tiny, segments, blocks, moofs] {
        let began = Instant::now();
        let _ = run(only(bomb), &Plan::default());
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn an_absurd_cluster_time_moves_nothing_else() {
    let whole = chunks("chrome-webm-vp8");
    let (want, _) = run(whole.clone(), &Plan::default()).unwrap();
    let mut hostile = whole.clone();
    let mut bytes = whole[5].bytes.to_vec();
    let at = bytes.windows(4).position(|part| part == [0x1F, 0x43, 0xB6, 0x75]).unwrap() + 12;
    assert_eq!(bytes[at..at + 2], [0xE7, 0x82]);
    bytes.splice(at..at + 4, [0xE7, 0x88, 0x00, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    hostile[5].bytes = Bytes::from(bytes);
    let (assembled, _) = run(hostile, &Plan::default()).unwrap();
    assert_eq!(assembled.duration_us, want.duration_us);
    assert_eq!(assembled.streams[1].packets, want.streams[1].packets);
}

#[test]
fn random_damage_never_panics_and_never_invents_time() {
    let mut random = Seeded(42);
    for name in FIXTURES {
        let all = chunks(name);
        let (want, _) = run(all.clone(), &Plan::default()).unwrap();
        for _ in 0..25 {
            let mut damaged = all.clone();
            for _ in 0..1 + random.below(30) {
                let which = random.below(damaged.len());
                let mut bytes = damaged[which].bytes.to_vec();
                if bytes.is_empty() {
                    continue;
                }
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes.truncate(at),
                    2 => drop(bytes.drain(at..(at + random.below(500)).min(bytes.len()))),
                    _ => drop(bytes.splice(at..at, (0..random.below(50)).map(|n| n as u8))),
                }
                damaged[which].bytes = Bytes::from(bytes);
            }
            if let Ok((assembled, _)) = run(damaged, &Plan::default()) {
                assert!(
                    assembled.duration_us < want.duration_us + 120_000_000,
                    "{name}: {}",
                    assembled.duration_us
                );
            }
        }
    }
}

#[test]
fn order_and_size_are_checked() {
    let all = chunks("chrome-webm-audio");
    let backwards = vec![all[1].clone(), all[0].clone()];
    assert!(matches!(
        run(backwards, &Plan::default()),
        Err(AssembleError::OutOfOrder { after: 1, found: 0 })
    ));
    let large = only(vec![0; MAX_CHUNK_BYTES + 1]);
    assert!(matches!(run(large, &Plan::default()), Err(AssembleError::ChunkTooLarge { .. })));
}

#[test]
fn rubbish_among_chunks_is_a_gap_and_the_rest_is_kept() {
    let mut all = chunks("ff-webm-vp8");
    all[3].bytes = Bytes::from_static(b"ffconcat version 1.0\nfile secret.mkv\n");
    let (assembled, _) = run(all, &Plan::default()).unwrap();
    assert_eq!(assembled.gaps.len(), 1, "{:?}", assembled.gaps);
    assert_eq!(assembled.gaps[0].reason, GapReason::Corrupt);
}
