//! The last hop of packets inside a connection: everything received leaves the library here, and everything sent passes.
//!
//! It is an interceptor, the only place where `rtc` shows decrypted packets with their reports before it routes them by rules
//! that do not fit a forwarder (compound reports go by their first destination; unbound SSRCs are dropped). What comes is found
//! by `streams` and watched by [`Receiving`], which drives the library's parts for negative acknowledgements, receiver reports and
//! transport-wide feedback; pictures that others ask for again come from `repairs`, and sound from the library's own part. There is no
//! sender report generator: the publisher's reports are forwarded, since made-up ones would tear its sound and its picture apart.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{
    Attribute, AttributedPacket, Interceptor, NackResponderBuilder, NackResponderInterceptor,
    Packet as Library, StreamInfo, TaggedPacket,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use super::allowance::Verdict;
use super::exchange::{Exchange, Inbound};
use super::limit;
use super::numbering::Numbering;
use super::padding::{Padding, Sent};
use super::receiving::{Receiving, pass};
use super::streams::Found;
use super::translate::{asked_again, each_once, nack, read, read_feedback, read_report};
use super::window::Came;

/// Sent packets kept of a picture that has no stream for retransmissions. Each place is 112 bytes of a subscriber's memory, used
/// or not, beside what `repairs` share.
const SENT_PACKETS: u16 = 512;
/// The same of sound: 1.3 s of the usual 20 ms, in 7 KB.
const SENT_SOUNDS: u16 = 64;

/// Packets that one datagram may ask for: as many as are kept of a stream. Any more are asked for again if need be.
const ASKED_MAX: usize = 512;

/// The interceptor itself.
pub(super) struct MediaTap {
    exchange: Exchange,
    /// Repeats pictures that have no stream for it.
    responder: NackResponderInterceptor,
    /// The same for sound, which has fewer packets and repeats them under their own SSRC.
    sound_responder: NackResponderInterceptor,
    receiving: Receiving,
    numbering: Numbering,
    out: VecDeque<TaggedPacket>,
}

impl MediaTap {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            responder: NackResponderBuilder::new().with_size(SENT_PACKETS).build(),
            sound_responder: NackResponderBuilder::new().with_size(SENT_SOUNDS).build(),
            receiving: Receiving::new(),
            numbering: Numbering::default(),
            out: VecDeque::new(),
        }
    }

    fn on_rtp(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let TaggedPacket { now, message: attributed, .. } = message;
        let Library::Rtp(packet) = attributed.packet else { return Ok(()) };
        let mut shared = self.exchange.lock();
        for ssrc in shared.streams.gone.drain(..) {
            self.receiving.forget(ssrc);
        }
        let bytes = packet.header.marshal_size() + packet.payload.len();
        let found = shared.streams.find(read(packet));
        if let Found::Media(stream, _, Came::First) = &found {
            self.receiving.bind(stream);
        }
        if let Found::Media(stream, ..) | Found::Padding(stream, _) = &found
            && shared.verdict(now, stream, bytes) == limit::Verdict::Over
        {
            let ssrc = stream.ssrc;
            let Found::Media(_, packet, _) = &found else {
                // Its number is of the stream of retransmissions, which nobody asks for.
                shared.tell(Inbound::OverLimit { ssrc, sequence: None });
                return Ok(());
            };
            shared.tell(Inbound::OverLimit { ssrc, sequence: Some(packet.sequence) });
            return self.receiving.withheld(now, packet);
        }
        match found {
            Found::Media(stream, packet, came) => {
                self.receiving.media(now, &stream, &packet, came)?;
                if came != Came::Again {
                    shared.tell(Inbound::Media(stream, packet));
                }
                Ok(())
            }
            Found::Padding(_, packet) => self.receiving.filled(now, &packet),
            Found::Nothing => Ok(()),
        }
    }

    fn on_rtcp(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        let (now, mut left) = (message.now, ASKED_MAX);
        if let Library::Rtcp(packets) = &mut message.message.packet {
            for packet in packets {
                let mut shared = self.exchange.lock();
                read_feedback(now, packet.as_any(), &mut shared.estimator);
                shared.asked_again += asked_again(packet.as_any());
                read_report(packet.as_any()).into_iter().for_each(|inbound| shared.tell(inbound));
                drop(shared);
                let Some(request) = packet.as_any().downcast_ref() else { continue };
                let request = each_once(request, left);
                left -= request.nacks.iter().flat_map(|pair| pair.into_iter()).count();
                self.repair(now, &request);
                *packet = Box::new(request);
            }
        }
        let message = self.receiving.rtcp(message)?;
        let message = pass(&mut self.responder, message)?;
        pass(&mut self.sound_responder, message)?;
        self.repeat();
        Ok(())
    }

    /// Numbers what leaves, and counts it.
    fn number(&mut self, message: &mut TaggedPacket) {
        let repairs = message.message.has(&Attribute::Retransmission);
        let Library::Rtp(packet) = &mut message.message.packet else { return };
        let shared = &mut *self.exchange.lock();
        if let Some(number) = self.numbering.borne(&packet.header) {
            shared.estimator.sent_again(number);
        }
        let number = self.numbering.number(&mut packet.header);
        let bytes = packet.header.marshal_size() + packet.payload.len();
        shared.estimator.sent(message.now, number, bytes);
        if !repairs {
            shared.allowance.media(message.now, shared.estimator.bps(), bytes);
        }
        if let Some(padding) = &mut shared.padding {
            padding.sent(bytes);
        }
        if self.numbering.is_repaired(packet.header.ssrc) {
            let (ssrc, sequence) = (packet.header.ssrc, packet.header.sequence_number);
            shared.newest = Some(Sent { ssrc, sequence, bytes });
        }
    }

    /// Sends again what the responders repeat, unless it is too much.
    fn repeat(&mut self) {
        while let Some(message) = self.responder.poll_write().or_else(|| self.sound_responder.poll_write()) {
            let Library::Rtp(packet) = &message.message.packet else { continue };
            if self.exchange.lock().may_repeat(message.now, packet.payload.len()) == Verdict::Send {
                self.send_again(message);
            }
        }
    }

    /// Sends again what has a stream for it, unless it is too much.
    fn repair(&mut self, now: Instant, request: &TransportLayerNack) {
        let packets = {
            let shared = &mut *self.exchange.lock();
            let (allowance, bps) = (&mut shared.allowance, shared.estimator.bps());
            shared.repairs.asked(request, &mut |bytes| allowance.take(now, bps, bytes))
        };
        self.send_all(now, packets);
    }

    fn send_all(&mut self, now: Instant, packets: Vec<rtp::Packet>) {
        for packet in packets {
            let message = AttributedPacket::new(Library::Rtp(packet)).with(Attribute::Retransmission);
            self.send_again(TaggedPacket { now, transport: TransportContext::default(), message });
        }
    }

    fn send_again(&mut self, mut message: TaggedPacket) {
        self.number(&mut message);
        self.out.push_back(message);
    }

    /// Repeats recent packets as their receiver could have asked for them: as many as the probe says.
    fn pad(&mut self, now: Instant) {
        let packets = {
            let shared = &mut *self.exchange.lock();
            let due = shared.padding.as_mut().and_then(|padding| padding.due(now));
            shared.padding.take_if(|padding| padding.is_over(now));
            due.map(|request| shared.repairs.asked(&request, &mut |_| Verdict::Send))
        };
        self.send_all(now, packets.unwrap_or_default());
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for MediaTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        match &message.message.packet {
            Library::Rtp(_) => self.on_rtp(message),
            Library::Rtcp(_) => self.on_rtcp(message),
            _ => Ok(()),
        }
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        None
    }

    fn handle_write(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        let Library::Rtp(packet) = &message.message.packet else {
            self.out.push_back(message);
            return Ok(());
        };
        let ssrc = packet.header.ssrc;
        // Numbered before it is kept: what is sent again under its own SSRC must be the same to the last bit, since its nonce is
        // (RFC 7714, section 8.2).
        self.number(&mut message);
        if self.exchange.lock().repairs.has(ssrc) {
            self.out.push_back(message);
            return Ok(());
        }
        self.responder.handle_write(message)?;
        if let Some(message) = self.responder.poll_write() {
            self.sound_responder.handle_write(message)?;
        }
        self.out.extend(self.sound_responder.poll_write());
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.out.pop_front().or_else(|| self.receiving.poll())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.pad(now);
        self.receiving.timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let padding = self.exchange.lock().padding.as_ref().map(Padding::next);
        self.receiving.next_timeout().into_iter().chain(padding).min()
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("audio/") {
            // A client may ask without having said so: browsers do when our offer says that they may.
            let info = StreamInfo { rtcp_feedback: vec![nack()], ..info.clone() };
            self.sound_responder.bind_local_stream(&info);
        } else if !self.exchange.lock().repairs.bind(info) {
            self.responder.bind_local_stream(info);
        }
        self.numbering.bind(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.sound_responder.unbind_local_stream(info);
        self.responder.unbind_local_stream(info);
        self.exchange.lock().repairs.unbind(info);
        self.numbering.unbind(info);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests;
