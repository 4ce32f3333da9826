//! One WebRTC connection. This file and those below it are the only ones of this crate that know `rtc` (the edge uses its STUN messages
//! for the way through a TURN server); another stack would replace them behind the same few functions: offer, answer, roll back, candidate, senders, datagrams in and out, packets in and out, events, time.
//!
//! It must not know rooms, users' rights or whose turn it is to offer.

mod allowance;
mod candidates;
mod cipher;
mod engine;
mod estimating;
mod limit;
mod media;
mod numbering;
mod padding;
mod pictures;
mod receiving;
mod repairs;
mod route;
mod script;
mod sdp;
mod senders;
mod sending;
mod sockets;
mod streams;
mod translate;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc::crypto::RTCCryptoProvider;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::{RTCSdpType, RTCSessionDescription};
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::rtp_transceiver::RTCRtpTransceiverId;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use crate::config::{Candidate, CandidateKind, Config, ConfigError};
use crate::ids::Mid;
use crate::leg::picture::Patch;
use crate::packet::Packet;
use crate::path::{Fate, Path, Transport};

use candidates::{Candidates, Verdict};
use cipher::Cipher;
use media::Exchange;
pub(crate) use media::Inbound;
use pictures::Pictures;
pub(crate) use receiving::ASKED_FOR;
use route::Route;
use script::{Next, Script, Step};
pub(crate) use sdp::Kind;
use sdp::{Families, Section};
use senders::Sender;
pub(crate) use senders::SenderId;
use sockets::{Socket, gather, sockets};
pub(crate) use streams::Stream;

/// What all connections of a shard share.
pub(crate) struct Factory {
    config: Config,
    certificate: RTCCertificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl Factory {
    /// Makes the shard's certificate: ECDSA on P-256, which every browser takes and which costs least to verify.
    pub(crate) fn new(config: Config) -> Result<Self, ConfigError> {
        let failed = |error: String| ConfigError::Certificate(error);
        let provider = rtc::crypto::default_provider().map_err(|error| failed(error.to_string()))?;
        let scheme = rtc::crypto::SignatureScheme::EcdsaP256Sha256;
        let certificate = RTCCertificate::generate(provider.crypto(), scheme, Default::default())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { config, certificate, provider })
    }

    /// The same with another address at a TURN server.
    pub(crate) fn relayed(&self, address: Option<SocketAddr>) -> Self {
        let mut config = self.config.clone();
        config.candidates.retain(|candidate| candidate.kind != CandidateKind::Relay);
        let relay = |(local, address)| Candidate {
            address,
            local,
            transport: Transport::Udp,
            kind: CandidateKind::Relay,
        };
        config.candidates.extend(config.relay.zip(address).map(relay));
        Self { config, certificate: self.certificate.clone(), provider: Arc::clone(&self.provider) }
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

/// Whether a client may send media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    Allowed,
    /// Our descriptions take nothing, and what comes all the same belongs to no stream.
    Refused,
}

/// Whether the library may have something to say: media on their way out move none of its timers and make no event, and looking
/// for one costs as much as a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    Yes,
    No,
}

/// One connection.
pub(crate) struct Peer {
    factory: Arc<Factory>,
    publishing: Publishing,
    connection: RTCPeerConnection,
    exchange: Exchange,
    senders: Vec<Sender>,
    /// Our addresses as the library knows them: one per socket.
    sockets: Vec<Socket>,
    route: Route,
    /// Media that leave with the next flush.
    waiting: Vec<(Packet, Patch)>,
    /// Whether anything but media has been given to the library since the last flush.
    touched: Touched,
    /// When the library wants to be called again, as of the last flush.
    wake: Option<Instant>,
    cipher: Cipher,
    /// The library's number of the sender added last.
    added: RTCRtpTransceiverId,
    /// Whether the handshake is over.
    stands: bool,
    /// The check with which the client has nominated its path, until the handshake is over.
    nomination: Option<(Path, Bytes)>,
    /// The latest time that was told.
    clock: Instant,
    /// What was done to the connection before it stood, to do it again with another cipher.
    script: Script,
    /// The client's addresses.
    candidates: Candidates,
    sending: Vec<(Mid, Kind)>,
    /// Sections that promise simulcast layers.
    layered: Vec<Mid>,
    pictures: Pictures,
    ufrag: String,
    password: String,
    events: VecDeque<PeerEvent>,
}

impl Peer {
    pub(crate) fn new(factory: &Arc<Factory>, publishing: Publishing, now: Instant) -> Result<Self, Refusal> {
        let exchange = Exchange::new(now, factory.config.limits);
        let wanted = engine::Wanted { cipher: Cipher::Gcm, credentials: None };
        let mut connection = engine::build(&factory.certificate, exchange.clone(), wanted, now)?;
        let sockets = sockets(&factory.config);
        gather(&mut connection, &sockets)?;
        let factory = Arc::clone(factory);
        let (senders, sending, layered) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            factory,
            publishing,
            connection,
            exchange,
            senders,
            sockets,
            route: Route::default(),
            waiting: Vec::new(),
            touched: Touched::Yes,
            wake: None,
            cipher: Cipher::Gcm,
            added: 0,
            stands: false,
            nomination: None,
            clock: now,
            script: Script::default(),
            candidates: Candidates::default(),
            sending,
            layered,
            pictures: Pictures::default(),
            ufrag: String::new(),
            password: String::new(),
            events: VecDeque::new(),
        })
    }

    /// We are reached at these addresses from now on: the next description tells them.
    pub(crate) fn reached_by(&mut self, factory: &Arc<Factory>) {
        self.factory = Arc::clone(factory);
    }

    /// The user name fragment that the client's checks carry; empty before the first description.
    pub(crate) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Makes an offer of ours.
    pub(crate) fn offer(&mut self, now: Instant) -> Result<String, Refusal> {
        self.apply(now, Step::Offer)?;
        self.local()
    }

    /// Takes the client's offer and makes our answer.
    pub(crate) fn answer_to(&mut self, now: Instant, offer: &str) -> Result<String, Refusal> {
        let offer = &sdp::open_bundled(offer);
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
        let offer = self.local()?;
        let clean = self.clean(answer)?;
        let clean = self.hear_answer(&clean, &offer);
        self.apply(now, Step::Remote(RTCSessionDescription::answer(clean)?))?;
        self.agree(answer, &offer);
        Ok(())
    }

    /// Takes our offer back.
    pub(crate) fn roll_back(&mut self, now: Instant) -> Result<(), Refusal> {
        self.apply(now, Step::RollBack)
    }

    fn clean(&mut self, sdp: &str) -> Result<String, Refusal> {
        if sdp.len() > sdp::MAX_LENGTH {
            return Err(Refusal("description too long".to_owned()));
        }
        self.candidates.of_session(sdp::ufrag(sdp).unwrap_or_default());
        let (now, candidates) = (self.clock, &mut self.candidates);
        let mut checked = |candidate: &str| {
            candidates::address(candidate)
                .is_some_and(|address| candidates.named(now, address) == Verdict::Checked)
        };
        Ok(sdp::sanitize(sdp, Families::of(&self.factory.config.candidates), &mut checked))
    }

    fn local(&mut self) -> Result<String, Refusal> {
        let description =
            self.connection.local_description().ok_or_else(|| Refusal("no description".to_owned()))?;
        let ufrag = sdp::ufrag(&description.sdp).unwrap_or_default();
        if self.ufrag != ufrag {
            ufrag.clone_into(&mut self.ufrag);
            sdp::password(&description.sdp).unwrap_or_default().clone_into(&mut self.password);
            self.route.forget();
        }
        let words = match description.sdp_type {
            RTCSdpType::Offer => sdp::Words::Offer,
            _ => sdp::Words::Answer,
        };
        let config = &self.factory.config;
        let dressed = sdp::dress(words, &description.sdp, &config.candidates, config.limits);
        Ok(match self.publishing {
            Publishing::Allowed => dressed,
            Publishing::Refused => sdp::taking_nothing(&dressed),
        })
    }

    /// Whether a description of the client has media that it may not send.
    pub(crate) fn refuses_media_of(&self, sdp: &str) -> bool {
        let sends = |section: &Section| section.sends && section.kind != Kind::Other;
        self.publishing == Publishing::Refused && sdp::sections(sdp).iter().any(sends)
    }

    /// Both sides have agreed: what the client sends is numbered as our description says, what we send as the client's.
    fn agree(&mut self, theirs: &str, ours: &str) {
        let (theirs, ours) = (sdp::sections(theirs), sdp::sections(ours));
        let inbound = theirs.iter().filter_map(|section| {
            let mine = ours.iter().find(|mine| mine.mid == section.mid)?;
            let codecs =
                mine.codecs.iter().map(|codec| codec.clone().with_sets_of(&section.codecs)).collect();
            let (repairs, extensions) = (mine.repairs.clone(), mine.extensions.clone());
            let nacks = mine.nacks.iter().copied().filter(|known| section.nacks.contains(known)).collect();
            Some(Section {
                codecs,
                nacks,
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
        let address = candidates::address(candidate);
        if address.is_some_and(|address| self.candidates.named(self.clock, address) == Verdict::Beyond) {
            return Err(Refusal("more addresses than are checked".to_owned()));
        }
        self.apply(self.clock, Step::Candidate(candidate.to_owned()))
    }

    /// A datagram has come.
    pub(crate) fn receive(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Fate {
        self.clock = now;
        self.touched = Touched::Yes;
        if !self.stands && self.before_standing(now, path, datagram) == Next::Drop {
            return Fate::Taken;
        }
        let fate = self.read(now, path, datagram);
        // A handshake may follow the nominating check in the same batch: it is dropped unless the check's effect is seen first.
        if datagram.first().is_some_and(|first| *first < 128) {
            self.pump();
        }
        while self.connection.poll_media_read().is_some() {}
        while self.connection.poll_data_read().is_some() {}
        fate
    }

    fn read(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Fate {
        let same = |socket: &&Socket| socket.local == path.local && socket.transport == path.transport;
        let Some(socket) = self.sockets.iter().find(same) else { return Fate::Refused };
        let udp = path.transport == Transport::Udp;
        let transport_protocol = if udp { TransportProtocol::UDP } else { TransportProtocol::TCP };
        let peer_addr = self.route.arrived(now, path, datagram);
        let transport =
            TransportContext { local_addr: socket.known_as, peer_addr, transport_protocol, ecn: None };
        let message = BytesMut::from(datagram);
        match self.connection.handle_read(TaggedBytesMut { now, transport, message }) {
            Ok(()) => Fate::Taken,
            Err(error) => {
                tracing::debug!("datagram refused: {error}");
                Fate::Refused
            }
        }
    }

    fn pump(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { continue };
            match state {
                RTCPeerConnectionState::Connected => {
                    self.stands = true;
                    self.script = Script::default();
                    self.nomination = None;
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

    /// Time has passed.
    pub(crate) fn timeout(&mut self, now: Instant) {
        self.touched = Touched::Yes;
        if let Err(error) = self.connection.handle_timeout(now) {
            tracing::debug!("timeout refused: {error}");
        }
        self.pump();
    }

    /// When to call [`Self::timeout`], as of the last [`Self::flush`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Says goodbye; [`Self::flush`] gives out the last datagrams.
    pub(crate) fn close(&mut self) {
        self.touched = Touched::Yes;
        if let Err(error) = self.connection.close() {
            tracing::debug!("close refused: {error}");
        }
    }
}
