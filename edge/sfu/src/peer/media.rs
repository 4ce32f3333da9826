//! The last hop of packets inside a connection: everything received leaves the library here, and everything sent passes.
//!
//! It is an interceptor, the only place where `rtc` shows decrypted packets with their reports before it routes them by rules
//! that do not fit a forwarder (compound reports go by their first destination; unbound SSRCs are dropped). It drives the
//! library's own parts for negative acknowledgements, receiver reports and transport-wide feedback, and binds streams to them
//! by [`Streams`]. There is no sender report generator: the publisher's reports are forwarded, since made-up ones would tear
//! its sound and its picture apart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Attribute, Interceptor, NackGeneratorBuilder, NackGeneratorInterceptor, NackResponderBuilder,
    NackResponderInterceptor, Packet as Library, ReceiverReportBuilder, ReceiverReportInterceptor,
    StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;

use crate::estimate::Estimator;
use crate::packet::Packet;
use crate::quality::ReportBlock;

use super::allowance::{Allowance, Verdict};
use super::estimating::ESTIMATE;
use super::numbering::Numbering;
use super::padding::{Padding, Sent};
use super::sdp::Section;
use super::streams::{First, Found, Stream, Streams};
use super::translate::{describe, header_only, read, read_feedback, read_report};

/// Packets and reports that wait for the shard, which takes them after every datagram; only a compound of many reports makes
/// more than one.
const MAX_INBOX: usize = 256;
/// Sent packets kept per stream for retransmission: about 2 s of 2 Mbit/s, more than a receiver's jitter buffer waits. Each
/// place is 112 bytes of every subscriber's memory, used or not.
const SENT_PACKETS: u16 = 512;
/// How often a lost packet is asked for again: a tenth of a second is about a round trip of a bad line.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// How often one packet is asked for at most; after a second it would be too late for any decoder.
const MAX_NACKS: u16 = 10;
/// The newest packets are not asked for: they may just have been overtaken.
const NACK_SKIP: u16 = 2;

/// What a connection has received.
#[derive(Debug)]
pub(crate) enum Inbound {
    Media(Arc<Stream>, Packet),
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
    /// Streams to be forgotten by the library's parts.
    gone: Vec<u32>,
    /// How much may be sent: it sees every packet that leaves, retransmissions included.
    estimator: Estimator,
    /// The last packet of a picture, and what is sent beyond media at the moment.
    newest: Option<Sent>,
    padding: Option<Padding>,
    allowance: Allowance,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            streams: Streams::default(),
            inbox: VecDeque::new(),
            gone: Vec::new(),
            estimator: Estimator::new(now, ESTIMATE),
            newest: None,
            padding: None,
            allowance: Allowance::new(now),
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

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both sides have agreed.
    pub(super) fn agree(&self, sections: Vec<Section>) {
        let mut shared = self.lock();
        let gone = shared.streams.agree(sections);
        shared.gone.extend(gone);
    }

    /// The next thing received.
    pub(super) fn poll(&self) -> Option<Inbound> {
        self.lock().inbox.pop_front()
    }
}

/// The interceptor itself.
pub(super) struct MediaTap {
    exchange: Exchange,
    responder: NackResponderInterceptor,
    generator: NackGeneratorInterceptor,
    reports: ReceiverReportInterceptor,
    feedback: TwccReceiverInterceptor,
    numbering: Numbering,
    out: VecDeque<TaggedPacket>,
}

impl MediaTap {
    pub(super) fn new(exchange: Exchange) -> Self {
        let generator = NackGeneratorBuilder::new()
            .with_interval(NACK_INTERVAL)
            .with_max_nacks_per_packet(MAX_NACKS)
            .with_skip_last_n(NACK_SKIP);
        Self {
            exchange,
            responder: NackResponderBuilder::new().with_size(SENT_PACKETS).build(),
            generator: generator.build(),
            reports: ReceiverReportBuilder::new().build(),
            feedback: TwccReceiverBuilder::new().build(),
            numbering: Numbering::default(),
            out: VecDeque::new(),
        }
    }

    fn on_rtp(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let TaggedPacket { now, transport, message: attributed } = message;
        let Library::Rtp(packet) = attributed.packet else { return Ok(()) };
        let exchange = self.exchange.clone();
        let mut shared = exchange.lock();
        self.forget(&mut shared);
        let Found::Media(stream, packet, first) = shared.streams.find(read(packet)) else { return Ok(()) };
        if first == First::New {
            self.bind(&stream);
        }
        let message = TaggedPacket { now, transport, message: Library::Rtp(header_only(&packet)).into() };
        let message = pass(&mut self.feedback, Some(message))?;
        let message = pass(&mut self.reports, message)?;
        pass(&mut self.generator, message)?;
        if shared.inbox.len() < MAX_INBOX {
            shared.inbox.push_back(Inbound::Media(stream, packet));
        }
        Ok(())
    }

    fn on_rtcp(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Library::Rtcp(packets) = &message.message.packet {
            let mut shared = self.exchange.lock();
            for packet in packets {
                read_feedback(message.now, packet.as_any(), &mut shared.estimator);
                let room = MAX_INBOX.saturating_sub(shared.inbox.len());
                shared.inbox.extend(read_report(packet.as_any()).into_iter().take(room));
            }
        }
        let message = pass(&mut self.reports, Some(message))?;
        pass(&mut self.responder, message)?;
        Ok(())
    }

    fn bind(&mut self, stream: &Stream) {
        let info = describe(stream);
        self.feedback.bind_remote_stream(&info);
        self.reports.bind_remote_stream(&info);
        self.generator.bind_remote_stream(&info);
    }

    fn forget(&mut self, shared: &mut Shared) {
        for ssrc in shared.gone.drain(..) {
            let info = StreamInfo { ssrc, ..StreamInfo::default() };
            self.feedback.unbind_remote_stream(&info);
            self.reports.unbind_remote_stream(&info);
            self.generator.unbind_remote_stream(&info);
        }
    }

    /// Numbers a packet of media; `None` for a retransmission too many.
    fn number(&mut self, mut message: TaggedPacket) -> Option<TaggedPacket> {
        let repairs = message.message.has(&Attribute::Retransmission);
        if let Library::Rtp(packet) = &mut message.message.packet {
            if repairs && self.allows(message.now, packet.payload.len()) == Verdict::Drop {
                return None;
            }
            let number = self.numbering.number(&mut packet.header);
            let bytes = packet.header.marshal_size() + packet.payload.len();
            let shared = &mut *self.exchange.lock();
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
        Some(message)
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
    fn pad(&mut self, now: Instant) -> Result<(), Error> {
        let due = {
            let shared = &mut *self.exchange.lock();
            let due = shared.padding.as_mut().and_then(|padding| padding.due(now));
            shared.padding.take_if(|padding| padding.is_over(now));
            due
        };
        if let Some(request) = due {
            let message = Library::Rtcp(vec![Box::new(request)]).into();
            let transport = TransportContext::default();
            pass(&mut self.responder, Some(TaggedPacket { now, transport, message }))?;
        }
        Ok(())
    }

    /// Collects what the parts have made; packets of media get their transport-wide number last.
    fn collect(&mut self) -> Result<(), Error> {
        while let Some(message) = self.generator.poll_write() {
            self.out.push_back(message);
        }
        while let Some(message) = self.reports.poll_write() {
            self.out.push_back(message);
        }
        while let Some(message) = self.feedback.poll_write() {
            self.out.push_back(message);
        }
        while let Some(message) = self.responder.poll_write() {
            if let Some(message) = self.number(message) {
                self.out.push_back(message);
            }
        }
        Ok(())
    }
}

/// Shows a packet to a part that only watches.
fn pass(part: &mut dyn Interceptor, message: Option<TaggedPacket>) -> Result<Option<TaggedPacket>, Error> {
    let Some(message) = message else { return Ok(None) };
    part.handle_read(message)?;
    Ok(part.poll_read())
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
        match &message.message.packet {
            Library::Rtp(_) => self.responder.handle_write(message),
            _ => {
                self.out.push_back(message);
                Ok(())
            }
        }
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        if self.out.is_empty() {
            self.collect().ok()?;
        }
        self.out.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.pad(now)?;
        self.generator.handle_timeout(now)?;
        self.reports.handle_timeout(now)?;
        self.feedback.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let padding = self.exchange.lock().padding.as_ref().map(Padding::next);
        let parts =
            [self.generator.poll_timeout(), self.reports.poll_timeout(), self.feedback.poll_timeout()];
        parts.into_iter().flatten().chain(padding).min()
    }
}

impl Interceptor for MediaTap {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.responder.bind_local_stream(info);
        self.numbering.bind(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.responder.unbind_local_stream(info);
        self.numbering.unbind(info);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
