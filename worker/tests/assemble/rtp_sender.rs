//! A sender that never was: real encoded frames in RTP packets by a packetizer that is not ours, and the log they make.

use std::io::{self, Cursor};
use std::process::Command;

use bytes::Bytes;
use rtc_rtp::codec::{
    av1::Av1Payloader, h264::H264Payloader, opus::OpusPayloader, vp8::Vp8Payloader, vp9::Vp9Payloader,
};
use rtc_rtp::packetizer::Payloader;
use shared::capture::rtp::{Logged, SenderReport, StreamDescription, put_record};
use shared::capture::{Mark, RecordKind, SegmentHeader};
use worker::assemble::rtp::{Clocks, RtpAssembled, RtpPlan, assemble, survey};
use worker::assemble::{AssembleError, Codec};

/// When the recording started, by the edge's clock.
pub(crate) const START_US: i64 = 1_700_000_000_000_000;
/// How long every packet is under way at least.
pub(crate) const DELAY_US: i64 = 20_000;
/// How far the sender's clock is ahead of the edge's.
const AHEAD_US: i64 = 3_456_789;
/// Seconds from 1900 to 1970.
const NTP_EPOCH: i64 = 2_208_988_800;
const MTU: usize = 1_100;

/// A frame as it was encoded, or as it stands in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shot {
    pub(crate) us: i64,
    pub(crate) key: bool,
    pub(crate) track: u64,
    pub(crate) data: Vec<u8>,
}

/// Two seconds of AV1, which no fixture has.
#[expect(clippy::disallowed_methods, reason = "a test encodes with FFmpeg")]
pub(crate) fn av1() -> Vec<Shot> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mkv"); // into a pipe FFmpeg writes no AV1 header
    let args = "-v error -f lavfi -i testsrc2=size=320x240:rate=15 -t 2 -c:v libaom-av1 -cpu-used 8 -g 10 -b:v 300k \
                -usage realtime -lag-in-frames 0";
    let run = Command::new("ffmpeg").args(args.split_whitespace()).arg(&file).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    blocks(&std::fs::read(&file).unwrap())
}

/// The blocks of a Matroska file with known sizes, with times as exact as the file has them.
pub(crate) fn blocks(file: &[u8]) -> Vec<Shot> {
    let (mut at, mut base, mut scale, mut shots) = (0, 0i64, 1_000_000i64, Vec::new());
    while at < file.len() {
        let id_len = file[at].leading_zeros() as usize + 1;
        let id = file[at..at + id_len].iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
        let size_len = file[at + id_len].leading_zeros() as usize + 1;
        let raw =
            file[at + id_len..at + id_len + size_len].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let size = (raw & ((1 << (7 * size_len)) - 1)) as usize;
        let begin = at + id_len + size_len;
        if matches!(id, 0x1853_8067 | 0x1F43_B675 | 0x1549_A966 | 0xA0) {
            at = begin;
            continue;
        }
        let payload = &file[begin..(begin + size).min(file.len())];
        let number = || payload.iter().fold(0i64, |n, byte| n << 8 | i64::from(*byte));
        match id {
            0x2A_D7B1 => scale = number(),
            0xE7 => base = number(),
            0xA3 | 0xA1 => shots.push(Shot {
                us: (base + i64::from(i16::from_be_bytes([payload[1], payload[2]]))) * scale / 1_000,
                key: payload[3] & 0x80 != 0,
                track: u64::from(payload[0] & 0x7F),
                data: payload[4..].to_vec(),
            }),
            _ => {}
        }
        at = begin + size;
    }
    shots
}

/// One stream of a sender.
pub(crate) struct Sender {
    pub(crate) ssrc: u32,
    pub(crate) codec: Codec,
    pub(crate) sequence: u16,
    /// The timestamp at the recording's start.
    pub(crate) timestamp: u32,
    /// The value of a rotation extension for the packets to come.
    pub(crate) rotation: Option<u8>,
    payloader: Box<dyn Payloader>,
    pub(crate) log: Vec<Logged>,
}

impl Sender {
    pub(crate) fn new(ssrc: u32, codec: Codec) -> Self {
        let payloader: Box<dyn Payloader> = match codec {
            Codec::Opus => Box::new(OpusPayloader),
            Codec::Vp8 => {
                let mut payloader = Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Box::new(payloader)
            }
            Codec::Vp9 => Box::new(Vp9Payloader::default()),
            Codec::H264 => Box::new(H264Payloader::default()),
            _ => Box::new(Av1Payloader {}),
        };
        let mut sender = Self {
            ssrc,
            codec,
            sequence: 1_000,
            timestamp: 5_000,
            rotation: None,
            payloader,
            log: Vec::new(),
        };
        let mark = Mark::Stream(sender.description());
        sender.log.push(Logged::Mark { arrival_us: START_US, mark });
        sender
    }

    fn rate(&self) -> i64 {
        if self.codec == Codec::Opus { 48_000 } else { 90_000 }
    }

    fn payload_type(&self) -> u8 {
        96 + self.codec as u8
    }

    fn description(&self) -> StreamDescription {
        StreamDescription {
            ssrc: self.ssrc,
            payload_type: self.payload_type(),
            clock_rate: self.rate() as u32,
            channels: 2,
            mime: format!("media/{}", self.codec.to_string().to_uppercase()),
            fmtp: String::new(),
            rid: String::new(),
            extensions: vec![(13, "urn:3gpp:video-orientation".to_owned())],
        }
    }

    pub(crate) fn stamp(&self, us: i64) -> u32 {
        self.timestamp.wrapping_add(((us * self.rate() + 500_000) / 1_000_000) as u32)
    }

    /// Sends a frame that was captured `us` after the recording's start.
    pub(crate) fn send(&mut self, us: i64, data: &[u8]) {
        let timestamp = self.stamp(us);
        self.send_stamped(us, timestamp, data);
    }

    /// Sends a frame with a timestamp of its own.
    pub(crate) fn send_stamped(&mut self, us: i64, timestamp: u32, data: &[u8]) {
        let frame = if self.codec == Codec::H264 { annex_b(data) } else { Bytes::copy_from_slice(data) };
        let mut payloads = self.payloader.payload(MTU, &frame).unwrap();
        let last = payloads.len() - 1;
        for (n, payload) in payloads.drain(..).enumerate() {
            let marker = n == last && self.codec != Codec::Opus;
            let extended = self.rotation.filter(|_| n == last);
            let mut bytes = vec![
                if extended.is_some() { 0x90 } else { 0x80 },
                u8::from(marker) << 7 | self.payload_type(),
            ];
            bytes.extend_from_slice(&self.sequence.to_be_bytes());
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&self.ssrc.to_be_bytes());
            if let Some(rotation) = extended {
                bytes.extend_from_slice(&[0xBE, 0xDE, 0, 1, 0xD0, rotation, 0, 0]);
            }
            bytes.extend_from_slice(&payload);
            let arrival_us = START_US + us + DELAY_US + n as i64 * 10;
            self.log.push(Logged::Packet { arrival_us, sequence: self.sequence.into(), bytes });
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    /// Sends frames, each at its own time plus `shift_us`.
    pub(crate) fn send_all(&mut self, shots: &[Shot], shift_us: i64) {
        for shot in shots {
            self.send(shot.us + shift_us, &shot.data);
        }
    }

    /// Sends a sender report at a time.
    pub(crate) fn report(&mut self, us: i64) {
        self.report_stamped(us, self.stamp(us));
    }

    /// Sends a sender report at a time with a timestamp of its own.
    pub(crate) fn report_stamped(&mut self, us: i64, rtp: u32) {
        let ahead_us = START_US + us + AHEAD_US;
        let seconds = ahead_us / 1_000_000 + NTP_EPOCH;
        let fraction = ((ahead_us % 1_000_000) << 32) / 1_000_000;
        let report = SenderReport { ssrc: self.ssrc, ntp: (seconds << 32 | fraction) as u64, rtp };
        self.log.push(Logged::SenderReport { arrival_us: START_US + us + DELAY_US, report });
    }

    pub(crate) fn mark(&mut self, us: i64, mark: Mark) {
        self.log.push(Logged::Mark { arrival_us: START_US + us, mark });
    }
}

fn annex_b(packed: &[u8]) -> Bytes {
    let (mut rest, mut out) = (packed, Vec::new());
    while rest.len() > 4 {
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(&rest[4..4 + size]);
        rest = &rest[4 + size..];
    }
    Bytes::from(out)
}

/// The arrival of a record.
pub(crate) fn arrival(logged: &Logged) -> i64 {
    match logged {
        Logged::Packet { arrival_us, .. }
        | Logged::SenderReport { arrival_us, .. }
        | Logged::Mark { arrival_us, .. } => *arrival_us,
        Logged::Damaged(_) => i64::MAX,
    }
}

/// The records of several streams as one log, in the order of their arrivals.
pub(crate) fn merged(logs: Vec<Vec<Logged>>) -> Vec<Logged> {
    let mut all: Vec<Logged> = logs.into_iter().flatten().collect();
    all.sort_by_key(arrival);
    all
}

/// The log as a segment's bytes.
pub(crate) fn segment(header: &SegmentHeader, log: &[Logged]) -> Vec<u8> {
    let mut bytes = header.encode();
    for logged in log {
        let at = arrival(logged);
        match logged {
            Logged::Packet { sequence, bytes: body, .. } => {
                put_record(&mut bytes, header, RecordKind::Rtp, *sequence, at, body);
            }
            Logged::SenderReport { report, .. } => {
                put_record(&mut bytes, header, RecordKind::SenderReport, 0, at, &report.encode());
            }
            Logged::Mark { mark, .. } => {
                put_record(&mut bytes, header, RecordKind::Mark, 0, at, &mark.encode());
            }
            Logged::Damaged(_) => {}
        }
    }
    bytes
}

/// A plan whose zero is [`START_US`].
pub(crate) fn plan() -> RtpPlan {
    RtpPlan { start_us: START_US, ..RtpPlan::default() }
}

/// Assembles one log that is all there is of its participant.
pub(crate) fn run_log(log: &[Logged], plan: &RtpPlan) -> Result<(RtpAssembled, Vec<u8>), AssembleError> {
    run_logs(&[log.to_vec()], plan).remove(0)
}

/// Assembles all logs of a participant.
pub(crate) fn run_logs(
    logs: &[Vec<Logged>],
    plan: &RtpPlan,
) -> Vec<Result<(RtpAssembled, Vec<u8>), AssembleError>> {
    let records = |log: &Vec<Logged>| log.clone().into_iter().map(Ok);
    let read = |log| survey(|| io::Result::Ok(records(log))).unwrap();
    let mut surveys: Vec<_> = logs.iter().map(read).collect();
    let clocks = Clocks::learn(&mut surveys);
    let each = logs.iter().zip(&surveys).zip(&clocks);
    each.map(|((log, survey), clocks)| {
        let mut out = Cursor::new(Vec::new());
        let done = assemble(&mut log.iter().cloned().map(Ok), survey, clocks, plan, &mut out)?;
        Ok((done, out.into_inner()))
    })
    .collect()
}
