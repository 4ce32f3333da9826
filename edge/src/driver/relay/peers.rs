//! Who is talked to through a TURN server: whose datagrams it lets through (permissions, RFC 8656, section 9) and who has a short
//! name (channels, section 12).
//!
//! This file must not know messages or sockets.
//!
//! Decisions:
//! - A permission is asked for when we check an address of a client for the first time, a channel when media flow to it: clients
//!   give a dozen addresses and use one, and a number must not name another address for 15 minutes after its last use.
//! - A channel is used for as long as a permission lasts from when it was bound: binding it gives one (section 12), which ends first.
//! - What nobody was sent to for a minute is not renewed: ICE asks every few seconds whether a client is there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a permission lasts (RFC 8656, section 9).
const PERMISSION_LASTS: Duration = Duration::from_secs(300);
/// How long a channel lasts, and how long after that its number must rest (section 12).
const CHANNEL_LASTS: Duration = Duration::from_secs(600);
const NUMBER_RESTS: Duration = Duration::from_secs(300);
/// At which age both are renewed: in time for several tries.
const RENEWED_AFTER: Duration = Duration::from_secs(200);
/// Unused for this long, they are let go.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// How long a refusal is believed: a server that forbids an address goes on to.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// Addresses that are let through at once: 8 for each session of a full shard.
const PERMISSIONS_MAX: usize = 4_096;
/// Numbers of channels (RFC 8656, section 12). When all are taken, datagrams go on in indications.
const NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;

/// Everybody who is talked to.
#[derive(Debug, Default)]
pub(super) struct Peers {
    permissions: HashMap<IpAddr, Entry>,
    channels: HashMap<SocketAddr, (u16, Entry)>,
    names: HashMap<u16, SocketAddr>,
    next: u16,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    used: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The server has been asked.
    Asked,
    /// It has agreed.
    Granted { at: Instant, renewing: Renewing },
    /// It has not.
    Refused { at: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewing {
    Yes,
    No,
}

/// Whether a datagram may go to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It may.
    Open,
    /// The server is to be asked first.
    Ask,
    /// Not, or not yet.
    Closed,
}

impl Peers {
    /// Whether the server lets datagrams to an address through. When it is to be asked, that is noted.
    pub(super) fn permission(&mut self, now: Instant, ip: IpAddr) -> Way {
        if let Some(entry) = self.permissions.get_mut(&ip) {
            entry.used = now;
            match entry.state {
                State::Granted { at, .. } if now < at + PERMISSION_LASTS => return Way::Open,
                State::Asked => return Way::Closed,
                State::Refused { at } if now < at + REFUSED_FOR => return Way::Closed,
                _ => {}
            }
        } else if self.permissions.len() >= PERMISSIONS_MAX {
            return Way::Closed;
        }
        self.permissions.insert(ip, Entry { state: State::Asked, used: now });
        Way::Ask
    }

    /// The number of an address's channel, and whether it can be used. `None`: there are no more numbers.
    pub(super) fn channel(&mut self, now: Instant, peer: SocketAddr) -> Option<(u16, Way)> {
        if let Some((number, entry)) = self.channels.get_mut(&peer) {
            entry.used = now;
            let way = match entry.state {
                State::Granted { at, .. } if now < at + PERMISSION_LASTS => Way::Open,
                State::Asked => Way::Closed,
                State::Refused { at } if now < at + REFUSED_FOR => Way::Closed,
                _ => Way::Ask,
            };
            if way == Way::Ask {
                entry.state = State::Asked;
            }
            return Some((*number, way));
        }
        let number = self.free_number()?;
        self.names.insert(number, peer);
        self.channels.insert(peer, (number, Entry { state: State::Asked, used: now }));
        Some((number, Way::Ask))
    }

    /// The number of a channel that can be used at once; notes that it is.
    pub(super) fn open_channel(&mut self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let (number, entry) = self.channels.get_mut(&peer)?;
        entry.used = now;
        matches!(entry.state, State::Granted { at, .. } if now < at + PERMISSION_LASTS).then_some(*number)
    }

    fn free_number(&mut self) -> Option<u16> {
        let count = NUMBERS.end() - NUMBERS.start() + 1;
        let at = |offset: u16| NUMBERS.start() + offset % count;
        let free =
            (0..count).map(|step| self.next + step).find(|offset| !self.names.contains_key(&at(*offset)))?;
        self.next = (free + 1) % count;
        Some(at(free))
    }

    /// Whose channel a number is.
    pub(super) fn named(&self, number: u16) -> Option<SocketAddr> {
        self.names.get(&number).copied()
    }

    /// The server has agreed to a permission.
    pub(super) fn permitted(&mut self, now: Instant, ip: IpAddr) {
        if let Some(entry) = self.permissions.get_mut(&ip) {
            entry.state = State::Granted { at: now, renewing: Renewing::No };
        }
    }

    /// The server has agreed to a channel, which is a permission too.
    pub(super) fn bound(&mut self, now: Instant, peer: SocketAddr) {
        if let Some((_, entry)) = self.channels.get_mut(&peer) {
            entry.state = State::Granted { at: now, renewing: Renewing::No };
        }
        self.permitted(now, peer.ip());
    }

    /// The server has refused a permission.
    pub(super) fn forbidden(&mut self, now: Instant, ip: IpAddr) {
        if let Some(entry) = self.permissions.get_mut(&ip) {
            entry.state = State::Refused { at: now };
        }
    }

    /// The server has refused a channel.
    pub(super) fn unbound(&mut self, now: Instant, peer: SocketAddr) {
        if let Some((_, entry)) = self.channels.get_mut(&peer) {
            entry.state = State::Refused { at: now };
        }
    }

    /// Forgets what is over, and gives what is to be renewed.
    pub(super) fn renew(&mut self, now: Instant) -> (Vec<IpAddr>, Vec<(SocketAddr, u16)>) {
        self.permissions.retain(|_, entry| !entry.is_over(now, PERMISSION_LASTS));
        self.channels.retain(|_, (_, entry)| !entry.is_over(now, CHANNEL_LASTS + NUMBER_RESTS));
        self.names.retain(|_, peer| self.channels.contains_key(peer));
        let due = |entry: &mut Entry| entry.is_due(now);
        let permissions =
            self.permissions.iter_mut().filter_map(|(ip, entry)| due(entry).then_some(*ip)).collect();
        let channels = self
            .channels
            .iter_mut()
            .filter_map(|(peer, (number, entry))| due(entry).then_some((*peer, *number)))
            .collect();
        (permissions, channels)
    }
}

impl Entry {
    fn is_over(&self, now: Instant, lasts: Duration) -> bool {
        match self.state {
            State::Asked => false,
            State::Granted { at, .. } => now >= at + lasts,
            // A refused number may have been bound by a request whose answer was lost: it rests as long.
            State::Refused { at } => now >= at + lasts.max(REFUSED_FOR),
        }
    }

    /// Whether it is to be renewed; it is asked for once.
    fn is_due(&mut self, now: Instant) -> bool {
        let State::Granted { at, renewing: Renewing::No } = self.state else { return false };
        let due = now >= at + RENEWED_AFTER && now < self.used + UNUSED_MAX;
        if due {
            self.state = State::Granted { at, renewing: Renewing::Yes };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    #[test]
    fn a_permission_is_asked_for_once_and_renewed_while_it_is_used() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        let ip = peer(1).ip();
        assert_eq!(peers.permission(start, ip), Way::Ask);
        assert_eq!(peers.permission(start, ip), Way::Closed);
        peers.permitted(start, ip);
        assert_eq!(peers.permission(start, ip), Way::Open);
        assert!(peers.renew(start + RENEWED_AFTER).0.is_empty(), "nobody used it");
        let later = start + RENEWED_AFTER;
        assert_eq!(peers.permission(later, ip), Way::Open);
        assert_eq!(peers.renew(later).0, [ip]);
        assert!(peers.renew(later).0.is_empty(), "it is asked for once");
        peers.permitted(later, ip);
        assert_eq!(peers.permission(start + PERMISSION_LASTS, ip), Way::Open);
        assert_eq!(peers.permission(later + PERMISSION_LASTS, ip), Way::Ask);
    }

    #[test]
    fn a_channel_that_rested_beyond_its_permission_is_bound_again() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let (number, _) = peers.channel(now, peer(1)).unwrap();
        peers.bound(now, peer(1));
        assert!(peers.renew(now + PERMISSION_LASTS).1.is_empty(), "nobody used it");
        assert_eq!(peers.open_channel(now + PERMISSION_LASTS, peer(1)), None, "nothing would come through");
        assert_eq!(peers.channel(now + PERMISSION_LASTS, peer(1)), Some((number, Way::Ask)));
        peers.bound(now + PERMISSION_LASTS, peer(1));
        assert_eq!(peers.open_channel(now + PERMISSION_LASTS, peer(1)), Some(number));
    }

    #[test]
    fn a_refusal_is_believed_for_a_while() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let ip = peer(1).ip();
        peers.permission(now, ip);
        peers.forbidden(now, ip);
        assert_eq!(peers.permission(now, ip), Way::Closed);
        assert_eq!(peers.permission(now + REFUSED_FOR, ip), Way::Ask);
    }

    #[test]
    fn a_number_rests_before_it_names_another() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let all = NUMBERS.count();
        for at in 0..all {
            let one = peer(u16::try_from(at).unwrap() + 1);
            assert_eq!(peers.channel(now, one).unwrap().1, Way::Ask);
            peers.bound(now, one);
        }
        let late = peer(60_000);
        assert_eq!(peers.channel(now, late), None, "all numbers are taken");
        assert_eq!(peers.open_channel(now, peer(1)), Some(0x4000));
        peers.renew(now + CHANNEL_LASTS);
        assert_eq!(peers.channel(now, late), None, "they rest");
        assert_eq!(peers.open_channel(now + CHANNEL_LASTS, peer(1)), None, "it is over");
        assert_eq!(peers.channel(now + CHANNEL_LASTS, peer(1)), Some((0x4000, Way::Ask)), "its own again");
        peers.renew(now + CHANNEL_LASTS + NUMBER_RESTS);
        let (number, way) = peers.channel(now + CHANNEL_LASTS + NUMBER_RESTS, late).unwrap();
        assert!(way == Way::Ask && number != 0x4000, "{number}");
        assert_eq!(peers.named(number), Some(late));
    }

    #[test]
    fn addresses_of_a_crowd_are_bounded() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let ips = (0..10_000u32).map(|at| IpAddr::from(at.to_be_bytes()));
        let asked = ips.filter(|ip| peers.permission(now, *ip) == Way::Ask).count();
        assert_eq!(asked, PERMISSIONS_MAX);
    }
}
