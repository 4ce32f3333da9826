//! A server of Google Cloud Storage of a test's own, as strict as Google's documentation says that theirs is, where the emulator
//! ([`crate::fake_gcs`]) is not: it checks tokens and signatures, ranges and checksums, keeps metadata, answers 308, and does
//! wrong what a test tells it to ([`Fault`]).
//!
//! | module | holds |
//! |---|---|
//! | `account` | the one service account: its key, its tokens, what it signs |
//! | `objects` | put in one request, told, read, listed, deleted |
//! | `sessions` | put in chunks |
//! | `answers` | errors as Google words them |

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use shared::env::Env;
use shared::storage::StorageSettings;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod account;
mod answers;
mod objects;
mod sessions;

use account::Account;
use objects::Stored;
use sessions::Session;

/// The one bucket.
pub const BUCKET: &str = "recordings";
/// Of all but chunks, which are streamed.
const BODY_MAX: usize = 32 << 20;

/// What the server does wrong once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers the next request so, asking to wait for so many seconds.
    Refuses(u16, u64),
    /// Answers the next request so, for good.
    Denies(u16),
    /// Keeps so many bytes of the next chunk, and says so.
    KeepsLittle(u64),
    /// Changes a byte of the next chunk or small object.
    Damages,
    /// Makes an object of the next session that is complete, and breaks the connection.
    LosesAnswer,
    /// Forgets the session of the next chunk.
    Forgets,
    /// Says of the next chunk that an object of no bytes was made of it, and keeps nothing.
    Lies,
    /// Breaks the connection in the middle of the next object that is read.
    BreaksOff,
}

/// The server; ends with its value.
pub struct Gcs {
    address: SocketAddr,
    server: Arc<Server>,
    serving: JoinHandle<()>,
}

struct Server {
    folder: TempDir,
    account: Account,
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Stored>,
    sessions: BTreeMap<String, Session>,
    faults: VecDeque<Fault>,
    generation: u64,
    requests: Vec<String>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file of that name for bytes.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether the next fault is of this kind; then it happens.
    fn fault<T>(&self, kind: impl Fn(Fault) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        let fault = kind(*state.faults.front()?)?;
        state.faults.pop_front();
        Some(fault)
    }
}

impl Gcs {
    /// Starts it, empty.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("callreel-gcs-").tempdir().expect("a folder below /tmp");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = Arc::new(Server { folder, account: Account::new(), state: Mutex::default() });
        let routes = routes(Arc::clone(&server));
        let serving =
            tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves for ever") });
        Self { address, server, serving }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables by which edge and worker use it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("RECORDING_GCS_ENDPOINT", format!("http://{}", self.address)),
            ("RECORDING_GCS_BUCKET", BUCKET.to_owned()),
            ("RECORDING_GCS_CREDENTIALS", self.server.account.key()),
        ]
    }

    /// The key of an account that it does not know, under the name of the one that it knows.
    #[must_use]
    pub fn wrong_key() -> String {
        Account::new().key()
    }

    /// Its settings, with some variables set otherwise.
    ///
    /// # Panics
    /// When they are wrong.
    #[must_use]
    pub fn settings(&self, other: &[(&str, &str)]) -> StorageSettings {
        let other = other.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let env = Env::from_pairs(self.variables().into_iter().chain(other));
        StorageSettings::from_env(&env).expect("settings of the test's own")
    }

    /// Has these happen, each once and one after the other.
    pub fn set(&self, faults: impl IntoIterator<Item = Fault>) {
        self.server.state().faults = faults.into_iter().collect();
    }

    /// Those that have not happened yet.
    #[must_use]
    pub fn faults_left(&self) -> Vec<Fault> {
        self.server.state().faults.iter().copied().collect()
    }

    /// Every request that it has had: the method, and the `content-range`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.server.state().requests.clone()
    }

    /// How many sessions are neither finished nor ended.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.server.state().sessions.values().filter(|session| session.is_open()).count()
    }

    /// Whether it has no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.server.state().objects.is_empty()
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/storage/v1/b/{bucket}/o", get(objects::list))
        .route("/storage/v1/b/{bucket}/o/{key}", get(objects::get).delete(objects::delete))
        .route(
            "/upload/storage/v1/b/{bucket}/o",
            post(objects::post).put(sessions::put).delete(sessions::end),
        )
        .route("/{bucket}/{*key}", get(objects::open))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), before))
        .with_state(server)
}

/// What happens to every request.
async fn before(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let range =
        request.headers().get("content-range").and_then(|range| range.to_str().ok()).unwrap_or_default();
    let line = format!("{} {range}", request.method());
    server.state().requests.push(line.trim().to_owned());
    let refuses = |fault| match fault {
        Fault::Refuses(status, seconds) => Some((status, seconds)),
        _ => None,
    };
    let denies = |fault| if let Fault::Denies(status) = fault { Some(status) } else { None };
    if let Some(status) = server.fault(denies) {
        return answers::of_session(status);
    }
    match server.fault(refuses) {
        Some((status, seconds)) => answers::busy(status, seconds),
        None => next.run(request).await,
    }
}
