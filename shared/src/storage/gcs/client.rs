//! The JSON API, asked as often as it takes.

use std::time::Duration;

use bytes::Bytes;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_storage::client::Storage as Sdk;
use google_cloud_storage::retry_policy::RetryableErrors;
use reqwest::header::HeaderMap;
use reqwest::{Method, Request, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::failure::{Refusal, of_credentials, of_transport};
use crate::storage::StorageError;
use crate::storage::answer::{self, Unread};
use crate::storage::patience::{CALL_MAX, CONNECT_MAX, PAUSE_MAX, Patience, stalled};

/// The first pause between two attempts; it doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How long the other side may leave bytes unacknowledged before it is taken for gone. However slow a line is, it acknowledges.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(120);
/// A connection on which nothing is sent is tried out after so long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Google's own client, as patient as ours.
pub(super) async fn sdk(endpoint: &str, credentials: Credentials, patience: Patience) -> anyhow::Result<Sdk> {
    let backoff =
        ExponentialBackoffBuilder::new().with_initial_delay(PAUSE_MIN).with_maximum_delay(PAUSE_MAX);
    let sdk = Sdk::builder().with_endpoint(endpoint).with_credentials(credentials);
    let sdk = sdk.with_retry_policy(RetryableErrors.with_attempt_limit(patience.attempts));
    Ok(sdk.with_backoff_policy(backoff.build()?).build().await?)
}

/// The JSON API of one bucket.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    bucket: String,
    credentials: Credentials,
    pub(super) patience: Patience,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// The objects of the bucket.
    Bucket,
    /// One of them.
    Object(&'a str),
    /// An object that is to be.
    Upload,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        bucket: &str,
        credentials: Credentials,
        patience: Patience,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            // One connection for each upload: in one of HTTP/2, its window would bound them all.
            .http1_only()
            .connect_timeout(CONNECT_MAX)
            .tcp_keepalive(KEEPALIVE)
            .tcp_user_timeout(ACKNOWLEDGED_WITHIN)
            // 308 means "go on" here.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, endpoint: Url::parse(endpoint)?, bucket: bucket.to_owned(), credentials, patience })
    }

    /// Where it is reached.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    /// A request of the API.
    pub(super) fn request(&self, method: Method, target: Target<'_>, query: &[(&str, &str)]) -> Request {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            path.extend(matches!(target, Target::Upload).then_some("upload"));
            path.extend(["storage", "v1", "b", &self.bucket, "o"]);
            if let Target::Object(key) = target {
                path.push(key);
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        request_to(method, url)
    }

    /// Sends a request as who we are, again and again while the network or the server fails.
    ///
    /// # Errors
    /// When it keeps failing, or nobody can tell who we are.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, StorageError> {
        self.patiently(|| async {
            let mut attempt = copy(&request)?;
            attempt.headers_mut().extend(self.authorization().await?);
            self.send(attempt, at_once()).await?.unless_unavailable()
        })
        .await
    }

    /// The same without saying who we are, for what is allowed to whoever knows its URI.
    pub(super) async fn call_anonymously(&self, request: Request) -> Result<Answer, StorageError> {
        self.patiently(|| async { self.send(copy(&request)?, at_once()).await?.unless_unavailable() }).await
    }

    /// Sends a request once; `moved` is told of each piece of its body.
    pub(super) async fn send(
        &self,
        request: Request,
        moved: watch::Receiver<()>,
    ) -> Result<Answer, StorageError> {
        let answer = tokio::select! {
            answer = self.http.execute(request) => answer.map_err(of_transport)?,
            () = stalled(moved, self.patience) => return Err(stands_still()),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = timeout(self.patience.answer_max, answer::whole(answer)).await;
        match body.map_err(|_| StorageError::unavailable("the answer does not end"))? {
            Ok(body) => Ok(Answer { status, headers, body }),
            Err(Unread::Network(error)) => Err(of_transport(error)),
            Err(Unread::TooLong) => Err(StorageError::unavailable("the answer is too long")),
        }
    }

    async fn patiently<Attempt>(&self, attempt: impl Fn() -> Attempt) -> Result<Answer, StorageError>
    where
        Attempt: Future<Output = Result<Answer, StorageError>>,
    {
        let mut pauses = self.pauses();
        loop {
            match attempt().await {
                Err(error) => pauses.wait(error).await?,
                answered => return answered,
            }
        }
    }

    /// The pauses between attempts at one thing.
    pub(super) fn pauses(&self) -> Pauses {
        Pauses { taken: 0, attempts: self.patience.attempts }
    }

    async fn authorization(&self) -> Result<HeaderMap, StorageError> {
        match self
            .credentials
            .headers(http::Extensions::new())
            .await
            .map_err(|error| of_credentials(&error))?
        {
            CacheableResource::New { data, .. } => Ok(data),
            // Only for who says what he knows already.
            CacheableResource::NotModified => Ok(HeaderMap::new()),
        }
    }
}

/// Of a body that goes out in one piece.
fn at_once() -> watch::Receiver<()> {
    watch::channel(()).1
}

/// Nothing of a request moves any more, or no answer to it comes.
pub(super) fn stands_still() -> StorageError {
    StorageError::unavailable("the request stands still")
}

/// A request to wherever.
pub(super) fn request_to(method: Method, url: Url) -> Request {
    let mut request = Request::new(method, url);
    *request.timeout_mut() = Some(CALL_MAX);
    request
}

fn copy(request: &Request) -> Result<Request, StorageError> {
    request.try_clone().ok_or_else(|| StorageError::Refused("the request cannot be repeated".to_owned()))
}

impl Answer {
    /// Itself, when it is a success.
    ///
    /// # Errors
    /// What the server says instead.
    pub(super) fn ok(self) -> Result<Self, Refusal> {
        if self.status.is_success() { Ok(self) } else { Err(Refusal::of(&self)) }
    }

    /// What a success holds.
    ///
    /// # Errors
    /// What the server says instead.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        let answer = self.ok()?;
        serde_json::from_slice(&answer.body).map_err(|error| Refusal::garbled(&error))
    }

    fn unless_unavailable(self) -> Result<Self, StorageError> {
        if self.status.is_success() {
            return Ok(self);
        }
        match Refusal::of(&self).about("") {
            error @ StorageError::Unavailable { .. } => Err(error),
            _ => Ok(self),
        }
    }
}

/// The pauses between attempts at one thing.
pub(super) struct Pauses {
    taken: u32,
    attempts: u32,
}

impl Pauses {
    /// Returns when it may be tried again.
    ///
    /// # Errors
    /// What went wrong, when it is not for waiting or was tried often enough.
    pub(super) async fn wait(&mut self, error: StorageError) -> Result<(), StorageError> {
        let StorageError::Unavailable { retry_after, .. } = &error else { return Err(error) };
        let asked = retry_after.unwrap_or_default();
        self.taken += 1;
        if self.taken >= self.attempts || asked > PAUSE_MAX {
            return Err(error);
        }
        let pause = (PAUSE_MIN * 2_u32.pow(self.taken - 1)).min(PAUSE_MAX);
        // Not all at once, when many were refused at once.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0)).max(asked)).await;
        Ok(())
    }
}
