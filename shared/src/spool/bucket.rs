//! A spool in a bucket: the edge puts closed segments there while the call goes on, and workers on other machines read them.
//!
//! An object that "is put" is no proof: it is verified, size and checksum, and only then does the file go. What is read comes to
//! a nameless file in a folder of this machine first, at most a segment for each reader: readers seek, and a connection may break
//! in the middle, after which the download goes on where it stopped. Memory holds a block of what is read or hashed, and what the
//! provider's upload holds.
//!
//! Every call has a longest time that fits what it carries: a bucket that takes connections and says nothing must not hold a
//! thread for ever.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::future::ready;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::publish::{Moved, Other, remove};
use super::{Backend, at};
use crate::clock::Timestamp;
use crate::storage::{Attributes, Fingerprint, PutFile, SharedStorage, StorageError, Unfinished, verify};

/// What segments and outputs are to whoever looks at the bucket.
const CONTENT_TYPE: &str = "application/octet-stream";
/// Read of a file at once.
const BLOCK: usize = 256 * 1024;
/// Objects that are deleted at once.
const DELETES_AT_ONCE: usize = 16;
/// A download goes on so often after it broke without a byte having come, with pauses that double from the first: about three
/// seconds in all. A job whose download fails is tried again anyhow.
const DOWNLOAD_RETRIES: usize = 4;
const DOWNLOAD_PAUSE: Duration = Duration::from_millis(200);
/// For a call that carries next to nothing: the provider's own attempts at it end within.
const CALL_MAX: Duration = Duration::from_secs(120);
/// The slowest that a file may go, in bytes per second: a line that is slower does not keep up with a single microphone and
/// camera.
const RATE_MIN: u64 = 32 * 1024;
/// Listing or deleting a recording, or all of a bucket: a million objects in pages of a thousand.
const SWEEP_MAX: Duration = Duration::from_secs(15 * 60);

/// A bucket, as the spool uses it. Its calls block their thread; the requests run on a runtime beside.
pub(super) struct Bucket {
    storage: SharedStorage,
    /// What every key begins with; ends in a slash, or is empty.
    prefix: String,
    /// Where segments are brought to be read.
    scratch: PathBuf,
    runtime: Handle,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.storage.place(), self.prefix)
    }
}

impl Bucket {
    /// Must be called on the runtime that requests shall run on.
    pub(super) fn new(storage: SharedStorage, prefix: String, scratch: PathBuf) -> Self {
        Self { storage, prefix, scratch, runtime: Handle::current() }
    }

    /// What the keys in a folder begin with.
    fn within(&self, folder: &str) -> String {
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("{}{folder}{slash}", self.prefix)
    }

    fn key(&self, folder: &str, name: &str) -> String {
        format!("{}{name}", self.within(folder))
    }

    fn wait<T>(
        &self,
        longest: Duration,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.runtime.block_on(async {
            let late = |_| StorageError::unavailable(format!("no end within {} s", longest.as_secs()));
            timeout(longest, call).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
        })
    }

    fn put_and_verify(&self, key: &str, from: &Path, expected: &Fingerprint) -> Result<(), StorageError> {
        let attributes = Attributes { content_type: CONTENT_TYPE.to_owned(), ..Attributes::default() };
        let put = PutFile { key, file: from, attributes: &attributes, resume: None };
        // There and, where the provider keeps no checksum, back.
        self.wait(carried(2 * expected.size), async {
            self.storage.put_file(&put, &()).await?;
            verify(&*self.storage, key, expected, Some(from)).await
        })
    }

    /// Puts a file where nothing was. What arrived otherwise than it left is deleted: it would look like another's.
    fn put_new(&self, key: &str, from: &Path, expected: &Fingerprint) -> Result<(), StorageError> {
        let put = self.put_and_verify(key, from, expected);
        if let Err(StorageError::Mismatch { .. }) = put {
            // What fails now leaves the file where it is; the error that matters is the first one.
            let _ = self.wait(CALL_MAX, self.storage.delete(key));
        }
        put
    }

    /// Whether the very same object is there. `AlreadyExists` when another one is.
    fn is_there(&self, key: &str, from: &Path, expected: &Fingerprint) -> io::Result<bool> {
        let same = verify(&*self.storage, key, expected, Some(from));
        match self.wait(carried(expected.size), same) {
            Ok(()) => Ok(true),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(error @ StorageError::Mismatch { .. }) => {
                Err(io::Error::new(ErrorKind::AlreadyExists, error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes all of an object to a file.
    fn download(&self, key: &str, into: &mut File) -> Result<(), StorageError> {
        let head = self.wait(CALL_MAX, self.storage.head(key))?;
        let size = head.ok_or_else(|| StorageError::NotFound(key.to_owned()))?.size;
        self.wait(carried(size), async {
            let (mut rest, mut pauses) = (0..size, pauses());
            loop {
                let before = rest.start;
                let error = match self.append(key, &mut rest, into).await {
                    Ok(()) => return Ok(()),
                    Err(error) if !error.is_transient() => return Err(error),
                    Err(error) => error,
                };
                if rest.start > before {
                    pauses = self::pauses();
                }
                tokio::time::sleep(pauses.next().ok_or(error)?).await;
            }
        })
    }

    /// Writes what is left of an object to the end of a file, and says what is left then.
    async fn append(&self, key: &str, rest: &mut Range<u64>, into: &mut File) -> Result<(), StorageError> {
        let broken = |error| StorageError::unavailable(format!("{key} cannot be read: {error}"));
        let mut bytes = self.storage.get_range(key, rest.clone()).await?;
        while let Some(block) = bytes.try_next().await.map_err(broken)? {
            into.write_all(&block)?;
            rest.start += block.len() as u64;
        }
        if rest.start == rest.end { Ok(()) } else { Err(broken(ErrorKind::UnexpectedEof.into())) }
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), StorageError> {
        let delete = |key: String| async move { self.storage.delete(&key).await };
        self.storage.list(prefix).try_for_each_concurrent(DELETES_AT_ONCE, |object| delete(object.key)).await
    }

    async fn abort_before(&self, before: Timestamp) -> Result<(), StorageError> {
        let mut unfinished = self.storage.unfinished(&self.prefix);
        while let Some(Unfinished { begun_at, upload, .. }) = unfinished.try_next().await? {
            if begun_at.is_some_and(|at| at < before) {
                self.storage.abort(&upload).await?;
            }
        }
        Ok(())
    }
}

/// How long a call may take that carries so many bytes.
fn carried(bytes: u64) -> Duration {
    CALL_MAX + Duration::from_secs(bytes / RATE_MIN)
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_min_delay(DOWNLOAD_PAUSE).with_max_times(DOWNLOAD_RETRIES).build()
}

impl Backend for Bucket {
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = self.within(folder);
        let names = self.storage.list(&prefix).try_fold(BTreeSet::new(), |mut names, object| {
            let rest = object.key.strip_prefix(&prefix).unwrap_or_default();
            let name = rest.split('/').next().unwrap_or_default();
            if !name.is_empty() && !names.contains(name) {
                names.insert(name.to_owned());
            }
            ready(Ok(names))
        });
        Ok(self.wait(SWEEP_MAX, names).map_err(failed)?.into_iter().collect())
    }

    fn put(&self, from: &Path, folder: &str, name: &str, other: Other) -> io::Result<Moved> {
        let (key, expected) = (self.key(folder, name), fingerprint(from).map_err(at(from))?);
        let moved = match other {
            Other::Keep if self.is_there(&key, from, &expected)? => Moved::Before,
            Other::Keep => self.put_new(&key, from, &expected).map(|()| Moved::Copied).map_err(failed)?,
            Other::Replace => {
                self.put_and_verify(&key, from, &expected).map(|()| Moved::Copied).map_err(failed)?
            }
        };
        remove(from)?;
        Ok(moved)
    }

    fn open(&self, folder: &str, name: &str) -> io::Result<File> {
        let mut file = tempfile::tempfile_in(&self.scratch).map_err(at(&self.scratch))?;
        self.download(&self.key(folder, name), &mut file).map_err(failed)?;
        file.rewind()?;
        Ok(file)
    }

    fn fetch(&self, folder: &str, name: &str, into: &Path) -> io::Result<PathBuf> {
        let path = into.join(name);
        let mut file = File::create(&path).map_err(at(&path))?;
        self.download(&self.key(folder, name), &mut file).map_err(failed)?;
        Ok(path)
    }

    fn delete(&self, folder: &str) -> io::Result<()> {
        self.wait(SWEEP_MAX, self.delete_all(&self.within(folder))).map_err(failed)
    }

    fn abort_unfinished(&self, before: Timestamp) -> io::Result<()> {
        self.wait(SWEEP_MAX, self.abort_before(before)).map_err(failed)
    }

    fn prefix(&self) -> Option<&str> {
        Some(&self.prefix)
    }

    fn may_be_away(&self) -> bool {
        true
    }
}

/// As callers of a folder know it.
fn failed(error: StorageError) -> io::Error {
    match error {
        StorageError::Io(error) => error,
        StorageError::NotFound(_) => io::Error::new(ErrorKind::NotFound, error),
        other => io::Error::other(other),
    }
}

fn fingerprint(file: &Path) -> io::Result<Fingerprint> {
    let (mut file, mut block) = (File::open(file)?, vec![0; BLOCK]);
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Fingerprint { size, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(&block[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::read_to_string;
    use std::sync::Arc;

    use tempfile::TempDir;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::id::{RecordingId, TrackId};
    use crate::spool::Spool;
    use crate::storage::LocalStorage;

    /// A bucket of the one provider that every machine has.
    struct House {
        dir: TempDir,
        spool: Spool,
        _runtime: Runtime,
    }

    impl House {
        fn new() -> Self {
            let (dir, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
            let entered = runtime.enter();
            let storage = Arc::new(LocalStorage::open(&dir.path().join("bucket")).unwrap());
            let spool = Spool::in_bucket(storage, dir.path());
            drop(entered);
            Self { dir, spool, _runtime: runtime }
        }

        fn file(&self, content: &str) -> PathBuf {
            let path = self.dir.path().join("file");
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    #[test]
    fn a_segment_moves_once_and_never_replaces_another() {
        let house = House::new();
        let (spool, recording, track) = (&house.spool, RecordingId::generate(), TrackId::generate());
        assert!(spool.segments(&recording, &track).unwrap().is_empty());
        let from = house.file("one");
        assert_eq!(spool.publish(&recording, &track, 0, &from).unwrap(), Moved::Copied);
        assert!(!from.exists());
        house.file("one");
        let again = spool.publish(&recording, &track, 0, &from).unwrap();
        assert_eq!(again, Moved::Before, "a repeat after a crash");
        assert!(!from.exists());
        house.file("two");
        let refused = spool.publish(&recording, &track, 0, &from).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert!(from.exists(), "what did not move is still there");
        spool.publish(&recording, &track, 12, &from).unwrap();
        assert_eq!(spool.segments(&recording, &track).unwrap(), [0, 12]);
        assert_eq!(read_to_string(spool.open_segment(&recording, &track, 0).unwrap()).unwrap(), "one");
        assert_eq!(spool.recordings().unwrap(), std::slice::from_ref(&recording));
        assert_eq!(spool.tracks(&recording).unwrap(), [track]);
    }

    #[test]
    fn a_bucket_that_is_away_leaves_the_segment_where_it_is() {
        let house = House::new();
        let (spool, recording, track) = (&house.spool, RecordingId::generate(), TrackId::generate());
        let (bucket, from) = (house.dir.path().join("bucket"), house.file("one"));
        std::fs::remove_dir_all(&bucket).unwrap();
        std::fs::write(&bucket, "in the way").unwrap();
        spool.publish(&recording, &track, 0, &from).unwrap_err();
        assert!(from.exists());
        std::fs::remove_file(&bucket).unwrap();
        std::fs::create_dir(&bucket).unwrap();
        assert_eq!(spool.publish(&recording, &track, 0, &from).unwrap(), Moved::Copied);
        assert!(!from.exists());
    }

    #[test]
    fn a_staged_file_is_fetched_and_goes_with_its_token() {
        let house = House::new();
        let (spool, recording, track) = (&house.spool, RecordingId::generate(), TrackId::generate());
        spool.publish(&recording, &track, 0, &house.file("segment")).unwrap();
        spool.stage(&recording, "0-a", "out.webm", &house.file("old")).unwrap();
        spool.stage(&recording, "0-a", "out.webm", &house.file("webm")).unwrap();
        spool.stage(&recording, "1-b", "out.webm", &house.file("later")).unwrap();
        assert_eq!(spool.tokens(&recording).unwrap(), ["0-a", "1-b"]);
        let copy = spool.fetch_staged(&recording, "0-a", "out.webm", house.dir.path()).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), b"webm");
        spool.delete_staged(&recording, "0-a").unwrap();
        let gone = spool.fetch_staged(&recording, "0-a", "out.webm", house.dir.path()).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        spool.delete_capture(&recording).unwrap();
        assert!(spool.tracks(&recording).unwrap().is_empty());
        assert_eq!(spool.tokens(&recording).unwrap(), ["1-b"], "what is staged outlives the capture");
        spool.delete_recording(&recording).unwrap();
        assert!(spool.recordings().unwrap().is_empty());
        spool.abort_unfinished(Timestamp::default()).unwrap();
    }
}
