//! Whether the path's queue grows: draft-ietf-rmcat-gcc-02 section 5, with a trend line in place of the Kalman filter
//! (as libwebrtc does), and one addition: a queue that stands.
//!
//! The trend line sees only growth. A queue that grew too slowly to be told from jitter, and then stands, is seen by the
//! fastest of late: where not one group was as fast as the fastest of the last [`BASE_WINDOW_US`], all of them wait. Jitter, and
//! a receiver that has no time now and then, let some through. That is what keeps the estimate in place under 100 ms of jitter,
//! where the threshold of the trend adapts itself out of reach. Must not know rates.

/// Packets sent within this time are one group (gcc-02 5.2, burst_time).
const GROUP_US: u64 = 5_000;

/// Packets that come this close together, and later than they were sent one after the other, belong to one group however far
/// apart they were sent (gcc-02 5.2, pre-filtering): something held them up and let them go at once, a radio that was away or a
/// receiver that had no time. That is no queue: a queue lets go as fast as it is drained.
const BURST_US: i64 = 5_000;

/// No longer than this from the first to the last of them (libwebrtc: 100 ms).
const MAX_BURST_US: i64 = 100_000;

/// Groups the line is laid through, and the smoothing before it (libwebrtc's trendline: 20, 0.9).
const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;

/// The slope is compared after being multiplied by the groups seen, at most 60, and this gain (libwebrtc: 4).
const GAIN: f64 = 4.0;
const MAX_GROUPS: f64 = 60.0;

/// The threshold adapts (gcc-02 5.4): del_var_th(0), K_u, K_d, and its range in ms.
const FIRST_THRESHOLD: f64 = 12.5;
const RISE: f64 = 0.01;
const FALL: f64 = 0.000_18;
const THRESHOLD: std::ops::RangeInclusive<f64> = 6.0..=600.0;

/// A trend this far above the threshold does not move it (gcc-02 5.4).
const OUTLIER: f64 = 15.0;

/// A trend has to stay above for this long (gcc-02 5.4, overuse_time_th).
const OVERUSE_MS: f64 = 10.0;

/// Delay is smoothed over this time to see a queue that grows: at 300 kbit/s and 100 ms of jitter the rest is +-25 ms.
const SMOOTHING_MS: f64 = 200.0;

/// A queue longer than this that has stood for [`STANDS_US`] is overuse: one frame interval.
const STANDING_MS: f64 = 30.0;

/// A queue stands when not one group was faster for so long: of jitter, and of a receiver that has no time, some are.
const STANDS_US: i64 = 500_000;

/// A growing trend counts only with this much of a queue to show for it: jitter alone makes trends, not queues.
const GROWN_MS: f64 = 5.0;
const GROWN_JITTERS: f64 = 1.25;

/// A standing queue that harms sound: longer than this.
const HARMFUL_MS: f64 = 100.0;

/// Weight of one group in the mean difference from group to group.
const JITTER_WEIGHT: f64 = 0.05;

/// The least delay is remembered for one to two of these: a path that became longer is accepted after that.
const BASE_WINDOW_US: i64 = 15_000_000;

/// What the delay says of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// The queue drains.
    Under,
    /// It neither grows nor drains.
    Normal,
    /// It grows, or stands.
    Over,
}

/// Whether there is a queue that harms sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Short,
    Harmful,
}

/// What the path has carried: bytes, and when it did, by the receiver's clock. Of what something held up and let go at once it
/// is when the last of it would have come otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) at_us: i64,
    pub(crate) bytes: u32,
}

/// A group of packets: the least delay of its packets, which jitter hits least.
#[derive(Debug, Clone, Copy)]
struct Group {
    began_us: u64,
    last_us: u64,
    first_arrival_us: i64,
    arrival_us: i64,
    delay_us: i64,
    bytes: u32,
}

impl Group {
    fn begin(sent_us: u64, arrival_us: i64, bytes: u32) -> Self {
        let delay_us = delay(sent_us, arrival_us);
        let (first_arrival_us, last_us) = (arrival_us, sent_us);
        Self { began_us: sent_us, last_us, first_arrival_us, arrival_us, delay_us, bytes }
    }

    fn holds(&self, sent_us: u64, arrival_us: i64) -> bool {
        let sent_together = sent_us - self.began_us <= GROUP_US;
        let after_us = arrival_us - self.arrival_us;
        let let_go_together = after_us < sent_us.saturating_sub(self.last_us).cast_signed()
            && after_us <= BURST_US
            && arrival_us - self.first_arrival_us < MAX_BURST_US;
        sent_together || let_go_together
    }

    fn add(&mut self, sent_us: u64, arrival_us: i64, bytes: u32) {
        self.last_us = self.last_us.max(sent_us);
        self.arrival_us = self.arrival_us.max(arrival_us);
        self.delay_us = self.delay_us.min(delay(sent_us, arrival_us));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn carried(&self) -> Carried {
        Carried { at_us: self.began_us.cast_signed() + self.delay_us, bytes: self.bytes }
    }
}

fn delay(sent_us: u64, arrival_us: i64) -> i64 {
    arrival_us - sent_us.cast_signed()
}

#[derive(Debug)]
pub(crate) struct DelayDetector {
    group: Option<Group>,
    first_delay: Option<f64>,
    first_arrival: i64,
    groups: f64,
    smoothed: f64,
    points: [(f64, f64); WINDOW],
    length: usize,
    next: usize,
    threshold: f64,
    last_trend: f64,
    last_arrival: i64,
    over_ms: f64,
    over_count: u32,
    usage: Usage,
    standing: f64,
    last_delay: f64,
    jitter: f64,
    base: Least,
    /// The least delay of late, and of a long time.
    recent: Least,
    ever: Least,
}

/// The least value of this window and of the one before.
#[derive(Debug)]
struct Least {
    window_us: i64,
    began_us: Option<i64>,
    now: f64,
    before: f64,
}

impl Least {
    fn of(window_us: i64) -> Self {
        Self { window_us, began_us: None, now: f64::MAX, before: f64::MAX }
    }

    fn add(&mut self, at_us: i64, value: f64) {
        let began_us = *self.began_us.get_or_insert(at_us);
        if at_us - began_us > self.window_us {
            (self.before, self.now, self.began_us) = (self.now, f64::MAX, Some(at_us));
        }
        self.now = self.now.min(value);
    }

    fn get(&self) -> f64 {
        self.now.min(self.before)
    }
}

impl DelayDetector {
    pub(crate) fn new() -> Self {
        Self {
            group: None,
            first_delay: None,
            first_arrival: 0,
            groups: 0.0,
            smoothed: 0.0,
            points: [(0.0, 0.0); WINDOW],
            length: 0,
            next: 0,
            threshold: FIRST_THRESHOLD,
            last_trend: 0.0,
            last_arrival: 0,
            over_ms: 0.0,
            over_count: 0,
            usage: Usage::Normal,
            standing: 0.0,
            last_delay: 0.0,
            jitter: 0.0,
            base: Least::of(BASE_WINDOW_US),
            recent: Least::of(STANDS_US / 2),
            ever: Least::of(BASE_WINDOW_US),
        }
    }

    /// By how much longer packets take than they once did, in ms.
    fn queue_ms(&self) -> f64 {
        self.standing - self.base.get()
    }

    /// By how much longer even the fastest take of late, in ms.
    fn standing_ms(&self) -> f64 {
        self.recent.get() - self.ever.get()
    }

    /// Whether the queue that stands harms.
    pub(crate) fn queue(&self) -> Queue {
        if self.standing_ms() > HARMFUL_MS { Queue::Harmful } else { Queue::Short }
    }

    /// The last judgement.
    pub(crate) fn usage(&self) -> Usage {
        match self.usage {
            _ if self.standing_ms() > STANDING_MS => Usage::Over,
            Usage::Over if self.queue_ms() < GROWN_MS + GROWN_JITTERS * self.jitter => Usage::Normal,
            usage => usage,
        }
    }

    /// A packet that arrived. Returns what is known to be carried by now. Packets sent before the current group do not count for
    /// the delay: they came by another order.
    pub(crate) fn arrived(&mut self, sent_us: u64, arrival_us: i64, bytes: u32) -> Option<Carried> {
        match &mut self.group {
            Some(group) if sent_us < group.began_us => Some(Carried { at_us: arrival_us, bytes }),
            Some(group) if group.holds(sent_us, arrival_us) => {
                group.add(sent_us, arrival_us, bytes);
                None
            }
            _ => {
                let done = self.group.replace(Group::begin(sent_us, arrival_us, bytes))?;
                self.complete(done);
                Some(done.carried())
            }
        }
    }

    fn complete(&mut self, group: Group) {
        let delay_ms = group.delay_us as f64 / 1_000.0;
        let Some(first) = self.first_delay else {
            self.first_delay = Some(delay_ms);
            (self.first_arrival, self.last_arrival) = (group.arrival_us, group.arrival_us);
            return;
        };
        let passed_ms = ((group.arrival_us - self.last_arrival) as f64 / 1_000.0).clamp(0.0, 1_000.0);
        self.last_arrival = self.last_arrival.max(group.arrival_us);
        let delay = delay_ms - first;
        self.stand(delay, passed_ms, group.arrival_us);
        self.groups += 1.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * delay;
        let at_ms = (group.arrival_us - self.first_arrival) as f64 / 1_000.0;
        self.points[self.next] = (at_ms, self.smoothed);
        self.next = (self.next + 1) % WINDOW;
        self.length = (self.length + 1).min(WINDOW);
        if self.length == WINDOW
            && let Some(slope) = slope(&self.points)
        {
            self.judge(slope, passed_ms);
        }
    }

    /// Follows the smoothed delay, the jitter, and what the fastest take.
    fn stand(&mut self, delay: f64, passed_ms: f64, arrival_us: i64) {
        self.jitter += ((delay - self.last_delay).abs() - self.jitter) * JITTER_WEIGHT;
        self.last_delay = delay;
        let weight = 1.0 - (-passed_ms / SMOOTHING_MS).exp();
        self.standing += (delay - self.standing) * weight;
        self.recent.add(arrival_us, delay);
        self.ever.add(arrival_us, delay);
        // The first second is not yet smooth.
        if arrival_us - self.first_arrival > 1_000_000 {
            self.base.add(arrival_us, self.standing);
        } else {
            self.base = Least { now: self.standing, ..Least::of(BASE_WINDOW_US) };
        }
    }

    fn judge(&mut self, slope: f64, passed_ms: f64) {
        let trend = self.groups.min(MAX_GROUPS) * slope * GAIN;
        if trend > self.threshold {
            self.over_ms += passed_ms;
            self.over_count += 1;
            if self.over_ms > OVERUSE_MS && self.over_count > 1 && trend >= self.last_trend {
                (self.over_ms, self.over_count) = (0.0, 0);
                self.usage = Usage::Over;
            }
        } else {
            (self.over_ms, self.over_count) = (0.0, 0);
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.last_trend = trend;
        self.adapt(trend.abs(), passed_ms);
    }

    fn adapt(&mut self, trend: f64, passed_ms: f64) {
        if trend > self.threshold + OUTLIER {
            return;
        }
        let gain = if trend < self.threshold { FALL } else { RISE };
        self.threshold += gain * (trend - self.threshold) * passed_ms.min(100.0);
        self.threshold = self.threshold.clamp(*THRESHOLD.start(), *THRESHOLD.end());
    }
}

/// Least squares through the points, in ms of delay a ms.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |sum, (x, y)| {
        (sum.0 + (x - mean_x) * (y - mean_y), sum.1 + (x - mean_x) * (x - mean_x))
    });
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn feed(
        detector: &mut DelayDetector,
        from: u64,
        count: u64,
        mut delay_us: impl FnMut(u64) -> i64,
    ) -> u32 {
        let mut over = 0;
        for index in from..from + count {
            let sent = index * 10_000;
            detector.arrived(sent, sent as i64 + delay_us(index - from), 1_000);
            over += u32::from(detector.usage() == Usage::Over);
        }
        over
    }

    #[test]
    fn a_constant_delay_is_normal() {
        let mut detector = DelayDetector::new();
        assert_eq!(feed(&mut detector, 0, 3_000, |_| 77_000_000), 0);
    }

    #[test]
    fn a_growing_queue_is_overuse_within_300_ms_and_a_draining_one_is_not() {
        let mut detector = DelayDetector::new();
        feed(&mut detector, 0, 500, |_| 30_000);
        assert!(feed(&mut detector, 500, 30, |index| 30_000 + index as i64 * 1_000) > 0);
        feed(&mut detector, 530, 30, |index| 60_000 - index as i64 * 1_000);
        assert_eq!(detector.usage(), Usage::Under);
    }

    #[test]
    fn packets_held_up_and_let_go_at_once_are_no_queue_and_are_carried_evenly() {
        let (mut random, mut detector) = (Random::seeded(4), DelayDetector::new());
        let (mut now, mut asleep, mut carried) = (0, 0..0, Vec::new());
        for index in 0..6_000u64 {
            now = index * 10_000;
            if now > asleep.end {
                let begins = now + random.below(200_000);
                asleep = begins..begins + 20_000 + random.below(180_000);
            }
            let arrival = if asleep.contains(&(now + 30_000)) { asleep.end } else { now + 30_000 };
            carried.extend(detector.arrived(now, arrival.cast_signed(), 1_000));
            assert_ne!(detector.usage(), Usage::Over, "at {now}");
            assert_eq!(detector.queue(), Queue::Short);
        }
        let within = |from: u64| {
            let until = (from + 600_000).cast_signed();
            carried
                .iter()
                .filter(|it| (from.cast_signed()..until).contains(&it.at_us))
                .map(|it| it.bytes)
                .sum::<u32>()
        };
        for from in (1_000_000..now - 1_000_000).step_by(50_000) {
            assert!((40_000..80_000).contains(&within(from)), "{} at {from}", within(from));
        }
    }

    #[test]
    fn a_queue_that_grew_unseen_and_stands_is_overuse_and_a_longer_path_is_accepted() {
        let mut detector = DelayDetector::new();
        feed(&mut detector, 0, 500, |_| 30_000);
        feed(&mut detector, 500, 2_000, |index| 30_000 + index as i64 * 50);
        feed(&mut detector, 2_500, 100, |_| 130_000);
        assert_eq!(detector.usage(), Usage::Over);
        assert_eq!(detector.queue(), Queue::Short, "not quite 100 ms");
        feed(&mut detector, 2_600, 3_000, |_| 130_000);
        assert_eq!(detector.usage(), Usage::Normal);
    }

    #[test]
    fn jitter_of_100_ms_is_overuse_in_less_than_a_twentieth_of_the_time() {
        let (mut random, mut detector) = (Random::seeded(1), DelayDetector::new());
        feed(&mut detector, 0, 1_000, |_| random.below(100_000) as i64);
        let over = feed(&mut detector, 1_000, 6_000, |_| random.below(100_000) as i64);
        assert!(over < 300, "{over}");
    }
}
