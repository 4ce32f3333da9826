//! The worker's own settings, beside those it shares with the edge.

use std::path::PathBuf;
use std::time::Duration;

use shared::env::{Env, EnvError};
use shared::settings::Settings as Shared;

use crate::queue::{QueueFilter, QueueSettings};

/// Connections that jobs may use, beside the queue's own few.
const DATABASE_MAX_CONNECTIONS: u32 = 10;
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
    /// `SWEEP_PATIENCE`: how long after a deadline, and after the start, an edge is left to act itself.
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
            concurrency: at_least_one(env, "WORKER_CONCURRENCY", cores)?,
            ffmpeg_threads: at_least_one(env, "FFMPEG_THREADS", 1)?,
            scratch_dir: env.optional("SCRATCH_DIR").unwrap_or("data/scratch").into(),
            metrics_port: env.parsed("METRICS_PORT", METRICS_PORT, "a port number")?,
            max_connections: env.parsed("DATABASE_MAX_CONNECTIONS", DATABASE_MAX_CONNECTIONS, "a number")?,
            sweep_patience: env.duration("SWEEP_PATIENCE", SWEEP_PATIENCE)?,
            queue: queue(env)?,
        })
    }
}

fn queue(env: &Env) -> Result<QueueSettings, EnvError> {
    let default = QueueSettings::default();
    let names = env.list("WORKER_QUEUES");
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Ok(QueueSettings {
        worker_name: env.optional("WORKER_NAME").map(str::to_owned).or(host).unwrap_or(default.worker_name),
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

fn at_least_one(env: &Env, name: &str, default: usize) -> Result<usize, EnvError> {
    match env.parsed(name, default, "a number from 1")? {
        0 => Err(EnvError::wants(name, "a number from 1")),
        number => Ok(number),
    }
}
