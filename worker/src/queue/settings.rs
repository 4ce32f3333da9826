//! How the queue is run. Every wait that a test or an operator may want to change, with the reason for its default.

use std::{collections::BTreeSet, time::Duration};

/// Which queues a process serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueueFilter {
    /// Every queue that has a handler.
    #[default]
    All,
    /// These only. The queue's own cleaning, `purge-jobs`, must be served by some process.
    Only(BTreeSet<String>),
}

impl QueueFilter {
    pub(super) fn has(&self, queue: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(queue),
        }
    }
}

/// How the queue is run.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Shown to operators as a part of each worker's name, as a host name. It need not be unique.
    pub worker_name: String,
    /// Which of the registered queues are served.
    pub queues: QueueFilter,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// A worker that was not heard of for this long is lost, and its jobs are rescued. At least four heartbeats.
    pub lease: Duration,
    /// Between two polls for jobs that no notification announces.
    pub poll: Duration,
    /// How long running jobs may go on after the shutdown began.
    pub shutdown_grace: Duration,
    /// How long a job may take to clean up after its token fired, before it is dropped.
    pub cancel_patience: Duration,
    /// How long polls may fail before the process ends.
    pub watchdog: Duration,
    /// How long done jobs are kept (`JOBS_KEEP`).
    pub jobs_keep: Duration,
}

impl Default for QueueSettings {
    /// A killed worker's jobs run elsewhere within 30 s: lease 20 s, noticed at the next heartbeat (5 s), first backoff at most
    /// 2 s, poll 0.5 s.
    fn default() -> Self {
        Self {
            worker_name: "worker".to_owned(),
            queues: QueueFilter::All,
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(20),
            // A job with a time starts within a second of it; one indexed query costs about 0.1 ms.
            poll: Duration::from_millis(500),
            shutdown_grace: Duration::from_secs(25), // platforms send SIGKILL 30 s after SIGTERM
            cancel_patience: Duration::from_secs(3),
            watchdog: Duration::from_secs(60),
            jobs_keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
