//! `worker`: makes finished files from recordings. `worker migrate` prepares the database, `worker run` takes jobs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::env::{Env, EnvError, WRONG_SETTINGS};
use shared::lifecycle;
use shared::telemetry::{self, LogSettings};
use worker::{Settings, Worker};

#[derive(Parser)]
#[command(name = "worker", version, about = "Makes finished files from Callreel's recordings.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Brings the database to this version's tables; may run anywhere, at any time, any number of times at once.
    Migrate,
    /// Takes jobs until it is told to stop (the default).
    Run,
}

#[tokio::main]
#[expect(
    clippy::print_stderr,
    reason = "the one line about a setting that is wrong comes before there is a log"
)]
async fn main() -> ExitCode {
    let env = Env::from_process();
    let done = match Arguments::parse().command.unwrap_or(Command::Run) {
        Command::Migrate => migrate(&env).await,
        Command::Run => run(&env).await,
    };
    done.unwrap_or_else(|error| match error.downcast_ref::<EnvError>() {
        Some(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(WRONG_SETTINGS)
        }
        None => {
            eprintln!("the worker cannot run: {error:#}");
            ExitCode::FAILURE
        }
    })
}

async fn run(env: &Env) -> anyhow::Result<ExitCode> {
    let settings = Settings::from_env(env)?;
    telemetry::init(&settings.shared.log);
    Ok(Worker::bind(settings).await?.run_until(lifecycle::signals()?).await)
}

async fn migrate(env: &Env) -> anyhow::Result<ExitCode> {
    telemetry::init(&LogSettings::from_env(env)?);
    let db = shared::db::pool(&shared::settings::database_url(env)?, 2)?;
    worker::queue::migrate(&db).await?;
    tracing::info!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}
