//! The worker's own settings, beside those it shares with the edge.

use std::path::PathBuf;
use std::time::Duration;

use shared::env::{Env, EnvError};
use shared::settings::{Settings as Shared, database_max_connections};

use crate::jobs::QUEUES;
use crate::queue::{QueueFilter, QueueSettings};

/// Connections that jobs may use, beside the queue's own few.
const DATABASE_MAX_CONNECTIONS: u32 = 10;
/// The most jobs of a kind at once: the queue was measured with up to 200.
const CONCURRENCY_MAX: usize = 200;
/// The most threads of one FFmpeg: its encoders take no more than 64.
const FFMPEG_THREADS_MAX: usize = 64;
/// How long an edge is left to act itself: it may be restarting, or waiting for its database.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Where metrics are served unless `METRICS_PORT` says otherwise.
const METRICS_PORT: u16 = 9091;

/// Everything that the worker reads from its environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Those it shares with the edge.
    pub shared: Shared,
    /// `WORKER_CONCURRENCY`: FFmpeg processes at once, per kind of job.
    pub concurrency: usize,
    /// `FFMPEG_THREADS`: threads of one encoding FFmpeg.
    pub ffmpeg_threads: usize,
    /// `SCRATCH_DIR`: where jobs work.
    pub scratch_dir: PathBuf,
    /// `METRICS_PORT`: where `/metrics` is served; 0 takes a free port.
    pub metrics_port: u16,
    /// `DATABASE_MAX_CONNECTIONS`.
    pub max_connections: u32,
    /// `SWEEP_PATIENCE`: how long after a deadline, and after the start, an edge is left to act itself; and how old an upload is
    /// at least that is given up.
    pub sweep_patience: Duration,
    /// How the queue is run.
    pub queue: QueueSettings,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first variable that is missing or wrong.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            shared: Shared::from_env(env)?,
            concurrency: env.within("WORKER_CONCURRENCY", cores.min(CONCURRENCY_MAX), 1..=CONCURRENCY_MAX)?,
            ffmpeg_threads: env.within("FFMPEG_THREADS", 1, 1..=FFMPEG_THREADS_MAX)?,
            scratch_dir: env.optional("SCRATCH_DIR")?.unwrap_or("data/scratch").into(),
            metrics_port: env.parsed("METRICS_PORT", METRICS_PORT, "a port number")?,
            max_connections: database_max_connections(env, DATABASE_MAX_CONNECTIONS)?,
            sweep_patience: env.duration("SWEEP_PATIENCE", SWEEP_PATIENCE)?,
            queue: queue(env)?,
        })
    }
}

fn queue(env: &Env) -> Result<QueueSettings, EnvError> {
    let default = QueueSettings::default();
    let names = env.list("WORKER_QUEUES")?;
    if names.iter().any(|name| !QUEUES.contains(&name.as_str())) {
        return Err(EnvError::wants("WORKER_QUEUES", &format!("a comma list of {}", QUEUES.join(", "))));
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Ok(QueueSettings {
        worker_name: env.optional("WORKER_NAME")?.map(str::to_owned).or(host).unwrap_or(default.worker_name),
        queues: if names.is_empty() {
            QueueFilter::All
        } else {
            QueueFilter::Only(names.into_iter().collect())
        },
        shutdown_grace: env.duration("SHUTDOWN_GRACE", default.shutdown_grace)?,
        jobs_keep: env.duration("JOBS_KEEP", default.jobs_keep)?,
        ..QueueSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> Result<Settings, String> {
        let env = Env::from_pairs([("DATABASE_URL", "postgres://localhost/x"), (name, value)]);
        Settings::from_env(&env).map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_value_is_named_and_never_shown() {
        for (name, value) in [
            ("WORKER_CONCURRENCY", "0"),
            ("WORKER_CONCURRENCY", "99999999"),
            ("FFMPEG_THREADS", "0"),
            ("METRICS_PORT", "hunter2"),
            ("DATABASE_MAX_CONNECTIONS", "0"),
            ("DATABASE_URL", "postgres://u@h:hunter2/x"),
            ("WORKER_QUEUES", "mux-recording,hunter2"),
            ("WORKER_QUEUES", "hunter2"),
            ("SHUTDOWN_GRACE", "hunter2"),
        ] {
            let line = settings(name, value).unwrap_err();
            assert!(line.starts_with(name) && !line.contains("hunter2") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn some_queues_may_be_named() {
        let read = settings("WORKER_QUEUES", "mux-recording, purge-jobs").unwrap();
        let named = ["mux-recording", "purge-jobs"].map(str::to_owned);
        assert_eq!(read.queue.queues, QueueFilter::Only(named.into()));
    }
}
