//! A call: who hosts it, who takes part, and whether it is on.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{CallId, UserId};
use crate::recording::RecordingOptions;

/// The most people in one call unless its creator says otherwise (`MAX_PARTICIPANTS_PER_ROOM`).
pub const DEFAULT_MAX_PARTICIPANTS: u32 = 50;

/// Whether a call is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum CallState {
    /// Nobody has come yet.
    Created,
    /// Somebody has joined or records.
    Active,
    /// Over; nothing can be added.
    Ended,
}

/// A call as its row holds it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// Who created it.
    pub host: UserId,
    /// A name for people.
    pub title: Option<String>,
    /// How many may be in it at once.
    pub max_participants: u32,
    /// Whatever the creator keeps with it.
    pub metadata: serde_json::Value,
    /// Set when the call records by itself from the first person on.
    pub record_options: Option<RecordingOptions>,
    /// Whether it is on.
    pub state: CallState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the first person came.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Whether a person is in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ParticipantState {
    /// May come.
    Invited,
    /// Is there.
    Joined,
    /// Was there.
    Left,
}

/// A person invited to a call, or in it.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Who.
    pub user: UserId,
    /// Whether they are there.
    pub state: ParticipantState,
    /// When they came.
    pub joined_at: Option<Timestamp>,
    /// When they left.
    pub left_at: Option<Timestamp>,
}

/// What a user is to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Created it.
    Host,
    /// Was invited or has joined.
    Participant,
    /// Neither.
    Stranger,
}
