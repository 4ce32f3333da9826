//! When somebody has to be woken: in order, so that a peer or a room with nothing to do costs nothing.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// One wake-up per key.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    order: BTreeSet<(Instant, K)>,
    wakes: HashMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), wakes: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Timers<K> {
    /// Wakes it at `at` or before. A later wish does not move an earlier wake-up: it then asks again, which costs
    /// less than to move it with every packet.
    pub(crate) fn wake(&mut self, key: &K, at: Instant) {
        if self.wakes.get(key).is_some_and(|planned| *planned <= at) {
            return;
        }
        self.remove(key);
        self.wakes.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    /// Forgets one.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((key, at)) = self.wakes.remove_entry(key) {
            self.order.remove(&(at, key));
        }
    }

    /// The next wake-up of anybody.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.wakes.remove(&key);
        Some(key)
    }

    /// Those that wait: zero when nobody is there.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
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
        assert_eq!(timers.len(), 2);
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
