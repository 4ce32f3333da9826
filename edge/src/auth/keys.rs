//! Keys, and the check of a token against one. The algorithm follows from the key, never from the token: a token that names
//! another one is refused, so that a public key cannot be used as an HMAC secret and `none` is nothing at all.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use tracing::warn;

use super::{AuthError, Claims, Expected, LEEWAY_SECONDS};
use crate::settings::AuthSettings;

/// A secret shorter than the hash's output weakens HS256 (RFC 7518, section 3.2).
const SECRET_MIN_BYTES: usize = 32;

/// A key with the one algorithm that it is used with.
#[derive(Clone)]
pub struct Key {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// The keys that the settings hold.
#[derive(Clone, Default)]
pub(super) struct StaticKeys(Vec<Key>);

impl StaticKeys {
    pub(super) fn new(settings: &AuthSettings) -> jsonwebtoken::errors::Result<Self> {
        let mut keys = Vec::new();
        if let Some(secret) = &settings.secret {
            let bytes = secret.expose().as_bytes();
            if bytes.len() < SECRET_MIN_BYTES {
                warn!(
                    "JWT_SECRET is shorter than {SECRET_MIN_BYTES} bytes: tokens may be forged by guessing it"
                );
            }
            keys.push(Key { key: DecodingKey::from_secret(bytes), algorithm: Algorithm::HS256 });
        }
        if let Some(pem) = &settings.public_key {
            keys.push(public_key(pem)?);
        }
        Ok(Self(keys))
    }

    pub(super) fn of(&self, algorithm: Algorithm) -> Option<&Key> {
        self.0.iter().find(|key| key.algorithm == algorithm)
    }
}

/// Whether an algorithm is one of those accepted from public keys.
pub(super) fn is_public(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA)
}

/// Reads a PEM; its kind decides the algorithm.
///
/// # Errors
/// When it is no public key of the three kinds.
pub fn public_key(pem: &str) -> jsonwebtoken::errors::Result<Key> {
    let pem = pem.as_bytes();
    let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| Key { key, algorithm: Algorithm::RS256 });
    let ec = |_| DecodingKey::from_ec_pem(pem).map(|key| Key { key, algorithm: Algorithm::ES256 });
    let ed = |_| DecodingKey::from_ed_pem(pem).map(|key| Key { key, algorithm: Algorithm::EdDSA });
    rsa().or_else(ec).or_else(ed)
}

/// Checks signature, algorithm, `exp`, `nbf`, and `iss` and `aud` when they are expected.
pub(super) fn check(token: &str, key: &Key, expected: &Expected) -> Result<Claims, AuthError> {
    let decoded = decode::<Claims>(token, &key.key, &validation(key.algorithm, expected));
    decoded.map(|data| data.claims).map_err(|error| AuthError::Invalid(reason(error.kind())))
}

fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    let mut required = vec!["exp", "sub"];
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    match &expected.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        None => validation.validate_aud = false,
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token was issued by somebody else",
        ErrorKind::InvalidAudience => "the token is meant for somebody else",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim that is required",
        ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => "the token's claims do not have their form",
        ErrorKind::InvalidAlgorithm => "the token's algorithm is not accepted",
        _ => "the token's signature does not fit",
    }
}
