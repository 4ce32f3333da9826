//! What watches the packets of a connection as they come in: the library's parts for negative acknowledgements, receiver reports and
//! transport-wide feedback. It must not know what becomes of a packet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, NackGeneratorBuilder, NackGeneratorInterceptor, Packet as Library, ReceiverReportBuilder,
    ReceiverReportInterceptor, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use crate::packet::Packet;

use super::streams::Stream;
use super::translate::{describe, header_only};
use super::window::Came;

/// How often a lost packet is asked for again: a tenth of a second is about a round trip of a bad line.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// How often one packet is asked for at most; after a second it would be too late for any decoder.
const MAX_NACKS: u16 = 10;
/// For how long a lost packet is asked for.
pub(crate) const ASKED_FOR: Duration =
    Duration::from_millis(NACK_INTERVAL.as_millis() as u64 * MAX_NACKS as u64);
/// The newest packets are not asked for: they may just have been overtaken.
const NACK_SKIP: u16 = 2;

/// The parts, bound to the streams that come in.
pub(super) struct Receiving {
    generator: NackGeneratorInterceptor,
    reports: ReceiverReportInterceptor,
    feedback: TwccReceiverInterceptor,
    /// When each stream's last packet came, and its timestamp as the reports were told it.
    paces: HashMap<u32, (Instant, u32)>,
}

impl Receiving {
    pub(super) fn new() -> Self {
        let generator = NackGeneratorBuilder::new()
            .with_interval(NACK_INTERVAL)
            .with_max_nacks_per_packet(MAX_NACKS)
            .with_skip_last_n(NACK_SKIP);
        Self {
            generator: generator.build(),
            reports: ReceiverReportBuilder::new().build(),
            feedback: TwccReceiverBuilder::new().build(),
            paces: HashMap::new(),
        }
    }

    /// A packet of a stream that is bound has come.
    pub(super) fn media(
        &mut self,
        now: Instant,
        stream: &Stream,
        packet: &Packet,
        came: Came,
    ) -> Result<(), Error> {
        self.filled(now, packet)?;
        if came == Came::Again {
            return Ok(());
        }
        let mut shown = header_only(packet);
        shown.header.timestamp = self.paced(now, stream, packet, came);
        let message = pass(&mut self.reports, Some(tag(now, shown)))?;
        pass(&mut self.generator, message)?;
        Ok(())
    }

    /// A packet has filled the way to us, whatever it holds: a sender that probes must hear that it came.
    pub(super) fn filled(&mut self, now: Instant, packet: &Packet) -> Result<(), Error> {
        pass(&mut self.feedback, Some(tag(now, header_only(packet)))).map(drop)
    }

    /// A packet of a stream has come and shall count as lost, so that its sender sends less; but it is not asked for again.
    pub(super) fn withheld(&mut self, now: Instant, packet: &Packet) -> Result<(), Error> {
        pass(&mut self.generator, Some(tag(now, header_only(packet)))).map(drop)
    }

    /// A packet's timestamp as the reports shall see it: one that was sent again has come, but says nothing of the jitter.
    fn paced(&mut self, now: Instant, stream: &Stream, packet: &Packet, came: Came) -> u32 {
        let pace = self.paces.entry(stream.ssrc).or_insert((now, packet.timestamp));
        let passed = now.saturating_duration_since(pace.0).as_micros() * u128::from(stream.codec.clock_rate);
        let even = pace.1.wrapping_add((passed / 1_000_000) as u32);
        *pace = (now, if came == Came::Late { even } else { packet.timestamp });
        pace.1
    }

    /// Shows reports to the parts, and gives them back for others.
    pub(super) fn rtcp(&mut self, message: TaggedPacket) -> Result<Option<TaggedPacket>, Error> {
        pass(&mut self.reports, Some(message))
    }

    /// A stream's first packet has come: it is watched from now on.
    pub(super) fn bind(&mut self, stream: &Stream) {
        let info = describe(stream);
        self.feedback.bind_remote_stream(&info);
        self.reports.bind_remote_stream(&info);
        self.generator.bind_remote_stream(&info);
    }

    /// A stream is no more.
    pub(super) fn forget(&mut self, ssrc: u32) {
        let info = StreamInfo { ssrc, ..StreamInfo::default() };
        self.feedback.unbind_remote_stream(&info);
        self.reports.unbind_remote_stream(&info);
        self.generator.unbind_remote_stream(&info);
        self.paces.remove(&ssrc);
    }

    /// The next report for the sender.
    pub(super) fn poll(&mut self) -> Option<TaggedPacket> {
        let others = || self.reports.poll_write().or_else(|| self.feedback.poll_write());
        self.generator.poll_write().or_else(others)
    }

    /// Time has passed.
    pub(super) fn timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.generator.handle_timeout(now)?;
        self.reports.handle_timeout(now)?;
        self.feedback.handle_timeout(now)
    }

    /// When to call [`Self::timeout`].
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        let parts =
            [self.generator.poll_timeout(), self.reports.poll_timeout(), self.feedback.poll_timeout()];
        parts.into_iter().flatten().min()
    }
}

fn tag(now: Instant, packet: rtc::rtp::packet::Packet) -> TaggedPacket {
    let transport = TransportContext::default();
    TaggedPacket { now, transport, message: Library::Rtp(packet).into() }
}

/// Shows a packet to a part that only watches.
pub(super) fn pass(
    part: &mut dyn Interceptor,
    message: Option<TaggedPacket>,
) -> Result<Option<TaggedPacket>, Error> {
    let Some(message) = message else { return Ok(None) };
    part.handle_read(message)?;
    Ok(part.poll_read())
}
