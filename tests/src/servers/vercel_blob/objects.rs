//! The store's blobs: bodies in files of a temporary folder, everything else in memory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use chrono::TimeDelta;
use futures::{StreamExt, TryStreamExt};
use shared::clock::{Clock, Timestamp};
use tempfile::{NamedTempFile, TempDir, TempPath};
use tokio::io::AsyncWriteExt;

use super::error::BlobError;
use super::writes::Write;
use crate::servers::clock::ShiftedClock;

/// For so long a cache may serve what was replaced or deleted; here it always does (Vercel's changelog, "consistent reads on
/// private storage").
const CACHED: TimeDelta = TimeDelta::seconds(60);

/// A blob. Its file lives as long as somebody reads it.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) body: Arc<TempPath>,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) content_type: String,
    pub(super) cache_max_age: u64,
    pub(super) uploaded_at: Timestamp,
}

/// A page of a listing: blobs and, folded, folders, with the cursor of the next page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) blobs: Vec<(String, Blob)>,
    pub(super) folders: Vec<String>,
    pub(super) next: Option<String>,
}

#[derive(Debug)]
pub(super) struct Objects {
    folder: TempDir,
    clock: Arc<ShiftedClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, Blob>,
    /// What caches still serve, and until when. `None` would be a cached absence, which the service does not keep.
    cached: HashMap<String, (Blob, Timestamp)>,
}

impl Objects {
    pub(super) fn new(clock: Arc<ShiftedClock>) -> Self {
        let folder = tempfile::Builder::new().prefix("callreel-vercel-blob-").tempdir();
        Self { folder: folder.expect("a folder below /tmp"), clock, state: Mutex::default() }
    }

    /// Writes a body to a file; a client that goes away leaves nothing.
    pub(super) async fn receive(&self, body: Body, bytes_max: u64) -> Result<(TempPath, u64), BlobError> {
        let (file, path) = NamedTempFile::new_in(self.folder.path())?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut chunks = body.into_data_stream().map_err(io::Error::other);
        let mut size = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            size += chunk.len() as u64;
            if size > bytes_max {
                return Err(BlobError::file_too_large(bytes_max));
            }
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        Ok((path, size))
    }

    /// Whether a write may go on: looked at before its body is received, and again when it is published.
    pub(super) fn admit(&self, write: &Write) -> Result<(), BlobError> {
        write.agrees_with(self.state().blobs.get(&write.pathname).map(|blob| blob.etag.as_str()))
    }

    /// Makes a received body the blob of its pathname.
    pub(super) fn publish(&self, write: &Write, body: TempPath, size: u64) -> Result<Blob, BlobError> {
        let now = self.clock.now();
        let blob = Blob {
            body: Arc::new(body),
            size,
            etag: new_etag(),
            content_type: write.content_type.clone(),
            cache_max_age: write.cache_max_age,
            uploaded_at: now,
        };
        let mut state = self.state();
        let present = state.blobs.get(&write.pathname);
        write.agrees_with(present.map(|blob| blob.etag.as_str()))?;
        if let Some(replaced) = state.blobs.insert(write.pathname.clone(), blob.clone()) {
            state.cached.insert(write.pathname.clone(), (replaced, now + CACHED));
        }
        Ok(blob)
    }

    pub(super) fn find(&self, pathname: &str) -> Option<Blob> {
        self.state().blobs.get(pathname).cloned()
    }

    /// What a cache serves: for a while, what is there no longer.
    pub(super) fn find_cached(&self, pathname: &str) -> Option<Blob> {
        let state = self.state();
        let cached = state.cached.get(pathname).filter(|(_, until)| *until > self.clock.now());
        cached.map(|(blob, _)| blob).or_else(|| state.blobs.get(pathname)).cloned()
    }

    /// Deletes a blob, when it is there and has the etag that is asked for.
    pub(super) fn delete(&self, pathname: &str, if_match: Option<&str>) -> Result<(), BlobError> {
        let mut state = self.state();
        let Some(blob) = state.blobs.get(pathname) else { return Ok(()) };
        if if_match.is_some_and(|etag| etag != blob.etag) {
            return Err(BlobError::precondition_failed());
        }
        if let Some(deleted) = state.blobs.remove(pathname) {
            state.cached.insert(pathname.to_owned(), (deleted, self.clock.now() + CACHED));
        }
        Ok(())
    }

    /// Blobs and folders in the order of their names' bytes, after the name `after`.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize, folded: bool) -> Page {
        let state = self.state();
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut page = Page::default();
        let mut last = None;
        for (pathname, blob) in state.blobs.range::<str, _>((from, Bound::Unbounded)) {
            let Some(rest) = pathname.strip_prefix(prefix) else { break };
            let folder = rest.find('/').filter(|_| folded).map(|end| &pathname[..=prefix.len() + end]);
            if let Some(folder) = folder
                && (page.folders.last().is_some_and(|known| known == folder)
                    || after.is_some_and(|after| after.starts_with(folder)))
            {
                last = Some(pathname);
                continue;
            }
            if page.blobs.len() + page.folders.len() == limit {
                page.next = last.cloned();
                break;
            }
            match folder {
                Some(folder) => page.folders.push(folder.to_owned()),
                None => page.blobs.push((pathname.clone(), blob.clone())),
            }
            last = Some(pathname);
        }
        page
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the form of an MD5, and none: the service says nothing about what its etags are made of.
pub(super) fn new_etag() -> String {
    format!("\"{:032x}\"", rand::random::<u128>())
}
