//! Where a socket's token may stand: browsers cannot set headers, so `?token=` and a subprotocol are taken too.

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

/// The subprotocol that a client offers beside its token, and that is then chosen.
pub(crate) const PROTOCOL: &str = "bearer";

/// The token of `Sec-WebSocket-Protocol: bearer, <token>`.
pub(crate) fn in_protocol(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut words = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.find(|word| word.trim() == PROTOCOL)?;
    words.next().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Whether the request carries its token in the subprotocol.
pub(crate) fn of(parts: &Parts) -> Option<String> {
    in_protocol(&parts.headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap());
        }
        in_protocol(&headers)
    }

    #[test]
    fn the_token_follows_the_word() {
        assert_eq!(token(&["bearer, abc.def"]).as_deref(), Some("abc.def"));
        assert_eq!(token(&["bearer", "abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["chat"]), None);
        assert_eq!(token(&["bearer"]), None);
        assert_eq!(token(&["bearer,"]), None);
    }
}
