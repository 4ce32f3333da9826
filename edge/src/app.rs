//! What handlers share: one cheap clone per request.

use std::sync::Arc;

use axum::extract::FromRef;
use shared::clock::SharedClock;
use shared::lifecycle::Tasks;
use shared::storage::Storages;
use sqlx::PgPool;

use crate::auth::Auth;
use crate::error::ApiError;
use crate::http::limits::Limits;
use crate::http::links::Links;
use crate::http::metrics::Metrics;
use crate::ingest::Ingest;
use crate::recordings::Starter;
use crate::rooms::Rooms;
use crate::settings::Settings;

/// Everything that a handler may need.
#[derive(Clone, FromRef)]
pub struct App {
    /// The database.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// The environment, as it was at the start.
    pub settings: Arc<Settings>,
    /// Who calls.
    pub auth: Auth,
    /// The capture.
    pub ingest: Ingest,
    /// Who is in which call.
    pub(crate) rooms: Rooms,
    /// Finished files.
    pub storage: Storages,
    /// What is counted of requests, and everything that `/metrics` shows.
    pub metrics: Metrics,
    /// How often somebody may ask.
    pub limits: Limits,
    /// Addresses of our own routes.
    pub links: Links,
    /// The tasks of the process, and whether it ends.
    pub tasks: Tasks,
}

impl App {
    /// What starts recordings.
    pub(crate) fn starter(&self) -> Starter {
        Starter {
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            ingest: self.ingest.clone(),
            max_duration: self.settings.ingest.max_duration,
        }
    }

    /// Runs a change to its end even if its caller goes away in the middle: between a commit and what must follow it
    /// there must be no point at which a dropped connection drops the rest.
    ///
    /// # Errors
    /// The change's own, or `internal` when it panicked.
    pub async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let span = tracing::Span::current();
        let task = self.tasks.tracker.spawn(tracing::Instrument::instrument(change, span));
        task.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }
}
