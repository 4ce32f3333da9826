//! The spool: where closed segments and staged outputs wait for a worker, on a folder that edge and worker share.
//!
//! This file must not know the capture's records: it moves and lists files. What has a final name is complete: a file is
//! renamed into place, or copied to a hidden name, read back and then renamed.
//!
//! | path under the root | what |
//! |---|---|
//! | `{recording}/{track}/{NNNNNN}.seg` | a closed segment |
//! | `{recording}/staged/{token}/{name}` | an output that a job has made and the next one takes |
//!
//! All calls block; asynchronous callers run them on a blocking thread.

mod publish;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::id::{RecordingId, TrackId};

use nix::unistd::{AccessFlags, access};
use publish::Other;
pub(crate) use publish::make_dir;
pub use publish::{Moved, sync_dir};

/// The longest name of a staged file or of its token.
pub const MAX_NAME_BYTES: usize = 128;
/// The folder of staged outputs within a recording; no track's id has this form.
const STAGED: &str = "staged";

/// A spool in a local or shared folder.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
}

/// A file that waits in the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Its name within its token's folder.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Spool {
    /// Opens the spool, making its folder when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        make_dir(&root).map_err(at(&root))?;
        access(&root, AccessFlags::W_OK | AccessFlags::X_OK)?;
        Ok(Self { root })
    }

    /// The recordings that have anything here, in the order of their ids.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn recordings(&self) -> io::Result<Vec<RecordingId>> {
        Ok(names(&self.root)?.iter().filter_map(|name| RecordingId::parse(name).ok()).collect())
    }

    /// The tracks of a recording, in the order of their ids.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn tracks(&self, recording: &RecordingId) -> io::Result<Vec<TrackId>> {
        Ok(names(&self.recording(recording))?.iter().filter_map(|name| TrackId::parse(name).ok()).collect())
    }

    /// The numbers of a track's closed segments, ascending.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn segments(&self, recording: &RecordingId, track: &TrackId) -> io::Result<Vec<u32>> {
        segment_numbers(&self.track(recording, track))
    }

    /// Opens a closed segment for reading.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub fn open_segment(&self, recording: &RecordingId, track: &TrackId, number: u32) -> io::Result<File> {
        let path = self.track(recording, track).join(segment_name(number));
        File::open(&path).map_err(at(&path))
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
        publish::move_into(from, &self.track(recording, track), &segment_name(number), Other::Keep)
    }

    /// Moves a finished output into a token's folder, replacing one of the same name.
    ///
    /// # Errors
    /// When a name is not plain, or the file cannot be moved.
    pub fn stage(&self, recording: &RecordingId, token: &str, name: &str, from: &Path) -> io::Result<Moved> {
        publish::move_into(from, &self.token(recording, token)?, plain(name)?, Other::Replace)
    }

    /// The files staged under a token, by name; none when there is no such token.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn staged(&self, recording: &RecordingId, token: &str) -> io::Result<Vec<StagedFile>> {
        let dir = self.token(recording, token)?;
        let whole = names(&dir)?.into_iter().filter(|name| plain(name).is_ok());
        whole.map(|name| Ok(StagedFile { bytes: fs::metadata(dir.join(&name))?.len(), name })).collect()
    }

    /// The tokens that have staged files, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn tokens(&self, recording: &RecordingId) -> io::Result<Vec<String>> {
        names(&self.recording(recording).join(STAGED))
    }

    /// Where a staged file is, for programs that open it by path.
    ///
    /// # Errors
    /// When it is not there, or a name is not plain.
    pub fn staged_path(&self, recording: &RecordingId, token: &str, name: &str) -> io::Result<PathBuf> {
        let path = self.token(recording, token)?.join(plain(name)?);
        fs::metadata(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Deletes a token's folder with all in it. Safe to repeat.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete_staged(&self, recording: &RecordingId, token: &str) -> io::Result<()> {
        delete_dir(&self.token(recording, token)?)
    }

    /// Deletes the closed segments of a recording, leaving what is staged. Safe to repeat.
    ///
    /// # Errors
    /// When they cannot be deleted.
    pub fn delete_capture(&self, recording: &RecordingId) -> io::Result<()> {
        self.tracks(recording)?.iter().try_for_each(|track| delete_dir(&self.track(recording, track)))
    }

    /// Deletes all that the spool holds of a recording. Safe to repeat.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete_recording(&self, recording: &RecordingId) -> io::Result<()> {
        delete_dir(&self.recording(recording))
    }

    fn recording(&self, recording: &RecordingId) -> PathBuf {
        self.root.join(recording.as_str())
    }

    fn track(&self, recording: &RecordingId, track: &TrackId) -> PathBuf {
        self.recording(recording).join(track.as_str())
    }

    fn token(&self, recording: &RecordingId, token: &str) -> io::Result<PathBuf> {
        Ok(self.recording(recording).join(STAGED).join(plain(token)?))
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:06}.seg")
}

/// The numbers of the segments in a folder, ascending; none when there is no such folder.
pub(crate) fn segment_numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let number = |name: &String| name.strip_suffix(".seg").and_then(|stem| stem.parse().ok());
    let mut numbers: Vec<u32> = names(dir)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
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
