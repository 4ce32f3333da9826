//! How a test finds a moment: it looks until what it waits for is there, or holds everybody else up with a lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, interval};

/// The longest that anything is waited for: a lease, its rescue, and a re-encoding on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks. Moments that are over sooner are held open or looked for by [`at_once`].
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds it.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, look).await
}

/// Like [`until`], with a deadline of the caller's.
pub(crate) async fn until_within<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "after {patience:?} still waiting for {what}");
    }
}

/// What `look` finds in the operating system, with as little delay as there can be: on a thread of its own, without a pause.
pub(crate) async fn at_once<T: Send + 'static>(
    what: &'static str,
    look: impl Fn() -> Option<T> + Send + 'static,
) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    let looking = tokio::task::spawn_blocking(move || {
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(std::time::Instant::now() < deadline, "after {PATIENCE:?} still waiting for {what}");
            std::thread::yield_now();
        }
    });
    looking.await.expect("the looking thread says itself what is wrong")
}

/// A lock in the database that others wait for.
pub(crate) struct Hold(PgConnection);

impl Hold {
    /// Runs a statement that locks something.
    pub(crate) async fn with(url: &str, statement: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.expect("the database runs");
        connection.execute("begin").await.expect("a new connection is in no transaction");
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())))
            .await
            .expect("it can be locked");
        Self(connection)
    }

    /// All recordings: whoever looks at one waits.
    pub(crate) async fn recordings(url: &str) -> Self {
        Self::with(url, "lock table recording in access exclusive mode").await
    }

    /// A recording's row: whoever changes it waits.
    pub(crate) async fn recording(url: &str, id: &str) -> Self {
        Self::with(url, &format!("select from recording where id = '{id}' for update")).await
    }

    /// A job's row: whoever ends it waits.
    pub(crate) async fn job(url: &str, id: &str) -> Self {
        Self::with(url, &format!("select from apalis.jobs where id = '{id}' for update")).await
    }

    /// How many wait. (Of `pg_stat_activity` a transaction sees one snapshot; of locks it sees what is.)
    pub(crate) async fn waiting(&mut self) -> i64 {
        sqlx::query_scalar(
            "select count(distinct pid) from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))",
        )
        .fetch_one(&mut self.0)
        .await
        .expect("anybody may ask who waits")
    }

    /// Lets go; whoever waits goes on.
    pub(crate) async fn release(mut self) {
        self.0.execute("rollback").await.expect("the connection lives");
        self.0.close().await.expect("the connection lives");
    }

    /// Lets go after ending the sessions that wait: what a killed process has asked for, Postgres would still do.
    pub(crate) async fn release_without_waiters(mut self) {
        let ending = "select pg_terminate_backend(pid) from pg_locks
                      where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))";
        until("the waiting sessions to end", async || {
            self.0.execute(ending).await.expect("the tests' user may end sessions");
            (self.waiting().await == 0).then_some(())
        })
        .await;
        self.release().await;
    }
}

/// The processes that work below a folder, with their names.
pub(crate) fn working_below(folder: &Path) -> Vec<(Pid, String)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| works_below(&process.path(), folder)).collect()
}

fn works_below(process: &Path, folder: &Path) -> Option<(Pid, String)> {
    let pid: i32 = process.file_name()?.to_str()?.parse().ok()?;
    std::fs::read_link(process.join("cwd")).ok()?.starts_with(folder).then_some(())?;
    let name = std::fs::read_to_string(process.join("comm")).ok()?;
    Some((Pid::from_raw(pid), name.trim().to_owned()))
}

/// An FFmpeg that works below a folder, frozen as soon as there is one.
pub(crate) async fn frozen_ffmpeg(folder: PathBuf) -> Pid {
    at_once("an FFmpeg", move || {
        let (pid, _) = working_below(&folder).into_iter().find(|(_, name)| name == "ffmpeg")?;
        kill(pid, Signal::SIGSTOP).ok().map(|()| pid)
    })
    .await
}
