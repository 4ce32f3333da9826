//! How much may be sent to one subscriber: Google congestion control (draft-ietf-rmcat-gcc-02) at the sender.
//!
//! | part | does |
//! |---|---|
//! | `delay` | tells from arrival times whether a queue grows or stands |
//! | `rate` | raises and lowers the rate by that |
//! | `loss` | bounds it by loss that exceeds the link's own |
//! | `probe` | finds room above what is sent |
//! | `meter` | measures what arrives |
//!
//! With transport-wide feedback all of them count. Without it (no such extension negotiated) the loss in receiver
//! reports and REMB remain. Must not know RTP, layers or who the subscriber is; feedback comes as the RTCP packet's bytes.
//!
//! A receiver that has no time makes a low estimate too: [`Estimator::strain`] says whether the path itself carries too little.
//!
//! In the emulated network of `simulation` (bottleneck with 300 ms of queue, 30 ms each way) a sender that follows the
//! estimate keeps 70 to 100 % of 300 and 1,000 kbit/s at 0, 1, 5 and 10 % of random loss and under 100 ms of jitter.

mod delay;
mod loss;
mod meter;
mod probe;
mod rate;
#[cfg(test)]
mod simulation;

pub use probe::Probe;

use crate::twcc::{Fate, History, Malformed, Mark};
use delay::{DelayDetector, Queue, Usage};
use loss::LossBound;
use meter::Meter;
use probe::Prober;
use rate::DelayRate;
use std::time::{Duration, Instant};

/// Between which the estimate stays, and where it begins; bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Never below: audio and the reports that would find more.
    pub least_bps: u64,
    /// At the beginning.
    pub start_bps: u64,
    /// Never above.
    pub most_bps: u64,
}

impl Default for Limits {
    /// 50 kbit/s (audio with its headers); 300 kbit/s (browsers begin there too); 20 Mbit/s (nine screens).
    fn default() -> Self {
        Self { least_bps: 50_000, start_bps: 300_000, most_bps: 20_000_000 }
    }
}

/// Without feedback for this long, while packets are sent, the rate is lowered: the path may be gone.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Lowered by this share for each [`SILENCE`].
const SILENCE_DECREASE: f64 = 0.5;

/// A REMB is believed this long: browsers repeat it every second at least.
pub const REMB_LIFE: Duration = Duration::from_secs(5);

/// Strain is believed this long after the last packet: what it filled has drained, and feedback on it has come.
pub const STRAIN_LIFE: Duration = Duration::from_secs(1);

/// Where there is no feedback yet to tell the time to an answer.
const FIRST_RESPONSE: Duration = Duration::from_millis(200);

/// Whether the path shows that it carries less than is sent. A low estimate alone does not show it: feedback of an overloaded
/// receiver makes one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strain {
    /// Neither loss beyond the path's own, nor a queue that harms.
    Calm,
    /// Packets are lost, or all of them are late.
    Congested,
}

/// What the estimate rests on.
#[derive(Debug)]
enum Basis {
    /// Nothing yet, or receiver reports.
    Reports,
    /// Transport-wide feedback; when it last came, or the rate was last lowered for its absence.
    Transport { since: Instant },
}

/// The estimate for one subscriber.
#[derive(Debug)]
pub struct Estimator {
    limits: Limits,
    basis: Basis,
    history: Option<History>,
    began: Instant,
    last_sent: Option<Instant>,
    sent: Meter,
    arrived: Meter,
    delay: DelayDetector,
    rate: DelayRate,
    /// The rate before silence has lowered it.
    silenced: Option<f64>,
    loss: LossBound,
    prober: Prober,
    remb: Option<(u64, Instant)>,
    response: Duration,
}

impl Estimator {
    /// Begins at [`Limits::start_bps`]. The memory for transport feedback is taken with the first packet that has a
    /// transport sequence number.
    pub fn new(now: Instant, limits: Limits) -> Self {
        let start = limits.start_bps as f64;
        Self {
            limits,
            basis: Basis::Reports,
            history: None,
            began: now,
            last_sent: None,
            sent: Meter::default(),
            arrived: Meter::default(),
            delay: DelayDetector::new(),
            rate: DelayRate::new(now, start),
            silenced: None,
            loss: LossBound::new(now, start),
            prober: Prober::new(),
            remb: None,
            response: FIRST_RESPONSE,
        }
    }

    /// Bits a second that may be sent, audio and retransmissions included.
    pub fn bps(&self) -> u64 {
        let bound = match self.basis {
            Basis::Reports => self.loss.bps(),
            Basis::Transport { .. } => self.loss.bps().min(self.rate.bps()),
        };
        let remb = self.remb.map_or(u64::MAX, |it| it.0);
        (bound as u64).min(remb).clamp(self.limits.least_bps, self.limits.most_bps)
    }

    /// Whether sending less is due. Where nothing is sent nobody tells of strain, nor of its end.
    pub fn strain(&self, now: Instant) -> Strain {
        if self.last_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= STRAIN_LIFE) {
            return Strain::Calm;
        }
        let queue = match self.basis {
            Basis::Transport { .. } => self.delay.queue(),
            Basis::Reports => Queue::Short,
        };
        if queue == Queue::Short && self.loss.is_calm() { Strain::Calm } else { Strain::Congested }
    }

    /// A packet goes out, media or padding, with its transport sequence number if the extension was negotiated, and
    /// all its bytes from the RTP header on.
    pub fn sent(&mut self, now: Instant, transport_sequence: Option<u16>, bytes: usize) {
        let at_us = now.saturating_duration_since(self.began).as_micros() as i64;
        self.sent.add(at_us, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.last_sent = Some(now);
        if let Some(sequence) = transport_sequence {
            let mark = if self.prober.is_sending(now) { Mark::Probe } else { Mark::Media };
            let began = self.began;
            self.history.get_or_insert_with(|| History::new(began)).sent(now, sequence, bytes, mark);
        }
    }

    /// A packet goes out again under the number that it had: what feedback tells of the number from now on is told of both, and
    /// believed of neither.
    pub fn sent_again(&mut self, transport_sequence: u16) {
        if let Some(history) = &mut self.history {
            history.forget(transport_sequence);
        }
    }

    /// Transport-wide feedback came: one RTCP packet of type 205, format 15.
    pub fn feedback(&mut self, now: Instant, rtcp: &[u8]) -> Result<(), Malformed> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let (mut packets, mut lost, mut newest_us) = (0, 0, None);
        let Self { arrived, delay, prober, .. } = self;
        let read = history.told(now, rtcp, |told| {
            let arrival_us = match told.fate {
                Fate::Missing => {
                    (packets, lost) = (packets + 1, lost + 1);
                    return;
                }
                Fate::Arrived(at) => {
                    packets += 1;
                    at
                }
                Fate::ArrivedLate(at) => {
                    lost -= 1;
                    at
                }
            };
            newest_us = newest_us.max(Some(told.sent_us));
            if let Some(carried) = delay.arrived(told.sent_us, arrival_us, told.bytes) {
                arrived.add(carried.at_us, carried.bytes);
            }
            if told.mark == Mark::Probe {
                prober.arrived(&told, arrival_us);
            }
        });
        let newest = newest_us.map(|it| self.began + Duration::from_micros(it));
        self.loss.told(packets, lost);
        self.judge(now, newest);
        read
    }

    fn judge(&mut self, now: Instant, newest_sent: Option<Instant>) {
        if let Basis::Reports = self.basis {
            // From now on delay leads: loss bounds only once it was too high.
            self.loss.raise(self.limits.most_bps as f64);
        }
        self.basis = Basis::Transport { since: now };
        let before = self.bps() as f64;
        if let Some(newest) = newest_sent {
            let response = now.saturating_duration_since(newest);
            self.response = (self.response * 7 + response) / 8;
        }
        // What the link loses by itself would have arrived on a better one: it used the bottleneck too.
        let arriving = self.arrived.bps().map(|it| it / (1.0 - self.loss.inherent()));
        let usage = self.delay.usage();
        self.rate.update(now, usage, arriving, self.response);
        let through = arriving.unwrap_or(0.0) * rate::DECREASE;
        self.loss.update(now, before, (through, self.limits.most_bps as f64), self.response);
        if usage == Usage::Over {
            self.prober.abort();
        }
        // What was sent into silence has come: the receiver had no time to say so.
        if let Some(before) = self.silenced.take().filter(|_| usage != Usage::Over && self.loss.is_calm()) {
            self.rate.raise(before);
        }
        if let Some(found) = newest_sent.and_then(|it| self.prober.finish(now, it, before)) {
            self.rate.raise(found);
            self.loss.raise(found);
        }
    }

    /// A receiver report came about one of the legs: counted only while there is no transport feedback.
    pub fn receiver_report(&mut self, now: Instant, expected: u32, lost: u32, round_trip: Duration) {
        if let Basis::Reports = self.basis {
            self.response = round_trip;
            let before = self.bps() as f64;
            // Nothing is known of what was never sent.
            let most = self.sent.bps().map_or(0.0, |it| it * 1.5 + 10_000.0).min(self.limits.most_bps as f64);
            self.loss.told(expected, i64::from(lost));
            self.loss.update(now, before, (0.0, most), round_trip);
        }
    }

    /// The receiver's own estimate came (draft-alvestrand-rmcat-remb): an upper bound for [`REMB_LIFE`].
    pub fn remb(&mut self, now: Instant, bps: u64) {
        self.remb = Some((bps, now));
    }

    /// When [`Self::timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = match self.basis {
            Basis::Transport { since } => Some(since + SILENCE),
            Basis::Reports => None,
        };
        let remb = self.remb.map(|it| it.1 + REMB_LIFE);
        silence.into_iter().chain(remb).min()
    }

    /// Forgets an old REMB, and lowers the rate when packets are sent into silence.
    pub fn timeout(&mut self, now: Instant) {
        self.remb = self.remb.filter(|it| now < it.1 + REMB_LIFE);
        let Basis::Transport { since } = &mut self.basis else { return };
        if now < *since + SILENCE {
            return;
        }
        let into_silence = self.last_sent.is_some_and(|it| it > *since);
        *since = now;
        if into_silence {
            self.silenced.get_or_insert(self.rate.bps());
            let lower = self.bps() as f64 * SILENCE_DECREASE;
            self.rate = DelayRate::new(now, lower.max(self.limits.least_bps as f64));
        }
    }

    /// Asks for a probe when more is wanted than the estimate allows and the path is calm. To be called often, at each
    /// choice of layers, say; the caller then does as [`Probe`] says. Needs transport feedback.
    pub fn probe(&mut self, now: Instant, wanted_bps: u64) -> Option<Probe> {
        let Basis::Transport { .. } = self.basis else { return None };
        if self.delay.usage() != Usage::Normal || !self.loss.is_calm() {
            return None;
        }
        let wanted = wanted_bps.min(self.limits.most_bps) as f64;
        let estimate = self.bps() as f64;
        self.prober.start(now, estimate, wanted, self.rate.last_decrease())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn without_transport_feedback_reports_and_remb_lead() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, Limits::default());
        let mut now = start;
        for _ in 0..2_000 {
            now += Duration::from_millis(10);
            estimator.sent(now, None, estimator.bps() as usize / 800);
            if now.duration_since(start).as_millis().is_multiple_of(1_000) {
                estimator.receiver_report(now, 50, 0, Duration::from_millis(50));
            }
        }
        assert!((600_000..1_000_000).contains(&estimator.bps()), "{}", estimator.bps());
        estimator.remb(now, 250_000);
        assert_eq!(estimator.bps(), 250_000);
        assert_eq!(estimator.poll_timeout(), Some(now + REMB_LIFE));
        estimator.timeout(now + REMB_LIFE);
        let before = estimator.bps();
        assert!(before > 600_000);
        for second in 1..=3 {
            estimator.receiver_report(now + Duration::from_secs(second), 50, 20, Duration::ZERO);
        }
        assert!(estimator.bps() < before * 85 / 100, "{} of {before}", estimator.bps());
    }

    #[test]
    fn silence_lowers_the_rate_only_while_packets_are_sent() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, Limits::default());
        estimator.sent(start, Some(0), 100);
        estimator.feedback(start, &crate::twcc::written(0, &[Some(64_000)])).unwrap();
        estimator.timeout(start + SILENCE);
        assert_eq!(estimator.bps(), 300_000);
        estimator.sent(start + SILENCE * 3 / 2, Some(1), 100);
        estimator.timeout(start + SILENCE * 2);
        estimator.timeout(start + SILENCE * 3);
        assert_eq!(estimator.bps(), 150_000);
        estimator.feedback(start + SILENCE * 3, &crate::twcc::written(1, &[Some(1_564_000)])).unwrap();
        assert_eq!(estimator.bps(), 300_000, "it had come");
    }

    #[test]
    fn the_limits_hold_whatever_feedback_says() {
        let (mut random, start) = (Random::seeded(3), Instant::now());
        let limits = Limits { least_bps: 50_000, start_bps: 300_000, most_bps: 5_000_000 };
        let mut estimator = Estimator::new(start, limits);
        for step in 0..20_000u16 {
            let now = start + Duration::from_millis(20) * u32::from(step);
            estimator.sent(now, Some(step), random.below(1_500) as usize);
            let arrivals: Vec<_> =
                (0..3).map(|_| random.chance(70.0).then(|| random.below(1 << 22) as i64)).collect();
            let _ = estimator.feedback(now, &crate::twcc::written(step.saturating_sub(2), &arrivals));
            estimator.timeout(now);
            assert!((limits.least_bps..=limits.most_bps).contains(&estimator.bps()));
        }
    }
}
