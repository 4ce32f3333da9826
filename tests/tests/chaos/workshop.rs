//! A system whose workers the test starts one by one, each for the queues that it wants, and its jobs as the database has them.

use std::sync::Arc;

use e2e::client::{Client, Recording, TrackKind};
use e2e::fixtures::Fixture;
use e2e::postgres::Postgres;
use e2e::program::{Program, command};
use e2e::system::{System, binary};
use serde_json::Value;

use crate::moments::until;

/// The queues of the three stages.
pub(crate) const STAGES: [&str; 3] = ["mux-recording", "make-thumbnails", "upload-recording"];

/// An edge, a database, and workers as they are needed.
pub(crate) struct Workshop {
    pub(crate) system: System,
    pub(crate) url: String,
    // Dropped after those who use it.
    _database: Option<Postgres>,
}

/// A recording and what was uploaded to it.
pub(crate) struct Recorded {
    pub(crate) recording: Recording,
    pub(crate) client: Client,
    pub(crate) fixture: Arc<Fixture>,
}

/// A job as its row has it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) outcomes: Vec<String>,
}

impl Workshop {
    /// Starts an edge.
    pub(crate) async fn open(settings: &[(&str, &str)]) -> Self {
        let database = Postgres::create().await;
        let url = database.url().to_owned();
        Self { _database: Some(database), ..Self::over(url, settings).await }
    }

    /// Starts an edge over a database that the test holds.
    pub(crate) async fn over(url: String, settings: &[(&str, &str)]) -> Self {
        let builder = System::builder().workers(0).database_url(&url);
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.set(name, *value));
        Self { system: builder.start().await, url, _database: None }
    }

    /// Starts a worker for some queues (all: none named). Returns when it takes jobs.
    pub(crate) async fn worker(&self, queues: &str, own: &[(&str, &str)]) -> Program {
        let folders = &self.system.folders;
        let mut command = command(binary("worker"));
        command.arg("run").env("DATABASE_URL", &self.url).env("METRICS_PORT", "0").env("NO_COLOR", "1");
        command.env("SPOOL_URL", folders.spool()).env("SCRATCH_DIR", folders.scratch());
        command.env("RECORDING_OUTPUT_DIR", folders.recordings()).env("WORKER_CONCURRENCY", "2");
        command.env("WORKER_QUEUES", queues).envs(own.iter().copied());
        let mut worker = Program::spawn(format!("worker {queues}"), &mut command);
        worker.line_with("worker takes jobs").await;
        worker
    }

    /// Records a fixture and stops; its first job waits then.
    pub(crate) async fn record(&self, fixture: &Arc<Fixture>, options: Value) -> Recorded {
        let client = self.system.client("ann");
        let recording = client.record(options).await;
        client.upload(&recording, TrackKind::Video, fixture).await;
        client.stop(&recording).await;
        self.reaches(&recording, "mux").await;
        Recorded { recording, client, fixture: Arc::clone(fixture) }
    }

    /// State, or stage while it is processed.
    pub(crate) async fn stage(&self, recording: &Recording) -> String {
        let found = sqlx::query_scalar(
            "select case state when 'processing' then stage else state end from recording where id = $1",
        );
        found.bind(&recording.id).fetch_one(&self.system.db).await.expect("the recording was made")
    }

    /// Waits until it is in a state, or at a stage.
    pub(crate) async fn reaches(&self, recording: &Recording, stage: &str) {
        let what = format!("{} to be {stage}", recording.id);
        until(&what, async || (self.stage(recording).await == stage).then_some(())).await;
    }

    /// A recording's job in a queue.
    pub(crate) async fn job(&self, recording: &Recording, queue: &str) -> Job {
        let found: (String, String, Vec<String>) = sqlx::query_as(
            "select j.id, j.status, array(select coalesce(outcome, 'open') from job_attempts where job_id = j.id order by id)
             from apalis.jobs j where j.job_type = $2 and job_payload(j)->>'recording' = $1",
        )
        .bind(&recording.id)
        .bind(queue)
        .fetch_one(&self.system.db)
        .await
        .unwrap_or_else(|error| panic!("{} has one job in {queue}: {error}", recording.id));
        Job { id: found.0, status: found.1, outcomes: found.2 }
    }

    /// A recording's job, as soon as a worker has taken it.
    pub(crate) async fn claimed(&self, recording: &Recording, queue: &str) -> Job {
        let looking = async || {
            let job = self.job(recording, queue).await;
            (job.outcomes.last().map(String::as_str) == Some("open")).then_some(job)
        };
        until(&format!("{queue} of {} to be claimed", recording.id), looking).await
    }

    /// Lets every waiting job wait on, for an hour.
    pub(crate) async fn hold_jobs(&self) {
        self.run(
            "update apalis.jobs set run_at = now() + interval '1 hour' where status in ('Pending', 'Failed')",
        )
        .await;
    }

    /// Lets a recording's waiting jobs run.
    pub(crate) async fn free_jobs(&self, recording: &Recording) {
        self.run(&format!(
            "update apalis.jobs j set run_at = now()
             where status in ('Pending', 'Failed') and job_payload(j)->>'recording' = '{}'",
            recording.id
        ))
        .await;
    }

    /// Lets every waiting job run.
    pub(crate) async fn free_all_jobs(&self) {
        self.run("update apalis.jobs set run_at = now() where status in ('Pending', 'Failed')").await;
    }

    /// Waits until every job of the three stages has ended.
    pub(crate) async fn all_jobs_end(&self) {
        let count = || {
            let count = "select count(*) from apalis.jobs
                         where job_type = any($1) and status not in ('Done', 'Killed')";
            sqlx::query_scalar::<_, i64>(count).bind(STAGES).fetch_one(&self.system.db)
        };
        until("the last job to end", async || matches!(count().await, Ok(0)).then_some(())).await;
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, statement: &str) {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&self.system.db).await.expect("the statement is right");
    }
}

/// Asks workers to end, and waits for that.
pub(crate) async fn dismiss(workers: impl IntoIterator<Item = Program>) {
    for mut worker in workers {
        let status = worker.term().await;
        assert!(status.success(), "{status}\n{}", worker.log());
    }
}
