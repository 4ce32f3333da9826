//! Where finished files are kept. One trait, so that jobs and downloads do not know which provider is behind it; one `match`
//! for the names ([`StorageKey`]).
//!
//! "OK" from a provider is no proof. After every put the caller asks [`Storage::verify`] to read the object back, size and
//! checksum, and only then may the source go.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::env::{Env, EnvError};

mod key;
mod local;

pub use key::StorageKey;
pub use local::LocalStorage;

/// What a file is: enough to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, lowercase hex.
    pub sha256: String,
}

/// Which storage, as rows and the API name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `local`, `s3`, `gcs` or `vercel-blob`.
    pub provider: String,
    /// The bucket, or the folder of local storage as configured.
    pub bucket: String,
}

/// Why storage did not do what it was asked.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Nothing is stored under the key.
    #[error("nothing is stored as {0}")]
    NotFound(String),
    /// What is stored is not what was put.
    #[error("{key} holds {found} bytes or a checksum other than the {expected} bytes that were put")]
    Mismatch {
        /// The key.
        key: String,
        /// The size that was put.
        expected: u64,
        /// The size that was read back.
        found: u64,
    },
    /// The disk or the network failed; worth a retry.
    #[error("storage failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Bytes of an object, as they come.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// A place for finished files. Every operation may be repeated.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Which storage this is.
    fn place(&self) -> Place;

    /// Puts a file under a key, replacing what is there only when all of it has arrived. Streams; memory does not grow with the
    /// file. `sent` is told how many bytes have gone so far.
    async fn put_file(
        &self,
        key: &StorageKey,
        file: &Path,
        content_type: &str,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), StorageError>;

    /// Reads an object back and compares size and checksum.
    async fn verify(&self, key: &StorageKey, expected: &Fingerprint) -> Result<(), StorageError>;

    /// The size of an object; `None` when nothing is stored under the key.
    async fn head(&self, key: &str) -> Result<Option<u64>, StorageError>;

    /// The bytes of a part of an object.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError>;

    /// Every key that begins with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// Deletes an object; deleting nothing is no error.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// A URL that anybody may read for a while; `None` when the provider has none and the edge must serve the bytes.
    async fn temporary_url(&self, key: &str, valid: Duration) -> Result<Option<String>, StorageError>;

    /// The file itself, when storage is a folder of this machine.
    fn local_path(&self, key: &str) -> Option<PathBuf>;
}

/// A storage that can be handed around.
pub type SharedStorage = Arc<dyn Storage>;

/// Which provider, and how to reach it.
#[derive(Debug, Clone)]
pub enum StorageSettings {
    /// A folder.
    Local {
        /// `RECORDING_OUTPUT_DIR`.
        dir: PathBuf,
    },
}

impl StorageSettings {
    /// Reads `RECORDING_STORAGE_PROVIDER` and what belongs to it.
    ///
    /// # Errors
    /// When the provider is not one of those built in, or something that it needs is missing.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        match env.optional("RECORDING_STORAGE_PROVIDER")?.unwrap_or("local") {
            "local" => Ok(Self::Local {
                dir: env.optional("RECORDING_OUTPUT_DIR")?.unwrap_or("data/recordings").into(),
            }),
            _ => Err(EnvError::wants("RECORDING_STORAGE_PROVIDER", "local")),
        }
    }

    /// Opens the storage.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(&self) -> std::io::Result<SharedStorage> {
        match self {
            Self::Local { dir } => Ok(Arc::new(LocalStorage::open(dir)?)),
        }
    }
}
