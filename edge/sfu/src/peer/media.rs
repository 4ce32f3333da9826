//! The first hop of packets inside a connection: everything received leaves the library here. Of what is sent, reports alone pass; media have
//! an outlet of their own.
//!
//! It is an interceptor, the only place where `rtc` shows decrypted packets with their reports before it routes them by rules
//! that do not fit a forwarder (compound reports go by their first destination; unbound SSRCs are dropped). What comes is found
//! by `streams` and watched by [`Receiving`], which drives the library's parts for negative acknowledgements, receiver reports and
//! transport-wide feedback. There is no sender report generator: the publisher's reports are forwarded, since made-up ones would tear its
//! sound and its picture apart.

use std::collections::VecDeque;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet as Library, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use super::exchange::{Exchange, Inbound};
use super::limit;
use super::receiving::Receiving;
use super::streams::Found;
use super::translate::{asked_again, each_once, read, read_feedback, read_report};
use super::window::Came;

/// Packets that one datagram may ask for: as many as are kept of a stream. Any more are asked for again if need be.
const ASKED_MAX: usize = 512;

/// The interceptor itself.
pub(super) struct MediaTap {
    exchange: Exchange,
    receiving: Receiving,
    /// Reports on their way out.
    out: VecDeque<TaggedPacket>,
}

impl MediaTap {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self { exchange, receiving: Receiving::new(), out: VecDeque::new() }
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

    fn on_rtcp(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let (now, mut left) = (message.now, ASKED_MAX);
        let mut shared = self.exchange.lock();
        if let Library::Rtcp(packets) = &message.message.packet {
            for packet in packets {
                read_feedback(now, packet.as_any(), &mut shared.outgoing.estimator);
                shared.outgoing.asked_again += asked_again(packet.as_any());
                read_report(packet.as_any()).into_iter().for_each(|inbound| shared.tell(inbound));
                let Some(request) = packet.as_any().downcast_ref() else { continue };
                let request = each_once(request, left);
                left -= request.nacks.iter().flat_map(|pair| pair.into_iter()).count();
                shared.outgoing.asked(now, &request);
            }
        }
        drop(shared);
        self.receiving.rtcp(message).map(drop)
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

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.out.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.out.pop_front().or_else(|| self.receiving.poll())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.exchange.lock().outgoing.pad(now);
        self.receiving.timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let padding = self.exchange.lock().outgoing.next_padding();
        self.receiving.next_timeout().into_iter().chain(padding).min()
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.exchange.lock().outgoing.bind(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.exchange.lock().outgoing.unbind(info);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests;
