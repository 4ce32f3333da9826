//! What is said to a TURN server and what it says, byte by byte (RFC 8656, in STUN messages of RFC 8489).
//!
//! This file must not decide anything: when to say what is `allocation`'s business. Messages are written and read by the stack's own
//! STUN library; only the four bytes around media are written here, without a copy of the media.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rtc::crypto::{RTCCryptoProvider, default_provider};
use rtc::shared::error::Error;
use rtc::stun::attributes::{ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME};
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE,
    METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND, Message,
    MessageType, Setter, TransactionId,
};
use rtc::stun::textattrs::TextAttribute;
use rtc::turn::proto::PROTO_UDP;
use rtc::turn::proto::channum::ChannelNumber;
use rtc::turn::proto::data::Data;
use rtc::turn::proto::lifetime::Lifetime;
use rtc::turn::proto::peeraddr::PeerAddress;
use rtc::turn::proto::relayaddr::RelayedAddress;
use rtc::turn::proto::reqtrans::RequestedTransport;

/// The cryptography of the whole process; nothing in it is a secret.
static CRYPTO: LazyLock<Arc<dyn RTCCryptoProvider>> =
    LazyLock::new(|| default_provider().expect("the build has a provider"));

/// Which answer belongs to which request.
pub(super) type Transaction = [u8; 12];

/// Something that the server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// An address of its own (RFC 8656, section 7).
    Allocate,
    /// That the address stays for so long; zero gives it back (section 8).
    Refresh(Option<Duration>),
    /// That datagrams of an address come through (section 9).
    Permit(IpAddr),
    /// A short name for an address (section 12).
    Bind(SocketAddr, u16),
}

/// Who asks: the long-term credentials of RFC 8489, section 9.2, with what the server said of them.
#[derive(Clone)]
pub(super) struct Signature {
    pub(super) username: String,
    pub(super) realm: String,
    pub(super) nonce: String,
    key: Vec<u8>,
}

impl Signature {
    pub(super) fn new(username: &str, password: &str, realm: String, nonce: String) -> Result<Self, Error> {
        let (name, word) = (username.to_owned(), password.to_owned());
        let key = MessageIntegrity::long_term_integrity_key(name, realm.clone(), word, CRYPTO.crypto())?;
        Ok(Self { username: username.to_owned(), realm, nonce, key })
    }
}

/// A request, ready to be sent.
pub(super) fn request(
    wish: Wish,
    transaction: Transaction,
    signature: Option<&Signature>,
) -> Result<Vec<u8>, Error> {
    let method = match wish {
        Wish::Allocate => METHOD_ALLOCATE,
        Wish::Refresh(_) => METHOD_REFRESH,
        Wish::Permit(_) => METHOD_CREATE_PERMISSION,
        Wish::Bind(..) => METHOD_CHANNEL_BIND,
    };
    let mut parts: Vec<Box<dyn Setter>> =
        vec![Box::new(TransactionId(transaction)), Box::new(MessageType::new(method, CLASS_REQUEST))];
    match wish {
        Wish::Allocate => parts.push(Box::new(RequestedTransport { protocol: PROTO_UDP })),
        Wish::Refresh(lifetime) => {
            parts.extend(lifetime.map(|lifetime| Box::new(Lifetime(lifetime)) as Box<dyn Setter>));
        }
        Wish::Permit(ip) => parts.push(Box::new(PeerAddress { ip, port: 0 })),
        Wish::Bind(peer, number) => {
            parts.push(Box::new(ChannelNumber(number)));
            parts.push(Box::new(PeerAddress { ip: peer.ip(), port: peer.port() }));
        }
    }
    if let Some(Signature { username, realm, nonce, key }) = signature {
        for (kind, text) in [(ATTR_USERNAME, username), (ATTR_REALM, realm), (ATTR_NONCE, nonce)] {
            parts.push(Box::new(TextAttribute::new(kind, text.clone())));
        }
        parts.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(key.clone(), CRYPTO.crypto())));
    }
    parts.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&parts)?;
    Ok(message.raw)
}

/// A datagram for somebody who has no channel yet.
pub(super) fn indication(to: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, Error> {
    let mut message = Message::new();
    message.build(&[
        Box::new(TransactionId::new()),
        Box::new(MessageType::new(METHOD_SEND, CLASS_INDICATION)),
        Box::new(PeerAddress { ip: to.ip(), port: to.port() }),
        Box::new(Data(datagram.to_vec())),
    ])?;
    Ok(message.raw)
}

/// Bytes before a datagram on a channel (RFC 8656, section 12.4).
pub(super) fn channel_header(number: u16, datagram: &[u8]) -> [u8; 4] {
    let ([n0, n1], len) = (number.to_be_bytes(), u16::try_from(datagram.len()).unwrap_or(u16::MAX));
    let [l0, l1] = len.to_be_bytes();
    [n0, n1, l0, l1]
}

/// What came.
#[derive(Debug)]
pub(super) enum Came<'a> {
    /// A datagram on a channel.
    Channel(u16, &'a [u8]),
    /// A datagram from an address without one.
    Data(SocketAddr, Vec<u8>),
    /// To a request of ours.
    Answer(Answer),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) transaction: Transaction,
    message: Message,
}

/// What the server says to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is done.
    Done {
        /// Of an allocation: the address that is ours now.
        relayed: Option<SocketAddr>,
        /// For how long.
        lifetime: Option<Duration>,
    },
    /// It is not.
    Refused {
        /// RFC 8656, section 19.
        code: u16,
        /// In the server's words.
        reason: String,
        /// Realm and nonce for another try, where it gave them.
        challenge: Option<(String, String)>,
    },
}

/// Reads a datagram of the server. `None`: it is nothing that a server says.
pub(super) fn read(datagram: &[u8]) -> Option<Came<'_>> {
    if let [n0 @ 0x40..=0x4F, n1, l0, l1, rest @ ..] = datagram {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        return Some(Came::Channel(u16::from_be_bytes([*n0, *n1]), rest.get(..len)?));
    }
    let mut message = Message::new();
    message.raw = datagram.to_vec();
    message.decode().ok()?;
    if message.typ == MessageType::new(METHOD_DATA, CLASS_INDICATION) {
        let (mut from, mut data) = (PeerAddress::default(), Data::default());
        from.get_from(&message).ok()?;
        data.get_from(&message).ok()?;
        return Some(Came::Data(SocketAddr::new(from.ip, from.port), data.0));
    }
    [CLASS_SUCCESS_RESPONSE, CLASS_ERROR_RESPONSE]
        .contains(&message.typ.class)
        .then_some(Came::Answer(Answer { transaction: message.transaction_id.0, message }))
}

impl Answer {
    /// What it says. Success must be signed as the request was (RFC 8489, section 9.2.5); a refusal cannot always be. `None`: it is
    /// not the server's.
    pub(super) fn said(mut self, signature: Option<&Signature>) -> Option<Said> {
        if self.message.typ.class == CLASS_ERROR_RESPONSE {
            let mut code = ErrorCodeAttribute::default();
            code.get_from(&self.message).ok()?;
            let text = |kind| TextAttribute::get_from_as(&self.message, kind).ok().map(|found| found.text);
            let reason = String::from_utf8_lossy(&code.reason).into_owned();
            return Some(Said::Refused {
                code: code.code.0,
                reason,
                challenge: text(ATTR_REALM).zip(text(ATTR_NONCE)),
            });
        }
        if let Some(Signature { key, .. }) = signature
            && (!self.message.contains(ATTR_MESSAGE_INTEGRITY)
                || MessageIntegrity::check(&mut self.message, key, CRYPTO.crypto()).is_err())
        {
            return None;
        }
        let (mut relayed, mut lifetime) = (RelayedAddress::default(), Lifetime::default());
        let relayed =
            relayed.get_from(&self.message).ok().map(|()| SocketAddr::new(relayed.ip, relayed.port));
        let lifetime = lifetime.get_from(&self.message).ok().map(|()| lifetime.0);
        Some(Said::Done { relayed, lifetime })
    }
}
