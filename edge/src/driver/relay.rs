//! The way to us through a TURN server, for clients that reach us in no other way: an edge whose firewall lets no UDP in, but lets
//! out what it asks for and answers to it.
//!
//! This module must not know calls or clients; what comes through goes to the shard like any datagram, by a path of its own.
//!
//! | file | holds |
//! |---|---|
//! | `allocation` | an address at the server, from asking for it to its end |
//! | `peers` | whom the server lets through, and who has a short name |
//! | `message` | what is said, byte by byte |
//! | `server` | where the server is |
//!
//! Decisions:
//! - One address per media thread, held from the start. One per session would be asked for while somebody waits to join, and a server
//!   counts them (`user-quota`); one for the process would bring a hop between threads. Calls share it, as they share the port.
//! - The address is a candidate of everybody, with the lowest priority: who reaches us directly does, and nobody has to find out first.
//! - Each allocation begins from a port of its own. So a server that still holds one of an edge that has died does not refuse
//!   (437, or 441 because the name has changed), and the shard's own port sees media alone.
//! - The stack's own TURN client asks again with a new nonce only when the next refresh is due, when the allocation may have ended; it
//!   tells nobody that the server has forgotten it, and copies each packet three times. It is used for the messages alone.
//! - UDP to the server only: an edge that may not even send that has no media threads of use.

mod allocation;
mod message;
mod peers;
mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use shared::clock::SharedClock;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::datagrams::{Destination, Outgoing, Port, Received};
use super::metrics::Metrics;
use crate::ice::OwnTurn;

pub(super) use allocation::Reason;
use allocation::{Allocation, Credentials, State};
pub(super) use server::find;

/// What paths through the server are called on our end, whatever address it has given us: the dummy address of RFC 7600, section 4.8,
/// which nothing on the way can have.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)), 9);
/// How long after a failure the next try is made; twice as long after each further one.
const REST_MIN: Duration = Duration::from_secs(1);
/// The longest: an operator who has mended the server need not wait for more.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long our credentials at the server are good: longer than an edge runs, as the server wants the same ones from one end of an
/// allocation to the other. They leave us for nobody else.
const CREDENTIALS_LAST: TimeDelta = TimeDelta::days(3_650);

/// A shard's address at a TURN server, while there is one.
pub(super) struct Relay {
    turn: OwnTurn,
    server: watch::Receiver<Option<SocketAddr>>,
    clock: SharedClock,
    metrics: Metrics,
    outgoing: Outgoing,
    state: Standing,
    rest: Duration,
    /// What the shard has been told.
    told: Option<SocketAddr>,
    /// What the log has been told, so that it is told once.
    complained: Option<Reason>,
}

enum Standing {
    /// Nothing is tried until then.
    Resting(Instant),
    /// There is an allocation, or will be.
    Busy(Box<Busy>),
}

struct Busy {
    allocation: Allocation,
    server: SocketAddr,
    port: Port,
}

impl Relay {
    pub(super) fn new(
        turn: OwnTurn,
        server: watch::Receiver<Option<SocketAddr>>,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        Self {
            turn,
            server,
            clock,
            metrics,
            outgoing: Outgoing::default(),
            state: Standing::Resting(Instant::now()),
            rest: REST_MIN,
            told: None,
            complained: None,
        }
    }

    /// What to wait for.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            Standing::Busy(busy) => Some(busy.port.as_fd()),
            Standing::Resting(_) => None,
        }
    }

    /// Takes one batch of what the server has sent, and gives out what clients sent through it. How many slots of the
    /// batch were taken.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        received: &mut Received,
        came: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> usize {
        let Standing::Busy(busy) = &mut self.state else { return 0 };
        let slots = match busy.port.receive(received) {
            Ok(slots) => slots,
            Err(error) => {
                warn!("cannot receive from the TURN server: {error}");
                return 0;
            }
        };
        for datagram in received.datagrams().filter(|datagram| datagram.from == busy.server) {
            if let Some((from, media)) = busy.allocation.receive(now, datagram.bytes) {
                self.metrics.relayed_in.inc();
                came(from, &media);
            }
        }
        slots
    }

    /// Queues a datagram for a client.
    pub(super) fn push(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let Standing::Busy(busy) = &mut self.state else { return };
        let (server, outgoing, metrics) = (destination(busy.server), &mut self.outgoing, &self.metrics);
        busy.allocation.send(now, to, datagram, &mut |parts| {
            metrics.relayed_out.inc();
            outgoing.push_parts(server, parts);
        });
    }

    /// Does what time has made due, and sends all that is queued. To be called once a turn, last.
    pub(super) fn flush(&mut self, now: Instant) {
        match &mut self.state {
            Standing::Resting(until) if now >= *until => self.begin(now),
            Standing::Resting(_) => {}
            Standing::Busy(busy) => {
                if busy.allocation.poll_timeout().is_some_and(|due| due <= now) {
                    busy.allocation.timeout(now);
                }
            }
        }
        self.look(now);
        self.send();
    }

    /// When to call [`Self::flush`] next, if nothing happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            Standing::Resting(until) => Some(*until),
            Standing::Busy(busy) => busy.allocation.poll_timeout(),
        }
    }

    /// The address at which we are reached through the server, when it has changed.
    pub(super) fn change(&mut self) -> Option<Option<SocketAddr>> {
        let present = match &self.state {
            Standing::Busy(busy) => match busy.allocation.state() {
                State::Held(address) => Some(*address),
                _ => None,
            },
            Standing::Resting(_) => None,
        };
        if present == self.told {
            return None;
        }
        self.metrics.relays.add(i64::from(present.is_some()) - i64::from(self.told.is_some()));
        self.told = present;
        Some(present)
    }

    /// Gives the address back, as the process ends.
    pub(super) fn release(&mut self, now: Instant) {
        if let Standing::Busy(busy) = &mut self.state {
            busy.allocation.release(now);
        }
        self.send();
    }

    fn begin(&mut self, now: Instant) {
        let Some(server) = *self.server.borrow() else {
            self.state = Standing::Resting(now + REST_MIN);
            return;
        };
        let ends = self.clock.now() + CREDENTIALS_LAST;
        let (username, password) = self.turn.login.credentials("edge", ends);
        match Port::bind(0) {
            Ok(port) => {
                // What was for the port before is nothing to this one.
                self.outgoing = Outgoing::default();
                let allocation = Allocation::begin(now, Credentials { username, password });
                self.state = Standing::Busy(Box::new(Busy { allocation, server, port }));
            }
            Err(error) => {
                error!("no port for the way through the TURN server: {error}");
                self.end(now);
            }
        }
    }

    /// Sees whether the allocation has begun or ended.
    fn look(&mut self, now: Instant) {
        let Standing::Busy(busy) = &self.state else { return };
        let reason = match busy.allocation.state() {
            State::Asked => return,
            State::Held(address) => {
                if self.told != Some(*address) {
                    info!("a media thread is reached through the TURN server at {address}");
                    (self.rest, self.complained) = (REST_MIN, None);
                }
                return;
            }
            State::Ended(reason) => reason.clone(),
        };
        self.metrics.relay_ended(&reason);
        match &reason {
            _ if self.complained.as_ref() == Some(&reason) => debug!("still no way through the TURN server"),
            Reason::Forgotten => info!("the TURN server has forgotten us; asking anew"),
            Reason::Silent => warn!("the TURN server {} does not answer", busy.server),
            Reason::Refused(why) => {
                error!("WEBRTC_TURN_SERVER_URL: the TURN server {} refuses the edge: {why}", busy.server);
            }
        }
        // Its place is free at once where it was taken away; who refuses or is silent is left alone for a while.
        match reason {
            Reason::Forgotten => self.begin(now),
            _ => self.end(now),
        }
        self.complained = Some(reason);
    }

    fn end(&mut self, now: Instant) {
        self.state = Standing::Resting(now + self.rest);
        self.rest = (self.rest * 2).min(REST_MAX);
    }

    fn send(&mut self) {
        let Standing::Busy(busy) = &mut self.state else { return };
        for control in busy.allocation.poll_send() {
            self.outgoing.push(destination(busy.server), &control);
        }
        if self.outgoing.len() > 0 {
            let sent = busy.port.send(&mut self.outgoing);
            self.metrics.dropped.inc_by(sent.dropped);
        }
    }
}

/// The kernel chooses from which of our addresses: the server sees only that it stays the same.
fn destination(server: SocketAddr) -> Destination {
    let from = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Destination { to: server, from }
}

#[cfg(test)]
mod tests;
