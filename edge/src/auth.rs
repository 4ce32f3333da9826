//! Who calls, and what their token lets them do.
//!
//! A token says who somebody is (`sub`) and may be narrowed by `grants`; what a person is to a call is the database's to say.
//! This file must not know routes. Tokens are never logged, nor any part of them but the subject.

use serde::{Deserialize, Serialize};
use shared::id::{CallId, UserId};
use shared::lifecycle::Tasks;
use thiserror::Error;

use crate::settings::AuthSettings;

pub mod caller;
pub mod dev;
pub mod jwks;
pub mod keys;

pub use caller::{Caller, Grants, Right, Role};

use keys::StaticKeys;

/// How far two machines' clocks may be apart, in seconds, for `exp` and `nbf`.
const LEEWAY_SECONDS: u64 = 30;

/// Why nobody was recognised.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// The token is not to be believed, and this is why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The keys that it would be checked with have not been fetched yet.
    #[error("the keys that tokens are checked with cannot be fetched")]
    KeysUnavailable,
}

/// Checks tokens.
#[derive(Clone)]
pub struct Auth {
    fixed: StaticKeys,
    published: Option<jwks::Jwks>,
    expected: Expected,
}

/// What a token's claims must say, where the settings ask for it.
#[derive(Clone, Default)]
pub struct Expected {
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
}

/// The claims that we read.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, deserialize_with = "caller::role_claim")]
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grants: Option<Grants>,
}

impl Auth {
    /// Reads the keys, and begins to fetch published ones.
    ///
    /// # Errors
    /// When a key is malformed.
    pub async fn start(settings: &AuthSettings, tasks: &Tasks) -> anyhow::Result<Self> {
        let published = match &settings.jwks_url {
            Some(url) => Some(jwks::Jwks::start(url.clone(), tasks).await?),
            None => None,
        };
        let expected = Expected { issuer: settings.issuer.clone(), audience: settings.audience.clone() };
        Ok(Self { fixed: StaticKeys::new(settings)?, published, expected })
    }

    /// Who a token speaks for.
    ///
    /// # Errors
    /// When it is not to be believed, or cannot be checked now.
    pub async fn verify(&self, token: &str) -> Result<Caller, AuthError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| AuthError::Invalid("the token is malformed or its algorithm is not accepted"))?;
        if let Some(key) = self.fixed.of(header.alg) {
            match keys::check(token, key, &self.expected) {
                // Of two sources of public keys, either may have signed.
                Err(_) if self.published.is_some() && keys::is_public(header.alg) => {}
                checked => return checked.and_then(caller),
            }
        }
        let published = self.published.as_ref().filter(|_| keys::is_public(header.alg));
        let Some(published) = published else {
            return Err(AuthError::Invalid("the token's algorithm is not accepted"));
        };
        let key = published.key(header.kid.as_deref(), header.alg).await?;
        keys::check(token, &key, &self.expected).and_then(caller)
    }
}

fn caller(claims: Claims) -> Result<Caller, AuthError> {
    let user = UserId::parse(&claims.sub).map_err(|_| AuthError::Invalid("the token's sub is no user id"))?;
    Ok(Caller { user, name: claims.name, role: claims.role, grants: claims.grants })
}

/// What a development token says.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `sub`.
    pub user: UserId,
    /// `name`.
    pub name: Option<String>,
    /// `role`.
    pub role: Role,
    /// `grants`.
    pub grants: Option<Grants>,
}

/// A grant's call, for messages.
pub(crate) fn other_call(call: &CallId) -> String {
    format!("the token is for another call than {call}")
}
