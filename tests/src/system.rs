//! Edge and workers, as they are shipped, over one database and one set of folders.
//!
//! The programs are those beside the test's own (`target/debug`), or in `CALLREEL_BIN_DIR`; `tests/run.sh` builds them.

use std::path::{Path, PathBuf};

use shared::env::Env;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;

use crate::client::Client;
use crate::postgres::Postgres;
use crate::program::{Program, command};

/// What signs tokens.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-which-is-long-enough-for-HS256";
/// The test's own connections to the database.
const CONNECTIONS: u32 = 4;

/// Folders that edge and workers share.
pub struct Folders {
    root: TempDir,
}

impl Folders {
    fn make() -> Self {
        let root = tempfile::Builder::new().prefix("callreel-test-").tempdir().expect("a folder below /tmp");
        Self { root }
    }

    /// Where all of them are.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `CAPTURE_DIR`.
    #[must_use]
    pub fn capture(&self) -> PathBuf {
        self.root().join("capture")
    }

    /// `SPOOL_URL`.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.root().join("spool")
    }

    /// `SCRATCH_DIR`, of all workers.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root().join("scratch")
    }

    /// `RECORDING_OUTPUT_DIR`.
    #[must_use]
    pub fn recordings(&self) -> PathBuf {
        self.root().join("recordings")
    }

    /// Every file below a folder, by its path within it, sorted; none when there is no such folder.
    #[must_use]
    pub fn files(folder: &Path) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.extend(path.strip_prefix(folder).ok().map(Path::to_owned)),
                }
            }
        }
        found.sort();
        found
    }
}

/// Edge and workers.
pub struct System {
    /// The edge.
    pub edge: Edge,
    /// The workers that were started, also those that have ended.
    pub workers: Vec<Program>,
    /// Where they keep things.
    pub folders: Folders,
    /// Connections of the test's own, to look at rows.
    pub db: PgPool,
    settings: Vec<(String, String)>,
    _database: Option<Postgres>,
}

/// How a [`System`] is to be.
#[derive(Default)]
pub struct Builder {
    settings: Vec<(String, String)>,
    workers: Option<usize>,
    database_url: Option<String>,
}

impl System {
    /// Starts an edge and a worker over a database of their own.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// How it is to be.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client of the edge that is signed in as this user.
    #[must_use]
    pub fn client(&self, user: &str) -> Client {
        Client::new(&self.edge.url(), user)
    }

    /// Starts one more worker; returns it when it takes jobs.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn spawn_worker(&mut self) -> &mut Program {
        let name = format!("worker-{}", self.workers.len() + 1);
        let mut command = command(binary("worker"));
        command.arg("run").envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("METRICS_PORT", "0").env("WORKER_NAME", &name);
        let mut worker = Program::spawn(name, &mut command);
        worker.line_with("worker takes jobs").await;
        self.workers.push(worker);
        self.workers.last_mut().expect("it was just put there")
    }

    /// Sets a variable for the workers that are started from now on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.settings.push((name.to_owned(), value.into()));
    }

    /// The first worker.
    ///
    /// # Panics
    /// When none was started.
    pub fn worker(&mut self) -> &mut Program {
        self.workers.first_mut().expect("a worker was started")
    }
}

impl Builder {
    /// A variable in the environment of edge and workers.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// How many workers there are at first.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// A database that the test holds, already migrated.
    #[must_use]
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.database_url = Some(url.into());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When a program does not start.
    pub async fn start(self) -> System {
        let database = match &self.database_url {
            Some(_) => None,
            None => Some(Postgres::create().await),
        };
        let given = database.as_ref().map(|database| database.url().to_owned());
        let url = self.database_url.or(given).expect("either was given or made");
        let folders = Folders::make();
        let settings = settings(&folders, &url, self.settings);
        let options = PgPoolOptions::new().max_connections(CONNECTIONS);
        let db = options.connect_lazy(&url).expect("a URL that a database was made with");
        let edge = Edge::start(settings.clone()).await;
        let mut system = System { edge, workers: Vec::new(), folders, db, settings, _database: database };
        for _ in 0..self.workers.unwrap_or(1) {
            system.spawn_worker().await;
        }
        system
    }
}

/// Later settings win over earlier ones, a test's own over these.
fn settings(folders: &Folders, database_url: &str, own: Vec<(String, String)>) -> Vec<(String, String)> {
    let path = |path: PathBuf| path.display().to_string();
    let ours = [
        ("DATABASE_URL", database_url.to_owned()),
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("JWT_SECRET", JWT_SECRET.to_owned()),
        ("CAPTURE_DIR", path(folders.capture())),
        ("SPOOL_URL", path(folders.spool())),
        ("SCRATCH_DIR", path(folders.scratch())),
        ("RECORDING_OUTPUT_DIR", path(folders.recordings())),
        // What misses a chunk waits this long for it; a test has no reason to wait longer.
        ("RECORDING_FINISH_TIMEOUT", "2s".to_owned()),
        // Tests send faster than people, and the machine that runs them may have a full disk.
        ("RATE_LIMIT_PER_MINUTE", "0".to_owned()),
        ("RATE_LIMIT_CHUNKS_PER_SECOND", "0".to_owned()),
        ("DISK_RESERVE", "1MiB".to_owned()),
        // Several edges run at once: the system gives each its port for media.
        ("WEBRTC_UDP_PORT", "0".to_owned()),
        ("WEBRTC_THREADS", "1".to_owned()),
        ("WORKER_CONCURRENCY", "2".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    ours.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(own).collect()
}

/// An edge that can be ended and started again, on the same port and folders.
pub struct Edge {
    program: Program,
    settings: Vec<(String, String)>,
    port: u16,
}

impl Edge {
    async fn start(settings: Vec<(String, String)>) -> Self {
        let mut program = spawn_edge(&settings, 0);
        let line = program.line_with("listening on http://").await;
        let port = line.rsplit(':').next().and_then(port_of);
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { program, settings, port }
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Ends it at once (SIGKILL).
    pub fn kill9(&mut self) {
        self.program.kill9();
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn term(&mut self) -> std::process::ExitStatus {
        self.program.term().await
    }

    /// Starts it again, after killing it when it still runs. Returns when it listens.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.program.kill9();
        self.program = spawn_edge(&self.settings, self.port);
        self.program.line_with("listening on http://").await;
    }
}

fn spawn_edge(settings: &[(String, String)], port: u16) -> Program {
    let mut command = command(binary("edge"));
    command.envs(settings.iter().map(|(name, value)| (name, value))).env("PORT", port.to_string());
    Program::spawn("edge", &mut command)
}

fn port_of(text: &str) -> Option<u16> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

/// Where a program of ours is.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let env = Env::from_process();
    let folder = env.optional("CALLREEL_BIN_DIR").ok().flatten().map(PathBuf::from).or_else(beside_the_test);
    let path = folder.expect("a test runs from target/<profile>/deps").join(name);
    assert!(path.is_file(), "{} is not there: cargo build -p edge -p worker", path.display());
    path
}

fn beside_the_test() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.parent()?.to_owned())
}
