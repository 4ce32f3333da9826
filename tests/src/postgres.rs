//! Databases: a fresh one for each test in the cluster that `tests/run.sh` starts, and clusters of a test's own that it may
//! stop and start.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use shared::env::Env;
use shared::testing::{CLUSTER_VARIABLE, TestDatabase};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tempfile::TempDir;

use crate::program::{Program, command, free_port, output};

/// Where Debian keeps PostgreSQL's programs, one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long the end of a test may wait for its database to go.
const DROP_MAX: Duration = Duration::from_secs(10);

/// A database of one test, migrated; dropped with this.
pub struct Postgres {
    database: TestDatabase,
}

impl Postgres {
    /// Makes it.
    ///
    /// # Panics
    /// When there is no cluster.
    pub async fn create() -> Self {
        let database = TestDatabase::create().await;
        migrate(&database.url).await;
        Self { database }
    }

    /// How to connect to it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.database.url
    }

    /// The database, with its outages.
    #[must_use]
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let name = name_of(&self.database.url).to_owned();
        // A runtime of its own on a thread of its own: the test's may be gone, or be the one that waits for this.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async { tokio::time::timeout(DROP_MAX, drop_database(&name)).await.ok()?.ok() })
        });
        let _ = dropping.join();
    }
}

async fn drop_database(name: &str) -> sqlx::Result<()> {
    let env = Env::from_process();
    let mut cluster =
        PgConnection::connect(env.optional(CLUSTER_VARIABLE).ok().flatten().unwrap_or_default()).await?;
    let statement = sqlx::AssertSqlSafe(format!("drop database if exists {name} with (force)"));
    cluster.execute(sqlx::raw_sql(statement)).await?;
    cluster.close().await
}

fn name_of(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or_default()
}

async fn migrate(url: &str) {
    let db = PgPool::connect(url).await.expect("the database was just made");
    worker::queue::migrate(&db).await.expect("an empty database takes the migrations");
    db.close().await;
}

/// A cluster of a test's own.
pub struct OwnPostgres {
    home: TempDir,
    port: u16,
    server: Option<Program>,
}

impl OwnPostgres {
    /// Makes a cluster, starts it, and migrates its one database.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start() -> Self {
        let home =
            tempfile::Builder::new().prefix("callreel-postgres-").tempdir().expect("a folder below /tmp");
        initialise(home.path());
        let mut cluster = Self { home, port: free_port(), server: None };
        cluster.resume().await;
        migrate(&cluster.url()).await;
        cluster
    }

    /// How to connect to it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://callreel@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends the server as an operator does: connections are cut, nothing is lost. Returns when it is gone.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.signal(Signal::SIGINT);
        server.ended().await;
    }

    /// Starts the stopped server again, on the same port. Returns when it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn resume(&mut self) {
        let mut postgres = as_postgres(&program("postgres"));
        postgres.arg("-D").arg(data(self.home.path())).args(["-p", &self.port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let mut server = Program::spawn("postgres", &mut postgres);
        server.line_with("ready to accept connections").await;
        self.server = Some(server);
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // Its own processes must end with it, which after SIGKILL they would do only when they notice.
            server.signal(Signal::SIGQUIT);
            wait_blocking(server);
        }
    }
}

fn wait_blocking(mut server: Program) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waiting = std::thread::spawn(move || runtime.map(|runtime| runtime.block_on(server.ended())));
    let _ = waiting.join();
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

fn initialise(home: &Path) {
    if is_root() {
        let owned = output(command("chown").arg("postgres:").arg(home));
        assert!(owned.ok, "there is no user postgres: {}", owned.stderr);
    }
    let mut initdb = as_postgres(&program("initdb"));
    initdb.arg("-D").arg(data(home)).args([
        "-U",
        "callreel",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
    ]);
    let made = output(&mut initdb);
    assert!(made.ok, "initdb: {}{}", made.stdout, made.stderr);
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// PostgreSQL refuses to run as root; as root it runs as the user that its package makes.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return command(program);
    }
    let mut setpriv = command("setpriv");
    setpriv.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    setpriv
}

/// The newest that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
    newest.map_or_else(|| name.into(), |version| version.join("bin").join(name))
}
