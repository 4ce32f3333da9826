//! A file appears under its name whole, and on disk, or not at all.

use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tracing::warn;
use ulid::Ulid;

use super::BLOCK;

/// Beginning of a name that is not yet whole; what follows is the key's own name and the writer's, as two may write the same
/// key. Its writer holds a lock on it: one without is left by a crash, and the next put of the key deletes it.
const PARTIAL: &str = ".partial-";

type Sent<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Writes all that `from` gives to `target`, below `root`.
pub(super) async fn replace<R: AsyncRead + Unpin + Send>(
    root: &Path,
    target: &Path,
    from: &mut R,
    sent: Sent<'_>,
) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    tokio::fs::create_dir_all(folder).await?;
    let (folder, name) = (folder.to_owned(), name.to_string_lossy().into_owned());
    delete_abandoned(folder.clone(), name.clone()).await;
    let partial = folder.join(format!("{PARTIAL}{name}-{}", Ulid::generate()));
    let written = write(from, &partial, target, sent).await;
    if written.is_err() {
        // The error that matters is the first one; what stays is deleted by the next put.
        let _ = tokio::fs::remove_file(&partial).await;
    }
    written?;
    sync_folders(&folder, root).await
}

async fn write<R: AsyncRead + Unpin>(
    from: &mut R,
    partial: &Path,
    target: &Path,
    sent: Sent<'_>,
) -> std::io::Result<()> {
    let out = std::fs::File::create_new(partial)?;
    // In a folder that knows no locks nobody can tell later whether the writer is gone; what it leaves then stays.
    let _ = out.try_lock();
    let mut out = File::from_std(out);
    copy(from, &mut out, sent).await?;
    out.sync_all().await?;
    // Locked until it has its final name, under which nobody looks for it.
    tokio::fs::rename(partial, target).await
}

async fn copy<R: AsyncRead + Unpin>(from: &mut R, to: &mut File, sent: Sent<'_>) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut total = 0_u64;
    loop {
        let read = from.read(&mut block).await?;
        if read == 0 {
            return to.flush().await;
        }
        to.write_all(block.get(..read).unwrap_or_default()).await?;
        total += read as u64;
        sent(total);
    }
}

/// A rename is on disk only when its folder is; a new folder, only when its parent is.
async fn sync_folders(from: &Path, root: &Path) -> std::io::Result<()> {
    for folder in from.ancestors().take_while(|folder| folder.starts_with(root)) {
        File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}

/// Deletes what writers of a key have left that are gone. What cannot be deleted takes room, and is told.
async fn delete_abandoned(folder: PathBuf, name: String) {
    let left = move || {
        let begin = format!("{PARTIAL}{name}-");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&begin) {
                continue;
            }
            if let Err(error) = delete_if_abandoned(&entry.path()) {
                warn!("what a writer may have left stays: {}: {error}", entry.path().display());
            }
        }
    };
    let _ = tokio::task::spawn_blocking(left).await;
}

fn delete_if_abandoned(partial: &Path) -> std::io::Result<()> {
    match writer(partial)? {
        Writer::Gone => std::fs::remove_file(partial),
        Writer::Lives => Ok(()),
    }
}

/// Who writes a file that is not whole.
#[derive(Debug, PartialEq, Eq)]
enum Writer {
    Lives,
    /// Or done: then the file has its final name.
    Gone,
}

/// Asks by the lock that a writer holds. Blocks.
fn writer(partial: &Path) -> std::io::Result<Writer> {
    // For writing: over NFS, none but such a handle can be locked for oneself alone (flock(2)).
    let file = std::fs::OpenOptions::new().write(true).open(partial)?;
    match file.try_lock() {
        Ok(()) => Ok(Writer::Gone),
        Err(TryLockError::WouldBlock) => Ok(Writer::Lives),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether a key is the name of a file that is not whole.
pub(super) fn is_partial(key: &str) -> bool {
    key_of_partial(key).is_some()
}

/// The key that a file which is not whole is to have.
pub(super) fn key_of_partial(partial: &str) -> Option<String> {
    let (folder, name) =
        partial.rsplit_once('/').map_or((None, partial), |(folder, name)| (Some(folder), name));
    let (name, writer) = name.strip_prefix(PARTIAL)?.rsplit_once('-')?;
    Ulid::from_string(writer).ok()?;
    Some(folder.map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}")))
}

/// Whether the writer of a file that is not whole is gone.
pub(super) async fn is_abandoned(partial: PathBuf) -> std::io::Result<bool> {
    let look = move || match writer(&partial) {
        Ok(writer) => Ok(writer == Writer::Gone),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    tokio::task::spawn_blocking(look).await.map_err(std::io::Error::other)?
}
