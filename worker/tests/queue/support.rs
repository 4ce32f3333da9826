//! A database, workers in this process, and jobs that do as they are told.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    db::jobs::{AttemptRow, JobRow, JobState},
    jobs::{self, Job, JobId},
    testing::TestDatabase,
};
use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use worker::{
    failure::Failure,
    queue::{Attempt, QueueError, QueueSettings, Runner, migrate},
};

/// Nothing that these tests wait for may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The channel on which a test's database tells that a row of the queue has changed.
const CHANGED: &str = "test_changed";
const TELL_CHANGES: &str = "
    create function tell_change() returns trigger language plpgsql as
        $$ begin perform pg_notify('test_changed', ''); return null; end $$;
    create trigger tell_change after insert or update or delete on apalis.jobs
        for each statement execute function tell_change();
    create trigger tell_change after insert or update or delete on apalis.workers
        for each statement execute function tell_change();
    create trigger tell_change after insert or update or delete on job_attempts
        for each statement execute function tell_change();";

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
        sqlx::raw_sql(TELL_CHANGES).execute(&db).await.unwrap();
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
        let looking = async || Some(self.get(id).await).filter(|(job, _)| job.state == state);
        self.when(&format!("job {id} to be {state}"), looking).await
    }

    /// What `look` finds in the rows, as soon as it finds it: it looks anew whenever one has changed.
    pub(crate) async fn when<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let mut changes = PgListener::connect(&self.database.url).await.unwrap();
        changes.listen(CHANGED).await.unwrap();
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                // `None`: the connection was cut; what changed meanwhile is seen now.
                let _ = changes.try_recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("still waiting for {what}"))
    }
}

/// What is logged on this thread, which is where a test's workers run, from `level` on.
pub(crate) struct Log {
    lines: mpsc::UnboundedReceiver<String>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    pub(crate) fn from(level: tracing::Level) -> Self {
        let (send, lines) = mpsc::unbounded_channel();
        let writer = move || Lines(send.clone());
        let subscriber =
            tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(writer).finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The next line that has these words.
    pub(crate) async fn line_with(&mut self, words: &str) -> String {
        let looking = async {
            loop {
                let line = self.lines.recv().await.expect("the subscriber is kept here");
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("nobody said: {words}"))
    }

    /// What was said and not yet read.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }
}

/// Sends on what is written: one line for each event.
struct Lines(mpsc::UnboundedSender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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
