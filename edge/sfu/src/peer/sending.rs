//! Packets and reports on their way out, and all datagrams that a connection gives. It must not know where packets come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::transport::RTCIceProtocol;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportProtocol};

use crate::leg;
use crate::leg::picture::Patch;
use crate::packet::Packet;
use crate::path::{Path, Transport};

use super::sockets::Socket;
use super::{Peer, Touched};

/// No address.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
        self.give_media(now, out);
        if touched == Touched::No {
            return;
        }
        while let Some(written) = self.connection.poll_write() {
            self.give_out(now, &written, out);
        }
        self.wake = self.connection.poll_timeout();
    }

    /// Connection by connection, so that a burst finds the state of each in the cache.
    fn give_media(&mut self, now: Instant, out: &mut dyn FnMut(Path, &[u8])) {
        let way = self.way();
        let (Some(way), Some(outlet)) = (way, &mut self.outlet) else {
            self.waiting.clear();
            return;
        };
        let mut shared = self.exchange.lock();
        let mut give = |packet: &Packet, patch| match outlet.encrypt(packet, patch) {
            Ok(datagram) => out(self.route.leaving(now, way, &datagram), &datagram),
            Err(error) => tracing::debug!("packet refused: {error}"),
        };
        for (mut packet, patch) in self.waiting.drain(..) {
            shared.outgoing.media(now, &mut packet, patch);
            give(&packet, patch);
        }
        while let Some((packet, patch)) = shared.outgoing.again(now) {
            give(&packet, patch);
        }
    }

    /// The way to the client, as the library has chosen it.
    fn way(&mut self) -> Option<Path> {
        if self.way.is_none() && self.outlet.is_some() {
            self.way = self.chosen();
        }
        self.way
    }

    fn chosen(&mut self) -> Option<Path> {
        let Self { senders, connection, sockets, .. } = self;
        let pair = senders.iter().find_map(|sender| {
            let sender = connection.rtp_sender(RTCRtpSenderId::from(sender.transceiver))?;
            sender.transport()?.ice_transport().get_selected_candidate_pair()
        })?;
        let (local, remote) = (pair.local(), pair.remote());
        let tcp = local.protocol == RTCIceProtocol::Tcp;
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        // What a reflexive candidate is related to is the socket.
        let names = [
            SocketAddr::new(local.address.parse().ok()?, local.port),
            SocketAddr::new(local.related_address.parse().unwrap_or(UNKNOWN), local.related_port),
        ];
        let named = |socket: &&Socket| socket.transport == transport && names.contains(&socket.known_as);
        let socket = sockets.iter().find(named)?;
        let remote = SocketAddr::new(remote.address.parse().ok()?, remote.port);
        Some(Path { local: socket.local, remote, transport })
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
