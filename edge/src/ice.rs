//! The ICE servers that clients are told: STUN and TURN servers that help them to reach us through firewalls; and how the edge itself
//! gets in at its own TURN server.
//!
//! This module must not know calls, rooms or HTTP. It gives the list for one person at one time, and credentials for whoever asks.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | `WEBRTC_ICE_SERVERS`, `WEBRTC_TURN_*` |
//!
//! Decision: with `WEBRTC_TURN_SECRET` everybody gets credentials of their own that end (coturn's `use-auth-secret`, the scheme of
//! draft-uberti-behave-turn-rest). The TURN server checks them alone: it is told nothing, and a leaked one is worth a day.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use serde::Serialize;
use shared::clock::Timestamp;
use shared::id::UserId;

mod settings;

pub use settings::{IceSettings, OwnTurn, TurnLogin};

/// How long credentials of a TURN server are good: a day, what the scheme's draft recommends. A relay is refreshed with the
/// credentials it began with, so a shorter one would end long calls.
const CREDENTIALS_LAST: Duration = Duration::from_secs(24 * 3600);

/// A server as browsers take it (`RTCIceServer`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:` addresses.
    pub urls: Vec<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The servers for one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServers {
    /// The servers, in the order of the settings, ours last.
    pub servers: Vec<IceServer>,
    /// When the credentials among them end; `None`: they do not.
    pub expires_at: Option<Timestamp>,
}

impl IceSettings {
    /// The servers for a person, from now on.
    #[must_use]
    pub fn servers_for(&self, user: &UserId, now: Timestamp) -> IceServers {
        let mut servers: Vec<IceServer> = self.servers.iter().map(settings::Listed::told).collect();
        let mut expires_at = None;
        if let Some(turn) = &self.turn {
            let ends = now + TimeDelta::from_std(CREDENTIALS_LAST).expect("a day is a time delta");
            expires_at = matches!(turn.login, TurnLogin::Secret(_)).then_some(ends);
            let (username, credential) = turn.login.credentials(user.as_str(), ends);
            let (username, credential) = (Some(username), Some(credential));
            servers.push(IceServer { urls: turn.urls.clone(), username, credential });
        }
        IceServers { servers, expires_at }
    }
}

impl TurnLogin {
    /// User name and password for somebody: the ones that everybody has, or when they end and for whom, and that signed with the
    /// secret that the TURN server has as well.
    #[must_use]
    pub fn credentials(&self, user: &str, ends: Timestamp) -> (String, String) {
        match self {
            Self::Fixed { username, password } => (username.clone(), password.expose().to_owned()),
            Self::Secret(secret) => {
                let username = format!("{}:{user}", ends.timestamp());
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
                let password = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
                (username, password)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use shared::env::Env;

    fn servers(pairs: &[(&str, &str)]) -> IceServers {
        let settings = IceSettings::from_env(&Env::from_pairs(pairs.iter().copied())).unwrap();
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        settings.servers_for(&UserId::parse("ann").unwrap(), now)
    }

    #[test]
    fn a_secret_gives_credentials_that_the_turn_server_can_check() {
        let told = servers(&[
            ("WEBRTC_TURN_SERVER_URL", "turn:turn.example.org:3478, turns:turn.example.org"),
            ("WEBRTC_TURN_SECRET", "north"),
        ]);
        let [turn] = &told.servers[..] else { panic!("one server") };
        assert_eq!(turn.urls, ["turn:turn.example.org:3478", "turns:turn.example.org"]);
        assert_eq!(turn.username.as_deref(), Some("1700086400:ann"));
        // printf 1700086400:ann | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(turn.credential.as_deref(), Some("7FWQB06tq8mR4TsnapfLHms2f5Y="));
        assert_eq!(told.expires_at.unwrap().timestamp(), 1_700_086_400);
    }

    #[test]
    fn fixed_credentials_are_told_as_they_are_and_never_end() {
        let told = servers(&[
            ("WEBRTC_ICE_SERVERS", r#"[{"urls": "stun:stun.example.org"}]"#),
            ("WEBRTC_TURN_SERVER_URL", "turn:turn.example.org?transport=tcp"),
            ("WEBRTC_TURN_USERNAME", "callreel"),
            ("WEBRTC_TURN_PASSWORD", "pass"),
        ]);
        assert_eq!(told.servers[0].urls, ["stun:stun.example.org"]);
        assert_eq!(told.servers[1].credential.as_deref(), Some("pass"));
        assert_eq!(told.expires_at, None);
    }

    #[test]
    fn without_settings_there_are_none() {
        assert_eq!(servers(&[]).servers, []);
    }
}
