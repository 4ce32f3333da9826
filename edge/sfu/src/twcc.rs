//! Transport-wide congestion control: what was sent under which transport sequence number, and what the receiver says
//! of it (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! Feedback comes from the network: every length is checked, and nothing is allocated for it. Must not know what
//! follows from delay and loss.

use std::time::Instant;

/// Packets in flight that are remembered: 1,500 a second for more than a second, in 16 KiB.
pub const MAX_IN_FLIGHT: usize = 2_048;

/// Receive deltas count in 250 µs (3.1.5), the reference time in 64 ms (3.1).
const TICK_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

/// Feedback that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the transport feedback is malformed")
    }
}

impl std::error::Error for Malformed {}

/// One RTCP packet of feedback: payload type 205, format 15.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    base: u16,
    count: u16,
    /// 24 bits, signed, in 64 ms.
    reference: i32,
    /// Chunks, then deltas.
    body: &'a [u8],
    deltas_at: usize,
}

/// Offset of the first chunk: common header, two SSRCs, base, count, reference time, feedback count.
const CHUNKS_AT: usize = 20;

impl<'a> Feedback<'a> {
    /// Reads the header and finds where the deltas begin. `rtcp` begins at the packet's own header.
    pub fn parse(rtcp: &'a [u8]) -> Result<Self, Malformed> {
        let header: &[u8; CHUNKS_AT] = rtcp.first_chunk().ok_or(Malformed)?;
        let length = (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1) * 4;
        if header[0] & 0xdf != 0x8f || header[1] != 205 || length > rtcp.len() || length < CHUNKS_AT {
            return Err(Malformed);
        }
        let count = u16::from_be_bytes([header[14], header[15]]);
        let body = &rtcp[CHUNKS_AT..length];
        let mut deltas_at = 0;
        let mut seen = 0;
        while seen < u32::from(count) {
            let chunk = chunk_at(body, deltas_at).ok_or(Malformed)?;
            let statuses = statuses_in(chunk);
            if statuses == 0 {
                return Err(Malformed);
            }
            seen += u32::from(statuses);
            deltas_at += 2;
        }
        Ok(Self {
            base: u16::from_be_bytes([header[12], header[13]]),
            count,
            reference: (i32::from_be_bytes([header[16], header[17], header[18], 0])) >> 8,
            body,
            deltas_at,
        })
    }

    /// Gives every transport sequence number with its arrival in the receiver's microseconds, `None` if it did not
    /// arrive. Stops with an error where the deltas end too soon; what was given before is good.
    pub fn each(&self, mut packet: impl FnMut(u16, Option<i64>)) -> Result<(), Malformed> {
        let mut time = i64::from(self.reference) * REFERENCE_US;
        let (mut chunk_at_offset, mut delta_at, mut index) = (0, self.deltas_at, 0u16);
        while index < self.count {
            let chunk = chunk_at(self.body, chunk_at_offset).ok_or(Malformed)?;
            chunk_at_offset += 2;
            for place in 0..statuses_in(chunk).min(self.count - index) {
                let delta = match status(chunk, place) {
                    1 => self.body.get(delta_at).map(|byte| (i64::from(*byte), 1)).ok_or(Malformed)?,
                    2 => {
                        let bytes = self.body.get(delta_at..delta_at + 2).ok_or(Malformed)?;
                        (i64::from(i16::from_be_bytes([bytes[0], bytes[1]])), 2)
                    }
                    _ => {
                        packet(self.base.wrapping_add(index), None);
                        index += 1;
                        continue;
                    }
                };
                time += delta.0 * TICK_US;
                delta_at += delta.1;
                packet(self.base.wrapping_add(index), Some(time));
                index += 1;
            }
        }
        Ok(())
    }
}

fn chunk_at(body: &[u8], at: usize) -> Option<u16> {
    body.get(at..at + 2).map(|it| u16::from_be_bytes([it[0], it[1]]))
}

/// How many packets a chunk speaks of: run length (3.1.3), or 14 or 7 symbols (3.1.4).
fn statuses_in(chunk: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk & 0x1fff,
        2 => 14,
        _ => 7,
    }
}

/// The symbol at a place: 0 not received, 1 small delta, 2 large or negative delta.
fn status(chunk: u16, place: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk >> 13 & 3,
        2 => chunk >> (13 - place) & 1,
        _ => chunk >> (12 - 2 * place) & 3,
    }
}

/// A packet that feedback spoke of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When it was sent, in microseconds since the history began.
    pub sent_us: u64,
    /// Its bytes.
    pub bytes: u32,
    /// Whether it was marked when it was sent.
    pub mark: Mark,
    /// What is known of it.
    pub fate: Fate,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It came. The instant is the receiver's, in microseconds.
    Arrived(i64),
    /// It came, after an earlier feedback had called it missing.
    ArrivedLate(i64),
    /// It is missing, for the first time said.
    Missing,
}

/// Whether a packet belongs to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// No.
    Media,
    /// Yes.
    Probe,
}

/// One packet in 8 bytes. `bytes` 0 means that nothing is remembered.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    sent_us: u32,
    sequence: u16,
    bytes: u16,
}

const MISSING: u16 = 0x8000;
const PROBE: u16 = 0x4000;
const MAX_BYTES: u16 = 0x3fff;

/// What was sent to one receiver.
#[derive(Debug)]
pub struct History {
    began: Instant,
    entries: Box<[Entry]>,
    reference_us: Option<i64>,
}

/// 2^24 reference ticks.
const REFERENCE_CYCLE_US: i64 = REFERENCE_US << 24;

impl History {
    /// An empty one; its memory is taken here, once.
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            entries: vec![Entry::default(); MAX_IN_FLIGHT].into_boxed_slice(),
            reference_us: None,
        }
    }

    /// Microseconds since the history began.
    pub fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_micros() as u64
    }

    /// Remembers a packet. One that is [`MAX_IN_FLIGHT`] older is forgotten.
    pub fn sent(&mut self, now: Instant, sequence: u16, bytes: usize, mark: Mark) {
        let size = u16::try_from(bytes).unwrap_or(MAX_BYTES).clamp(1, MAX_BYTES);
        let flag = if mark == Mark::Probe { PROBE } else { 0 };
        let sent_us = self.micros(now) as u32;
        self.entries[usize::from(sequence) % MAX_IN_FLIGHT] = Entry { sent_us, sequence, bytes: size | flag };
    }

    /// Does not remember a packet any more.
    pub fn forget(&mut self, sequence: u16) {
        let entry = &mut self.entries[usize::from(sequence) % MAX_IN_FLIGHT];
        if entry.sequence == sequence {
            *entry = Entry::default();
        }
    }

    /// Reads feedback and gives what it tells of remembered packets, in the order they were sent. Each packet is given
    /// as missing once at most, and as arrived once at most.
    pub fn told(&mut self, now: Instant, rtcp: &[u8], mut told: impl FnMut(Told)) -> Result<(), Malformed> {
        let feedback = Feedback::parse(rtcp)?;
        let shift = self.unwrap_reference(i64::from(feedback.reference) * REFERENCE_US);
        let now_us = self.micros(now);
        let entries = &mut self.entries;
        feedback.each(|sequence, arrival| {
            let entry = &mut entries[usize::from(sequence) % MAX_IN_FLIGHT];
            if entry.bytes == 0 || entry.sequence != sequence {
                return;
            }
            let was_missing = entry.bytes & MISSING != 0;
            let fate = match arrival {
                None if was_missing => return,
                None => Fate::Missing,
                Some(at) if was_missing => Fate::ArrivedLate(at + shift),
                Some(at) => Fate::Arrived(at + shift),
            };
            let age = u64::from((now_us as u32).wrapping_sub(entry.sent_us));
            told(Told {
                sent_us: now_us.saturating_sub(age),
                bytes: u32::from(entry.bytes & MAX_BYTES),
                mark: if entry.bytes & PROBE != 0 { Mark::Probe } else { Mark::Media },
                fate,
            });
            entry.bytes = if arrival.is_some() { 0 } else { entry.bytes | MISSING };
        })
    }

    /// What to add to this feedback's times, so that they go on when the 24 bits wrap (after 12 days).
    fn unwrap_reference(&mut self, reference_us: i64) -> i64 {
        let shift = self.reference_us.map_or(0, |last| {
            let cycles = (last - reference_us + REFERENCE_CYCLE_US / 2).div_euclid(REFERENCE_CYCLE_US);
            cycles * REFERENCE_CYCLE_US
        });
        self.reference_us = Some(reference_us + shift);
        shift
    }
}

/// Writes feedback as a receiver does: for tests, which have no other receiver.
#[cfg(test)]
pub(crate) fn written(base: u16, arrivals: &[Option<i64>]) -> Vec<u8> {
    let first = arrivals.iter().flatten().next().copied().unwrap_or(0);
    let reference = first.div_euclid(REFERENCE_US);
    let mut out = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    out.extend(base.to_be_bytes());
    out.extend((arrivals.len() as u16).to_be_bytes());
    out.extend(&(reference as i32).to_be_bytes()[1..]);
    out.push(0);
    for group in arrivals.chunks(7) {
        let mut chunk = 0xc000u16;
        for (place, arrival) in group.iter().enumerate() {
            chunk |= u16::from(arrival.is_some()) << (1 + 12 - 2 * place);
        }
        out.extend(chunk.to_be_bytes());
    }
    let mut time = reference * REFERENCE_US / TICK_US;
    for arrival in arrivals.iter().flatten() {
        let delta = arrival / TICK_US - time;
        out.extend((delta as i16).to_be_bytes());
        time += delta;
    }
    while out.len() % 4 != 0 {
        out.push(0);
    }
    let words = (out.len() / 4 - 1) as u16;
    out[2..4].copy_from_slice(&words.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn what_is_written_is_read() {
        let arrivals = [Some(640_000), None, Some(640_250), Some(640_000), None, None, None, Some(700_000)];
        let rtcp = written(65_533, &arrivals);
        let mut read = Vec::new();
        Feedback::parse(&rtcp).unwrap().each(|sequence, arrival| read.push((sequence, arrival))).unwrap();
        let expected: Vec<_> = arrivals
            .iter()
            .enumerate()
            .map(|(index, it)| (65_533u16.wrapping_add(index as u16), *it))
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn run_lengths_and_one_bit_vectors_are_read() {
        // Base 10, 20 packets, reference 1: a run of 3 small deltas, a run of 3 missing, 14 symbols: 1 0 1 0 ...
        let mut rtcp = vec![0x8f, 205, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10, 0, 20, 0, 0, 1, 0];
        rtcp.extend([0x20, 3, 0x00, 3, 0xaa, 0xaa, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1]);
        let mut read = Vec::new();
        Feedback::parse(&rtcp).unwrap().each(|_, arrival| read.push(arrival)).unwrap();
        assert_eq!(read.len(), 20);
        assert_eq!(read[..7], [Some(65_000), Some(66_000), Some(67_000), None, None, None, Some(67_250)]);
        assert_eq!(read.iter().flatten().count(), 10);
        rtcp.truncate(32);
        rtcp[3] = 7;
        assert_eq!(Feedback::parse(&rtcp).unwrap().each(|_, _| {}), Err(Malformed));
    }

    #[test]
    fn any_bytes_are_answered() {
        let (mut random, now) = (Random::seeded(12), Instant::now());
        let mut history = History::new(now);
        let good = written(0, &[Some(64_000); 40]);
        for _ in 0..50_000 {
            let mut bytes = if random.chance(50.0) { good.clone() } else { random.bytes(60) };
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            history.sent(now, random.next() as u16, 1_000, Mark::Media);
            let _ = history.told(now, &bytes, |_| {});
        }
    }

    #[test]
    fn a_packet_is_missing_once_and_may_come_late() {
        let now = Instant::now();
        let mut history = History::new(now);
        for sequence in 0..3 {
            history.sent(now, sequence, 1_200, Mark::Media);
        }
        let mut fates = Vec::new();
        for arrivals in [[Some(64_000), None, Some(64_000)], [None, None, None], [None, Some(64_250), None]] {
            history.told(now, &written(0, &arrivals), |told| fates.push(told.fate)).unwrap();
        }
        assert_eq!(
            fates,
            [Fate::Arrived(64_000), Fate::Missing, Fate::Arrived(64_000), Fate::ArrivedLate(64_250)]
        );
    }

    #[test]
    fn the_reference_time_wraps() {
        let now = Instant::now();
        let mut history = History::new(now);
        let mut times = Vec::new();
        for (sequence, at) in
            [(0, (REFERENCE_CYCLE_US / 2) - 64_000), (1, -(REFERENCE_CYCLE_US / 2) + 64_000)]
        {
            history.sent(now, sequence, 100, Mark::Media);
            let rtcp = written(sequence, &[Some(at)]);
            history.told(now, &rtcp, |it| times.extend([it.fate])).unwrap();
        }
        let [Fate::Arrived(before), Fate::Arrived(after)] = times[..] else { panic!("{times:?}") };
        assert_eq!(after - before, 128_000);
    }
}
