//! Changes of rows as a signal: whoever waits for the database to become so is woken by it.

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgPool, raw_sql};

/// The channel that changes are told on.
const CHANNEL: &str = "rows_changed";

/// What changes in some tables, from its making on.
#[derive(Debug)]
pub struct Changes(PgListener);

impl Changes {
    /// Lets the tables tell, and listens.
    ///
    /// # Panics
    /// When the database is away, or has no such table.
    pub async fn of(db: &PgPool, tables: &[&str]) -> Self {
        let mut listener = PgListener::connect_with(db).await.expect("the database runs");
        listener.listen(CHANNEL).await.expect("anybody may listen");
        for table in tables {
            let telling = format!(
                "create or replace function public.tell_of_changes() returns trigger language plpgsql as
                     $$ begin notify {CHANNEL}; return null; end $$;
                 create or replace trigger tell_of_changes after insert or update or delete on {table}
                     for each statement execute function public.tell_of_changes();"
            );
            raw_sql(AssertSqlSafe(telling)).execute(db).await.expect("the tests own their tables");
        }
        Self(listener)
    }

    /// Returns after the next change; at once when one came since the last call.
    ///
    /// # Panics
    /// When the database goes away.
    pub async fn next(&mut self) {
        self.0.recv().await.expect("the database runs");
    }
}
