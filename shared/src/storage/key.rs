//! The names of everything that is kept. An operator may lay them out ([`KeyTemplate`]); the name of a recording's files among
//! each other ([`StoredFile`]) is ours, in one `match`.
//!
//! A key is made once, when its artifact is staged, and stands in the artifact's row from then on: what was stored under
//! another template is found, served and deleted by its row.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::env::{Env, EnvError};
use crate::id::{CallId, GIVEN_ID_MAX, RecordingId, UserId};
use crate::recording::{Format, Recording};

/// Where a recording's files lie when nothing else is asked for.
const DEFAULT: &str = "recordings/{recording}/{file}";
/// The longest key in bytes: Vercel Blob takes 950, the others 1024.
const KEY_MAX: usize = 950;
/// The longest name between two slashes: a file's name has 255 bytes, of which a file that is being written needs 36.
const NAME_MAX: usize = 219;
/// `rec_` and a ULID.
const RECORDING_ID_BYTES: usize = 30;
/// What `RECORDING_KEY_TEMPLATE` wants.
const WANTS: &str = "a path of letters, digits, ! - _ . ' ( ) and the placeholders {call} {recording} {year} {month} {day}, which \
                     has {recording} and ends with {file}, such as recordings/{recording}/{file}";

/// A file of a recording, named among the recording's others. A recording that is processed anew has a revision, whose files
/// stand beside those that they will replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredFile {
    /// The recording itself.
    Media(Format),
    /// One participant's file, when there are several.
    Participant(UserId, Format),
    /// A picture, by its number from 0.
    Thumbnail(u32),
}

impl fmt::Display for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Media(format) => write!(f, "recording.{}", format.as_str()),
            Self::Participant(user, format) => write!(f, "participants/{user}.{}", format.as_str()),
            Self::Thumbnail(n) => write!(f, "thumbnail-{n:02}.jpg"),
        }
    }
}

/// `RECORDING_KEY_TEMPLATE`: how keys are laid out. It names the recording and ends with the file, so that no two files share
/// a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Call,
    Recording,
    Year,
    Month,
    Day,
    File,
}

/// Not a template.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidTemplate;

impl Default for KeyTemplate {
    fn default() -> Self {
        use Piece::{File, Recording, Text};
        Self(vec![Text("recordings/".to_owned()), Recording, Text("/".to_owned()), File])
    }
}

impl KeyTemplate {
    /// Reads the setting.
    ///
    /// # Errors
    /// When it is no template, or keys could be too long.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let text = env.optional("RECORDING_KEY_TEMPLATE")?.unwrap_or(DEFAULT);
        text.parse().map_err(|InvalidTemplate| EnvError::wants("RECORDING_KEY_TEMPLATE", WANTS))
    }

    /// The key of a file of a recording, of the recording's present revision.
    #[must_use]
    pub fn key(&self, recording: &Recording, file: &StoredFile) -> String {
        self.expand(&recording.id, &recording.call, recording.started_at, &revised(recording.revision, file))
    }

    /// A key that lies where recordings do and is none of theirs, for a probe.
    #[must_use]
    pub fn probe(&self, recording: &RecordingId) -> String {
        self.expand(recording, &CallId::generate(), Timestamp::UNIX_EPOCH, "doctor-probe")
    }

    /// What the keys of a recording, and of no other, begin with, when its id alone tells. Only to find what no row knows: the
    /// template may have been another one when a key was made.
    #[must_use]
    pub fn prefix(&self, recording: &RecordingId) -> Option<String> {
        let mut prefix = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => prefix.push_str(text),
                Piece::Recording => return Some(format!("{prefix}{recording}")),
                _ => return None,
            }
        }
        None
    }

    /// What every key begins with that is made by this template.
    #[must_use]
    pub fn root(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    fn expand(&self, recording: &RecordingId, call: &CallId, at: Timestamp, file: &str) -> String {
        let mut key = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Call => key.push_str(&harmless(call.as_str())),
                Piece::Recording => key.push_str(recording.as_str()),
                Piece::Year => key.push_str(&at.format("%Y").to_string()),
                Piece::Month => key.push_str(&at.format("%m").to_string()),
                Piece::Day => key.push_str(&at.format("%d").to_string()),
                Piece::File => key.push_str(file),
            }
        }
        key
    }

    fn longest_fits(&self) -> bool {
        let longest = "x".repeat(GIVEN_ID_MAX);
        let file = format!("revision-{}/participants/{longest}.webm", u32::MAX);
        let (Ok(call), recording) = (longest.parse(), RecordingId::generate()) else { return false };
        let key = self.expand(&recording, &call, Timestamp::UNIX_EPOCH, &file);
        key.len() <= KEY_MAX && key.split('/').all(|name| name.len() <= NAME_MAX)
    }
}

/// The recordings that a key may be of, under whatever template it was made: every id of a recording that stands in it. A call
/// may be named like one, so there can be several.
#[must_use]
pub fn recordings_in(key: &str) -> Vec<RecordingId> {
    let id_at = |at: usize| key.get(at..at + RECORDING_ID_BYTES)?.parse().ok();
    key.match_indices("rec_").filter_map(|(at, _)| id_at(at)).collect()
}

/// The first revision has no folder of its own: hardly a recording has another.
fn revised(revision: u32, file: &StoredFile) -> String {
    if revision == 0 { file.to_string() } else { format!("revision-{revision}/{file}") }
}

/// A call may be named `..`, which is no name of a folder.
fn harmless(call: &str) -> String {
    if call.bytes().all(|b| b == b'.') { call.replace('.', "_") } else { call.to_owned() }
}

impl FromStr for KeyTemplate {
    type Err = InvalidTemplate;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        let mut pieces = Vec::new();
        let mut rest = raw;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(InvalidTemplate)?;
            pieces.extend((!text.is_empty()).then(|| Piece::Text(text.to_owned())));
            pieces.push(placeholder(name)?);
            rest = after;
        }
        let template = Self(pieces);
        let count = |piece| template.0.iter().filter(|one| **one == piece).count();
        let complete = rest.is_empty() && template.0.last() == Some(&Piece::File);
        let unique = count(Piece::File) == 1 && count(Piece::Recording) >= 1;
        if complete && unique && is_path(raw) && template.longest_fits() {
            Ok(template)
        } else {
            Err(InvalidTemplate)
        }
    }
}

fn placeholder(name: &str) -> Result<Piece, InvalidTemplate> {
    match name {
        "call" => Ok(Piece::Call),
        "recording" => Ok(Piece::Recording),
        "year" => Ok(Piece::Year),
        "month" => Ok(Piece::Month),
        "day" => Ok(Piece::Day),
        "file" => Ok(Piece::File),
        _ => Err(InvalidTemplate),
    }
}

/// Characters that no provider, URL or file system minds, in names of which none is empty or all dots.
fn is_path(raw: &str) -> bool {
    let clean = |b: u8| b.is_ascii_alphanumeric() || b"!-_.'()/{}".contains(&b);
    raw.bytes().all(clean) && raw.split('/').all(|name| !name.bytes().all(|b| b == b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn key(template: &str, call: &str, revision: u32, file: &StoredFile) -> String {
        let at = chrono::Utc.with_ymd_and_hms(2026, 3, 9, 23, 0, 0).unwrap();
        let recording = "rec_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        let template: KeyTemplate = template.parse().unwrap();
        template.expand(&recording, &call.parse().unwrap(), at, &revised(revision, file))
    }

    #[test]
    fn the_default_is_what_it_is_when_nothing_is_set() {
        assert_eq!(DEFAULT.parse(), Ok(KeyTemplate::default()));
        assert_eq!(KeyTemplate::from_env(&Env::default()), Ok(KeyTemplate::default()));
    }

    #[test]
    fn each_file_of_each_revision_has_a_name_of_its_own() {
        let ann = StoredFile::Participant("ann".parse().unwrap(), Format::Mp4);
        let id = "rec_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        for (revision, file, wanted) in [
            (0, StoredFile::Media(Format::Webm), format!("recordings/{id}/recording.webm")),
            (2, StoredFile::Media(Format::Webm), format!("recordings/{id}/revision-2/recording.webm")),
            (0, ann, format!("recordings/{id}/participants/ann.mp4")),
            (0, StoredFile::Thumbnail(3), format!("recordings/{id}/thumbnail-03.jpg")),
        ] {
            assert_eq!(key(DEFAULT, "call_1", revision, &file), wanted);
        }
    }

    #[test]
    fn an_operator_lays_keys_out_by_call_and_day() {
        let file = StoredFile::Media(Format::Mkv);
        assert_eq!(
            key("calls/{call}/{year}-{month}-{day}/{recording}-{file}", "team@9", 0, &file),
            "calls/team@9/2026-03-09/rec_01ARZ3NDEKTSV4RRFFQ69G5FAV-recording.mkv"
        );
        assert_eq!(
            key("{call}/{recording}/{file}", "..", 0, &file),
            "__/rec_01ARZ3NDEKTSV4RRFFQ69G5FAV/recording.mkv"
        );
    }

    #[test]
    fn a_recordings_keys_have_a_prefix_where_its_id_alone_tells() {
        let id = RecordingId::generate();
        let prefix = |template: &str| template.parse::<KeyTemplate>().unwrap().prefix(&id);
        assert_eq!(prefix(DEFAULT), Some(format!("recordings/{id}")));
        assert_eq!(prefix("{call}/{recording}/{file}"), None);
    }

    #[test]
    fn a_key_tells_which_recordings_it_may_be_of() {
        let (id, call) = (RecordingId::generate(), RecordingId::generate());
        assert_eq!(recordings_in(&format!("x/{call}/my-rec_1-{id}-recording.webm")), [call, id.clone()]);
        assert_eq!(recordings_in(&format!("recordings/{id}/recording.webm")), [id]);
        assert!(recordings_in("recordings/rec_01ARZ3NDEKTSV4RRFFQ69G5FA").is_empty());
        let root = |template: &str| template.parse::<KeyTemplate>().unwrap().root().to_owned();
        assert_eq!((root(DEFAULT), root("{call}/{recording}/{file}")), ("recordings/".into(), String::new()));
    }

    #[test]
    fn a_template_under_which_two_files_could_meet_is_refused() {
        let long = format!("{}/{{recording}}/{{file}}", "x".repeat(NAME_MAX + 1));
        for bad in [
            "recordings/{file}",
            "{recording}",
            "{recording}/{file}/x",
            "{file}{recording}",
            "/{recording}/{file}",
            "a//{recording}/{file}",
            "../{recording}/{file}",
            "{recording}/{file}{file}",
            "{recording}/{who}/{file}",
            "{recording/{file}",
            "a b/{recording}/{file}",
            "{call}{call}/{recording}/{file}",
            &long,
        ] {
            let env = Env::from_pairs([("RECORDING_KEY_TEMPLATE", bad)]);
            let line = KeyTemplate::from_env(&env).unwrap_err().to_string();
            assert!(line.starts_with("RECORDING_KEY_TEMPLATE wants a path"), "{bad}");
        }
    }
}
