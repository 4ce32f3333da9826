//! Storage in a folder: a temporary name, fsync, rename, fsync of the folders, and reading back what was written.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use nix::unistd::{AccessFlags, access};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use ulid::Ulid;

use super::{ByteStream, Fingerprint, Place, Storage, StorageError, StorageKey};

/// Read and written at once: large enough for a disk, small beside everything else in memory.
const BLOCK: usize = 256 * 1024;

/// Beginning of a name that is not yet whole; what follows is the writer's own, as two may write the same key. Its writer holds
/// a lock on it: one without is left by a crash, and the next put of the key deletes it.
const PARTIAL: &str = ".partial-";

/// A folder.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    /// Opens the folder, making it when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        access(root, AccessFlags::W_OK | AccessFlags::X_OK)?;
        Ok(Self { root: std::path::absolute(root)? })
    }

    /// Keys are ours, but one that climbs out of the folder must find nothing, whatever row it came from.
    fn path(&self, key: &str) -> Result<PathBuf, StorageError> {
        let plain = Path::new(key).components().all(|part| matches!(part, Component::Normal(_)));
        if key.is_empty() || !plain {
            return Err(StorageError::NotFound(key.to_owned()));
        }
        Ok(self.root.join(key))
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn place(&self) -> Place {
        Place { provider: "local".to_owned(), bucket: "local".to_owned() }
    }

    async fn put_file(
        &self,
        key: &StorageKey,
        file: &Path,
        _content_type: &str,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), StorageError> {
        let target = self.path(&key.to_string())?;
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(StorageError::NotFound(key.to_string()));
        };
        tokio::fs::create_dir_all(folder).await?;
        let (folder, name) = (folder.to_owned(), name.to_string_lossy().into_owned());
        delete_abandoned(folder.clone(), name.clone()).await;
        let partial = folder.join(format!("{PARTIAL}{name}-{}", Ulid::generate()));
        let written = write(file, &partial, &target, sent).await;
        if written.is_err() {
            // The error that matters is the first one; what stays is deleted by the next put.
            let _ = tokio::fs::remove_file(&partial).await;
        }
        written?;
        sync_folders(&folder, &self.root).await?;
        Ok(())
    }

    async fn verify(&self, key: &StorageKey, expected: &Fingerprint) -> Result<(), StorageError> {
        let key = key.to_string();
        let mut file = File::open(self.path(&key)?).await.map_err(|error| absent(error, &key))?;
        let mut block = vec![0; BLOCK];
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        loop {
            let read = file.read(&mut block).await?;
            if read == 0 {
                break;
            }
            hash.update(block.get(..read).unwrap_or_default());
            size += read as u64;
        }
        if size == expected.size && hex::encode(hash.finalize()) == expected.sha256 {
            return Ok(());
        }
        Err(StorageError::Mismatch { key, expected: expected.size, found: size })
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StorageError> {
        match tokio::fs::metadata(self.path(key)?).await {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        let mut file = File::open(self.path(key)?).await.map_err(|error| absent(error, key))?;
        file.seek(std::io::SeekFrom::Start(range.start)).await?;
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(ReaderStream::with_capacity(part, BLOCK).map_ok(Bytes::from).boxed())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let found = tokio::task::spawn_blocking(move || walk(&root, &prefix)).await;
        Ok(found.map_err(std::io::Error::other)??)
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path(key)?;
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // A recording's empty folders go with its last file; a folder that is not empty refuses, and that is right.
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if tokio::fs::remove_dir(folder).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn temporary_url(&self, _key: &str, _valid: Duration) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.path(key).ok()
    }
}

async fn write(
    from: &Path,
    partial: &Path,
    target: &Path,
    sent: &(dyn Fn(u64) + Send + Sync),
) -> std::io::Result<()> {
    let mut from = File::open(from).await?;
    let out = std::fs::File::create_new(partial)?;
    // A folder that knows no locks leaves the partial file to be taken for abandoned; then the rename fails, and the job is
    // tried again.
    let _ = out.try_lock();
    let mut out = File::from_std(out);
    copy(&mut from, &mut out, sent).await?;
    out.sync_all().await?;
    // Locked until it has its final name, under which nobody looks for it.
    tokio::fs::rename(partial, target).await
}

/// Deletes what writers of a key have left that are gone. What cannot be deleted is in nobody's way.
async fn delete_abandoned(folder: PathBuf, name: String) {
    let left = move || {
        let begin = format!("{PARTIAL}{name}-");
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let of_key = entry.file_name().to_string_lossy().starts_with(&begin);
            if of_key && std::fs::File::open(entry.path())?.try_lock().is_ok() {
                std::fs::remove_file(entry.path())?;
            }
        }
        std::io::Result::Ok(())
    };
    let _ = tokio::task::spawn_blocking(left).await;
}

async fn copy(from: &mut File, to: &mut File, sent: &(dyn Fn(u64) + Send + Sync)) -> std::io::Result<()> {
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

fn absent(error: std::io::Error, key: &str) -> StorageError {
    match error.kind() {
        std::io::ErrorKind::NotFound => StorageError::NotFound(key.to_owned()),
        _ => error.into(),
    }
}

fn walk(root: &Path, prefix: &str) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(prefix.rsplit_once('/').map_or("", |(folder, _)| folder))];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(key) = path.strip_prefix(root) {
                found.push(key.to_string_lossy().into_owned());
            }
        }
    }
    found.retain(|key| key.starts_with(prefix));
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RecordingId;

    fn fingerprint(bytes: &[u8]) -> Fingerprint {
        Fingerprint { size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
    }

    async fn stored(bytes: &[u8]) -> (tempfile::TempDir, LocalStorage, StorageKey) {
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(&dir.path().join("out")).unwrap();
        let source = dir.path().join("source");
        std::fs::write(&source, bytes).unwrap();
        let key = StorageKey::Thumbnail(RecordingId::generate(), 0, 0);
        storage.put_file(&key, &source, "image/jpeg", &|_| {}).await.unwrap();
        (dir, storage, key)
    }

    #[tokio::test]
    async fn what_was_put_is_read_back_and_compared() {
        let (_dir, storage, key) = stored(b"picture").await;
        storage.verify(&key, &fingerprint(b"picture")).await.unwrap();
        let error = storage.verify(&key, &fingerprint(b"pictura")).await.unwrap_err();
        assert!(matches!(error, StorageError::Mismatch { .. }));
        assert_eq!(storage.head(&key.to_string()).await.unwrap(), Some(7));
    }

    /// Two writers that are in the middle of the same key at once: the second begins and ends while the first still copies.
    #[tokio::test]
    async fn two_writers_of_one_key_do_not_mix() {
        let (dir, storage, key) = stored(b"old").await;
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        std::fs::write(&long, vec![1; 3 * BLOCK]).unwrap();
        std::fs::write(&short, b"short").unwrap();
        let (begun, halfway) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let may_go = std::sync::Mutex::new(may_go);
        let (first, slow_key) = (storage.clone(), key.clone());
        let slow = std::thread::spawn(move || {
            let sent = move |bytes| {
                if bytes == BLOCK as u64 {
                    begun.send(()).unwrap();
                    may_go.lock().unwrap().recv().unwrap();
                }
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(first.put_file(&slow_key, &long, "video/webm", &sent))
        });
        halfway.recv().unwrap();
        storage.put_file(&key, &short, "video/webm", &|_| {}).await.unwrap();
        storage.verify(&key, &fingerprint(b"short")).await.unwrap();
        go.send(()).unwrap();
        slow.join().unwrap().unwrap();
        storage.verify(&key, &fingerprint(&vec![1; 3 * BLOCK])).await.unwrap();
        assert_eq!(storage.list("recordings/").await.unwrap(), [key.to_string()]);
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_goes_with_the_next_put() {
        let (dir, storage, key) = stored(b"picture").await;
        let path = storage.root.join(key.to_string());
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::write(path.with_file_name(format!("{PARTIAL}{name}-01")), b"pic").unwrap();
        storage.put_file(&key, &dir.path().join("source"), "image/jpeg", &|_| {}).await.unwrap();
        assert_eq!(storage.list("recordings/").await.unwrap(), [key.to_string()]);
    }

    #[tokio::test]
    async fn a_part_of_an_object_is_read() {
        let (_dir, storage, key) = stored(b"0123456789").await;
        let stream = storage.get_range(&key.to_string(), 3..6).await.unwrap();
        let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(parts.concat(), b"345");
    }

    #[tokio::test]
    async fn deleting_takes_the_empty_folders_along_and_may_be_repeated() {
        let (_dir, storage, key) = stored(b"x").await;
        assert_eq!(storage.list("recordings/").await.unwrap(), [key.to_string()]);
        storage.delete(&key.to_string()).await.unwrap();
        storage.delete(&key.to_string()).await.unwrap();
        assert!(storage.list("recordings/").await.unwrap().is_empty());
        assert!(!storage.root.join("recordings").exists());
    }

    #[tokio::test]
    async fn a_key_that_climbs_out_finds_nothing() {
        let (_dir, storage, _) = stored(b"x").await;
        for key in ["../source", "/etc/passwd", "recordings/../../source", ""] {
            assert!(matches!(storage.head(key).await, Err(StorageError::NotFound(_))), "{key}");
            assert!(storage.local_path(key).is_none(), "{key}");
        }
    }
}
