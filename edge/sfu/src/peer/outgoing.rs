//! Media of one connection on their way out: numbered, counted, kept for receivers that ask for a packet again; and what is sent again.
//!
//! It must not know how packets are encrypted, or which way they take: `outlet` and `sending` do.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use rtc::interceptor::{
    Interceptor, NackResponderBuilder, NackResponderInterceptor, Packet as Library, StreamInfo, TaggedPacket,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use crate::estimate::Estimator;
use crate::leg::picture::Patch;
use crate::packet::Packet;

use super::allowance::{Allowance, Verdict};
use super::estimating::ESTIMATE;
use super::numbering::Numbering;
use super::padding::{Padding, Sent};
use super::receiving::pass;
use super::repairs::Repairs;
use super::translate::{self, nack};

/// Sent packets kept of a picture that has no stream for retransmissions. Each place is 112 bytes of a subscriber's memory, used
/// or not, beside what `repairs` share.
const SENT_PACKETS: u16 = 512;
/// The same of sound: 1.3 s of the usual 20 ms, in 7 KB.
const SENT_SOUNDS: u16 = 64;

/// What leaves one connection.
pub(super) struct Outgoing {
    /// How much may be sent: it sees every packet that leaves, retransmissions included.
    pub(super) estimator: Estimator,
    numbering: Numbering,
    repairs: Repairs,
    /// Repeats pictures that have no stream for it.
    responder: NackResponderInterceptor,
    /// The same for sound, which has fewer packets and repeats them under their own SSRC.
    sound_responder: NackResponderInterceptor,
    allowance: Allowance,
    /// The last packet of a picture, and what is sent beyond media at the moment.
    newest: Option<Sent>,
    padding: Option<Padding>,
    /// Packets that the client has asked for again.
    pub(super) asked_again: u64,
    /// Packets that are sent again with the next flush.
    again: VecDeque<rtp::Packet>,
}

/// A packet as it is encrypted: the change is to be made to the payload.
pub(super) struct Leaving {
    pub(super) header: rtp::Header,
    pub(super) payload: Bytes,
    pub(super) patch: Patch,
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
            responder: NackResponderBuilder::new().with_size(SENT_PACKETS).build(),
            sound_responder: NackResponderBuilder::new().with_size(SENT_SOUNDS).build(),
            allowance: Allowance::new(now),
            newest: None,
            padding: None,
            asked_again: 0,
            again: VecDeque::new(),
        }
    }

    /// A stream of ours was agreed on.
    pub(super) fn bind(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("audio/") {
            // A client may ask without having said so: browsers do when our offer says that they may.
            let info = StreamInfo { rtcp_feedback: vec![nack()], ..info.clone() };
            self.sound_responder.bind_local_stream(&info);
        } else if !self.repairs.bind(info) {
            self.responder.bind_local_stream(info);
        }
        self.numbering.bind(info);
    }

    /// A stream of ours is no more.
    pub(super) fn unbind(&mut self, info: &StreamInfo) {
        self.sound_responder.unbind_local_stream(info);
        self.responder.unbind_local_stream(info);
        self.repairs.unbind(info);
        self.numbering.unbind(info);
    }

    /// A packet of media leaves.
    pub(super) fn media(&mut self, now: Instant, packet: Packet, patch: Patch) -> Leaving {
        self.repairs.keep(&packet, patch);
        let rtp::Packet { mut header, payload } = translate::write(packet);
        // Numbered before it is kept: what is sent again under its own SSRC must be the same to the last bit, since its nonce is
        // (RFC 7714, section 8.2).
        self.number(now, &mut header, payload.len(), Time::First);
        if !self.repairs.has(header.ssrc) {
            self.keep_whole(now, &header, translate::patched(&payload, patch));
        }
        Leaving { header, payload, patch }
    }

    /// The next packet that is sent again.
    pub(super) fn again(&mut self, now: Instant) -> Option<Leaving> {
        let rtp::Packet { mut header, payload } = self.again.pop_front()?;
        self.number(now, &mut header, payload.len(), Time::Again);
        Some(Leaving { header, payload, patch: Patch::default() })
    }

    /// Keeps a packet of a stream that has no other for retransmissions.
    fn keep_whole(&mut self, now: Instant, header: &rtp::Header, payload: Bytes) {
        let mut message = Some(tag(now, rtp::Packet { header: header.clone(), payload }));
        for part in [&mut self.responder, &mut self.sound_responder] {
            let Some(packet) = message.take() else { return };
            if let Err(error) = part.handle_write(packet) {
                tracing::debug!("packet not kept: {error}");
            }
            message = part.poll_write();
        }
    }

    /// The client asks for packets of streams that have another for it, each once and as many as it may.
    pub(super) fn asked(&mut self, now: Instant, request: &TransportLayerNack) {
        let (allowance, bps) = (&mut self.allowance, self.estimator.bps());
        self.again.extend(self.repairs.asked(request, &mut |bytes| allowance.take(now, bps, bytes)));
    }

    /// Shows reports to the responders for all other streams.
    pub(super) fn reports(&mut self, mut message: Option<TaggedPacket>) -> Result<(), Error> {
        let Some(now) = message.as_ref().map(|message| message.now) else { return Ok(()) };
        for part in [&mut self.responder, &mut self.sound_responder] {
            message = pass(part, message)?;
            while let Some(sent) = part.poll_write() {
                let Library::Rtp(packet) = sent.message.packet else { continue };
                let bps = self.estimator.bps();
                if self.allowance.take(now, bps, packet.payload.len()) == Verdict::Send {
                    self.again.push_back(packet);
                }
            }
        }
        Ok(())
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
    fn number(&mut self, now: Instant, header: &mut rtp::Header, payload_bytes: usize, time: Time) {
        if let Some(number) = self.numbering.borne(header) {
            self.estimator.sent_again(number);
        }
        let number = self.numbering.number(header);
        let bytes = header.marshal_size() + payload_bytes;
        self.estimator.sent(now, number, bytes);
        if time == Time::First {
            self.allowance.media(now, self.estimator.bps(), bytes);
        }
        if let Some(padding) = &mut self.padding {
            padding.sent(bytes);
        }
        if self.numbering.is_repaired(header.ssrc) {
            self.newest = Some(Sent { ssrc: header.ssrc, sequence: header.sequence_number, bytes });
        }
    }
}

fn tag(now: Instant, packet: rtp::Packet) -> TaggedPacket {
    TaggedPacket { now, transport: Default::default(), message: Library::Rtp(packet).into() }
}
