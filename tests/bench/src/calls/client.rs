//! One WebRTC connection of the load generator over a socket of its own: descriptions, handshakes, what it has to send.
//! It must not know what is measured.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::BytesMut;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimestampns, UdpGroSegment};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Registry, Slot, TwccSenderBuilder};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::watch::{Requests, Watch};

/// VP8 in the library's default list of codecs.
pub(super) const VP8: u8 = 96;
/// What the kernel keeps of a subscriber's packets while the generator is busy: a second and more of the highest rate.
const SOCKET_BUFFER: usize = 2 << 20;
/// A connection without timers is looked after once in this time.
const WAKE_MAX: Duration = Duration::from_secs(1);

/// A connection.
pub(super) struct Client {
    connection: RTCPeerConnection,
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    wake: Instant,
    connected: bool,
    /// What the other side asks of our pictures.
    pub(super) requests: Requests,
}

impl Client {
    /// One that receives.
    pub(super) fn subscriber(ip: IpAddr) -> anyhow::Result<Self> {
        let mut engine = engine()?;
        // Offers what browsers do; reports and feedback come from the subscriber, who shows the connection only samples.
        register_default_interceptors(Registry::new(), &mut engine)?;
        Self::new(ip, engine, Registry::new())
    }

    /// One that sends pictures, and its sender and SSRC.
    pub(super) fn publisher(ip: IpAddr, ssrc: u32) -> anyhow::Result<(Self, RTCRtpSenderId)> {
        let mut engine = engine()?;
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let registry = registry.with(Slot::TwccSender, TwccSenderBuilder::new().build());
        let mut client = Self::new(ip, engine, registry)?;
        let codec = RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..Default::default() };
        let rtx = Some(RTCRtpRtxParameters { ssrc: ssrc + 1 });
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() };
        let coding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..Default::default() };
        let track = MediaStreamTrack::new(
            "bench".into(),
            "camera".into(),
            "bench".into(),
            RtpCodecKind::Video,
            vec![coding],
        );
        let sender = client.connection.add_track(track)?;
        Ok((client, sender))
    }

    fn new(ip: IpAddr, engine: MediaEngine, registry: Registry) -> anyhow::Result<Self> {
        let now = Instant::now();
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true)?;
        // Beyond the system's limit where that is allowed.
        if setsockopt(&socket, RcvBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, RcvBuf, &SOCKET_BUFFER)?;
        }
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        setsockopt(&socket, UdpGroSegment, &true)?;
        let address = socket.local_addr()?;
        let requests = Requests::default();
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry.with(Slot::Custom(1), Watch::new(requests.clone())))
            .build(now)?;
        let candidate = format!("candidate:1 1 udp 2130706431 {} {} typ host", address.ip(), address.port());
        connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
        Ok(Self { connection, socket: Arc::new(socket), address, wake: now, connected: false, requests })
    }

    /// Its offer; of a subscriber, to receive pictures.
    pub(super) fn offer(&mut self, receives: Receives) -> anyhow::Result<String> {
        if receives == Receives::Pictures {
            self.connection.add_transceiver_from_kind(RtpCodecKind::Video, None)?;
        }
        let offer = self.connection.create_offer(None)?;
        self.connection.set_local_description(Instant::now(), offer)?;
        self.local()
    }

    /// Takes the answer to its offer.
    pub(super) fn answered(&mut self, sdp: String) -> anyhow::Result<()> {
        self.connection.set_remote_description(Instant::now(), RTCSessionDescription::answer(sdp)?)?;
        self.wake = Instant::now();
        Ok(())
    }

    /// Takes an offer, and answers.
    pub(super) fn answer(&mut self, sdp: String) -> anyhow::Result<String> {
        let now = Instant::now();
        self.connection.set_remote_description(now, RTCSessionDescription::offer(sdp)?)?;
        let answer = self.connection.create_answer(None)?;
        self.connection.set_local_description(now, answer)?;
        self.wake = now;
        self.local()
    }

    fn local(&self) -> anyhow::Result<String> {
        Ok(self.connection.local_description().context("it was just set")?.sdp)
    }

    /// Whether its handshakes are done.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Where its datagrams come.
    pub(super) fn socket(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.socket)
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// When it has something to do.
    pub(super) fn wake(&self) -> Instant {
        self.wake
    }

    /// Takes a datagram; gives the decrypted payload of a packet of media.
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Media> {
        let transport = TransportContext {
            local_addr: self.address,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = BytesMut::from(datagram);
        // What it refuses is no business of ours: a lost packet shows in the counts.
        let _ = self.connection.handle_read(TaggedBytesMut { now, transport, message });
        self.wake = now;
        let mut media = None;
        while let Some(TaggedRTCMessage { message, .. }) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message {
                media = Some(Media { marker: packet.header.marker, payload: packet.payload });
            }
        }
        media
    }

    /// Sends a packet of media with the next [`Self::run`].
    pub(super) fn send(&mut self, now: Instant, sender: RTCRtpSenderId, packet: rtc::rtp::packet::Packet) {
        if let Some(mut sender) = self.connection.rtp_sender(sender) {
            // Refused until connected.
            let _ = sender.write_rtp(now, packet);
        }
        self.wake = now;
    }

    /// Sends reports with the next [`Self::run`].
    pub(super) fn report(&mut self, now: Instant, reports: Vec<Box<dyn rtc::rtcp::Packet>>) {
        let message = RTCMessage::RtcpPacket(String::new(), reports);
        // Refused until connected.
        let _ = self.connection.handle_write(TaggedRTCMessage { now, message });
        self.wake = now;
    }

    /// Does what is due, and sends what waits.
    pub(super) fn run(&mut self, now: Instant) {
        if now < self.wake {
            return;
        }
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            // A timer that fails ends in a connection that is never made, which is noticed.
            let _ = self.connection.handle_timeout(now);
        }
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected = state.to_string() == "connected";
            }
        }
        while let Some(written) = self.connection.poll_write() {
            // A full buffer is a lost datagram, as on a network.
            let _ = self.socket.send_to(&written.message, written.transport.peer_addr);
        }
        self.wake = self.connection.poll_timeout().unwrap_or(now + WAKE_MAX);
    }
}

/// A decrypted packet.
pub(super) struct Media {
    /// The last of its frame.
    pub(super) marker: bool,
    /// With the descriptor of RFC 7741 in front.
    pub(super) payload: bytes::Bytes,
}

/// What an offer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receives {
    /// Somebody's camera.
    Pictures,
    /// Nothing.
    Nothing,
}

fn engine() -> anyhow::Result<MediaEngine> {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs()?;
    Ok(engine)
}
