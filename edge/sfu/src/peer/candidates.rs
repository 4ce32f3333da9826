//! Which of a client's addresses are checked: so many of one ICE session, and so many machines in a while. What is beyond stays
//! unasked: a check goes to whatever address a client names, and a TURN server has a place for each for minutes.
//!
//! It must not know connections.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Addresses of one ICE session. A client on three networks with two TURN servers names a dozen; each makes a pair with each of ours,
/// of which RFC 8445, section 6.1.2.5, wants no more than 100.
const MAX_CANDIDATES: usize = 40;
/// Machines of one client within [`MACHINE_COUNTS`], over however many ICE sessions: its own on several networks, their NATs and
/// TURN servers, some times over.
const MAX_MACHINES: usize = 32;
/// How long a machine counts: as long as a TURN server lets through to it (RFC 8656, section 9).
const MACHINE_COUNTS: Duration = Duration::from_secs(300);

/// The addresses of one client.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// The client's name for the ICE session.
    ufrag: String,
    known: BTreeSet<SocketAddr>,
    machines: HashMap<IpAddr, Instant>,
}

/// Whether an address is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Checked,
    /// There are too many.
    Beyond,
}

impl Candidates {
    /// The client describes a session, the present one or another.
    pub(super) fn of_session(&mut self, ufrag: &str) {
        if self.ufrag != ufrag {
            ufrag.clone_into(&mut self.ufrag);
            self.known.clear();
        }
    }

    /// The client names an address of the present session, perhaps again.
    pub(super) fn named(&mut self, now: Instant, address: SocketAddr) -> Verdict {
        if self.known.contains(&address) {
            return Verdict::Checked;
        }
        self.machines.retain(|_, named| now < *named + MACHINE_COUNTS);
        let machine_fits = self.machines.contains_key(&address.ip()) || self.machines.len() < MAX_MACHINES;
        if self.known.len() >= MAX_CANDIDATES || !machine_fits {
            return Verdict::Beyond;
        }
        self.machines.insert(address.ip(), now);
        self.known.insert(address);
        Verdict::Checked
    }
}

/// The address in a candidate's line (RFC 8839, section 5.1).
pub(super) fn address(candidate: &str) -> Option<SocketAddr> {
    let mut words = candidate.split_ascii_whitespace().skip(4);
    let (ip, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(machine: u8, port: u16) -> SocketAddr {
        ([192, 0, 2, machine], port).into()
    }

    #[test]
    fn so_many_addresses_of_a_session_are_checked() {
        let (mut candidates, now) = (Candidates::default(), Instant::now());
        candidates.of_session("one");
        let checked = |candidates: &mut Candidates| {
            (1..1_000).filter(|port| candidates.named(now, at(1, *port)) == Verdict::Checked).count()
        };
        assert_eq!(checked(&mut candidates), MAX_CANDIDATES);
        candidates.of_session("one");
        assert_eq!(checked(&mut candidates), MAX_CANDIDATES, "the same ones");
        assert_eq!(candidates.named(now, at(1, 5_000)), Verdict::Beyond);
        candidates.of_session("two");
        assert_eq!(candidates.named(now, at(1, 5_000)), Verdict::Checked);
    }

    #[test]
    fn a_client_that_restarts_ever_again_names_no_more_machines_for_that() {
        let (mut candidates, now) = (Candidates::default(), Instant::now());
        let restart = |candidates: &mut Candidates, now, number: u8| {
            candidates.of_session(&number.to_string());
            candidates.named(now, at(number, 1))
        };
        let checked = (0..200).filter(|number| restart(&mut candidates, now, *number) == Verdict::Checked);
        assert_eq!(checked.count(), MAX_MACHINES);
        assert_eq!(restart(&mut candidates, now, 0), Verdict::Checked, "one that is known");
        assert_eq!(restart(&mut candidates, now + MACHINE_COUNTS, 201), Verdict::Checked);
        assert_eq!(candidates.machines.len(), 1);
    }

    #[test]
    fn an_address_stands_in_its_place() {
        let line = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
        assert_eq!(address(line), Some(at(1, 5_000)));
        assert_eq!(address("candidate:1 1 udp 2130706431 name.local 5000 typ host"), None);
    }
}
