//! Postgres: one file of SQL per table, as plain functions over a connection that the caller owns, so that the caller decides
//! what commits together. Every change of state is compare-and-set; no row back means the state was another.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};

use crate::env::Secret;

pub mod artifacts;
pub mod calls;
pub mod edges;
pub mod events;
pub mod jobs;
pub mod outages;
pub mod recordings;
pub mod tracks;

/// Our own migrations; the queue's run beside them.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How long a request waits for a connection before it is told that the database is busy or away. Short, because a caller that
/// retries loses less than one that hangs.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Postgres ends a transaction whose client has been silent for this long, and lets go of its locks: the client's machine lost
/// its power, or is frozen, and others wait to take its work over. Without it they would wait for TCP, which is two hours. Our
/// transactions are a few statements one after another; the longest silence in one is a stalled disk.
const IDLE_IN_TRANSACTION: &str = "set idle_in_transaction_session_timeout = '15s'";

/// A pool that connects when it is first used: a process may start while the database is away.
///
/// # Errors
/// When the URL is malformed.
pub fn pool(url: &Secret, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(IDLE_IN_TRANSACTION).await.map(drop) })
        })
        .connect_lazy(url.expose())
}

/// Whether an error says that the database is away or overwhelmed, not that the statement was wrong: worth a retry.
#[must_use]
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => {
            true
        }
        // 08: connection; 53: out of resources; 57: operator intervention (shutdown, startup); 40: serialisation, deadlock.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

/// Whether the database answers, for a probe that sets its own time limit.
///
/// # Errors
/// Those of the database.
pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::Connection::ping(&mut *pool.acquire().await?).await
}

/// How a page of a list begins: after the row with this time and id, newest first.
#[derive(Debug, Clone)]
pub struct After {
    /// The last row's time.
    pub at: crate::clock::Timestamp,
    /// The last row's id.
    pub id: String,
}

/// A count or size from a `bigint`, which our CHECKs keep from being negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A count or size for a `bigint`; what does not fit is beyond any recording.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
