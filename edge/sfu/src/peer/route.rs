//! The way to a client whose address changes in the middle of a connection without an ICE restart: a phone that leaves the house, a
//! NAT that forgets.
//!
//! The library keeps the first nominated pair for ever. So it goes on to believe in the first address, and what it sends there is
//! sent to where the client is now; answers to its own checks are shown to it as coming from the first address. The client proves
//! itself as anywhere in ICE: only a check that the library has answered, hence with the right password, moves the route.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::path::Path;

/// Silence on the present path after which any proven check from elsewhere moves the route: longer than a burst of loss, shorter than
/// what makes a client lost.
const SILENCE: Duration = Duration::from_secs(2);
/// Nominations in a row that move the route while the present path is still heard: browsers nominate every path now and then while
/// they look for the best one.
const NOMINATIONS: u32 = 2;
/// Checks remembered in each direction: more are not under way at once.
const CHECKS: usize = 32;

type Transaction = [u8; 12];

/// Where the client is.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// What the library believes in.
    selected: Option<Path>,
    /// Where the client is instead.
    moved: Option<Path>,
    heard: Option<Instant>,
    /// Checks of the client that the library has not answered yet.
    asked: VecDeque<(Transaction, Path, Nominating)>,
    /// Own checks sent to where the client is now.
    diverted: VecDeque<Transaction>,
    /// Nominations in a row, and of which path.
    nominated: Option<(Path, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nominating {
    Yes,
    No,
}

impl Route {
    /// A datagram has come: notes it, and tells from where the library shall think it came.
    pub(super) fn arrived(&mut self, now: Instant, path: Path, datagram: &[u8]) -> SocketAddr {
        if Some(path) == self.present() {
            self.heard = Some(now);
        }
        let Some((class, transaction)) = stun(datagram) else { return path.remote };
        match (class, self.selected) {
            (REQUEST, _) => {
                let nominating = if nominates(datagram) { Nominating::Yes } else { Nominating::No };
                remember(&mut self.asked, (transaction, path, nominating));
                path.remote
            }
            (SUCCESS, Some(selected)) if self.moved == Some(path) && self.diverted.contains(&transaction) => {
                selected.remote
            }
            _ => path.remote,
        }
    }

    /// A datagram leaves: notes it, and tells where to.
    pub(super) fn leaving(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Path {
        match stun(datagram) {
            Some((SUCCESS, transaction)) => {
                if let Some(at) =
                    self.asked.iter().position(|(known, from, _)| *known == transaction && *from == path)
                    && let Some((_, _, nominating)) = self.asked.remove(at)
                {
                    self.proven(now, path, nominating);
                }
                path
            }
            Some((REQUEST, transaction)) if self.selected == Some(path) => {
                let Some(moved) = self.moved else { return path };
                remember(&mut self.diverted, transaction);
                moved
            }
            Some(_) => path,
            None => {
                if self.selected != Some(path) {
                    (self.selected, self.moved, self.heard) = (Some(path), None, Some(now));
                }
                self.moved.unwrap_or(path)
            }
        }
    }

    /// The connection is set up anew.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn present(&self) -> Option<Path> {
        self.moved.or(self.selected)
    }

    /// The client has shown that it can be reached on a path.
    fn proven(&mut self, now: Instant, path: Path, nominating: Nominating) {
        let Some(present) = self.present() else { return };
        if path == present {
            if nominating == Nominating::Yes {
                self.nominated = None;
            }
            return;
        }
        if nominating == Nominating::Yes {
            let before = self.nominated.filter(|(other, _)| *other == path).map_or(0, |(_, count)| count);
            self.nominated = Some((path, before + 1));
        }
        let silent = self.heard.is_none_or(|heard| now.saturating_duration_since(heard) >= SILENCE);
        if silent || self.nominated.is_some_and(|(other, count)| other == path && count >= NOMINATIONS) {
            tracing::debug!("a client goes on from another address");
            self.moved = (self.selected != Some(path)).then_some(path);
            self.nominated = None;
            self.heard = Some(now);
        }
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == CHECKS {
        list.pop_front();
    }
    list.push_back(item);
}

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
/// RFC 8445, section 16.1.
const USE_CANDIDATE: u16 = 0x0025;
const HEADER: usize = 20;

/// Message type and transaction of a STUN message (RFC 8489, section 5).
fn stun(datagram: &[u8]) -> Option<(u16, Transaction)> {
    let header: &[u8; HEADER] = datagram.first_chunk()?;
    let transaction = header[8..].try_into().ok()?;
    (header[0] < 4 && header[4..8] == [0x21, 0x12, 0xA4, 0x42])
        .then_some((u16::from_be_bytes([header[0], header[1]]), transaction))
}

/// Whether a datagram answers a check.
pub(super) fn is_answer(datagram: &[u8]) -> bool {
    stun(datagram).is_some_and(|(class, _)| class == SUCCESS)
}

/// Whether a datagram is a check that nominates its path.
pub(super) fn nominates(datagram: &[u8]) -> bool {
    if stun(datagram).is_none_or(|(class, _)| class != REQUEST) {
        return false;
    }
    let mut rest = &datagram[HEADER..];
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        if u16::from_be_bytes([*t0, *t1]) == USE_CANDIDATE {
            return true;
        }
        let length = usize::from(u16::from_be_bytes([*l0, *l1])).next_multiple_of(4);
        rest = tail.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Transport;

    fn path(port: u16) -> Path {
        let address = |port| ([127, 0, 0, 1], port).into();
        Path { local: address(1), remote: address(port), transport: Transport::Udp }
    }

    fn message(class: u16, transaction: u8, attribute: &[u8]) -> Vec<u8> {
        let mut message = class.to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xA4, 0x42]);
        message.extend([transaction; 12]);
        message.extend(attribute);
        message
    }

    fn check(route: &mut Route, now: Instant, from: Path, transaction: u8, attribute: &[u8]) {
        route.arrived(now, from, &message(REQUEST, transaction, attribute));
        route.leaving(now, from, &message(SUCCESS, transaction, &[]));
    }

    const NOMINATE: [u8; 4] = [0, 0x25, 0, 0];
    const MEDIA: [u8; 1] = [128];

    #[test]
    fn two_nominations_in_a_row_move_the_route() {
        let (mut route, now) = (Route::default(), Instant::now());
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(5));
        check(&mut route, now, path(6), 1, &NOMINATE);
        check(&mut route, now, path(5), 2, &NOMINATE);
        check(&mut route, now, path(6), 3, &NOMINATE);
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(5));
        check(&mut route, now, path(6), 4, &NOMINATE);
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(6));
        check(&mut route, now, path(5), 5, &NOMINATE);
        check(&mut route, now, path(5), 6, &NOMINATE);
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(5));
    }

    #[test]
    fn a_check_from_elsewhere_moves_it_only_after_silence() {
        let (mut route, now) = (Route::default(), Instant::now());
        route.leaving(now, path(5), &MEDIA);
        route.arrived(now, path(5), &MEDIA);
        check(&mut route, now, path(6), 1, &[]);
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(5));
        check(&mut route, now + SILENCE, path(6), 2, &[]);
        assert_eq!(route.leaving(now, path(5), &MEDIA), path(6));
        assert_eq!(route.leaving(now, path(5), &message(REQUEST, 9, &[])), path(6));
        assert_eq!(route.arrived(now, path(6), &message(SUCCESS, 9, &[])), path(5).remote);
        assert_eq!(route.arrived(now, path(6), &message(SUCCESS, 8, &[])), path(6).remote);
    }

    #[test]
    fn an_unanswered_check_proves_nothing() {
        let (mut route, now) = (Route::default(), Instant::now());
        route.leaving(now, path(5), &MEDIA);
        for transaction in 0..100 {
            route.arrived(now + SILENCE, path(6), &message(REQUEST, transaction, &NOMINATE));
        }
        assert_eq!(route.leaving(now + SILENCE, path(5), &MEDIA), path(5));
        assert_eq!(route.asked.len(), CHECKS);
    }
}
