//! Figures: of one call for the people of it, of the whole edge for operators.

use std::collections::BTreeMap;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::db::{calls, recordings};
use shared::recording::{Recording, RecordingState};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::CallPath;
use super::{Success, access};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::rooms::InCall;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(of_call)).routes(routes!(of_edge))
}

/// How a call goes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct CallStats {
    /// How many people are in it now.
    participant_count: usize,
    /// Who.
    participants: Vec<ParticipantStats>,
    /// The recording that is on.
    recording: Option<RecordingStats>,
}

/// How it goes for one person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ParticipantStats {
    /// Who.
    user_id: String,
    /// Since when.
    joined_at: DateTime<Utc>,
    /// What comes from them, one per track and simulcast layer: `kind`, `layer`, `packets`, `bytes`, `overLimit` (packets thrown away
    /// because one user may not send so much), and figures of quality.
    #[schema(value_type = Vec<Object>)]
    published: Value,
    /// What goes to them, one per track: `userId`, `kind`, `layer`, `packets`, `bytes`, `loss` (0 to 1), `jitterMs`, `roundTripMs`.
    #[schema(value_type = Vec<Object>)]
    received: Value,
}

/// The recording that is on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecordingStats {
    /// Its id.
    id: String,
    /// Where it stands.
    status: RecordingState,
    /// When it began.
    started_at: DateTime<Utc>,
}

/// What this edge carries, and what became of recordings.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct EdgeStats {
    /// Rooms on this edge with somebody in them.
    rooms: usize,
    /// People in them.
    participants: usize,
    /// How many recordings of all edges are in each state.
    #[schema(value_type = Object)]
    recordings: BTreeMap<String, u64>,
    /// Bytes of media that this edge has received since it began.
    bytes_received: u64,
    /// Bytes of media that it has sent.
    bytes_sent: u64,
}

/// Who is in a call, how well media flow, and the recording that is on. 404 for whoever is not in it.
#[utoipa::path(
    get,
    path = "/video-calls/{callId}/stats",
    tag = "calls",
    params(("callId" = String, Path)),
    responses(
        (status = 200, description = "The figures", body = Success<CallStats>),
        (status = 403, description = "`not-granted`: the token is for another call"),
        (status = 404, description = "`no-such-call`"),
        (status = 421, description = "`wrong-edge`: another edge carries the call"),
        (status = 503, description = "`overloaded`, `database-unavailable`")
    )
)]
async fn of_call(
    State(app): State<App>,
    caller: Caller,
    CallPath(id): CallPath,
) -> Result<Success<CallStats>, ApiError> {
    let call = access::viewed(&app.db, &caller, &id).await?;
    let people = match app.rooms.in_call(&call.id).await? {
        Some(people) => people,
        None => match calls::elsewhere(&app.db, &call.id, app.ingest.edge_id()).await? {
            Some(url) => return Err(ApiError::wrong_edge(&url)),
            None => Vec::new(),
        },
    };
    let recording = recordings::live_of_call(&app.db, &call.id).await?;
    Ok(Success::ok(CallStats {
        participant_count: people.len(),
        participants: people.into_iter().map(ParticipantStats::of).collect(),
        recording: recording.as_ref().map(RecordingStats::of),
    }))
}

/// What this edge carries, for operators.
#[utoipa::path(
    get,
    path = "/video-calls/stats",
    tag = "operators",
    responses(
        (status = 200, description = "The figures", body = Success<EdgeStats>),
        (status = 403, description = "`forbidden`: not an admin")
    )
)]
async fn of_edge(State(app): State<App>, caller: Caller) -> Result<Success<EdgeStats>, ApiError> {
    caller.must_be_admin()?;
    let counted = recordings::count_by_state(&app.db).await?;
    let carried = app.rooms.carried();
    Ok(Success::ok(EdgeStats {
        rooms: carried.rooms,
        participants: carried.participants,
        recordings: counted.into_iter().map(|(state, count)| (state.as_str().to_owned(), count)).collect(),
        bytes_received: carried.traffic.received_bytes,
        bytes_sent: carried.traffic.sent_bytes,
    }))
}

impl ParticipantStats {
    fn of(person: InCall) -> Self {
        let InCall { user, joined_at, published, received } = person;
        Self { user_id: user.to_string(), joined_at, published, received }
    }
}

impl RecordingStats {
    fn of(recording: &Recording) -> Self {
        Self { id: recording.id.to_string(), status: recording.state, started_at: recording.started_at }
    }
}
