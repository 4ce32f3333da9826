//! When somebody has to be woken: a heap, so that a peer or a room with nothing to do costs nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// One wake-up per key. An entry of the heap that is not the key's present one is stale and skipped.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
    wakes: HashMap<K, Instant>,
}

impl<K> Default for Timers<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), wakes: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Timers<K> {
    /// Wakes it at `at` or before. A later wish does not move an earlier wake-up: it then asks again, which costs
    /// less than an entry in the heap per packet.
    pub(crate) fn wake(&mut self, key: &K, at: Instant) {
        if self.wakes.get(key).is_some_and(|planned| *planned <= at) {
            return;
        }
        self.wakes.insert(key.clone(), at);
        self.heap.push(Reverse((at, key.clone())));
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, key: &K) {
        self.wakes.remove(key);
        self.skip_stale();
        if self.wakes.is_empty() {
            self.heap = BinaryHeap::new();
        }
    }

    /// The next wake-up of anybody.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        self.skip_stale();
        if self.next()? > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.wakes.remove(&key);
        self.skip_stale();
        Some(key)
    }

    fn skip_stale(&mut self) {
        while let Some(Reverse((at, key))) = self.heap.peek()
            && self.wakes.get(key) != Some(at)
        {
            self.heap.pop();
        }
    }

    /// Those that wait and entries of the heap: zero when nobody is there.
    pub(crate) fn len(&self) -> usize {
        self.wakes.len() + self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::PeerId;

    #[test]
    fn peers_wake_in_order_and_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.wake(&PeerId(1), at(3));
        timers.wake(&PeerId(2), at(2));
        timers.wake(&PeerId(1), at(1));
        timers.wake(&PeerId(1), at(5));
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
        timers.wake(&PeerId(1), Instant::now());
        timers.remove(&PeerId(1));
        assert_eq!((timers.next(), timers.len()), (None, 0));
    }
}
