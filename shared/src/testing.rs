//! A fresh, empty database for each test, in the cluster that `tests/run.sh` starts, and its changes as signals; and
//! what tests capture. Compiled for tests only.

mod changes;
mod streams;

pub use changes::Changes;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, postgres::PgConnectOptions};
pub use streams::opus;

/// Names the cluster: a connection URL with the right to create databases.
pub const CLUSTER_VARIABLE: &str = "TEST_DATABASE_URL";

/// A database of one test. It is left behind: the cluster is thrown away as a whole.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// How to connect to it.
    pub url: String,
    name: String,
    cluster: PgConnectOptions,
}

impl TestDatabase {
    /// Creates an empty database; migrating it is the caller's part.
    ///
    /// # Panics
    /// When [`CLUSTER_VARIABLE`] is not set, or names no cluster.
    #[expect(clippy::disallowed_methods, reason = "the test's only setting, set by tests/run.sh")]
    pub async fn create() -> Self {
        let Ok(cluster_url) = std::env::var(CLUSTER_VARIABLE) else {
            panic!(
                "this test needs Postgres: run tests/run.sh, which starts one and sets {CLUSTER_VARIABLE}"
            );
        };
        let name = format!("test_{}", ulid::Ulid::generate().to_string().to_lowercase());
        let cluster: PgConnectOptions = cluster_url.parse().expect("a connection URL");
        let database = Self { url: with_database(&cluster_url, &name), name, cluster };
        database.in_cluster(&format!("create database {}", database.name)).await;
        database
    }

    /// A pool of `connections` to it.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn pool(&self, connections: u32) -> PgPool {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(connections);
        options.connect(&self.url).await.expect("the database was just created")
    }

    /// An outage: every connection is cut and none is accepted until [`Self::restore`].
    pub async fn cut_off(&self) {
        self.in_cluster(&format!("alter database {} with allow_connections false", self.name)).await;
        self.kill_connections().await;
    }

    /// Ends the outage.
    pub async fn restore(&self) {
        self.in_cluster(&format!("alter database {} with allow_connections true", self.name)).await;
    }

    /// Cuts every connection once.
    pub async fn kill_connections(&self) {
        self.in_cluster(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            self.name
        ))
        .await;
    }

    async fn in_cluster(&self, statement: &str) {
        let mut connection = PgConnection::connect_with(&self.cluster).await.expect("the cluster runs");
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        connection.execute(sqlx::raw_sql(statement)).await.expect("the cluster lets tests manage databases");
        let _ = connection.close().await;
    }
}

/// The cluster's URL with another database: everything up to the path, and its query.
fn with_database(cluster_url: &str, name: &str) -> String {
    let (address, query) = cluster_url.split_once('?').map_or((cluster_url, None), |(a, q)| (a, Some(q)));
    let (scheme, rest) = address.split_once("://").expect("a URL has a scheme");
    let host = rest.split('/').next().unwrap_or(rest);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{host}/{name}{query}")
}
