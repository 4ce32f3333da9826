//! An emulated path for the estimator: a bottleneck with a queue, loss and jitter behind it, and a receiver that sends
//! feedback every 100 ms. Time is moved by hand, so a minute takes milliseconds.

use super::{Estimator, Limits};
use crate::testing::Random;
use crate::twcc::written;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One way, without queue and jitter.
const DELAY_US: u64 = 30_000;
/// What the bottleneck holds at most.
const QUEUE_US: u64 = 300_000;
const FEEDBACK_US: u64 = 100_000;
const STEP_US: u64 = 1_000;
const PACKET: usize = 1_100;

struct Path {
    capacity_bps: f64,
    loss_percent: f64,
    jitter_us: u64,
    /// When the bottleneck is free again.
    free_us: u64,
    random: Random,
}

impl Path {
    fn new(capacity_kbps: f64, loss_percent: f64, jitter_ms: u64) -> Self {
        let random = Random::seeded(capacity_kbps as u64 + loss_percent as u64 * 7 + jitter_ms);
        Self {
            capacity_bps: capacity_kbps * 1e3,
            loss_percent,
            jitter_us: jitter_ms * 1_000,
            free_us: 0,
            random,
        }
    }

    /// When a packet arrives, if it does.
    fn carry(&mut self, now_us: u64, bytes: usize) -> Option<u64> {
        let begins = self.free_us.max(now_us);
        if begins - now_us > QUEUE_US {
            return None;
        }
        self.free_us = begins + (bytes as f64 * 8e6 / self.capacity_bps) as u64;
        let jitter = if self.jitter_us > 0 { self.random.below(self.jitter_us) } else { 0 };
        (!self.random.chance(self.loss_percent)).then(|| self.free_us + DELAY_US + jitter)
    }
}

/// What the sender sends besides probes.
#[derive(Clone, Copy)]
enum Media {
    /// As much as the estimate says.
    Elastic,
    /// One layer, and the wish for another.
    Layer { bps: f64, wanted_bps: u64 },
}

struct Call {
    start: Instant,
    now_us: u64,
    path: Path,
    estimator: Estimator,
    sequence: u16,
    /// Feedback and acknowledged numbers.
    arrivals: BTreeMap<u16, u64>,
    told_to: u16,
    feedback: Vec<(u64, Vec<u8>)>,
    budget: f64,
    probe: Option<(u64, f64)>,
    probes: u32,
    queue_us: u64,
}

impl Call {
    fn new(path: Path) -> Self {
        let start = Instant::now();
        Self {
            start,
            now_us: 0,
            path,
            estimator: Estimator::new(start, Limits::default()),
            sequence: 0,
            arrivals: BTreeMap::new(),
            told_to: 0,
            feedback: Vec::new(),
            budget: 0.0,
            probe: None,
            probes: 0,
            queue_us: 0,
        }
    }

    /// Runs for so long; the estimate at each 100 ms, and the largest queue.
    fn run(&mut self, seconds: u64, media: Media) -> Vec<f64> {
        let mut estimates = Vec::new();
        self.queue_us = 0;
        let until = self.now_us + seconds * 1_000_000;
        while self.now_us < until {
            self.now_us += STEP_US;
            self.step(media);
            if self.now_us.is_multiple_of(FEEDBACK_US) {
                self.tell();
                estimates.push(self.estimator.bps() as f64);
            }
        }
        estimates
    }

    fn step(&mut self, media: Media) {
        let now = self.start + Duration::from_micros(self.now_us);
        while let Some(index) = self.feedback.iter().position(|it| it.0 <= self.now_us) {
            let (_, rtcp) = self.feedback.remove(index);
            self.estimator.feedback(now, &rtcp).unwrap();
        }
        self.estimator.timeout(now);
        let bps = match media {
            Media::Elastic => self.estimator.bps() as f64,
            Media::Layer { bps, wanted_bps } => {
                if let Some(probe) = self.estimator.probe(now, wanted_bps) {
                    self.probe =
                        Some((self.now_us + probe.duration.as_micros() as u64, probe.rate_bps as f64));
                    self.probes += 1;
                }
                self.probe = self.probe.filter(|it| it.0 > self.now_us);
                self.probe.map_or(bps, |it| it.1.max(bps))
            }
        };
        let packet = if self.probe.is_some() { 255 } else { PACKET };
        self.budget += bps * STEP_US as f64 / 8e6;
        while self.budget >= packet as f64 {
            self.budget -= packet as f64;
            self.estimator.sent(now, Some(self.sequence), packet);
            if let Some(at) = self.path.carry(self.now_us, packet) {
                self.arrivals.insert(self.sequence, at);
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.queue_us = self.queue_us.max(self.path.free_us.saturating_sub(self.now_us));
    }

    /// What arrived until now, from the first number not told: late ones are told with the next feedback, as by
    /// receivers that go back to the first gap for a while.
    fn tell(&mut self) {
        let arrived: Vec<u16> =
            self.arrivals.iter().filter(|it| *it.1 <= self.now_us).map(|it| *it.0).collect();
        let (Some(first), Some(last)) = (arrived.first().copied(), arrived.last().copied()) else { return };
        let base = first.min(self.told_to).max(last.saturating_sub(400));
        let list: Vec<Option<i64>> = (base..=last)
            .map(|sequence| {
                self.arrivals.get(&sequence).filter(|it| **it <= self.now_us).map(|it| *it as i64)
            })
            .collect();
        self.arrivals.retain(|_, at| *at > self.now_us);
        self.told_to = last + 1;
        self.feedback.push((self.now_us + DELAY_US, written(base, &list)));
    }
}

struct Figures {
    mean: f64,
    above: f64,
    queue_ms: f64,
}

/// Mean share of the capacity, the share of time more than 10 % above it, and the largest queue.
fn figures(name: &str, call: &Call, estimates: &[f64]) -> Figures {
    let capacity = call.path.capacity_bps;
    let mean = estimates.iter().sum::<f64>() / estimates.len() as f64 / capacity;
    let above = estimates.iter().filter(|it| **it > capacity * 1.1).count() as f64 / estimates.len() as f64;
    let queue_ms = call.queue_us as f64 / 1_000.0;
    let (percent, over) = (mean * 100.0, above * 100.0);
    println!(
        "{name:40} {percent:5.1} % of {:4.0} kbit/s, above 110 % {over:4.1} % of the time, queue {queue_ms:3.0} ms",
        capacity / 1e3
    );
    Figures { mean, above, queue_ms }
}

fn converges(name: &str, loss_percent: f64, jitter_ms: u64) {
    let mut call = Call::new(Path::new(300.0, loss_percent, jitter_ms));
    call.run(20, Media::Elastic);
    let low = call.run(40, Media::Elastic);
    let low = figures(&format!("{name}, 300"), &call, &low);
    call.path.capacity_bps = 1e6;
    let rise = call.run(40, Media::Elastic);
    let reached = rise.iter().position(|it| *it > 0.7e6).map(|it| it as f64 / 10.0);
    println!("{name:40} 70 % of 1000 kbit/s after {reached:?} s");
    let high = call.run(40, Media::Elastic);
    let high = figures(&format!("{name}, 1000"), &call, &high);
    call.path.capacity_bps = 3e5;
    let fall = call.run(20, Media::Elastic);
    let obeyed = fall.iter().position(|it| *it <= 3e5).map(|it| it as f64 / 10.0);
    println!("{name:40} below 300 kbit/s after {obeyed:?} s");
    for it in [low, high] {
        assert!((0.7..=1.0).contains(&it.mean), "{name}: {}", it.mean);
        assert!(it.above < 0.05, "{name}: {} above", it.above);
        assert!(it.queue_ms <= 320.0);
    }
    assert!(reached.is_some() && obeyed.is_some_and(|it| it < 3.0), "{name}: {reached:?} {obeyed:?}");
}

#[test]
fn it_converges_without_loss() {
    converges("no loss", 0.0, 0);
}

#[test]
fn it_converges_with_1_percent_of_random_loss() {
    converges("1 % loss", 1.0, 0);
}

#[test]
fn it_converges_with_5_percent_of_random_loss() {
    converges("5 % loss", 5.0, 0);
}

#[test]
fn it_converges_with_10_percent_of_random_loss() {
    converges("10 % loss", 10.0, 0);
}

#[test]
fn it_converges_under_100_ms_of_jitter() {
    converges("100 ms jitter", 0.0, 100);
}

#[test]
fn it_converges_under_jitter_and_loss() {
    converges("100 ms jitter, 5 % loss", 5.0, 100);
}

#[test]
fn probes_find_room_for_a_higher_layer_and_never_fake_it() {
    let media = Media::Layer { bps: 150e3, wanted_bps: 900_000 };
    let mut call = Call::new(Path::new(1_500.0, 0.0, 0));
    let found = call.run(10, media).iter().position(|it| *it >= 9e5).map(|it| it as f64 / 10.0);
    println!("probing: room for 900 kbit/s found after {found:?} s, {} probes", call.probes);
    assert!(found.is_some_and(|it| it < 8.0), "{found:?}");
    let mut call = Call::new(Path::new(400.0, 0.0, 0));
    let estimates = call.run(60, media);
    let most = estimates.iter().copied().fold(0.0, f64::max);
    println!(
        "probing: at 400 kbit/s at most {most} found, {} probes, queue {} ms",
        call.probes,
        call.queue_us / 1_000
    );
    assert!(most < 480e3, "{most}");
}
