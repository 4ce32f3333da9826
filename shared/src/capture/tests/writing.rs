//! Appends, duplicates, segments, limits and faults.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::capture::config::SHIP_CONCURRENCY;

#[tokio::test]
async fn what_was_appended_out_of_order_is_read_in_order() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [2, 0, 1, 4]).await;
    let status = log.complete(4).await.unwrap();
    assert_eq!((status.received, status.missing), (vec![(0, 2), (4, 4)], vec![(3, 3)]));
    assert_eq!((status.complete, status.chunks, status.last_sequence), (false, 4, Some(4)));
    assert_eq!(status.mime.as_deref(), Some("video/webm"));
    assert_eq!(house.read().await, all([0, 1, 2, 4]));
}

#[tokio::test]
async fn a_chunk_beyond_the_declared_last_becomes_the_last() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    assert!(log.complete(0).await.unwrap().complete);
    put_all(&log, [2]).await;
    let status = log.status();
    assert_eq!((status.last_sequence, status.missing, status.complete), (Some(2), vec![(1, 1)], false));
    put_all(&log, [1]).await;
    assert!(log.status().complete);
}

#[tokio::test]
async fn a_chunk_is_compared_without_being_stored() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    let compare = async |sequence, bytes: Vec<u8>| {
        let body = ReceivedBody::from_bytes(bytes.into());
        log.compare_chunk(sequence, body.len, body.sha256).await
    };
    assert_eq!(compare(0, media(0)).await.unwrap().unwrap().outcome, Outcome::Duplicate);
    assert!(matches!(compare(0, media(9)).await, Err(AppendError::Conflict(0))));
    assert!(compare(1, media(1)).await.unwrap().is_none());
    assert_eq!(log.status().chunks, 1);
}

#[tokio::test]
async fn the_same_bytes_are_a_duplicate_and_others_a_conflict_also_in_a_closed_segment() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    for _ in 0..2 {
        assert_eq!(put(&log, 0, media(0)).await.unwrap(), Outcome::Duplicate);
        assert!(matches!(put(&log, 0, media(9)).await, Err(AppendError::Conflict(0))));
        house.later(11).await;
    }
    assert_eq!(house.read().await, all([0]));
}

#[tokio::test]
async fn of_racing_copies_one_is_stored() {
    let house = House::new();
    let log = house.log().await;
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..40 {
        let log = log.clone();
        racers.spawn(async move { put(&log, 7, media(racer % 2)).await });
    }
    let outcomes = racers.join_all().await;
    let stored = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Stored))).count();
    let conflicts = outcomes.iter().filter(|o| matches!(o, Err(AppendError::Conflict(7)))).count();
    assert_eq!((stored, conflicts), (1, 20));
    assert_eq!(house.read().await.len(), 1);
}

#[tokio::test]
async fn a_segment_is_closed_by_time_and_reaches_the_spool() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    house.later(9).await;
    assert!(house.spool().segments(&house.spec.recording, log.id()).unwrap().is_empty());
    house.later(2).await;
    assert_eq!(house.spool().segments(&house.spec.recording, log.id()).unwrap(), vec![0]);
    assert!(local_segments(house.dir.path()).is_empty());
}

#[tokio::test]
async fn a_segment_is_closed_by_size() {
    let house = House::new();
    let log = house.log().await;
    for sequence in 0..9 {
        put(&log, sequence, vec![1; 1 << 20]).await.unwrap();
    }
    house.capture.close_recording(&house.spec.recording).await.unwrap();
    assert_eq!(house.spool().segments(&house.spec.recording, log.id()).unwrap(), vec![0, 1]);
}

#[tokio::test]
async fn a_closed_recording_takes_no_more_and_closing_again_says_the_same() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    let facts = house.capture.close_recording(&house.spec.recording).await.unwrap();
    assert!(matches!(put(&log, 1, media(1)).await, Err(AppendError::Closed)));
    assert_eq!(put(&log, 0, media(0)).await.unwrap(), Outcome::Duplicate);
    drop(log);
    let house = house.restart(|_| {}).await;
    assert_eq!(house.capture.close_recording(&house.spec.recording).await.unwrap(), facts);
    let other = TrackSpec { participant: UserId::parse("bob").unwrap(), ..house.spec.clone() };
    assert!(matches!(house.capture.track(&other).await, Err(TrackError::Closed)));
    house.capture.forget(&house.spec.recording).await.unwrap();
    assert!(house.capture.tracks_of(&house.spec.recording).is_empty());
}

#[tokio::test]
async fn a_failed_sync_refuses_its_chunks_and_starts_a_new_segment() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    house.capture.env.faults.syncs.store(1, SeqCst);
    assert!(matches!(put(&log, 1, media(100)).await, Err(AppendError::Io(_))));
    put_all(&log, [1]).await;
    assert_eq!(house.read().await, all([0, 1]));
    assert_eq!(house.spool().segments(&house.spec.recording, log.id()).unwrap(), vec![0, 1]);
}

#[tokio::test]
async fn a_full_disk_refuses_and_leaves_the_log_clean() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    house.capture.env.faults.writes.store(1, SeqCst);
    assert!(matches!(put(&log, 1, media(1)).await, Err(AppendError::DiskFull)));
    put_all(&log, [1, 2]).await;
    assert_eq!(house.read().await, all([0, 1, 2]));
}

#[tokio::test]
async fn below_the_reserve_new_chunks_are_refused_and_duplicates_answered() {
    let house = House::new();
    put_all(&house.log().await, [0]).await;
    let mut house = house.restart(|_| {}).await;
    drop((house.capture, std::mem::take(&mut house.recovered)));
    let mut config = config(house.dir.path());
    config.reserve = DiskReserve { percent: 100, min_bytes: 0 };
    let (capture, _) = Capture::open(config, house.clock.clone()).unwrap();
    let log = capture.track(&house.spec).await.unwrap();
    assert_eq!(put(&log, 0, media(0)).await.unwrap(), Outcome::Duplicate);
    assert!(matches!(put(&log, 1, media(1)).await, Err(AppendError::DiskFull)));
    let mut large = capture.receive(4 << 20);
    assert!(matches!(large.push(&vec![0; 2 << 20]).await, Err(ReceiveError::DiskFull)));
}

#[tokio::test]
async fn large_bodies_and_those_beyond_the_budget_go_through_a_file() {
    let house = House::new();
    let log = house.log().await;
    let mut large = house.capture.receive(3 << 20);
    for part in 0..3_u8 {
        large.push(&vec![part; 1 << 20]).await.unwrap();
    }
    let budget = house.capture.env.memory.clone().acquire_many_owned(16_384).await.unwrap();
    let mut small = house.capture.receive(100);
    small.push(b"small").await.unwrap();
    let bodies = [large.finish().await.unwrap(), small.finish().await.unwrap()];
    drop(budget);
    for (sequence, body) in (0..).zip(bodies) {
        assert!(matches!(body.body, receive::Body::File { .. }));
        let header = ChunkHeader { sequence, client_timestamp_ms: None, mime: None };
        log.append_chunk(header, body).await.unwrap();
    }
    let read = house.read().await;
    assert_eq!(read[0].1.len(), 3 << 20);
    assert_eq!((read[0].1[1 << 20], read[1].1.as_slice()), (1, b"small".as_slice()));
    assert!(spool::names(&house.dir.path().join("capture/incoming")).unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_while_it_comes() {
    let house = House::new();
    let mut body = house.capture.receive(10);
    body.push(&[0; 10]).await.unwrap();
    assert!(matches!(body.push(&[0]).await, Err(ReceiveError::TooLarge(10))));
}

#[tokio::test]
async fn a_sequence_too_high_is_refused() {
    let house = House::new();
    let log = house.log().await;
    assert!(matches!(put(&log, 1 << 20, media(0)).await, Err(AppendError::SequenceTooHigh(_))));
}

#[tokio::test]
async fn a_spool_on_another_filesystem_is_filled_by_copying() {
    let shm = TempDir::new_in("/dev/shm").unwrap();
    let dir = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let from = dir.path().join("segment");
    std::fs::write(&from, media(1)).unwrap();
    let spool = Spool::open(shm.path()).unwrap();
    let (recording, track) = (RecordingId::generate(), TrackId::generate());
    assert_eq!(spool.publish(&recording, &track, 3, &from).unwrap(), spool::Moved::Copied);
    assert!(!from.exists());
    assert_eq!(spool.segments(&recording, &track).unwrap(), vec![3]);
    let mut copy = Vec::new();
    io::Read::read_to_end(&mut spool.open_segment(&recording, &track, 3).unwrap(), &mut copy).unwrap();
    assert_eq!(copy, media(1));
}

#[test]
fn a_segment_never_replaces_another() {
    let dir = TempDir::new().unwrap();
    let spool = Spool::open(dir.path().join("spool")).unwrap();
    let (recording, track) = (RecordingId::generate(), TrackId::generate());
    let publish = |bytes: &[u8]| {
        let from = dir.path().join("segment");
        std::fs::write(&from, bytes).unwrap();
        (spool.publish(&recording, &track, 0, &from).map_err(|error| error.kind()), from.exists())
    };
    assert_eq!(publish(b"one"), (Ok(spool::Moved::Renamed), false));
    assert_eq!(publish(b"one"), (Ok(spool::Moved::Before), false), "a repeat after a crash");
    assert_eq!(publish(b"two"), (Err(io::ErrorKind::AlreadyExists), true));
    let kept = io::read_to_string(spool.open_segment(&recording, &track, 0).unwrap()).unwrap();
    assert_eq!(kept, "one");
}

#[tokio::test]
async fn a_spool_that_was_not_mounted_at_the_start_loses_nothing() {
    let house = House::new();
    put_all(&house.log().await, 0..3).await;
    house.later(11).await;
    let (spool, away) = (house.dir.path().join("spool"), house.dir.path().join("away"));
    let house = house.restart(|_| std::fs::rename(&spool, &away).unwrap()).await;
    std::fs::remove_dir_all(&spool).unwrap();
    std::fs::rename(&away, &spool).unwrap();
    put_all(&house.log().await, 3..5).await;
    assert_eq!(house.read().await, all(0..5));
}

#[tokio::test]
async fn staged_files_stay_within_their_recording() {
    let house = House::new();
    let (spool, recording) = (house.spool(), &house.spec.recording);
    let from = house.dir.path().join("out.webm");
    std::fs::write(&from, b"webm").unwrap();
    assert!(spool.stage(recording, "../x", "a", &from).is_err());
    assert!(spool.stage(recording, "token", ".hidden", &from).is_err());
    spool.stage(recording, "token", "a.webm", &from).unwrap();
    let staged = spool.fetch_staged(recording, "token", "a.webm", house.dir.path()).unwrap();
    assert_eq!(std::fs::metadata(staged).unwrap().len(), 4);
    spool.delete_staged(recording, "token").unwrap();
    assert!(spool.tokens(recording).unwrap().is_empty());
}

#[test]
fn while_a_move_to_the_spool_hangs_chunks_are_taken() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(2).build().unwrap();
    let (house, log) = runtime.block_on(async {
        let house = House::new();
        let log = house.log().await;
        (house, log)
    });
    let hung = log.0.shipping.lock().unwrap();
    runtime.block_on(async {
        for sequence in 0..5 {
            house.clock.advance(TimeDelta::seconds(11));
            put_all(&log, [sequence]).await;
        }
    });
    drop(hung);
    runtime.block_on(async {
        // The last commit's own move may be under way still, and a tick leaves the rest to the next one then.
        while local_segments(house.dir.path()).len() > 1 {
            house.later(0).await;
        }
        assert_eq!(local_segments(house.dir.path()).len(), 1, "the open one");
        assert_eq!(house.read().await, all(0..5));
    });
}

#[test]
fn a_spool_that_hangs_for_many_recordings_leaves_threads_for_chunks() {
    let threads = SHIP_CONCURRENCY + 1;
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(threads).build().unwrap();
    let house = runtime.block_on(async { House::new() });
    let mut logs = Vec::new();
    for _ in 0..2 * threads {
        logs.push(runtime.block_on(async {
            let log = house.capture.track(&spec()).await.unwrap();
            put_all(&log, [0]).await;
            log
        }));
    }
    let hung: Vec<_> = logs.iter().map(|log| log.0.shipping.lock().unwrap()).collect();
    let closing: Vec<_> = logs
        .iter()
        .map(|log| {
            let (capture, recording) = (house.capture.clone(), log.spec().recording.clone());
            runtime.spawn(async move { capture.close_recording(&recording).await })
        })
        .collect();
    runtime.block_on(async {
        // Every one has come as far as it can when those that come first have taken all turns.
        while house.capture.env.ships.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        put_all(&house.log().await, 0..5).await;
    });
    drop(hung);
    runtime.block_on(async {
        for closed in closing {
            assert_eq!(closed.await.unwrap().unwrap().len(), 1);
        }
    });
}

#[tokio::test]
async fn while_a_recording_is_shipped_others_begin() {
    let house = House::new();
    let log = house.log().await;
    put_all(&log, [0]).await;
    let (held, hung) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
    let track = log.0.clone();
    let mover = std::thread::spawn(move || {
        let _shipping = track.shipping.lock().unwrap();
        held.0.send(()).unwrap();
        hung.1.recv().unwrap();
    });
    held.1.await.unwrap();
    let closing = house.capture.close_recording(&house.spec.recording);
    tokio::pin!(closing);
    let other = spec();
    let begun = house.capture.track(&other);
    tokio::select! {
        biased;
        _ = &mut closing => panic!("it cannot be shipped yet"),
        begun = begun => drop(begun.unwrap()),
    }
    hung.0.send(()).unwrap();
    mover.join().unwrap();
    assert_eq!(closing.await.unwrap().len(), 1);
}
