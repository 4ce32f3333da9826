//! Publishing by WHIP (RFC 9725) and playing by WHEP (draft-ietf-wish-whep): one HTTP exchange instead of our signaling, for OBS,
//! GStreamer and whatever else speaks it.
//!
//! | file | holds |
//! |---|---|
//! | `session` | what both have in common once begun: PATCH and DELETE |
//! | `answer` | descriptions in bodies, and the headers that go with them |
//!
//! Decisions:
//! - A publisher is a member of the call under their own name; whoever publishes while signed in elsewhere takes that place, as with
//!   a second socket.
//! - The etag is our ICE user name: it changes with every ICE session and with nothing else.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shared::id::{CallId, UserId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::CallPath;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;

mod answer;
mod session;

use answer::{ACCEPT_POST, Description, SDP, begun};

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(publish)).routes(routes!(play)).merge(session::router())
}

/// What asks before it sends, without a token.
pub fn open_router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(publish_options)).routes(routes!(play_options))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Played {
    call_id: CallId,
    user_id: UserId,
}

/// How an offer is answered, beside 404 and 409.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only the description is used")]
enum OfferAnswer {
    /// Our answer; `location` is the session, `etag` its ICE session, `link` ICE servers
    #[response(status = 201, content_type = "application/sdp")]
    Begun(String),
    /// `invalid-description`
    #[response(status = 400)]
    Invalid,
    /// `forbidden`, `not-granted`
    #[response(status = 403)]
    Forbidden,
    /// `unsupported-media-type`
    #[response(status = 415)]
    Unsupported,
    /// `wrong-edge`: another edge carries the call
    #[response(status = 421)]
    Elsewhere,
    /// `overloaded`, `database-unavailable`
    #[response(status = 503)]
    Unavailable,
}

/// Publishes into a call by WHIP: the body is an offer, the answer's is ours.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/whip",
    tag = "signaling",
    params(("callId" = String, Path)),
    request_body(content = String, content_type = "application/sdp"),
    responses(
        OfferAnswer,
        (status = 404, description = "`no-such-call`"),
        (status = 409, description = "`call-ended`, `room-full`")
    )
)]
async fn publish(
    State(app): State<App>,
    caller: Caller,
    CallPath(call): CallPath,
    Description(offer): Description,
) -> Result<Response, ApiError> {
    let admitted = app.rooms.admit(&caller, &call).await?;
    let rooms = app.rooms.clone();
    let opened = app.to_the_end(async move { Ok(rooms.publish(admitted, offer).await?) }).await?;
    let location = app.links.whip(&call, &opened.session);
    Ok(begun(&app, &caller, opened, &location))
}

/// Plays somebody by WHEP: the body is an offer, the answer's is ours.
#[utoipa::path(
    post,
    path = "/video-calls/{callId}/whep/{userId}",
    tag = "signaling",
    params(("callId" = String, Path), ("userId" = String, Path)),
    request_body(content = String, content_type = "application/sdp"),
    responses(
        OfferAnswer,
        (status = 404, description = "`no-such-call`, `no-such-participant`"),
        (status = 409, description = "`call-ended`, `room-full`; `not-publishing`: try again when something comes of them")
    )
)]
async fn play(
    State(app): State<App>,
    caller: Caller,
    axum::extract::Path(Played { call_id, user_id }): axum::extract::Path<Played>,
    Description(offer): Description,
) -> Result<Response, ApiError> {
    let admitted = app.rooms.admit(&caller, &call_id).await?;
    let (rooms, of) = (app.rooms.clone(), user_id.clone());
    let opened = app.to_the_end(async move { Ok(rooms.play(admitted, of, offer).await?) }).await?;
    let location = app.links.whep(&call_id, &user_id, &opened.session);
    Ok(begun(&app, &caller, opened, &location))
}

/// What may be posted here.
#[utoipa::path(
    options,
    path = "/video-calls/{callId}/whip",
    tag = "signaling",
    params(("callId" = String, Path)),
    responses((status = 204, description = "`accept-post`: application/sdp"))
)]
async fn publish_options() -> Response {
    acceptable()
}

/// What may be posted here.
#[utoipa::path(
    options,
    path = "/video-calls/{callId}/whep/{userId}",
    tag = "signaling",
    params(("callId" = String, Path), ("userId" = String, Path)),
    responses((status = 204, description = "`accept-post`: application/sdp"))
)]
async fn play_options() -> Response {
    acceptable()
}

fn acceptable() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Says what may be posted (RFC 9725, section 4.2), to browsers' preflights as well, which are answered before any route.
pub(super) async fn say_acceptable(request: Request, next: Next) -> Response {
    let asked = request.method() == Method::OPTIONS && is_endpoint(request.uri().path());
    let mut response = next.run(request).await;
    if asked {
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SDP));
    }
    response
}

fn is_endpoint(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/video-calls/") else { return false };
    matches!(rest.split('/').collect::<Vec<_>>()[..], [_, "whip"] | [_, "whep", _])
}
