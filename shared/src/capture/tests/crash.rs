//! Two processes on one folder, and processes that are killed while they append.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::*;

/// The variable that makes the test below the one that is killed; its value is the folder.
const VICTIM: &str = "CAPTURE_TEST_VICTIM";

#[tokio::test]
async fn a_second_opener_is_refused() {
    let house = House::new();
    let second = Capture::open(config(house.dir.path()), house.clock.clone());
    assert!(matches!(second, Err(OpenError::Locked(_))));
}

/// Appends until it is killed, and prints each sequence that was acknowledged. Does nothing when it is not a victim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a test that is its own child learns so from its environment")]
async fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let (capture, _) = Capture::open(config(Path::new(&dir)), Arc::new(crate::clock::SystemClock)).unwrap();
    let recording =
        RecordingId::parse(spool::names(&Path::new(&dir).join("name")).unwrap()[0].as_str()).unwrap();
    let log = capture.track(&TrackSpec { recording, ..spec() }).await.unwrap();
    let mut appends = tokio::task::JoinSet::new();
    let first = log.status().received.last().map_or(0, |last| last.1 + 64);
    for sequence in first..first + 100_000 {
        let log = log.clone();
        appends.spawn(async move {
            put(&log, sequence, media(sequence).repeat(200)).await.unwrap();
            println!("acknowledged {sequence}");
        });
        while appends.len() > 20 {
            appends.join_next().await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test is its own child")]
fn spawn_victim(dir: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "capture::tests::crash::victim", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_survives_sigkill_at_any_moment() {
    let dir = TempDir::new().unwrap();
    let spec = spec();
    std::fs::create_dir_all(dir.path().join("name").join(spec.recording.as_str())).unwrap();
    let mut acknowledged = Vec::new();
    for kill_after in [1, 7, 40, rand::random_range(1..200)] {
        let mut child = spawn_victim(dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let sequence = |line: String| {
            line.split("acknowledged ").nth(1).and_then(|rest| rest.trim().parse::<u64>().ok())
        };
        let mut sequences = lines.filter_map(sequence);
        acknowledged.extend(sequences.by_ref().take(kill_after));
        child.kill().unwrap();
        acknowledged.extend(sequences);
        child.wait().unwrap();
    }
    let (capture, _) = Capture::open(config(dir.path()), Arc::new(crate::clock::SystemClock)).unwrap();
    let facts = capture.close_recording(&spec.recording).await.unwrap();
    let spool = Spool::open(dir.path().join("spool")).unwrap();
    let mut reader = TrackReader::open(&spool, &spec.recording, &facts[0].id).unwrap();
    assert!(reader.damaged().is_empty());
    assert_eq!(facts[0].status.chunks, reader.chunks().len() as u64);
    let mut read = std::collections::BTreeSet::new();
    for (chunk, bytes) in reader.iter() {
        assert_eq!(bytes.unwrap(), media(chunk.sequence()).repeat(200));
        read.insert(chunk.sequence());
    }
    assert!(acknowledged.len() >= 48);
    assert!(acknowledged.iter().all(|sequence| read.contains(sequence)));
}

#[tokio::test]
async fn a_day_of_sequences_keeps_memory_flat() {
    let dir = TempDir::new().unwrap();
    let index = index::Index::create(&dir.path().join("index")).unwrap();
    let mut held = held::Held::default();
    for sequence in 0..86_400 {
        let slot = index::Slot { sha256: [1; 32], arrival_us: i64::from(sequence) * 1_000_000, size: 1 };
        index.put(sequence, &slot).unwrap();
        held.add(sequence, &slot);
    }
    assert_eq!(held.ranges.pairs(), vec![(0, 86_399)]);
    assert_eq!(std::fs::metadata(dir.path().join("index")).unwrap().len(), 86_400 * 48);
    let mut loaded = held::Held::default();
    index.load(|sequence, slot| loaded.add(sequence, &slot)).unwrap();
    assert_eq!(loaded, held);
    assert!(loaded.ranges.contains(86_399) && !loaded.ranges.contains(86_400));
}
