//! What the log of a server track holds: bodies of its records, and reading them in the order of the log.
//!
//! This file must not know sockets, rooms or codecs: the edge writes what it received, the worker makes sense of it.
//! One log holds all of a participant's medium, through joins and leaves: several SSRCs in one log are normal.
//!
//! | record | frame's sequence | body, little-endian where it is ours |
//! |---|---|---|
//! | `Rtp` | extended RTP sequence, low 32 bits | the packet as received after decryption: header, extensions, payload |
//! | `SenderReport` | 0 | SSRC (4), NTP time (8), RTP time (4), as in RFC 3550, section 6.4.1 |
//! | `Mark` | 0 | see [`Mark`](super::Mark) |
//!
//! Decisions:
//! - Packets are kept whole, not depacketized: the edge spends nothing on them, and a bug in depacketizing can be mended
//!   after the fact. A reader needs no more than the packet, so the frame's extended sequence is a help, not the truth.
//! - A stream's description is a mark of its own, repeated at the start of each segment by the writer, so that a lost
//!   segment costs its media alone.

mod buffered;
mod packet;
mod records;

use super::format::{Fields, Frame, RecordKind, SegmentHeader};

pub use packet::RtpPacket;
pub use records::{Logged, Records};

/// The longest format parameters that are kept; H.264's with its parameter sets are below 300 bytes.
pub const MAX_FMTP_BYTES: usize = 1024;
/// How many header extensions of a stream are kept; browsers offer up to 13.
pub const MAX_EXTENSIONS: usize = 32;
/// The longest text that is kept of any other field.
const MAX_TEXT_BYTES: usize = 255;
/// The bytes of a sender report's body.
pub const SENDER_REPORT_BYTES: usize = 16;

/// What an RTCP sender report says of a stream's clock (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: u32,
    /// The sender's wall clock: seconds since 1900 in the high half, their fraction in the low.
    pub ntp: u64,
    /// The same instant by the stream's clock.
    pub rtp: u32,
}

/// What packets of an SSRC are; holds from its place in the log on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    /// The stream.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Ticks of its timestamp in a second.
    pub clock_rate: u32,
    /// Channels of sound; 0 for pictures.
    pub channels: u8,
    /// As `video/VP8`.
    pub mime: String,
    /// Format parameters as SDP has them; none when longer than [`MAX_FMTP_BYTES`].
    pub fmtp: String,
    /// The simulcast layer's name; empty when it has none.
    pub rid: String,
    /// Header extensions: number and URI, at most [`MAX_EXTENSIONS`].
    pub extensions: Vec<(u8, String)>,
}

impl SenderReport {
    /// The body of its record.
    #[must_use]
    pub fn encode(&self) -> [u8; SENDER_REPORT_BYTES] {
        let mut bytes = [0; SENDER_REPORT_BYTES];
        bytes[..4].copy_from_slice(&self.ssrc.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.ntp.to_le_bytes());
        bytes[12..].copy_from_slice(&self.rtp.to_le_bytes());
        bytes
    }

    /// Reads a body; `None` when it is too short.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        Some(Self {
            ssrc: u32::from_le_bytes(fields.array()?),
            ntp: u64::from_le_bytes(fields.array()?),
            rtp: u32::from_le_bytes(fields.array()?),
        })
    }

    /// The sender's wall clock in microseconds since 1900.
    #[must_use]
    pub fn ntp_us(&self) -> i64 {
        let fraction = ((self.ntp & 0xFFFF_FFFF) * 1_000_000) >> 32;
        i64::try_from((self.ntp >> 32) * 1_000_000 + fraction).expect("2^32 seconds fit")
    }
}

impl StreamDescription {
    /// The URI of a header extension's number, as the stream's description has it.
    #[must_use]
    pub fn extension_id(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, known)| known == uri).map(|&(id, _)| id)
    }

    /// Appends what stands behind the mark's code. What is longer than its limit is left out, never cut.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ssrc.to_le_bytes());
        out.push(self.payload_type);
        out.extend_from_slice(&self.clock_rate.to_le_bytes());
        out.push(self.channels);
        put_text(out, &self.mime);
        let fmtp = if self.fmtp.len() <= MAX_FMTP_BYTES { self.fmtp.as_bytes() } else { &[] };
        out.extend_from_slice(&u16::try_from(fmtp.len()).expect("it is at most 1024").to_le_bytes());
        out.extend_from_slice(fmtp);
        put_text(out, &self.rid);
        let kept = self.extensions.iter().filter(|(_, uri)| uri.len() <= MAX_TEXT_BYTES).take(MAX_EXTENSIONS);
        out.push(u8::try_from(kept.clone().count()).expect("it is at most 32"));
        for (id, uri) in kept {
            out.push(*id);
            put_text(out, uri);
        }
    }

    /// Reads what stands behind the mark's code.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let ssrc = u32::from_le_bytes(fields.array()?);
        let payload_type = fields.array::<1>()?[0];
        let clock_rate = u32::from_le_bytes(fields.array()?);
        let channels = fields.array::<1>()?[0];
        let mime = fields.text()?.to_owned();
        let fmtp_len = usize::from(u16::from_le_bytes(fields.array()?));
        let fmtp = std::str::from_utf8(fields.take(fmtp_len)?).ok()?.to_owned();
        let rid = fields.text()?.to_owned();
        let mut extensions = Vec::new();
        for _ in 0..fields.array::<1>()?[0] {
            extensions.push((fields.array::<1>()?[0], fields.text()?.to_owned()));
        }
        Some(Self { ssrc, payload_type, clock_rate, channels, mime, fmtp, rid, extensions })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = if text.len() <= MAX_TEXT_BYTES { text.as_bytes() } else { &[] };
    out.push(u8::try_from(text.len()).expect("it is at most 255"));
    out.extend_from_slice(text);
}

/// Appends a whole record, frame and body, as it stands in a segment with this header. `arrival_us` is in microseconds
/// since 1970 UTC and is held within what the segment can say.
///
/// # Panics
/// When the body is longer than 4 GiB, which no packet is.
pub fn put_record(
    out: &mut Vec<u8>,
    header: &SegmentHeader,
    kind: RecordKind,
    sequence: u32,
    arrival_us: i64,
    body: &[u8],
) {
    let seed = header.seed();
    let after_us = arrival_us.saturating_sub(header.base_us).clamp(0, u32::MAX.into());
    let frame = Frame {
        kind,
        sequence,
        arrival_us: u32::try_from(after_us).expect("it was clamped"),
        len: u32::try_from(body.len()).expect("no packet is longer than 4 GiB"),
        body_crc: crc32c::crc32c_append(seed, body),
    };
    out.extend_from_slice(&frame.encode(seed));
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests;
