//! Server tracks: packets as they come, and what is left of them after a kill.

use super::*;
use crate::capture::rtp::{Logged, Records, SenderReport, StreamDescription};
use crate::clock::Clock;

/// A house whose track is captured by the edge.
fn house() -> House {
    let mut house = House::new();
    house.spec.source = TrackSource::Server;
    house
}

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 7]);
    packet.extend_from_slice(&[sequence.to_be_bytes()[1]; 50]);
    packet
}

fn described() -> Mark {
    Mark::Stream(StreamDescription {
        ssrc: 7,
        payload_type: 96,
        clock_rate: 90_000,
        channels: 0,
        mime: "video/VP8".into(),
        fmtp: String::new(),
        rid: String::new(),
        extensions: Vec::new(),
    })
}

pub(super) async fn put_packets(house: &House, log: &TrackLog, sequences: std::ops::Range<u16>) {
    let mut batch = Batch::default();
    let now_us = house.clock.now().timestamp_micros();
    for (nth, sequence) in sequences.enumerate() {
        batch.rtp(sequence.into(), now_us + nth as i64, &packet(sequence));
    }
    log.append_batch(batch).await.unwrap();
}

/// What a worker reads once the recording is closed.
async fn logged(house: &House) -> Vec<Logged> {
    let facts = house.capture.close_recording(&house.spec.recording).await.unwrap();
    let mut records = Records::open(&house.spool(), &house.spec.recording, &facts[0].id).unwrap();
    std::iter::from_fn(|| records.read_next().unwrap()).collect()
}

fn sequences(logged: &[Logged]) -> Vec<u32> {
    let sequence = |one: &Logged| match one {
        Logged::Packet { sequence, bytes, .. } => {
            assert_eq!(*bytes, packet(*sequence as u16));
            Some(*sequence)
        }
        _ => None,
    };
    logged.iter().filter_map(sequence).collect()
}

fn marks(logged: &[Logged]) -> Vec<Mark> {
    let mark = |one: &Logged| match one {
        Logged::Mark { mark, .. } => Some(mark.clone()),
        _ => None,
    };
    logged.iter().filter_map(mark).collect()
}

#[tokio::test]
async fn packets_reports_and_marks_come_back_in_order() {
    let house = house();
    let log = house.log().await;
    let report = SenderReport { ssrc: 7, ntp: 1 << 40, rtp: 90 };
    let now_us = house.clock.now().timestamp_micros();
    let mut batch = Batch::default();
    batch.mark(now_us, described());
    batch.rtp(1, now_us + 5, &packet(1));
    batch.sender_report(now_us + 6, &report);
    log.append_batch(batch).await.unwrap();
    put_packets(&house, &log, 2..4).await;
    let status = log.status();
    assert_eq!((status.chunks, status.bytes), (3, 3 * packet(1).len() as u64));
    let logged = logged(&house).await;
    assert_eq!((sequences(&logged), marks(&logged)), (vec![1, 2, 3], vec![described()]));
    assert!(logged.contains(&Logged::SenderReport { arrival_us: now_us + 6, report }));
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_written() {
    let house = house();
    let log = house.log().await;
    let mut batch = Batch::default();
    batch.mark(house.clock.now().timestamp_micros(), described());
    log.append_batch(batch).await.unwrap();
    put_packets(&house, &log, 0..10).await;
    house.later(11).await;
    put_packets(&house, &log, 10..20).await;
    let before = log.status();
    drop(log);
    let house = house.restart(|_| {}).await;
    let log = house.recovered[0].log.clone();
    assert_eq!(log.status(), before);
    put_packets(&house, &log, 20..30).await;
    let logged = logged(&house).await;
    assert_eq!(sequences(&logged), (0..30).collect::<Vec<_>>());
    assert_eq!(log.status().chunks, 30);
    let streams = marks(&logged).into_iter().filter(|mark| *mark == described()).count();
    assert_eq!(streams, 3, "each segment describes its streams");
}

#[tokio::test]
async fn what_was_shipped_is_known_after_a_restart() {
    let house = house();
    let log = house.log().await;
    put_packets(&house, &log, 0..10).await;
    house.later(11).await;
    put_packets(&house, &log, 10..20).await;
    house.later(11).await;
    // The commit's own move may be under way still, and leaves the rest to the next tick.
    while !local_segments(house.dir.path()).is_empty() {
        house.later(0).await;
    }
    let before = log.status();
    drop(log);
    let house = house.restart(|_| {}).await;
    assert_eq!(house.recovered[0].log.status(), before);
}

#[tokio::test]
async fn what_ended_while_the_process_was_down_is_repeated_once_and_no_more() {
    let house = house();
    let log = house.log().await;
    let us = |house: &House| house.clock.now().timestamp_micros();
    let mut batch = Batch::default();
    batch.rtp(0, us(&house), &packet(0));
    batch.mark(us(&house), Mark::Paused);
    log.append_batch(batch).await.unwrap();
    drop(log);
    let house = house.restart(|_| {}).await;
    let log = house.recovered[0].log.clone();
    let mut batch = Batch::default();
    batch.mark(us(&house), Mark::Resumed);
    log.append_batch(batch).await.unwrap();
    put_packets(&house, &log, 1..3).await;
    house.later(11).await;
    put_packets(&house, &log, 3..5).await;
    let told = marks(&logged(&house).await);
    let pauses = told.into_iter().filter(|mark| !matches!(mark, Mark::Totals { .. }));
    assert_eq!(pauses.collect::<Vec<_>>(), [Mark::Paused, Mark::Paused, Mark::Resumed]);
}

#[tokio::test]
async fn a_torn_packet_costs_itself() {
    let house = house();
    let log = house.log().await;
    put_packets(&house, &log, 0..10).await;
    drop(log);
    let house = house
        .restart(|dir| {
            let path = &local_segments(dir)[0];
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        })
        .await;
    let log = house.recovered[0].log.clone();
    assert_eq!(log.status().chunks, 9);
    put_packets(&house, &log, 10..12).await;
    assert_eq!(sequences(&logged(&house).await), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]);
}

#[tokio::test]
async fn packets_are_synced_within_the_tick_after_their_second() {
    let synced = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut house = house();
    let counted = synced.clone();
    let mut config = config(&house.dir.path().join("other"));
    config.observe = Arc::new(move |fact| {
        if matches!(fact, CaptureFact::Synced { .. }) {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    (house.capture, house.recovered) = Capture::open(config, house.clock.clone()).unwrap();
    let log = house.log().await;
    put_packets(&house, &log, 0..10).await;
    put_packets(&house, &log, 10..20).await;
    assert_eq!(synced.load(std::sync::atomic::Ordering::SeqCst), 0);
    house.later(1).await;
    assert_eq!(synced.load(std::sync::atomic::Ordering::SeqCst), 1);
    house.later(1).await;
    assert_eq!(synced.load(std::sync::atomic::Ordering::SeqCst), 1, "nothing new");
}

#[tokio::test]
async fn segments_tell_how_much_they_hold() {
    let house = house();
    let log = house.log().await;
    put_packets(&house, &log, 0..3).await;
    house.clock.advance(TimeDelta::seconds(11));
    put_packets(&house, &log, 3..5).await;
    let closed = house.capture.close_recording(&house.spec.recording).await.unwrap().remove(0);
    assert_eq!(house.spool().segments(&house.spec.recording, &closed.id).unwrap().len(), 2);
    let told = TrackReader::open(&house.spool(), &house.spec.recording, &closed.id).unwrap().facts();
    assert_eq!(told, Some(closed));
}

#[tokio::test]
async fn what_says_that_it_came_long_ago_moves_nothing_else() {
    let house = house();
    let log = house.log().await;
    let now_us = house.clock.now().timestamp_micros();
    let mut batch = Batch::default();
    batch.mark(0, Mark::Joined);
    batch.rtp(1, now_us, &packet(1));
    log.append_batch(batch).await.unwrap();
    let arrivals: Vec<i64> = logged(&house)
        .await
        .iter()
        .filter_map(|one| match one {
            Logged::Packet { arrival_us, .. } => Some(*arrival_us),
            _ => None,
        })
        .collect();
    assert_eq!(arrivals, [now_us]);
}
