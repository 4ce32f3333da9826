//! The file operations of a segment that is being written, in one place so that tests can make them fail.
//!
//! This file must not know records.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::uio::pwritev;

use super::Env;

/// Faults that a test asks for.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// How many of the next syncs fail.
    pub(super) syncs: std::sync::atomic::AtomicU32,
    /// How many of the next writes fail halfway for want of room.
    pub(super) writes: std::sync::atomic::AtomicU32,
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Writes the parts one after the other, with one call when the system takes them all at once.
#[cfg_attr(not(test), expect(unused_variables, reason = "the environment only carries the faults of tests"))]
pub(super) fn write_all_at(env: &Env, file: &File, parts: &[&[u8]], offset: u64) -> io::Result<()> {
    #[cfg(test)]
    if take(&env.faults.writes) {
        let bytes = parts.concat();
        file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    let (mut at, mut written) = (offset, write_at_once(file, parts, offset)?);
    for part in parts {
        // What a signal or a full disk has cut off is written on its own, and fails on its own.
        let (_, rest) = part.split_at(part.len().min(written));
        written -= part.len() - rest.len();
        at += part.len() as u64;
        file.write_all_at(rest, at - rest.len() as u64)?;
    }
    Ok(())
}

/// As much as one call writes.
fn write_at_once(file: &File, parts: &[&[u8]], offset: u64) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    match pwritev(file, &slices, offset) {
        Err(Errno::EINTR) => Ok(0),
        written => Ok(written?),
    }
}

#[cfg_attr(not(test), expect(unused_variables, reason = "the environment only carries the faults of tests"))]
pub(super) fn sync_data(env: &Env, file: &File) -> io::Result<()> {
    #[cfg(test)]
    if take(&env.faults.syncs) {
        return Err(io::Error::other("injected"));
    }
    file.sync_data()
}

#[cfg(test)]
fn take(faults: &std::sync::atomic::AtomicU32) -> bool {
    use std::sync::atomic::Ordering::SeqCst;
    faults.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Whether an error means that the disk, the quota or the largest file is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
