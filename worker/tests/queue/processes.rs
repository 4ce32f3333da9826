//! Workers that are processes of their own: killed, paused, ended.

use std::{path::PathBuf, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use shared::{db::jobs::JobState, jobs::Job};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::Instant,
};
use worker::queue::QueueSettings;

use crate::support::{Bench, PATIENCE, outcomes, quick, start};

/// The errands that `examples/queue_process.rs` runs.
#[derive(Serialize, Deserialize)]
struct Errand {
    what: String,
}

impl Job for Errand {
    const QUEUE: &'static str = "errand";
    const MAX_ATTEMPTS: u32 = 3;
}

fn errand(what: &str) -> Errand {
    Errand { what: what.to_owned() }
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    #[expect(clippy::disallowed_methods, reason = "the process under test")]
    fn start(bench: &Bench, name: &str, pace: &[&str]) -> Self {
        let mut child = tokio::process::Command::new(example())
            .args([bench.database.url.as_str(), name])
            .args(pace)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the examples are built with the tests");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn says(&mut self, word: &str) {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it speaks in time");
        assert_eq!(line.unwrap().as_deref(), Some(word));
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// `target/debug/deps/queue-…` stands beside `target/debug/examples/`.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/queue_process")
}

/// A worker in this process whose errands succeed at once.
fn helper(bench: &Bench, settings: QueueSettings) -> crate::support::Worker {
    let runner = worker::queue::Runner::new(bench.db.clone(), settings, ());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let runner = runner.register(1, Duration::from_secs(60), |(), _: Errand, _| async { Ok(()) });
    crate::support::Worker { ended: tokio::spawn(runner.run(shutdown.clone())), shutdown }
}

#[tokio::test]
async fn the_job_of_a_killed_worker_runs_elsewhere_within_thirty_seconds() {
    let bench = Bench::new().await;
    let mut process = Process::start(&bench, "victim", &[]);
    let id = bench.enqueue(&errand("hang")).await;
    process.says("started").await;
    let survivor = helper(&bench, QueueSettings::default());
    process.signal(Signal::SIGKILL);
    let killed = Instant::now();
    let (job, attempts) = bench.reaches(&id, JobState::Done).await;
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    assert_eq!((job.attempts, outcomes(&attempts)), (2, vec!["lost", "done"]));
    assert_eq!(attempts[0].error.as_deref(), Some("worker lost"));
    survivor.stop().await;
}

#[tokio::test]
async fn a_job_that_kills_its_process_is_dead_after_its_last_attempt() {
    let bench = Bench::new().await;
    let id = bench.enqueue(&errand("exit")).await;
    for _ in 0..Errand::MAX_ATTEMPTS {
        let mut process = Process::start(&bench, "fragile", &["fast"]);
        process.says("started").await;
        tokio::time::timeout(PATIENCE, process.child.wait()).await.expect("it dies").unwrap();
    }
    // Rescues, and runs nothing itself: the attempts are used up.
    let rescuer = start(bench.runner("rescuer", quick(), 1));
    let (job, attempts) = bench.reaches(&id, JobState::Dead).await;
    assert_eq!((job.attempts, outcomes(&attempts)), (3, vec!["lost"; 3]));
    rescuer.stop().await;
}

#[tokio::test]
async fn a_paused_worker_loses_its_job_is_told_and_cannot_write_any_more() {
    let bench = Bench::new().await;
    let mut process = Process::start(&bench, "sleeper", &["fast"]);
    let id = bench.enqueue(&errand("hang")).await;
    process.says("started").await;
    process.signal(Signal::SIGSTOP);
    let taker = helper(&bench, quick());
    let (job, _) = bench.reaches(&id, JobState::Done).await;
    process.signal(Signal::SIGCONT);
    process.says("cancelled").await;
    process.signal(Signal::SIGTERM);
    let ended = tokio::time::timeout(PATIENCE, process.child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success());
    let (after, attempts) = bench.get(&id).await;
    assert_eq!((after.state, after.worker), (JobState::Done, job.worker));
    assert_eq!(outcomes(&attempts), ["lost", "done"]);
    taker.stop().await;
}
