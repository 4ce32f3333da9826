//! What callers send about calls, and its rules. Pure.

use serde::Deserialize;
use serde_json::Value;
use shared::db::calls::{CallChange, NewCall};
use shared::id::{CallId, UserId};
use shared::recording::RecordingOptions;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::http::recordings::options;
use crate::settings::MAX_PARTICIPANTS_LIMIT;

/// The longest title in characters: a line on a screen.
const TITLE_MAX_CHARS: usize = 200;
/// Ids that no call may have: the words beside which calls stand in paths, and the segments that clients take out of paths.
const RESERVED_IDS: [&str; 7] = ["stats", "ws", "ice-servers", "chunks", "recording", ".", ".."];
/// The most bytes of a call's `metadata`, as JSON; the same as of a recording's.
const METADATA_MAX_BYTES: usize = 16 * 1024;

/// A call to create.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateCall {
    /// The call's id; absent: one is made.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_.:@-]{1,128}$")]
    id: Option<CallId>,
    /// A name for people, 200 characters at most.
    title: Option<String>,
    /// Who may come, beside the host.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    participants: Vec<UserId>,
    /// How many may be in it at once, 1 to 1000.
    max_participants: Option<u32>,
    /// Whatever the host keeps with it: an object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Record by itself, from the first person on.
    #[schema(value_type = Option<RecordingOptions>)]
    record: Option<Value>,
}

/// What to change of a call; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeCall {
    /// A name for people, 200 characters at most.
    title: Option<String>,
    /// The whole list of who may come, beside the host.
    #[schema(value_type = Option<Vec<String>>)]
    participants: Option<Vec<UserId>>,
    /// How many may be in it at once, 1 to 1000.
    max_participants: Option<u32>,
    /// Whatever the host keeps with it: an object of at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

impl CreateCall {
    pub(super) fn parse(self, host: &Caller, default_max: u32) -> Result<NewCall, ApiError> {
        if self.id.as_ref().is_some_and(|id| RESERVED_IDS.contains(&id.as_str())) {
            let words = RESERVED_IDS.join(" ");
            return Err(ApiError::invalid(format!("these ids are reserved: {words}")));
        }
        let metadata = self.metadata.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        check(self.title.as_deref(), self.max_participants, Some(&metadata), Some(&self.participants))?;
        let record = self.record.filter(|record| !record.is_null());
        Ok(NewCall {
            id: self.id.unwrap_or_else(CallId::generate),
            host: host.user.clone(),
            title: self.title,
            participants: self.participants,
            max_participants: self.max_participants.unwrap_or(default_max),
            metadata,
            record_options: record.map(options::parse).transpose()?,
        })
    }
}

impl ChangeCall {
    pub(super) fn parse(self) -> Result<CallChange, ApiError> {
        let participants = self.participants.as_deref();
        check(self.title.as_deref(), self.max_participants, self.metadata.as_ref(), participants)?;
        Ok(CallChange {
            title: self.title,
            participants: self.participants,
            max_participants: self.max_participants,
            metadata: self.metadata,
        })
    }
}

fn check(
    title: Option<&str>,
    max: Option<u32>,
    metadata: Option<&Value>,
    participants: Option<&[UserId]>,
) -> Result<(), ApiError> {
    if title.is_some_and(|title| title.chars().count() > TITLE_MAX_CHARS || title.contains('\0')) {
        return Err(ApiError::invalid("title is at most 200 characters"));
    }
    if max.is_some_and(|max| !(1..=MAX_PARTICIPANTS_LIMIT).contains(&max)) {
        return Err(ApiError::invalid("maxParticipants is 1 to 1000"));
    }
    if participants.is_some_and(|people| people.len() > MAX_PARTICIPANTS_LIMIT as usize) {
        return Err(ApiError::invalid("participants are 1000 at most"));
    }
    let fits = |metadata: &Value| {
        let text = metadata.to_string();
        // Postgres keeps no U+0000 in JSON.
        metadata.is_object() && text.len() <= METADATA_MAX_BYTES && !text.contains("\\u0000")
    };
    match metadata.is_none_or(fits) {
        true => Ok(()),
        false => Err(ApiError::invalid("metadata is an object of at most 16 KiB, without U+0000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(body: Value) -> Result<CallChange, String> {
        let body: ChangeCall = serde_json::from_value(body).map_err(|error| error.to_string())?;
        body.parse().map_err(|error| error.detail().to_owned())
    }

    #[test]
    fn an_empty_change_changes_nothing() {
        assert!(change(json!({})).unwrap().title.is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            json!({ "title": "x".repeat(201) }),
            json!({ "title": "a\u{0}b" }),
            json!({ "maxParticipants": 0 }),
            json!({ "maxParticipants": 1001 }),
            json!({ "participants": ["a b"] }),
            json!({ "metadata": [1] }),
            json!({ "metadata": { "a": "x".repeat(METADATA_MAX_BYTES) } }),
            json!({ "metadata": { "a": "\u{0}" } }),
        ] {
            assert!(change(bad.clone()).is_err(), "{bad}");
        }
    }
}
