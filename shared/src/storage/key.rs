//! The names of everything that is kept, in one `match`.

use std::fmt;

use crate::id::{RecordingId, UserId};
use crate::recording::Format;

/// The name of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageKey {
    /// The recording itself.
    Media(RecordingId, Format),
    /// One participant's file, when there are several.
    Participant(RecordingId, UserId, Format),
    /// A picture, by its number from 0.
    Thumbnail(RecordingId, u32),
    /// A key that was made earlier and comes from a row.
    Existing(String),
}

impl StorageKey {
    /// What every key of a recording begins with.
    #[must_use]
    pub fn prefix(recording: &RecordingId) -> String {
        format!("recordings/{recording}/")
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Media(id, format) => write!(f, "recordings/{id}/recording.{}", format.as_str()),
            Self::Participant(id, user, format) => {
                write!(f, "recordings/{id}/participants/{user}.{}", format.as_str())
            }
            Self::Thumbnail(id, n) => write!(f, "recordings/{id}/thumbnail-{n:02}.jpg"),
            Self::Existing(key) => f.write_str(key),
        }
    }
}
