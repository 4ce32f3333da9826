//! What a connection and its last hop of packets share: what was received and waits for the shard, and what rules over how much may
//! come and leave. It must not know how packets come or leave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::Limits;
use crate::estimate::Estimator;
use crate::leg::picture::Patch;
use crate::packet::Packet;
use crate::quality::ReportBlock;

use super::allowance::{Allowance, Verdict};
use super::estimating::ESTIMATE;
use super::limit::{self, Buckets};
use super::padding::{Padding, Sent};
use super::repairs::Repairs;
use super::sdp::Section;
use super::streams::{Stream, Streams};

/// Packets and reports that wait for the shard, which takes them after every datagram; only a compound of many reports makes
/// more than one.
const MAX_INBOX: usize = 256;
/// What a connection has received.
#[derive(Debug)]
pub(crate) enum Inbound {
    Media(Arc<Stream>, Packet),
    /// A packet came that was more than its sender may send. It counts as lost on the way.
    OverLimit {
        ssrc: u32,
        /// Its number in the stream; padding beside the stream has none.
        sequence: Option<u16>,
    },
    SenderReport {
        ssrc: u32,
        ntp: u64,
        rtp: u32,
    },
    /// How one of our streams arrives there.
    Receipt {
        ssrc: u32,
        block: ReportBlock,
    },
    /// A keyframe of one of our streams is needed.
    KeyframeWanted {
        ssrc: u32,
    },
}

/// What the connection and its interceptor share. Both are driven by one thread: the lock is never waited for.
#[derive(Debug, Clone)]
pub(super) struct Exchange(Arc<Mutex<Shared>>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) streams: Streams,
    inbox: VecDeque<Inbound>,
    /// What may still come.
    buckets: Buckets,
    /// How much may be sent: it sees every packet that leaves, retransmissions included.
    pub(super) estimator: Estimator,
    /// The last packet of a picture, and what is sent beyond media at the moment.
    pub(super) newest: Option<Sent>,
    pub(super) padding: Option<Padding>,
    pub(super) allowance: Allowance,
    /// Packets that the client has asked for again.
    pub(super) asked_again: u64,
    pub(super) repairs: Repairs,
}

impl Exchange {
    pub(super) fn new(now: Instant, limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            streams: Streams::default(),
            inbox: VecDeque::new(),
            buckets: Buckets::new(now, limits),
            estimator: Estimator::new(now, ESTIMATE),
            newest: None,
            padding: None,
            allowance: Allowance::new(now),
            asked_again: 0,
            repairs: Repairs::default(),
        })))
    }

    /// Uses the estimate of what may be sent.
    pub(super) fn estimate<T>(&self, uses: impl FnOnce(&mut Estimator) -> T) -> T {
        uses(&mut self.lock().estimator)
    }

    /// Sends more than media for a moment if that could find room for `wanted_bps`.
    pub(super) fn probe(&self, now: Instant, wanted_bps: u64) {
        let shared = &mut *self.lock();
        let Some(newest) = shared.newest else { return };
        if let Some(probe) = shared.estimator.probe(now, wanted_bps) {
            shared.padding = Some(Padding::new(now, probe, newest));
        }
    }

    /// Packets that the client has asked for again so far.
    pub(super) fn asked_again(&self) -> u64 {
        self.lock().asked_again
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both sides have agreed.
    pub(super) fn agree(&self, sections: Vec<Section>) {
        let mut shared = self.lock();
        shared.buckets.retain(|mid| sections.iter().any(|section| section.mid == *mid));
        shared.streams.agree(sections);
    }

    /// Keeps a packet that leaves, for receivers that ask for it again.
    pub(super) fn keep(&self, packet: &Packet, patch: Patch) {
        self.lock().repairs.keep(packet, patch);
    }

    /// The next thing received.
    pub(super) fn poll(&self) -> Option<Inbound> {
        self.lock().inbox.pop_front()
    }
}

impl Shared {
    pub(super) fn tell(&mut self, inbound: Inbound) {
        if self.inbox.len() < MAX_INBOX {
            self.inbox.push_back(inbound);
        }
    }

    /// Whether so much may be sent again.
    pub(super) fn may_repeat(&mut self, now: Instant, bytes: usize) -> Verdict {
        self.allowance.take(now, self.estimator.bps(), bytes)
    }

    /// Whether so much more may come on a stream's section.
    pub(super) fn verdict(&mut self, now: Instant, stream: &Stream, bytes: usize) -> limit::Verdict {
        let is_sound = stream.codec.mime.starts_with("audio/");
        self.buckets.take(now, &stream.mid, is_sound, bytes)
    }
}
