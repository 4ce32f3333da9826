//! One WebRTC connection. This file and those below it are the only ones that know `rtc`; another stack would replace them behind
//! the same few functions: offer, answer, roll back, candidate, senders, datagrams in and out, packets in and out, events, time.
//!
//! It must not know rooms, users' rights or whose turn it is to offer.

mod cipher;
mod engine;
mod media;
mod route;
mod sdp;
mod streams;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{
    RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverId, RTCRtpTransceiverInit,
};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use crate::config::{Config, ConfigError};
use crate::format::{Codec, Extensions};
use crate::forward::Report;
use crate::ids::{Medium, Mid, User};
use crate::packet::Packet;
use crate::path::{Path, Transport};

use cipher::Cipher;
use media::Exchange;
pub(crate) use media::{Inbound, Receipt};
use route::Route;
pub(crate) use sdp::Kind;
use sdp::{Families, Section};
pub(crate) use streams::Stream;

/// What all connections of a shard share.
#[derive(Debug)]
pub(crate) struct Factory {
    config: Config,
    certificate: RTCCertificate,
}

impl Factory {
    /// Makes the shard's certificate: ECDSA on P-256, which every browser takes and which costs least to verify.
    pub(crate) fn new(config: Config) -> Result<Self, ConfigError> {
        let failed = |error: String| ConfigError::Certificate(error);
        let provider = rtc::crypto::default_provider().map_err(|error| failed(error.to_string()))?;
        let scheme = rtc::crypto::SignatureScheme::EcdsaP256Sha256;
        let certificate = RTCCertificate::generate(provider.crypto(), scheme, Default::default())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { config, certificate })
    }
}

/// Why a connection refused something, in the library's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Something happened to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerEvent {
    Connected,
    Lost,
    Failed,
}

/// One of the streams that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SenderId(usize);

#[derive(Debug)]
struct Sender {
    transceiver: RTCRtpTransceiverId,
    medium: Medium,
    codec: Codec,
    ssrc: u32,
    repair: u32,
    state: SenderState,
    agreed: Option<(Vec<Codec>, Extensions)>,
}

/// The library cannot remove a section, so one without a track waits for the next track of the same kind and codec.
#[derive(Debug, PartialEq, Eq)]
enum SenderState {
    InUse,
    Idle,
}

/// One connection.
pub(crate) struct Peer {
    factory: Arc<Factory>,
    connection: RTCPeerConnection,
    exchange: Exchange,
    senders: Vec<Sender>,
    /// Our addresses as the library knows them: one per socket.
    sockets: Vec<Socket>,
    route: Route,
    cipher: Cipher,
    /// The library's number of the sender added last.
    added: RTCRtpTransceiverId,
    /// Whether the handshake is over.
    stands: bool,
    /// The latest time that was told.
    clock: Instant,
    /// What was done to the connection before it stood, to do it again with another cipher.
    script: Vec<Step>,
    sending: Vec<(Mid, Kind)>,
    /// Sections that promise simulcast layers.
    layered: Vec<Mid>,
    ufrag: String,
    events: VecDeque<PeerEvent>,
}

/// Steps kept of a connection that does not stand yet. One with more has been told a lot and has never answered a handshake; it is
/// not set up again.
const MAX_SCRIPT: usize = 64;

/// What was done to a connection.
#[derive(Clone)]
enum Step {
    Offer,
    RollBack,
    Remote(RTCSessionDescription),
    Answer,
    Candidate(String),
    AddSender(MediaStreamTrack),
    Direct(RTCRtpTransceiverId, RTCRtpTransceiverDirection),
    Replace(RTCRtpTransceiverId, MediaStreamTrack),
}

#[derive(Debug, Clone, Copy)]
struct Socket {
    local: SocketAddr,
    transport: Transport,
    known_as: SocketAddr,
}

impl Peer {
    pub(crate) fn new(factory: &Arc<Factory>, now: Instant) -> Result<Self, Refusal> {
        let exchange = Exchange::default();
        let wanted = engine::Wanted { cipher: Cipher::Gcm, credentials: None };
        let mut connection = engine::build(&factory.certificate, exchange.clone(), wanted, now)?;
        let sockets = sockets(&factory.config);
        gather(&mut connection, &sockets)?;
        let factory = Arc::clone(factory);
        let (senders, sending, layered) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            factory,
            connection,
            exchange,
            senders,
            sockets,
            route: Route::default(),
            cipher: Cipher::Gcm,
            added: 0,
            stands: false,
            clock: now,
            script: Vec::new(),
            sending,
            layered,
            ufrag: String::new(),
            events: VecDeque::new(),
        })
    }

    /// The user name fragment that the client's checks carry; empty before the first description.
    pub(crate) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Does something to the connection, and remembers it while the connection does not stand.
    fn apply(&mut self, now: Instant, step: Step) -> Result<(), Refusal> {
        self.clock = now;
        self.perform(now, step.clone())?;
        if self.script.len() < MAX_SCRIPT && !self.stands {
            self.script.push(step);
        }
        Ok(())
    }

    fn perform(&mut self, now: Instant, step: Step) -> Result<(), Refusal> {
        let connection = &mut self.connection;
        match step {
            Step::Offer => {
                let offer = connection.create_offer(None)?;
                connection.set_local_description(now, offer)?;
            }
            Step::RollBack => {
                connection.set_local_description(now, RTCSessionDescription::rollback(None)?)?
            }
            Step::Remote(description) => connection.set_remote_description(now, description)?,
            Step::Answer => {
                let answer = connection.create_answer(None)?;
                connection.set_local_description(now, answer)?;
            }
            Step::Candidate(candidate) => {
                connection.add_remote_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
            }
            Step::AddSender(track) => {
                let direction = RTCRtpTransceiverDirection::Sendonly;
                let init =
                    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() };
                let transceiver = connection.add_transceiver_from_track(track, Some(init))?;
                self.added = transceiver;
            }
            Step::Direct(transceiver, direction) => {
                if let Some(mut transceiver) = connection.rtp_transceiver(transceiver) {
                    transceiver.set_direction(direction);
                }
            }
            Step::Replace(transceiver, track) => {
                if let Some(mut sender) = connection.rtp_sender(RTCRtpSenderId::from(transceiver)) {
                    sender.replace_track(track)?;
                }
            }
        }
        Ok(())
    }

    /// Sets the connection up again for a client that has only the other cipher. Descriptions, credentials and numbers stay.
    fn fall_back(&mut self, now: Instant) -> Result<(), Refusal> {
        let local =
            self.connection.local_description().map(|description| description.sdp).unwrap_or_default();
        let credentials = sdp::ufrag(&local).zip(sdp::password(&local));
        let credentials = credentials.map(|(ufrag, password)| (ufrag.to_owned(), password.to_owned()));
        self.cipher = Cipher::CounterMode;
        let wanted = engine::Wanted { cipher: self.cipher, credentials };
        self.connection = engine::build(&self.factory.certificate, self.exchange.clone(), wanted, now)?;
        gather(&mut self.connection, &self.sockets)?;
        self.route.forget();
        for step in std::mem::take(&mut self.script) {
            self.perform(now, step)?;
        }
        Ok(())
    }

    /// Makes an offer of ours.
    pub(crate) fn offer(&mut self, now: Instant) -> Result<String, Refusal> {
        self.apply(now, Step::Offer)?;
        self.local()
    }

    /// Takes the client's offer and makes our answer.
    pub(crate) fn answer_to(&mut self, now: Instant, offer: &str) -> Result<String, Refusal> {
        let clean = self.clean(offer)?;
        self.apply(now, Step::Remote(RTCSessionDescription::offer(clean)?))?;
        match self.apply(now, Step::Answer).and_then(|()| self.local()) {
            Ok(answer) => {
                self.agree(offer, &answer);
                Ok(answer)
            }
            Err(error) => {
                self.apply(now, Step::Remote(RTCSessionDescription::rollback(None)?))?;
                Err(error)
            }
        }
    }

    /// Takes the client's answer to our offer.
    pub(crate) fn accept(&mut self, now: Instant, answer: &str) -> Result<(), Refusal> {
        let clean = self.clean(answer)?;
        let offer = self.local()?;
        self.apply(now, Step::Remote(RTCSessionDescription::answer(clean)?))?;
        self.agree(answer, &offer);
        Ok(())
    }

    /// Takes our offer back.
    pub(crate) fn roll_back(&mut self, now: Instant) -> Result<(), Refusal> {
        self.apply(now, Step::RollBack)
    }

    fn clean(&self, sdp: &str) -> Result<String, Refusal> {
        if sdp.len() > sdp::MAX_LENGTH {
            return Err(Refusal("description too long".to_owned()));
        }
        Ok(sdp::sanitize(sdp, Families::of(&self.factory.config.candidates)))
    }

    fn local(&mut self) -> Result<String, Refusal> {
        let description =
            self.connection.local_description().ok_or_else(|| Refusal("no description".to_owned()))?;
        let ufrag = sdp::ufrag(&description.sdp).unwrap_or_default();
        if self.ufrag != ufrag {
            ufrag.clone_into(&mut self.ufrag);
            self.route.forget();
        }
        Ok(sdp::dress(&description.sdp, &self.factory.config.candidates, self.factory.config.limits))
    }

    /// Both sides have agreed: what the client sends is numbered as our description says, what we send as the client's.
    fn agree(&mut self, theirs: &str, ours: &str) {
        let (theirs, ours) = (sdp::sections(theirs), sdp::sections(ours));
        let inbound = theirs.iter().filter_map(|section| {
            let mine = ours.iter().find(|mine| mine.mid == section.mid)?;
            let (codecs, repairs, extensions) =
                (mine.codecs.clone(), mine.repairs.clone(), mine.extensions.clone());
            Some(Section {
                codecs,
                repairs,
                extensions,
                sends: section.sends && mine.receives,
                ..section.clone()
            })
        });
        let inbound: Vec<Section> = inbound.filter(|section| section.kind != Kind::Other).collect();
        self.sending = inbound
            .iter()
            .filter(|section| section.sends)
            .map(|section| (section.mid.clone(), section.kind))
            .collect();
        self.layered = inbound
            .iter()
            .filter(|section| section.rids.len() > 1)
            .map(|section| section.mid.clone())
            .collect();
        self.exchange.agree(inbound);
        for at in 0..self.senders.len() {
            let mid = self
                .connection
                .rtp_transceiver(self.senders[at].transceiver)
                .and_then(|transceiver| transceiver.mid().clone());
            let section = theirs
                .iter()
                .find(|section| section.receives && Some(section.mid.as_str()) == mid.as_deref());
            self.senders[at].agreed =
                section.map(|section| (section.codecs.clone(), section.extensions.clone()));
        }
    }

    /// Sections on which the client sends, as last agreed, in their order.
    pub(crate) fn sending(&self) -> &[(Mid, Kind)] {
        &self.sending
    }

    /// Whether a section promises several layers.
    pub(crate) fn has_layers(&self, mid: &Mid) -> bool {
        self.layered.contains(mid)
    }

    /// One of the client's addresses.
    pub(crate) fn candidate(&mut self, candidate: &str) -> Result<(), Refusal> {
        let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
        if !sdp::usable(candidate, Families::of(&self.factory.config.candidates)) {
            return Ok(());
        }
        self.apply(self.clock, Step::Candidate(candidate.to_owned()))
    }

    /// A stream to send; flows once both sides have agreed. `number` keeps its track id unique. Returns its SSRC too.
    pub(crate) fn add_sender(
        &mut self,
        user: &User,
        medium: Medium,
        codec: &Codec,
        number: u64,
    ) -> Result<(SenderId, u32), Refusal> {
        if let Some(idle) = self.reuse(user, medium, codec, number)? {
            return Ok(idle);
        }
        let (ssrc, repair) = (rand::random(), rand::random());
        let track = track(user, medium, codec, number, (ssrc, repair));
        self.apply(self.clock, Step::AddSender(track))?;
        let transceiver = self.added;
        let (codec, state) = (codec.clone(), SenderState::InUse);
        self.senders.push(Sender { transceiver, medium, codec, ssrc, repair, state, agreed: None });
        Ok((SenderId(self.senders.len() - 1), ssrc))
    }

    fn reuse(
        &mut self,
        user: &User,
        medium: Medium,
        codec: &Codec,
        number: u64,
    ) -> Result<Option<(SenderId, u32)>, Refusal> {
        let fits = |sender: &Sender| {
            sender.state == SenderState::Idle && sender.medium == medium && sender.codec.accepts(codec)
        };
        let Some(at) = self.senders.iter().position(fits) else { return Ok(None) };
        let sender = &self.senders[at];
        let transceiver = sender.transceiver;
        let track = track(user, medium, &sender.codec, number, (sender.ssrc, sender.repair));
        self.apply(self.clock, Step::Direct(transceiver, RTCRtpTransceiverDirection::Sendonly))?;
        self.apply(self.clock, Step::Replace(transceiver, track))?;
        let sender = &mut self.senders[at];
        sender.state = SenderState::InUse;
        sender.agreed = None;
        Ok(Some((SenderId(at), sender.ssrc)))
    }

    /// The stream ends; the client learns of it by the next offer.
    pub(crate) fn remove_sender(&mut self, id: SenderId) {
        let Some(sender) = self.senders.get_mut(id.0) else { return };
        sender.state = SenderState::Idle;
        sender.agreed = None;
        let step = Step::Direct(sender.transceiver, RTCRtpTransceiverDirection::Inactive);
        if let Err(error) = self.apply(self.clock, step) {
            tracing::debug!("a sender stays: {error}");
        }
    }

    /// Codecs and extension ids that the client has agreed to for a stream of ours.
    pub(crate) fn agreed(&self, id: SenderId) -> Option<(&[Codec], &Extensions)> {
        self.senders.get(id.0)?.agreed.as_ref().map(|(codecs, extensions)| (&codecs[..], extensions))
    }

    /// A datagram has come.
    pub(crate) fn receive(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        self.clock = now;
        if !self.stands && self.cipher == Cipher::Gcm && cipher::asked(datagram) == Some(Cipher::CounterMode)
        {
            if let Err(error) = self.fall_back(now) {
                tracing::warn!("could not fall back to the other cipher: {error}");
            }
            return;
        }
        let Some(socket) = self
            .sockets
            .iter()
            .find(|socket| socket.local == path.local && socket.transport == path.transport)
        else {
            return;
        };
        let transport_protocol =
            if path.transport == Transport::Udp { TransportProtocol::UDP } else { TransportProtocol::TCP };
        let peer_addr = self.route.arrived(now, path, datagram);
        let transport =
            TransportContext { local_addr: socket.known_as, peer_addr, transport_protocol, ecn: None };
        if let Err(error) =
            self.connection.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(datagram) })
        {
            tracing::debug!("datagram refused: {error}");
        }
        // A handshake may follow the nominating check in the same batch: it is dropped unless the check's effect is seen first.
        if datagram.first().is_some_and(|first| *first < 128) {
            self.pump();
        }
        while self.connection.poll_media_read().is_some() {}
        while self.connection.poll_data_read().is_some() {}
    }

    fn pump(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { continue };
            match state {
                RTCPeerConnectionState::Connected => {
                    self.stands = true;
                    self.script = Vec::new();
                    self.events.push_back(PeerEvent::Connected);
                }
                RTCPeerConnectionState::Disconnected => self.events.push_back(PeerEvent::Lost),
                RTCPeerConnectionState::Failed => self.events.push_back(PeerEvent::Failed),
                _ => {}
            }
        }
    }

    /// The next packet or report received.
    pub(crate) fn poll_inbound(&mut self) -> Option<Inbound> {
        self.exchange.poll()
    }

    /// The next thing that happened.
    pub(crate) fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// Sends a packet of one of our streams.
    pub(crate) fn send(&mut self, now: Instant, packet: Packet) {
        self.write(now, RTCMessage::RtpPacket(String::new(), media::write(packet)));
    }

    /// Sends a sender report of one of our streams.
    pub(crate) fn send_report(&mut self, now: Instant, report: Report) {
        let Report { ssrc, ntp, rtp, packets, bytes } = report;
        let report = SenderReport {
            ssrc,
            ntp_time: ntp,
            rtp_time: rtp,
            packet_count: packets,
            octet_count: bytes,
            ..Default::default()
        };
        self.write(now, RTCMessage::RtcpPacket(String::new(), vec![Box::new(report)]));
    }

    /// Asks for a keyframe of one of the client's streams.
    pub(crate) fn ask_keyframe(&mut self, now: Instant, ssrc: u32) {
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
        self.write(now, RTCMessage::RtcpPacket(String::new(), vec![Box::new(request)]));
    }

    fn write(&mut self, now: Instant, message: RTCMessage) {
        if let Err(error) = self.connection.handle_write(TaggedRTCMessage { now, message }) {
            tracing::debug!("packet refused: {error}");
        }
    }

    /// Gives out every datagram that is ready.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut dyn FnMut(Path, &[u8])) {
        self.pump();
        while let Some(written) = self.connection.poll_write() {
            let transport = if written.transport.transport_protocol == TransportProtocol::TCP {
                Transport::Tcp
            } else {
                Transport::Udp
            };
            let known = |socket: &&Socket| {
                socket.known_as == written.transport.local_addr && socket.transport == transport
            };
            let Some(socket) = self.sockets.iter().find(known) else { continue };
            let path = Path { local: socket.local, remote: written.transport.peer_addr, transport };
            out(self.route.leaving(now, path, &written.message), &written.message);
        }
    }

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Instant) {
        if let Err(error) = self.connection.handle_timeout(now) {
            tracing::debug!("timeout refused: {error}");
        }
        self.pump();
    }

    /// When to call [`Self::timeout`].
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    /// Says goodbye; [`Self::flush`] gives out the last datagrams.
    pub(crate) fn close(&mut self) {
        if let Err(error) = self.connection.close() {
            tracing::debug!("close refused: {error}");
        }
    }
}

/// One per socket and transport: several public addresses of one socket are one to the library, and the description tells all.
fn sockets(config: &Config) -> Vec<Socket> {
    let mut sockets: Vec<Socket> = Vec::new();
    for candidate in &config.candidates {
        if !sockets
            .iter()
            .any(|socket| socket.local == candidate.local && socket.transport == candidate.transport)
        {
            sockets.push(Socket {
                local: candidate.local,
                transport: candidate.transport,
                known_as: candidate.address,
            });
        }
    }
    sockets
}

/// Tells the library our addresses. Their priorities are its own affair: what clients see is written by `sdp`.
fn gather(connection: &mut RTCPeerConnection, sockets: &[Socket]) -> Result<(), Refusal> {
    for (at, socket) in sockets.iter().enumerate() {
        let udp = socket.transport == Transport::Udp;
        let (transport, passive) = if udp { ("udp", "") } else { ("tcp", " tcptype passive") };
        let (ip, port, priority) = (socket.known_as.ip(), socket.known_as.port(), 2_130_706_431 - at);
        let candidate =
            format!("candidate:{} 1 {transport} {priority} {ip} {port} typ host{passive}", at + 1);
        connection.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
    }
    Ok(())
}

fn track(
    user: &User,
    medium: Medium,
    codec: &Codec,
    number: u64,
    (ssrc, repair): (u32, u32),
) -> MediaStreamTrack {
    let picture = medium.is_picture();
    let kind = if picture { RtpCodecKind::Video } else { RtpCodecKind::Audio };
    let rtx = picture.then_some(RTCRtpRtxParameters { ssrc: repair });
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: codec.mime.clone(),
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            sdp_fmtp_line: codec.fmtp.clone(),
            rtcp_feedback: Vec::new(),
        },
        ..Default::default()
    };
    let id = format!("{}-{number}", medium.as_str());
    MediaStreamTrack::new(user.to_string(), id.clone(), id, kind, vec![coding])
}
