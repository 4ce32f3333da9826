//! The edge's settings: the environment, parsed before a port opens.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::HeaderValue;
use reqwest::Url;
use shared::call::DEFAULT_MAX_PARTICIPANTS;
use shared::env::{Env, EnvError, Secret};
use shared::settings::database_max_connections;

use crate::driver::{Loopback, MediaSettings};
use crate::ingest::IngestSettings;
use crate::rooms::RoomSettings;

mod auth;

pub use auth::{AuthSettings, DevLogin};

/// Control requests of one user, and refused requests of one address, in a minute (API, section 2).
const RATE_PER_MINUTE: u32 = 100;
/// Chunks of one user in a second: a client sends one a second and track, has three tracks at most, and must catch up
/// after an outage faster than it falls behind.
const RATE_CHUNKS_PER_SECOND: u32 = 10;
/// Connections to the database. Requests hold one for a few milliseconds; 20 keep a hundred requests a second waiting for less
/// than a round trip.
const DATABASE_CONNECTIONS: u32 = 20;
/// How long running requests may take to finish after a signal: less than the 30 s that platforms commonly wait before SIGKILL.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(25);
/// The most people in a call that any setting or caller may ask for; the table's CHECK says the same.
pub const MAX_PARTICIPANTS_LIMIT: u32 = 1_000;

/// How long an address in storage is good for, unless `PRESIGN_TTL` says otherwise: to begin a download with, not to be passed on.
const PRESIGN_TTL: Duration = Duration::from_secs(300);
/// S3 and Google Cloud Storage sign for a week at most.
const PRESIGN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the edge reads.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PORT`; 0 takes any that is free.
    pub port: u16,
    /// `PUBLIC_URL`, without a slash at its end; `None`: the address that was bound.
    pub public_url: Option<String>,
    /// `ALLOWED_ORIGINS`.
    pub allowed_origins: Vec<HeaderValue>,
    /// `JWT_*`.
    pub auth: AuthSettings,
    /// `DEV_LOGIN`.
    pub dev_login: DevLogin,
    /// `MAX_PARTICIPANTS_PER_ROOM`: of a call whose creator does not say.
    pub max_participants: u32,
    /// `RATE_LIMIT_*`.
    pub rates: RateSettings,
    /// `DATABASE_MAX_CONNECTIONS`.
    pub database_max_connections: u32,
    /// `SHUTDOWN_GRACE`.
    pub shutdown_grace: Duration,
    /// `PRESIGN_TTL`: how long an address that storage hands out is good for.
    pub presign_ttl: Duration,
    /// `TRUST_PROXY`.
    pub client_address: ClientAddress,
    /// How long requests may take; no variable.
    pub patience: Patience,
    /// What the capture of chunks reads.
    pub ingest: IngestSettings,
    /// What carries media.
    pub media: MediaSettings,
    /// What rooms read.
    pub rooms: RoomSettings,
    /// What edge and worker share.
    pub shared: shared::settings::Settings,
}

/// `RATE_LIMIT_PER_MINUTE`, `RATE_LIMIT_CHUNKS_PER_SECOND`; `None` (0 in the environment) does not limit.
#[derive(Debug, Clone, Copy)]
pub struct RateSettings {
    /// Control requests of a user, and refused requests of an address.
    pub per_minute: Option<NonZeroU32>,
    /// Chunks, and parts of media read, of a user.
    pub chunks_per_second: Option<NonZeroU32>,
}

/// How long requests may take. No variables, as no network or disk needs others; tests have less time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A control request in all: the wait for a database connection (5 s) and a few statements.
    pub control: Duration,
    /// The longest pause within a chunk's body: a mobile network that hands over is silent for less.
    pub pause: Duration,
    /// The longest that a chunk's body may take in all: 10 MiB pass in it at 140 kbit/s.
    pub body: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            control: Duration::from_secs(15),
            pause: Duration::from_secs(30),
            body: Duration::from_secs(600),
        }
    }
}

/// Where a client's address is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The connection's other end.
    Peer,
    /// The last entry of `x-forwarded-for`, which the proxy in front wrote.
    Forwarded,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let port = env.parsed("PORT", 8080, "a port number")?;
        let public_url = public_url(env)?;
        let auth = AuthSettings::from_env(env)?;
        let shared = shared::settings::Settings::from_env(env)?;
        let address = public_url.clone().unwrap_or_default();
        let loopback = if auth::is_loopback(&address) { Loopback::Offered } else { Loopback::Hidden };
        Ok(Self {
            port,
            dev_login: DevLogin::from_env(env, public_url.as_deref(), &auth)?,
            public_url,
            allowed_origins: allowed_origins(env)?,
            auth,
            max_participants: max_participants(env)?,
            rates: RateSettings::from_env(env)?,
            database_max_connections: database_max_connections(env, DATABASE_CONNECTIONS)?,
            shutdown_grace: env.duration("SHUTDOWN_GRACE", SHUTDOWN_GRACE)?,
            presign_ttl: presign_ttl(env)?,
            client_address: match env.flag("TRUST_PROXY")? {
                true => ClientAddress::Forwarded,
                false => ClientAddress::Peer,
            },
            patience: Patience::default(),
            ingest: IngestSettings::from_env(env, shared.spool.clone(), address)?,
            media: MediaSettings::from_env(env, loopback)?,
            rooms: RoomSettings::from_env(env)?,
            shared,
        })
    }

    /// The password-like values, for a test that none of them is ever printed.
    #[must_use]
    pub fn secrets(&self) -> Vec<&Secret> {
        let shared = [&self.shared.database_url].into_iter().chain(self.shared.storage_secrets());
        let own = self.auth.secret.iter().chain(shared);
        own.chain(self.rooms.ice.secrets()).collect()
    }
}

impl RateSettings {
    fn from_env(env: &Env) -> Result<Self, EnvError> {
        let rate = |name, default| {
            env.parsed(name, default, "a number of requests, 0 for no limit").map(NonZeroU32::new)
        };
        Ok(Self {
            per_minute: rate("RATE_LIMIT_PER_MINUTE", RATE_PER_MINUTE)?,
            chunks_per_second: rate("RATE_LIMIT_CHUNKS_PER_SECOND", RATE_CHUNKS_PER_SECOND)?,
        })
    }
}

fn public_url(env: &Env) -> Result<Option<String>, EnvError> {
    let Some(raw) = env.optional("PUBLIC_URL")? else { return Ok(None) };
    let wrong = || EnvError::wants("PUBLIC_URL", "an http:// or https:// URL without query");
    let url = Url::parse(raw).map_err(|_| wrong())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.host().is_some();
    if !(plain && ["http", "https"].contains(&url.scheme())) {
        return Err(wrong());
    }
    Ok(Some(raw.trim_end_matches('/').to_owned()))
}

fn allowed_origins(env: &Env) -> Result<Vec<HeaderValue>, EnvError> {
    let wrong =
        || EnvError::wants("ALLOWED_ORIGINS", "a comma-separated list such as https://app.example.org");
    let origin = |raw: String| {
        let url = Url::parse(&raw).map_err(|_| wrong())?;
        // `*` is refused on purpose: tokens travel in requests, and a list is a line to write.
        if url.origin().ascii_serialization() != raw {
            return Err(wrong());
        }
        HeaderValue::from_str(&raw).map_err(|_| wrong())
    };
    env.list("ALLOWED_ORIGINS")?.into_iter().map(origin).collect()
}

fn presign_ttl(env: &Env) -> Result<Duration, EnvError> {
    let valid = env.duration("PRESIGN_TTL", PRESIGN_TTL)?;
    let wrong = || EnvError::wants("PRESIGN_TTL", "a duration from 1s to 7d, such as 5m");
    if (Duration::from_secs(1)..=PRESIGN_TTL_MAX).contains(&valid) { Ok(valid) } else { Err(wrong()) }
}

fn max_participants(env: &Env) -> Result<u32, EnvError> {
    env.within("MAX_PARTICIPANTS_PER_ROOM", DEFAULT_MAX_PARTICIPANTS, 1..=MAX_PARTICIPANTS_LIMIT)
}

#[cfg(test)]
mod tests;
