//! Where finished files are kept. One trait, so that jobs and downloads do not know which provider is behind it.
//!
//! "OK" from a provider is no proof. After every put the caller asks [`verify`], which compares size and checksum, with the
//! checksum that the provider keeps or by reading the object back; only then may the source go.
//!
//! | module | holds |
//! |---|---|
//! | [`KeyTemplate`] | the names of objects, which an operator may lay out |
//! | [`StorageSettings`] | which provider, found in the environment, and how to reach it |
//! | [`Storages`], [`Destination`] | the first storage, and the backup that takes files while the first cannot |
//! | [`StorageError`] | what went wrong, whether to try again, and what an operator can do |
//! | [`PutFile`], [`UploadWatch`], [`Resumption`] | a file on its way: progress, and going on where a crash stopped it |
//! | [`Attributes`], [`ObjectHead`], [`Checksum`] | what an object is |
//! | [`LocalStorage`], [`S3Storage`], [`GcsStorage`], [`VercelBlobStorage`] | the providers |
//! | [`StorageMetrics`] | what Prometheus is told of any of them |

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

mod answer;
mod destination;
mod error;
mod gcs;
mod key;
mod local;
mod measured;
mod object;
mod pages;
mod patience;
mod ranges;
mod s3;
mod settings;
mod upload;
mod vercel_blob;
mod verify;

pub use destination::{Backup, Destination, Storages};
pub use error::StorageError;
pub use gcs::GcsStorage;
pub use key::{KeyTemplate, StoredFile, recordings_in};
pub use local::LocalStorage;
pub use measured::StorageMetrics;
pub use object::{Attributes, Checksum, ChecksumKind, Fingerprint, Listed, Metadata, ObjectHead};
pub use s3::S3Storage;
pub use settings::{BackupSettings, GcsCredentials, GcsSettings, LocalSettings, StorageSettings};
pub use settings::{S3Encryption, S3Keys, S3Settings, VercelBlobSettings};
pub use upload::{Kept, PutFile, Resumption, Unfinished, UploadWatch};
pub use vercel_blob::VercelBlobStorage;
pub use verify::verify;

/// Which storage, as rows and the API name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `local`, `s3`, `gcs` or `vercel-blob`.
    pub provider: String,
    /// The bucket; `local` for a folder; the store's id for Vercel Blob.
    pub bucket: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.provider, self.bucket)
    }
}

/// What a provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It goes on with a file where an earlier attempt stopped; else it begins anew.
    pub resumes: bool,
    /// It keeps [`Metadata`] with an object.
    pub keeps_metadata: bool,
    /// It keeps an object's content type.
    pub keeps_content_type: bool,
    /// It keeps an object's cache control as it was put; else no more than how long it may be cached.
    pub keeps_cache_control: bool,
    /// A temporary URL answers with the disposition that is asked for; else under the last segment of the key.
    pub names_downloads: bool,
    /// The longest that a temporary URL may be valid; `None` when it has none, and the edge must serve the bytes.
    pub temporary_url_max: Option<Duration>,
    /// The longest key, in bytes.
    pub key_max: usize,
}

/// What a temporary URL is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// From now until it no longer opens.
    pub valid: Duration,
    /// The `content-disposition` to answer with, where the provider can; else it is left out.
    pub disposition: Option<String>,
}

/// Bytes of an object, as they come.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Objects as a provider lists them, page by page behind the scenes.
pub type ListStream<'a> = BoxStream<'a, Result<Listed, StorageError>>;

/// Uploads that were begun and neither finished nor aborted.
pub type UnfinishedStream<'a> = BoxStream<'a, Result<Unfinished, StorageError>>;

/// A place for finished files, private to us. Every operation may be repeated. An object appears whole or not at all, and
/// replaces what was there. No key is the folder of another (`a` and `a/b`): not every provider holds both.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Which storage this is.
    fn place(&self) -> Place;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Puts a file under a key. Streams; memory does not grow with the file. When it fails and `watch` keeps what is needed to
    /// resume, what has arrived stays for the next attempt; else it is aborted. A dropped future leaves what
    /// [`Storage::unfinished`] finds.
    ///
    /// # Errors
    /// When it has not arrived.
    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError>;

    /// Puts bytes under a key, at most some MiB.
    ///
    /// # Errors
    /// When they have not arrived.
    async fn put_bytes(&self, key: &str, bytes: Bytes, attributes: &Attributes) -> Result<(), StorageError>;

    /// What is stored under a key; `None` when nothing is.
    ///
    /// # Errors
    /// When the provider does not say.
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError>;

    /// The bytes of a part of an object, fewer where it ends before.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when nothing is stored under the key.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError>;

    /// Every object whose key begins with `prefix`, in no particular order.
    fn list(&self, prefix: &str) -> ListStream<'_>;

    /// Deletes an object; deleting nothing is no error.
    ///
    /// # Errors
    /// When it may still be there.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// A URL that anybody may read for a while; `None` when the provider has none and the edge must serve the bytes. Whether
    /// anything is stored under the key is not looked at.
    ///
    /// # Errors
    /// When it cannot be signed.
    async fn temporary_url(&self, key: &str, link: &Link) -> Result<Option<String>, StorageError>;

    /// Uploads under a prefix that were begun and neither finished nor aborted; none where the provider ends them by itself.
    fn unfinished(&self, prefix: &str) -> UnfinishedStream<'_>;

    /// Gives up an upload and frees what it holds; one that is gone already is no error.
    ///
    /// # Errors
    /// When it may still be there.
    async fn abort(&self, upload: &Resumption) -> Result<(), StorageError>;

    /// Tries out whether an upload in parts may be begun, looked at and given up, where that takes rights beside those of small
    /// objects. Nothing stays under the key.
    ///
    /// # Errors
    /// What is not allowed, by the name that the provider has for it.
    async fn try_parts(&self, _key: &str) -> Result<(), StorageError> {
        Ok(())
    }

    /// The folder whose disk holds the objects, when storage is one of this machine.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// The file itself, when storage is a folder of this machine.
    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
}

/// A storage that can be handed around.
pub type SharedStorage = Arc<dyn Storage>;
