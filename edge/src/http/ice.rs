//! `GET /video-calls/ice-servers`: what a client puts into its `RTCPeerConnection`.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Success;
use crate::app::App;
use crate::auth::Caller;
use crate::ice::IceServer;

/// The route.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// ICE servers for one person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct IceView {
    /// As `RTCPeerConnection` takes them.
    ice_servers: Vec<IceServer>,
    /// When the credentials among them end; ask again before. Absent: they do not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
}

/// STUN and TURN servers for the caller; TURN with credentials of their own that end, where the server is set up so.
#[utoipa::path(
    get,
    path = "/video-calls/ice-servers",
    tag = "signaling",
    responses((status = 200, description = "The servers", body = Success<IceView>))
)]
async fn list(State(app): State<App>, caller: Caller) -> Success<IceView> {
    let told = app.settings.rooms.ice.servers_for(&caller.user, app.clock.now());
    Success::ok(IceView { ice_servers: told.servers, expires_at: told.expires_at })
}
