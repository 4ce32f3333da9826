//! Looking into capture logs of server tracks: what they hold for people, and their packets for Wireshark.
//!
//! A folder is a track's, with its segments, or a recording's, with its tracks. Nothing here writes to a log.

mod pcap;
mod show;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use shared::capture::ReadError;
use shared::capture::rtp::{Logged, Records};
use thiserror::Error;

use pcap::Pcap;
use show::Shown;

/// A log that cannot be looked into.
#[derive(Debug, Error)]
pub enum InspectError {
    /// There is no segment in the folder or beneath it.
    #[error("{0} holds no capture log")]
    Nothing(PathBuf),
    /// The log cannot be read.
    #[error("cannot read the log in {0}")]
    Read(PathBuf, #[source] ReadError),
    /// The output cannot be written, or the folder cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Tells what the logs in a folder hold.
///
/// # Errors
/// When there is no log, or it cannot be read, or `out` cannot be written.
pub fn show(folder: &Path, out: &mut dyn Write) -> Result<(), InspectError> {
    for track in tracks(folder)? {
        let mut shown = Shown::default();
        let mut records = open(&track)?;
        while let Some(logged) = next(&mut records, &track)? {
            shown.note(&logged);
        }
        shown.print(&track, records.header(), out)?;
    }
    Ok(())
}

/// Writes the packets and sender reports of the logs in a folder as a pcap file.
///
/// # Errors
/// When there is no log, or it cannot be read, or the file cannot be written.
pub fn export(folder: &Path, to: &Path) -> Result<(), InspectError> {
    let tracks = tracks(folder)?;
    let mut pcap = Pcap::begin(BufWriter::new(File::create(to)?))?;
    for (n, track) in tracks.iter().enumerate() {
        let mut records = open(track)?;
        while let Some(logged) = next(&mut records, track)? {
            pcap.logged(n, &logged)?;
        }
    }
    pcap.finish()?;
    Ok(())
}

fn open(track: &Path) -> Result<Records, InspectError> {
    Records::in_folder(track).map_err(|error| InspectError::Read(track.to_owned(), error))
}

fn next(records: &mut Records, track: &Path) -> Result<Option<Logged>, InspectError> {
    records.read_next().map_err(|error| InspectError::Read(track.to_owned(), error))
}

/// The folders with segments: this one, or those beneath it.
fn tracks(folder: &Path) -> Result<Vec<PathBuf>, InspectError> {
    let mut beneath = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        beneath.extend(path.is_dir().then_some(path));
    }
    beneath.sort_unstable();
    let mut found = Vec::new();
    for path in beneath {
        let mut names = std::fs::read_dir(&path)?.filter_map(Result::ok).map(|entry| entry.path());
        if names.any(|name| name.extension().is_some_and(|extension| extension == "seg")) {
            found.push(path);
        }
    }
    if found.is_empty() { Err(InspectError::Nothing(folder.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
