//! Storage in a private store of Vercel Blob, by the protocol that its official client speaks (`@vercel/blob` 2.8, API 12).
//!
//! What the service does not have: metadata (left out), an abort and a list of uploads (an upload that failed begins anew, and
//! the service is left to forget its parts), an expiry, and a checksum. Its etags are opaque, so an object is verified by
//! reading it back.
//!
//! Its downloads come through a cache that may tell of a replaced or deleted object for a minute; our own reads pass it by
//! (`cache=0`). A temporary URL does not: recordings have keys of their own, and are cheaper to serve from the cache.
//!
//! Retries are made here, for a moment's trouble; what lasts longer is the caller's to wait for.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

use super::pages::pages;
use super::patience::Patience;
use super::{
    Attributes, ByteStream, Capabilities, Link, ListStream, Listed, ObjectHead, Place, PutFile, Resumption,
    Storage, StorageError, UnfinishedStream, UploadWatch, VercelBlobSettings,
};
use crate::clock::{SharedClock, Timestamp};

mod api;
mod body;
mod download;
mod error;
mod link;
mod retry;
mod upload;

use api::{Api, Call};
use download::Downloads;

/// The longest pathname, in UTF-16 units as the official client counts (its `MAXIMUM_PATHNAME_LENGTH`).
const KEY_MAX: usize = 950;
/// How many objects a page of a list has: the most that there may be.
const PAGE: &str = "1000";

/// A store of Vercel Blob.
#[derive(Clone)]
pub struct VercelBlobStorage {
    store_id: String,
    api: Api,
    downloads: Downloads,
    clock: SharedClock,
}

impl VercelBlobStorage {
    /// Opens the store. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When one of the URLs is none, or the TLS library has no certificates to trust.
    pub fn open(settings: &VercelBlobSettings, clock: SharedClock) -> anyhow::Result<Self> {
        Ok(Self {
            store_id: settings.store_id.clone(),
            api: Api::new(settings, Patience::default())?,
            downloads: Downloads::new(settings)?,
            clock,
        })
    }

    async fn look(&self, key: &str) -> Result<Option<Blob>, StorageError> {
        let call = Call::new(Method::GET, "", key).query("url", key);
        match self.api.send(&call).await {
            Ok(blob) => Ok(Some(blob)),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A blob as the API tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    pathname: String,
    size: u64,
    uploaded_at: Timestamp,
    etag: Option<String>,
    content_type: Option<String>,
    cache_control: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    blobs: Vec<Blob>,
    cursor: Option<String>,
    has_more: bool,
}

#[async_trait]
impl Storage for VercelBlobStorage {
    fn place(&self) -> Place {
        Place { provider: "vercel-blob".to_owned(), bucket: self.store_id.clone() }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resumes: false,
            keeps_metadata: false,
            keeps_content_type: true,
            keeps_cache_control: false,
            names_downloads: false,
            temporary_url_max: Some(link::VALID_MAX),
            key_max: KEY_MAX,
        }
    }

    async fn put_file(&self, put: &PutFile<'_>, watch: &dyn UploadWatch) -> Result<(), StorageError> {
        check_key(put.key)?;
        let size = tokio::fs::metadata(put.file).await?.len();
        if size > upload::SINGLE_MAX {
            return upload::in_parts(self, put, size, watch).await;
        }
        upload::in_one(&self.api, put, size).await?;
        watch.sent(size);
        Ok(())
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, attributes: &Attributes) -> Result<(), StorageError> {
        check_key(key)?;
        upload::bytes(&self.api, key, bytes, attributes).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StorageError> {
        if check_key(key).is_err() {
            return Ok(None);
        }
        let blob = self.look(key).await?;
        Ok(blob.map(|blob| ObjectHead {
            size: blob.size,
            etag: blob.etag,
            modified_at: Some(blob.uploaded_at),
            content_type: blob.content_type,
            cache_control: blob.cache_control,
            ..ObjectHead::default()
        }))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        check_key(key).map_err(|_| StorageError::NotFound(key.to_owned()))?;
        self.downloads.range(key, range).await
    }

    fn list(&self, prefix: &str) -> ListStream<'_> {
        let prefix = prefix.to_owned();
        pages(None, move |cursor: Option<String>| {
            let call = Call::new(Method::GET, "", &prefix).query("limit", PAGE).query("prefix", &prefix);
            let call = match &cursor {
                Some(cursor) => call.query("cursor", cursor),
                None => call,
            };
            async move {
                let page: Page = self.api.send(&call).await?;
                let next = page.cursor.filter(|_| page.has_more);
                Ok((page.blobs.into_iter().map(listed).collect(), next.map(Some)))
            }
        })
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        if check_key(key).is_err() {
            return Ok(());
        }
        let call = Call::new(Method::POST, "/delete", key).json(&json!({ "urls": [key] }));
        match self.api.send::<Option<serde_json::Value>>(&call).await {
            Ok(_) | Err(StorageError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn temporary_url(&self, key: &str, link: &Link) -> Result<Option<String>, StorageError> {
        check_key(key)?;
        let url = self.downloads.url(key);
        link::sign(&self.api, url, key, link, self.clock.now()).await.map(Some)
    }

    fn unfinished(&self, _prefix: &str) -> UnfinishedStream<'_> {
        stream::empty().boxed()
    }

    async fn abort(&self, _upload: &Resumption) -> Result<(), StorageError> {
        Ok(())
    }
}

fn listed(blob: Blob) -> Listed {
    Listed { key: blob.pathname, size: blob.size, modified_at: Some(blob.uploaded_at) }
}

/// A key that the service takes, and that a URL's path leaves as it is: no empty, `.` or `..` segment.
fn check_key(key: &str) -> Result<(), StorageError> {
    if key.encode_utf16().count() > KEY_MAX {
        return Err(StorageError::Refused(format!("a key of more than {KEY_MAX} characters")));
    }
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(StorageError::Refused(format!("{key:?} has an empty segment, or one of dots alone")));
    }
    Ok(())
}

/// A URL without a slash at its end, to which paths are added.
fn base(name: &str, url: &str) -> anyhow::Result<Url> {
    use anyhow::Context;
    Url::parse(url.trim_end_matches('/')).with_context(|| format!("{name} is no URL"))
}
