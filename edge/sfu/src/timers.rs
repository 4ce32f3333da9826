//! When somebody has to be woken: a heap, so that a peer with nothing to do costs nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use crate::ids::PeerId;

/// One wake-up per peer. An entry of the heap that is not the peer's present one is stale and skipped.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, PeerId)>>,
    wakes: HashMap<PeerId, Instant>,
}

impl Timers {
    /// Wakes the peer at `at` or before. A later wish does not move an earlier wake-up: the peer then asks again, which costs
    /// less than an entry in the heap per packet.
    pub(crate) fn wake(&mut self, peer: PeerId, at: Instant) {
        if self.wakes.get(&peer).is_some_and(|planned| *planned <= at) {
            return;
        }
        self.wakes.insert(peer, at);
        self.heap.push(Reverse((at, peer)));
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.wakes.remove(&peer);
        self.skip_stale();
        if self.wakes.is_empty() {
            self.heap = BinaryHeap::new();
        }
    }

    /// The next wake-up of anybody.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a peer whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<PeerId> {
        self.skip_stale();
        let Reverse((at, peer)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        self.wakes.remove(&peer);
        self.skip_stale();
        Some(peer)
    }

    fn skip_stale(&mut self) {
        while let Some(Reverse((at, peer))) = self.heap.peek()
            && self.wakes.get(peer) != Some(at)
        {
            self.heap.pop();
        }
    }

    /// Peers that wait and entries of the heap: zero when nobody is there.
    pub(crate) fn len(&self) -> usize {
        self.wakes.len() + self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn peers_wake_in_order_and_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.wake(PeerId(1), at(3));
        timers.wake(PeerId(2), at(2));
        timers.wake(PeerId(1), at(1));
        timers.wake(PeerId(1), at(5));
        assert_eq!(timers.pop(at(0)), None);
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(at(9)), Some(PeerId(1)));
        assert_eq!(timers.pop(at(9)), Some(PeerId(2)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_removed_peer_leaves_nothing() {
        let mut timers = Timers::default();
        timers.wake(PeerId(1), Instant::now());
        timers.remove(PeerId(1));
        assert_eq!((timers.next(), timers.len()), (None, 0));
    }
}
