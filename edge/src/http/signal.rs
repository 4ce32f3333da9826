//! `GET /video-calls/ws`: the upgrade to signaling. Who asks is checked before it.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Caller;
use crate::signal::socket::{self, MESSAGE_MAX};
use crate::signal::token;

/// The route of the socket; it stands behind a gate of its own.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open))
}

/// Opens the signaling socket. The token comes as `Authorization`, as `?token=`, or as `Sec-WebSocket-Protocol: bearer, <token>`.
///
/// Close codes: 1001 the server ends; 1008 too many frames; 1009 a frame beyond 256 KiB; 1013 frames were not read, or, after an error
/// `overloaded`, no place for another connection: come back; 4001 the same person joined from elsewhere; 4002 the call is over; 4003
/// nothing came for 15 s.
#[utoipa::path(
    get,
    path = "/video-calls/ws",
    tag = "signaling",
    params(("token" = Option<String>, Query, description = "The token, for clients that cannot set headers")),
    responses(
        (status = 101, description = "The socket is open; frames are JSON text, 256 KiB at most"),
        (status = 401, description = "`unauthenticated`, `invalid-token`"),
        (status = 429, description = "`rate-limited`")
    )
)]
async fn open(State(app): State<App>, caller: Caller, upgrade: WebSocketUpgrade) -> Response {
    let (rooms, stop, tracker) = (app.rooms.clone(), app.tasks.stop.clone(), app.tasks.tracker.clone());
    let upgrade =
        upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX).protocols([token::PROTOCOL]);
    upgrade.on_upgrade(move |socket| tracker.track_future(socket::serve(socket, rooms, caller, stop)))
}
