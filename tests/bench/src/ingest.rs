//! Durable acknowledgements per second, beside what the disk gives to a bare append and `fdatasync` of the same bytes.
//!
//! Decisions:
//! - Bare and edge take turns, and the medians of their rounds are compared: blocks that a virtual disk sees for the first time
//!   are slow, and the machine's other work comes and goes.
//! - The capture of a round is deleted before the next, which would else run out of disk. No worker runs.
//! - A fresh edge for each number of uploaders, so that its largest memory is that number's.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::client::{Client, Recording, TrackKind};
use e2e::system::System;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, interval};

use crate::cpu;
use crate::figures::{Verdict, median, megabytes_per_second, percentile, row};

mod bare;
mod uploader;

use uploader::{Uploaded, Uploader};

/// The bytes of a chunk, as a browser sends them at 2 Mbit/s.
const CHUNK: usize = 256 * 1024;
/// How many upload at once.
pub(crate) const UPLOADERS: [u64; 3] = [1, 20, 200];
/// Pairs of rounds of which the median counts.
const ROUNDS: usize = 3;
/// The most bytes of a round: what the capture of one may take of the disk.
const ROUND_MAX_BYTES: u64 = 6 << 30;
/// The fewest chunks of an uploader: fewer say nothing of a steady state.
const CHUNKS_MIN: u64 = 4;
/// How many chunks the disk is tried with, to know how many fill a round.
const TRIAL_CHUNKS: u64 = 1_000;
/// The longest that sealing a round's recording may take.
const SEAL_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether it is sealed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Goals: of the bare loop's rate at 200 uploaders, and of the edge's largest memory then.
const RATIO_GOAL: f64 = 0.8;
const MEMORY_GOAL_MIB: u64 = 150;

/// Measures these numbers of uploaders, with rounds of about so many seconds.
pub(crate) async fn run(seconds: u64, uploaders: &[u64]) -> anyhow::Result<()> {
    let chunk = noise(CHUNK);
    for &uploaders in uploaders {
        measure(uploaders, seconds, &chunk).await?;
    }
    Ok(())
}

/// A round of the edge.
struct Round {
    uploaded: Uploaded,
    edge_cpu: Duration,
    own_cpu: Duration,
}

async fn measure(uploaders: u64, seconds: u64, chunk: &[u8]) -> anyhow::Result<()> {
    let mut system = System::builder().workers(0).start().await;
    let folder = system.folders.root().to_owned();
    let body = uploader::write_body(&folder, chunk)?;
    let each = chunks_of_each(&folder, chunk, uploaders, seconds)?;
    let bytes = each * uploaders * CHUNK as u64;
    println!("{uploaders} uploaders of {each} chunks each, {} MB a round", bytes / 1_000_000);
    let (mut rounds, mut bares) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        // Each goes first every other time, and both leave a disk that has nothing to do.
        let first = if n % 2 == 0 { Some(bare_rate(&folder, chunk, each * uploaders)?) } else { None };
        let round = upload(&mut system, uploaders, each, &body).await?;
        let bare = first.map_or_else(|| bare_rate(&folder, chunk, each * uploaders), Ok)?;
        say(&round, bytes, bare);
        bares.push(bare);
        rounds.push(round);
    }
    let peak_mib = system.edge.program().peak_memory() >> 20;
    conclude(uploaders, bytes, &rounds, median(bares), peak_mib);
    system.edge.term().await;
    Ok(())
}

fn bare_rate(folder: &Path, chunk: &[u8], chunks: u64) -> io::Result<f64> {
    let took = bare::append(folder, chunk, chunks)?;
    nix::unistd::sync();
    Ok(megabytes_per_second(chunks * CHUNK as u64, took))
}

fn chunks_of_each(folder: &Path, chunk: &[u8], uploaders: u64, seconds: u64) -> io::Result<u64> {
    let trial = bare::append(folder, chunk, TRIAL_CHUNKS)?.as_micros().max(1);
    let fit = u128::from(TRIAL_CHUNKS * seconds) * 1_000_000 / trial;
    let fit = u64::try_from(fit).unwrap_or(u64::MAX).min(ROUND_MAX_BYTES / CHUNK as u64);
    Ok((fit / uploaders).max(CHUNKS_MIN))
}

async fn upload(system: &mut System, uploaders: u64, each: u64, body: &Path) -> anyhow::Result<Round> {
    let host = system.client("host");
    let users: Vec<String> = (0..uploaders).map(|n| format!("user{n}")).collect();
    let recording = record(&host, &users).await;
    let list: Vec<Uploader> =
        users.iter().map(|user| uploader(system, user, &recording, each, body)).collect::<Result<_, _>>()?;
    let (edge, own) = (system.edge.program().pid(), std::process::id());
    let before = (cpu::used(edge)?, cpu::used(own)?);
    let uploaded = tokio::task::spawn_blocking(move || uploader::upload(&list)).await??;
    let after = (cpu::used(edge)?, cpu::used(own)?);
    ensure!(uploaded.acks.len() as u64 == uploaders * each, "every chunk has an answer");
    host.stop(&recording).await;
    throw_away(system, &recording).await?;
    Ok(Round { uploaded, edge_cpu: after.0 - before.0, own_cpu: after.1 - before.1 })
}

async fn record(host: &Client, users: &[String]) -> Recording {
    let call = json!({ "participants": users, "maxParticipants": 1_000 });
    let made = host.post("/video-calls", &call).await.expect(201).data();
    host.start_recording(made["id"].as_str().unwrap_or_default(), &json!({})).await
}

fn uploader(
    system: &System,
    user: &str,
    recording: &Recording,
    chunks: u64,
    body: &Path,
) -> anyhow::Result<Uploader> {
    let client = system.client(user);
    let base = system.edge.url();
    let address: SocketAddr = base.trim_start_matches("http://").parse().context("an address and a port")?;
    let digest = STANDARD.encode(Sha256::digest(std::fs::read(body)?));
    let headers = format!(
        "host: {address}\r\nauthorization: Bearer {}\r\ncontent-type: video/webm;codecs=vp8,opus\r\n\
         content-length: {CHUNK}\r\ncontent-digest: sha-256=:{digest}:\r\nx-chunk-timestamp: 1700000000000\r\n",
        client.token
    );
    let path = format!("{}/chunks/", client.track_path(recording, TrackKind::Video));
    Ok(Uploader { address, path, headers, body: body.to_owned(), chunks })
}

/// Waits until the recording is sealed, then deletes what it holds of the disk.
async fn throw_away(system: &System, recording: &Recording) -> anyhow::Result<()> {
    let (deadline, mut looks) = (Instant::now() + SEAL_MAX, interval(LOOK_EVERY));
    loop {
        looks.tick().await;
        let state: String = sqlx::query_scalar("select state from recording where id = $1")
            .bind(&recording.id)
            .fetch_one(&system.db)
            .await?;
        if state == "processing" {
            break;
        }
        ensure!(Instant::now() < deadline, "the recording is still {state}");
    }
    std::fs::remove_dir_all(system.folders.spool().join(&recording.id))?;
    // What deleting leaves for the journal must not be the next round's work.
    nix::unistd::sync();
    Ok(())
}

fn say(round: &Round, bytes: u64, bare: f64) {
    let Round { uploaded, edge_cpu, own_cpu } = round;
    let rate = megabytes_per_second(bytes, uploaded.took);
    let (p50, p99) = (percentile(&uploaded.acks, 0.5), percentile(&uploaded.acks, 0.99));
    println!(
        "  bare {bare:.0} MB/s, edge {rate:.0} MB/s in {:.1?}, ack p50 {p50:.1?} p99 {p99:.1?}, \
         CPU edge {edge_cpu:.1?} generator {own_cpu:.1?}",
        uploaded.took
    );
}

fn conclude(uploaders: u64, bytes: u64, rounds: &[Round], bare: f64, peak_mib: u64) {
    let edge = median(rounds.iter().map(|round| megabytes_per_second(bytes, round.uploaded.took)).collect());
    let mut acks: Vec<Duration> = rounds.iter().flat_map(|round| round.uploaded.acks.clone()).collect();
    acks.sort_unstable();
    let ratio = edge / bare;
    let most = uploaders == UPLOADERS[UPLOADERS.len() - 1];
    let goal = |text: String| if most { text } else { "-".to_owned() };
    let verdict = |met: bool| if most { met.into() } else { Verdict::NoGoal };
    row(
        format_args!("ingest, {uploaders} uploaders: share of a bare append+fdatasync"),
        format_args!("{ratio:.2} ({edge:.0} of {bare:.0} MB/s)"),
        goal(format!(">= {RATIO_GOAL}")),
        verdict(ratio >= RATIO_GOAL),
    );
    row(
        format_args!("ingest, {uploaders} uploaders: ack p50 / p99"),
        format_args!("{:.1?} / {:.1?}", percentile(&acks, 0.5), percentile(&acks, 0.99)),
        "-",
        Verdict::NoGoal,
    );
    row(
        format_args!("ingest, {uploaders} uploaders: memory of the edge (VmHWM)"),
        format_args!("{peak_mib} MiB"),
        goal(format!("< {MEMORY_GOAL_MIB} MiB")),
        verdict(peak_mib < MEMORY_GOAL_MIB),
    );
}

/// Bytes that no disk compresses or dedupes (xorshift64).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
