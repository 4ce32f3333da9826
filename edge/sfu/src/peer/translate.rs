//! Packets, reports and streams in the library's words and in ours. It must not know what becomes of them.

use std::time::Instant;

use rtc::interceptor::{RTCPFeedback, RTPHeaderExtension, StreamInfo};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::shared::marshal::Marshal;

use crate::estimate::Estimator;
use crate::format::TRANSPORT_CC;
use crate::packet::Packet;
use crate::quality::ReportBlock;

use super::exchange::Inbound;
use super::streams::Stream;

/// Ours from the library's.
pub(super) fn read(packet: rtc::rtp::packet::Packet) -> Packet {
    let header = packet.header;
    Packet {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        extensions: header
            .extensions
            .into_iter()
            .map(|extension| (extension.id, extension.payload))
            .collect(),
        payload: packet.payload,
    }
}

/// The library's from ours, for parts that look at headers.
pub(super) fn header_only(packet: &Packet) -> rtc::rtp::packet::Packet {
    write(Packet { payload: packet.payload.clone(), ..packet.clone() })
}

/// The library's from ours.
pub(super) fn write(packet: Packet) -> rtc::rtp::packet::Packet {
    let mut header = rtc::rtp::header::Header {
        version: 2,
        marker: packet.marker,
        payload_type: packet.payload_type,
        sequence_number: packet.sequence,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
        ..Default::default()
    };
    for (id, value) in packet.extensions {
        // An extension that the header cannot hold is left out; the packet is worth more.
        let _ = header.set_extension(id, value);
    }
    rtc::rtp::packet::Packet { header, payload: packet.payload }
}

/// What the estimate of the connection rests on.
pub(super) fn read_feedback(now: Instant, packet: &dyn std::any::Any, estimator: &mut Estimator) {
    if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
        // The estimator reads bytes; the library only gives what it has read.
        let read = feedback.marshal().map(|bytes| estimator.feedback(now, &bytes));
        if !matches!(read, Ok(Ok(()))) {
            tracing::debug!("transport feedback refused");
        }
    } else if let Some(limit) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
        estimator.remb(now, limit.bitrate as u64);
    }
}

/// How many packets a report asks for again.
pub(super) fn asked_again(packet: &dyn std::any::Any) -> u64 {
    let pairs = packet.downcast_ref::<TransportLayerNack>().map_or(&[][..], |request| &request.nacks);
    pairs.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum()
}

/// A request without the numbers that it repeats, and with so many at most.
pub(super) fn each_once(request: &TransportLayerNack, most: usize) -> TransportLayerNack {
    let mut seen = [0_u64; 1024];
    let mut is_new = |number: &u16| {
        let (word, bit) = (&mut seen[usize::from(number / 64)], 1 << (number % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    };
    let all = request.nacks.iter().flat_map(|pair| pair.into_iter());
    let numbers: Vec<u16> = all.filter(|number| is_new(number)).take(most).collect();
    let nacks = nack_pairs_from_sequence_numbers(&numbers);
    TransportLayerNack { sender_ssrc: request.sender_ssrc, media_ssrc: request.media_ssrc, nacks }
}

pub(super) fn read_report(packet: &dyn std::any::Any) -> Vec<Inbound> {
    if let Some(report) = packet.downcast_ref::<SenderReport>() {
        let own = Inbound::SenderReport { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time };
        std::iter::once(own).chain(report.reports.iter().map(receipt)).collect()
    } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
        report.reports.iter().map(receipt).collect()
    } else if let Some(loss) = packet.downcast_ref::<PictureLossIndication>() {
        vec![Inbound::KeyframeWanted { ssrc: loss.media_ssrc }]
    } else if let Some(request) = packet.downcast_ref::<FullIntraRequest>() {
        request.fir.iter().map(|entry| Inbound::KeyframeWanted { ssrc: entry.ssrc }).collect()
    } else {
        Vec::new()
    }
}

fn receipt(block: &rtc::rtcp::reception_report::ReceptionReport) -> Inbound {
    Inbound::Receipt {
        ssrc: block.ssrc,
        block: ReportBlock {
            // 24 bits with a sign.
            lost: (block.total_lost << 8).cast_signed() >> 8,
            highest: block.last_sequence_number,
            jitter: block.jitter,
            last_report: block.last_sender_report,
            delay: block.delay,
        },
    }
}

/// That lost packets may be asked for.
pub(super) fn nack() -> RTCPFeedback {
    RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() }
}

/// A stream in the library's words. What a client does not say of pictures is taken for granted, of sound it is not: every client
/// repeats pictures, but few repeat sound.
pub(super) fn describe(stream: &Stream) -> StreamInfo {
    let repeats = stream.codec.mime.starts_with("video/") || stream.nack;
    StreamInfo {
        ssrc: stream.ssrc,
        payload_type: stream.codec.payload_type,
        mime_type: stream.codec.mime.clone(),
        clock_rate: stream.codec.clock_rate,
        channels: stream.codec.channels,
        sdp_fmtp_line: stream.codec.fmtp.clone(),
        rtcp_feedback: if repeats { vec![nack()] } else { Vec::new() },
        rtp_header_extensions: stream
            .extensions
            .id(TRANSPORT_CC)
            .map(|id| RTPHeaderExtension { uri: TRANSPORT_CC.to_owned(), id: u16::from(id) })
            .into_iter()
            .collect(),
        ..StreamInfo::default()
    }
}
