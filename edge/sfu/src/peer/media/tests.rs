use std::time::Duration;

use rtc::interceptor::AttributedPacket;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc::rtp;
use rtc::shared::TransportContext;

use super::*;
use crate::config::Limits;
use crate::peer::sdp::sections;

/// Pictures on SSRC 5, repaired by 6.
const PICTURES: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 5 6\r\na=ssrc:5 cname:x\r\na=ssrc:6 cname:x\r\n";
/// A thousand bits may come at once: nine packets.
const LIMITS: Limits = Limits { audio_bps: 200, video_bps: 200 };
/// After this, as many may come again.
const REST: Duration = Duration::from_secs(10);

struct Line {
    now: Instant,
    tap: MediaTap,
}

impl Line {
    fn new() -> Self {
        let now = Instant::now();
        let exchange = Exchange::new(now, LIMITS);
        exchange.agree(sections(PICTURES));
        Self { now, tap: MediaTap::new(exchange) }
    }

    fn comes(&mut self, ssrc: u32, payload_type: u8, sequence: u16, payload: &'static [u8]) {
        let header = rtp::Header {
            version: 2,
            ssrc,
            payload_type,
            sequence_number: sequence,
            ..rtp::Header::default()
        };
        let packet = rtp::Packet { header, payload: bytes::Bytes::from_static(payload) };
        let message = AttributedPacket::new(Library::Rtp(packet));
        let transport = TransportContext::default();
        self.tap.handle_read(TaggedPacket { now: self.now, transport, message }).unwrap();
    }

    fn picture(&mut self, sequence: u16) {
        self.comes(5, 96, sequence, b"x");
    }

    /// Packets that did come, and how many were too much.
    fn told(&self) -> (Vec<u16>, usize) {
        let (mut came, mut over) = (Vec::new(), 0);
        while let Some(inbound) = self.tap.exchange.poll() {
            match inbound {
                Inbound::Media(_, packet) => came.push(packet.sequence),
                Inbound::OverLimit { .. } => over += 1,
                other => panic!("{other:?}"),
            }
        }
        (came, over)
    }

    /// What is asked for again within a while.
    fn asked(&mut self) -> Vec<u16> {
        self.now += Duration::from_millis(200);
        self.tap.handle_timeout(self.now).unwrap();
        let mut asked = Vec::new();
        while let Some(written) = self.tap.poll_write() {
            let Library::Rtcp(packets) = &written.message.packet else { continue };
            let requests = packets.iter().filter_map(|it| it.as_any().downcast_ref::<TransportLayerNack>());
            let numbers = requests.flat_map(|request| &request.nacks).flat_map(NackPair::packet_list);
            asked.extend(numbers);
        }
        asked
    }
}

#[test]
fn padding_that_is_too_much_says_nothing_of_what_is_lost() {
    let mut line = Line::new();
    (1..=3).for_each(|sequence| line.picture(sequence));
    (20_000..20_010).for_each(|sequence| line.comes(6, 97, sequence, &[0, 3]));
    let (came, over) = line.told();
    assert!(came == [1, 2, 3] && over > 0, "{came:?} {over}");
    line.now += REST;
    [5, 6, 7].into_iter().for_each(|sequence| line.picture(sequence));
    assert_eq!(line.told(), (vec![5, 6, 7], 0));
    assert_eq!(line.asked(), [4]);
}

#[test]
fn a_stream_that_begins_with_too_much_has_its_lost_packets_asked_for() {
    let mut line = Line::new();
    line.comes(5, 96, 1, &[0; 200]);
    assert_eq!(line.told(), (vec![], 1));
    line.now += REST;
    [2, 4, 5, 6].into_iter().for_each(|sequence| line.picture(sequence));
    assert_eq!(line.told(), (vec![2, 4, 5, 6], 0));
    assert_eq!(line.asked(), [3], "what was too much is not asked for");
}
