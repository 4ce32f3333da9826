//! Brings the database up to date: apalis' tables first, ours after them. Safe from several processes at once, and twice.

use sqlx::{Connection as _, PgConnection, PgPool};

/// The advisory lock that one migrating process holds: "callreel" in ASCII. sqlx takes a lock of its own for each of the two
/// sets; this one keeps another process from starting with the second set before the first is complete.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"callreel");

/// Why the database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection, or no lock.
    #[error("cannot lock the database for migration: {0}")]
    Database(#[from] sqlx::Error),
    /// apalis' own migrations.
    #[error("cannot migrate the queue's tables: {0}")]
    Queue(#[from] apalis_postgres::Error),
    /// Ours.
    #[error("cannot migrate: {0}")]
    Ours(#[from] sqlx::migrate::MigrateError),
}

/// Runs every migration that is missing.
///
/// # Errors
/// See [`MigrateError`]; what was applied before the error stays.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    // A connection of its own, closed at the end: the lock goes with it, whatever happens.
    let mut lock = PgConnection::connect_with(&pool.connect_options()).await?;
    sqlx::query!("select pg_advisory_lock($1)", MIGRATION_LOCK).execute(&mut lock).await?;
    super::driver::migrate(pool).await?;
    shared::db::MIGRATOR.run(pool).await?;
    lock.close().await?;
    Ok(())
}
