//! Puts one SSRC's packets into the order in which they were sent, once each, and says what never came.
//!
//! Holds packets only behind a hole, and no longer than a hole can still be filled.

use std::collections::BTreeMap;

use super::unwrap::Position;

/// How long a hole is waited for by arrivals: browsers answer NACKs for a second or two, and queues on the way hold a few
/// seconds more.
pub(super) const WINDOW_US: i64 = 10_000_000;

/// Bytes held behind holes at most: the window at 25 Mbit/s.
const MAX_HELD_BYTES: usize = 32 * 1024 * 1024;

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) at: Position,
    pub(super) arrival_us: i64,
    pub(super) bytes: Vec<u8>,
}

/// What comes next in a stream.
#[derive(Debug)]
pub(super) enum Next {
    /// The packet.
    Packet(Held),
    /// So many packets that never came.
    Lost(u64),
}

/// One SSRC's packets.
#[derive(Debug)]
pub(super) struct Reorder {
    held: BTreeMap<i64, Held>,
    bytes: usize,
    next: i64,
}

impl Reorder {
    /// Packets from this sequence on.
    pub(super) fn new(first: i64) -> Self {
        Self { held: BTreeMap::new(), bytes: 0, next: first }
    }

    /// Takes a packet; one that is here already, or whose place has been passed, is dropped.
    pub(super) fn push(&mut self, packet: Held) {
        let sequence = packet.at.sequence;
        if sequence >= self.next && !self.held.contains_key(&sequence) {
            self.bytes += packet.bytes.len();
            self.held.insert(sequence, packet);
        }
    }

    /// The next in order; `None` while a hole may still be filled at `now_us`.
    pub(super) fn pop(&mut self, now_us: i64) -> Option<Next> {
        let (&sequence, first) = self.held.first_key_value()?;
        if sequence > self.next {
            let waited = now_us.saturating_sub(first.arrival_us) > WINDOW_US;
            if !waited && self.bytes <= MAX_HELD_BYTES {
                return None;
            }
            let lost = sequence.abs_diff(self.next);
            self.next = sequence;
            return Some(Next::Lost(lost));
        }
        self.next = sequence + 1;
        let (_, packet) = self.held.pop_first()?;
        self.bytes -= packet.bytes.len();
        Some(Next::Packet(packet))
    }

    /// The packet that is waited behind, when there is one.
    pub(super) fn first(&self) -> Option<&Held> {
        self.held.first_key_value().map(|(_, held)| held)
    }
}
