//! Records of a server track on their way into its log, and what of them holds on.
//!
//! This file must not know files or who waits. Packets are never acknowledged one by one: they are written as they come, so
//! that a killed process loses nothing that was written, and synced once in [`SYNC_AFTER`] and before a segment leaves.

use std::time::Duration;

use super::format::{Mark, RecordKind};
use super::rtp::{SenderReport, StreamDescription};

/// How long packets may be in the system's cache alone. A sync a second costs one track nothing and fifty tracks a tenth of
/// what a group commit of chunks takes; with the machine's power at most this much is lost.
pub(super) const SYNC_AFTER: Duration = Duration::from_secs(1);
/// How many streams each new segment describes again: the layers of a simulcast source before and after a reconnection.
const STREAMS_HELD: usize = 8;

/// Records in the order in which they came.
#[derive(Debug, Default)]
pub struct Batch {
    bodies: Vec<u8>,
    records: Vec<Record>,
    marks: Vec<Mark>,
    packets: u64,
    packet_bytes: u64,
}

/// One record of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    pub(super) sequence: u32,
    pub(super) arrival_us: i64,
    end: usize,
}

impl Batch {
    /// Adds a packet, whole. `sequence` is the low half of its extended sequence; the arrival is in microseconds since 1970.
    pub fn rtp(&mut self, sequence: u32, arrival_us: i64, packet: &[u8]) {
        self.packets += 1;
        self.packet_bytes += packet.len() as u64;
        self.add(RecordKind::Rtp, sequence, arrival_us, packet);
    }

    /// Adds a sender report.
    pub fn sender_report(&mut self, arrival_us: i64, report: &SenderReport) {
        self.add(RecordKind::SenderReport, 0, arrival_us, &report.encode());
    }

    /// Adds a mark.
    pub fn mark(&mut self, arrival_us: i64, mark: Mark) {
        self.add(RecordKind::Mark, 0, arrival_us, &mark.encode());
        self.marks.push(mark);
    }

    /// Adds all of another batch.
    pub fn append(&mut self, more: Self) {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(&more.bodies);
        self.records.extend(more.records.iter().map(|record| Record { end: start + record.end, ..*record }));
        self.marks.extend(more.marks);
        self.packets += more.packets;
        self.packet_bytes += more.packet_bytes;
    }

    /// Its marks, each with when it was set.
    pub fn marks(&self) -> impl Iterator<Item = (i64, &Mark)> {
        let set = self.records.iter().filter(|record| record.kind == RecordKind::Mark);
        set.map(|record| record.arrival_us).zip(&self.marks)
    }

    /// When the first and the last packet came.
    #[must_use]
    pub fn packet_arrivals_us(&self) -> Option<(i64, i64)> {
        self.span(|record| record.kind == RecordKind::Rtp)
    }

    /// The bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bodies.len()
    }

    /// How many packets it holds.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// The bytes of these packets.
    #[must_use]
    pub fn packet_bytes(&self) -> u64 {
        self.packet_bytes
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When the first and the last record came.
    #[must_use]
    pub fn arrivals_us(&self) -> Option<(i64, i64)> {
        self.span(|_| true)
    }

    /// Every record with its body.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Record, &[u8])> {
        let starts = std::iter::once(0).chain(self.records.iter().map(|record| record.end));
        self.records.iter().zip(starts).map(|(record, start)| (*record, &self.bodies[start..record.end]))
    }

    fn span(&self, of: impl Fn(&Record) -> bool) -> Option<(i64, i64)> {
        let arrivals = || self.records.iter().filter(|record| of(record)).map(|record| record.arrival_us);
        Some((arrivals().min()?, arrivals().max()?))
    }

    fn add(&mut self, kind: RecordKind, sequence: u32, arrival_us: i64, body: &[u8]) {
        self.bodies.extend_from_slice(body);
        self.records.push(Record { kind, sequence, arrival_us, end: self.bodies.len() });
    }
}

/// What holds of a server track, beside when its packets came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Packets in the log.
    pub(super) packets: u64,
    /// The streams described last, oldest first.
    streams: Vec<StreamDescription>,
    muted: bool,
    paused: bool,
}

impl Flow {
    /// Takes in a batch that was written.
    pub(super) fn add(&mut self, batch: &Batch) {
        self.packets += batch.packets;
        batch.marks.iter().for_each(|mark| self.note(mark));
    }

    /// Takes in a mark.
    pub(super) fn note(&mut self, mark: &Mark) {
        match mark {
            Mark::Stream(stream) => {
                self.streams
                    .retain(|held| (held.ssrc, held.payload_type) != (stream.ssrc, stream.payload_type));
                self.streams.push(stream.clone());
                let surplus = self.streams.len().saturating_sub(STREAMS_HELD);
                self.streams.drain(..surplus);
            }
            Mark::Muted => self.muted = true,
            Mark::Unmuted => self.muted = false,
            Mark::Paused => self.paused = true,
            Mark::Resumed => self.paused = false,
            _ => {}
        }
    }

    /// What a new segment repeats, so that it can be read without the others.
    pub(super) fn restated(&self) -> Vec<Mark> {
        let streams = self.streams.iter().cloned().map(Mark::Stream);
        let states = [(self.muted, Mark::Muted), (self.paused, Mark::Paused)];
        streams.chain(states.into_iter().filter_map(|(holds, mark)| holds.then_some(mark))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(ssrc: u32) -> Mark {
        Mark::Stream(StreamDescription {
            ssrc,
            payload_type: 96,
            clock_rate: 90_000,
            channels: 0,
            mime: "video/VP8".into(),
            fmtp: String::new(),
            rid: String::new(),
            extensions: Vec::new(),
        })
    }

    #[test]
    fn a_batch_gives_back_what_it_was_given() {
        let (mut batch, mut more) = (Batch::default(), Batch::default());
        batch.rtp(7, 20, b"packet");
        more.mark(10, Mark::Muted);
        more.rtp(8, 30, b"");
        batch.append(more);
        let bodies: Vec<_> =
            batch.iter().map(|(record, body)| (record.kind, record.sequence, body.to_vec())).collect();
        assert_eq!(
            bodies,
            [
                (RecordKind::Rtp, 7, b"packet".to_vec()),
                (RecordKind::Mark, 0, Mark::Muted.encode()),
                (RecordKind::Rtp, 8, Vec::new())
            ]
        );
        assert_eq!((batch.packets(), batch.packet_bytes(), batch.bytes()), (2, 6, 7));
        assert_eq!((batch.arrivals_us(), batch.packet_arrivals_us()), (Some((10, 30)), Some((20, 30))));
        assert_eq!(batch.marks().collect::<Vec<_>>(), [(10, &Mark::Muted)]);
    }

    #[test]
    fn a_segment_repeats_the_last_streams_and_what_is_muted() {
        let mut flow = Flow::default();
        for ssrc in (0..20).chain([15]) {
            flow.note(&stream(ssrc));
        }
        flow.note(&Mark::Muted);
        flow.note(&Mark::Paused);
        flow.note(&Mark::Resumed);
        let expected: Vec<_> =
            [12, 13, 14, 16, 17, 18, 19, 15].into_iter().map(stream).chain([Mark::Muted]).collect();
        assert_eq!(flow.restated(), expected);
    }
}
