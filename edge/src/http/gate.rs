//! The way in for everybody who must say who they are: token, `x-user-id`, rate. Leaves the [`Caller`] in the request.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use shared::id::UserId;
use tracing::Span;

use super::limits::{Limit, Limits};
use crate::app::App;
use crate::auth::{Auth, AuthError, Caller};
use crate::error::{ApiError, Code};
use crate::signal::token;

/// The longest token that is looked at: larger ones do not fit into common proxies' headers either.
const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// How a group of routes lets people in.
#[derive(Clone)]
pub(super) struct Gate {
    auth: Auth,
    limits: Limits,
    per_user: Limit<UserId>,
    token_from: TokenFrom,
}

/// Where a token may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenFrom {
    Header,
    /// A media element cannot set headers.
    HeaderOrQuery,
    /// Nor can a browser's WebSocket; it can offer subprotocols.
    HeaderQueryOrProtocol,
}

/// The gate of control routes.
pub(super) fn control(app: &App) -> Gate {
    gate(app, &app.limits.control, TokenFrom::Header)
}

/// The gate of downloads and thumbnails.
pub(super) fn media(app: &App) -> Gate {
    gate(app, &app.limits.media, TokenFrom::HeaderOrQuery)
}

/// The gate of the signaling socket.
pub(super) fn signal(app: &App) -> Gate {
    gate(app, &app.limits.control, TokenFrom::HeaderQueryOrProtocol)
}

/// The gate of chunk routes.
pub(super) fn chunks(app: &App) -> Gate {
    gate(app, &app.limits.chunks, TokenFrom::Header)
}

fn gate(app: &App, per_user: &Limit<UserId>, token_from: TokenFrom) -> Gate {
    Gate { auth: app.auth.clone(), limits: app.limits.clone(), per_user: per_user.clone(), token_from }
}

/// Lets a request pass, or answers it.
pub(super) async fn pass(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = match recognise(&gate, &parts).await {
        Ok(caller) => caller,
        Err(error) => {
            gate.limits.strangers.check(&gate.limits.address_of(&parts))?;
            return Err(error);
        }
    };
    Span::current().record("user.id", caller.user.as_str());
    gate.per_user.check(&caller.user)?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn recognise(gate: &Gate, parts: &Parts) -> Result<Caller, ApiError> {
    let token = token(parts, gate.token_from)
        .ok_or_else(|| ApiError::new(Code::Unauthenticated, "send a token as Authorization: Bearer …"))?;
    if token.len() > TOKEN_MAX_BYTES {
        return Err(ApiError::new(Code::InvalidToken, "the token is too long"));
    }
    let caller = gate.auth.verify(&token).await?;
    let mut claimed = parts.headers.get_all("x-user-id").iter();
    if claimed.any(|claimed| claimed.as_bytes() != caller.user.as_str().as_bytes()) {
        return Err(ApiError::new(Code::UserMismatch, "x-user-id is not the token's subject"));
    }
    Ok(caller)
}

fn token(parts: &Parts, from: TokenFrom) -> Option<String> {
    match from {
        TokenFrom::Header => bearer(&parts.headers),
        TokenFrom::HeaderOrQuery => bearer(&parts.headers).or_else(|| in_query(parts)),
        TokenFrom::HeaderQueryOrProtocol => {
            bearer(&parts.headers).or_else(|| in_query(parts)).or_else(|| token::of(parts))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn in_query(parts: &Parts) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Token {
        token: Option<String>,
    }
    axum::extract::Query::<Token>::try_from_uri(&parts.uri).ok()?.0.token
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid(reason) => Self::new(Code::InvalidToken, reason),
            AuthError::KeysUnavailable => Self::new(Code::KeysUnavailable, error.to_string()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the route is not behind the gate")))
    }
}
