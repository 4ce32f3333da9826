//! The timeline of a leg: a source's timestamps, shifted by an amount that is chosen when the source begins.
//!
//! Between two sources that have sent reports, the shift follows their wall clocks, so that frames lie as they were
//! captured. Without reports the time between arrivals stands for it (MEDIA: within the jitter). A wall clock that
//! disagrees with arrival by more than [`MAX_DISAGREEMENT`] is not believed: peers have sent times a day off.
//! Must not know sequence numbers or payloads.

use super::Packet;
use std::time::{Duration, Instant};

/// The wall clock may differ from arrival by this much: more than any queue in a call holds, less than a wrong clock.
pub const MAX_DISAGREEMENT: Duration = Duration::from_secs(2);

/// A source's first frame is at least this much after the last one of the source before: equal timestamps would be
/// taken for one frame. The new layer's keyframe is often the very frame the old layer has just sent.
pub const MIN_STEP: Duration = Duration::from_millis(1);

/// The same SSRC keeps its shift over a pause if its clock and arrival agree this well.
const SAME_CLOCK: Duration = Duration::from_secs(1);

/// One instant in both clocks of a source: from a sender report (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMap {
    /// NTP time: seconds since 1900 in the upper 32 bits, fraction below.
    pub ntp: u64,
    /// The same instant in RTP ticks.
    pub rtp: u32,
}

impl ClockMap {
    /// The wall clock at a timestamp within half a cycle of the report, in units of 2^-32 s.
    fn ntp_at(self, rtp: u32, rate: u32) -> u64 {
        let ticks = i64::from(rtp.wrapping_sub(self.rtp) as i32);
        let fraction = (i128::from(ticks) << 32) / i128::from(rate.max(1));
        self.ntp.wrapping_add_signed(fraction as i64)
    }
}

/// The newest packet that went out.
#[derive(Debug, Clone, Copy)]
struct Last {
    ssrc: u32,
    rtp: u32,
    out: u32,
    arrival: Instant,
    clock: Option<ClockMap>,
}

/// Shift of one beginning.
#[derive(Debug, Clone, Copy)]
struct Shift {
    epoch: u32,
    amount: u32,
}

/// Gives timestamps.
#[derive(Debug)]
pub struct Timeline {
    rate: u32,
    first: u32,
    last: Option<Last>,
    current: Option<Shift>,
    previous: Option<Shift>,
}

impl Timeline {
    /// Begins with a timestamp drawn at random by the caller.
    pub fn new(rate: u32, first: u32) -> Self {
        Self { rate, first, last: None, current: None, previous: None }
    }

    /// The newest timestamp that went out.
    pub fn last(&self) -> Option<u32> {
        self.last.map(|it| it.out)
    }

    /// The first packet of a beginning.
    pub fn begin(&mut self, epoch: u32, packet: &Packet<'_>) -> u32 {
        let out = match self.last {
            None => self.first,
            Some(last) => last.out.wrapping_add(self.step(&last, packet)),
        };
        self.previous = self.current;
        self.current = Some(Shift { epoch, amount: out.wrapping_sub(packet.timestamp) });
        self.remember(packet, out);
        out
    }

    /// A packet newer than all before.
    pub fn next(&mut self, epoch: u32, packet: &Packet<'_>) -> u32 {
        let out = self.late(epoch, packet.timestamp).unwrap_or(packet.timestamp);
        self.remember(packet, out);
        out
    }

    /// A timestamp of a beginning that is still known: the current one and that before.
    pub fn late(&self, epoch: u32, timestamp: u32) -> Option<u32> {
        let shift = [self.current, self.previous].into_iter().flatten().find(|it| it.epoch == epoch)?;
        Some(timestamp.wrapping_add(shift.amount))
    }

    fn remember(&mut self, packet: &Packet<'_>, out: u32) {
        let (ssrc, rtp, arrival) = (packet.ssrc, packet.timestamp, packet.arrival);
        self.last = Some(Last { ssrc, rtp, out, arrival, clock: packet.clock });
    }

    /// Ticks from the last packet to the first of a new beginning.
    fn step(&self, last: &Last, packet: &Packet<'_>) -> u32 {
        let waited = packet.arrival.saturating_duration_since(last.arrival);
        let by_arrival = self.ticks(waited);
        let measured = if last.ssrc == packet.ssrc {
            let own = i64::from(packet.timestamp.wrapping_sub(last.rtp) as i32);
            Some(own).filter(|it| (it - by_arrival).abs() <= self.ticks(SAME_CLOCK))
        } else {
            self.by_clocks(last, packet).filter(|it| (it - by_arrival).abs() <= self.ticks(MAX_DISAGREEMENT))
        };
        let step = measured.unwrap_or(by_arrival).max(self.ticks(MIN_STEP));
        u32::try_from(step).unwrap_or(u32::MAX / 2)
    }

    fn by_clocks(&self, last: &Last, packet: &Packet<'_>) -> Option<i64> {
        let before = last.clock?.ntp_at(last.rtp, self.rate);
        let now = packet.clock?.ntp_at(packet.timestamp, self.rate);
        let fraction = now.wrapping_sub(before) as i64;
        Some(((i128::from(fraction) * i128::from(self.rate)) >> 32) as i64)
    }

    fn ticks(&self, time: Duration) -> i64 {
        let ticks = time.as_micros() * u128::from(self.rate) / 1_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const RATE: u32 = 90_000;

    fn packet(ssrc: u32, timestamp: u32, arrival: Instant, clock: Option<ClockMap>) -> Packet<'static> {
        Packet { ssrc, sequence: 0, timestamp, arrival, clock, payload: &[] }
    }

    fn seconds(count: u64) -> u64 {
        count << 32
    }

    #[test]
    fn a_switch_follows_the_wall_clocks() {
        let start = Instant::now();
        let mut line = Timeline::new(RATE, 0);
        let old = Some(ClockMap { ntp: seconds(100), rtp: 0 });
        let new = Some(ClockMap { ntp: seconds(99), rtp: 4_000_000_000 });
        line.begin(1, &packet(1, 9_000, start, old));
        // Captured 40 ms after the last, but 300 ms late.
        let captured = 4_000_000_000u32.wrapping_add(RATE + 9_000 + 3_600);
        let out = line.begin(2, &packet(2, captured, start + Duration::from_millis(340), new));
        assert!((3_599..=3_600).contains(&out), "{out}");
        assert_eq!(line.late(1, 9_000), Some(0));
    }

    #[test]
    fn a_wall_clock_a_day_off_is_not_believed() {
        let start = Instant::now();
        let mut line = Timeline::new(RATE, 0);
        line.begin(1, &packet(1, 0, start, Some(ClockMap { ntp: seconds(100), rtp: 0 })));
        let wrong = Some(ClockMap { ntp: seconds(86_500), rtp: 0 });
        assert_eq!(line.begin(2, &packet(2, 0, start + Duration::from_millis(100), wrong)), 9_000);
    }

    #[test]
    fn the_same_frame_in_another_layer_is_a_later_one() {
        let start = Instant::now();
        let mut line = Timeline::new(RATE, 0);
        let clock = Some(ClockMap { ntp: seconds(1), rtp: 0 });
        line.begin(1, &packet(1, 900, start, clock));
        assert_eq!(line.begin(2, &packet(2, 900, start, clock)), 90);
    }

    #[test]
    fn a_pause_of_one_source_keeps_its_own_clock() {
        let start = Instant::now();
        let mut line = Timeline::new(RATE, 500);
        line.begin(1, &packet(1, 0, start, None));
        let later = start + Duration::from_millis(10_020);
        assert_eq!(line.begin(2, &packet(1, 10 * RATE, later, None)), 10 * RATE + 500);
    }

    #[test]
    fn a_source_that_restarts_its_clock_continues_by_arrival() {
        let start = Instant::now();
        let mut line = Timeline::new(RATE, 0);
        line.begin(1, &packet(1, 3_000_000_000, start, None));
        assert_eq!(line.begin(2, &packet(1, 7, start + Duration::from_secs(1), None)), RATE);
    }

    #[test]
    fn switches_never_go_back_and_stay_near_arrival() {
        let (mut random, start) = (Random::seeded(3), Instant::now());
        let (mut line, mut at) = (Timeline::new(RATE, u32::MAX - 5), start);
        let mut last = line.begin(0, &packet(0, 1, at, None));
        for epoch in 1..10_000 {
            let waited = random.below(400);
            at += Duration::from_millis(waited);
            let clock =
                random.chance(50.0).then(|| ClockMap { ntp: random.next(), rtp: random.next() as u32 });
            let out = line.begin(epoch, &packet(random.below(3) as u32, random.next() as u32, at, clock));
            let step = i64::from(out.wrapping_sub(last));
            assert!(step >= 90 && step <= (waited as i64 + 2_000) * 90, "{step} after {waited} ms");
            last = out;
        }
    }
}
