//! A log made by hand, shown and exported; the export is read back by its own format's rules.

use super::*;
use shared::capture::rtp::{SenderReport, put_record};
use shared::capture::{Mark, RecordKind, SegmentHeader, TrackSpec};
use shared::id::{RecordingId, TrackId, UserId};
use shared::track::{TrackKind, TrackSource};

const BASE_US: i64 = 1_700_000_000_000_000;

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 111, 0, 0, 0, 0, 3, 192, 0, 0, 0, 9, 0xF8, 0xFF, 0xFE];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// A track's folder beneath a recording's.
fn log(folder: &Path) -> PathBuf {
    let (recording, track) = (RecordingId::generate(), TrackId::generate());
    let participant = UserId::parse("ann").unwrap();
    let spec = TrackSpec { recording, participant, source: TrackSource::Server, kind: TrackKind::Audio };
    let header = SegmentHeader { spec, track, number: 0, base_us: BASE_US, salt: 3 };
    let mut bytes = header.encode();
    let mut put = |kind, at: i64, body: &[u8]| put_record(&mut bytes, &header, kind, 0, BASE_US + at, body);
    put(RecordKind::Mark, 0, &Mark::Stream(shared::testing::opus(9)).encode());
    for (n, sequence) in [65_534u16, 65_535, 1, 1].into_iter().enumerate() {
        put(RecordKind::Rtp, 20_000 * n as i64, &packet(sequence));
    }
    put(RecordKind::SenderReport, 90_000, &SenderReport { ssrc: 9, ntp: 1 << 32, rtp: 960 }.encode());
    put(RecordKind::Mark, 95_000, &Mark::Muted.encode());
    bytes.extend_from_slice(&[0x55; 30]);
    let track = folder.join("track");
    std::fs::create_dir(&track).unwrap();
    std::fs::write(track.join("000000.seg"), bytes).unwrap();
    track
}

#[test]
fn a_log_is_told_with_its_streams_losses_marks_and_damage() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    let mut out = Vec::new();
    show(folder.path(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for wanted in [
        "of ann, audio, Server",
        "ssrc     00000009, payload type 111: audio/opus 48000 Hz",
        "4 packets",
        "sequences 65534 to 65537: 0 missing",
        "1 sender reports",
        "Muted",
        "damaged  30 bytes",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
}

#[test]
fn an_export_holds_every_packet_behind_right_headers() {
    let folder = tempfile::tempdir().unwrap();
    let track = log(folder.path());
    let file = folder.path().join("out.pcap");
    export(&track, &file).unwrap();
    let bytes = std::fs::read(file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xA1B2_C3D4, 101));
    let (mut at, mut bodies) = (24, Vec::new());
    while at < bytes.len() {
        let len = word(at + 8) as usize;
        assert_eq!(word(at), 1_700_000_000);
        let ip = &bytes[at + 16..at + 16 + len];
        let sum: u32 = ip[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        assert_eq!((sum & 0xFFFF) + (sum >> 16), 0xFFFF, "the checksum makes all ones");
        assert_eq!(usize::from(u16::from_be_bytes([ip[24], ip[25]])), len - 20);
        bodies.push((u16::from_be_bytes([ip[22], ip[23]]), ip[28..].to_vec()));
        at += 16 + len;
    }
    assert_eq!(bodies.len(), 5);
    assert_eq!(bodies[2], (5_004, packet(1)));
    assert_eq!((bodies[4].0, bodies[4].1.len(), bodies[4].1[1]), (5_005, 28, 200));
}

#[test]
fn a_folder_without_a_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(show(folder.path(), &mut Vec::new()), Err(InspectError::Nothing(_))));
}
