//! The spool: where closed segments and staged outputs wait for a worker, in a folder that edge and worker share, or in a bucket,
//! so that they share no disk at all.
//!
//! This file must not know the capture's records: it moves and lists files. What has a final name is complete: a file is
//! renamed into place, or copied to a hidden name, read back and then renamed; a bucket's object appears whole, and is verified
//! before its source goes.
//!
//! | path under the root | what |
//! |---|---|
//! | `{recording}/{track}/{NNNNNN}.seg` | a closed segment |
//! | `{recording}/staged/{token}/{name}` | an output that a job has made and the next one takes |
//!
//! | file | holds |
//! |---|---|
//! | `settings` | `SPOOL_URL` |
//! | `folder`, `publish` | a folder, and how a file is moved there |
//! | `bucket` | a bucket |
//!
//! All calls block; asynchronous callers run them on a blocking thread.

mod bucket;
mod folder;
mod publish;
mod settings;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::id::{RecordingId, TrackId};

use folder::Folder;
use publish::Other;
pub(crate) use publish::make_dir;
pub use publish::{Moved, sync_dir};
pub use settings::SpoolSettings;

/// The longest name of a staged file or of its token.
pub const MAX_NAME_BYTES: usize = 128;
/// The folder of staged outputs within a recording; no track's id has this form.
const STAGED: &str = "staged";

/// A spool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool(Arc<dyn Backend>);

/// What holds the spool's files. Folders are named by their path under the root, without a slash at either end.
trait Backend: Debug + Send + Sync {
    /// The names in a folder, of files and folders, sorted; none when there is no such folder. The root's name is empty.
    fn names(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Moves a file here, under a name in a folder. Afterwards it is on stable storage here and gone there.
    fn put(&self, from: &Path, folder: &str, name: &str, other: Other) -> io::Result<Moved>;

    /// Opens a file for reading, at its beginning.
    fn open(&self, folder: &str, name: &str) -> io::Result<File>;

    /// A file for programs that open it by path: itself, or a copy that is made in `into`.
    fn fetch(&self, folder: &str, name: &str, into: &Path) -> io::Result<PathBuf>;

    /// Deletes a folder with all in it; none is as good.
    fn delete(&self, folder: &str) -> io::Result<()>;

    /// Gives up what was begun to be put here before a time, and never finished.
    fn abort_unfinished(&self, before: Timestamp) -> io::Result<()>;

    /// See [`Spool::prefix`].
    fn prefix(&self) -> Option<&str>;

    /// See [`Spool::may_be_away`].
    fn may_be_away(&self) -> bool;
}

impl Spool {
    /// Opens a spool in a folder, making it when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self(Arc::new(Folder::open(root.into())?)))
    }

    /// One in a bucket, under the prefix `spool/`. Called on the runtime that its requests shall run on.
    #[cfg(test)]
    pub(crate) fn in_bucket(storage: crate::storage::SharedStorage, scratch: &Path) -> Self {
        Self(Arc::new(bucket::Bucket::new(storage, "spool/".to_owned(), scratch.to_owned())))
    }

    /// What the keys of its objects begin with, when it is in a bucket.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.prefix()
    }

    /// The recordings that have anything here, in the order of their ids.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn recordings(&self) -> io::Result<Vec<RecordingId>> {
        Ok(self.0.names("")?.iter().filter_map(|name| RecordingId::parse(name).ok()).collect())
    }

    /// The tracks of a recording, in the order of their ids.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn tracks(&self, recording: &RecordingId) -> io::Result<Vec<TrackId>> {
        let names = self.0.names(recording.as_str())?;
        Ok(names.iter().filter_map(|name| TrackId::parse(name).ok()).collect())
    }

    /// The numbers of a track's closed segments, ascending.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn segments(&self, recording: &RecordingId, track: &TrackId) -> io::Result<Vec<u32>> {
        Ok(numbers_of(&self.0.names(&track_folder(recording, track))?))
    }

    /// Opens a closed segment for reading.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn open_segment(&self, recording: &RecordingId, track: &TrackId, number: u32) -> io::Result<File> {
        self.0.open(&track_folder(recording, track), &segment_name(number))
    }

    /// Moves a closed segment here. Afterwards it is on stable storage here and gone there. Safe to repeat; it never
    /// replaces another segment.
    ///
    /// # Errors
    /// When it cannot be moved; then it is still where it was. `AlreadyExists` when another segment has its number.
    pub fn publish(
        &self,
        recording: &RecordingId,
        track: &TrackId,
        number: u32,
        from: &Path,
    ) -> io::Result<Moved> {
        self.0.put(from, &track_folder(recording, track), &segment_name(number), Other::Keep)
    }

    /// Moves a finished output into a token's folder, replacing one of the same name.
    ///
    /// # Errors
    /// When a name is not plain, or the file cannot be moved.
    pub fn stage(&self, recording: &RecordingId, token: &str, name: &str, from: &Path) -> io::Result<Moved> {
        self.0.put(from, &token_folder(recording, token)?, plain(name)?, Other::Replace)
    }

    /// The tokens that have staged files, by name.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn tokens(&self, recording: &RecordingId) -> io::Result<Vec<String>> {
        self.0.names(&format!("{recording}/{STAGED}"))
    }

    /// A staged file for programs that open it by path: itself, or a copy in the folder `into`, which is the caller's to delete.
    ///
    /// # Errors
    /// When it is not there, cannot be copied, or a name is not plain.
    pub fn fetch_staged(
        &self,
        recording: &RecordingId,
        token: &str,
        name: &str,
        into: &Path,
    ) -> io::Result<PathBuf> {
        self.0.fetch(&token_folder(recording, token)?, plain(name)?, into)
    }

    /// Deletes a token's folder with all in it. Safe to repeat.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete_staged(&self, recording: &RecordingId, token: &str) -> io::Result<()> {
        self.0.delete(&token_folder(recording, token)?)
    }

    /// Deletes the closed segments of a recording, leaving what is staged. Safe to repeat.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub fn delete_capture(&self, recording: &RecordingId) -> io::Result<()> {
        self.tracks(recording)?.iter().try_for_each(|track| self.0.delete(&track_folder(recording, track)))
    }

    /// Deletes all that the spool holds of a recording. Safe to repeat.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete_recording(&self, recording: &RecordingId) -> io::Result<()> {
        self.0.delete(recording.as_str())
    }

    /// Gives up what was begun to be put here before a time, and what a crash has left half put: parts in a bucket, which nobody
    /// sees and somebody pays for.
    ///
    /// # Errors
    /// When it may still be there.
    pub fn abort_unfinished(&self, before: Timestamp) -> io::Result<()> {
        self.0.abort_unfinished(before)
    }

    /// Whether it is reached over a network, and may be away while this machine works. Who writes to it then keeps what a start
    /// needs to know beside.
    #[must_use]
    pub fn may_be_away(&self) -> bool {
        self.0.may_be_away()
    }
}

fn track_folder(recording: &RecordingId, track: &TrackId) -> String {
    format!("{recording}/{track}")
}

fn token_folder(recording: &RecordingId, token: &str) -> io::Result<String> {
    Ok(format!("{recording}/{STAGED}/{}", plain(token)?))
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:06}.seg")
}

/// The numbers of the segments in a folder, ascending; none when there is no such folder.
pub(crate) fn segment_numbers(dir: &Path) -> io::Result<Vec<u32>> {
    Ok(numbers_of(&names(dir)?))
}

/// The numbers of the segments among file names, ascending.
fn numbers_of(names: &[String]) -> Vec<u32> {
    let number = |name: &String| name.strip_suffix(".seg").and_then(|stem| stem.parse().ok());
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// The names in a folder, sorted; none when there is no such folder.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(at(dir))?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Deletes a folder with all in it; none is as good.
pub(crate) fn delete_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(dir)(error)),
        _ => Ok(()),
    }
}

/// Adds the path to an error's message, and keeps its kind.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A name that stays within its folder and is not hidden.
fn plain(name: &str) -> io::Result<&str> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with('.');
    let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (fits && clean).then_some(name).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "not a plain name"))
}
