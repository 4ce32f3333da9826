//! Carries media: a thread and a UDP port per core, each with rooms of its own.
//!
//! The forwarding itself is `sfu`'s, which knows no sockets; this module gives it datagrams and time, and takes its datagrams
//! and events. It must not know calls, rows or signaling.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | `WEBRTC_*` |
//! | `candidates` | at which addresses people reach us |
//! | `shard` | a thread's loop |
//! | `pace` | when a busy thread sends |
//! | `relay` | the way through a TURN server, where no UDP reaches us |
//! | `tcp` | connections of clients that have no UDP |
//! | `datagrams`, `sys` | batched datagrams, and the system calls under them |
//! | `metrics` | what operators see |
//!
//! Decisions:
//! - A room lives on one shard: forwarding then takes no lock and no hop between threads. Rooms are placed where the fewest
//!   people are.
//! - One thread per core and plain `ppoll`, not the async runtime: a packet's way is receive, decrypt, encrypt, send, and a
//!   task per socket costs more than all of that (11.3 µs a packet against 5 with batches, two cores, Janus 22.5).
//! - A thread that ends before it is asked to takes the process along: its rooms are lost in any case, everybody who joins them again
//!   would wait for it, and a process that is started anew has them back in a second. What was captured stays.

mod candidates;
mod datagrams;
mod metrics;
mod pace;
mod relay;
mod settings;
mod shard;
mod sys;
mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use anyhow::Context;
use sfu::{Arrival, Command, Config, Event, Sfu};
use shared::clock::SharedClock;
use shared::lifecycle::Tasks;
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::ice::OwnTurn;

pub use settings::{Loopback, MediaSettings};

use datagrams::Port;
use metrics::Metrics;
use relay::Relay;
use sys::Waker;
use tcp::Connections;

/// Commands of one shard that may wait: joins and descriptions of a thousand people at once.
const COMMANDS_MAX: usize = 4_096;
/// Events of all shards that may wait for the rooms. When they are full, further ones stay in their shards.
const EVENTS_MAX: usize = 4_096;

/// How many free UDP ports are tried for one whose number is free for TCP as well; the first nearly always is.
const PORT_ATTEMPTS: u32 = 16;

/// The media threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Media(Arc<Inner>);

struct Inner {
    shards: Vec<Shard>,
    sessions_max: usize,
    metrics: Metrics,
}

/// What has crossed the ports since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes of media received.
    pub(crate) received_bytes: u64,
    /// Bytes of media sent.
    pub(crate) sent_bytes: u64,
}

/// Whether another room may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// It may.
    Free,
    /// This edge carries as many sessions as it shall.
    Reached,
}

/// A shard, seen from outside.
struct Shard {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    people: Arc<AtomicUsize>,
}

/// Which shard a room lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardId(usize);

/// The shard has too much to do to take a command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the media thread is overloaded")]
pub(crate) struct Overloaded;

impl Media {
    /// Binds the ports and starts the threads; they run until the process is asked to stop. The receiver is given what
    /// happens on all of them. With `turn`, the threads are reached through that server too.
    ///
    /// # Errors
    /// When a port is taken, or there is no address to offer.
    pub(crate) fn start(
        settings: &MediaSettings,
        turn: Option<OwnTurn>,
        clock: &SharedClock,
        registry: &prometheus::Registry,
        tasks: &Tasks,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Event>)> {
        let metrics = Metrics::register(registry)?;
        let (events, happened) = mpsc::channel(EVENTS_MAX);
        let stopped = Arc::new(AtomicBool::new(false));
        let turn = turn.map(|turn| (relay::find(&turn, tasks), turn));
        let local = turn.as_ref().map(|_| relay::LOCAL);
        let mut shards = Vec::new();
        for number in 0..settings.threads {
            let bound = bind(settings, local, number, clock)?;
            let (commands, asked) = sync_channel(COMMANDS_MAX);
            let (waker, people) = (Arc::new(Waker::new()?), Arc::new(AtomicUsize::new(0)));
            let (connected, serving) =
                bound.tcp.serve(bound.locals.clone(), Arc::clone(&waker), tasks.stop.clone())?;
            tasks.spawn(serving);
            let relay = turn
                .clone()
                .map(|(server, turn)| Relay::new(turn, server, Arc::clone(clock), metrics.clone()));
            let shard = shard::Driver {
                relay,
                sfu: bound.sfu,
                port: bound.port,
                connections: Connections::new(connected),
                locals: bound.locals,
                commands: asked,
                waker: Arc::clone(&waker),
                people: Arc::clone(&people),
                events: events.clone(),
                clock: Arc::clone(clock),
                stopped: Arc::clone(&stopped),
                metrics: metrics.clone(),
                pace: pace::Pace::new(Instant::now()),
            };
            let thread = std::thread::Builder::new().name(format!("media-{number}"));
            let (tasks, stopped) = (tasks.clone(), Arc::clone(&stopped));
            let noticed = Noticed { number, tasks, stopped, people: Arc::clone(&people) };
            let run = move || {
                let _noticed = noticed;
                shard.run();
            };
            thread.spawn(run).context("cannot start a media thread")?;
            shards.push(Shard { commands, waker, people });
        }
        let media = Self(Arc::new(Inner { shards, sessions_max: settings.max_sessions, metrics }));
        media.stop_with(tasks, stopped);
        Ok((media, happened))
    }

    /// One shard without a thread: what it is asked stays in its queue of so many.
    #[cfg(test)]
    pub(crate) fn idle(commands_max: usize) -> (Self, std::sync::mpsc::Receiver<Command>) {
        let (commands, asked) = sync_channel(commands_max);
        let waker = Arc::new(Waker::new().expect("there are descriptors"));
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("nothing else is registered");
        let shards = vec![Shard { commands, waker, people: Arc::default() }];
        (Self(Arc::new(Inner { shards, sessions_max: usize::MAX, metrics })), asked)
    }

    /// The shard with the fewest people.
    pub(crate) fn place(&self) -> ShardId {
        let shards = self.0.shards.iter().enumerate();
        let least = shards.min_by_key(|(_, shard)| shard.people.load(Ordering::Relaxed));
        ShardId(least.map_or(0, |(number, _)| number))
    }

    /// Whether a room may begin beside so many sessions.
    pub(crate) fn capacity(&self, sessions: usize) -> Capacity {
        if sessions < self.0.sessions_max { Capacity::Free } else { Capacity::Reached }
    }

    /// What has crossed the ports.
    pub(crate) fn traffic(&self) -> Traffic {
        let Metrics { received_bytes, sent_bytes, .. } = &self.0.metrics;
        Traffic { received_bytes: received_bytes.get(), sent_bytes: sent_bytes.get() }
    }

    /// Asks a shard for something; what comes of it is told by the events.
    ///
    /// # Errors
    /// When too much waits there already.
    pub(crate) fn command(&self, shard: ShardId, command: Command) -> Result<(), Overloaded> {
        let shard = &self.0.shards[shard.0];
        let sent = shard.commands.try_send(command);
        shard.waker.wake();
        // One that has ended takes nothing either, and the process ends with it.
        sent.map_err(|_| Overloaded)
    }

    fn stop_with(&self, tasks: &Tasks, stopped: Arc<AtomicBool>) {
        let (media, stop) = (self.clone(), tasks.stop.clone());
        tasks.spawn(async move {
            stop.cancelled().await;
            stopped.store(true, Ordering::Relaxed);
            media.0.shards.iter().for_each(|shard| shard.waker.wake());
        });
    }
}

/// Notices the end of a media thread, in whatever way it ends.
struct Noticed {
    number: usize,
    tasks: Tasks,
    stopped: Arc<AtomicBool>,
    people: Arc<AtomicUsize>,
}

impl Drop for Noticed {
    fn drop(&mut self) {
        // No room is placed there any more.
        self.people.store(usize::MAX, Ordering::Relaxed);
        if !self.stopped.load(Ordering::Relaxed) {
            error!("media thread {} has ended: the process ends, to be started anew", self.number);
            self.tasks.fail();
        }
    }
}

/// A shard whose port is bound.
struct Bound {
    sfu: Sfu,
    port: Port,
    tcp: tcp::Port,
    locals: Vec<SocketAddr>,
}

fn bind(
    settings: &MediaSettings,
    relay: Option<SocketAddr>,
    number: usize,
    clock: &SharedClock,
) -> anyhow::Result<Bound> {
    let wanted = match settings.udp_port {
        0 => 0,
        first => u16::try_from(usize::from(first) + number).context("WEBRTC_UDP_PORT is too high")?,
    };
    let (port, tcp) = ports(wanted)?;
    let address = port.address()?;
    let candidates = candidates::of_port(settings, address.port()).map_err(io::Error::from)?;
    let locals = candidates.iter().map(|candidate| candidate.local).collect();
    let offered: Vec<String> = candidates.iter().map(|candidate| candidate.address.to_string()).collect();
    let config =
        Config { candidates, relay, limits: settings.limits, max_sessions: settings.thread_sessions_max() };
    let wall = Arrival { unix_us: clock.now().timestamp_micros() };
    let sfu = Sfu::new(config, Instant::now(), wall)?;
    info!("media thread {number} is reached at {}", offered.join(", "));
    Ok(Bound { sfu, port, tcp, locals })
}

/// A UDP port and the TCP port of the same number. Where any will do, a UDP port whose number is taken for TCP is let go.
fn ports(wanted: u16) -> anyhow::Result<(Port, tcp::Port)> {
    let mut attempts = if wanted == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        let port =
            Port::bind(wanted).with_context(|| format!("WEBRTC_UDP_PORT: cannot bind UDP port {wanted}"))?;
        let number = port.address()?.port();
        attempts -= 1;
        match tcp::Port::bind(number) {
            Ok(tcp) => return Ok((port, tcp)),
            Err(error) if attempts == 0 => {
                return Err(error).with_context(|| format!("WEBRTC_UDP_PORT: cannot bind TCP port {number}"));
            }
            Err(_) => {}
        }
    }
}
