//! One address at a TURN server, from asking for it to its end (RFC 8656), without sockets and clocks.
//!
//! This file must not know candidates or who is in a call. An allocation that has ended is not revived: whoever holds it begins
//! another one, from another port.
//!
//! Decisions:
//! - It is refreshed every 15 s, not shortly before its end: that keeps the mappings of NATs and firewalls on the way open, and a
//!   server that has forgotten it (437, after a restart) is noticed in that time.
//! - A stale nonce (438) is answered at once with the new one, for every request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::stun::error_code::{CODE_ALLOC_MISMATCH, CODE_STALE_NONCE, CODE_UNAUTHORIZED};
use rtc::stun::message::TransactionId;

use super::message::{self, Answer, Came, Said, Signature, Transaction, Wish};
use super::peers::{Peers, Way};

/// How often the server hears of us: half of the 30 s after which Linux and many routers forget a UDP flow (`nf_conntrack_udp_timeout`).
const REFRESH_EVERY: Duration = Duration::from_secs(15);
/// The wait for the first answer, doubled with each further try (RFC 8489, section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Tries of one request: 15.5 s in all, the time after which a client that hears nothing is lost as well.
const TRIES_MAX: u32 = 5;
/// Answers that ask for another nonce, in a row: more is a server that wants none.
const NONCES_MAX: u32 = 4;

/// User name and password.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

/// An allocation.
pub(super) struct Allocation {
    credentials: Credentials,
    signature: Option<Signature>,
    state: State,
    requests: HashMap<Transaction, Request>,
    peers: Peers,
    refresh_at: Option<Instant>,
    out: Vec<Vec<u8>>,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The server has been asked.
    Asked,
    /// Datagrams for us go to this address.
    Held(SocketAddr),
    /// It is over.
    Ended(Reason),
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::driver) enum Reason {
    /// The server does not know it any more: it has been restarted.
    Forgotten,
    /// The server does not answer.
    Silent,
    /// The server does not want it.
    Refused(String),
}

#[derive(Debug)]
struct Request {
    wish: Wish,
    datagram: Vec<u8>,
    tries: u32,
    nonces: u32,
    again_at: Instant,
}

impl Allocation {
    /// Asks for one.
    pub(super) fn begin(now: Instant, credentials: Credentials) -> Self {
        let mut begun = Self {
            credentials,
            signature: None,
            state: State::Asked,
            requests: HashMap::new(),
            peers: Peers::default(),
            refresh_at: None,
            out: Vec::new(),
        };
        begun.ask(now, Wish::Allocate, 0);
        begun
    }

    /// Where it stands.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// A datagram of the server has come. What somebody sent through it is given back, with where from.
    pub(super) fn receive<'a>(
        &mut self,
        now: Instant,
        datagram: &'a [u8],
    ) -> Option<(SocketAddr, Cow<'a, [u8]>)> {
        match message::read(datagram)? {
            Came::Channel(number, media) => Some((self.peers.named(number)?, Cow::Borrowed(media))),
            Came::Data(from, media) => Some((from, Cow::Owned(media))),
            Came::Answer(answer) => {
                self.answered(now, answer);
                None
            }
        }
    }

    /// Wraps a datagram for somebody, if the server lets it through; otherwise it is dropped, as what ICE begins with comes again.
    /// The parts that are given out make one datagram.
    pub(super) fn send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        datagram: &[u8],
        out: &mut dyn FnMut(&[&[u8]]),
    ) {
        if let Some(number) = self.peers.open_channel(now, to) {
            return out(&[&message::channel_header(number, datagram), datagram]);
        }
        if !matches!(self.state, State::Held(_)) {
            return;
        }
        match self.peers.permission(now, to.ip()) {
            Way::Ask => return self.ask(now, Wish::Permit(to.ip()), 0),
            Way::Closed => return,
            Way::Open => {}
        }
        if !is_stun(datagram)
            && let Some((number, Way::Ask)) = self.peers.channel(now, to)
        {
            self.ask(now, Wish::Bind(to, number), 0);
        }
        if let Ok(wrapped) = message::indication(to, datagram) {
            out(&[&wrapped]);
        }
    }

    /// What is to be sent to the server.
    pub(super) fn poll_send(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.out.drain(..)
    }

    /// Gives the address back; the server's answer is not waited for.
    pub(super) fn release(&mut self, now: Instant) {
        if matches!(self.state, State::Held(_)) {
            self.ask(now, Wish::Refresh(Some(Duration::ZERO)), 0);
        }
    }

    /// When to call [`Self::timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.requests.values().map(|request| request.again_at).chain(self.refresh_at).min()
    }

    /// Time has passed.
    pub(super) fn timeout(&mut self, now: Instant) {
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            self.ask(now, Wish::Refresh(None), 0);
            let (permissions, channels) = self.peers.renew(now);
            permissions.into_iter().for_each(|ip| self.ask(now, Wish::Permit(ip), 0));
            channels.into_iter().for_each(|(peer, number)| self.ask(now, Wish::Bind(peer, number), 0));
        }
        let due: Vec<Transaction> = self
            .requests
            .iter()
            .filter(|(_, request)| request.again_at <= now)
            .map(|(transaction, _)| *transaction)
            .collect();
        for transaction in due {
            let Some(request) = self.requests.get_mut(&transaction) else { continue };
            if request.tries == TRIES_MAX {
                let wish = request.wish;
                self.requests.remove(&transaction);
                self.refused(now, wish, Reason::Silent);
                continue;
            }
            request.tries += 1;
            request.again_at = now + wait(request.tries);
            self.out.push(request.datagram.clone());
        }
    }

    fn ask(&mut self, now: Instant, wish: Wish, nonces: u32) {
        let transaction = TransactionId::new().0;
        let datagram = match message::request(wish, transaction, self.signature.as_ref()) {
            Ok(datagram) => datagram,
            Err(error) => return self.end(Reason::Refused(error.to_string())),
        };
        self.out.push(datagram.clone());
        let request = Request { wish, datagram, tries: 1, nonces, again_at: now + wait(1) };
        self.requests.insert(transaction, request);
    }

    fn answered(&mut self, now: Instant, answer: Answer) {
        let transaction = answer.transaction;
        if !self.requests.contains_key(&transaction) {
            return;
        }
        let Some(said) = answer.said(self.signature.as_ref()) else { return };
        let Some(Request { wish, nonces, .. }) = self.requests.remove(&transaction) else { return };
        match said {
            Said::Done { relayed, lifetime } => self.done(now, wish, relayed, lifetime),
            Said::Refused { code, challenge: Some((realm, nonce)), reason }
                if self.is_new(code, &nonce) && nonces < NONCES_MAX =>
            {
                let Credentials { username, password } = &self.credentials;
                match Signature::new(username, password, realm, nonce) {
                    Ok(signature) => {
                        self.signature = Some(signature);
                        self.ask(now, wish, nonces + 1);
                    }
                    Err(error) => self.end(Reason::Refused(format!("{code} {reason}, {error}"))),
                }
            }
            Said::Refused { code, .. } if code == CODE_ALLOC_MISMATCH.0 && wish != Wish::Allocate => {
                self.end(Reason::Forgotten);
            }
            Said::Refused { code, reason, .. } => {
                self.refused(now, wish, Reason::Refused(format!("{code} {reason}")));
            }
        }
    }

    /// Whether a refusal asks for another try: with credentials, or with a nonce other than ours.
    fn is_new(&self, code: u16, nonce: &str) -> bool {
        let stale = code == CODE_STALE_NONCE.0;
        let unsigned = self.signature.as_ref().is_none_or(|signature| signature.nonce != nonce);
        stale || code == CODE_UNAUTHORIZED.0 && unsigned
    }

    fn done(&mut self, now: Instant, wish: Wish, relayed: Option<SocketAddr>, lifetime: Option<Duration>) {
        match wish {
            Wish::Allocate => match relayed {
                Some(address) if lifetime.is_some_and(|lasts| lasts > REFRESH_EVERY) => {
                    self.state = State::Held(address);
                    self.refresh_at = Some(now + REFRESH_EVERY);
                }
                _ => self.end(Reason::Refused("no address that lasts".to_owned())),
            },
            Wish::Refresh(_) => self.refresh_at = Some(now + REFRESH_EVERY),
            Wish::Permit(ip) => self.peers.permitted(now, ip),
            Wish::Bind(peer, _) => self.peers.bound(now, peer),
        }
    }

    fn refused(&mut self, now: Instant, wish: Wish, reason: Reason) {
        match wish {
            Wish::Allocate | Wish::Refresh(_) => self.end(reason),
            Wish::Permit(ip) => {
                tracing::debug!("the TURN server lets nothing through to a client: {reason:?}");
                self.peers.forbidden(now, ip);
            }
            Wish::Bind(peer, _) => self.peers.unbound(now, peer),
        }
    }

    fn end(&mut self, reason: Reason) {
        self.state = State::Ended(reason);
        self.requests.clear();
        self.refresh_at = None;
    }
}

fn wait(tries: u32) -> Duration {
    FIRST_WAIT * 2u32.pow(tries - 1)
}

/// Everything else is media and its handshake (RFC 7983, section 7).
fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

#[cfg(test)]
mod tests;
