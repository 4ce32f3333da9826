//! One measurement: media flow for a while, then so many packets are sent and everything that comes of them is counted.

use std::fmt;
use std::time::Duration;

use crate::cpu;
use crate::figures::{Verdict, percentile, row};

use super::publisher::Publisher;
use super::rate::{Pace, Rate};
use super::server::Program;
use super::subscribers::Subscribers;

/// Media flow at a new rate until everybody is given all of it, so many seconds at most: a server that estimates what a
/// subscriber can take needs some to find out.
const WARM_UP_SECONDS: u64 = 15;
/// All but so little, which is on its way.
const NEARLY_ALL: f64 = 0.98;
/// Goals at 75,000 forwards a second: of Janus' CPU, and of CPU a packet where the kernel cuts runs.
const JANUS_GOAL: f64 = 0.25;
const CPU_GOAL_US: f64 = 5.2;
/// The forwards a second from which those count.
const FULL_LOAD: u64 = 75_000;

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) rate: Rate,
    took: Duration,
    expected: u64,
    media: u64,
    missing: i64,
    repeats: u64,
    /// Ascending.
    latencies: Vec<Duration>,
    late: Duration,
    server_cpu: Duration,
    own_cpu: Duration,
    /// Datagrams that the generator was too slow for.
    overflown: u64,
}

/// Measures so many seconds at a rate, to so many subscribers.
pub(super) async fn measure(
    pid: u32,
    publisher: &Publisher,
    audience: &Subscribers,
    (rate, subscribers, seconds): (Rate, u32, u64),
) -> anyhow::Result<Round> {
    let own = std::process::id();
    audience.count().await?;
    for _ in 0..WARM_UP_SECONDS {
        let sent = publisher.send(rate, rate.packets_in(1)).await?;
        let came = audience.count().await?.media;
        if to_f64(came) > to_f64(sent.packets * u64::from(subscribers)) * NEARLY_ALL {
            break;
        }
    }
    audience.rest().await?;
    audience.count().await?;
    let before = (cpu::used(pid)?, cpu::used(own)?, audience.overflown()?);
    let began = tokio::time::Instant::now();
    let sent = publisher.send(rate, rate.packets_in(seconds)).await?;
    let took = began.elapsed();
    audience.rest().await?;
    let counted = audience.count().await?;
    let after = (cpu::used(pid)?, cpu::used(own)?, audience.overflown()?);
    Ok(Round {
        rate,
        took,
        expected: sent.packets * u64::from(subscribers),
        media: counted.media,
        missing: counted.missing,
        repeats: counted.repeats,
        latencies: counted.latencies,
        late: percentile(&sent.late, 0.99),
        server_cpu: after.0 - before.0,
        own_cpu: after.1 - before.1,
        overflown: after.2 - before.2,
    })
}

impl Round {
    /// Of the server, for each packet that came.
    pub(super) fn cpu_us(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / to_f64((self.media + self.repeats).max(1))
    }

    /// By their numbers: sent by the server, or to it, and never seen.
    fn lost(&self) -> u64 {
        u64::try_from(self.missing).unwrap_or_default()
    }

    /// Never sent by the server.
    fn held_back(&self) -> u64 {
        self.expected.saturating_sub(self.media + self.lost())
    }

    fn latency(&self, share: f64) -> Duration {
        if self.latencies.is_empty() { Duration::ZERO } else { percentile(&self.latencies, share) }
    }

    fn share(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.took.as_secs_f64() * 100.0
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = to_f64(self.media) / self.took.as_secs_f64();
        write!(
            f,
            "{}: {rate:.0} forwards/s, {:.2} µs a packet, lost {} of {} ({} by the generator), held back {}, \
             {} repeated, \
             latency p50 {:.0?} p99 {:.0?}, CPU server {:.0} % generator {:.0} %, p99 of departures {:.0?} late",
            self.rate,
            self.cpu_us(),
            self.lost(),
            self.expected,
            self.overflown,
            self.held_back(),
            self.repeats,
            self.latency(0.5),
            self.latency(0.99),
            self.share(self.server_cpu),
            self.share(self.own_cpu),
            self.late,
        )
    }
}

/// Prints the rows of one rate: ours beside the floor, and beside Janus when it has run.
pub(super) fn compare(subscribers: u32, rate: Rate, floor: Duration, all: &[(Program, Round)]) {
    let of = |wanted| all.iter().find(|(program, _)| *program == wanted).map(|(_, round)| round);
    let Some(ours) = of(Program::Edge) else { return };
    let name = format!("calls, 1→{subscribers}, {rate}");
    let full = u64::from(subscribers) * u64::from(rate.packets_per_second) >= FULL_LOAD;
    let cuts = full && rate.pace == Pace::Bursts;
    row(
        format_args!("{name}: CPU of a forwarded packet"),
        format_args!(
            "{:.2} µs, {:.1} x the floor's {:.2} µs",
            ours.cpu_us(),
            ours.cpu_us() / (floor.as_secs_f64() * 1e6),
            floor.as_secs_f64() * 1e6
        ),
        if cuts { format!("<= {CPU_GOAL_US} µs") } else { "-".to_owned() },
        if cuts { Verdict::from(ours.cpu_us() <= CPU_GOAL_US) } else { Verdict::NoGoal },
    );
    row(
        format_args!("{name}: lost and held back, latency p50 / p99"),
        arrivals(ours),
        "0 lost",
        Verdict::from(ours.lost() == 0),
    );
    let Some(janus) = of(Program::Janus) else { return };
    let share = ours.cpu_us() / janus.cpu_us();
    row(
        format_args!("{name}: CPU, of Janus'"),
        format_args!("{share:.2} ({:.2} of {:.2} µs)", ours.cpu_us(), janus.cpu_us()),
        if full { format!("<= {JANUS_GOAL}") } else { "-".to_owned() },
        if full { Verdict::from(share <= JANUS_GOAL) } else { Verdict::NoGoal },
    );
    row(format_args!("{name}: the same of Janus"), arrivals(janus), "-", Verdict::NoGoal);
}

fn arrivals(round: &Round) -> String {
    let (p50, p99) = (round.latency(0.5), round.latency(0.99));
    format!("{} and {} of {}, {p50:.0?} / {p99:.0?}", round.lost(), round.held_back(), round.expected)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
