//! Bytes on their way out of the store. A connection that ends early is made again from where it ended.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, RANGE};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::super::ranges::content_range;
use super::super::{ByteStream, StorageError, VercelBlobSettings};
use super::retry::{MOMENT, retried};
use super::{base, error};
use crate::env::Secret;

/// The longest that a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// The longest between two pieces of a body, and before the first.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often in a row a download may be taken up again without a byte gained.
const FRUITLESS_MAX: u32 = 5;

/// The host that a store's blobs are downloaded from.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    http: Client,
    base: Url,
    token: Secret,
    store_id: String,
}

impl Downloads {
    pub(super) fn new(settings: &VercelBlobSettings) -> anyhow::Result<Self> {
        let http = Client::builder()
            .connect_timeout(CONNECT_MAX)
            .read_timeout(STALL_MAX)
            .redirect(redirect::Policy::none())
            .build()?;
        let base = base("VERCEL_BLOB_DOWNLOAD_URL", &settings.download_url)?;
        let (token, store_id) = (settings.token.clone(), settings.store_id.clone());
        Ok(Self { http, base, token, store_id })
    }

    /// Where a blob is.
    pub(super) fn url(&self, key: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(key.split('/'));
        }
        url
    }

    /// A part of a blob, fewer bytes where it ends before.
    pub(super) async fn range(&self, key: &str, range: Range<u64>) -> Result<ByteStream, StorageError> {
        // Of no bytes there is no range; the first one tells whether the blob is there.
        let asked = range.start..range.end.max(range.start + 1);
        let Some(part) = retried(MOMENT, || self.part(key, &asked)).await? else {
            return Ok(stream::empty().boxed());
        };
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let reading =
            Reading { at: range.start, fruitless: 0, downloads: self.clone(), key: key.to_owned(), part };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }

    /// Asks for a range; `None` when it begins behind the end.
    async fn part(&self, key: &str, range: &Range<u64>) -> Result<Option<Part>, StorageError> {
        let mut url = self.url(key);
        url.query_pairs_mut().append_pair("cache", "0");
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.http.get(url).bearer_auth(self.token.expose());
        // Compressed on its way, a blob would have other offsets and a weak etag.
        let request = request.header(RANGE, asked).header(ACCEPT_ENCODING, "identity");
        let answer = request.send().await.map_err(|error| error::of_network(&error))?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => Part::of(answer, range).map(Some),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            // An empty blob has no range to answer with.
            StatusCode::OK if answer.content_length() == Some(0) => Ok(None),
            status if status.is_success() => {
                Err(StorageError::unavailable("a range was not answered as one"))
            }
            _ => Err(error::of_answer(answer, &self.store_id, key).await),
        }
    }
}

/// An answer with a part of a blob.
#[derive(Debug)]
struct Part {
    answer: Response,
    etag: Option<String>,
    /// Where the part ends in the blob.
    end: u64,
}

impl Part {
    fn of(answer: Response, asked: &Range<u64>) -> Result<Self, StorageError> {
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let range = text(CONTENT_RANGE).and_then(content_range);
        let range = range.filter(|range| range.start == asked.start && range.end <= asked.end);
        let Some(Range { end, .. }) = range else {
            return Err(StorageError::unavailable("another range was answered than was asked for"));
        };
        let etag = text(ETAG).map(str::to_owned);
        Ok(Self { answer, etag, end })
    }
}

struct Reading {
    downloads: Downloads,
    key: String,
    part: Part,
    at: u64,
    fruitless: u32,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while self.at < self.part.end {
            match self.part.answer.chunk().await {
                Ok(Some(bytes)) if self.at + bytes.len() as u64 > self.part.end => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "more came than was asked for"));
                }
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    self.fruitless = 0;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) => self.resume("it ended early".to_owned()).await?,
                Err(error) => self.resume(error::of_network(&error).to_string()).await?,
            }
        }
        Ok(None)
    }

    /// Asks for the rest, which must be of the same version.
    async fn resume(&mut self, reason: String) -> io::Result<()> {
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_MAX {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
        }
        let rest = self.at..self.part.end;
        let part =
            retried(MOMENT, || self.downloads.part(&self.key, &rest)).await.map_err(io::Error::other)?;
        match part {
            Some(part) if part.end == rest.end && part.etag == self.part.etag => {
                self.part = part;
                Ok(())
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the object was replaced while it was read")),
        }
    }
}
