//! One WebRTC connection. This file and those below it are the only ones of this crate that know `rtc` (the edge uses its STUN messages
//! for the way through a TURN server); another stack would replace them behind the same few functions: offer, answer, roll back,
//! candidate, senders, datagrams in and out, packets in and out, events, time.
//!
//! It must not know rooms, users' rights or whose turn it is to offer.

mod allowance;
mod candidates;
mod cipher;
mod descriptions;
mod engine;
mod estimating;
mod exchange;
mod keys;
mod limit;
mod media;
mod numbering;
mod outgoing;
mod outlet;
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

use candidates::Candidates;
use cipher::Cipher;
use exchange::Exchange;
pub(crate) use exchange::Inbound;
use keys::Keys;
use outlet::{Outlet, Role};
use pictures::Pictures;
pub(crate) use receiving::ASKED_FOR;
use route::Route;
use script::{Next, Script};
pub(crate) use sdp::{Identity, Kind, identity};
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
    /// What the handshake has agreed on for media, who began it, and what it made of both.
    keys: Keys,
    role: Role,
    outlet: Option<Outlet>,
    /// The way that the library takes to the client; unknown after anything that may have changed it.
    way: Option<Path>,
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
    /// The client's connection, as of the last description that both agreed on.
    agreed_with: Option<Identity>,
    events: VecDeque<PeerEvent>,
}

impl Peer {
    pub(crate) fn new(factory: &Arc<Factory>, publishing: Publishing, now: Instant) -> Result<Self, Refusal> {
        let exchange = Exchange::new(now, factory.config.limits);
        let keys = Keys::default();
        let wanted = engine::Wanted { cipher: Cipher::Gcm, credentials: None, keys: keys.clone() };
        let mut connection = engine::build(factory, exchange.clone(), wanted, now)?;
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
            keys,
            role: Role::Client,
            outlet: None,
            way: None,
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
            agreed_with: None,
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

    /// Which of the client's connections this one has spoken with, if it has.
    pub(crate) fn agreed_with(&self) -> Option<&Identity> {
        self.agreed_with.as_ref()
    }

    /// Sections on which the client sends, as last agreed, in their order.
    pub(crate) fn sending(&self) -> &[(Mid, Kind)] {
        &self.sending
    }

    /// Whether a section promises several layers.
    pub(crate) fn has_layers(&self, mid: &Mid) -> bool {
        self.layered.contains(mid)
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
            self.way = None;
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
                    self.open_outlet();
                    self.events.push_back(PeerEvent::Connected);
                }
                RTCPeerConnectionState::Disconnected => self.events.push_back(PeerEvent::Lost),
                RTCPeerConnectionState::Failed => self.events.push_back(PeerEvent::Failed),
                _ => {}
            }
        }
    }

    /// Media may leave from now on.
    fn open_outlet(&mut self) {
        let crypto = self.factory.provider.crypto();
        match Outlet::new(&self.keys, self.cipher, self.role, crypto) {
            Ok(Some(outlet)) => self.outlet = Some(outlet),
            // The same handshake as before.
            Ok(None) if self.outlet.is_some() => {}
            Ok(None) => tracing::error!("no keys of media came of a handshake: nothing can be sent"),
            Err(error) => tracing::error!(%error, "the keys of media are refused: nothing can be sent"),
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
        self.way = None;
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
