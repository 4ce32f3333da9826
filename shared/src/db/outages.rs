//! Whether the first storage takes files, as the workers find out: they share it, so that each does not wait anew.

use sqlx::PgExecutor;

use crate::clock::Timestamp;

/// Notes that the first storage took no file, since `since` at the latest, and why. Returns since when it has taken none.
///
/// # Errors
/// Those of the database.
pub async fn begin(db: impl PgExecutor<'_>, since: Timestamp, reason: &str) -> sqlx::Result<Timestamp> {
    sqlx::query_scalar!(
        "insert into storage_outage (destination, since, reason) values ('main', $1, $2)
         on conflict (destination) do update set since = least(storage_outage.since, excluded.since)
         returning since",
        since,
        reason,
    )
    .fetch_one(db)
    .await
}

/// Notes that it has taken one.
///
/// # Errors
/// Those of the database.
pub async fn end(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("delete from storage_outage where destination = 'main'").execute(db).await?;
    Ok(())
}
