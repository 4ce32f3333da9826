//! Clients as they should be: they send a chunk again until it is taken, and forget it only then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use e2e::client::{Answer, Client, Recording, TrackKind};
use e2e::fixtures::Fixture;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::moments::PATIENCE;

/// Between two tries of one chunk.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// What all clients together were answered.
pub(crate) struct Acks {
    statuses: Mutex<BTreeMap<u16, usize>>,
    taken: watch::Sender<usize>,
}

impl Acks {
    pub(crate) fn new() -> Self {
        Self { statuses: Mutex::default(), taken: watch::channel(0).0 }
    }

    fn note(&self, status: u16) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        if is_taken(status) {
            self.taken.send_modify(|taken| *taken += 1);
        }
    }

    /// How often each status was answered.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, usize> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many chunks were taken.
    pub(crate) fn taken(&self) -> usize {
        *self.taken.borrow()
    }

    /// Returns when that many were taken.
    pub(crate) async fn reach(&self, wanted: usize) {
        let mut taken = self.taken.subscribe();
        let reached = tokio::time::timeout(PATIENCE, taken.wait_for(|taken| *taken >= wanted)).await;
        assert!(reached.is_ok(), "{} chunks were taken, not {wanted}: {:?}", self.taken(), self.statuses());
    }
}

fn is_taken(status: u16) -> bool {
    matches!(status, 200..=202)
}

/// Sends every blob of a fixture until it is taken, `every` so often (as a recorder gives them), then says which is the last.
pub(crate) async fn upload(
    client: &Client,
    recording: &Recording,
    kind: TrackKind,
    fixture: &Fixture,
    acks: &Acks,
    every: Option<Duration>,
) {
    let mut pace = every.map(interval);
    for (sequence, blob) in (0..).zip(&fixture.blobs) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let mut tries = Tries::new(acks);
        loop {
            let answer = client.try_put_chunk(recording, kind, sequence, &fixture.mime, blob.clone()).await;
            if tries.succeeded(answer) {
                break;
            }
            tries.again().await;
        }
    }
    let path = format!("{}/complete", client.track_path(recording, kind));
    let last = serde_json::json!({ "lastSequence": fixture.last_sequence() });
    let others = Acks::new();
    let mut tries = Tries::new(&others);
    while !tries.succeeded(client.try_send(client.request(Method::POST, &path).json(&last)).await) {
        tries.again().await;
    }
}

/// Stops a recording, again until that is heard.
pub(crate) async fn stop(client: &Client, recording: &Recording) {
    let path = format!("/video-calls/{}/recording/stop", recording.call);
    let others = Acks::new();
    let mut tries = Tries::new(&others);
    loop {
        let answer = client.try_send(client.request(Method::POST, &path)).await;
        // A stop whose answer was lost is heard all the same.
        let answer =
            answer.map(|told| Answer { status: if told.status == 409 { 202 } else { told.status }, ..told });
        if tries.succeeded(answer) {
            break;
        }
        tries.again().await;
    }
}

/// The tries of one request.
struct Tries<'a> {
    acks: &'a Acks,
    deadline: Instant,
    next: Interval,
}

impl<'a> Tries<'a> {
    fn new(acks: &'a Acks) -> Self {
        let mut next = interval(RETRY_EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { acks, deadline: Instant::now() + PATIENCE, next }
    }

    /// Whether it was taken. An answer which says that the client is wrong is an error of the test's.
    fn succeeded(&self, answer: reqwest::Result<Answer>) -> bool {
        let Ok(answer) = answer else { return false };
        self.acks.note(answer.status);
        let is_ours = answer.status >= 500 || answer.status == 429 || is_taken(answer.status);
        assert!(is_ours, "{}: {}", answer.status, answer.json());
        is_taken(answer.status)
    }

    async fn again(&mut self) {
        assert!(Instant::now() < self.deadline, "nothing is taken: {:?}", self.acks.statuses());
        self.next.tick().await;
    }
}
