//! What a log holds, in lines for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use shared::capture::rtp::{Logged, RtpPacket};
use shared::capture::{Mark, SegmentHeader, timestamp_of};

/// Marks and damaged spans that are listed; of more, the number is told.
const MAX_LISTED: usize = 1_000;
/// Streams that are told apart; packets of more are counted together.
const MAX_STREAMS: usize = 1_024;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Shown {
    streams: BTreeMap<u32, Stream>,
    described: BTreeMap<(u32, u8), String>,
    arrivals: Option<(i64, i64)>,
    listed: Vec<String>,
    unlisted: u64,
    damaged_bytes: u64,
    unreadable: u64,
}

#[derive(Debug, Default)]
struct Stream {
    payload_type: u8,
    packets: u64,
    bytes: u64,
    reports: u64,
    first_us: i64,
    last_us: i64,
    sequences: Option<(i64, i64)>,
    timestamps: (u32, u32),
}

impl Shown {
    pub(super) fn note(&mut self, logged: &Logged) {
        match logged {
            Logged::Packet { arrival_us, bytes, .. } => self.packet(*arrival_us, bytes),
            Logged::SenderReport { arrival_us, report } => {
                self.arrived(*arrival_us);
                if let Some(stream) = self.stream(report.ssrc) {
                    stream.reports += 1;
                }
            }
            Logged::Mark { arrival_us, mark } => self.mark(*arrival_us, mark),
            Logged::Damaged(span) => {
                self.damaged_bytes += span.len;
                self.list(format!(
                    "damaged  segment {} from byte {}, {} bytes",
                    span.segment, span.offset, span.len
                ));
            }
        }
    }

    fn packet(&mut self, arrival_us: i64, bytes: &[u8]) {
        self.arrived(arrival_us);
        let Some(packet) = RtpPacket::parse(bytes) else {
            self.unreadable += 1;
            return;
        };
        let Some(stream) = self.stream(packet.ssrc) else { return };
        if stream.packets == 0 {
            stream.first_us = arrival_us;
            stream.timestamps.0 = packet.timestamp;
        }
        stream.last_us = arrival_us;
        stream.timestamps.1 = packet.timestamp;
        stream.payload_type = packet.payload_type;
        stream.packets += 1;
        stream.bytes += bytes.len() as u64;
        let (first, highest) = stream.sequences.unwrap_or((packet.sequence.into(), packet.sequence.into()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modular on purpose")]
        let sequence = highest + i64::from(packet.sequence.wrapping_sub(highest as u16).cast_signed());
        stream.sequences = Some((first.min(sequence), highest.max(sequence)));
    }

    fn mark(&mut self, arrival_us: i64, mark: &Mark) {
        self.arrived(arrival_us);
        let Mark::Stream(stream) = mark else {
            self.list(format!("{}  {mark:?}", timestamp_of(arrival_us).to_rfc3339()));
            return;
        };
        let text = format!(
            "{} {} Hz, {} channels, fmtp {:?}, rid {:?}, {} extensions",
            stream.mime,
            stream.clock_rate,
            stream.channels,
            stream.fmtp,
            stream.rid,
            stream.extensions.len()
        );
        if self.described.len() < MAX_STREAMS {
            self.described.insert((stream.ssrc, stream.payload_type), text);
        }
    }

    fn stream(&mut self, ssrc: u32) -> Option<&mut Stream> {
        let room = self.streams.len() < MAX_STREAMS || self.streams.contains_key(&ssrc);
        room.then(|| self.streams.entry(ssrc).or_default())
    }

    fn arrived(&mut self, arrival_us: i64) {
        let (first, last) = self.arrivals.unwrap_or((arrival_us, arrival_us));
        self.arrivals = Some((first.min(arrival_us), last.max(arrival_us)));
    }

    fn list(&mut self, line: String) {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(line);
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn print(
        &self,
        folder: &Path,
        header: Option<&SegmentHeader>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        writeln!(out, "{}", folder.display())?;
        match header {
            Some(SegmentHeader { spec, track, number, .. }) => {
                let (source, kind) = (spec.source, spec.kind.as_str());
                writeln!(out, "  track    {track} of {}, {kind}, {source:?}", spec.participant)?;
                writeln!(out, "  of       {}, last segment {number}", spec.recording)?;
            }
            None => writeln!(out, "  no segment has a whole header")?,
        }
        if let Some((first, last)) = self.arrivals {
            let (from, to) = (timestamp_of(first).to_rfc3339(), timestamp_of(last).to_rfc3339());
            writeln!(out, "  arrivals {from} to {to}, {:.1} s", seconds(last - first))?;
        }
        for (ssrc, stream) in &self.streams {
            self.print_stream(*ssrc, stream, out)?;
        }
        writeln!(out, "  damaged  {} bytes; {} packets are no RTP", self.damaged_bytes, self.unreadable)?;
        for line in &self.listed {
            writeln!(out, "  {line}")?;
        }
        if self.unlisted > 0 {
            writeln!(out, "  and {} more", self.unlisted)?;
        }
        Ok(())
    }

    fn print_stream(&self, ssrc: u32, stream: &Stream, out: &mut dyn Write) -> io::Result<()> {
        let unknown = "not described".to_owned();
        let what = self.described.get(&(ssrc, stream.payload_type)).unwrap_or(&unknown);
        writeln!(out, "  ssrc     {ssrc:08x}, payload type {}: {what}", stream.payload_type)?;
        let (first, highest) = stream.sequences.unwrap_or((0, -1));
        let expected = (highest - first + 1).unsigned_abs();
        let (missing, extra) =
            (expected.saturating_sub(stream.packets), stream.packets.saturating_sub(expected));
        writeln!(
            out,
            "           {} packets, {} bytes over {:.1} s; sequences {first} to {highest}: {missing} missing, {extra} twice",
            stream.packets,
            stream.bytes,
            seconds(stream.last_us - stream.first_us)
        )?;
        let (from, to) = stream.timestamps;
        writeln!(out, "           timestamps {from} to {to}; {} sender reports", stream.reports)
    }
}

#[expect(clippy::cast_precision_loss, reason = "tenths of seconds are for people")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}
