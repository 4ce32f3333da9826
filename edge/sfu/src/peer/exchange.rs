//! What a connection and its last hop of packets share: what was received and waits for the shard, and what rules over how much may
//! come and leave. It must not know how packets come or leave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::Limits;
use crate::estimate::Estimator;
use crate::packet::Packet;
use crate::quality::ReportBlock;

use super::limit::{self, Buckets};
use super::outgoing::Outgoing;
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
#[derive(Clone)]
pub(super) struct Exchange(Arc<Mutex<Shared>>);

pub(super) struct Shared {
    pub(super) streams: Streams,
    inbox: VecDeque<Inbound>,
    /// What may still come.
    buckets: Buckets,
    pub(super) outgoing: Outgoing,
}

impl Exchange {
    pub(super) fn new(now: Instant, limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            streams: Streams::default(),
            inbox: VecDeque::new(),
            buckets: Buckets::new(now, limits),
            outgoing: Outgoing::new(now),
        })))
    }

    /// Uses the estimate of what may be sent.
    pub(super) fn estimate<T>(&self, uses: impl FnOnce(&mut Estimator) -> T) -> T {
        uses(&mut self.lock().outgoing.estimator)
    }

    /// Sends more than media for a moment if that could find room for `wanted_bps`.
    pub(super) fn probe(&self, now: Instant, wanted_bps: u64) {
        self.lock().outgoing.probe(now, wanted_bps);
    }

    /// Packets that the client has asked for again so far.
    pub(super) fn asked_again(&self) -> u64 {
        self.lock().outgoing.asked_again
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

    /// Whether so much more may come on a stream's section.
    pub(super) fn verdict(&mut self, now: Instant, stream: &Stream, bytes: usize) -> limit::Verdict {
        let is_sound = stream.codec.mime.starts_with("audio/");
        self.buckets.take(now, &stream.mid, is_sound, bytes)
    }
}
