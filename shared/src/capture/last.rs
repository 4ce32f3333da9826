//! The last segment that was given to a spool which may be away: it stays beside the log until the next one has gone too, or the
//! recording is forgotten. A start finds in it the track's next number and what holds since its beginning, and need not ask the
//! spool.
//!
//! This file must not know what a segment holds. It stands under a name of its own, `NNNNNN.last`, as a second name of the same
//! file, so that nothing takes it for a segment that is still to go.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::spool::{self, at, names, segment_name};

/// Gives a segment that is about to go its second name, durably. Safe to repeat.
pub(super) fn keep(dir: &Path, number: u32) -> io::Result<()> {
    let (from, to) = (dir.join(segment_name(number)), path(dir, number));
    match fs::hard_link(&from, &to) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(at(&to)(error)),
        _ => spool::sync_dir(dir),
    }
}

/// Drops those before a segment that has gone.
pub(super) fn drop_before(dir: &Path, number: u32) -> io::Result<()> {
    for older in numbers(dir)?.into_iter().filter(|&older| older < number) {
        let older = path(dir, older);
        fs::remove_file(&older).map_err(at(&older))?;
    }
    Ok(())
}

/// The number of the last one; `None` when none has gone.
pub(super) fn number(dir: &Path) -> io::Result<Option<u32>> {
    Ok(numbers(dir)?.into_iter().max())
}

/// Opens one.
pub(super) fn open(dir: &Path, number: u32) -> io::Result<File> {
    let path = path(dir, number);
    File::open(&path).map_err(at(&path))
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.last"))
}

fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let number = |name: &String| name.strip_suffix(".last").and_then(|stem| stem.parse().ok());
    Ok(names(dir)?.iter().filter_map(number).collect())
}
