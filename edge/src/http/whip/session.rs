//! A session of WHIP or WHEP that goes on: candidates that come later, ICE restart, the end.

use axum::extract::{FromRequestParts, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shared::id::CallId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{FRAGMENT, Piece, tagged};
use crate::app::App;
use crate::auth::{Caller, Right};
use crate::error::{ApiError, Code};
use crate::rooms::{About, Condition, Patched};
use crate::signal::fragment::{self, Fragment};

/// The routes of begun sessions.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(patch_published, end_published))
        .routes(routes!(patch_played, end_played))
}

/// The session that the path names.
struct SessionPath {
    call: CallId,
    session: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionParams {
    call_id: CallId,
    session_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(SessionParams { call_id, session_id }) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self { call: call_id, session: session_id })
    }
}

/// How a fragment is answered.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only the description is used")]
enum PatchAnswer {
    /// Restarted: our credentials and candidates, with a new `etag`
    #[response(status = 200, content_type = "application/trickle-ice-sdpfrag")]
    Restarted(String),
    /// The candidates are tried
    #[response(status = 204)]
    Trickled,
    /// `invalid-description`
    #[response(status = 400)]
    Invalid,
    /// `no-such-session`
    #[response(status = 404)]
    Unknown,
    /// `precondition-failed`: the ICE session is another
    #[response(status = 412)]
    Other,
    /// `unsupported-media-type`
    #[response(status = 415)]
    Unsupported,
    /// `precondition-required`: without `if-match`
    #[response(status = 428)]
    Unconditional,
    /// `overloaded`
    #[response(status = 503)]
    Overloaded,
}

/// Takes a publisher's further candidates, or restarts ICE when the fragment has new credentials.
#[utoipa::path(
    patch,
    path = "/video-calls/{callId}/whip/{sessionId}",
    tag = "signaling",
    params(
        ("callId" = String, Path),
        ("sessionId" = String, Path),
        ("if-match" = String, Header, description = "The `etag` of the ICE session, or `*`")
    ),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(PatchAnswer)
)]
async fn patch_published(
    State(app): State<App>,
    caller: Caller,
    path: SessionPath,
    headers: HeaderMap,
    Piece(text): Piece,
) -> Result<Response, ApiError> {
    patch(app, caller, path, &headers, &text).await
}

/// As with a publisher's session.
#[utoipa::path(
    patch,
    path = "/video-calls/{callId}/whep/{userId}/{sessionId}",
    tag = "signaling",
    params(
        ("callId" = String, Path),
        ("userId" = String, Path),
        ("sessionId" = String, Path),
        ("if-match" = String, Header, description = "The `etag` of the ICE session, or `*`")
    ),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(PatchAnswer)
)]
async fn patch_played(
    State(app): State<App>,
    caller: Caller,
    path: SessionPath,
    headers: HeaderMap,
    Piece(text): Piece,
) -> Result<Response, ApiError> {
    patch(app, caller, path, &headers, &text).await
}

/// Ends a publisher's session: they leave the call.
#[utoipa::path(
    delete,
    path = "/video-calls/{callId}/whip/{sessionId}",
    tag = "signaling",
    params(("callId" = String, Path), ("sessionId" = String, Path)),
    responses(
        (status = 200, description = "Ended"),
        (status = 404, description = "`no-such-session`")
    )
)]
async fn end_published(
    State(app): State<App>,
    caller: Caller,
    path: SessionPath,
) -> Result<StatusCode, ApiError> {
    end(&app, &caller, &path)
}

/// Ends a player's session.
#[utoipa::path(
    delete,
    path = "/video-calls/{callId}/whep/{userId}/{sessionId}",
    tag = "signaling",
    params(("callId" = String, Path), ("userId" = String, Path), ("sessionId" = String, Path)),
    responses(
        (status = 200, description = "Ended"),
        (status = 404, description = "`no-such-session`")
    )
)]
async fn end_played(
    State(app): State<App>,
    caller: Caller,
    path: SessionPath,
) -> Result<StatusCode, ApiError> {
    end(&app, &caller, &path)
}

async fn patch(
    app: App,
    caller: Caller,
    SessionPath { call, session }: SessionPath,
    headers: &HeaderMap,
    text: &str,
) -> Result<Response, ApiError> {
    caller.may(Right::Join, &call)?;
    let condition = condition(headers)?;
    let says_nothing = || ApiError::new(Code::InvalidDescription, "the fragment says nothing of ICE");
    let piece = Fragment::parse(text).ok_or_else(says_nothing)?;
    let rooms = app.rooms.clone();
    let patched = app.to_the_end(async move {
        let about = About { call: &call, user: &caller.user, session: &session };
        Ok(rooms.patch(about, &condition, piece).await?)
    });
    Ok(match patched.await? {
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        Patched::Restarted { answer, tag } => {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT)), (ETAG, tagged(&tag))];
            (headers, fragment::of_answer(&answer)).into_response()
        }
    })
}

fn end(app: &App, caller: &Caller, path: &SessionPath) -> Result<StatusCode, ApiError> {
    caller.may(Right::Join, &path.call)?;
    app.rooms.end(About { call: &path.call, user: &caller.user, session: &path.session })?;
    Ok(StatusCode::OK)
}

/// What `if-match` demands (RFC 9110, section 13.1.1). Weak tags never match.
fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let given: Vec<&str> = headers.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok()).collect();
    if given.is_empty() {
        let detail = "send the session's etag as if-match, or * to restart";
        return Err(ApiError::new(Code::PreconditionRequired, detail));
    }
    let mut tags = given.iter().flat_map(|value| value.split(',')).map(str::trim);
    if tags.clone().any(|tag| tag == "*") {
        return Ok(Condition::Any);
    }
    // Neither commas nor quotes are in our tags.
    let strong = |tag: &str| Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    Ok(Condition::OneOf(tags.by_ref().filter_map(strong).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanded(values: &[&'static str]) -> Result<Condition, Code> {
        let values = values.iter().map(|value| (IF_MATCH, HeaderValue::from_static(value)));
        condition(&values.collect::<HeaderMap>()).map_err(|error| error.code())
    }

    #[test]
    fn what_if_match_demands() {
        assert_eq!(demanded(&[]), Err(Code::PreconditionRequired));
        assert_eq!(demanded(&["*"]), Ok(Condition::Any));
        assert_eq!(
            demanded(&["\"a\", W/\"b\"", "\"c\""]),
            Ok(Condition::OneOf(vec!["a".into(), "c".into()]))
        );
        assert_eq!(demanded(&["x"]), Ok(Condition::OneOf(Vec::new())));
    }
}
