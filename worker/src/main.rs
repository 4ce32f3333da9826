//! `worker`: makes finished files from recordings. `worker migrate` prepares the database, `worker run` takes jobs,
//! `worker doctor` checks what that needs, `worker capture` looks into capture logs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::env::{Env, EnvError, WRONG_SETTINGS};
use shared::lifecycle;
use shared::telemetry::{self, LogSettings};
use worker::doctor::Health;
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
    /// Checks what the worker needs, one line for each with its cure; returns 1 when something is wrong.
    Doctor,
    /// Looks into the capture logs of server tracks.
    Capture {
        #[command(subcommand)]
        look: Look,
    },
}

#[derive(Subcommand)]
enum Look {
    /// Tells what a log holds: streams, losses, sender reports, marks, damage.
    Show {
        /// A track's folder of segments, or a recording's folder of tracks.
        folder: PathBuf,
    },
    /// Writes a log's packets as a pcap file, so that Wireshark and GStreamer read them.
    Export {
        /// The file to write.
        #[arg(long, value_name = "OUT")]
        pcap: PathBuf,
        /// A track's folder of segments, or a recording's folder of tracks.
        folder: PathBuf,
    },
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
        Command::Doctor => doctor(&env).await,
        Command::Capture { look } => tokio::task::block_in_place(|| inspect(&look)),
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

async fn doctor(env: &Env) -> anyhow::Result<ExitCode> {
    match worker::doctor::examine(env, &mut std::io::stdout()).await? {
        Health::Well => Ok(ExitCode::SUCCESS),
        Health::Ill => Ok(ExitCode::FAILURE),
    }
}

fn inspect(look: &Look) -> anyhow::Result<ExitCode> {
    match look {
        Look::Show { folder } => worker::inspect::show(folder, &mut std::io::stdout().lock())?,
        Look::Export { pcap, folder } => worker::inspect::export(folder, pcap)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate(env: &Env) -> anyhow::Result<ExitCode> {
    telemetry::init(&LogSettings::from_env(env)?);
    let db = shared::db::pool(&shared::settings::database_url(env)?, 2)?;
    worker::queue::migrate(&db).await?;
    tracing::info!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}
