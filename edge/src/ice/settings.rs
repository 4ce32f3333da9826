//! `WEBRTC_ICE_SERVERS` and `WEBRTC_TURN_*`, checked before anybody is told of them: a browser that is given one wrong address
//! refuses the whole list.

use serde::Deserialize;
use shared::env::{Env, EnvError, Secret};
use tracing::info;

use super::IceServer;

/// The most servers, and the most addresses of one: browsers slow down with more than a handful, and warn at five.
const SERVERS_MAX: usize = 16;
/// Where TURN is served unless an address says otherwise (RFC 7065).
const TURN_PORT: u16 = 3_478;
const SERVERS: &str = "WEBRTC_ICE_SERVERS";
const TURN_URL: &str = "WEBRTC_TURN_SERVER_URL";
const TURN_URL_WANTS: &str = "turn: or turns: addresses, such as turn:turn.example.org:3478?transport=udp";
const SERVERS_WANTS: &str = r#"JSON such as [{"urls": "stun:stun.example.org:3478"}, {"urls": ["turn:turn.example.org"], "username": "…", "credential": "…"}]"#;

/// What clients are told of other servers.
#[derive(Debug, Clone, Default)]
pub struct IceSettings {
    /// `WEBRTC_ICE_SERVERS`.
    pub(super) servers: Vec<Listed>,
    /// `WEBRTC_TURN_*`.
    pub(super) turn: Option<Turn>,
}

/// The TURN server.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) urls: Vec<String>,
    pub(super) login: TurnLogin,
}

/// The TURN server as the edge itself uses it: over UDP.
#[derive(Debug, Clone)]
pub struct OwnTurn {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the edge signs in.
    pub login: TurnLogin,
}

/// How people sign in to it.
#[derive(Debug, Clone)]
pub enum TurnLogin {
    /// Everybody alike: `WEBRTC_TURN_USERNAME`, `WEBRTC_TURN_PASSWORD`.
    Fixed {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// With credentials that end, made from `WEBRTC_TURN_SECRET`.
    Secret(Secret),
}

/// A server of the list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    urls: Vec<String>,
    login: Option<(String, Secret)>,
}

impl Listed {
    pub(super) fn told(&self) -> IceServer {
        let (username, credential) = match &self.login {
            Some((username, credential)) => (Some(username.clone()), Some(credential.expose().to_owned())),
            None => (None, None),
        };
        IceServer { urls: self.urls.clone(), username, credential }
    }
}

impl IceSettings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        Ok(Self { servers: servers(env)?, turn: turn(env)? })
    }

    /// The server through which the edge itself is reached: the first address of `WEBRTC_TURN_SERVER_URL` that is plain UDP.
    #[must_use]
    pub fn own_turn(&self) -> Option<OwnTurn> {
        let turn = self.turn.as_ref()?;
        let mut addresses = turn.urls.iter().filter_map(|url| address(url));
        let Some(plain) = addresses.find(|address| address.carriage == Carriage::Udp) else {
            info!("no address of {TURN_URL} is plain UDP: clients use that server, the edge itself does not");
            return None;
        };
        let port = plain.port.unwrap_or(TURN_PORT);
        Some(OwnTurn { host: plain.host.to_owned(), port, login: turn.login.clone() })
    }

    /// The password-like values.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let listed = self.servers.iter().filter_map(|server| server.login.as_ref().map(|(_, secret)| secret));
        listed.chain(self.turn.as_ref().map(|turn| match &turn.login {
            TurnLogin::Fixed { password, .. } => password,
            TurnLogin::Secret(secret) => secret,
        }))
    }
}

/// As browsers write it: `urls` is one address or several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Several(Vec<String>),
}

fn servers(env: &Env) -> Result<Vec<Listed>, EnvError> {
    let Some(raw) = env.optional(SERVERS)? else { return Ok(Vec::new()) };
    let wrong = || EnvError::wants(SERVERS, SERVERS_WANTS);
    let written: Vec<Written> = serde_json::from_str(raw).map_err(|_| wrong())?;
    if written.len() > SERVERS_MAX {
        return Err(EnvError::wants(SERVERS, "16 servers at most"));
    }
    written.into_iter().map(|server| listed(server).ok_or_else(wrong)).collect()
}

/// A TURN server without credentials is one that browsers refuse (W3C webrtc, section 4.2.4).
fn listed(server: Written) -> Option<Listed> {
    let urls = match server.urls {
        Urls::One(url) => vec![url],
        Urls::Several(urls) => urls,
    };
    let fits = (1..=SERVERS_MAX).contains(&urls.len()) && urls.iter().all(|url| scheme(url).is_some());
    let relays = urls.iter().any(|url| scheme(url) == Some(Scheme::Turn));
    let login = server.username.zip(server.credential.map(Secret::new));
    (fits && (login.is_some() || !relays)).then_some(Listed { urls, login })
}

fn turn(env: &Env) -> Result<Option<Turn>, EnvError> {
    let urls = env.list(TURN_URL)?;
    let (secret, password) = (env.secret("WEBRTC_TURN_SECRET")?, env.secret("WEBRTC_TURN_PASSWORD")?);
    let username = env.optional("WEBRTC_TURN_USERNAME")?;
    if urls.is_empty() {
        let orphaned = secret.is_some() || password.is_some() || username.is_some();
        return if orphaned { Err(EnvError::missing(TURN_URL, TURN_URL_WANTS)) } else { Ok(None) };
    }
    if urls.len() > SERVERS_MAX || urls.iter().any(|url| scheme(url) != Some(Scheme::Turn)) {
        return Err(EnvError::wants(TURN_URL, TURN_URL_WANTS));
    }
    let login = match (secret, username, password) {
        (Some(secret), _, _) => TurnLogin::Secret(secret),
        (None, Some(username), Some(password)) => {
            TurnLogin::Fixed { username: username.to_owned(), password }
        }
        (None, None, Some(_)) => {
            return Err(EnvError::missing("WEBRTC_TURN_USERNAME", "the name that goes with the password"));
        }
        (None, Some(_), None) => {
            return Err(EnvError::missing("WEBRTC_TURN_PASSWORD", "the password that goes with the name"));
        }
        (None, None, None) => {
            let what = "the secret of the TURN server, or WEBRTC_TURN_USERNAME and WEBRTC_TURN_PASSWORD";
            return Err(EnvError::missing("WEBRTC_TURN_SECRET", what));
        }
    };
    Ok(Some(Turn { urls, login }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Stun,
    Turn,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carriage {
    /// Plain datagrams.
    Udp,
    /// TCP, or encrypted.
    Other,
}

/// A server's address.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    scheme: Scheme,
    carriage: Carriage,
    host: &'a str,
    port: Option<u16>,
}

fn scheme(url: &str) -> Option<Scheme> {
    address(url).map(|address| address.scheme)
}

/// Reads `scheme:host[:port]`, for TURN with `?transport=udp|tcp` (RFC 7064, RFC 7065). `None`: it is no such address.
fn address(url: &str) -> Option<Address<'_>> {
    let (name, rest) = url.split_once(':')?;
    let (scheme, place, query) = match name {
        "stun" | "stuns" => (Scheme::Stun, rest, "transport=udp"),
        "turn" | "turns" => {
            let (place, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
            (Scheme::Turn, place, ["transport=udp", "transport=tcp"].contains(&query).then_some(query)?)
        }
        _ => return None,
    };
    let plain = !name.ends_with('s') && query == "transport=udp";
    let carriage = if plain { Carriage::Udp } else { Carriage::Other };
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let named = |c: u8| c.is_ascii_alphanumeric() || b"-._:".contains(&c);
    let host = (!host.is_empty() && host.bytes().all(named)).then_some(host)?;
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(())).transpose().ok()?;
    Some(Address { scheme, carriage, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(pairs: &[(&str, &str)]) -> String {
        IceSettings::from_env(&Env::from_pairs(pairs.iter().copied())).unwrap_err().to_string()
    }

    #[test]
    fn addresses_have_their_form() {
        for good in [
            "stun:a.example",
            "stuns:a:1",
            "turn:1.2.3.4:3478?transport=udp",
            "turns:[::1]:5349",
            "turn:[::1]",
        ] {
            assert!(scheme(good).is_some(), "{good}");
        }
        for bad in [
            "a.example",
            "http://a",
            "stun:",
            "stun:a:0",
            "stun:a:x",
            "stun:a?transport=udp",
            "turn:a?transport=sctp",
            "turn:[x]:1",
            "stun:a b",
            "stun:a\"",
        ] {
            assert_eq!(scheme(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_edge_itself_takes_the_first_address_of_plain_udp() {
        let own = |urls: &str| {
            let env = [("WEBRTC_TURN_SERVER_URL", urls), ("WEBRTC_TURN_SECRET", "s")];
            let turn = IceSettings::from_env(&Env::from_pairs(env)).unwrap().own_turn();
            turn.map(|turn| (turn.host, turn.port))
        };
        assert_eq!(own("turns:a, turn:b?transport=tcp, turn:c, turn:d"), Some(("c".to_owned(), 3478)));
        assert_eq!(own("turn:[::1]:3479?transport=udp"), Some(("::1".to_owned(), 3479)));
        assert_eq!(own("turns:a:5349?transport=udp"), None);
    }

    #[test]
    fn wrong_values_name_their_variable_and_stay_on_one_line() {
        let url = ("WEBRTC_TURN_SERVER_URL", "turn:a.example");
        for (pairs, name) in [
            (&[("WEBRTC_ICE_SERVERS", "{")][..], "WEBRTC_ICE_SERVERS wants"),
            (&[("WEBRTC_ICE_SERVERS", r#"[{"urls": "http://a"}]"#)], "WEBRTC_ICE_SERVERS wants"),
            (&[("WEBRTC_ICE_SERVERS", r#"[{"urls": "turn:a"}]"#)], "WEBRTC_ICE_SERVERS wants"),
            (&[("WEBRTC_ICE_SERVERS", r#"[{"urls": []}]"#)], "WEBRTC_ICE_SERVERS wants"),
            (
                &[("WEBRTC_TURN_SERVER_URL", "stun:a"), ("WEBRTC_TURN_SECRET", "s")],
                "WEBRTC_TURN_SERVER_URL wants",
            ),
            (&[("WEBRTC_TURN_SECRET", "s")], "WEBRTC_TURN_SERVER_URL is not set"),
            (&[url], "WEBRTC_TURN_SECRET is not set"),
            (&[url, ("WEBRTC_TURN_USERNAME", "u")], "WEBRTC_TURN_PASSWORD is not set"),
            (&[url, ("WEBRTC_TURN_PASSWORD", "p")], "WEBRTC_TURN_USERNAME is not set"),
        ] {
            let told = wrong(pairs);
            assert!(told.starts_with(name) && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let pairs = [
            ("WEBRTC_ICE_SERVERS", r#"[{"urls": "turn:a", "username": "u", "credential": "hunter2"}]"#),
            ("WEBRTC_TURN_SERVER_URL", "turn:a"),
            ("WEBRTC_TURN_SECRET", "hunter3"),
        ];
        let settings = IceSettings::from_env(&Env::from_pairs(pairs)).unwrap();
        assert_eq!(settings.secrets().count(), 2);
        assert!(!format!("{settings:?}").contains("hunter"));
    }
}
