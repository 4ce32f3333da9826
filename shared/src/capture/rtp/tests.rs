//! Round trips, torn logs and garbage.

use std::path::Path;

use super::*;
use crate::capture::Mark;
use crate::capture::format::TrackSpec;
use crate::id::{RecordingId, TrackId, UserId};
use crate::track::{TrackKind, TrackSource};

fn description() -> StreamDescription {
    StreamDescription {
        ssrc: 0xDEAD_BEEF,
        payload_type: 96,
        clock_rate: 90_000,
        channels: 0,
        mime: "video/VP8".to_owned(),
        fmtp: "x-google-start-bitrate=800".to_owned(),
        rid: "h".to_owned(),
        extensions: vec![(4, "urn:3gpp:video-orientation".to_owned()), (3, "urn:x".to_owned())],
    }
}

fn marks() -> Vec<Mark> {
    vec![
        Mark::Stream(description()),
        Mark::Joined,
        Mark::Left,
        Mark::Dropped { from_us: 1_700_000_000_000_000, to_us: 1_700_000_000_500_000, packets: 77 },
        Mark::Muted,
        Mark::Keyframe { width: 1280, height: 720 },
    ]
}

fn header(number: u32) -> SegmentHeader {
    SegmentHeader {
        spec: TrackSpec {
            recording: RecordingId::parse("rec_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            participant: UserId::parse("ann").unwrap(),
            source: TrackSource::Server,
            kind: TrackKind::Video,
        },
        track: TrackId::parse("track_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        number,
        base_us: 1_700_000_000_000_000,
        salt: 7,
    }
}

/// A segment with one record of each kind: its bytes, and where each record begins.
fn segment(number: u32) -> (Vec<u8>, Vec<usize>) {
    let header = header(number);
    let (mut bytes, mut starts) = (header.encode(), Vec::new());
    let report = SenderReport { ssrc: 5, ntp: 0xE000_0001_8000_0000, rtp: 90_000 };
    let bodies = [
        (RecordKind::Mark, 0, Mark::Stream(description()).encode()),
        (RecordKind::Rtp, 70_000, vec![0x80; 40]),
        (RecordKind::SenderReport, 0, report.encode().to_vec()),
        (RecordKind::Rtp, 70_001, vec![0x81; 1_200]),
        (RecordKind::Mark, 0, Mark::Left.encode()),
    ];
    for (n, (kind, sequence, body)) in bodies.iter().enumerate() {
        starts.push(bytes.len());
        put_record(&mut bytes, &header, *kind, *sequence, header.base_us + n as i64 * 10, body);
    }
    (bytes, starts)
}

fn read_all(folder: &Path) -> Vec<Logged> {
    let mut records = Records::in_folder(folder).unwrap();
    let mut all = Vec::new();
    while let Some(logged) = records.read_next().unwrap() {
        all.push(logged);
    }
    all
}

fn read_bytes(segments: &[Vec<u8>]) -> Vec<Logged> {
    let folder = tempfile::tempdir().unwrap();
    for (n, bytes) in segments.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{n:06}.seg")), bytes).unwrap();
    }
    read_all(folder.path())
}

#[test]
fn every_mark_and_report_survives_the_round_trip() {
    for mark in marks() {
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }
    let report = SenderReport { ssrc: 1, ntp: u64::MAX, rtp: 3 };
    assert_eq!(SenderReport::decode(&report.encode()), Some(report));
    let half = SenderReport { ssrc: 1, ntp: 5 << 32 | 1 << 31, rtp: 3 };
    assert_eq!(half.ntp_us(), 5_500_000);
}

#[test]
fn what_is_too_long_is_left_out_and_the_rest_is_kept() {
    let mut long = description();
    long.fmtp = "x".repeat(MAX_FMTP_BYTES + 1);
    long.rid = "y".repeat(300);
    long.extensions = (0..40).map(|id| (id, "urn:x".to_owned())).collect();
    let Some(Mark::Stream(kept)) = Mark::decode(&Mark::Stream(long.clone()).encode()) else { panic!("lost") };
    assert_eq!((kept.fmtp.as_str(), kept.rid.as_str(), kept.extensions.len()), ("", "", MAX_EXTENSIONS));
    assert_eq!((kept.mime, kept.ssrc), (long.mime, long.ssrc));
}

#[test]
fn cut_and_random_bodies_are_refused_and_never_fatal() {
    for mark in marks() {
        let whole = mark.encode();
        for cut in 0..whole.len() {
            assert_ne!(Mark::decode(&whole[..cut]), Some(mark.clone()));
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Mark::decode(&flipped);
        }
    }
    assert_eq!(SenderReport::decode(&[0; 15]), None);
    assert_eq!(Mark::decode(&[200, 1, 2]), None);
}

#[test]
fn records_come_in_the_order_of_the_log_with_their_arrivals() {
    let all = read_bytes(&[segment(0).0, segment(1).0]);
    assert_eq!(all.len(), 10);
    assert_eq!(all[..5], all[5..]);
    assert_eq!(
        all[1],
        Logged::Packet { arrival_us: 1_700_000_000_000_010, sequence: 70_000, bytes: vec![0x80; 40] }
    );
    assert!(
        matches!(all[2], Logged::SenderReport { arrival_us: 1_700_000_000_000_020, report } if report.ssrc == 5)
    );
    assert!(matches!(&all[4], Logged::Mark { mark: Mark::Left, .. }));
}

#[test]
fn a_torn_end_costs_the_record_that_it_tears() {
    let (bytes, starts) = segment(0);
    for cut in starts[1]..bytes.len() {
        let whole = starts.iter().filter(|&&start| start <= cut).count() - 1;
        let all = read_bytes(&[bytes[..cut].to_vec(), segment(1).0]);
        let damaged = usize::from(!starts.contains(&cut));
        assert_eq!(all.len(), whole + damaged + 5, "cut at {cut}");
        assert_eq!(all.iter().filter(|logged| matches!(logged, Logged::Damaged(_))).count(), damaged);
    }
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_told_at_its_place() {
    let (bytes, starts) = segment(0);
    for at in starts[0]..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        let all = read_bytes(&[flipped]);
        let hit = starts.iter().filter(|&&start| start <= at).count() - 1;
        assert_eq!(all.len(), 5, "byte {at}");
        assert!(matches!(all[hit], Logged::Damaged(_)), "byte {at}");
    }
}

#[test]
fn a_segment_of_garbage_is_one_damaged_span() {
    let all = read_bytes(&[vec![0x55; 5_000], segment(1).0]);
    assert!(matches!(&all[0], Logged::Damaged(span) if span.len == 5_000));
    assert_eq!(all.len(), 6);
}
