//! The edge's process: reads the environment, runs the library until a signal, says how it ended.

use std::process::ExitCode;
use std::sync::Arc;

use edge::{Edge, Settings};
use shared::clock::SystemClock;
use shared::env::{Env, EnvError, WRONG_SETTINGS};
use shared::lifecycle::{self, Tasks};
use shared::telemetry;
use tracing::error;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::from_env(&Env::from_process()) {
        Ok(settings) => settings,
        Err(wrong) => {
            complain(&wrong);
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    telemetry::init(&settings.shared.log);
    run(settings).await.unwrap_or_else(|error| {
        if let Some(wrong) = error.downcast_ref::<EnvError>() {
            complain(wrong);
            return ExitCode::from(WRONG_SETTINGS);
        }
        error!("the edge cannot run: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = lifecycle::signals()?;
    let (tasks, grace) = (Tasks::default(), settings.shutdown_grace);
    let edge = tokio::select! {
        edge = Edge::bind(settings, Arc::new(SystemClock), tasks.clone()) => edge?,
        () = signals.recv() => return Ok(ExitCode::SUCCESS),
    };
    edge.serve();
    Ok(tasks.run_until(signals, grace).await)
}

#[expect(clippy::print_stderr, reason = "one line that is no log line: logging is a setting, too")]
fn complain(wrong: &impl std::fmt::Display) {
    eprintln!("{wrong}");
}
