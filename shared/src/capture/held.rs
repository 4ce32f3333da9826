//! What is known of a track's past: gathered while it is written, restated at the start of each segment, found again after a
//! restart.
//!
//! This file must not know files or who waits.

use super::batch::{Batch, Flow};
use super::format::Mark;
use super::index::Slot;
use crate::chunk::Ranges;

/// What is known of a track's past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) ranges: Ranges,
    pub(super) bytes: u64,
    pub(super) arrivals_us: Option<(i64, i64)>,
    pub(super) last_sequence: Option<u32>,
    pub(super) mime: Option<String>,
    pub(super) flow: Flow,
}

impl Held {
    pub(super) fn add(&mut self, sequence: u32, slot: &Slot) {
        self.add_chunk(sequence, slot.size, slot.arrival_us);
    }

    /// A chunk, which must not have been added before.
    pub(super) fn add_chunk(&mut self, sequence: u32, size: u32, arrival_us: i64) {
        self.ranges.insert(sequence);
        self.bytes += u64::from(size);
        self.arrived(arrival_us);
    }

    pub(super) fn add_batch(&mut self, batch: &Batch) {
        self.flow.add(batch);
        self.bytes += batch.packet_bytes();
        if let Some((first, last)) = batch.arrivals_us().filter(|_| batch.packets() > 0) {
            self.arrived(first);
            self.arrived(last);
        }
    }

    /// Takes over what the last segments say of all that stands before them.
    pub(super) fn take_over(&mut self, last: &Self) {
        self.last_sequence = last.last_sequence;
        self.mime.clone_from(&last.mime);
        if last.flow.packets > 0 {
            self.flow.clone_from(&last.flow);
            self.bytes = last.bytes;
            self.arrivals_us = last.arrivals_us;
        }
    }

    /// What a new segment of a server track repeats.
    pub(super) fn restated(&self) -> Vec<Mark> {
        let totals = self.arrivals_us.filter(|_| self.flow.packets > 0).map(|(first_us, _)| Mark::Totals {
            packets: self.flow.packets,
            bytes: self.bytes,
            first_us,
        });
        totals.into_iter().chain(self.flow.restated()).collect()
    }

    /// A mark that was found in the log, after what stands before it.
    pub(super) fn add_mark(&mut self, mark: Mark, arrival_us: i64) {
        match mark {
            Mark::Complete { last_sequence } => self.last_sequence = Some(last_sequence),
            Mark::Mime(mime) => self.mime = Some(mime),
            Mark::Totals { packets, bytes, first_us } => {
                (self.flow.packets, self.bytes) = (packets, bytes);
                self.arrived(first_us);
                self.arrived(arrival_us);
            }
            other => self.flow.note(&other),
        }
    }

    /// A packet that was found in the log.
    pub(super) fn add_packet(&mut self, arrival_us: i64, bytes: u64) {
        self.flow.packets += 1;
        self.bytes += bytes;
        self.arrived(arrival_us);
    }

    /// Something came at this time.
    pub(super) fn arrived(&mut self, arrival_us: i64) {
        let (first, last) = self.arrivals_us.unwrap_or((arrival_us, arrival_us));
        self.arrivals_us = Some((first.min(arrival_us), last.max(arrival_us)));
    }
}
