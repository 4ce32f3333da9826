//! A worker process that tests can kill, pause and watch: `queue_process URL NAME [fast]`. What happens in it is printed, one
//! word per line.

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::jobs::Job;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use worker::{
    failure::Failure,
    queue::{Attempt, QueueSettings, Runner},
};

/// What the tests enqueue by the same queue name and shape.
#[derive(Debug, Serialize, Deserialize)]
struct Errand {
    what: String,
}

impl Job for Errand {
    const QUEUE: &'static str = "errand";
    const MAX_ATTEMPTS: u32 = 3;
}

async fn run((): (), errand: Errand, attempt: Attempt) -> Result<(), Failure> {
    say("started");
    match errand.what.as_str() {
        "exit" => std::process::exit(9),
        "hang" => {
            attempt.cancel.cancelled().await;
            say("cancelled");
            Err(Failure::Retry(anyhow::anyhow!("stopped")))
        }
        _ => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn say(word: &str) {
    println!("{word}");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("no URL")?;
    let worker_name = arguments.next().context("no name")?;
    let mut settings = QueueSettings { worker_name, ..QueueSettings::default() };
    if arguments.next().is_some() {
        settings.heartbeat = Duration::from_millis(200);
        settings.lease = Duration::from_secs(1);
    }
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&url)?;
    let shutdown = CancellationToken::new();
    let signal = shutdown.clone();
    tokio::spawn(async move {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        term.recv().await;
        signal.cancel();
        Ok::<(), std::io::Error>(())
    });
    Runner::new(pool, settings, ()).register(1, Duration::from_secs(60), run).run(shutdown).await?;
    Ok(())
}
