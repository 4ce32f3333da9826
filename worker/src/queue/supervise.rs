//! Starts the queue's tasks, watches them, and ends them in order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    sync::{Notify, Semaphore, SetOnce, mpsc},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Names, QueueError, QueueSettings, Registered,
    attempt::StopReason,
    cron::Cron,
    driver,
    execute::Executor,
    fetch::Fetcher,
    ledger::Settled,
    metrics,
    pulse::Pulse,
    roster::Roster,
    settle,
    wake::{self, Bells},
};

/// The queue's own connections: one listens, one beats, one polls, one settles, and two are left for claims, timetables and
/// gauges, which are short and may wait for each other.
const OWN_CONNECTIONS: u32 = 6;
/// How long a call waits for one of them: less than half a lease.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// After the last job was cancelled, how long its outcome may take to be written. Longer than one stuck call; what is not
/// written by then is rescued by others when the lease runs out.
const LAST_WORDS: Duration = Duration::from_secs(12);

/// See [`Runner::run`](super::Runner::run).
pub(super) async fn run(
    pool: PgPool,
    settings: Arc<QueueSettings>,
    queues: Vec<Registered>,
    crons: Vec<Cron>,
    shutdown: CancellationToken,
) -> Result<(), QueueError> {
    let db = own_pool(&pool);
    let roster = Arc::new(Roster::default());
    // Cancelled last: heartbeat and settler must outlive every job.
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let names = Arc::new(names(&settings, &queues));
    let bells = Arc::new(Bells {
        queues: queues.iter().map(|one| (one.queue, Arc::default())).collect::<HashMap<_, Arc<Notify>>>(),
        cancels: Arc::default(),
    });
    let (outcomes, to_settle) = mpsc::channel(settle::OUTCOMES_WAITING_MAX);

    let registered = Arc::default();
    let mut beside = JoinSet::new();
    let pulse = Pulse {
        db: db.clone(),
        names: Arc::clone(&names),
        roster: Arc::clone(&roster),
        every: settings.heartbeat,
        lease: settings.lease,
        look_now: Arc::clone(&bells.cancels),
        registered: Arc::clone(&registered),
        outcomes: outcomes.downgrade(),
    };
    spawn(&mut beside, pulse.run(stop.clone()));
    spawn(&mut beside, wake::listen(db.clone(), Arc::clone(&bells), stop.clone()));
    spawn(&mut beside, metrics::watch(db.clone(), stop.clone()));
    for cron in crons {
        // No new ticks once the shutdown began.
        let (db, shutdown, stop) = (db.clone(), shutdown.clone(), stop.clone());
        spawn(&mut beside, async move {
            cron.run(db, shutdown).await;
            stop.cancelled().await;
        });
    }
    beside.spawn(wake::poll(
        db.clone(),
        Arc::clone(&names),
        Arc::clone(&bells),
        settings.poll,
        settings.watchdog,
        stop.clone(),
    ));

    let mut work = JoinSet::new();
    spawn(&mut work, settle::run(db.clone(), Arc::clone(&roster), Arc::clone(&names), to_settle));
    let serve = Serve {
        db,
        settings: &settings,
        names: &names,
        roster: &roster,
        bells: &bells,
        registered: &registered,
        shutdown: &shutdown,
    };
    for queue in queues {
        serve.start(&mut work, queue, outcomes.clone());
    }
    drop(outcomes);

    tracing::info!(queues = ?names.queues, "serving {} queues", names.queues.len());
    tokio::select! {
        ended = beside.join_next() => return Err(ended_early(ended)),
        ended = work.join_next(), if !shutdown.is_cancelled() => {
            if !shutdown.is_cancelled() {
                return Err(ended_early(ended));
            }
        }
        () = shutdown.cancelled() => {}
    }
    tokio::select! {
        ended = beside.join_next() => Err(ended_early(ended)),
        ended = drain(work, &roster, &settings) => ended,
    }
}

/// Waits for the running jobs, and stops them when the grace is over.
async fn drain(
    mut work: JoinSet<Result<(), QueueError>>,
    roster: &Roster,
    settings: &QueueSettings,
) -> Result<(), QueueError> {
    if let Ok(ended) = tokio::time::timeout(settings.shutdown_grace, join_all(&mut work)).await {
        return ended;
    }
    roster.stop_all(StopReason::Shutdown);
    let last = settings.cancel_patience + LAST_WORDS;
    match tokio::time::timeout(last, join_all(&mut work)).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::error!("the outcomes of {} jobs could not be written", roster.snapshot().len());
            Ok(())
        }
    }
}

async fn join_all(work: &mut JoinSet<Result<(), QueueError>>) -> Result<(), QueueError> {
    while let Some(ended) = work.join_next().await {
        flatten(ended)?;
    }
    Ok(())
}

/// What every served queue shares.
struct Serve<'a> {
    db: PgPool,
    settings: &'a QueueSettings,
    names: &'a Names,
    roster: &'a Arc<Roster>,
    bells: &'a Bells,
    registered: &'a Arc<SetOnce<()>>,
    shutdown: &'a CancellationToken,
}

impl Serve<'_> {
    fn start(
        &self,
        work: &mut JoinSet<Result<(), QueueError>>,
        queue: Registered,
        outcomes: mpsc::Sender<Settled>,
    ) {
        let at = self.names.queues.iter().position(|name| name == queue.queue);
        let worker: Arc<str> =
            at.map(|at| self.names.workers[at].as_str()).expect("every registered queue has a name").into();
        let (feed, claimed) = mpsc::channel(queue.concurrency);
        let fetcher = Fetcher {
            db: self.db.clone(),
            queue: queue.queue,
            worker: Arc::clone(&worker),
            slots: Arc::new(Semaphore::new(queue.concurrency)),
            bell: Arc::clone(&self.bells.queues[queue.queue]),
            roster: Arc::clone(self.roster),
            registered: Arc::clone(self.registered),
            feed,
            shutdown: self.shutdown.clone(),
        };
        let executor = Executor {
            queue: queue.queue,
            timeout: queue.timeout,
            cancel_patience: self.settings.cancel_patience,
            handler: queue.handler,
            shutdown: self.shutdown.clone(),
            outcomes,
        };
        spawn(work, fetcher.run());
        work.spawn(driver::drive(&worker, claimed, Arc::new(executor)));
    }
}

fn spawn(tasks: &mut JoinSet<Result<(), QueueError>>, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        Ok(())
    });
}

/// A pool of the queue's own, to the same database.
fn own_pool(pool: &PgPool) -> PgPool {
    PgPoolOptions::new()
        .max_connections(OWN_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// A name for each queue, new at every start: a name that came back would keep its dead predecessor's jobs alive.
fn names(settings: &QueueSettings, queues: &[Registered]) -> Names {
    let start = ulid::Ulid::generate();
    let name = |one: &Registered| format!("{}:{}:{start}", settings.worker_name, one.queue);
    Names {
        workers: queues.iter().map(name).collect(),
        queues: queues.iter().map(|one| one.queue.to_owned()).collect(),
    }
}

type Joined = Result<Result<(), QueueError>, JoinError>;

fn ended_early(ended: Option<Joined>) -> QueueError {
    match ended.map(flatten) {
        Some(Err(error)) => error,
        Some(Ok(())) | None => QueueError::Task("ended without an error".to_owned()),
    }
}

fn flatten(ended: Joined) -> Result<(), QueueError> {
    ended.unwrap_or_else(|error| Err(QueueError::Task(error.to_string())))
}
