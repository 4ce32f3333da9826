//! A file on its way into storage: what is put, who watches, and what a later attempt needs to go on.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Attributes, StorageError};
use crate::clock::Timestamp;

/// A file that is to be put.
#[derive(Debug, Clone)]
pub struct PutFile<'a> {
    /// Where to.
    pub key: &'a str,
    /// The file. It must not change meanwhile, nor until a later attempt has gone on with it.
    pub file: &'a Path,
    /// What is kept with it.
    pub attributes: &'a Attributes,
    /// What an earlier attempt at the same file has kept. One that does not fit (another key, size or provider, or long
    /// gone) is passed over, and the upload begins anew.
    pub resume: Option<&'a Resumption>,
}

/// What a provider needs to go on with an upload, as JSON; opaque to whoever keeps it. It may let its holder write to the
/// object (a session's URI), so it belongs in a row and in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resumption(pub serde_json::Value);

impl std::fmt::Debug for Resumption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[resumption]")
    }
}

/// Whether [`UploadWatch::keep`] has kept something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// On stable storage: an attempt after a crash will be given it.
    Yes,
    /// Nobody resumes: an upload that fails is to be aborted.
    No,
}

/// Whoever wants to know how an upload goes.
#[async_trait]
pub trait UploadWatch: Send + Sync {
    /// So many bytes of the file have arrived, those of earlier attempts included. Never fewer than before.
    fn sent(&self, bytes: u64);

    /// Keeps what a later attempt needs, before any byte is sent. It is worthless once the upload has succeeded.
    ///
    /// # Errors
    /// When it cannot be kept; the upload then fails as unavailable.
    async fn keep(&self, state: &Resumption) -> anyhow::Result<Kept>;
}

/// Has a watch keep what resumes an upload.
pub(super) async fn keep(watch: &dyn UploadWatch, state: &Resumption) -> Result<Kept, StorageError> {
    watch.keep(state).await.map_err(|error| StorageError::unavailable(format!("{error:#}")))
}

/// Watches nothing, keeps nothing.
#[async_trait]
impl UploadWatch for () {
    fn sent(&self, _bytes: u64) {}

    async fn keep(&self, _state: &Resumption) -> anyhow::Result<Kept> {
        Ok(Kept::No)
    }
}

/// An upload that was begun and neither finished nor aborted.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Where it was to go.
    pub key: String,
    /// When it was begun, where the provider says.
    pub begun_at: Option<Timestamp>,
    /// What resumes or aborts it; equal to what [`UploadWatch::keep`] was given for it.
    pub upload: Resumption,
}
