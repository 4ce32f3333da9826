//! An edge to test against.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use edge::settings::Patience;
use edge::{Edge, Settings};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use shared::env::Env;
use shared::lifecycle::Tasks;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

pub(crate) const SECRET: &str = "a secret of tests that is long enough";

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A running edge, with its database and folders; all of it goes when the test ends well.
pub(crate) struct TestEdge {
    pub(crate) base: String,
    pub(crate) db: PgPool,
    pub(crate) tasks: Tasks,
    pub(crate) storage: std::path::PathBuf,
    pub(crate) client: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// An answer: status, headers, and the body as JSON when it is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails unless this is the problem with that status and code, told as RFC 9457 wants it.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("/problems/{code}"));
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["success"], false);
        assert_eq!(self.body["requestId"], self.header("x-request-id"));
    }

    /// Fails unless this is a success with that status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert!(!self.header("x-request-id").is_empty());
        self
    }
}

pub(crate) async fn edge() -> TestEdge {
    edge_with(&[]).await
}

pub(crate) async fn edge_with(extra: &[(&str, &str)]) -> TestEdge {
    let url = database().await;
    edge_over(&url, extra).await
}

pub(crate) async fn edge_over(database_url: &str, extra: &[(&str, &str)]) -> TestEdge {
    edge_that_waits(database_url, extra, Patience::default()).await
}

pub(crate) async fn edge_that_waits(
    database_url: &str,
    extra: &[(&str, &str)],
    patience: Patience,
) -> TestEdge {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let base = [
        ("PORT", "0".to_owned()),
        ("DATABASE_URL", database_url.to_owned()),
        ("CAPTURE_DIR", at("capture")),
        ("SPOOL_URL", at("spool")),
        ("RECORDING_OUTPUT_DIR", at("recordings")),
        ("RATE_LIMIT_PER_MINUTE", "0".to_owned()),
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("DISK_RESERVE", "1MiB".to_owned()),
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("JWT_SECRET", SECRET.to_owned()),
    ];
    let mut pairs = std::collections::BTreeMap::from(base);
    pairs.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let settings = Settings { patience, ..Settings::from_env(&Env::from_pairs(pairs)).unwrap() };
    let tasks = Tasks::default();
    let edge = Edge::bind(settings, Arc::new(SystemClock), tasks.clone()).await.unwrap();
    let base = format!("http://127.0.0.1:{}", edge.address().port());
    edge.serve();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let db = PgPool::connect(database_url).await.unwrap();
    TestEdge { base, db, tasks, storage: folder.path().join("recordings"), client, _folder: folder }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

impl TestEdge {
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, user: &str, body: Value) -> Answer {
        let request = self.request(method, path).bearer_auth(token(user));
        let request = if body.is_null() { request } else { request.json(&body) };
        answer(request).await
    }

    pub(crate) async fn get(&self, path: &str, user: &str) -> Answer {
        self.send("GET", path, user, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, user: &str, body: Value) -> Answer {
        self.send("POST", path, user, body).await
    }

    pub(crate) async fn with_token(&self, method: &str, path: &str, token: &str) -> Answer {
        answer(self.request(method, path).bearer_auth(token)).await
    }

    /// A call of ann's, to which bob is invited.
    pub(crate) async fn call(&self) -> String {
        let body = json!({ "title": "Monday", "participants": ["bob"] });
        let call = self.post("/video-calls", "ann", body).await.is(201);
        call.data()["id"].as_str().unwrap().to_owned()
    }

    /// A recording of the call that has just begun.
    pub(crate) async fn recording(&self, call: &str) -> String {
        let started =
            self.post(&format!("/video-calls/{call}/recording/start"), "ann", Value::Null).await.is(201);
        started.data()["recordingId"].as_str().unwrap().to_owned()
    }

    /// How many events of a type the database holds.
    pub(crate) async fn events(&self, kind: &str) -> i64 {
        let count = sqlx::query_scalar("select count(*) from event where type = $1");
        count.bind(kind).fetch_one(&self.db).await.unwrap()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap().to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, headers, body, bytes }
}

pub(crate) fn now() -> i64 {
    SystemClock.now().timestamp()
}

/// A token of a user, good for an hour; user `root` is an admin.
pub(crate) fn token(user: &str) -> String {
    let role = if user == "root" { "admin" } else { "user" };
    signed(&json!({ "sub": user, "role": role, "exp": now() + 3600 }))
}

pub(crate) fn signed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A way to a database that a test can cut or hold.
pub(crate) struct Line {
    pub(crate) url: String,
    cut: tokio_util::sync::CancellationToken,
    held: watch::Sender<bool>,
}

impl Line {
    /// Cuts what is connected, and refuses what comes.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Keeps back from now on what is asked.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut part = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut part).await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&part[..length]).await.is_err() {
            return;
        }
    }
}

/// A line to a database of its own.
pub(crate) async fn line() -> Line {
    let mut url = reqwest::Url::parse(&database().await).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let cut = tokio_util::sync::CancellationToken::new();
    let (held, holding) = watch::channel(false);
    tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
        let mut open = tokio::task::JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (asked, answers) = near.into_split();
            let (answered, asks) = tokio::net::TcpStream::connect(&server).await.unwrap().into_split();
            open.spawn(pass_on(asked, asks, holding.clone()));
            open.spawn(pass_on(answered, answers, holding.clone()));
        }
    }));
    Line { url: url.to_string(), cut, held }
}

/// A database of its own with everything migrated.
pub(crate) async fn database() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let server = std::env::var("TEST_DATABASE_URL")
        .expect("set TEST_DATABASE_URL to a Postgres whose user may create databases");
    let name = format!("edge_test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(&server).await.unwrap();
    for statement in [format!("drop database if exists {name}"), format!("create database {name}")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    let mut url = reqwest::Url::parse(&server).unwrap();
    url.set_path(&name);
    let pool = PgPool::connect(url.as_str()).await.unwrap();
    apalis_postgres::PostgresStorage::<()>::setup(&pool).await.unwrap();
    let mut ours = sqlx::migrate!("../migrations");
    ours.set_ignore_missing(true).run(&pool).await.unwrap();
    pool.close().await;
    url.to_string()
}
