//! Folders that jobs work in: one below the process's own for each attempt, deleted with it. A process that was killed leaves its
//! folder behind unlocked; whoever starts or sweeps next on this machine deletes it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::{info, warn};

/// The file whose lock says that the folder's owner is alive.
const LOCK: &str = "lock";

/// This process's folder.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    own: TempDir,
    // Held for as long as the process lives; the kernel lets go of it however the process ends.
    _lock: File,
}

impl Scratch {
    /// Makes a folder for this process below `root`, and deletes those of processes that are gone.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = std::path::absolute(root)?;
        // Made and locked under the root's own lock, so that nobody takes it for abandoned in between.
        let turn = File::create(root.join(LOCK))?;
        turn.lock()?;
        let own = tempfile::Builder::new().prefix("worker-").tempdir_in(&root)?;
        let lock = File::create(own.path().join(LOCK))?;
        lock.lock()?;
        drop(turn);
        let scratch = Self { root, own, _lock: lock };
        scratch.delete_abandoned()?;
        Ok(scratch)
    }

    /// A new folder for one attempt, deleted when dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn attempt(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix("attempt-").tempdir_in(self.own.path())
    }

    /// Deletes the folders of processes that are gone.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn delete_abandoned(&self) -> io::Result<()> {
        let turn = File::create(self.root.join(LOCK))?;
        turn.lock()?;
        for entry in std::fs::read_dir(&self.root)? {
            let folder = entry?.path();
            if folder.is_dir() && folder != self.own.path() && is_abandoned(&folder) {
                match std::fs::remove_dir_all(&folder) {
                    Ok(()) => info!("deleted the scratch folder of a process that is gone"),
                    Err(error) => warn!("a scratch folder cannot be deleted: {error}"),
                }
            }
        }
        Ok(())
    }
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_deleted_and_a_living_one_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let living = Scratch::open(root.path()).unwrap();
        let attempt = living.attempt().unwrap();
        let left = root.path().join("worker-gone");
        std::fs::create_dir(&left).unwrap();
        File::create(left.join(LOCK)).unwrap();

        let other = Scratch::open(root.path()).unwrap();
        assert!(attempt.path().exists() && !left.exists());
        drop(living);
        other.delete_abandoned().unwrap();
        assert!(!attempt.path().exists());
    }
}
