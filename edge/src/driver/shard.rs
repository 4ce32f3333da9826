//! One media thread: its loop from datagrams to datagrams.
//!
//! A turn is: wait, commands, up to four batches of datagrams, what time has made due, one flush, events. Flushing once a turn
//! is the largest single win that was measured: packets of one destination leave as one run. A busy thread leaves the flush out
//! for a turn or two, as `pace` says; packets are still read, and their arrival told, when they come.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use sfu::{Arrival, Command, Event, Fate, Path, Sfu, Transport};
use shared::clock::SharedClock;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{error, warn};

use super::datagrams::{Destination, Outgoing, Port, RECEIVE_BATCH, Received};
use super::metrics::Metrics;
use super::pace::{Pace, Turn};
use super::relay::{self, Relay};
use super::sys::{self, Waker};
use super::tcp::{self, Connections};

/// Batches of datagrams in one turn: 128 receive slots, more than a millisecond's worth at 75,000 a second.
const BATCHES_A_TURN: usize = 4;
/// Packets of TCP connections in one turn; those who have UDP come first.
const FRAMES_A_TURN: usize = 128;
/// Commands in one turn; a flood of joins must not hold media up.
const COMMANDS_A_TURN: usize = 64;
/// The longest wait: a stop is noticed by the waker, so this only bounds a lost wakeup.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What a media thread owns.
pub(super) struct Driver {
    pub(super) sfu: Sfu,
    pub(super) port: Port,
    pub(super) connections: Connections,
    /// The way through a TURN server, where there is one.
    pub(super) relay: Option<Relay>,
    /// The local ends of our candidates.
    pub(super) locals: Vec<SocketAddr>,
    pub(super) commands: Receiver<Command>,
    pub(super) waker: Arc<Waker>,
    pub(super) people: Arc<AtomicUsize>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) clock: SharedClock,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) metrics: Metrics,
    pub(super) pace: Pace,
}

impl Driver {
    /// Runs until the process stops.
    pub(super) fn run(mut self) {
        let mut received = self.port.received();
        let mut outgoing = Outgoing::default();
        let mut waiting = None;
        while !self.stopped.load(Ordering::Relaxed) {
            self.wait(waiting.is_some());
            self.waker.drain();
            let now = Instant::now();
            for command in self.commands.try_iter().take(COMMANDS_A_TURN) {
                self.sfu.command(now, command);
            }
            self.receive(now, &mut received);
            self.receive_connected(now);
            self.receive_relayed(now, &mut received);
            if self.sfu.poll_timeout().is_some_and(|due| due <= now) {
                self.sfu.timeout(now);
            }
            self.flush_in_turn(now, &mut outgoing);
            self.look_after_relay(now);
            waiting = self.tell(waiting);
            self.count_people();
        }
        if let Some(relay) = &mut self.relay {
            relay.release(Instant::now());
        }
    }

    fn wait(&mut self, events_wait: bool) {
        let longest = if events_wait { Duration::from_millis(10) } else { WAIT_MAX };
        let due = self
            .sfu
            .poll_timeout()
            .into_iter()
            .chain(self.relay.as_ref().and_then(Relay::poll_timeout))
            .chain(self.pace.until())
            .min();
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = match self.connections.is_waiting() {
            true => Duration::ZERO,
            false => due.unwrap_or(longest).min(longest),
        };
        let (port, waker) = (self.port.as_fd(), self.waker.as_fd());
        let waited = match self.relay.as_ref().and_then(Relay::as_fd) {
            Some(relay) => sys::wait(&[port, waker, relay], Some(timeout)),
            None => sys::wait(&[port, waker], Some(timeout)),
        };
        if let Err(error) = waited {
            error!("a media thread cannot wait for its port: {error}");
        }
    }

    fn receive(&mut self, now: Instant, received: &mut Received) {
        for _ in 0..BATCHES_A_TURN {
            let slots = match self.port.receive(received) {
                Ok(0) => return,
                Ok(slots) => slots,
                Err(error) => return warn!("cannot receive media: {error}"),
            };
            let arrival = Arrival { unix_us: self.clock.now().timestamp_micros() };
            for datagram in received.datagrams() {
                let local = self.local(datagram.to);
                let path = Path { local, remote: datagram.from, transport: Transport::Udp };
                take(&mut self.sfu, &self.metrics, now, arrival, path, datagram.bytes);
            }
            if slots < RECEIVE_BATCH {
                return;
            }
        }
    }

    /// The candidate that a datagram came to. One that came to an address which we do not offer is answered from there too, but
    /// belongs to the first candidate of its family.
    fn local(&self, to: IpAddr) -> SocketAddr {
        tcp::local(&self.locals, to).unwrap_or(SocketAddr::new(to, 0))
    }

    fn receive_connected(&mut self, now: Instant) {
        for _ in 0..FRAMES_A_TURN {
            let Some((path, packet)) = self.connections.receive() else { return };
            let arrival = Arrival { unix_us: self.clock.now().timestamp_micros() };
            take(&mut self.sfu, &self.metrics, now, arrival, path, &packet);
        }
    }

    fn receive_relayed(&mut self, now: Instant, received: &mut Received) {
        let Some(relay) = &mut self.relay else { return };
        for _ in 0..BATCHES_A_TURN {
            let arrival = Arrival { unix_us: self.clock.now().timestamp_micros() };
            let (sfu, metrics) = (&mut self.sfu, &self.metrics);
            let slots = relay.receive(now, received, &mut |remote, datagram| {
                let path = Path { local: relay::LOCAL, remote, transport: Transport::Udp };
                take(sfu, metrics, now, arrival, path, datagram);
            });
            if slots < RECEIVE_BATCH {
                return;
            }
        }
    }

    fn look_after_relay(&mut self, now: Instant) {
        let Some(relay) = &mut self.relay else { return };
        relay.flush(now);
        if let Some(address) = relay.change() {
            self.sfu.relayed(address);
        }
    }

    fn flush_in_turn(&mut self, now: Instant, outgoing: &mut Outgoing) {
        if let Some(deepest) = self.sfu.waiting()
            && self.pace.turn(now, deepest) == Turn::Send
        {
            self.flush(now, outgoing);
        }
    }

    fn flush(&mut self, now: Instant, outgoing: &mut Outgoing) {
        let (mut bytes, mut datagrams) = (0, 0);
        let (connections, metrics, relay, port) =
            (&self.connections, &self.metrics, &mut self.relay, &mut self.port);
        self.sfu.flush(now, &mut |path, datagram| {
            bytes += datagram.len() as u64;
            match path.transport {
                Transport::Udp if path.local == relay::LOCAL => {
                    if let Some(relay) = relay.as_mut() {
                        relay.push(now, path.remote, datagram);
                    }
                }
                Transport::Udp => {
                    outgoing.push(Destination { to: path.remote, from: path.local.ip() }, datagram);
                    datagrams += 1;
                    if outgoing.is_full() {
                        send(port, outgoing, metrics);
                    }
                }
                Transport::Tcp => match connections.send(path, datagram) {
                    Ok(()) => metrics.sent.inc(),
                    Err(tcp::Dropped) => metrics.dropped.inc(),
                },
            }
        });
        metrics.sent_bytes.inc_by(bytes);
        if outgoing.len() > 0 {
            send(port, outgoing, metrics);
        }
        self.pace.sent(now, datagrams);
    }

    /// Gives events out while there is room; what finds none is kept, and the rest stays where it is.
    fn tell(&mut self, waiting: Option<Event>) -> Option<Event> {
        let mut next = waiting.or_else(|| self.sfu.poll_event());
        while let Some(event) = next {
            match self.events.try_send(event) {
                Ok(()) => next = self.sfu.poll_event(),
                Err(TrySendError::Full(event)) => return Some(event),
                // The rooms are gone: the process ends.
                Err(TrySendError::Closed(_)) => return None,
            }
        }
        None
    }

    fn count_people(&self) {
        let people = self.sfu.sessions();
        let before = self.people.swap(people, Ordering::Relaxed);
        let change = i64::try_from(people).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        self.metrics.people.add(change);
    }
}

/// Sends what is queued, and counts it.
fn send(port: &mut Port, outgoing: &mut Outgoing, metrics: &Metrics) {
    let sent = port.send(outgoing);
    metrics.sent.inc_by(sent.datagrams);
    metrics.dropped.inc_by(sent.dropped);
}

/// Gives a datagram to the calls, and counts it.
fn take(sfu: &mut Sfu, metrics: &Metrics, now: Instant, arrival: Arrival, path: Path, datagram: &[u8]) {
    metrics.received.inc();
    metrics.received_bytes.inc_by(datagram.len() as u64);
    match sfu.receive(now, arrival, path, datagram) {
        Fate::Taken => {}
        Fate::OverLimit => metrics.over_limit.inc(),
        Fate::Refused => metrics.refused.inc(),
    }
}
