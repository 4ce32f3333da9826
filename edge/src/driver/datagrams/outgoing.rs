//! Datagrams on their way out: queued in one arena, then ordered and cut into the runs that the kernel takes as one message. It must not
//! know sockets.

use std::net::{IpAddr, SocketAddr};

use super::Offload;

/// Messages given to the kernel by one call.
const SEND_BATCH: usize = 128;
/// Segments of one GSO run: the kernel's `UDP_MAX_SEGMENTS` is 64 up to Linux 6.8.
const GSO_SEGMENTS: usize = 64;
/// Bytes of one GSO run: below the 65,507 of a UDP payload, whatever the headers.
const GSO_BYTES: usize = 64_000;
/// Bytes that are queued before they are sent: a burst of ten packets to twenty destinations, well within a core's second cache.
const ARENA_BYTES: usize = 256 << 10;

/// Where a datagram goes, and from which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::driver) struct Destination {
    /// The peer.
    pub(in crate::driver) to: SocketAddr,
    /// Our address that the peer knows; unspecified lets the kernel choose.
    pub(in crate::driver) from: IpAddr,
}

/// Datagrams on their way out.
#[derive(Debug, Default)]
pub(in crate::driver) struct Outgoing {
    pub(super) arena: Vec<u8>,
    pub(super) queued: Vec<Queued>,
}

/// A datagram in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    start: usize,
    len: usize,
    destination: Destination,
}

/// Segments of one destination that the kernel takes as one message. They lie one after another in the order of `parts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::driver) struct Run {
    pub(in crate::driver) destination: Destination,
    /// Start and length of each segment in the arena.
    pub(in crate::driver) parts: Vec<(usize, usize)>,
    pub(in crate::driver) segments: usize,
}

impl Outgoing {
    /// Queues a datagram.
    pub(in crate::driver) fn push(&mut self, destination: Destination, datagram: &[u8]) {
        self.queued.push(Queued { start: self.arena.len(), len: datagram.len(), destination });
        self.arena.extend_from_slice(datagram);
    }

    /// Queues a datagram that is given in parts.
    pub(in crate::driver) fn push_parts(&mut self, destination: Destination, parts: &[&[u8]]) {
        let start = self.arena.len();
        parts.iter().for_each(|part| self.arena.extend_from_slice(part));
        self.queued.push(Queued { start, len: self.arena.len() - start, destination });
    }

    /// Whether it is time to send what is queued.
    pub(in crate::driver) fn is_full(&self) -> bool {
        self.arena.len() >= ARENA_BYTES
    }

    /// How many datagrams are queued.
    pub(in crate::driver) fn len(&self) -> usize {
        self.queued.len()
    }

    /// Datagrams of one destination stand together, in the order in which they were queued.
    pub(super) fn order(&mut self) {
        if self.queued.windows(2).any(|pair| pair[0].destination > pair[1].destination) {
            self.queued.sort_by_key(|queued| queued.destination);
        }
    }

    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.queued.clear();
    }
}

/// The next batch of runs, and how many of `queued` it takes.
pub(super) fn runs(queued: &[Queued], gso: Offload) -> (Vec<Run>, usize) {
    let mut runs: Vec<Run> = Vec::with_capacity(SEND_BATCH.min(queued.len()));
    let mut used = 0;
    while used < queued.len() && runs.len() < SEND_BATCH {
        let len = if gso == Offload::On { run_len(&queued[used..]) } else { 1 };
        let parts = queued[used..used + len].iter().map(|one| (one.start, one.len)).collect();
        runs.push(Run { destination: queued[used].destination, parts, segments: len });
        used += len;
    }
    (runs, used)
}

/// How many of the first datagrams make one GSO run: the same destination, all of the first one's size but for a shorter last.
fn run_len(queued: &[Queued]) -> usize {
    let first = queued[0];
    let (mut len, mut bytes) = (1, first.len);
    for next in &queued[1..queued.len().min(GSO_SEGMENTS)] {
        bytes += next.len;
        if next.destination != first.destination || next.len > first.len || next.len == 0 || bytes > GSO_BYTES
        {
            break;
        }
        len += 1;
        if next.len < first.len {
            break;
        }
    }
    len
}

pub(super) fn singles(run: &Run) -> Vec<Run> {
    let single = |&part| Run { destination: run.destination, parts: vec![part], segments: 1 };
    run.parts.iter().map(single).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(port: u16) -> Destination {
        Destination { to: SocketAddr::from(([127, 0, 0, 1], port)), from: IpAddr::from([0, 0, 0, 0]) }
    }

    fn queue(of: &[(u16, usize)]) -> Outgoing {
        let mut queue = Outgoing::default();
        for (number, &(port, len)) in of.iter().enumerate() {
            queue.push(destination(port), &vec![u8::try_from(number).unwrap(); len]);
        }
        queue.order();
        queue
    }

    fn lens(queue: &Outgoing, gso: Offload) -> Vec<usize> {
        runs(&queue.queued, gso).0.iter().map(|run| run.segments).collect()
    }

    #[test]
    fn equal_datagrams_of_one_destination_are_one_run_with_a_shorter_last() {
        let queue = queue(&[(1, 1200), (2, 900), (1, 1200), (1, 300), (1, 300)]);
        assert_eq!(lens(&queue, Offload::On), [3, 1, 1]);
        assert_eq!(lens(&queue, Offload::Off), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_larger_datagram_begins_a_run_of_its_own() {
        assert_eq!(lens(&queue(&[(1, 100), (1, 1200), (1, 1200)]), Offload::On), [1, 2]);
    }

    #[test]
    fn a_run_has_no_more_segments_and_bytes_than_the_kernel_takes() {
        assert_eq!(lens(&queue(&vec![(1, 100); 70]), Offload::On), [64, 6]);
        assert_eq!(lens(&queue(&vec![(1, 1280); 60]), Offload::On), [50, 10]);
    }
}
