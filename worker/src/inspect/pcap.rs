//! A classic pcap file of raw IPv4 (link type 101) with synthetic UDP around what was logged.
//!
//! Each track is a flow of its own: from 10.0.0.(n + 1), port 5004 for RTP and 5005 for RTCP, which Wireshark decodes by
//! `Decode As` or its RTP heuristic. Checksums of IP are right, of UDP absent, as RFC 768 allows.

use std::io::{self, Write};

use shared::capture::rtp::{Logged, SenderReport};

/// `LINKTYPE_RAW`: packets begin with an IP header.
const LINKTYPE_RAW: u32 = 101;
/// The longest packet that is written: what an IPv4 length can say.
const SNAP: usize = 65_535;
/// IP and UDP headers.
const HEADERS: usize = 28;
/// Where RTP is sent to (RFC 3551, section 8); RTCP goes one higher.
const PORT: u16 = 5_004;

/// A file being written.
pub(super) struct Pcap<W> {
    out: W,
}

impl<W: Write> Pcap<W> {
    pub(super) fn begin(mut out: W) -> io::Result<Self> {
        out.write_all(&0xA1B2_C3D4u32.to_le_bytes())?; // microseconds, in this byte order
        out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        out.write_all(&u32::try_from(SNAP).expect("it is 65,535").to_le_bytes())?;
        out.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Writes what has a place on the wire.
    pub(super) fn logged(&mut self, track: usize, logged: &Logged) -> io::Result<()> {
        match logged {
            Logged::Packet { arrival_us, bytes, .. } => self.packet(track, PORT, *arrival_us, bytes),
            Logged::SenderReport { arrival_us, report } => {
                self.packet(track, PORT + 1, *arrival_us, &sender_report(report))
            }
            Logged::Mark { .. } | Logged::Damaged(_) => Ok(()),
        }
    }

    fn packet(&mut self, track: usize, port: u16, arrival_us: i64, body: &[u8]) -> io::Result<()> {
        let body = body.get(..body.len().min(SNAP - HEADERS)).unwrap_or_default();
        let len = u16::try_from(HEADERS + body.len()).expect("it was cut to 65,535");
        let host = u8::try_from(track % 200 + 1).expect("it is at most 200");
        let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, host, 10, 0, 1, 1];
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        let checksum = checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let arrival_us = u64::try_from(arrival_us).unwrap_or(0);
        let seconds = u32::try_from(arrival_us / 1_000_000).unwrap_or(u32::MAX);
        self.out.write_all(&seconds.to_le_bytes())?;
        self.out.write_all(&u32::try_from(arrival_us % 1_000_000).unwrap_or(0).to_le_bytes())?;
        self.out.write_all(&u32::from(len).to_le_bytes())?;
        self.out.write_all(&u32::from(len).to_le_bytes())?;
        self.out.write_all(&ip)?;
        self.out.write_all(&port.to_be_bytes())?;
        self.out.write_all(&port.to_be_bytes())?;
        self.out.write_all(&(len - 20).to_be_bytes())?;
        self.out.write_all(&[0, 0])?;
        self.out.write_all(body)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A sender report without counts or report blocks (RFC 3550, section 6.4.1).
fn sender_report(report: &SenderReport) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend_from_slice(&report.ssrc.to_be_bytes());
    bytes.extend_from_slice(&report.ntp.to_be_bytes());
    bytes.extend_from_slice(&report.rtp.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

/// The checksum of an IPv4 header whose own field is zero (RFC 1071).
fn checksum(header: &[u8; 20]) -> u16 {
    let words = header.as_chunks::<2>().0.iter().map(|&word| u32::from(u16::from_be_bytes(word)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !u16::try_from((folded & 0xFFFF) + (folded >> 16)).unwrap_or(u16::MAX)
}
