//! One call of the API: its headers, its attempts, its answer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use ulid::Ulid;

use super::super::answer::{self, Unread};
use super::super::patience::{Patience, stalled};
use super::super::{StorageError, VercelBlobSettings};
use super::body::{Opened, Payload};
use super::retry::{Endurance, MOMENT, retried};
use super::{base, error};
use crate::env::Secret;

/// The version of the API.
const API_VERSION: &str = "12";
/// The longest that a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// The API of one store.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Client,
    base: Url,
    token: Secret,
    store_id: String,
    patience: Patience,
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
    pub(super) fn new(settings: &VercelBlobSettings, patience: Patience) -> anyhow::Result<Self> {
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
            patience,
        })
    }

    /// Sends a call until it succeeds, fails for good, or has failed too often.
    pub(super) async fn send<T: DeserializeOwned>(&self, call: &Call) -> Result<T, StorageError> {
        self.send_through(MOMENT, call).await
    }

    /// The same through as much trouble as is said.
    pub(super) async fn send_through<T: DeserializeOwned>(
        &self,
        trouble: Endurance,
        call: &Call,
    ) -> Result<T, StorageError> {
        let id = format!("{}:{}", self.store_id, Ulid::generate());
        let attempts = AtomicU32::new(0);
        retried(trouble, || self.attempt(call, &id, attempts.fetch_add(1, Ordering::Relaxed))).await
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        call: &Call,
        id: &str,
        attempt: u32,
    ) -> Result<T, StorageError> {
        let headers = self.headers(call, id, attempt)?;
        let (Opened { stream, failure }, moved) = call.body.open().await?;
        let mut request = self.http.request(call.method.clone(), self.url(call)).headers(headers);
        match call.body.size() {
            // Its end is what the answer is waited for from.
            0 => drop(stream),
            size => request = request.header(CONTENT_LENGTH, size).body(stream),
        }
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = stalled(moved, self.patience) => return Err(StorageError::unavailable("the network stands still")),
        };
        let answer = answer.map_err(|error| failure.take().unwrap_or_else(|| error::of_network(&error)))?;
        let read = timeout(self.patience.answer_max, read(answer, &self.store_id, &call.key)).await;
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

async fn read<T: DeserializeOwned>(answer: Response, store_id: &str, key: &str) -> Result<T, StorageError> {
    if !answer.status().is_success() {
        return Err(error::of_answer(answer, store_id, key).await);
    }
    let body = answer::whole(answer).await.map_err(|error| match error {
        Unread::Network(error) => error::of_network(&error),
        Unread::TooLong => StorageError::unavailable("the answer is too long"),
    })?;
    // Whatever is no whole answer may be one next time.
    serde_json::from_slice(&body)
        .map_err(|error| StorageError::unavailable(format!("no answer of Vercel Blob: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Of one request, the answer to which is an empty object.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn a_call_without_a_body_waits_for_its_answer_and_for_nothing_else() {
        let settings = VercelBlobSettings {
            token: Secret::new("t".to_owned()),
            store_id: "s".to_owned(),
            api_url: server().await,
            download_url: String::new(),
        };
        // A body that stands for no time at all is given up.
        let patience = Patience { standing_max: Duration::ZERO, ..Patience::default() };
        let api = Api::new(&settings, patience).unwrap();
        let call = Call::new(Method::GET, "", "k");
        api.attempt::<serde_json::Value>(&call, "id", 0).await.unwrap();
    }
}
