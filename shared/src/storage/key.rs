//! The names of everything that is kept, in one `match`.

use std::fmt;

use crate::id::{RecordingId, UserId};
use crate::recording::Format;

/// The name of an object. A recording that is processed anew has a revision, whose files stand beside those that they will
/// replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageKey {
    /// The recording itself.
    Media(RecordingId, u32, Format),
    /// One participant's file, when there are several.
    Participant(RecordingId, u32, UserId, Format),
    /// A picture, by its number from 0.
    Thumbnail(RecordingId, u32, u32),
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

/// What the keys of a revision begin with. The first has no name of its own: hardly a recording has another.
fn folder(recording: &RecordingId, revision: u32) -> String {
    let all = StorageKey::prefix(recording);
    if revision == 0 { all } else { format!("{all}revision-{revision}/") }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Media(id, revision, format) => {
                write!(f, "{}recording.{}", folder(id, *revision), format.as_str())
            }
            Self::Participant(id, revision, user, format) => {
                write!(f, "{}participants/{user}.{}", folder(id, *revision), format.as_str())
            }
            Self::Thumbnail(id, revision, n) => write!(f, "{}thumbnail-{n:02}.jpg", folder(id, *revision)),
            Self::Existing(key) => f.write_str(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_revision_has_names_of_its_own_under_the_recordings_prefix() {
        let id = RecordingId::generate();
        let key = |revision| StorageKey::Media(id.clone(), revision, Format::Webm).to_string();
        assert_eq!(key(0), format!("recordings/{id}/recording.webm"));
        assert_eq!(key(2), format!("recordings/{id}/revision-2/recording.webm"));
        assert!(key(2).starts_with(&StorageKey::prefix(&id)));
    }
}
