//! Tokens for development: signed with `JWT_SECRET`, for any name. Only the route that exists with `DEV_LOGIN` calls this.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use shared::clock::Timestamp;
use shared::env::Secret;

use super::{Claims, Identity};
use crate::settings::AuthSettings;

/// How long a development token is good for: a working day with its evening.
pub const VALID: Duration = Duration::from_secs(12 * 3600);

#[derive(Serialize)]
struct Token<'a> {
    #[serde(flatten)]
    claims: Claims,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Signs a token that says `identity`.
///
/// # Errors
/// When there is no secret, or signing fails.
pub fn token(settings: &AuthSettings, identity: Identity, at: Timestamp) -> anyhow::Result<String> {
    let secret = settings.secret.as_ref().map(Secret::expose).unwrap_or_default();
    anyhow::ensure!(!secret.is_empty(), "there is no JWT_SECRET to sign with");
    let Identity { user, name, role, grants } = identity;
    let token = Token {
        claims: Claims { sub: user.into(), name, role, grants },
        iat: at.timestamp(),
        exp: (at + VALID).timestamp(),
        iss: settings.issuer.as_deref(),
        aud: settings.audience.as_deref(),
    };
    Ok(encode(&Header::new(Algorithm::HS256), &token, &EncodingKey::from_secret(secret.as_bytes()))?)
}
