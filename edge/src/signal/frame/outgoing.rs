//! Frames for clients. Pure.

use serde::Serialize;
use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::id::{CallId, RecordingId, UserId};

use super::{BadFrame, Kind};
use crate::ice::IceServer;

/// A person in a room, as the others see them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Person {
    /// Who.
    pub(crate) user_id: UserId,
    /// What their client says of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Value>,
    /// What they have muted.
    pub(crate) muted: Vec<Kind>,
    /// Since when they are there.
    pub(crate) joined_at: Timestamp,
}

/// Why somebody is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LeaveReason {
    /// They said so.
    Left,
    /// Nothing came from them any more.
    Disconnected,
}

/// A frame for a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outgoing {
    /// You are in.
    Joined {
        /// The others.
        participants: Vec<Person>,
        /// The recording that is on.
        recording: Option<RecordingId>,
        /// Whether it is paused.
        recording_paused: bool,
        /// For the client's `RTCPeerConnection`.
        ice_servers: Vec<IceServer>,
        /// To take the session up again with.
        session: String,
    },
    /// Somebody came.
    ParticipantJoined(Person),
    /// Somebody went.
    ParticipantLeft(UserId, LeaveReason),
    /// A description of the server.
    Offer(String),
    /// Its answer.
    Answer(String),
    /// What a person sent to this one.
    Relayed(&'static str, UserId, Value),
    /// Somebody muted.
    Mute(UserId, Option<Kind>),
    /// Somebody unmuted.
    Unmute(UserId, Option<Kind>),
    /// Who speaks; `None`: nobody.
    ActiveSpeaker(Option<UserId>),
    /// How well media flows.
    Quality(Value),
    /// Something happened to the recording.
    Recording(RecordingTold, RecordingId),
    /// The call is over.
    RoomClosed,
    /// This edge ends soon.
    Draining {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// Something could not be done.
    Error(BadFrame),
    /// I am.
    Pong,
}

/// What happened to a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordingTold {
    /// It began.
    Started,
    /// It rests.
    Paused,
    /// It goes on.
    Resumed,
    /// It stopped.
    Stopped,
    /// Its file is there.
    Completed,
    /// There will be none.
    Failed,
}

impl RecordingTold {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "recording-started",
            Self::Paused => "recording-paused",
            Self::Resumed => "recording-resumed",
            Self::Stopped => "recording-stopped",
            Self::Completed => "recording-completed",
            Self::Failed => "recording-failed",
        }
    }
}

impl Outgoing {
    /// The frame's text. `request` is what the frame that it answers carried.
    pub(crate) fn text(&self, room: Option<&CallId>, request: Option<&str>) -> String {
        let (kind, user, data) = self.parts();
        let mut frame = json!({ "type": kind });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                frame[name] = value;
            }
        };
        put("roomId", room.map(|room| json!(room)));
        put("userId", user.map(|user| json!(user)));
        put("requestId", request.map(|request| json!(request)));
        put("data", (!data.is_null()).then_some(data));
        frame.to_string()
    }

    fn parts(&self) -> (&'static str, Option<&UserId>, Value) {
        match self {
            Self::Joined { participants, recording, recording_paused, ice_servers, session } => {
                let data = json!({
                    "participants": participants, "recording": recording, "recordingPaused": recording_paused,
                    "iceServers": ice_servers, "sessionId": session,
                });
                ("joined", None, data)
            }
            Self::ParticipantJoined(person) => ("participant-joined", Some(&person.user_id), json!(person)),
            Self::ParticipantLeft(user, reason) => {
                ("participant-left", Some(user), json!({ "userId": user, "reason": reason }))
            }
            Self::Offer(sdp) => ("offer", None, json!({ "sdp": { "type": "offer", "sdp": sdp } })),
            Self::Answer(sdp) => ("answer", None, json!({ "sdp": { "type": "answer", "sdp": sdp } })),
            Self::Relayed(kind, user, data) => (kind, Some(user), data.clone()),
            Self::Mute(user, kind) => ("mute", Some(user), json!({ "userId": user, "kind": kind })),
            Self::Unmute(user, kind) => ("unmute", Some(user), json!({ "userId": user, "kind": kind })),
            Self::ActiveSpeaker(user) => ("active-speaker", None, json!({ "userId": user })),
            Self::Quality(data) => ("quality", None, data.clone()),
            Self::Recording(told, id) => (told.word(), None, json!({ "recordingId": id })),
            Self::RoomClosed => ("room-closed", None, Value::Null),
            Self::Draining { retry_after_ms } => {
                ("draining", None, json!({ "retryAfterMs": retry_after_ms }))
            }
            Self::Error(BadFrame { code, detail, request }) => {
                ("error", None, json!({ "code": code, "detail": detail, "requestId": request }))
            }
            Self::Pong => ("pong", None, Value::Null),
        }
    }
}
