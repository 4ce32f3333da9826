//! The API as a client uses it: raw HTTP, no types of the product's.
//!
//! Whoever tests failures uses the `try_` functions, which return what the network did; the others expect the server to answer,
//! and those that promise a result expect it to be the good one.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, interval};

use crate::fixtures::Fixture;
use crate::system::JWT_SECRET;

/// The longest that a finished state is waited for: a re-encoding by a debug build on a busy machine.
pub const FINAL_MAX: Duration = Duration::from_secs(180);
/// Between two looks at a recording.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How long tokens are good for, in seconds; longer than any test.
const TOKEN_SECONDS: u64 = 3600;

/// What a track shows, as the API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// A microphone alone.
    Audio,
    /// A camera.
    Video,
    /// A screen.
    Screen,
}

impl TrackKind {
    /// The word in URLs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Screen => "screen",
        }
    }
}

/// A recording that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The call.
    pub call: String,
    /// The recording.
    pub id: String,
}

impl Recording {
    /// Its path in the API.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/video-calls/{}/recording/{}", self.call, self.id)
    }
}

/// What the server said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `data` of the body.
    #[must_use]
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    /// `code` of a problem; empty when it is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// This answer, when it has the status.
    ///
    /// # Panics
    /// When it has another.
    #[must_use]
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "answer {} instead of {status}: {body}", self.status);
        self
    }
}

/// Somebody who is signed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// Who.
    pub user: String,
    /// Their token.
    pub token: String,
    base: String,
    http: reqwest::Client,
}

/// A token that says `claims`, beside a time of expiry.
///
/// # Panics
/// When `claims` is no object.
#[must_use]
pub fn token(mut claims: Value) -> String {
    claims["exp"] = json!(jsonwebtoken::get_current_timestamp() + TOKEN_SECONDS);
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("an object of JSON is signed with HS256")
}

impl Client {
    /// Signs a user in at an edge.
    #[must_use]
    pub fn new(base: &str, user: &str) -> Self {
        Self::with_claims(base, json!({ "sub": user }))
    }

    /// Signs in with claims of the test's own; `sub` is the user.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    pub fn with_claims(base: &str, claims: Value) -> Self {
        let user = claims["sub"].as_str().unwrap_or_default().to_owned();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(REQUEST_MAX)
            .build()
            .expect("a client without special wishes");
        Self { user, token: token(claims), base: base.to_owned(), http }
    }

    /// A request with the token; `path` may be a whole URL.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the edge answers")
    }

    /// GET.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// DELETE.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Creates a call with these people beside the host; returns its id.
    ///
    /// # Panics
    /// When it is not created.
    pub async fn create_call(&self, participants: &[&str]) -> String {
        let made = self.post("/video-calls", &json!({ "participants": participants })).await.expect(201);
        made.data()["id"].as_str().expect("a call has an id").to_owned()
    }

    /// Starts recording a call.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_recording(&self, call: &str, options: &Value) -> Recording {
        let started = self.post(&format!("/video-calls/{call}/recording/start"), options).await.expect(201);
        let id = started.data()["recordingId"].as_str().expect("a recording has an id").to_owned();
        Recording { call: call.to_owned(), id }
    }

    /// A recording in a call of its own.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn record(&self, options: Value) -> Recording {
        let call = self.create_call(&[]).await;
        self.start_recording(&call, &options).await
    }

    /// The path of this user's track.
    #[must_use]
    pub fn track_path(&self, recording: &Recording, kind: TrackKind) -> String {
        let (id, user, kind) = (&recording.id, &self.user, kind.as_str());
        format!("/video-calls/recording/{id}/participants/{user}/{kind}")
    }

    /// Uploads a chunk as bytes, with its digest.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_put_chunk(
        &self,
        recording: &Recording,
        kind: TrackKind,
        sequence: u64,
        mime: &str,
        bytes: Bytes,
    ) -> reqwest::Result<Answer> {
        let path = format!("{}/chunks/{sequence}", self.track_path(recording, kind));
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&bytes)));
        let request = self.request(Method::PUT, &path).header("content-type", mime);
        self.try_send(request.header("content-digest", digest).body(bytes)).await
    }

    /// Uploads a chunk as bytes, with its digest.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn put_chunk(
        &self,
        recording: &Recording,
        kind: TrackKind,
        sequence: u64,
        mime: &str,
        bytes: Bytes,
    ) -> Answer {
        self.try_put_chunk(recording, kind, sequence, mime, bytes).await.expect("the edge answers")
    }

    /// Uploads a chunk within JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn upload_json(
        &self,
        recording: &Recording,
        kind: TrackKind,
        sequence: u64,
        mime: &str,
        bytes: &[u8],
    ) -> Answer {
        let body = json!({
            "recordingId": recording.id, "participantId": self.user, "chunk": STANDARD.encode(bytes),
            "type": kind.as_str(), "sequence": sequence, "mimeType": mime,
        });
        self.post("/video-calls/chunks/upload", &body).await
    }

    /// Says which chunk is the last.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn complete(&self, recording: &Recording, kind: TrackKind, last_sequence: u64) {
        let path = format!("{}/complete", self.track_path(recording, kind));
        let _ = self.post(&path, &json!({ "lastSequence": last_sequence })).await.expect(200);
    }

    /// Uploads every blob of a fixture in order, and says which is the last.
    ///
    /// # Panics
    /// When one is not taken.
    pub async fn upload(&self, recording: &Recording, kind: TrackKind, fixture: &Fixture) {
        for (sequence, blob) in (0..).zip(&fixture.blobs) {
            let _ = self.put_chunk(recording, kind, sequence, &fixture.mime, blob.clone()).await.expect(201);
        }
        self.complete(recording, kind, fixture.last_sequence()).await;
    }

    /// Stops the call's recording.
    ///
    /// # Panics
    /// When it is not stopped.
    pub async fn stop(&self, recording: &Recording) {
        let path = format!("/video-calls/{}/recording/stop", recording.call);
        let _ = self.post(&path, &json!({})).await.expect(202);
    }

    /// The recording as the API tells it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn recording(&self, recording: &Recording) -> Value {
        self.get(&recording.path()).await.expect(200).data()
    }

    /// The recording, as soon as it is `completed` or `failed`. Answers that are no 200 are looked past, so that a test may
    /// take edge and database away meanwhile.
    ///
    /// # Panics
    /// When it is neither within [`FINAL_MAX`].
    pub async fn wait_final(&self, recording: &Recording) -> Value {
        self.wait_final_within(recording, FINAL_MAX).await
    }

    /// Like [`Self::wait_final`], with a deadline of the caller's.
    ///
    /// # Panics
    /// When it is not final by then.
    pub async fn wait_final_within(&self, recording: &Recording, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        let mut looks = interval(LOOK_EVERY);
        let mut last = Value::Null;
        loop {
            looks.tick().await;
            if let Ok(answer) = self.try_send(self.request(Method::GET, &recording.path())).await {
                last = answer.json();
                let data = &last["data"];
                if answer.status == 200 && matches!(data["status"].as_str(), Some("completed" | "failed")) {
                    return data.clone();
                }
            }
            assert!(Instant::now() < deadline, "after {patience:?} the recording is not final: {last}");
        }
    }

    /// Stops a recording and returns it when it is completed.
    ///
    /// # Panics
    /// When it is not.
    pub async fn finish(&self, recording: &Recording) -> Value {
        self.stop(recording).await;
        let done = self.wait_final(recording).await;
        assert_eq!(done["status"], "completed", "{done}");
        done
    }

    /// The bytes behind a path or URL of the API.
    ///
    /// # Panics
    /// When they are not served.
    pub async fn download(&self, url: &str) -> Bytes {
        self.get(url).await.expect(200).body
    }

    /// A part of them: the value of `range`, as `bytes=0-99`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn download_range(&self, url: &str, range: &str) -> Answer {
        self.send(self.request(Method::GET, url).header("range", range)).await
    }
}
