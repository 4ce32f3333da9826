//! The last hop of packets inside a connection: everything received leaves the library here, and everything sent passes.
//!
//! It is an interceptor, the only place where `rtc` shows decrypted packets with their reports before it routes them by rules
//! that do not fit a forwarder (compound reports go by their first destination; unbound SSRCs are dropped). It drives the
//! library's own parts for negative acknowledgements, receiver reports and transport-wide feedback, and binds streams to them
//! by [`Streams`]; pictures that others ask for again come from [`Repairs`]. There is no sender report generator: the publisher's reports are forwarded, since made-up ones would tear
//! its sound and its picture apart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rtc::interceptor::{
    Attribute, AttributedPacket, Interceptor, NackResponderBuilder, NackResponderInterceptor,
    Packet as Library, StreamInfo, TaggedPacket,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use crate::config::Limits;
use crate::estimate::Estimator;
use crate::leg::picture::Patch;
use crate::packet::Packet;
use crate::quality::ReportBlock;

use super::allowance::{Allowance, Verdict};
use super::estimating::ESTIMATE;
use super::limit::{self, Buckets};
use super::numbering::Numbering;
use super::padding::{Padding, Sent};
use super::receiving::{Receiving, pass};
use super::repairs::Repairs;
use super::sdp::Section;
use super::streams::{Found, Stream, Streams};
use super::translate::{asked_again, nack, read, read_feedback, read_report};
use super::window::Came;

/// Packets and reports that wait for the shard, which takes them after every datagram; only a compound of many reports makes
/// more than one.
const MAX_INBOX: usize = 256;
/// Sent packets kept of a picture that has no stream for retransmissions. Each place is 112 bytes of a subscriber's memory, used
/// or not, beside what [`Repairs`] share.
const SENT_PACKETS: u16 = 512;
/// The same of sound: 1.3 s of the usual 20 ms, in 7 KB.
const SENT_SOUNDS: u16 = 64;

/// What a connection has received.
#[derive(Debug)]
pub(crate) enum Inbound {
    Media(Arc<Stream>, Packet),
    /// A packet came that was more than its sender may send. It counts as lost on the way.
    OverLimit {
        ssrc: u32,
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
struct Shared {
    streams: Streams,
    inbox: VecDeque<Inbound>,
    /// What may still come.
    buckets: Buckets,
    /// How much may be sent: it sees every packet that leaves, retransmissions included.
    estimator: Estimator,
    /// The last packet of a picture, and what is sent beyond media at the moment.
    newest: Option<Sent>,
    padding: Option<Padding>,
    allowance: Allowance,
    /// Packets that the client has asked for again.
    asked_again: u64,
    repairs: Repairs,
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

    fn lock(&self) -> MutexGuard<'_, Shared> {
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
    fn tell(&mut self, inbound: Inbound) {
        if self.inbox.len() < MAX_INBOX {
            self.inbox.push_back(inbound);
        }
    }

    /// Whether so much more may come on a stream's section.
    fn verdict(&mut self, now: Instant, stream: &Stream, bytes: usize) -> limit::Verdict {
        let is_sound = stream.codec.mime.starts_with("audio/");
        self.buckets.take(now, &stream.mid, is_sound, bytes)
    }
}

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
        if let Found::Media(stream, packet, _) | Found::Padding(stream, packet) = &found
            && shared.verdict(now, stream, bytes) == limit::Verdict::Over
        {
            shared.tell(Inbound::OverLimit { ssrc: stream.ssrc });
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
        if let Library::Rtcp(packets) = &message.message.packet {
            for packet in packets {
                let mut shared = self.exchange.lock();
                read_feedback(message.now, packet.as_any(), &mut shared.estimator);
                shared.asked_again += asked_again(packet.as_any());
                let room = MAX_INBOX.saturating_sub(shared.inbox.len());
                shared.inbox.extend(read_report(packet.as_any()).into_iter().take(room));
                drop(shared);
                if let Some(request) = packet.as_any().downcast_ref() {
                    self.repair(message.now, request);
                }
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

    /// Sends again what the responders repeat.
    fn repeat(&mut self) {
        while let Some(message) = self.responder.poll_write().or_else(|| self.sound_responder.poll_write()) {
            self.send_again(message);
        }
    }

    /// Sends again what has a stream for it.
    fn repair(&mut self, now: Instant, request: &TransportLayerNack) {
        let packets = self.exchange.lock().repairs.asked(request);
        for packet in packets {
            let message = AttributedPacket::new(Library::Rtp(packet)).with(Attribute::Retransmission);
            self.send_again(TaggedPacket { now, transport: TransportContext::default(), message });
        }
    }

    /// Sends what was asked for again, unless it is too much.
    fn send_again(&mut self, mut message: TaggedPacket) {
        let Library::Rtp(packet) = &message.message.packet else { return };
        if self.allows(message.now, packet.payload.len()) == Verdict::Send {
            self.number(&mut message);
            self.out.push_back(message);
        }
    }

    /// Whether so much may be sent again. What a probe repeats has its own limit.
    fn allows(&self, now: Instant, bytes: usize) -> Verdict {
        let shared = &mut *self.exchange.lock();
        if shared.padding.is_some() {
            return Verdict::Send;
        }
        shared.allowance.take(now, shared.estimator.bps(), bytes)
    }

    /// Repeats recent packets as their receiver could have asked for them.
    fn pad(&mut self, now: Instant) {
        let due = {
            let shared = &mut *self.exchange.lock();
            let due = shared.padding.as_mut().and_then(|padding| padding.due(now));
            shared.padding.take_if(|padding| padding.is_over(now));
            due
        };
        if let Some(request) = due {
            self.repair(now, &request);
        }
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
