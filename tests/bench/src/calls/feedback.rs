//! What a browser tells a sender of pictures: a receiver report a second, and transport-wide feedback ten times a second where
//! it is agreed on. The library's own parts, fed with headers alone, so that most packets need not be decrypted.

use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, Packet as Library, RTPHeaderExtension, ReceiverReportBuilder, ReceiverReportInterceptor,
    StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor,
};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp::header::Header;
use rtc::rtp::packet::Packet;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;

use super::client::VP8;

/// The extension's name.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// As browsers: between 50 and 250 ms.
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);
/// Who has no picture yet asks for one so often.
const REQUEST_EVERY: Duration = Duration::from_millis(500);

/// The reports of one subscriber.
pub(super) struct Feedback {
    reports: ReceiverReportInterceptor,
    feedback: TwccReceiverInterceptor,
    /// The extension's id, where it is agreed on.
    extension: Option<u16>,
    /// What is reported about.
    ssrc: Option<u32>,
    /// When a keyframe was asked for, or the first packet came.
    asked: Option<Instant>,
}

impl Feedback {
    /// By the answer, whoever made it.
    pub(super) fn agreed(answer: &str) -> Self {
        Self {
            reports: ReceiverReportBuilder::new().build(),
            feedback: TwccReceiverBuilder::new().with_interval(FEEDBACK_EVERY).build(),
            extension: extension(answer),
            ssrc: None,
            asked: None,
        }
    }

    /// A packet's header has come.
    pub(super) fn heard(&mut self, at: Instant, header: Header) {
        if header.payload_type == VP8 && self.ssrc != Some(header.ssrc) {
            self.ssrc = Some(header.ssrc);
            self.bind(header.ssrc);
        }
        let packet = Packet { header, payload: bytes::Bytes::new() };
        let message = Library::Rtp(packet).into();
        let tagged = TaggedPacket { now: at, transport: TransportContext::default(), message };
        // They only look, and what they cannot read is not reported about.
        let _ = self.feedback.handle_read(tagged);
        if let Some(tagged) = self.feedback.poll_read() {
            let _ = self.reports.handle_read(tagged);
            let _ = self.reports.poll_read();
        }
    }

    fn bind(&mut self, ssrc: u32) {
        let extension = self.extension.map(|id| RTPHeaderExtension { uri: TRANSPORT_CC.to_owned(), id });
        let info = StreamInfo {
            ssrc,
            payload_type: VP8,
            clock_rate: 90_000,
            rtp_header_extensions: extension.into_iter().collect(),
            ..StreamInfo::default()
        };
        self.reports.bind_remote_stream(&info);
        self.feedback.bind_remote_stream(&info);
    }

    /// A request for a keyframe of what comes, when it is time for one.
    pub(super) fn request(&mut self, now: Instant) -> Option<Box<dyn rtc::rtcp::Packet>> {
        let media_ssrc = self.ssrc?;
        let asked = *self.asked.get_or_insert(now);
        if now.saturating_duration_since(asked) < REQUEST_EVERY {
            return None;
        }
        self.asked = Some(now);
        Some(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc }))
    }

    /// The reports that are due.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Box<dyn rtc::rtcp::Packet>> {
        let mut due = Vec::new();
        let parts: [&mut dyn Interceptor; 2] = [&mut self.reports, &mut self.feedback];
        for part in parts {
            let _ = part.handle_timeout(now);
            while let Some(tagged) = part.poll_write() {
                if let Library::Rtcp(packets) = tagged.message.packet {
                    due.extend(packets);
                }
            }
        }
        due
    }
}

fn extension(answer: &str) -> Option<u16> {
    let mut lines = answer.lines().filter_map(|line| line.trim_end().strip_prefix("a=extmap:"));
    lines.find_map(|line| line.strip_suffix(TRANSPORT_CC)?.trim_end().split('/').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_the_answers() {
        let line = format!("v=0\r\na=extmap:1 x\r\na=extmap:5/recvonly {TRANSPORT_CC}\r\n");
        assert_eq!(extension(&line), Some(5));
        assert_eq!(extension("v=0\r\n"), None);
    }
}
