//! Descriptions in bodies, and the headers of WHIP and WHEP.

use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, ETAG, LINK, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::ice::IceServer;
use crate::rooms::Opened;

/// RFC 8866.
pub(super) const SDP: &str = "application/sdp";
/// RFC 8840, section 9.
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// RFC 5789's sibling for POST (W3C LDP, section 7.1).
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// A body that is a session description.
#[derive(Debug)]
pub(super) struct Description(pub(super) String);

/// A body that is a piece of one.
#[derive(Debug)]
pub(super) struct Piece(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Description {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let text = text(request, state, SDP).await?;
        if text.starts_with("v=0") {
            return Ok(Self(text));
        }
        Err(ApiError::new(Code::InvalidDescription, "the body is no session description"))
    }
}

impl<S: Send + Sync> FromRequest<S> for Piece {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        text(request, state, FRAGMENT).await.map(Self)
    }
}

async fn text<S: Send + Sync>(request: Request, state: &S, wanted: &str) -> Result<String, ApiError> {
    let typed = request.headers().get(CONTENT_TYPE).and_then(|typed| typed.to_str().ok());
    let essence = typed.and_then(|typed| typed.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case(wanted) {
        let detail = format!("the body is {wanted}");
        return Err(ApiError::new(Code::UnsupportedMediaType, detail));
    }
    let bytes = Bytes::from_request(request, state).await?;
    String::from_utf8(bytes.into()).map_err(|_| ApiError::invalid("the body is not UTF-8"))
}

/// 201 with everything that a client needs.
pub(super) fn begun(app: &App, caller: &Caller, opened: Opened, location: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(LOCATION, value(location));
    headers.insert(ETAG, tagged(&opened.tag));
    let told = app.settings.rooms.ice.servers_for(&caller.user, app.clock.now());
    for link in told.servers.iter().flat_map(links) {
        headers.append(LINK, value(&link));
    }
    (StatusCode::CREATED, headers, opened.answer).into_response()
}

/// The entity tag of an ICE session.
pub(super) fn tagged(tag: &str) -> HeaderValue {
    value(&format!("\"{tag}\""))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// One link for each address (RFC 9725, section 4.6).
fn links(server: &IceServer) -> Vec<String> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let login = match (&server.username, &server.credential) {
        (Some(username), Some(credential)) => format!(
            "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
            quoted(username),
            quoted(credential)
        ),
        _ => String::new(),
    };
    server.urls.iter().map(|url| format!("<{url}>; rel=\"ice-server\"{login}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_a_link_with_its_login() {
        let server = IceServer {
            urls: vec!["turn:a.example?transport=udp".into(), "turns:a.example".into()],
            username: Some("u\"x".into()),
            credential: Some("p".into()),
        };
        let login = r#"; rel="ice-server"; username="u\"x"; credential="p"; credential-type="password""#;
        assert_eq!(
            links(&server),
            [format!("<turn:a.example?transport=udp>{login}"), format!("<turns:a.example>{login}")]
        );
        let stun = IceServer { urls: vec!["stun:a.example".into()], username: None, credential: None };
        assert_eq!(links(&stun), [r#"<stun:a.example>; rel="ice-server""#]);
    }
}
