//! A participant: a real `rtc` connection that publishes sound and pictures and notes what it gets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::{NackGeneratorBuilder, Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::{RTCPeerConnectionEvent, RTCTrackEvent};
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

// By its path: this file is part of other tests too.
#[path = "asked.rs"]
mod asked;
use asked::Asked;

/// RFC 6464.
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// How often a lost packet is asked for: as Chromium does.
const MAX_ASKED: u16 = 10;

/// The payload type of VP9, as browsers have it; then payloads begin with its descriptor (RFC 9628, section 4.2).
pub(crate) const VP9: u8 = 98;

pub(crate) const LAYERS: [&str; 3] = ["q", "h", "f"];
pub(crate) const AUDIO_EVERY: Duration = Duration::from_millis(20);
/// A picture is two packets.
pub(crate) const PICTURE_EVERY: Duration = Duration::from_millis(40);

/// How a client behaves when both sides offer at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Takes its own offer back.
    Polite,
    /// Does not look at the other one's offer.
    Stubborn,
}

/// Whether a client asks for lost sound, and sends it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sound {
    Repeated,
    SentOnce,
}

pub(crate) struct Client {
    pub(crate) connection: RTCPeerConnection,
    pub(crate) address: SocketAddr,
    /// When there is something to do.
    wake: Instant,
    pub(crate) manners: Manners,
    /// Our own offer waits for an answer.
    pub(crate) offering: bool,
    pub(crate) connected: bool,
    /// How loud its sound says it is, in -dBov.
    pub(crate) level: u8,
    /// Numbers in the payloads received, by the sender's stream id and the track's kind.
    pub(crate) heard: BTreeMap<(String, String), Vec<Received>>,
    /// Sender reports received, by SSRC.
    pub(crate) errors: Vec<String>,
    pub(crate) outbox: VecDeque<(SocketAddr, BytesMut)>,
    tracks: HashMap<String, (String, String)>,
    outgoing: Vec<Outgoing>,
    asked: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) number: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) at: Instant,
    /// A VP8 keyframe begins here.
    pub(crate) keyframe: bool,
}

struct Outgoing {
    sender: RTCRtpSenderId,
    ssrc: u32,
    picture: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    number: u32,
    keyframe: bool,
    pictures: u32,
    next: Instant,
    /// Packets of a picture, and what they hold beside their number.
    packets: u32,
    filling: usize,
    /// The simulcast layer, named in the first packets and not later, as browsers do.
    layer: Option<&'static str>,
}

fn usual(sound: Sound) -> MediaEngine {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    if sound == Sound::Repeated {
        let nack = RTCPFeedback { typ: "nack".into(), parameter: String::new() };
        engine.register_feedback(nack, RtpCodecKind::Audio);
    }
    engine
}

impl Client {
    /// One that begins the handshake, as browsers do.
    pub(crate) fn new(
        now: Instant,
        address: SocketAddr,
        ciphers: &[SrtpProtectionProfile],
        sound: Sound,
    ) -> Self {
        Self::with(usual(sound), now, address, (ciphers, RTCDtlsRole::Client))
    }

    /// One that waits for the handshake when it answers.
    #[allow(dead_code, reason = "not every test that takes this file in has such clients")]
    pub(crate) fn waiting(
        now: Instant,
        address: SocketAddr,
        ciphers: &[SrtpProtectionProfile],
        sound: Sound,
    ) -> Self {
        Self::with(usual(sound), now, address, (ciphers, RTCDtlsRole::Server))
    }

    /// One that has the codecs of this engine, and takes this part in the handshake when it answers.
    pub(crate) fn with(
        mut engine: MediaEngine,
        now: Instant,
        address: SocketAddr,
        (ciphers, answering): (&[SrtpProtectionProfile], RTCDtlsRole),
    ) -> Self {
        let uri = LEVEL.to_owned();
        engine
            .register_header_extension(RTCRtpHeaderExtensionCapability { uri }, RtpCodecKind::Audio, None)
            .unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        // The library's receiver does not see what a retransmission repairs and would ask for it for ever; browsers do neither.
        let asking = NackGeneratorBuilder::new().with_max_nacks_per_packet(MAX_ASKED);
        let asked = Asked::default();
        let registry =
            registry.with(Slot::NackGenerator, asking.build()).with(Slot::Custom(1), asked.noting());
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(rtc::ice::mdns::MulticastDnsMode::Disabled)
            .with_srtp_protection_profiles(ciphers.to_vec())
            .with_answering_dtls_role(answering)
            .build();
        let builder = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry);
        let mut client = Self {
            connection: builder.build(now).unwrap(),
            address,
            wake: now,
            manners: Manners::Polite,
            offering: false,
            connected: false,
            level: 127,
            heard: BTreeMap::new(),
            errors: Vec::new(),
            outbox: VecDeque::new(),
            tracks: HashMap::new(),
            outgoing: Vec::new(),
            asked,
        };
        client.gather();
        client
    }

    fn gather(&mut self) {
        let candidate =
            format!("candidate:1 1 udp 2130706431 {} {} typ host", self.address.ip(), self.address.port());
        self.connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() }).unwrap();
    }

    /// Publishes sound or pictures from the next offer on.
    pub(crate) fn publish(&mut self, now: Instant, kind: RtpCodecKind) {
        let mime = if kind == RtpCodecKind::Video { "video/VP8" } else { "audio/opus" };
        self.publish_as(now, kind, mime, if kind == RtpCodecKind::Video { 96 } else { 111 });
    }

    /// The same in another codec: VP8, VP9 or Opus.
    pub(crate) fn publish_as(&mut self, now: Instant, kind: RtpCodecKind, mime: &str, payload_type: u8) {
        let picture = kind == RtpCodecKind::Video;
        let (clock_rate, channels) = if picture { (90_000, 0) } else { (48_000, 2) };
        let ssrc = u32::from(self.address.port()) * 100 + self.outgoing.len() as u32;
        let codec = RTCRtpCodec { mime_type: mime.into(), clock_rate, channels, ..Default::default() };
        let rtx = picture.then_some(RTCRtpRtxParameters { ssrc: ssrc + 50 });
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() };
        let coding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..Default::default() };
        let track =
            MediaStreamTrack::new("own".into(), format!("own{ssrc}"), "own".into(), kind, vec![coding]);
        let sender = self.connection.add_track(track).unwrap();
        let (sequence, timestamp) = (ssrc as u16, ssrc);
        self.outgoing.push(Outgoing {
            sender,
            ssrc,
            picture,
            payload_type,
            sequence,
            timestamp,
            number: 0,
            keyframe: true,
            pictures: 0,
            next: now,
            packets: if picture { 2 } else { 1 },
            filling: 0,
            layer: None,
        });
    }

    /// Publishes pictures in three layers.
    pub(crate) fn publish_layers(&mut self, now: Instant) {
        let layer = |(at, rid): (usize, &&'static str)| {
            let codec =
                RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..Default::default() };
            let ssrc = Some(u32::from(self.address.port()) * 100 + 10 + at as u32);
            let rtp_coding_parameters =
                RTCRtpCodingParameters { rid: (*rid).into(), ssrc, ..Default::default() };
            RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..Default::default() }
        };
        let codings: Vec<RTCRtpEncodingParameters> = LAYERS.iter().enumerate().map(layer).collect();
        let ssrcs: Vec<u32> = codings.iter().filter_map(|coding| coding.rtp_coding_parameters.ssrc).collect();
        let track =
            MediaStreamTrack::new("own".into(), "layers".into(), "own".into(), RtpCodecKind::Video, codings);
        let sender = self.connection.add_track(track).unwrap();
        for (ssrc, rid) in ssrcs.into_iter().zip(LAYERS) {
            let (sequence, timestamp) = (ssrc as u16, ssrc);
            let (picture, keyframe, layer) = (true, true, Some(rid));
            self.outgoing.push(Outgoing {
                sender,
                ssrc,
                picture,
                payload_type: 96,
                sequence,
                timestamp,
                number: 0,
                keyframe,
                pictures: 0,
                next: now,
                packets: 2,
                filling: 0,
                layer,
            });
        }
    }

    /// Takes all its tracks away, from the next offer on.
    pub(crate) fn fall_silent(&mut self) {
        for outgoing in self.outgoing.drain(..) {
            self.connection.remove_track(outgoing.sender).unwrap();
        }
    }

    /// Makes pictures as large as Chromium's of 1280x720, by layer; of those without layers, 500 kbit/s.
    pub(crate) fn fill(&mut self) {
        for outgoing in &mut self.outgoing {
            (outgoing.packets, outgoing.filling) = match outgoing.layer {
                _ if !outgoing.picture => (1, 80),
                Some("q") => (1, 700),
                Some("f") => (7, 1_040),
                _ => (3, 800),
            };
        }
    }

    /// Makes pictures of 9 Mbit/s, whatever the server says.
    pub(crate) fn flood(&mut self) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.picture) {
            (outgoing.packets, outgoing.filling) = (40, 1_100);
        }
    }

    /// Stops a layer, as a browser does that has too little bandwidth.
    pub(crate) fn stop_layer(&mut self, rid: &str) {
        self.outgoing.retain(|outgoing| outgoing.layer != Some(rid));
    }

    /// Values of extensions: of pictures, those that name a layer; of sound, its level.
    fn names(&mut self, at: usize) -> Vec<(u8, Bytes)> {
        let outgoing = &self.outgoing[at];
        let rid = outgoing.layer.filter(|_| outgoing.number < 20);
        if outgoing.picture && rid.is_none() {
            return Vec::new();
        }
        let (id, level) =
            (outgoing.sender, (!outgoing.picture).then(|| Bytes::copy_from_slice(&[self.level])));
        let mid =
            self.connection.rtp_transceiver(id.into()).and_then(|transceiver| transceiver.mid().clone());
        let Some(mut sender) = self.connection.rtp_sender(id) else { return Vec::new() };
        let known = &sender.get_parameters().rtp_parameters.header_extensions;
        let find = |end: &str| {
            known.iter().find(|extension| extension.uri.ends_with(end)).map(|found| found.id as u8)
        };
        let mid = find("sdes:mid").zip(mid.map(Bytes::from).filter(|_| rid.is_some()));
        let rid = find("sdes:rtp-stream-id").zip(rid.map(Bytes::from));
        let level = find(LEVEL).zip(level);
        mid.into_iter().chain(rid).chain(level).collect()
    }

    pub(crate) fn offer(&mut self, now: Instant) -> String {
        self.wake = now;
        let offer = self.connection.create_offer(None).unwrap();
        self.connection.set_local_description(now, offer).unwrap();
        self.offering = true;
        self.connection.local_description().unwrap().sdp
    }

    pub(crate) fn on_answer(&mut self, now: Instant, sdp: String) {
        self.wake = now;
        if !self.offering {
            self.errors.push("an answer to nothing".into());
            return;
        }
        self.offering = false;
        self.connection.set_remote_description(now, RTCSessionDescription::answer(sdp).unwrap()).unwrap();
    }

    /// Answers an offer of the server, as its manners are.
    pub(crate) fn on_offer(&mut self, now: Instant, sdp: String) -> Option<String> {
        self.wake = now;
        if self.offering {
            if self.manners == Manners::Stubborn {
                return None;
            }
            self.connection
                .set_local_description(now, RTCSessionDescription::rollback(None).unwrap())
                .unwrap();
            self.offering = false;
        }
        self.connection.set_remote_description(now, RTCSessionDescription::offer(sdp).unwrap()).unwrap();
        let answer = self.connection.create_answer(None).unwrap();
        self.connection.set_local_description(now, answer).unwrap();
        Some(self.connection.local_description().unwrap().sdp)
    }

    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.wake = now;
        let transport = TransportContext {
            local_addr: self.address,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let _ =
            self.connection.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(datagram) });
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => {
                    self.connected = state.to_string() == "connected";
                }
                RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(open)) => {
                    let kind = open.track_id.split('-').next().unwrap_or_default().to_owned();
                    self.tracks.insert(open.track_id, (open.stream_ids[0].clone(), kind));
                }
                _ => {}
            }
        }
        while let Some(TaggedRTCMessage { message, .. }) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(track, packet) = message {
                let name = self.tracks.get(&track).cloned().unwrap_or_else(|| ("?".into(), track.clone()));
                let number = packet
                    .payload
                    .len()
                    .checked_sub(4)
                    .map_or(0, |at| u32::from_be_bytes(packet.payload[at..].try_into().unwrap()));
                let header = &packet.header;
                let received = Received {
                    number,
                    sequence: header.sequence_number,
                    timestamp: header.timestamp,
                    ssrc: header.ssrc,
                    at: now,
                    keyframe: packet.payload.first() == Some(&0x10) && packet.payload.get(1) == Some(&0),
                };
                self.heard.entry(name).or_default().push(received);
            }
        }
    }

    /// Sends what is due, and puts every datagram into the outbox.
    pub(crate) fn run(&mut self, now: Instant) {
        if now < self.wake {
            return;
        }
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now).unwrap();
        }
        self.drain(now);
        for at in 0..self.outgoing.len() {
            while self.outgoing[at].next <= now {
                self.send(now, at);
            }
        }
        while let Some(written) = self.connection.poll_write() {
            self.outbox.push_back((written.transport.peer_addr, written.message));
        }
        let media = self.outgoing.iter().map(|outgoing| outgoing.next).min();
        self.wake = [self.connection.poll_timeout(), media].into_iter().flatten().min().unwrap_or(now);
    }

    fn send(&mut self, now: Instant, at: usize) {
        let outgoing = &mut self.outgoing[at];
        let (every, ticks) = if outgoing.picture { (PICTURE_EVERY, 3600) } else { (AUDIO_EVERY, 960) };
        outgoing.next += every;
        outgoing.timestamp = outgoing.timestamp.wrapping_add(ticks);
        let packets = outgoing.packets;
        let names = self.names(at);
        for part in 0..packets {
            let outgoing = &mut self.outgoing[at];
            outgoing.sequence = outgoing.sequence.wrapping_add(1);
            let mut payload = BytesMut::new();
            if outgoing.payload_type == VP9 {
                let (begins, predicted) = (part == 0, !outgoing.keyframe);
                payload.put_u8(u8::from(begins) << 3 | u8::from(predicted) << 6);
            } else if outgoing.picture {
                payload.put_slice(&[
                    if part == 0 { 0x10 } else { 0 },
                    u8::from(!outgoing.keyframe),
                    0,
                    0,
                    0x9d,
                    0x01,
                    0x2a,
                    0x80,
                    0x02,
                    0xe0,
                    0x01,
                ]);
            }
            payload.put_bytes(1, outgoing.filling);
            payload.put_u32(outgoing.number);
            let mut packet = packet(outgoing, part + 1 == packets, payload.freeze());
            for (id, value) in &names {
                packet.header.set_extension(*id, value.clone()).unwrap();
            }
            let sender = outgoing.sender;
            let accepted = self
                .connection
                .rtp_sender(sender)
                .is_some_and(|mut sender| sender.write_rtp(now, packet).is_ok());
            if self.connected && accepted {
                self.outgoing[at].number += 1;
                self.outgoing[at].pictures += u32::from(part + 1 == packets);
            }
        }
        // A keyframe every second: the library does not show requests to the application.
        self.outgoing[at].keyframe = self.outgoing[at].pictures.is_multiple_of(25);
    }

    /// Says that a picture was lost.
    pub(crate) fn lose_picture(&mut self, now: Instant, ssrc: u32) {
        self.request(now, Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }));
    }

    /// Asks for a whole picture, as mixers and older clients do (RFC 5104, section 4.3.1).
    pub(crate) fn ask_for_picture(&mut self, now: Instant, ssrc: u32) {
        let fir = vec![FirEntry { ssrc, sequence_number: 1 }];
        self.request(now, Box::new(FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir }));
    }

    fn request(&mut self, now: Instant, request: Box<dyn rtc::rtcp::packet::Packet>) {
        self.wake = now;
        let message = RTCMessage::RtcpPacket(String::new(), vec![request]);
        self.connection.handle_write(TaggedRTCMessage { now, message }).unwrap();
    }

    /// How often lost packets of its sound, or of its pictures, were asked for.
    pub(crate) fn asked_for(&self, kind: RtpCodecKind) -> u32 {
        let of_kind = |outgoing: &&Outgoing| outgoing.picture == (kind == RtpCodecKind::Video);
        self.outgoing.iter().filter(of_kind).map(|outgoing| self.asked.of(outgoing.ssrc)).sum()
    }

    /// What has been heard of a user's track.
    pub(crate) fn heard_of(&self, user: &str, kind: &str) -> &[Received] {
        self.heard.get(&(user.to_owned(), kind.to_owned())).map_or(&[], Vec::as_slice)
    }
}

fn packet(outgoing: &Outgoing, marker: bool, payload: Bytes) -> rtc::rtp::packet::Packet {
    let header = rtc::rtp::header::Header {
        version: 2,
        marker,
        payload_type: outgoing.payload_type,
        sequence_number: outgoing.sequence,
        timestamp: outgoing.timestamp,
        ssrc: outgoing.ssrc,
        ..Default::default()
    };
    rtc::rtp::packet::Packet { header, payload }
}
