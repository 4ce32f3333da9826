//! One SSRC's sequences and timestamps as numbers that do not wrap, each timestamp in the epoch of the clock it belongs to.
//!
//! Knows neither payloads nor wall clocks but the arrival. The same packets in the same order give the same positions, so
//! that a second reading of the log can use what a first has learnt.
//!
//! A timestamp is believed as long as arrivals can explain it. What they cannot explain begins another epoch, which is
//! placed by arrival: peers have produced files of 24 and 149 hours by one absurd timestamp.

/// How far media may run ahead of its first packet's arrival, or lag behind the quickest one, before its clock counts as
/// another: the longest stall that a call survives is below it (ICE consent ends after 30 s, RFC 7675, but queues on the
/// way hold a few seconds).
const MAX_JUMP_US: i64 = 10_000_000;

/// A step of the sequence beyond this is a restart, not reordering: 4 s of 2,000 packets a second.
const MAX_SEQUENCE_JUMP: i64 = 8_192;

/// After this long without a packet a restart is believed at once; within it, two packets in a row must agree.
const RESTART_AFTER_US: i64 = 2_000_000;

/// After a silence that media time does not account for by this much, the clock may have stood still: Chromium's sound
/// does while a sender has no track. A stall of the network looks the same at first, so this is an epoch whose ticks go on;
/// what it was is told later, by how quick its quickest packets are.
const STANDSTILL_US: i64 = 300_000;

/// Epochs of one SSRC at most; packets of any more are left out.
const MAX_EPOCHS: usize = 256;

/// Of them, those that silences may begin.
const MAX_STANDSTILLS: usize = 128;

/// Where a packet stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) sequence: i64,
    pub(super) ticks: i64,
    pub(super) epoch: usize,
}

/// The state of one SSRC.
#[derive(Debug)]
pub(super) struct Unwrapper {
    rate: i64,
    highest: Option<i64>,
    last_arrival_us: i64,
    /// The sequence that would confirm a restart.
    candidate: Option<u16>,
    epochs: Vec<Epoch>,
    current: usize,
}

#[derive(Debug)]
struct Epoch {
    first_sequence: i64,
    ticks: i64,
    arrival_us: i64,
    /// Arrival minus media time: of the first packet, and the least so far.
    first_offset_us: i64,
    least_offset_us: i64,
}

impl Unwrapper {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self {
            rate: i64::from(clock_rate.max(1)),
            highest: None,
            last_arrival_us: 0,
            candidate: None,
            epochs: Vec::new(),
            current: 0,
        }
    }

    /// Media time of a count of ticks, in microseconds.
    pub(super) fn us(&self, ticks: i64) -> i64 {
        us(ticks, self.rate)
    }

    /// Places a packet; `None` for one that nothing explains.
    pub(super) fn place(&mut self, sequence: u16, timestamp: u32, arrival_us: i64) -> Option<Position> {
        let before = self.highest;
        let sequence = self.sequence(sequence, arrival_us)?;
        self.last_arrival_us = arrival_us;
        if before.is_some_and(|highest| sequence <= highest) {
            return self.place_late(sequence, timestamp);
        }
        self.highest = Some(sequence);
        let others = (0..self.epochs.len()).rev().filter(|index| *index != self.current);
        let explained = std::iter::once(self.current).chain(others).find_map(|index| {
            let ticks = self.explain(self.epochs.get(index)?, timestamp, arrival_us)?;
            Some((index, ticks))
        });
        if let Some((index, ticks)) = explained {
            if index == self.current && self.may_have_stood(ticks, arrival_us) {
                return self.begin_epoch(sequence, ticks, arrival_us);
            }
            self.advance(index, ticks, arrival_us);
            return Some(Position { sequence, ticks, epoch: index });
        }
        self.begin_epoch(sequence, timestamp.into(), arrival_us)
    }

    fn advance(&mut self, index: usize, ticks: i64, arrival_us: i64) {
        let offset_us = arrival_us - self.us(ticks);
        let Some(epoch) = self.epochs.get_mut(index) else { return };
        epoch.ticks = ticks;
        epoch.arrival_us = arrival_us;
        epoch.least_offset_us = epoch.least_offset_us.min(offset_us);
        self.current = index;
    }

    /// The ticks of a sender report's timestamp and the epoch it belongs to, when it fits.
    pub(super) fn report(&self, timestamp: u32, arrival_us: i64) -> Option<(usize, i64)> {
        let epoch = self.epochs.get(self.current)?;
        Some((self.current, self.explain(epoch, timestamp, arrival_us)?))
    }

    fn sequence(&mut self, sequence: u16, arrival_us: i64) -> Option<i64> {
        let Some(highest) = self.highest else { return Some(i64::from(sequence)) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modular on purpose")]
        let step = i64::from(sequence.wrapping_sub(highest as u16).cast_signed());
        if step.abs() <= MAX_SEQUENCE_JUMP {
            self.candidate = None;
            return Some(highest + step);
        }
        let confirmed =
            self.candidate == Some(sequence) || arrival_us - self.last_arrival_us > RESTART_AFTER_US;
        self.candidate = if confirmed { None } else { Some(sequence.wrapping_add(1)) };
        confirmed.then(|| (highest / 65_536 + 2) * 65_536 + i64::from(sequence))
    }

    /// A packet from before the newest: it belongs where its neighbours are, however late it comes.
    fn place_late(&self, sequence: i64, timestamp: u32) -> Option<Position> {
        let index = (0..=self.current).rev().find(|&index| self.epochs[index].first_sequence <= sequence);
        let epoch = index.unwrap_or(0);
        let ticks = nearest(self.epochs.get(epoch)?.ticks, timestamp);
        Some(Position { sequence, ticks, epoch })
    }

    /// The ticks nearest to what the arrival lets expect, when that is near enough.
    fn explain(&self, epoch: &Epoch, timestamp: u32, arrival_us: i64) -> Option<i64> {
        let expected = epoch.ticks
            + i64::try_from(i128::from(arrival_us - epoch.arrival_us) * i128::from(self.rate) / 1_000_000)
                .ok()?;
        let ticks = nearest(expected, timestamp);
        let offset_us = arrival_us - self.us(ticks);
        let fits = epoch.first_offset_us - MAX_JUMP_US..=epoch.least_offset_us + MAX_JUMP_US;
        fits.contains(&offset_us).then_some(ticks)
    }

    /// Whether a frame that begins here comes after a silence that its clock does not tell of.
    fn may_have_stood(&self, ticks: i64, arrival_us: i64) -> bool {
        let Some(epoch) = self.epochs.get(self.current) else { return false };
        let silent_us = arrival_us - epoch.arrival_us;
        let told_us = self.us(ticks) - self.us(epoch.ticks);
        ticks != epoch.ticks && silent_us - told_us > STANDSTILL_US && self.epochs.len() < MAX_STANDSTILLS
    }

    fn begin_epoch(&mut self, sequence: i64, ticks: i64, arrival_us: i64) -> Option<Position> {
        (self.epochs.len() < MAX_EPOCHS).then_some(())?;
        let offset_us = arrival_us - self.us(ticks);
        self.epochs.push(Epoch {
            first_sequence: sequence,
            ticks,
            arrival_us,
            first_offset_us: offset_us,
            least_offset_us: offset_us,
        });
        self.current = self.epochs.len() - 1;
        Some(Position { sequence, ticks, epoch: self.current })
    }
}

/// Media time of a count of ticks at a rate, in microseconds, to the nearest.
pub(super) fn us(ticks: i64, rate: i64) -> i64 {
    let (whole, rest) = (ticks.div_euclid(rate), ticks.rem_euclid(rate));
    whole * 1_000_000 + (rest * 1_000_000 + rate / 2) / rate
}

/// The number nearest to `near` whose low 32 bits are `timestamp`.
fn nearest(near: i64, timestamp: u32) -> i64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modular on purpose")]
    let low = near as u32;
    near + i64::from(timestamp.wrapping_sub(low).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_and_timestamp_go_on_over_their_wraps() {
        let mut unwrapper = Unwrapper::new(90_000);
        for n in 0..200_000i64 {
            let sequence = (65_000 + n) as u16;
            let timestamp = (0xFFFF_F000i64 + n * 3_000) as u32;
            let at = unwrapper.place(sequence, timestamp, n * 33_333).unwrap();
            assert_eq!((at.sequence, at.ticks, at.epoch), (65_000 + n, 0xFFFF_F000 + n * 3_000, 0));
        }
    }

    #[test]
    fn a_late_packet_stands_where_it_was_sent() {
        let mut unwrapper = Unwrapper::new(90_000);
        unwrapper.place(10, 0, 0).unwrap();
        unwrapper.place(12, 6_000, 66_666).unwrap();
        let late = unwrapper.place(11, 3_000, 60_000_000).unwrap();
        assert_eq!((late.sequence, late.ticks, late.epoch), (11, 3_000, 0));
    }

    #[test]
    fn one_absurd_timestamp_is_an_epoch_of_its_own() {
        let mut unwrapper = Unwrapper::new(90_000);
        for n in 0..100i64 {
            let timestamp = if n == 50 { 0x9000_0000 } else { (n * 3_000) as u32 };
            let at = unwrapper.place(n as u16, timestamp, n * 33_333).unwrap();
            assert_eq!(at.epoch, usize::from(n == 50), "packet {n}");
        }
    }

    #[test]
    fn a_restart_of_the_sequence_is_believed_when_two_packets_agree() {
        let mut unwrapper = Unwrapper::new(90_000);
        unwrapper.place(100, 0, 0).unwrap();
        assert_eq!(unwrapper.place(30_000, 3_000, 33_000), None);
        let after = unwrapper.place(30_001, 6_000, 66_000).unwrap();
        assert!(after.sequence > 100);
        assert_eq!(unwrapper.place(30_002, 9_000, 99_000).unwrap().sequence, after.sequence + 1);
    }
}
