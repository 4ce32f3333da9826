//! Published keys (RFC 7517): fetched at the start, again and again, and at once when a token names a key that is not there.
//!
//! The last good set stays when the address is down: whoever could call a minute ago still can. Keys are read by their kind;
//! symmetric keys, encryption keys and kinds that are not accepted are passed over.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::ensure;
use futures::TryStreamExt;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use shared::lifecycle::Tasks;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::AuthError;
use super::keys::Key;

/// How often the set is fetched anew, so that a withdrawn key stops working within this.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// The least time between two fetches that unknown keys ask for: whoever sends made-up key ids must not make us hammer the
/// address, and a key that was just published is found after this at the latest.
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(5);
/// How long one fetch may take; requests with an unknown key wait for it.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// The largest set that is read: a few dozen RSA keys are 20 KiB.
const SET_MAX_BYTES: usize = 256 * 1024;
/// The most keys of a set that are kept.
const KEYS_MAX: usize = 100;

/// A set of published keys.
#[derive(Clone)]
pub struct Jwks(Arc<Shared>);

struct Shared {
    url: Url,
    client: Client,
    keys: RwLock<Option<Arc<Vec<Named>>>>,
    /// Held while the set is fetched; when an unknown key last asked for it.
    asked_at: Mutex<Option<Instant>>,
}

/// Why the set is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// It is time.
    Scheduled,
    /// A token names a key that is not there.
    UnknownKey,
}

struct Named {
    id: Option<String>,
    key: Key,
}

impl Jwks {
    /// Fetches the set once, then in the background. An address that is down is no error: it is asked again.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub async fn start(url: Url, tasks: &Tasks) -> anyhow::Result<Self> {
        let client =
            Client::builder().timeout(FETCH_MAX).redirect(reqwest::redirect::Policy::none()).build()?;
        let jwks =
            Self(Arc::new(Shared { url, client, keys: RwLock::default(), asked_at: Mutex::default() }));
        jwks.refresh(Because::Scheduled).await;
        let (background, stop) = (jwks.clone(), tasks.stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(background.keep_fresh()).await;
        });
        Ok(jwks)
    }

    /// The key that a token names; one that names none gets the only key of its algorithm.
    pub(super) async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Key, AuthError> {
        if let Some(key) = self.find(id, algorithm) {
            return Ok(key);
        }
        self.refresh(Because::UnknownKey).await;
        if self.current().is_none() {
            return Err(AuthError::KeysUnavailable);
        }
        self.find(id, algorithm)
            .ok_or(AuthError::Invalid("the token was signed with a key that is not known"))
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let keys = self.current()?;
        let mut fitting = keys
            .iter()
            .filter(|named| named.key.algorithm == algorithm && (id.is_none() || named.id.as_deref() == id));
        let found = fitting.next()?;
        let only = fitting.next().is_none();
        (id.is_some() || only).then(|| found.key.clone())
    }

    fn current(&self) -> Option<Arc<Vec<Named>>> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn keep_fresh(&self) {
        let mut ticks = interval_at(Instant::now() + REFRESH_EVERY, REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh(Because::Scheduled).await;
        }
    }

    /// Fetches the set, for unknown keys not more often than is named. Callers at the same time share one fetch.
    async fn refresh(&self, because: Because) {
        let mut asked_at = self.0.asked_at.lock().await;
        if because == Because::UnknownKey {
            if asked_at.is_some_and(|at| at.elapsed() < UNKNOWN_KEY_EVERY) {
                return;
            }
            *asked_at = Some(Instant::now());
        }
        match self.fetch().await {
            Ok(keys) => {
                info!(jwks.keys = keys.len(), "fetched {} keys that tokens are checked with", keys.len());
                *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
            }
            Err(error) => {
                warn!("cannot fetch the keys that tokens are checked with, the last ones stay: {error:#}");
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<Vec<Named>> {
        let request = self.0.client.get(self.0.url.clone()).send().await;
        let response = request.and_then(reqwest::Response::error_for_status);
        // The address may hold a secret in its query.
        let mut body = response.map_err(reqwest::Error::without_url)?.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(part) = body.try_next().await.map_err(reqwest::Error::without_url)? {
            bytes.extend_from_slice(&part);
            ensure!(bytes.len() <= SET_MAX_BYTES, "the set of keys is larger than {SET_MAX_BYTES} bytes");
        }
        let keys = usable(&serde_json::from_slice(&bytes)?);
        ensure!(!keys.is_empty(), "the set holds no RSA, P-256 or Ed25519 key");
        Ok(keys)
    }
}

fn usable(set: &JwkSet) -> Vec<Named> {
    let signing =
        set.keys.iter().filter(|jwk| !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)));
    let named = signing.filter_map(|jwk| {
        let key = Key { key: DecodingKey::from_jwk(jwk).ok()?, algorithm: algorithm(jwk)? };
        Some(Named { id: jwk.common.key_id.clone(), key })
    });
    named.take(KEYS_MAX).collect()
}

/// The one algorithm that a key is used with; `None` when it is of another kind or says another algorithm of itself.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, word) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    jwk.common.key_algorithm.is_none_or(|said| said == word).then_some(algorithm)
}
