//! Calls as JSON.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::call::{Call, CallState, Participant, ParticipantState};
use shared::recording::{Recording, RecordingOptions, RecordingState};

use crate::http::links::Links;

/// A call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallView {
    /// Its id.
    id: String,
    /// Its id, by its other name.
    room_id: String,
    /// Who created it.
    host_id: String,
    /// A name for people.
    title: Option<String>,
    /// Whether it is on.
    status: CallState,
    /// How many may be in it at once.
    max_participants: u32,
    /// Whatever the host keeps with it.
    metadata: serde_json::Value,
    /// Set when it records by itself.
    record: Option<RecordingOptions>,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When the first person came.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
}

/// A call, who is in it, and its recordings.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallDetail {
    #[serde(flatten)]
    call: CallView,
    /// Who may come, is there, or was.
    participants: Vec<ParticipantView>,
    /// Whether it was or is being recorded.
    is_recorded: bool,
    /// Where its newest recording stands.
    recording_status: Option<RecordingState>,
    /// Where its newest completed recording is read.
    recording_url: Option<String>,
    /// Its newest recordings.
    recordings: Vec<RecordingBrief>,
}

/// A person of a call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ParticipantView {
    /// Who.
    user_id: String,
    /// Whether they are there.
    state: ParticipantState,
    /// When they came.
    joined_at: Option<DateTime<Utc>>,
    /// When they left.
    left_at: Option<DateTime<Utc>>,
}

/// A recording in a few words.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecordingBrief {
    /// Its id.
    id: String,
    /// Where it stands.
    status: RecordingState,
    /// When it began.
    started_at: DateTime<Utc>,
    /// Its length in milliseconds.
    duration: Option<u64>,
    /// Where it is read, once it is completed.
    url: Option<String>,
}

impl CallView {
    pub(super) fn of(call: &Call) -> Self {
        Self {
            id: call.id.to_string(),
            room_id: call.id.to_string(),
            host_id: call.host.to_string(),
            title: call.title.clone(),
            status: call.state,
            max_participants: call.max_participants,
            metadata: call.metadata.clone(),
            record: call.record_options.clone(),
            created_at: call.created_at,
            started_at: call.started_at,
            ended_at: call.ended_at,
        }
    }
}

impl CallDetail {
    /// `recordings` are the call's, newest first.
    pub(super) fn of(call: &Call, people: &[Participant], recordings: &[Recording], links: &Links) -> Self {
        let recordings: Vec<_> = recordings.iter().map(|one| RecordingBrief::of(one, links)).collect();
        Self {
            call: CallView::of(call),
            participants: people.iter().map(ParticipantView::of).collect(),
            is_recorded: !recordings.is_empty(),
            recording_status: recordings.first().map(|newest| newest.status),
            recording_url: recordings.iter().find_map(|recording| recording.url.clone()),
            recordings,
        }
    }
}

impl ParticipantView {
    fn of(participant: &Participant) -> Self {
        Self {
            user_id: participant.user.to_string(),
            state: participant.state,
            joined_at: participant.joined_at,
            left_at: participant.left_at,
        }
    }
}

impl RecordingBrief {
    fn of(recording: &Recording, links: &Links) -> Self {
        let completed = recording.state == RecordingState::Completed;
        Self {
            id: recording.id.to_string(),
            status: recording.state,
            started_at: recording.started_at,
            duration: recording.duration_ms,
            url: completed.then(|| links.download(&recording.call, &recording.id)),
        }
    }
}
