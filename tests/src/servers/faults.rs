//! What a server does wrong on purpose: which requests, by script or by chance, and what becomes of them.
//!
//! Nothing here knows a provider's protocol. A request goes through [`Faults::answer`], which hands it to the real handlers, or
//! to nobody, and damages what goes in or comes out.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// Carried out; the answer comes after a delay.
    Late {
        /// How long the answer is held back, in milliseconds.
        delay_ms: u64,
    },
    /// Carried out; the connection ends in the middle of the answer.
    Torn,
    /// The connection ends in the middle of the request; nothing is carried out.
    Cut,
    /// Not carried out; an error is answered.
    Refused(Refusal),
    /// Carried out, but an error is answered.
    Lost(Refusal),
    /// Half of the request's body is taken for all of it, and a good answer is given. Of a request without a body, half of the
    /// answer's body is sent as if it were all.
    Truncated,
    /// The first bit of the request's body is turned round, and a good answer is given.
    Flipped,
}

/// An error that is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// `retry-after`, in seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// The body. One that is no JSON is what a proxy in front of the provider says.
    #[serde(default)]
    pub body: String,
}

/// What goes wrong with a request that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meeting {
    /// Its method.
    pub method: String,
    /// A part of its path and query.
    pub address: String,
    /// What happens to it.
    pub fault: Fault,
}

impl Meeting {
    fn fits(&self, request: &Request) -> bool {
        request.method().as_str() == self.method && request.uri().to_string().contains(&self.address)
    }
}

/// Which requests go wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Plan {
    /// None.
    #[default]
    Sound,
    /// By number: the first request after the plan was set is 1.
    Script(BTreeMap<u64, Fault>),
    /// Those that are met, each once: a request meets the first that fits it.
    Met(Vec<Meeting>),
    /// A share of them, chosen by a seeded generator, which chooses the fault too.
    Share {
        /// Beginning of the generator.
        seed: u64,
        /// How many of a hundred requests go wrong.
        percent: u8,
        /// What may happen to them.
        faults: Vec<Fault>,
    },
    /// All of them: a request goes wrong when it is sent, by turns as `first` says, and as `then` says when it is sent again.
    /// Those without credentials are not of the client that is tried, and are answered as `then` says.
    Each {
        /// What happens to a request of which nothing has been seen.
        first: Vec<Fault>,
        /// What happens to it at the next attempt.
        then: Fault,
        /// The header by which a client counts its attempts, in which alone two of them differ.
        counted_by: String,
    },
}

impl Plan {
    /// The same fault for every request.
    #[must_use]
    pub fn every(fault: Fault) -> Self {
        Self::Share { seed: 0, percent: 100, faults: vec![fault] }
    }

    /// A fault for some requests, by number from 1.
    #[must_use]
    pub fn script(faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        Self::Script(faults.into_iter().collect())
    }

    /// Faults for requests of a method and a part of their path and query, each for one request.
    #[must_use]
    pub fn met<'a>(faults: impl IntoIterator<Item = (&'a str, &'a str, Fault)>) -> Self {
        let met = faults.into_iter().map(|(method, address, fault)| Meeting {
            method: method.to_owned(),
            address: address.to_owned(),
            fault,
        });
        Self::Met(met.collect())
    }
}

/// The connection is to end without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut, as the plan says")]
pub struct Hangup;

/// The plan, and where it stands.
#[derive(Debug)]
pub struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    plan: Plan,
    chance: StdRng,
    requests: u64,
    injected: u64,
    /// How often each request was seen.
    seen: HashMap<u64, u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self(Mutex::new(State::of(Plan::Sound)))
    }
}

impl State {
    fn of(plan: Plan) -> Self {
        let seed = if let Plan::Share { seed, .. } = &plan { *seed } else { 0 };
        Self { plan, chance: StdRng::seed_from_u64(seed), requests: 0, injected: 0, seen: HashMap::new() }
    }
}

impl Faults {
    /// Sets a plan, and counts anew.
    pub fn set(&self, plan: Plan) {
        *self.state() = State::of(plan);
    }

    /// How many requests have come since the plan was set.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// How many of them went wrong.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// Answers a request with `handlers`, or as the plan says.
    ///
    /// # Errors
    /// When the connection is to end without an answer.
    pub async fn answer(&self, handlers: Router, request: Request) -> Result<Response, Hangup> {
        let Some(fault) = self.next(&request) else { return Ok(carry_out(handlers, request).await) };
        match fault {
            Fault::Late { delay_ms } => {
                let answer = carry_out(handlers, request).await;
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                Ok(answer)
            }
            Fault::Torn => torn(carry_out(handlers, request).await),
            Fault::Cut => {
                let half = declared(request.headers()).unwrap_or_default() / 2;
                drain(first_bytes(request.into_body(), half)).await;
                Err(Hangup)
            }
            Fault::Refused(refusal) => {
                drain(request.into_body().into_data_stream()).await;
                Ok(refusal.into_response())
            }
            Fault::Lost(refusal) => {
                drain(carry_out(handlers, request).await.into_body().into_data_stream()).await;
                Ok(refusal.into_response())
            }
            Fault::Truncated => Ok(truncated(handlers, request).await),
            Fault::Flipped => Ok(carry_out(handlers, request.map(flipped)).await),
        }
    }

    fn next(&self, request: &Request) -> Option<Fault> {
        let mut state = self.state();
        let State { plan, chance, requests, injected, seen } = &mut *state;
        *requests += 1;
        let fault = match plan {
            Plan::Sound => None,
            Plan::Script(faults) => faults.get(requests).cloned(),
            Plan::Met(met) => {
                let first = met.iter().position(|meeting| meeting.fits(request));
                first.map(|first| met.remove(first).fault)
            }
            Plan::Share { percent, faults, .. } => {
                let hit = chance.random_range(0..100) < u32::from(*percent) && !faults.is_empty();
                hit.then(|| faults[chance.random_range(0..faults.len())].clone())
            }
            Plan::Each { then, .. } if !request.headers().contains_key(AUTHORIZATION) => Some(then.clone()),
            Plan::Each { first, then, counted_by } => {
                let times = seen.entry(mark(request, counted_by)).or_default();
                *times += 1;
                let turn = usize::try_from(*injected).unwrap_or_default() % first.len().max(1);
                if *times % 2 == 1 { first.get(turn).cloned() } else { Some(then.clone()) }
            }
        };
        *injected += u64::from(fault.is_some());
        fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn into_response(self) -> Response {
        let json = serde_json::from_str::<serde_json::Value>(&self.body).is_ok();
        let kind = if json { "application/json" } else { "text/html" };
        let mut answer = Response::new(Body::from(self.body));
        *answer.status_mut() = StatusCode::from_u16(self.status).expect("a plan names statuses of HTTP");
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// What a request has in common with those that repeat it.
fn mark(request: &Request, counted_by: &str) -> u64 {
    let mut mark = DefaultHasher::new();
    (request.method(), request.uri()).hash(&mut mark);
    let headers = request.headers().iter().filter(|(name, _)| name.as_str() != counted_by);
    headers.for_each(|header| header.hash(&mut mark));
    mark.finish()
}

async fn carry_out(handlers: Router, request: Request) -> Response {
    let Ok(answer) = handlers.oneshot(request).await;
    answer
}

/// An answer whose head promises more than comes. One without a body ends before its head.
fn torn(answer: Response) -> Result<Response, Hangup> {
    let (mut head, body) = answer.into_parts();
    let whole = body.size_hint().exact().or_else(|| declared(&head.headers)).unwrap_or_default();
    if whole < 2 {
        return Err(Hangup);
    }
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole));
    let end = stream::once(ready(Err(axum::Error::new(io::Error::from(io::ErrorKind::ConnectionReset)))));
    Ok(Response::from_parts(head, Body::from_stream(first_bytes(body, whole / 2).chain(end))))
}

async fn truncated(handlers: Router, request: Request) -> Response {
    if let Some(whole) = declared(request.headers()).filter(|whole| *whole > 0) {
        let (mut head, body) = request.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        let half = halved(body, whole);
        return carry_out(handlers, Request::from_parts(head, half)).await;
    }
    let (mut head, body) = carry_out(handlers, request).await.into_parts();
    let whole = body.size_hint().exact().or_else(|| declared(&head.headers)).unwrap_or_default();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole / 2));
    Response::from_parts(head, Body::from_stream(first_bytes(body, whole / 2)))
}

/// The first half of a request's body; the rest is read, so that the client gets rid of it, and dropped.
fn halved(body: Body, whole: u64) -> Body {
    let half = whole / 2;
    let mut passed = 0;
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let mut chunk = chunk?;
        let keep = usize::try_from(half.saturating_sub(passed)).unwrap_or(usize::MAX);
        passed += chunk.len() as u64;
        chunk.truncate(keep);
        Ok::<_, axum::Error>(chunk)
    }))
}

fn flipped(body: Body) -> Body {
    let mut first = true;
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let mut chunk = BytesMut::from(chunk?);
        if let Some(byte) = chunk.first_mut().filter(|_| std::mem::take(&mut first)) {
            *byte ^= 1;
        }
        Ok::<_, axum::Error>(chunk.freeze())
    }))
}

fn first_bytes(body: Body, keep: u64) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    body.into_data_stream().scan(keep, |left, chunk| {
        let chunk = chunk.map(|mut bytes| {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            bytes
        });
        ready(chunk.as_ref().map_or(true, |bytes| !bytes.is_empty()).then_some(chunk))
    })
}

/// Reads to the end, or to where the client gave up.
async fn drain(chunks: impl Stream<Item = Result<Bytes, axum::Error>>) {
    let mut chunks = std::pin::pin!(chunks);
    while let Some(Ok(_)) = chunks.next().await {}
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
