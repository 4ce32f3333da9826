//! Forwarding: our edge beside Janus' videoroom, one load generator for both, and a floor that no forwarder can be below.
//!
//! One publisher sends VP8 to 10, 50 and 100 subscribers over real ICE, DTLS and SRTP (AES-128-GCM for both servers), 300
//! packets a second as a camera does, and 750, which is 75,000 forwards a second with 100 subscribers; evenly paced and in
//! bursts of 10. Everything runs on this machine, over the kernel's loopback path.
//!
//! | file | holds |
//! |---|---|
//! | `server` | the edge (WHIP, WHEP) and Janus (videoroom by HTTP), each as a program of its own |
//! | `client`, `watch` | a WebRTC connection |
//! | `publisher`, `pictures`, `rate` | who sends what, how fast |
//! | `subscribers`, `subscriber`, `feedback`, `receive` | who receives, counts and reports |
//! | `round` | one measurement, and its figures |
//! | `floor` | copy, AES-GCM and `sendmmsg`, alone |
//!
//! Decisions:
//! - Lost is what is missing by its numbers. What a server never sent, because it took a subscriber's line for too narrow, leaves
//!   no gap in them and is told as held back. Nobody asks for a packet again. What the kernel dropped because the generator
//!   was slow is told beside it.
//! - Latency is from the publisher's packet being made to its arrival by the kernel's clock at the subscriber's socket, of one
//!   packet in 17: these are decrypted, the others are counted by their headers. So the generator costs little, and what it
//!   costs is printed in every line.
//! - Subscribers report as browsers do: once a second, and transport-wide ten times a second where the server agrees to it
//!   (ours does and works with it, Janus does not).
//! - Memory is the growth of `Pss` from before the first subscriber to after all rounds, divided by subscribers.
//! - Captured and not captured take turns, and the medians are compared.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use shared::clock::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::figures::{Verdict, median, percentile, row};
use crate::{cpu, memory};

mod client;
mod feedback;
mod floor;
mod pictures;
mod publisher;
mod rate;
mod receive;
mod round;
mod server;
mod subscriber;
mod subscribers;
mod watch;

use client::Client;
use publisher::Publisher;
use rate::{Pace, Rate};
use round::{Round, compare};
pub(crate) use server::Program;
use server::{Door, Server};
use subscriber::Subscriber;
use subscribers::Subscribers;

/// How many receive.
pub(crate) const SUBSCRIBERS: [u32; 3] = [10, 50, 100];
/// A camera of 2.6 Mbit/s, and what makes 75,000 forwards with 100 subscribers.
const PACKETS_PER_SECOND: [u32; 2] = [300, 750];
/// Who come in at once.
const JOINS_AT_ONCE: u32 = 10;
/// The publisher's SSRC; the next is its retransmissions'.
const SSRC: u32 = 0x0ca1_1000;
/// The longest from joining to the first frame.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(30);
/// Media sent before memory is read: until threads, buffers and estimates are there.
const SETTLE_SECONDS: u64 = 2;
/// Pairs of captured and not captured rounds.
const CAPTURE_PAIRS: usize = 3;
/// Goals: of a subscriber's memory, and of capture's share.
const MEMORY_GOAL_KB: f64 = 250.0;
const CAPTURE_GOAL: f64 = 0.10;

/// Measures these servers with these numbers of subscribers, in rounds of so many seconds.
pub(crate) async fn run(seconds: u64, subscribers: &[u32], programs: &[Program]) -> anyhow::Result<()> {
    let ip = address()?;
    for &subscribers in subscribers {
        let mut all = Vec::new();
        for &program in programs {
            all.push((program, serve(program, ip, subscribers, seconds).await?));
        }
        for rate in rates(subscribers) {
            let floor = tokio::task::spawn_blocking(move || floor::measure(ip, subscribers, rate, seconds));
            let floor = floor.await??;
            println!("floor 1→{subscribers}, {rate}: {:.2} µs a packet", floor.as_secs_f64() * 1e6);
            let of = |(program, rounds): &(Program, Vec<Round>)| {
                Some((*program, rounds.iter().find(|round| round.rate == rate)?.clone()))
            };
            compare(subscribers, rate, floor, &all.iter().filter_map(of).collect::<Vec<_>>());
        }
    }
    Ok(())
}

/// The higher rate belongs to the most subscribers.
fn rates(subscribers: u32) -> impl Iterator<Item = Rate> {
    let most = subscribers >= SUBSCRIBERS[SUBSCRIBERS.len() - 1];
    let speeds = &PACKETS_PER_SECOND[..if most { 2 } else { 1 }];
    speeds.iter().flat_map(|&packets_per_second| {
        [Pace::Even, Pace::Bursts].map(|pace| Rate { packets_per_second, pace })
    })
}

/// An address of this machine that servers offer; they leave loopback out.
fn address() -> anyhow::Result<IpAddr> {
    let usable = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let mut interfaces = getifaddrs()?.filter(|interface| usable(interface.flags));
    let found = interfaces.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    Ok(found.context("this machine has no IPv4 address beside loopback")?.into())
}

/// A server with its load.
struct Load {
    server: Server,
    publisher: Publisher,
    subscribers: Subscribers,
    count: u32,
}

async fn serve(program: Program, ip: IpAddr, count: u32, seconds: u64) -> anyhow::Result<Vec<Round>> {
    let mut server = Server::start(program, count).await?;
    let publisher = publish(&server, ip).await?;
    let rate = rates(count).next().context("there is a rate")?;
    publisher.send(rate, rate.packets_in(SETTLE_SECONDS)).await?;
    publisher.flow(rate);
    let pid = server.pid();
    let (before, cpu_before) = (memory::held(pid)?, cpu::used(pid)?);
    let mut load = Load { server, publisher, subscribers: Subscribers::start()?, count };
    let firsts = load.join(ip).await?;
    tell_joins(program, count, &firsts, cpu::used(pid)?.saturating_sub(cpu_before));
    let mut rounds = Vec::new();
    for rate in rates(count) {
        let round = load.round(rate, seconds).await?;
        println!("{:<5} 1→{count}, {round}", program.name());
        rounds.push(round);
    }
    tell_memory(program, count, before, memory::held(pid)?);
    if program == Program::Edge {
        load.capture(seconds).await?;
    }
    Ok(rounds)
}

async fn publish(server: &Server, ip: IpAddr) -> anyhow::Result<Publisher> {
    let (mut client, sender) = Client::publisher(ip, SSRC)?;
    server.door().publish(&mut client).await?;
    let mut publisher = Publisher::start(client, sender, SSRC)?;
    tokio::time::timeout(FIRST_FRAME_MAX, publisher.connected()).await.context("no connection")??;
    Ok(publisher)
}

impl Load {
    /// Lets everybody join; returns the times from asking to the first whole frame, ascending.
    async fn join(&mut self, ip: IpAddr) -> anyhow::Result<Vec<Duration>> {
        let (mut joining, mut awaited) = (JoinSet::new(), JoinSet::new());
        let (mut next, mut firsts) = (0, Vec::new());
        while firsts.len() < self.count as usize {
            while next < self.count && joining.len() + awaited.len() < JOINS_AT_ONCE as usize {
                joining.spawn(enter(self.server.door(), ip, next));
                next += 1;
            }
            tokio::select! {
                Some(joined) = joining.join_next() => {
                    let (client, answer, asked_us) = joined??;
                    let (subscriber, first) = Subscriber::new(client, &answer);
                    self.subscribers.add(subscriber);
                    awaited.spawn(async move {
                        let first = tokio::time::timeout(FIRST_FRAME_MAX, first).await;
                        let at_us = first.context("no first frame")?.context("the subscribers have ended")?;
                        anyhow::Ok(Duration::from_micros(u64::try_from(at_us - asked_us)?))
                    });
                }
                Some(first) = awaited.join_next() => firsts.push(first??),
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    async fn round(&mut self, rate: Rate, seconds: u64) -> anyhow::Result<Round> {
        let pid = self.server.pid();
        round::measure(pid, &self.publisher, &self.subscribers, (rate, self.count, seconds)).await
    }

    /// What capturing the publisher costs, at the highest rate and in bursts.
    async fn capture(&mut self, seconds: u64) -> anyhow::Result<()> {
        let [_, packets_per_second] = PACKETS_PER_SECOND;
        let rate = Rate { packets_per_second, pace: Pace::Bursts };
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for _ in 0..CAPTURE_PAIRS {
            off.push(self.round(rate, seconds).await?);
            let Server::Edge(edge) = &self.server else { return Ok(()) };
            let recording = edge.record().await;
            let captured = self.round(rate, seconds).await?;
            let Server::Edge(edge) = &self.server else { return Ok(()) };
            edge.stop(&recording).await;
            println!("edge  1→{}, captured, {captured}", self.count);
            on.push(captured);
        }
        let cpu = |rounds: &[Round]| median(rounds.iter().map(Round::cpu_us).collect());
        let (off, on) = (cpu(&off), cpu(&on));
        let share = on / off - 1.0;
        row(
            format_args!("calls, 1→{}, {rate}: CPU of capturing it, beyond forwarding", self.count),
            format_args!("{:+.1} % ({on:.2} instead of {off:.2} µs a packet)", share * 100.0),
            format_args!("<= {:.0} %", CAPTURE_GOAL * 100.0),
            Verdict::from(share <= CAPTURE_GOAL),
        );
        Ok(())
    }
}

/// One client comes in; returns it with what was agreed on, and when it asked.
async fn enter(door: Door, ip: IpAddr, number: u32) -> anyhow::Result<(Client, String, i64)> {
    let mut client = Client::subscriber(ip)?;
    let asked_us = SystemClock.now().timestamp_micros();
    let answer = door.subscribe(number, &mut client).await?;
    Ok((client, answer, asked_us))
}

fn tell_joins(program: Program, count: u32, firsts: &[Duration], cpu: Duration) {
    let (p50, p99) = (percentile(firsts, 0.5), percentile(firsts, 0.99));
    row(
        format_args!(
            "calls, {}, {count} join, {JOINS_AT_ONCE} at once: first frame p50 / p99",
            program.name()
        ),
        format_args!("{p50:.0?} / {p99:.0?}, {:.1?} of CPU each", cpu / count),
        "-",
        Verdict::NoGoal,
    );
}

#[expect(clippy::cast_precision_loss, reason = "kilobytes for people")]
fn tell_memory(program: Program, count: u32, before: u64, after: u64) {
    let each_kb = after.saturating_sub(before) as f64 / 1e3 / f64::from(count);
    let ours = program == Program::Edge;
    row(
        format_args!("calls, {}, 1→{count}: memory of a subscriber", program.name()),
        format_args!("{each_kb:.0} kB ({} MB before, {} MB after)", before / 1_000_000, after / 1_000_000),
        if ours { format!("<= {MEMORY_GOAL_KB:.0} kB") } else { "-".to_owned() },
        if ours { Verdict::from(each_kb <= MEMORY_GOAL_KB) } else { Verdict::NoGoal },
    );
}
