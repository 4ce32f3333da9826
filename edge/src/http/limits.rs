//! How often somebody may ask. Per user, in three kinds; and per address for requests whose sender was not recognised, so that
//! people behind one address do not slow each other down while whoever guesses tokens is slowed down at once.
//!
//! Memory is bounded: keys at rest are forgotten on a timer, and beyond `KEYS_MAX` strangers wait.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use shared::id::UserId;
use shared::lifecycle::Tasks;
use tokio::time::interval;

use crate::error::{ApiError, Code};
use crate::settings::{ClientAddress, RateSettings};

/// How many seconds' worth of chunks may come at once: what piles up in a client while its network is away for half a minute.
const CHUNK_BURST_SECONDS: u32 = 30;
/// How often keys at rest are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// The most keys of one limit: 100,000 of them take about 20 MiB.
const KEYS_MAX: usize = 100_000;
/// How long a new key waits when there are too many.
const CROWDED_WAIT: Duration = Duration::from_secs(60);

/// Every limit of the process.
#[derive(Clone)]
pub struct Limits {
    /// Control requests of a user.
    pub control: Limit<UserId>,
    /// Downloads and thumbnails of a user: a player reads a file in many parts.
    pub media: Limit<UserId>,
    /// Chunks of a user.
    pub chunks: Limit<UserId>,
    /// Requests from an address whose sender was not recognised.
    pub strangers: Limit<IpAddr>,
    address: ClientAddress,
}

/// One limit; `None` does not limit.
pub struct Limit<K: Hash + Eq + Clone>(Option<Arc<DefaultKeyedRateLimiter<K>>>);

impl<K: Hash + Eq + Clone> Clone for Limit<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Limits {
    /// Makes the limits, and begins to forget keys at rest.
    #[must_use]
    pub fn start(rates: RateSettings, address: ClientAddress, tasks: &Tasks) -> Self {
        let per_minute = rates.per_minute.map(Quota::per_minute);
        let chunks = rates.chunks_per_second.map(with_burst);
        let limits = Self {
            control: Limit::new(per_minute),
            media: Limit::new(chunks),
            chunks: Limit::new(chunks),
            strangers: Limit::new(per_minute),
            address,
        };
        let (forgetting, stop) = (limits.clone(), tasks.stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(forgetting.forget()).await;
        });
        limits
    }

    /// The address that a request came from.
    #[must_use]
    pub fn address_of(&self, parts: &Parts) -> IpAddr {
        let forwarded = || {
            let entries = parts.headers.get("x-forwarded-for")?.to_str().ok()?;
            entries.rsplit(',').next()?.trim().parse().ok()
        };
        let peer = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let address = match self.address {
            ClientAddress::Forwarded => forwarded().or_else(peer),
            ClientAddress::Peer => peer(),
        };
        network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }

    async fn forget(self) {
        let mut ticks = interval(FORGET_EVERY);
        loop {
            ticks.tick().await;
            self.control.forget();
            self.media.forget();
            self.chunks.forget();
            self.strangers.forget();
        }
    }
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(quota: Option<Quota>) -> Self {
        Self(quota.map(|quota| Arc::new(DefaultKeyedRateLimiter::keyed(quota))))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 `rate-limited`, with the time to wait.
    pub fn check(&self, key: &K) -> Result<(), ApiError> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > KEYS_MAX {
            return Err(too_many(CROWDED_WAIT));
        }
        limiter.check_key(key).map_err(|until| too_many(until.wait_time_from(DefaultClock::default().now())))
    }

    fn forget(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn with_burst(per_second: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(per_second.get().saturating_mul(CHUNK_BURST_SECONDS)).unwrap_or(per_second);
    Quota::per_second(per_second).allow_burst(burst)
}

fn too_many(wait: Duration) -> ApiError {
    ApiError::new(Code::RateLimited, "too many requests; wait before the next one").retry_after(wait)
}

/// Whoever has an IPv6 address commonly has all 2^64 of its network (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_per_key_and_says_how_long_to_wait() {
        let limit = Limit::new(Some(Quota::per_minute(NonZeroU32::new(2).unwrap())));
        assert!(limit.check(&"ann").is_ok() && limit.check(&"ann").is_ok());
        assert_eq!(limit.check(&"ann").unwrap_err().code(), Code::RateLimited);
        assert!(limit.check(&"bob").is_ok());
    }

    #[test]
    fn no_quota_is_no_limit() {
        let limit = Limit::new(None);
        assert!((0..1_000).all(|_| limit.check(&"ann").is_ok()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(network(a), network(b));
        assert_ne!(network(a), network(c));
    }
}
