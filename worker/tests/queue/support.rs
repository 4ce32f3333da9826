//! A database, workers in this process, and jobs that do as they are told.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    db::jobs::{AttemptRow, JobRow, JobState},
    jobs::{self, Job, JobId},
    testing::TestDatabase,
};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use worker::{
    failure::Failure,
    queue::{Attempt, QueueError, QueueSettings, Runner, migrate},
};

/// Nothing that these tests wait for may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What a job does when it runs.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) enum What {
    Succeed,
    Fail,
    FailAndWait(Duration),
    GiveUp,
    Panic,
    /// Runs until the test lets it go, whatever its token says.
    Stubborn,
    /// Runs until the test lets it go or its token fires.
    Wait,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) what: What,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recording: Option<String>,
}

impl Job for Errand {
    const QUEUE: &'static str = "errand";
    const MAX_ATTEMPTS: u32 = 3;

    fn key(&self) -> Option<String> {
        self.key.clone()
    }
}

pub(crate) fn errand(what: What) -> Errand {
    Errand { what, key: None, recording: None }
}

/// What happened in a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Started { job: JobId, attempt: u32, worker: &'static str },
    Cancelled(JobId),
}

#[derive(Clone)]
pub(crate) struct Ctx {
    name: &'static str,
    events: mpsc::UnboundedSender<Event>,
    go: Arc<Semaphore>,
}

async fn run(ctx: Ctx, errand: Errand, attempt: Attempt) -> Result<(), Failure> {
    let (job, number) = (attempt.job.clone(), attempt.number);
    let _ = ctx.events.send(Event::Started { job: job.clone(), attempt: number, worker: ctx.name });
    attempt.report_progress(40);
    match errand.what {
        What::Succeed => Ok(()),
        What::Fail => Err(anyhow::anyhow!("disk on fire").into()),
        What::FailAndWait(wait) => Err(Failure::RetryIn(wait, anyhow::anyhow!("come back later"))),
        What::GiveUp => Err(Failure::GiveUp(anyhow::anyhow!("no such track"))),
        What::Panic => panic!("kaboom"),
        What::Stubborn => {
            ctx.go.acquire().await.expect("never closed").forget();
            Ok(())
        }
        What::Wait => {
            tokio::select! {
                permit = ctx.go.acquire() => { permit.expect("never closed").forget(); Ok(()) }
                () = attempt.cancel.cancelled() => {
                    let _ = ctx.events.send(Event::Cancelled(job));
                    Err(anyhow::anyhow!("stopped").into())
                }
            }
        }
    }
}

/// A database with everything that happens in its workers.
pub(crate) struct Bench {
    pub(crate) database: TestDatabase,
    pub(crate) db: PgPool,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    send: mpsc::UnboundedSender<Event>,
    /// One permit lets one waiting job go.
    pub(crate) go: Arc<Semaphore>,
}

/// A worker that runs in this process.
pub(crate) struct Worker {
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), QueueError>>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

/// Settings with short waits.
pub(crate) fn quick() -> QueueSettings {
    QueueSettings {
        heartbeat: Duration::from_millis(200),
        lease: Duration::from_secs(1),
        poll: Duration::from_millis(100),
        cancel_patience: Duration::from_millis(300),
        ..QueueSettings::default()
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let db = database.pool(5).await;
        migrate(&db).await.unwrap();
        let (send, events) = mpsc::unbounded_channel();
        Self { database, db, events, send, go: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn runner(
        &self,
        name: &'static str,
        settings: QueueSettings,
        concurrency: usize,
    ) -> Runner<Ctx> {
        let ctx = Ctx { name, events: self.send.clone(), go: Arc::clone(&self.go) };
        let settings = QueueSettings { worker_name: name.to_owned(), ..settings };
        Runner::new(self.db.clone(), settings, ctx).register(concurrency, Duration::from_secs(60), run)
    }

    pub(crate) fn start(&self, name: &'static str, settings: QueueSettings, concurrency: usize) -> Worker {
        start(self.runner(name, settings, concurrency))
    }

    pub(crate) async fn enqueue(&self, job: &impl Job) -> JobId {
        let mut connection = self.db.acquire().await.unwrap();
        jobs::enqueue(&mut connection, job).await.unwrap().expect("no such key yet")
    }

    pub(crate) async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("something happens in time").expect("the sender is kept here")
    }

    /// The job whose attempt starts next.
    pub(crate) async fn next_start(&mut self) -> (JobId, u32) {
        loop {
            if let Event::Started { job, attempt, .. } = self.event().await {
                return (job, attempt);
            }
        }
    }

    pub(crate) async fn get(&self, id: &JobId) -> (JobRow, Vec<AttemptRow>) {
        let mut connection = self.db.acquire().await.unwrap();
        shared::db::jobs::get(&mut connection, id).await.unwrap().expect("the job is there")
    }

    /// Waits until the job is in `state`.
    pub(crate) async fn reaches(&self, id: &JobId, state: JobState) -> (JobRow, Vec<AttemptRow>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (job, attempts) = self.get(id).await;
            if job.state == state {
                return (job, attempts);
            }
            assert!(Instant::now() < deadline, "job never became {state}: {job:?} {attempts:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn start(runner: Runner<Ctx>) -> Worker {
    let shutdown = CancellationToken::new();
    let ended = tokio::spawn(runner.run(shutdown.clone()));
    Worker { shutdown, ended }
}

/// Each attempt's outcome, in order.
pub(crate) fn outcomes(attempts: &[AttemptRow]) -> Vec<&str> {
    attempts.iter().map(|one| one.outcome.as_deref().unwrap_or("running")).collect()
}
