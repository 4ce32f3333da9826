//! Encrypts media (RFC 3711, RFC 7714), past the library's pipeline.
//!
//! Decisions:
//! - The library encrypts reports alone. Its pipeline hands every packet through nine stages by value; of 5.7 µs that a forwarded packet cost at
//!   75,000 a second, these took 2.3.
//! - So no SSRC is encrypted by both: the nonce of a packet is made of its SSRC and number, and each side counts the rollovers of its own.
//!   What is sent again under the SSRC of the first time leaves by the same outlet.

use bytes::BytesMut;
use rtc::crypto::RTCCrypto;
use rtc::shared::error::Error;
use rtc::shared::marshal::{Marshal, MarshalSize};
use rtc::srtp::config::Config;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;

use super::cipher::Cipher;
use super::keys::Keys;
use super::outgoing::Leaving;

/// Who began the handshake: it decides which of the keys are ours (RFC 5764, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// The outlet of one connection.
pub(super) struct Outlet {
    srtp: Context,
    plain: BytesMut,
}

impl Outlet {
    /// With the keys of the handshake that has just ended, if one has.
    pub(super) fn new(
        keys: &Keys,
        cipher: Cipher,
        role: Role,
        crypto: &dyn RTCCrypto,
    ) -> Result<Option<Self>, Error> {
        let profile = match cipher {
            Cipher::Gcm => ProtectionProfile::AeadAes128Gcm,
            Cipher::CounterMode => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let mut config = Config { profile, ..Config::default() };
        let Some(material) = keys.take(config.keying_material_len()) else { return Ok(None) };
        config.set_session_keys_from_keying_material(material.as_ref(), role == Role::Client)?;
        let (key, salt) = (&config.keys.local_master_key, &config.keys.local_master_salt);
        let srtp = Context::new(key, salt, profile, None, None, crypto)?;
        Ok(Some(Self { srtp, plain: BytesMut::new() }))
    }

    /// The packet as it goes on the wire.
    pub(super) fn encrypt(&mut self, leaving: &Leaving) -> Result<BytesMut, Error> {
        let Leaving { header, payload, patch } = leaving;
        let at = header.marshal_size();
        self.plain.resize(at, 0);
        header.marshal_to(&mut self.plain)?;
        self.plain.extend_from_slice(payload);
        patch.apply(&mut self.plain[at..]);
        self.srtp.encrypt_rtp_with_header(&self.plain, header)
    }
}
