//! How well a track comes in and a leg goes out: counters on the packet path, figures once an interval.
//!
//! Loss is that of RFC 3550 A.3 (expected by the numbers, less what came), jitter that of A.8, the round trip that of
//! 6.4.1, but with the instant at which the report went out instead of its wall clock: a leg's sender reports carry
//! the publisher's. Must not know RTCP's wire format, rooms or how figures are shown.

use std::time::{Duration, Instant};

/// Figures of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// Payload and header bytes, in bits a second.
    pub bitrate_bps: u64,
    /// Packets in the interval.
    pub packets: u64,
    /// Packets that are missing, of those expected in the interval; 0 to 1.
    pub loss: f64,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Round trip; of a leg only, and after the first receiver report.
    pub round_trip: Option<Duration>,
}

/// An incoming source (one SSRC).
#[derive(Debug, Clone)]
pub struct Incoming {
    clock_rate: u32,
    since: Instant,
    packets: u64,
    bytes: u64,
    sequence: Option<Extended>,
    /// Received and expected at the end of the last interval.
    prior: (u64, u64),
    transit: Option<Transit>,
    jitter_ticks: f64,
    total_packets: u64,
    total_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Extended {
    first: u64,
    newest: u64,
    /// Packets counted since `first`, those before a restart of the numbers included.
    received: u64,
    /// Expected before the last restart.
    before: u64,
}

#[derive(Debug, Clone, Copy)]
struct Transit {
    arrival: Instant,
    timestamp: u32,
}

/// Where a packet stands among those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Newest,
    Late,
}

/// A jump of more is a restart (RFC 3550 A.1 `MAX_DROPOUT`).
const MAX_DROPOUT: i64 = 3_000;

impl Incoming {
    /// Counts from now on.
    pub fn new(now: Instant, clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            since: now,
            packets: 0,
            bytes: 0,
            sequence: None,
            prior: (0, 0),
            transit: None,
            jitter_ticks: 0.0,
            total_packets: 0,
            total_bytes: 0,
        }
    }

    /// A packet, with the bytes of header and payload.
    pub fn packet(&mut self, now: Instant, sequence: u16, timestamp: u32, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.total_packets += 1;
        self.total_bytes += bytes as u64;
        // One that comes behind newer ones may have been sent again: it would tell of the asking, not of the way.
        if self.count(sequence) == Order::Newest {
            self.measure(now, timestamp);
        }
    }

    /// Packets and bytes since the beginning.
    pub fn totals(&self) -> (u64, u64) {
        (self.total_packets, self.total_bytes)
    }

    /// Figures since the last call. Duplicates cannot make the loss negative.
    pub fn interval(&mut self, now: Instant) -> Quality {
        let (received, expected) =
            self.sequence.map_or((0, 0), |it| (it.received, it.before + it.newest - it.first + 1));
        let missing = (expected - self.prior.1).saturating_sub(received - self.prior.0);
        let quality = Quality {
            bitrate_bps: rate(self.bytes, now.saturating_duration_since(self.since)),
            packets: self.packets,
            loss: share(missing, expected - self.prior.1),
            jitter: Duration::from_secs_f64(self.jitter_ticks / f64::from(self.clock_rate)),
            round_trip: None,
        };
        self.prior = (received, expected);
        (self.packets, self.bytes, self.since) = (0, 0, now);
        quality
    }

    /// A.1, with one packet instead of two to believe a restart: it costs no more than a wrong figure.
    fn count(&mut self, sequence: u16) -> Order {
        let Some(seen) = &mut self.sequence else {
            let first = (1 << 32) + u64::from(sequence);
            self.sequence = Some(Extended { first, newest: first, received: 1, before: 0 });
            return Order::Newest;
        };
        seen.received += 1;
        let ahead = i64::from(sequence.wrapping_sub(seen.newest as u16) as i16);
        if ahead.abs() > MAX_DROPOUT {
            seen.before += seen.newest - seen.first + 1;
            seen.first = (1 << 32) + u64::from(sequence);
            seen.newest = seen.first;
        } else if ahead > 0 {
            seen.newest += ahead as u64;
        } else {
            return Order::Late;
        }
        Order::Newest
    }

    /// A.8: `J += (|D| - J) / 16`.
    fn measure(&mut self, now: Instant, timestamp: u32) {
        if let Some(last) = self.transit {
            let arrival =
                now.saturating_duration_since(last.arrival).as_secs_f64() * f64::from(self.clock_rate);
            let sent = f64::from(timestamp.wrapping_sub(last.timestamp) as i32);
            // A jump of the timestamps (mute, restart) is no jitter: it would be shown for minutes.
            let difference = (arrival - sent).abs();
            if difference < f64::from(self.clock_rate) {
                self.jitter_ticks += (difference - self.jitter_ticks) / 16.0;
            }
        }
        self.transit = Some(Transit { arrival: now, timestamp });
    }
}

/// A report block about a leg (RFC 3550 6.4.1), as the subscriber sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// Packets lost in all: 24 bits, signed.
    pub lost: i32,
    /// Extended highest sequence number received.
    pub highest: u32,
    /// Jitter in ticks.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report, 0 for none.
    pub last_report: u32,
    /// Time between that report and this one, in 1/65536 s.
    pub delay: u32,
}

/// What a report block tells beyond the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Packets expected since then.
    pub expected: u64,
    /// Packets of them that are missing.
    pub lost: u64,
    /// The round trip, if the report tells one.
    pub round_trip: Option<Duration>,
}

/// Sender reports whose sending is remembered: at one a second or slower, more than a round trip's worth.
const REPORTS: usize = 4;

/// What goes out to one subscriber.
#[derive(Debug, Clone)]
pub struct Outbound {
    clock_rate: u32,
    since: Instant,
    packets: u64,
    bytes: u64,
    total_packets: u64,
    total_bytes: u64,
    reports: [Option<(u32, Instant)>; REPORTS],
    next_report: usize,
    last_block: Option<ReportBlock>,
    /// Lost and expected by report blocks since the interval began.
    lost: (u64, u64),
    jitter: Duration,
    round_trip: Option<Duration>,
}

impl Outbound {
    /// Counts from now on.
    pub fn new(now: Instant, clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            since: now,
            packets: 0,
            bytes: 0,
            total_packets: 0,
            total_bytes: 0,
            reports: [None; REPORTS],
            next_report: 0,
            last_block: None,
            lost: (0, 0),
            jitter: Duration::ZERO,
            round_trip: None,
        }
    }

    /// A packet went out, with the bytes of header and payload.
    pub fn packet(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.total_packets += 1;
        self.total_bytes += bytes as u64;
    }

    /// Packets and bytes since the beginning.
    pub fn totals(&self) -> (u64, u64) {
        (self.total_packets, self.total_bytes)
    }

    /// A sender report with this NTP time went out.
    pub fn report_sent(&mut self, now: Instant, ntp: u64) {
        self.reports[self.next_report] = Some(((ntp >> 16) as u32, now));
        self.next_report = (self.next_report + 1) % REPORTS;
    }

    /// The subscriber reported.
    pub fn received(&mut self, now: Instant, block: ReportBlock) -> Receipt {
        let mut receipt = Receipt::default();
        self.jitter = Duration::from_secs_f64(f64::from(block.jitter) / f64::from(self.clock_rate));
        if let Some(last) = self.last_block {
            let expected = u64::from(block.highest.wrapping_sub(last.highest));
            // Numbers that go back belong to a receiver that began anew.
            if expected < u64::from(u32::MAX / 2) {
                let lost = u64::try_from(i64::from(block.lost) - i64::from(last.lost)).unwrap_or(0);
                (receipt.lost, receipt.expected) = (lost.min(expected), expected);
                self.lost = (self.lost.0 + receipt.lost, self.lost.1 + expected);
            }
        }
        self.last_block = Some(block);
        receipt.round_trip = self.round_trip_of(now, block);
        self.round_trip = receipt.round_trip.or(self.round_trip);
        receipt
    }

    fn round_trip_of(&self, now: Instant, block: ReportBlock) -> Option<Duration> {
        if block.last_report == 0 {
            return None;
        }
        let (_, sent) = self.reports.iter().flatten().find(|(middle, _)| *middle == block.last_report)?;
        let held = Duration::from_secs_f64(f64::from(block.delay) / 65_536.0);
        now.saturating_duration_since(*sent).checked_sub(held)
    }

    /// Figures since the last call. Without a report in the interval the loss is 0.
    pub fn interval(&mut self, now: Instant) -> Quality {
        let quality = Quality {
            bitrate_bps: rate(self.bytes, now.saturating_duration_since(self.since)),
            packets: self.packets,
            loss: share(self.lost.0, self.lost.1),
            jitter: self.jitter,
            round_trip: self.round_trip,
        };
        (self.packets, self.bytes, self.since, self.lost) = (0, 0, now, (0, 0));
        quality
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    (bytes * 8).saturating_mul(1_000_000).checked_div(micros).unwrap_or(0)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_even_stream_has_its_bitrate_and_no_jitter() {
        let start = Instant::now();
        let mut track = Incoming::new(start, 48_000);
        for index in 0..50u32 {
            track.packet(start + index * 20 * MS, (65_500 + index) as u16, index * 960, 100);
        }
        let quality = track.interval(start + 1_000 * MS);
        assert_eq!((quality.bitrate_bps, quality.packets, quality.loss), (40_000, 50, 0.0));
        assert!(quality.jitter < MS);
        assert_eq!(track.interval(start + 2_000 * MS).bitrate_bps, 0);
    }

    #[test]
    fn loss_is_counted_and_late_packets_take_it_back() {
        let start = Instant::now();
        let mut track = Incoming::new(start, 90_000);
        for sequence in (0..100).filter(|it| it % 10 != 5) {
            track.packet(start, sequence, 0, 1);
        }
        assert_eq!(track.interval(start + MS).loss, 0.1);
        track.packet(start, 95, 0, 1);
        track.packet(start, 100, 0, 1);
        assert_eq!(track.interval(start + MS).loss, 0.0);
    }

    #[test]
    fn a_restart_of_the_numbers_is_no_loss() {
        let start = Instant::now();
        let mut track = Incoming::new(start, 90_000);
        for sequence in [1, 2, 3, 30_000, 30_001, 4, 5] {
            track.packet(start, sequence, 0, 1);
        }
        assert_eq!(track.interval(start + MS).loss, 0.0);
    }

    #[test]
    fn jitter_approaches_the_mean_difference() {
        let (mut random, start) = (Random::seeded(9), Instant::now());
        let mut track = Incoming::new(start, 90_000);
        for index in 0..2_000u32 {
            let late = MS * random.below(21) as u32;
            track.packet(start + index * 33 * MS + late, index as u16, index * 2_970, 1);
        }
        // The mean difference of two numbers below 20 is 20 / 3.
        let jitter = track.interval(start + 66_000 * MS).jitter.as_secs_f64() * 1_000.0;
        assert!((3.0..11.0).contains(&jitter), "{jitter}");
    }

    #[test]
    fn what_is_sent_again_is_no_jitter() {
        let start = Instant::now();
        let mut track = Incoming::new(start, 48_000);
        for index in (0..200u32).filter(|it| it % 10 != 5) {
            let now = start + index * 20 * MS;
            track.packet(now, index as u16, index * 960, 100);
            if index >= 10 && index % 10 == 1 {
                track.packet(now + MS, (index - 6) as u16, (index - 6) * 960, 100);
            }
        }
        let quality = track.interval(start + 4_000 * MS);
        assert!(quality.jitter < MS && quality.loss < 0.01, "{quality:?}");
    }

    #[test]
    fn the_round_trip_is_measured_from_the_report_sent() {
        let start = Instant::now();
        let mut leg = Outbound::new(start, 90_000);
        let ntp = 0xe000_0001_8000_0000u64;
        leg.report_sent(start, ntp);
        let block =
            ReportBlock { lost: 0, highest: 10, jitter: 900, last_report: 0x0001_8000, delay: 65_536 / 2 };
        assert_eq!(leg.received(start + 580 * MS, block).round_trip, Some(80 * MS));
        assert_eq!(leg.received(start + 400 * MS, block).round_trip, None, "held longer than it was away");
        assert_eq!(leg.received(start + 580 * MS, ReportBlock { last_report: 5, ..block }).round_trip, None);
        let quality = leg.interval(start + 1_000 * MS);
        assert_eq!((quality.round_trip, quality.jitter), (Some(80 * MS), 10 * MS));
    }

    #[test]
    fn report_blocks_tell_the_loss_of_the_interval() {
        let start = Instant::now();
        let mut leg = Outbound::new(start, 90_000);
        let block = |lost, highest| ReportBlock { lost, highest, jitter: 0, last_report: 0, delay: 0 };
        leg.received(start, block(5, 100));
        leg.received(start, block(15, 200));
        leg.received(start, block(12, 300));
        assert_eq!(leg.interval(start + MS).loss, 0.05);
        leg.received(start, block(0, 50));
        assert_eq!(leg.interval(start + MS).loss, 0.0);
    }
}
