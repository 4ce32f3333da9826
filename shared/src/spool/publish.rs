//! Moves a file so that it is either whole under its final name or not there at all, and on stable storage.
//!
//! This file must not know what the files hold.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::at;

/// How much is copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// How a file came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// By a rename within one filesystem.
    Renamed,
    /// By a copy that was read back, from another filesystem, or to a bucket.
    Copied,
    /// By an earlier move that did not come to delete its source.
    Before,
}

/// What becomes of another file of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// It is replaced: the later one holds.
    Replace,
    /// It stays: both are somebody's only copy.
    Keep,
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// When the operating system fails to.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// Makes a folder and those above it, durably.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dir(above)?;
    match fs::create_dir(dir) {
        // Somebody else may have made it at the same moment; a file in its place is no folder.
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !dir.is_dir() => Err(at(dir)(error)),
        _ => sync_dir(above),
    }
}

/// Moves `from` to `dir/name`. The content of `from` must be on stable storage already, or be synced here by the copy.
/// Nobody else may move to the same name meanwhile.
pub(super) fn move_into(from: &Path, dir: &Path, name: &str, other: Other) -> io::Result<Moved> {
    make_dir(dir)?;
    File::open(from).and_then(|file| file.sync_all()).map_err(at(from))?;
    let to = dir.join(name);
    let moved = match other {
        Other::Keep if is_there(from, &to)? => Moved::Before,
        Other::Keep | Other::Replace => rename_or_copy(from, dir, name)?,
    };
    sync_dir(dir)?;
    match moved {
        Moved::Renamed => from.parent().map_or(Ok(()), sync_dir)?,
        Moved::Copied | Moved::Before => remove(from)?,
    }
    Ok(moved)
}

/// Deletes a file whose copy is elsewhere, durably.
pub(super) fn remove(from: &Path) -> io::Result<()> {
    fs::remove_file(from).map_err(at(from))?;
    from.parent().map_or(Ok(()), sync_dir)
}

/// Whether the file is at its place already, on stable storage; `AlreadyExists` when another one is.
fn is_there(from: &Path, to: &Path) -> io::Result<bool> {
    let mut there = match File::open(to) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(to)(error)),
    };
    let is = crc_of(&mut there, |_| Ok(())).map_err(at(to))?;
    if is != File::open(from).and_then(|mut from| crc_of(&mut from, |_| Ok(()))).map_err(at(from))? {
        return Err(at(to)(io::Error::new(ErrorKind::AlreadyExists, "another file has this name")));
    }
    there.sync_all().map_err(at(to))?;
    Ok(true)
}

fn rename_or_copy(from: &Path, dir: &Path, name: &str) -> io::Result<Moved> {
    let to = dir.join(name);
    match fs::rename(from, &to) {
        Ok(()) => Ok(Moved::Renamed),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            copy_whole(from, dir, name).map(|()| Moved::Copied)
        }
        Err(error) => Err(at(&to)(error)),
    }
}

fn copy_whole(from: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let aside = dir.join(format!(".{name}.part"));
    let copied = copy_and_read_back(from, &aside).and_then(|()| fs::rename(&aside, dir.join(name)));
    if copied.is_err() {
        // The copy is of no use, and its name is never read; the error that matters is the first one.
        let _ = fs::remove_file(&aside);
    }
    copied.map_err(at(&aside))
}

fn copy_and_read_back(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = File::create(to)?;
    let written = crc_of(&mut File::open(from)?, |part| copy.write_all(part))?;
    copy.sync_all()?;
    // The copy is read from the disk, not from memory, where the kernel allows it.
    let _ = posix_fadvise(&copy, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    if crc_of(&mut File::open(to)?, |_| Ok(()))? != written {
        return Err(io::Error::new(ErrorKind::InvalidData, "the copy differs from its source"));
    }
    Ok(())
}

/// The CRC and length of all that is read, each part having been given to `sink`.
fn crc_of(source: &mut File, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u32, u64)> {
    let mut buffer = vec![0; COPY_BYTES];
    let (mut crc, mut len) = (0, 0);
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok((crc, len));
        }
        sink(&buffer[..read])?;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        len += read as u64;
    }
}
