//! Storage in a folder: a temporary name, fsync, rename, fsync of the folders. It keeps bytes and nothing beside them.

use std::fs::Metadata;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use nix::unistd::{AccessFlags, access};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{
    Attributes, ByteStream, Capabilities, Link, ListStream, Listed, ObjectHead, Place, PutFile, Resumption,
    Storage, StorageError, Unfinished, UnfinishedStream, UploadWatch,
};
use crate::clock::Timestamp;

mod walk;
mod write;

/// Read and written at once: large enough for a disk, small beside everything else in memory.
const BLOCK: usize = 256 * 1024;
/// The longest key in bytes: with the root before it, far below what a path may have (4096).
const KEY_MAX: usize = 1024;
/// What a [`Resumption`] holds here: the path of a file that is not whole, below the root.
const PARTIAL_FILE: &str = "partialFile";

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
        if key.is_empty() || !stays_below(key) {
            return Err(StorageError::NotFound(key.to_owned()));
        }
        Ok(self.root.join(key))
    }

    fn not_written(&self, key: &str, error: std::io::Error) -> StorageError {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::AlreadyExists | Kind::NotADirectory | Kind::IsADirectory if self.root.is_dir() => {
                StorageError::Refused(format!("{key} is the folder of another object, or lies below one"))
            }
            _ => error.into(),
        }
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn place(&self) -> Place {
        Place { provider: "local".to_owned(), bucket: "local".to_owned() }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: false,
            keeps_metadata: false,
            keeps_content_type: false,
            keeps_cache_control: false,
            names_downloads: false,
            temporary_url_max: None,
            key_max: KEY_MAX,
        }
    }

    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError> {
        let target = self.path(put.key)?;
        let mut from = File::open(put.file).await?;
        let written = write::replace(&self.root, &target, &mut from, &|sent| watch.sent(sent)).await;
        written.map_err(|error| self.not_written(put.key, error))
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, _: &Attributes) -> Result<(), StorageError> {
        let target = self.path(key)?;
        let written = write::replace(&self.root, &target, &mut bytes.as_ref(), &|_| {}).await;
        written.map_err(|error| self.not_written(key, error))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError> {
        match tokio::fs::metadata(self.path(key)?).await {
            Ok(metadata) => Ok(metadata.is_file().then(|| ObjectHead {
                size: metadata.len(),
                modified_at: modified_at(&metadata),
                ..ObjectHead::default()
            })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        let opened = File::open(self.path(key)?).await;
        let mut file = opened.map_err(|error| match is_absent(&error) {
            true => StorageError::NotFound(key.to_owned()),
            false => error.into(),
        })?;
        file.seek(std::io::SeekFrom::Start(range.start)).await?;
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(ReaderStream::with_capacity(part, BLOCK).map_ok(Bytes::from).boxed())
    }

    fn list(&self, prefix: &str) -> ListStream<'_> {
        let files = walk::files(&self.root, prefix);
        let whole = files.try_filter_map(async |file| Ok((!write::is_partial(&file.key)).then_some(file)));
        whole.map_err(StorageError::from).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path(key)?;
        match tokio::fs::remove_file(&path).await {
            Err(error) if !is_absent(&error) => return Err(error.into()),
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

    async fn temporary_url(&self, _key: &str, _link: &Link) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    fn unfinished(&self, prefix: &str) -> UnfinishedStream<'_> {
        // What a file that is not whole is called begins with a name of its own.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let files = walk::files(&self.root, folder).map_err(StorageError::from);
        let prefix = prefix.to_owned();
        let left = files.try_filter_map(move |Listed { key: partial, modified_at: begun_at, .. }| {
            let (path, prefix) = (self.root.join(&partial), prefix.clone());
            async move {
                let Some(key) = write::key_of_partial(&partial).filter(|key| key.starts_with(&prefix)) else {
                    return Ok(None);
                };
                let upload = Resumption(json!({ PARTIAL_FILE: partial }));
                let abandoned = write::is_abandoned(path).await?;
                Ok(abandoned.then_some(Unfinished { key, begun_at, upload }))
            }
        });
        left.boxed()
    }

    async fn abort(&self, upload: &Resumption) -> Result<(), StorageError> {
        match upload.0.get(PARTIAL_FILE).and_then(|file| file.as_str()) {
            Some(partial) if write::is_partial(partial) => self.delete(partial).await,
            _ => Ok(()),
        }
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.path(key).ok()
    }
}

fn stays_below(key: &str) -> bool {
    Path::new(key).components().all(|part| matches!(part, Component::Normal(_)))
}

fn modified_at(metadata: &Metadata) -> Option<Timestamp> {
    metadata.modified().ok().map(Timestamp::from)
}

/// Nothing there, or something on the way there is no folder: then nothing can be there either.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::storage::{Fingerprint, verify};

    const KEY: &str = "recordings/rec_1/thumbnail-00.jpg";

    fn fingerprint(bytes: &[u8]) -> Fingerprint {
        Fingerprint { size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
    }

    async fn put(storage: &LocalStorage, file: &Path, sent: &Sent) -> Result<(), StorageError> {
        let attributes = Attributes::default();
        storage.put_file(&PutFile { key: KEY, file, attributes: &attributes, resume: None }, sent).await
    }

    /// Tells a test how far a file is.
    struct Sent(Box<dyn Fn(u64) + Send + Sync>);

    #[async_trait]
    impl UploadWatch for Sent {
        fn sent(&self, bytes: u64) {
            self.0(bytes);
        }

        async fn keep(&self, _state: &Resumption) -> anyhow::Result<super::super::Kept> {
            unreachable!("local storage begins anew")
        }
    }

    fn unwatched() -> Sent {
        Sent(Box::new(|_| {}))
    }

    async fn is(storage: &LocalStorage, bytes: &[u8]) -> Result<(), StorageError> {
        verify(storage, KEY, &fingerprint(bytes), None).await
    }

    async fn keys(storage: &LocalStorage) -> Vec<String> {
        storage.list("recordings/").map_ok(|found| found.key).try_collect().await.unwrap()
    }

    async fn stored(bytes: &[u8]) -> (tempfile::TempDir, LocalStorage) {
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::open(&dir.path().join("out")).unwrap();
        let source = dir.path().join("source");
        std::fs::write(&source, bytes).unwrap();
        put(&storage, &source, &unwatched()).await.unwrap();
        (dir, storage)
    }

    #[tokio::test]
    async fn what_was_put_is_read_back_and_compared() {
        let (_dir, storage) = stored(b"picture").await;
        is(&storage, b"picture").await.unwrap();
        for other in [&b"pictura"[..], b"pictures"] {
            assert!(matches!(is(&storage, other).await, Err(StorageError::Mismatch { .. })));
        }
        assert_eq!(storage.head(KEY).await.unwrap().unwrap().size, 7);
    }

    /// Two writers that are in the middle of the same key at once: the second begins and ends while the first still copies.
    #[tokio::test]
    async fn two_writers_of_one_key_do_not_mix() {
        let (dir, storage) = stored(b"old").await;
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        std::fs::write(&long, vec![1; 3 * BLOCK]).unwrap();
        std::fs::write(&short, b"short").unwrap();
        let (begun, halfway) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let may_go = std::sync::Mutex::new(may_go);
        let (first, begun) = (storage.clone(), std::sync::Mutex::new(begun));
        let slow = std::thread::spawn(move || {
            let sent = Sent(Box::new(move |bytes| {
                if bytes == BLOCK as u64 {
                    begun.lock().unwrap().send(()).unwrap();
                    may_go.lock().unwrap().recv().unwrap();
                }
            }));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(put(&first, &long, &sent))
        });
        halfway.recv().unwrap();
        put(&storage, &short, &unwatched()).await.unwrap();
        is(&storage, b"short").await.unwrap();
        go.send(()).unwrap();
        slow.join().unwrap().unwrap();
        is(&storage, &vec![1; 3 * BLOCK]).await.unwrap();
        assert_eq!(keys(&storage).await, [KEY]);
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_goes_with_the_next_put() {
        let (dir, storage) = stored(b"picture").await;
        let partial = leave_partial(&storage);
        put(&storage, &dir.path().join("source"), &unwatched()).await.unwrap();
        assert!(!partial.exists());
        assert_eq!(keys(&storage).await, [KEY]);
    }

    #[tokio::test]
    async fn what_cannot_be_told_apart_keeps_nothing_else_from_going() {
        let (dir, storage) = stored(b"picture").await;
        // No file, so that it can be neither locked nor deleted as one.
        let strange = leave_partial(&storage);
        std::fs::remove_file(&strange).unwrap();
        std::fs::create_dir(&strange).unwrap();
        let partials: Vec<PathBuf> = (0..9).map(|_| leave_partial(&storage)).collect();
        put(&storage, &dir.path().join("source"), &unwatched()).await.unwrap();
        assert!(strange.exists() && !partials.iter().any(|partial| partial.exists()));
    }

    fn leave_partial(storage: &LocalStorage) -> PathBuf {
        let path = storage.root.join(KEY);
        let name = path.file_name().unwrap().to_str().unwrap();
        let partial = path.with_file_name(format!(".partial-{name}-{}", ulid::Ulid::generate()));
        std::fs::write(&partial, b"pic").unwrap();
        partial
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_is_no_object_and_can_be_found_and_deleted() {
        let (_dir, storage) = stored(b"picture").await;
        let partial = leave_partial(&storage);
        assert_eq!(keys(&storage).await, [KEY]);
        for (prefix, count) in [("recordings/", 1), ("recordings/rec_1/thumb", 1), ("recordings/rec_2", 0)] {
            let left: Vec<Unfinished> = storage.unfinished(prefix).try_collect().await.unwrap();
            assert_eq!(left.len(), count, "{prefix}");
            for upload in left {
                assert_eq!(upload.key, KEY);
                let writer = std::fs::File::open(&partial).unwrap();
                writer.lock().unwrap();
                assert!(storage.unfinished(prefix).next().await.is_none(), "its writer lives");
            }
        }
        let left: Vec<Unfinished> = storage.unfinished("recordings/").try_collect().await.unwrap();
        storage.abort(&left[0].upload).await.unwrap();
        storage.abort(&left[0].upload).await.unwrap();
        storage.abort(&Resumption(json!({ PARTIAL_FILE: KEY }))).await.unwrap();
        assert!(!partial.exists() && storage.local_path(KEY).unwrap().exists());
    }

    #[tokio::test]
    async fn a_part_of_an_object_is_read() {
        let (_dir, storage) = stored(b"0123456789").await;
        let stream = storage.get_range(KEY, 3..6).await.unwrap();
        let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(parts.concat(), b"345");
    }

    #[tokio::test]
    async fn deleting_takes_the_empty_folders_along_and_may_be_repeated() {
        let (_dir, storage) = stored(b"x").await;
        assert_eq!(keys(&storage).await, [KEY]);
        storage.delete(KEY).await.unwrap();
        storage.delete(KEY).await.unwrap();
        assert!(keys(&storage).await.is_empty());
        assert!(!storage.root.join("recordings").exists());
    }

    #[tokio::test]
    async fn no_object_is_the_folder_of_another() {
        let (_dir, storage) = stored(b"picture").await;
        for key in [format!("{KEY}/below"), "recordings/rec_1".to_owned()] {
            let put = storage.put_bytes(&key, Bytes::new(), &Attributes::default()).await;
            assert!(matches!(put, Err(StorageError::Refused(_))), "{key}: {put:?}");
        }
        assert_eq!(keys(&storage).await, [KEY]);
    }

    #[tokio::test]
    async fn a_key_that_climbs_out_finds_nothing() {
        let (_dir, storage) = stored(b"x").await;
        for key in ["../source", "/etc/passwd", "recordings/../../source", ""] {
            assert!(matches!(storage.head(key).await, Err(StorageError::NotFound(_))), "{key}");
            assert!(storage.local_path(key).is_none(), "{key}");
        }
    }
}
