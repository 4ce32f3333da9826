//! The keys of media, as the handshake agrees on them (RFC 5764, section 4.2).
//!
//! The library exports them for its own pipeline and shows them to nobody. What it does show is the cryptography it calls, through
//! its provider; so this provider, one for each connection, does what the usual one does and keeps what the exporter computes:
//! P_SHA256 over a seed that begins with the exporter's label (RFC 5246, section 5; RFC 5705, section 4).
//!
//! It must not know what is done with the keys.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    RTCCrypto, RTCCryptoProvider, RTCRandom, SecretVec, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

/// What the exporter of one connection gave last.
#[derive(Clone, Default)]
pub(super) struct Keys(Arc<Mutex<Vec<u8>>>);

impl Keys {
    /// Takes the first `length` bytes of the material, once they were all exported.
    pub(super) fn take(&self, length: usize) -> Option<SecretVec> {
        let mut material = self.lock();
        if material.len() < length {
            return None;
        }
        let mut taken = std::mem::take(&mut *material);
        taken.truncate(length);
        Some(SecretVec::new(taken))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The usual cryptography, listened to.
pub(super) struct KeyTap {
    provider: Arc<dyn RTCCryptoProvider>,
    keys: Keys,
}

impl KeyTap {
    /// Does what `provider` does, and keeps the keys of media in `keys`.
    pub(super) fn new(provider: Arc<dyn RTCCryptoProvider>, keys: Keys) -> Self {
        Self { provider, keys }
    }

    fn usual(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }
}

impl RTCCryptoProvider for KeyTap {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.provider.random()
    }
}

impl RTCCrypto for KeyTap {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.usual().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.usual().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.usual().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        let mac = self.usual().new_hmac(algorithm, key)?;
        Ok(Box::new(Heard { mac, keys: self.keys.clone() }))
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.usual().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.usual().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.usual().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.usual().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.usual().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.usual().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.usual().verify_signature(scheme, public_key, message, signature)
    }
}

/// A keyed hash that is listened to.
struct Heard {
    mac: Box<dyn Mac>,
    keys: Keys,
}

impl Mac for Heard {
    fn output_len(&self) -> usize {
        self.mac.output_len()
    }

    fn sign(&mut self, input: &[&[u8]], output: &mut [u8]) -> Result<(), CryptoError> {
        self.mac.sign(input, output)?;
        let label = LABEL_EXTRACTOR_DTLS_SRTP.as_bytes();
        match input {
            // A(1) of P_hash: an export begins.
            [seed] if seed.starts_with(label) => self.keys.lock().clear(),
            // HMAC(A(i) + seed): the next bytes of it.
            [_, seed] if seed.starts_with(label) => self.keys.lock().extend_from_slice(output),
            _ => {}
        }
        Ok(())
    }

    fn verify(&mut self, input: &[&[u8]], expected: &[u8]) -> Result<(), CryptoError> {
        self.mac.verify(input, expected)
    }
}
