//! Which tokens are accepted, and the development login.

use reqwest::Url;
use shared::env::{Env, EnvError, Secret};

/// `JWT_SECRET`, `JWT_PUBLIC_KEY`, `JWT_JWKS_URL` (at least one), `JWT_ISSUER`, `JWT_AUDIENCE`.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Of HS256.
    pub secret: Option<Secret>,
    /// PEM of an RSA, P-256 or Ed25519 public key.
    pub public_key: Option<String>,
    /// Where a set of public keys is published.
    pub jwks_url: Option<Url>,
    /// `iss`, when it is checked.
    pub issuer: Option<String>,
    /// `aud`, when it is checked.
    pub audience: Option<String>,
}

impl AuthSettings {
    pub(super) fn from_env(env: &Env) -> Result<Self, EnvError> {
        let settings = Self {
            secret: env.secret("JWT_SECRET")?,
            // Platforms' dashboards keep a PEM on one line with \n in it.
            public_key: env.optional("JWT_PUBLIC_KEY")?.map(|pem| pem.replace("\\n", "\n")),
            jwks_url: jwks_url(env)?,
            issuer: env.optional("JWT_ISSUER")?.map(str::to_owned),
            audience: env.optional("JWT_AUDIENCE")?.map(str::to_owned),
        };
        if let Some(pem) = &settings.public_key {
            crate::auth::keys::public_key(pem).map_err(|_| {
                EnvError::wants("JWT_PUBLIC_KEY", "a PEM of an RSA, P-256 or Ed25519 public key")
            })?;
        }
        if settings.secret.is_none() && settings.public_key.is_none() && settings.jwks_url.is_none() {
            return Err(EnvError::missing("JWT_SECRET", "a secret, or set JWT_PUBLIC_KEY or JWT_JWKS_URL"));
        }
        Ok(settings)
    }
}

fn jwks_url(env: &Env) -> Result<Option<Url>, EnvError> {
    let wrong = || EnvError::wants("JWT_JWKS_URL", "an http:// or https:// URL");
    let Some(raw) = env.optional("JWT_JWKS_URL")? else { return Ok(None) };
    let url = Url::parse(raw).map_err(|_| wrong())?;
    ["http", "https"].contains(&url.scheme()).then_some(Some(url)).ok_or_else(wrong)
}

/// `DEV_LOGIN`: whether anyone may be handed a token for any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DevLogin {
    /// The route does not exist.
    Off,
    /// The route exists, and the edge listens on the loopback address alone.
    On,
}

impl DevLogin {
    pub(super) fn from_env(
        env: &Env,
        public_url: Option<&str>,
        auth: &AuthSettings,
    ) -> Result<Self, EnvError> {
        if !env.flag("DEV_LOGIN")? {
            return Ok(Self::Off);
        }
        if public_url.is_some_and(|url| !is_loopback(url)) {
            return Err(EnvError::wants("DEV_LOGIN", "a PUBLIC_URL with a loopback address"));
        }
        if auth.secret.is_none() {
            return Err(EnvError::wants("DEV_LOGIN", "JWT_SECRET, which signs its tokens"));
        }
        Ok(Self::On)
    }
}

pub(super) fn is_loopback(url: &str) -> bool {
    let Some(host) = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)) else {
        return false;
    };
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}
