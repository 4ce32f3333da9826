//! Files to put, and a watch that notes what it is told.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use shared::storage::{
    Attributes, Fingerprint, Kept, Metadata, PutFile, Resumption, Storage, StorageError, UploadWatch,
};
use tempfile::TempDir;

/// Written at once; each block is another.
const BLOCK: usize = 1 << 20;

/// A file whose every MiB differs, with its fingerprint.
pub(crate) struct File {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) print: Fingerprint,
}

impl File {
    pub(crate) fn of(size: usize) -> Self {
        let folder =
            tempfile::Builder::new().prefix("callreel-file-").tempdir().expect("a folder below /tmp");
        let path = folder.path().join("file");
        let mut out = std::fs::File::create(&path).expect("the folder was just made");
        let (mut hash, mut block) = (Sha256::new(), noise());
        for (number, begin) in (0_u64..).zip((0..size).step_by(BLOCK)) {
            block[..8].copy_from_slice(&number.to_le_bytes());
            let bytes = &block[..BLOCK.min(size - begin)];
            hash.update(bytes);
            out.write_all(bytes).expect("the disk has room");
        }
        let print = Fingerprint { size: size as u64, sha256: hex::encode(hash.finalize()) };
        Self { _folder: folder, path, print }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).expect("the file is there")
    }
}

/// Bytes that no compression shortens: a linear congruential generator (Knuth's MMIX).
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(BLOCK).collect()
}

pub(crate) fn attributes() -> Attributes {
    Attributes {
        content_type: "video/webm".to_owned(),
        cache_control: Some("private, max-age=60".to_owned()),
        metadata: Metadata {
            call: Some("team@9:x_1".to_owned()),
            recording: Some("rec_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()),
            participant: Some("ann".to_owned()),
            kind: Some("recording".to_owned()),
            duration_ms: Some(1_234),
        },
    }
}

pub(crate) async fn put(
    storage: &dyn Storage,
    key: &str,
    file: &Path,
    watch: &Watch,
) -> Result<(), StorageError> {
    let (attributes, resume) = (attributes(), watch.kept.lock().expect("no other panicked").clone());
    storage.put_file(&PutFile { key, file, attributes: &attributes, resume: resume.as_ref() }, watch).await
}

pub(crate) async fn read(storage: &dyn Storage, key: &str, range: std::ops::Range<u64>) -> Vec<u8> {
    let blocks = storage.get_range(key, range).await.expect("the object is there");
    blocks.try_collect::<Vec<_>>().await.expect("it is read to its end").concat()
}

/// Notes how far an upload is, keeps what resumes it, and stops it on demand.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) sent: AtomicU64,
    /// How often it was told.
    pub(crate) told: AtomicU64,
    pub(crate) kept: Mutex<Option<Resumption>>,
    /// Whether it keeps anything.
    pub(crate) keeps: bool,
    /// Told when as many bytes have arrived.
    pub(crate) halfway: Option<(u64, tokio::sync::Notify)>,
}

impl Watch {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl UploadWatch for Watch {
    fn sent(&self, bytes: u64) {
        let before = self.sent.swap(bytes, Ordering::Relaxed);
        assert!(before <= bytes, "progress went back from {before} to {bytes}");
        self.told.fetch_add(1, Ordering::Relaxed);
        if let Some((_, halfway)) = self.halfway.as_ref().filter(|(at, _)| bytes >= *at) {
            halfway.notify_one();
        }
    }

    async fn keep(&self, state: &Resumption) -> anyhow::Result<Kept> {
        *self.kept.lock().expect("no other panicked") = Some(state.clone());
        Ok(if self.keeps { Kept::Yes } else { Kept::No })
    }
}
