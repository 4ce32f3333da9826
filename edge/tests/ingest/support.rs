//! An edge to upload to, and raw HTTP to do it with.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge::settings::Patience;
use edge::{Edge, Settings};
use jsonwebtoken::{EncodingKey, Header, encode};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::clock::{Clock, SystemClock};
use shared::env::Env;
use shared::lifecycle::Tasks;
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgConnection, PgPool};

const SECRET: &str = "a secret of tests that is long enough";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The channel on which a test's database tells that a recording's row has changed.
const CHANGED: &str = "test_changed";
const TELL_CHANGES: &str = "
    create function tell_change() returns trigger language plpgsql as
        $$ begin perform pg_notify('test_changed', ''); return null; end $$;
    create trigger tell_change after insert or update on recording
        for each statement execute function tell_change();";

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A running edge.
pub(crate) struct TestEdge {
    pub(crate) port: u16,
    pub(crate) db: PgPool,
    pub(crate) tasks: Tasks,
    pub(crate) database_url: String,
    pub(crate) folder: Arc<tempfile::TempDir>,
}

/// An answer to a raw request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.head.to_ascii_lowercase().contains("application/problem+json"), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

pub(crate) async fn edge() -> TestEdge {
    edge_with(&[]).await
}

pub(crate) async fn edge_with(extra: &[(&str, &str)]) -> TestEdge {
    let url = database(&server()).await;
    start(url, Arc::new(tempfile::tempdir().unwrap()), extra).await
}

pub(crate) async fn start(
    database_url: String,
    folder: Arc<tempfile::TempDir>,
    extra: &[(&str, &str)],
) -> TestEdge {
    start_that_waits(database_url, folder, extra, Patience::default()).await
}

/// An edge with less patience for slow clients.
pub(crate) async fn edge_that_waits(patience: Patience) -> TestEdge {
    let url = database(&server()).await;
    start_that_waits(url, Arc::new(tempfile::tempdir().unwrap()), &[], patience).await
}

async fn start_that_waits(
    database_url: String,
    folder: Arc<tempfile::TempDir>,
    extra: &[(&str, &str)],
    patience: Patience,
) -> TestEdge {
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let base = [
        ("PORT", "0".to_owned()),
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("DATABASE_URL", database_url.clone()),
        ("CAPTURE_DIR", at("capture")),
        ("SPOOL_URL", at("spool")),
        ("RECORDING_OUTPUT_DIR", at("recordings")),
        ("RATE_LIMIT_PER_MINUTE", "0".to_owned()),
        ("RATE_LIMIT_CHUNKS_PER_SECOND", "0".to_owned()),
        ("RECORDING_FINISH_TIMEOUT", "30s".to_owned()),
        ("DISK_RESERVE", "1MiB".to_owned()),
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("JWT_SECRET", SECRET.to_owned()),
    ];
    let extra = extra.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let settings = Settings::from_env(&Env::from_pairs(base.into_iter().chain(extra))).unwrap();
    let settings = Settings { patience, ..settings };
    let tasks = Tasks::default();
    let edge = Edge::bind(settings, Arc::new(SystemClock), tasks.clone()).await.unwrap();
    let port = edge.address().port();
    edge.serve();
    let db = PgPool::connect(&database_url).await.unwrap();
    TestEdge { port, db, tasks, database_url, folder }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

impl TestEdge {
    /// Stops the edge as a process would end, and starts another one on its folder.
    pub(crate) async fn restart(self, extra: &[(&str, &str)]) -> Self {
        self.stop().await;
        start(self.database_url.clone(), Arc::clone(&self.folder), extra).await
    }

    pub(crate) async fn stop(&self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.close();
        tokio::time::timeout(PATIENCE, self.tasks.tracker.wait()).await.unwrap();
    }

    pub(crate) async fn json(&self, method: &str, path: &str, user: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &token(user), &[("content-type", "application/json")], text.into_bytes())
            .await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let request = request(method, path, token, headers, Some(body.len()));
        let port = self.port;
        tokio::task::spawn_blocking(move || {
            let mut stream = connect(port);
            stream.write_all(request.as_bytes()).unwrap();
            // An early answer may end the connection; what was answered is read all the same.
            let _ = stream.write_all(&body);
            read_answer(&mut stream)
        })
        .await
        .unwrap()
    }

    /// A call of ann's with bob, and its live recording.
    pub(crate) async fn recording(&self) -> Recording<'_> {
        let call =
            self.json("POST", "/video-calls", "ann", &json!({ "participants": ["bob"] })).await.is(201);
        let call = call.body["data"]["id"].as_str().unwrap().to_owned();
        let started = self
            .json("POST", &format!("/video-calls/{call}/recording/start"), "ann", &Value::Null)
            .await
            .is(201);
        Recording { edge: self, call, id: started.body["data"]["recordingId"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn again(&self, call: &str, id: &str) -> Recording<'_> {
        Recording { edge: self, call: call.to_owned(), id: id.to_owned() }
    }

    /// Waits until something holds that is seen in rows, looking anew whenever one changes.
    pub(crate) async fn when(&self, holds: impl AsyncFn() -> bool) {
        let mut changes = PgListener::connect(&self.database_url).await.unwrap();
        changes.listen(CHANGED).await.unwrap();
        let looking = async {
            while !holds().await {
                // `None`: the connection was cut; what changed meanwhile is seen now.
                let _ = changes.try_recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("it comes to hold");
    }

    pub(crate) fn spool(&self, recording: &str) -> PathBuf {
        self.folder.path().join("spool").join(recording)
    }
}

/// A recording to upload to.
pub(crate) struct Recording<'a> {
    pub(crate) edge: &'a TestEdge,
    pub(crate) call: String,
    pub(crate) id: String,
}

impl Recording<'_> {
    pub(crate) fn path(&self, user: &str, sequence: u64) -> String {
        format!("/video-calls/recording/{}/participants/{user}/video/chunks/{sequence}", self.id)
    }

    pub(crate) async fn put(&self, user: &str, sequence: u64, bytes: &[u8]) -> Answer {
        let headers = [("content-type", "video/webm;codecs=vp8"), ("x-chunk-timestamp", "1700000000000")];
        self.edge.send("PUT", &self.path(user, sequence), &token(user), &headers, bytes.to_vec()).await
    }

    pub(crate) async fn post(&self, user: &str, sequence: u64, bytes: &[u8]) -> Answer {
        self.post_with(user, &json!({ "sequence": sequence, "chunk": STANDARD.encode(bytes) })).await
    }

    /// Uploads JSON, with some fields replaced.
    pub(crate) async fn post_with(&self, user: &str, fields: &Value) -> Answer {
        let mut body = json!({ "recordingId": self.id, "participantId": user, "chunk": "aGk=", "type": "video",
            "timestamp": 1_700_000_000_000_u64, "sequence": 0, "mimeType": "video/webm" });
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.edge.json("POST", "/video-calls/chunks/upload", user, &body).await
    }

    pub(crate) async fn complete(&self, user: &str, last_sequence: u64) -> Answer {
        let path = format!("/video-calls/recording/{}/participants/{user}/video/complete", self.id);
        self.edge.json("POST", &path, user, &json!({ "lastSequence": last_sequence })).await
    }

    pub(crate) async fn status(&self, user: &str) -> Answer {
        self.edge.json("GET", &format!("/video-calls/recording/{}/status", self.id), user, &Value::Null).await
    }

    pub(crate) async fn stop(&self) {
        let path = format!("/video-calls/{}/recording/stop", self.call);
        self.edge.json("POST", &path, "ann", &Value::Null).await.is(202);
    }

    pub(crate) async fn state(&self) -> String {
        let state = sqlx::query_scalar("select state from recording where id = $1").bind(&self.id);
        state.fetch_one(&self.edge.db).await.unwrap()
    }

    /// Waits until the row says so.
    pub(crate) async fn becomes(&self, state: &str) {
        self.edge.when(async || self.state().await == state).await;
    }

    /// How many jobs the seal has enqueued.
    pub(crate) async fn jobs(&self) -> i64 {
        let count = "select count(*) from apalis.jobs where job_type = 'mux-recording' and convert_from(job, 'UTF8') like $1";
        sqlx::query_scalar(count).bind(format!("%{}%", self.id)).fetch_one(&self.edge.db).await.unwrap()
    }

    /// The bytes of all segments that have reached the spool.
    pub(crate) fn spooled_bytes(&self) -> u64 {
        fn bytes(path: &Path) -> u64 {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries
                .map(|entry| {
                    if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().unwrap().len() }
                })
                .sum()
        }
        bytes(&self.edge.spool(&self.id))
    }
}

/// Waits until something holds that is seen in a folder, looking anew whenever an entry of it comes or goes.
pub(crate) async fn when_in(folder: &Path, holds: impl Fn() -> bool + Send + 'static) {
    let inotify = Inotify::init(InitFlags::empty()).unwrap();
    let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    inotify.add_watch(folder, changes).unwrap();
    let (held, seen) = tokio::sync::oneshot::channel();
    // A thread of its own: one that waits for ever must not keep the runtime from ending.
    std::thread::spawn(move || {
        while !holds() {
            inotify.read_events().unwrap();
        }
        let _ = held.send(());
    });
    tokio::time::timeout(PATIENCE, seen).await.expect("it comes to hold").unwrap();
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn request(
    method: &str,
    path: &str,
    token: &str,
    headers: &[(&str, &str)],
    length: Option<usize>,
) -> String {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\nconnection: close\r\n"
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if let Some(length) = length {
        text += &format!("content-length: {length}\r\n");
    }
    text + "\r\n"
}

/// Reads an answer to the end of the connection.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(error) if bytes.is_empty() => panic!("no answer: {error}"),
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

pub(crate) fn token(user: &str) -> String {
    signed(
        &json!({ "sub": user, "role": if user == "root" { "admin" } else { "user" }, "exp": SystemClock.now().timestamp() + 3600 }),
    )
}

pub(crate) fn signed(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(bytes)))
}

/// The server of databases that tests share.
pub(crate) fn server() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    std::env::var("TEST_DATABASE_URL")
        .expect("set TEST_DATABASE_URL to a Postgres whose user may create databases")
}

/// A database of its own with everything migrated.
pub(crate) async fn database(server: &str) -> String {
    let name = format!("ingest_test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(server).await.unwrap();
    for statement in [format!("drop database if exists {name}"), format!("create database {name}")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    let mut url = reqwest::Url::parse(server).unwrap();
    url.set_path(&name);
    let pool = PgPool::connect(url.as_str()).await.unwrap();
    apalis_postgres::PostgresStorage::<()>::setup(&pool).await.unwrap();
    let mut ours = sqlx::migrate!("../migrations");
    ours.set_ignore_missing(true).run(&pool).await.unwrap();
    sqlx::raw_sql(TELL_CHANGES).execute(&pool).await.unwrap();
    pool.close().await;
    url.to_string()
}
