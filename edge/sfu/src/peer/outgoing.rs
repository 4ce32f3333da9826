//! Media of one connection on their way out: numbered, counted, kept for receivers that ask for a packet again; and what is sent again.
//!
//! It must not know how packets are encrypted, or which way they take: `outlet` and `sending` do.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::StreamInfo;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use crate::estimate::Estimator;
use crate::leg::picture::Patch;
use crate::packet::Packet;

use super::allowance::{Allowance, Verdict};
use super::estimating::ESTIMATE;
use super::numbering::{Numbered, Numbering};
use super::padding::{Padding, Sent};
use super::repairs::Repairs;

/// What leaves one connection.
pub(super) struct Outgoing {
    /// How much may be sent: it sees every packet that leaves, retransmissions included.
    pub(super) estimator: Estimator,
    numbering: Numbering,
    repairs: Repairs,
    allowance: Allowance,
    /// The last packet of a picture, and what is sent beyond media at the moment.
    newest: Option<Sent>,
    padding: Option<Padding>,
    /// Packets that the client has asked for again.
    pub(super) asked_again: u64,
    /// Packets that are sent again with the next flush.
    again: VecDeque<(Packet, Patch)>,
}

/// Whether a packet is sent for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    First,
    Again,
}

impl Outgoing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            estimator: Estimator::new(now, ESTIMATE),
            numbering: Numbering::default(),
            repairs: Repairs::default(),
            allowance: Allowance::new(now),
            newest: None,
            padding: None,
            asked_again: 0,
            again: VecDeque::new(),
        }
    }

    /// A stream of ours was agreed on.
    pub(super) fn bind(&mut self, info: &StreamInfo) {
        self.repairs.bind(info);
        self.numbering.bind(info);
    }

    /// A stream of ours is no more.
    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        self.repairs.unbind(info);
        self.numbering.unbind(info);
    }

    /// A packet of media leaves.
    pub(super) fn media(&mut self, now: Instant, packet: &mut Packet, patch: Patch) {
        // Numbered before it is kept: what is sent again under its own SSRC must be the same to the last bit, since its nonce is
        // (RFC 7714, section 8.2).
        self.number(now, packet, Time::First);
        self.repairs.keep(packet, patch);
    }

    /// The next packet that is sent again, and what is to be changed in it.
    pub(super) fn again(&mut self, now: Instant) -> Option<(Packet, Patch)> {
        let (mut packet, patch) = self.again.pop_front()?;
        self.number(now, &mut packet, Time::Again);
        Some((packet, patch))
    }

    /// The client asks for packets again: it gets as many as it may.
    pub(super) fn asked(&mut self, now: Instant, request: &TransportLayerNack) {
        let (allowance, bps) = (&mut self.allowance, self.estimator.bps());
        self.again.extend(self.repairs.asked(request, &mut |bytes| allowance.take(now, bps, bytes)));
    }

    /// Sends more than media for a moment if that could find room for `wanted_bps`.
    pub(super) fn probe(&mut self, now: Instant, wanted_bps: u64) {
        let Some(newest) = self.newest else { return };
        if let Some(probe) = self.estimator.probe(now, wanted_bps) {
            self.padding = Some(Padding::new(now, probe, newest));
        }
    }

    /// Repeats recent packets as their receiver could have asked for them: as many as the probe says.
    pub(super) fn pad(&mut self, now: Instant) {
        let due = self.padding.as_mut().and_then(|padding| padding.due(now));
        self.padding.take_if(|padding| padding.is_over(now));
        let packets = due.map(|request| self.repairs.asked(&request, &mut |_| Verdict::Send));
        self.again.extend(packets.unwrap_or_default());
    }

    /// When to call [`Self::pad`].
    pub(super) fn next_padding(&self) -> Option<Instant> {
        self.padding.as_ref().map(Padding::next)
    }

    /// Numbers what leaves, and counts it.
    fn number(&mut self, now: Instant, packet: &mut Packet, time: Time) {
        let number = match self.numbering.number(packet) {
            Numbered::Now(number) => Some(number),
            Numbered::Before(number) => {
                self.estimator.sent_again(number);
                None
            }
            Numbered::Not => None,
        };
        let bytes = packet.size();
        self.estimator.sent(now, number, bytes);
        if time == Time::First {
            self.allowance.media(now, self.estimator.bps(), bytes);
        }
        if let Some(padding) = &mut self.padding {
            padding.sent(bytes);
        }
        if self.numbering.is_repaired(packet.ssrc) {
            self.newest = Some(Sent { ssrc: packet.ssrc, sequence: packet.sequence, bytes });
        }
    }
}
