//! Which peer a datagram belongs to: by the user name of a STUN request first, by the path it came on otherwise.
//!
//! The user name comes first because paths are used again: a NAT gives a port that one peer had to another, and the second
//! one's checks must not reach the first one's connection (one of 101 connections failed otherwise). A path is believed only
//! after the peer's own connection has answered a check on it, which proves that the peer knows the password; a forged check
//! from somebody else's address therefore diverts nothing.

use std::collections::{HashMap, VecDeque};

use crate::ids::PeerId;
use crate::path::Path;

/// Paths kept per peer. A client has a handful of addresses, which with each of ours make more paths than these: of those that the
/// client has not proven the oldest goes, and else the one whose proof is oldest, a leftover of a handover.
const MAX_PATHS: usize = 16;
/// User names kept per peer: the present one and one before, whose last checks may still be on the way after a restart.
const MAX_UFRAGS: usize = 2;

/// The tables of one shard.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_ufrag: HashMap<String, PeerId>,
    by_path: HashMap<Path, PeerId>,
    peers: HashMap<PeerId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    ufrags: VecDeque<String>,
    paths: VecDeque<(Path, Proof)>,
}

/// Whether the peer's own connection has answered a check on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Proven,
    /// It has only sent one.
    Asked,
}

impl Demux {
    /// Whose datagram it is.
    pub(crate) fn find(&self, path: Path, datagram: &[u8]) -> Option<PeerId> {
        if let Some(ufrag) = request_ufrag(datagram) {
            return self.by_ufrag.get(ufrag).copied();
        }
        self.by_path.get(&path).copied()
    }

    /// The peer answers to this user name from now on.
    pub(crate) fn add_ufrag(&mut self, peer: PeerId, ufrag: &str) {
        if self.by_ufrag.get(ufrag) == Some(&peer) {
            return;
        }
        self.by_ufrag.insert(ufrag.to_owned(), peer);
        let known = self.peers.entry(peer).or_default();
        known.ufrags.push_back(ufrag.to_owned());
        if known.ufrags.len() > MAX_UFRAGS
            && let Some(old) = known.ufrags.pop_front()
        {
            self.by_ufrag.remove(&old);
        }
    }

    /// Learns from what a peer's connection sends: an answered check proves the path, an own check may be answered on it.
    pub(crate) fn sent(&mut self, peer: PeerId, path: Path, datagram: &[u8]) {
        match datagram {
            [0x01, 0x01, ..] if self.by_path.get(&path) == Some(&peer) => self.prove(peer, path),
            [0x01, 0x01, ..] => self.add_path(peer, path, Proof::Proven),
            [0x00, 0x01, ..] if !self.by_path.contains_key(&path) => self.add_path(peer, path, Proof::Asked),
            _ => {}
        }
    }

    fn prove(&mut self, peer: PeerId, path: Path) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if let Some(at) = known.paths.iter().position(|(it, _)| *it == path) {
            known.paths.remove(at);
            known.paths.push_back((path, Proof::Proven));
        }
    }

    fn add_path(&mut self, peer: PeerId, path: Path, proof: Proof) {
        if let Some(former) = self.by_path.insert(path, peer)
            && let Some(known) = self.peers.get_mut(&former)
        {
            known.paths.retain(|(other, _)| *other != path);
        }
        let known = self.peers.entry(peer).or_default();
        if known.paths.len() >= MAX_PATHS {
            let at = known.paths.iter().position(|(_, proof)| *proof == Proof::Asked).unwrap_or(0);
            if let Some((old, _)) = known.paths.remove(at) {
                self.by_path.remove(&old);
            }
        }
        known.paths.push_back((path, proof));
    }

    /// Forgets everything of a peer.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        let Some(known) = self.peers.remove(&peer) else { return };
        for ufrag in known.ufrags {
            self.by_ufrag.remove(&ufrag);
        }
        for (path, _) in known.paths {
            self.by_path.remove(&path);
        }
    }

    /// Entries of all tables together: zero when nobody is there.
    pub(crate) fn len(&self) -> usize {
        self.by_ufrag.len() + self.by_path.len() + self.peers.len()
    }
}

/// STUN's fixed second word (RFC 8489, section 5).
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const STUN_HEADER: usize = 20;
const ATTRIBUTE_USERNAME: u16 = 0x0006;

/// The first half of a binding request's user name: the fragment that we gave out (RFC 8445, section 7.2.2).
fn request_ufrag(datagram: &[u8]) -> Option<&str> {
    if datagram.len() < STUN_HEADER || datagram[..2] != [0x00, 0x01] || datagram[4..8] != STUN_COOKIE {
        return None;
    }
    let mut rest = &datagram[STUN_HEADER..];
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == ATTRIBUTE_USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(ours, _)| ours);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Transport;

    const ANN: PeerId = PeerId(1);
    const BEN: PeerId = PeerId(2);

    fn path(port: u16) -> Path {
        let address = |port| ([127, 0, 0, 1], port).into();
        Path { local: address(1), remote: address(port), transport: Transport::Udp }
    }

    fn request(name: &str) -> Vec<u8> {
        let mut datagram = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        datagram.resize(STUN_HEADER, 0);
        datagram.extend([0, 6, 0, u8::try_from(name.len()).unwrap()]);
        datagram.extend(name.as_bytes());
        datagram
    }

    #[test]
    fn a_check_is_found_by_its_name_even_on_the_path_of_another() {
        let mut demux = Demux::default();
        demux.add_ufrag(ANN, "ann");
        demux.add_ufrag(BEN, "ben");
        demux.sent(ANN, path(9), &[1, 1]);
        assert_eq!(demux.find(path(9), b"media"), Some(ANN));
        assert_eq!(demux.find(path(9), &request("ben:x")), Some(BEN));
        demux.sent(BEN, path(9), &[1, 1]);
        assert_eq!(demux.find(path(9), b"media"), Some(BEN));
    }

    #[test]
    fn an_own_check_does_not_take_a_path_away() {
        let mut demux = Demux::default();
        demux.sent(ANN, path(9), &[1, 1]);
        demux.sent(BEN, path(9), &[0, 1]);
        assert_eq!(demux.find(path(9), b"media"), Some(ANN));
    }

    #[test]
    fn paths_of_a_wandering_peer_are_bounded() {
        let mut demux = Demux::default();
        for port in 1..1000 {
            demux.sent(ANN, path(port), &[1, 1]);
        }
        assert_eq!(demux.len(), MAX_PATHS + 1);
        demux.remove(ANN);
        assert_eq!(demux.len(), 0);
    }

    #[test]
    fn the_path_in_use_outlives_any_number_of_others() {
        let mut demux = Demux::default();
        for port in 2..1000 {
            demux.sent(ANN, path(1), &[1, 1]);
            demux.sent(ANN, path(port), &[1, 1]);
        }
        assert_eq!((demux.find(path(1), b"media"), demux.len()), (Some(ANN), MAX_PATHS + 1));
    }

    #[test]
    fn a_proven_path_outlives_any_number_of_checks_of_our_own() {
        let mut demux = Demux::default();
        demux.sent(ANN, path(1), &[0, 1]);
        demux.sent(ANN, path(1), &[1, 1]);
        for port in 2..100 {
            demux.sent(ANN, path(port), &[0, 1]);
        }
        assert_eq!(demux.find(path(1), b"media"), Some(ANN));
        assert_eq!((demux.find(path(99), b"media"), demux.len()), (Some(ANN), MAX_PATHS + 1));
    }

    #[test]
    fn torn_requests_have_no_name() {
        let whole = request("ben:x");
        for end in 0..whole.len() {
            assert_eq!(request_ufrag(&whole[..end]), None, "{end} bytes");
        }
    }
}
