//! Packets and reports on their way out, and all datagrams that a connection gives. It must not know where packets come from.

use std::time::Instant;

use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportProtocol};

use crate::leg;
use crate::leg::picture::Patch;
use crate::packet::Packet;
use crate::path::{Path, Transport};

use super::sockets::Socket;
use super::{Peer, Touched, translate};

impl Peer {
    /// Sends a packet of one of our streams with the next [`Self::flush`], with this change to its payload. Returns how many wait.
    pub(crate) fn send(&mut self, packet: Packet, patch: Patch) -> usize {
        self.waiting.push((packet, patch));
        self.waiting.len()
    }

    /// Sends a sender report of one of our streams.
    pub(crate) fn send_report(&mut self, now: Instant, report: leg::SenderReport) {
        let leg::SenderReport { ssrc, ntp, rtp, packets, octets } = report;
        let report = SenderReport {
            ssrc,
            ntp_time: ntp,
            rtp_time: rtp,
            packet_count: packets,
            octet_count: octets,
            ..Default::default()
        };
        self.write_report(now, Box::new(report));
    }

    /// Asks for a keyframe of one of the client's streams.
    pub(crate) fn ask_keyframe(&mut self, now: Instant, ssrc: u32) {
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
        self.write_report(now, Box::new(request));
    }

    fn write_report(&mut self, now: Instant, report: Box<dyn rtc::rtcp::Packet>) {
        self.touched = Touched::Yes;
        self.write(now, RTCMessage::RtcpPacket(String::new(), vec![report]));
    }

    fn write(&mut self, now: Instant, message: RTCMessage) {
        if let Err(error) = self.connection.handle_write(TaggedRTCMessage { now, message }) {
            tracing::debug!("packet refused: {error}");
        }
    }

    /// Gives out every datagram that is ready.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut dyn FnMut(Path, &[u8])) {
        let touched = std::mem::replace(&mut self.touched, Touched::No);
        if touched == Touched::Yes {
            self.pump();
        }
        // One by one through the library: a burst at once makes each of its seven queues as long as itself, 100 KB and more a
        // connection, and has left the cache before it is encrypted. Not when it comes either: then each packet would have to
        // fetch the state of every connection anew.
        let mut waiting = std::mem::take(&mut self.waiting);
        for (packet, patch) in waiting.drain(..) {
            self.exchange.keep(&packet, patch);
            let packet = translate::write(translate::patched(packet, patch));
            self.write(now, RTCMessage::RtpPacket(String::new(), packet));
            if let Some(written) = self.connection.poll_write() {
                self.give_out(now, &written, out);
            }
        }
        self.waiting = waiting;
        if touched == Touched::No {
            return;
        }
        while let Some(written) = self.connection.poll_write() {
            self.give_out(now, &written, out);
        }
        self.wake = self.connection.poll_timeout();
    }

    fn give_out(&mut self, now: Instant, written: &TaggedBytesMut, out: &mut dyn FnMut(Path, &[u8])) {
        let transport = if written.transport.transport_protocol == TransportProtocol::TCP {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        let known = |socket: &&Socket| {
            socket.known_as == written.transport.local_addr && socket.transport == transport
        };
        let Some(socket) = self.sockets.iter().find(known) else { return };
        let path = Path { local: socket.local, remote: written.transport.peer_addr, transport };
        out(self.route.leaving(now, path, &written.message), &written.message);
    }
}
