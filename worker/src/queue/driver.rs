//! Where jobs meet apalis: the only file that knows its crates. Claimed rows go in at one end, apalis' worker calls the
//! executor at the other.
//!
//! Decision: a [`Backend`] of our own rather than `Persistence` over `Persisted`. apalis' worker then never sees the database:
//! its backend is a channel that cannot fail, so no database error can end it or drop a running job's future, and no ack,
//! heartbeat or lock waits behind its poll loop. Claims, acks and heartbeats are tasks beside it (`fetch`, `settle`, `pulse`).
//! What apalis gives here: the tables, the worker loop, the task type, and tower layers around a job.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    error::BoxDynError,
    task::{Task, builder::TaskBuilder},
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tower::layer::util::Identity;

use super::{QueueError, execute::Executor, fetch::Claimed};

/// Gives apalis what [`fetch`](super::fetch) claimed. The channel is bounded by the queue's concurrency: a claimed row always
/// has a free slot.
struct Feed(mpsc::Receiver<Claimed>);

impl Backend for Feed {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        self.0.poll_recv(cx).map(|claimed| claimed.map(|claimed| Ok(TaskBuilder::new(claimed).build())))
    }

    /// Called when the channel is closed and every job has ended. apalis' worker then waits for ever for an order to stop,
    /// unless it gets one here.
    fn poll_close(&mut self, _: &mut Context<'_>, worker: &WorkerContext) -> Poll<Result<(), Infallible>> {
        // Refused only by a worker that never started.
        let _ = worker.stop();
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Feed {
    type Args = Claimed;
    type Id = ();
    /// Tasks arrive as they are: the executor decodes, because a payload that does not decode is an attempt, not an error of
    /// the backend.
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Runs what arrives in `claimed` until the channel is closed and every job has ended. Boxed here, where the types are known:
/// inside an `async` block the compiler cannot prove the worker's future `Send`.
pub(super) fn drive(
    worker: &str,
    claimed: mpsc::Receiver<Claimed>,
    executor: Arc<Executor>,
) -> BoxFuture<'static, Result<(), QueueError>> {
    let handler = move |claimed: Claimed| {
        let executor = Arc::clone(&executor);
        async move {
            executor.execute(claimed).await;
            Ok::<(), BoxDynError>(())
        }
    };
    let worker = WorkerBuilder::new(worker).backend(Feed(claimed)).build(handler);
    worker.run().map_err(|error| QueueError::Worker(error.to_string())).boxed()
}

/// Brings apalis' own tables up to date. They keep their history in `apalis._sqlx_migrations`, ours in `_sqlx_migrations`.
pub(super) async fn migrate(pool: &PgPool) -> Result<(), apalis_postgres::Error> {
    apalis_postgres::PostgresStorage::setup(pool).await
}
