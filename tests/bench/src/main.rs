//! Whole-program measurements against the real edge and worker: `tests/bench/run.sh` builds them and starts this.
//!
//! Whatever a figure is compared to runs in the same run, on the same disk. A figure that a goal was set for is printed as a
//! row that begins with `=`, which the script gathers into its table; a goal that is missed fails nothing, for a machine may
//! be busy.

use std::path::Path;

use anyhow::{Context, bail};

mod calls;
mod cpu;
mod figures;
mod ingest;
mod latency;
mod memory;
mod storage;

/// How long each round of `ingest` lasts unless the caller says otherwise, in seconds: long enough that the segments of every
/// track are closed and moved several times.
const ROUND_SECONDS: u64 = 10;

/// The same of `calls`: the kernel counts CPU time in steps of 10 ms, a hundredth of what the smallest of its rounds uses.
const CALL_SECONDS: u64 = 5;
/// What is compared.
const PROGRAMS: [calls::Program; 2] = [calls::Program::Edge, calls::Program::Janus];

const USAGE: &str = "usage: bench ingest [SECONDS [UPLOADERS]] | bench latency FOLDER_OF_BLOBS
     | bench calls [SECONDS [SUBSCRIBERS [edge]]]  (edge: without Janus)
     | bench storage [MIB]";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ingest"] => ingest::run(ROUND_SECONDS, &ingest::UPLOADERS).await,
        ["ingest", seconds] => ingest::run(number(seconds)?, &ingest::UPLOADERS).await,
        ["ingest", seconds, uploaders] => ingest::run(number(seconds)?, &[number(uploaders)?]).await,
        ["latency", blobs] => latency::run(Path::new(blobs)).await,
        ["calls"] => calls::run(CALL_SECONDS, &calls::SUBSCRIBERS, &PROGRAMS).await,
        ["calls", seconds] => calls::run(number(seconds)?, &calls::SUBSCRIBERS, &PROGRAMS).await,
        ["calls", seconds, subscribers] => {
            calls::run(number(seconds)?, &[subscribers.parse()?], &PROGRAMS).await
        }
        ["calls", seconds, subscribers, "edge"] => {
            calls::run(number(seconds)?, &[subscribers.parse()?], &PROGRAMS[..1]).await
        }
        ["storage"] => storage::run(storage::FILE_MIB).await,
        ["storage", mib] => storage::run(number(mib)?).await,
        // What `storage` runs each program under.
        ["spend", program, ref arguments @ ..] => storage::spend(program, arguments),
        _ => bail!("{USAGE}"),
    }
}

fn number(text: &str) -> anyhow::Result<u64> {
    text.parse().with_context(|| format!("{text:?} is not a number"))
}
