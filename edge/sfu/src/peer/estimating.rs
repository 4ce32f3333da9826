//! How much may be sent over a connection, as those above ask it. It must not know what is sent.

use std::time::Instant;

use crate::estimate;
use crate::quality::Receipt;

use super::{Peer, Touched};

/// Where the estimate of what may be sent begins and ends. It begins where a camera of 640 lines fits: a call that begins blurred
/// on every good line is worse than half a second of queue on a bad one. 50 kbit/s is sound with its headers, 20 Mbit/s nine screens.
pub(super) const ESTIMATE: estimate::Limits =
    estimate::Limits { least_bps: 50_000, start_bps: 1_000_000, most_bps: 20_000_000 };

impl Peer {
    /// Packets that the client has asked for again so far.
    pub(crate) fn asked_again(&self) -> u64 {
        self.exchange.asked_again()
    }

    /// Bits a second that may be sent to the client.
    pub(crate) fn estimate_bps(&self, now: Instant) -> u64 {
        self.exchange.estimate(|estimator| {
            if estimator.poll_timeout().is_some_and(|at| at <= now) {
                estimator.timeout(now);
            }
            estimator.bps()
        })
    }

    /// Whether the way to the client shows that it carries less than is sent.
    pub(crate) fn strain(&self, now: Instant) -> estimate::Strain {
        self.exchange.estimate(|estimator| estimator.strain(now))
    }

    /// The way to the client is new: what was learned of the old one, and what it lost while it ended, says nothing of it.
    pub(crate) fn begin_estimate(&self, now: Instant) {
        self.exchange.estimate(|estimator| *estimator = estimate::Estimator::new(now, ESTIMATE));
    }

    /// The client has told how one of our streams arrives.
    pub(crate) fn note_receipt(&mut self, now: Instant, receipt: Receipt) {
        let Receipt { expected, lost, round_trip: Some(round_trip) } = receipt else { return };
        let count = |packets: u64| u32::try_from(packets).unwrap_or(u32::MAX);
        self.exchange.estimate(|estimator| {
            estimator.receiver_report(now, count(expected), count(lost), round_trip);
        });
    }

    /// So much could be sent if there was room: looks for it now and then.
    pub(crate) fn probe(&mut self, now: Instant, wanted_bps: u64) {
        self.exchange.probe(now, wanted_bps);
        self.touched = Touched::Yes;
    }
}
