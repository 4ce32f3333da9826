//! One call of the API: its headers, its attempts, its answer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use ulid::Ulid;

use super::super::{StorageError, VercelBlobSettings};
use super::body::Payload;
use super::retry::retried;
use super::{base, error};
use crate::env::Secret;

/// The version of the API.
const API_VERSION: &str = "12";
/// The longest that a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// The longest between two pieces of a body that the network takes. A slow uplink moves; only one that stands is given up.
const STALL_MAX: Duration = Duration::from_secs(60);
/// The longest from the end of a request's body to the answer: of a `complete`, the service joins 10,000 parts.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// The longest answer: a page of 1,000 blobs, whose names in three URLs take 10 KiB each at most.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The API of one store.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Client,
    base: Url,
    token: Secret,
    store_id: String,
}

/// A call, sent as often as it takes.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: &'static str,
    /// What it is about, for errors.
    key: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Payload,
}

impl Call {
    pub(super) fn new(method: Method, path: &'static str, key: &str) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self { method, path, key: key.to_owned(), query, headers, body: Payload::Bytes(bytes::Bytes::new()) }
    }

    pub(super) fn query(mut self, name: &'static str, value: &str) -> Self {
        self.query.push((name, value.to_owned()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn json(self, body: &serde_json::Value) -> Self {
        let body = Payload::Bytes(body.to_string().into());
        Self { body, ..self }.header(CONTENT_TYPE.as_str(), "application/json")
    }

    pub(super) fn body(self, body: Payload) -> Self {
        Self { body, ..self }
    }
}

impl Api {
    pub(super) fn new(settings: &VercelBlobSettings) -> anyhow::Result<Self> {
        // HTTP/1: a connection for each part in flight, none of which waits for what another has lost.
        let http = Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_MAX)
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            base: base("VERCEL_BLOB_API_URL", &settings.api_url)?,
            token: settings.token.clone(),
            store_id: settings.store_id.clone(),
        })
    }

    /// Sends a call until it succeeds, fails for good, or has failed too often.
    pub(super) async fn send<T: DeserializeOwned>(&self, call: &Call) -> Result<T, StorageError> {
        let id = format!("{}:{}", self.store_id, Ulid::generate());
        let attempts = AtomicU32::new(0);
        retried(|| self.attempt(call, &id, attempts.fetch_add(1, Ordering::Relaxed))).await
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        call: &Call,
        id: &str,
        attempt: u32,
    ) -> Result<T, StorageError> {
        let headers = self.headers(call, id, attempt)?;
        let (body, moved) = call.body.open().await?;
        let mut request = self.http.request(call.method.clone(), self.url(call)).headers(headers);
        if call.body.size() > 0 {
            request = request.header(CONTENT_LENGTH, call.body.size()).body(body.stream);
        }
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = stalled(moved) => return Err(StorageError::unavailable("the network stands still")),
        };
        let answer =
            answer.map_err(|error| body.failure.take().unwrap_or_else(|| error::of_network(&error)))?;
        let read = timeout(ANSWER_MAX, read(answer, &self.store_id, &call.key)).await;
        read.unwrap_or_else(|_| Err(StorageError::unavailable("the answer does not end")))
    }

    fn url(&self, call: &Call) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }

    fn headers(&self, call: &Call, id: &str, attempt: u32) -> Result<HeaderMap, StorageError> {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| StorageError::Refused(format!("{name} cannot hold its value")))?;
            headers.insert(name, value);
            Ok::<_, StorageError>(())
        };
        set(HeaderName::from_static("x-api-version"), API_VERSION)?;
        set(HeaderName::from_static("x-vercel-blob-store-id"), &self.store_id)?;
        set(HeaderName::from_static("x-api-blob-request-id"), id)?;
        set(HeaderName::from_static("x-api-blob-request-attempt"), &attempt.to_string())?;
        for (name, value) in &call.headers {
            set(HeaderName::from_static(name), value)?;
        }
        set(AUTHORIZATION, &format!("Bearer {}", self.token.expose()))?;
        Ok(headers)
    }
}

async fn read<T: DeserializeOwned>(
    mut answer: Response,
    store_id: &str,
    key: &str,
) -> Result<T, StorageError> {
    if !answer.status().is_success() {
        return Err(error::of_answer(answer, store_id, key).await);
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| error::of_network(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(StorageError::unavailable("the answer is too long"));
        }
    }
    // Whatever is no whole answer may be one next time.
    serde_json::from_slice(&body)
        .map_err(|error| StorageError::unavailable(format!("no answer of Vercel Blob: {error}")))
}

/// Ends when nothing has moved for too long.
async fn stalled(mut moved: watch::Receiver<()>) {
    loop {
        match timeout(STALL_MAX, moved.changed()).await {
            Ok(Ok(())) => {}
            // The body is through; what is waited for is the answer.
            Ok(Err(_)) => return sleep(ANSWER_MAX).await,
            Err(_) => return,
        }
    }
}
