//! Whether PostgreSQL answers, and has our tables.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::{Finding, Trouble};
use crate::settings::Settings;

/// Older ones lack what our migrations use.
const VERSION_MIN: u32 = 150_000;

/// A connection of the check's own.
pub(super) async fn connect(settings: &Settings) -> Result<PgConnection, Trouble> {
    let options = settings.shared.database_url.expose().parse::<PgConnectOptions>();
    let connected = async { PgConnection::connect_with(&options?).await }.await;
    connected.map_err(|error| {
        let cure = "start PostgreSQL, or correct host, user, password and database in DATABASE_URL";
        Trouble::new(format!("PostgreSQL cannot be used: {error}"), cure)
    })
}

pub(super) async fn answers(settings: &Settings) -> Finding {
    let mut connection = connect(settings).await?;
    let failed = |error: sqlx::Error| Trouble::new(error.to_string(), "look into PostgreSQL's log");
    connection.ping().await.map_err(failed)?;
    let version = connection.server_version_num().unwrap_or(0);
    let _ = connection.close().await;
    if version < VERSION_MIN {
        let what = format!("PostgreSQL {} is too old", version / 10_000);
        return Err(Trouble::new(what, "upgrade to PostgreSQL 15 or newer"));
    }
    Ok(format!("PostgreSQL {}.{} answers", version / 10_000, version % 10_000))
}

pub(super) async fn is_migrated(settings: &Settings) -> Finding {
    let mut connection = connect(settings).await?;
    // Not checked when this is compiled: tables that are not there are what is looked for.
    let applied = "select version from _sqlx_migrations where success order by version";
    let applied: Result<Vec<i64>, _> = sqlx::query_scalar(applied).fetch_all(&mut connection).await;
    let queue = sqlx::query_scalar("select to_regclass('apalis.jobs') is not null");
    let queue: bool = queue.fetch_one(&mut connection).await.unwrap_or(false);
    let _ = connection.close().await;
    let applied = applied.unwrap_or_default();
    let known = || shared::db::MIGRATOR.iter().map(|migration| migration.version);
    let missing = known().filter(|version| !applied.contains(version)).count() + usize::from(!queue);
    if missing > 0 {
        return Err(Trouble::new(format!("{missing} migrations are missing"), "run `worker migrate`"));
    }
    match applied.iter().find(|version| known().all(|known| known != **version)) {
        Some(version) => {
            let what = format!("the database has migration {version}, which this version does not know");
            Err(Trouble::new(what, "run the version of Callreel that migrated the database, or a newer one"))
        }
        None => Ok(format!("all {} are applied", applied.len())),
    }
}
