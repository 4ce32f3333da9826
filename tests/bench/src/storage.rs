//! A large file into storage, beside the programs that people use for it: to SeaweedFS `aws s3 cp` and `rclone copyto`, to a folder
//! `cp`. Ours, `bench_put`, opens storage as the worker does, puts the file and asks for its size.
//!
//! Decisions:
//! - Every program runs alone, under a process of ours that tells what it took: the kernel counts CPU and the largest memory of children
//!   that have ended (getrusage(2), `RUSAGE_CHILDREN`).
//! - They take turns, each goes first once, and medians count. What a round has stored is deleted before the next.
//! - SeaweedFS runs on the same machine and checks what it is sent. Its time is in everybody's.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use e2e::program::command;
use e2e::seaweed::{BUCKET, Seaweed};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use shared::env::Env;
use tempfile::TempDir;

use crate::figures::{Verdict, median, row};

/// Of the file, in MiB, unless the caller says otherwise.
pub(crate) const FILE_MIB: u64 = 1_024;
/// Goal for the largest memory of ours.
const MEMORY_GOAL_MIB: f64 = 40.0;
/// Rounds of which the median counts.
const ROUNDS: usize = 3;
const KEY: &str = "recordings/bench.webm";

/// What a program took.
#[derive(Debug, Clone, Copy)]
struct Spent {
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
}

/// What ours is to be. A copy on one disk hashes what it copies, which `cp` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Best,
    None,
}

/// A program that stores the file.
struct Contender {
    name: &'static str,
    command: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

/// Measures a file of so many MiB.
pub(crate) async fn run(mib: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = noise(folder.path(), mib)?;
    let server = Seaweed::start().await;
    compare("SeaweedFS", mib, (&to_seaweed(&server, &file)?, Goal::Best), || Ok(()))?;
    drop(server);
    let stored = TempDir::new_in(folder.path())?;
    compare("a folder", mib, (&to_folder(stored.path(), &file)?, Goal::None), || {
        std::fs::remove_dir_all(stored.path())?;
        std::fs::create_dir(stored.path())?;
        nix::unistd::sync();
        Ok(())
    })
}

/// Runs a program and prints what it took, in seconds, seconds and KiB: for [`spent`].
pub(crate) fn spend(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let began = Instant::now();
    let variables = std::env::vars_os();
    let status = command(program).args(arguments).envs(variables).status();
    let status = status.with_context(|| program.to_owned())?;
    let wall_s = began.elapsed().as_secs_f64();
    ensure!(status.success(), "{program} has failed: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu_us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    println!("{wall_s} {cpu_us} {}", usage.max_rss());
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn compare(
    place: &str,
    mib: u64,
    (contenders, goal): (&[Contender], Goal),
    clean_up: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rounds: Vec<Vec<Spent>> = contenders.iter().map(|_| Vec::new()).collect();
    for first in 0..ROUNDS {
        for turn in 0..contenders.len() {
            let at = (first + turn) % contenders.len();
            rounds[at].push(spent(&contenders[at])?);
            clean_up()?;
        }
    }
    let middle = |rounds: &[Spent], of: fn(&Spent) -> f64| median(rounds.iter().map(of).collect());
    let medians: Vec<Spent> = rounds
        .iter()
        .map(|rounds| Spent {
            wall_s: middle(rounds, |it| it.wall_s),
            cpu_s: middle(rounds, |it| it.cpu_s),
            peak_mib: middle(rounds, |it| it.peak_mib),
        })
        .collect();
    let ours = medians[0];
    for (contender, spent) in contenders.iter().zip(&medians) {
        let Spent { wall_s, cpu_s, peak_mib } = *spent;
        let rate = mib as f64 * 1.048_576 / wall_s;
        let best = medians[1..].iter().all(|other| ours.wall_s <= other.wall_s && ours.cpu_s <= other.cpu_s);
        let met = best && ours.peak_mib <= MEMORY_GOAL_MIB;
        let has_goal = contender.name == contenders[0].name && goal == Goal::Best;
        let goal = if has_goal { "fastest, least CPU, <= 40 MiB" } else { "-" };
        row(
            format!("storage, {mib} MiB to {place}: {}", contender.name),
            format!("{rate:.0} MB/s, {cpu_s:.2} s of CPU, {peak_mib:.0} MiB"),
            goal,
            if has_goal { Verdict::from(met) } else { Verdict::NoGoal },
        );
    }
    Ok(())
}

fn spent(contender: &Contender) -> anyhow::Result<Spent> {
    let mut command = command(std::env::current_exe()?);
    command.arg("spend").args(&contender.command).envs(contender.variables.iter().cloned());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", contender.name);
    let told = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> =
        told.lines().last().context("figures")?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [wall_s, cpu_us, peak_kib] = figures[..] else { anyhow::bail!("figures: {told}") };
    println!("{}: {wall_s:.2} s, {:.2} s of CPU, {:.0} MiB", contender.name, cpu_us / 1e6, peak_kib / 1024.0);
    Ok(Spent { wall_s, cpu_s: cpu_us / 1e6, peak_mib: peak_kib / 1024.0 })
}

fn to_seaweed(server: &Seaweed, file: &Path) -> anyhow::Result<Vec<Contender>> {
    let (file, target) = (file.display().to_string(), format!("{BUCKET}/{KEY}"));
    let variables = server.variables();
    let secret = |name: &str| {
        let found = variables.iter().find(|(known, _)| known.ends_with(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (key_id, key) = (secret("ACCESS_KEY_ID"), secret("SECRET_ACCESS_KEY"));
    let aws = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/aws");
    let endpoint = server.endpoint();
    Ok(vec![
        ours(&file, variables.to_vec())?,
        Contender {
            name: "aws s3 cp",
            command: words(&[
                &aws.display().to_string(),
                "s3",
                "cp",
                "--only-show-errors",
                "--endpoint-url",
                &endpoint,
                &file,
                &format!("s3://{target}"),
            ]),
            variables: vec![
                ("AWS_ACCESS_KEY_ID", key_id.clone()),
                ("AWS_SECRET_ACCESS_KEY", key.clone()),
                ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ],
        },
        Contender {
            name: "rclone copyto",
            command: words(&["rclone", "copyto", "--quiet", &file, &format!(":s3:{target}")]),
            variables: vec![
                ("RCLONE_S3_PROVIDER", "Other".to_owned()),
                ("RCLONE_S3_ENDPOINT", endpoint),
                ("RCLONE_S3_ACCESS_KEY_ID", key_id),
                ("RCLONE_S3_SECRET_ACCESS_KEY", key),
                ("RCLONE_S3_NO_CHECK_BUCKET", "true".to_owned()),
            ],
        },
    ])
}

/// `cp` alone leaves the file to the kernel's memory; what we say is stored is on the disk.
fn to_folder(folder: &Path, file: &Path) -> anyhow::Result<Vec<Contender>> {
    let (file, target) = (file.display().to_string(), folder.join("copy").display().to_string());
    let variables = vec![
        ("RECORDING_STORAGE_PROVIDER", "local".to_owned()),
        ("RECORDING_OUTPUT_DIR", folder.display().to_string()),
    ];
    let and_sync = words(&["sh", "-c", "cp \"$0\" \"$1\" && sync \"$1\"", &file, &target]);
    Ok(vec![
        ours(&file, variables)?,
        Contender { name: "cp and sync", command: and_sync, variables: Vec::new() },
        Contender { name: "cp alone", command: words(&["cp", &file, &target]), variables: Vec::new() },
    ])
}

fn ours(file: &str, variables: Vec<(&'static str, String)>) -> anyhow::Result<Contender> {
    let programs = PathBuf::from(
        Env::from_process().required("CALLREEL_BIN_DIR", "the folder of the release programs")?,
    );
    let program = programs.join("examples/bench_put").display().to_string();
    Ok(Contender { name: "ours", command: words(&[&program, file, KEY]), variables })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A file that no compression makes smaller.
fn noise(folder: &Path, mib: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join("recording.webm");
    let mut source = std::io::Read::take(std::fs::File::open("/dev/urandom")?, mib << 20);
    let mut file = std::fs::File::create(&path)?;
    std::io::copy(&mut source, &mut file)?;
    file.sync_all()?;
    Ok(path)
}
