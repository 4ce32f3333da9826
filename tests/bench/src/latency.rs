//! From `stop` to `completed`: a recording of generated media, uploaded and declared complete before it is stopped, by stages.
//!
//! Decisions:
//! - Every boundary between two stages is a time that the product itself has written: events, `run_at` of the jobs (the
//!   beginning of the transaction that enqueued them), and the first attempt's start. So the stages add up to the whole.
//! - FFmpeg's own time is the wall-clock time of its processes and ffprobe's, as the worker counts it in
//!   `callreel_ffmpeg_seconds_total`. Everything else is ours, waiting included.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use e2e::client::{Client, Recording, TrackKind};
use e2e::system::System;
use reqwest::Method;
use serde_json::json;
use shared::clock::{Clock, SystemClock};
use sqlx::PgPool;
use tokio::time::{Instant, interval};

use crate::figures::{Verdict, median, row};

/// Recordings, one after another; the median counts.
const RECORDINGS: usize = 5;
/// The time between two blobs of the media.
const BLOB_MS: i64 = 1_000;
/// What the blobs are.
const MIME: &str = "video/webm;codecs=vp8,opus";
/// The longest that a recording may take to be completed.
const COMPLETED_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether it is: as exact as the whole is known.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Goal: what is ours of the time from `stop` to `completed`.
const OURS_GOAL: Duration = Duration::from_secs(2);

/// Measures with the blobs of a folder, in the order of their names.
pub(crate) async fn run(blobs: &Path) -> anyhow::Result<()> {
    let blobs = read(blobs)?;
    let mut system = System::builder().start().await;
    let metrics = metrics_url(&mut system).await?;
    let mut runs = Vec::new();
    for n in 0..RECORDINGS {
        let run = measure(&system, &metrics, &blobs).await?;
        println!("recording {n}: {}", run.tell());
        runs.push(run);
    }
    conclude(&runs, blobs.len());
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "bin"));
    paths.sort();
    ensure!(!paths.is_empty(), "there are no blobs in {}", folder.display());
    paths.into_iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

async fn metrics_url(system: &mut System) -> anyhow::Result<String> {
    let line = system.worker().line_with("metrics on port ").await;
    let port = line.rsplit("metrics on port ").next().unwrap_or_default();
    let port: u16 = port.trim().parse().with_context(|| format!("no port in {line:?}"))?;
    Ok(format!("http://127.0.0.1:{port}/metrics"))
}

/// One recording's way: the length of each stage in seconds, in order.
struct Run {
    stages: Vec<(&'static str, f64)>,
    ffmpeg: BTreeMap<String, f64>,
}

impl Run {
    fn whole(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum()
    }

    fn of_ffmpeg(&self) -> f64 {
        self.ffmpeg.values().sum()
    }

    fn ours(&self) -> f64 {
        self.whole() - self.of_ffmpeg()
    }

    fn tell(&self) -> String {
        let ms = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
        format!("{}, of it FFmpeg {}, ours {}", ms(self.whole()), ms(self.of_ffmpeg()), ms(self.ours()))
    }
}

async fn measure(system: &System, metrics: &str, blobs: &[Vec<u8>]) -> anyhow::Result<Run> {
    let ann = system.client("ann");
    let recording = ann.record(json!({})).await;
    upload(&ann, &recording, blobs).await?;
    let before = ffmpeg_seconds(metrics).await?;
    let stopped = SystemClock.now();
    ann.stop(&recording).await;
    completed(&system.db, &recording.id).await?;
    let seen = SystemClock.now();
    let after = ffmpeg_seconds(metrics).await?;
    let spent = |(task, total): (String, f64)| {
        let earlier = before.get(&task).copied().unwrap_or_default();
        (task, total - earlier)
    };
    let ffmpeg = after.into_iter().map(spent).collect();
    Ok(Run { stages: stages(&system.db, &recording.id, stopped, seen).await?, ffmpeg })
}

async fn upload(client: &Client, recording: &Recording, blobs: &[Vec<u8>]) -> anyhow::Result<()> {
    let track = client.track_path(recording, TrackKind::Video);
    let began = SystemClock.now().timestamp_millis();
    for (sequence, blob) in (0_i64..).zip(blobs) {
        let request =
            client.request(Method::PUT, &format!("{track}/chunks/{sequence}")).header("content-type", MIME);
        let request = request.header("x-chunk-timestamp", (began + sequence * BLOB_MS).to_string());
        let _ = client.send(request.body(blob.clone())).await.expect(201);
    }
    client.complete(recording, TrackKind::Video, (blobs.len() as u64).saturating_sub(1)).await;
    Ok(())
}

async fn completed(db: &PgPool, id: &str) -> anyhow::Result<()> {
    let (deadline, mut looks) = (Instant::now() + COMPLETED_MAX, interval(LOOK_EVERY));
    loop {
        looks.tick().await;
        let (state, detail): (String, Option<String>) =
            sqlx::query_as("select state, error_detail from recording where id = $1")
                .bind(id)
                .fetch_one(db)
                .await?;
        match state.as_str() {
            "completed" => return Ok(()),
            "failed" => anyhow::bail!("the recording failed: {}", detail.unwrap_or_default()),
            _ => ensure!(Instant::now() < deadline, "the recording is still {state}"),
        }
    }
}

/// The worker's counters of FFmpeg's wall-clock seconds, by what for.
async fn ffmpeg_seconds(metrics: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = reqwest::get(metrics).await?.error_for_status()?.text().await?;
    let counter = |line: &str| {
        let (task, value) = line.strip_prefix("callreel_ffmpeg_seconds_total{task=\"")?.split_once("\"} ")?;
        Some((task.to_owned(), value.trim().parse().ok()?))
    };
    let found: BTreeMap<_, _> = text.lines().filter_map(counter).collect();
    ensure!(!found.is_empty(), "the worker does not tell FFmpeg's seconds");
    Ok(found)
}

type At = DateTime<Utc>;

async fn stages(db: &PgPool, id: &str, stopped: At, seen: At) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let stopping: At =
        sqlx::query_scalar("select at from event where recording_id = $1 and type = 'recording.stopping'")
            .bind(id)
            .fetch_one(db)
            .await?;
    let completed: At =
        sqlx::query_scalar("select completed_at from recording where id = $1").bind(id).fetch_one(db).await?;
    let (mux, thumbnails, upload) = (
        job(db, id, "mux-recording").await?,
        job(db, id, "make-thumbnails").await?,
        job(db, id, "upload-recording").await?,
    );
    let times = [
        ("stop is taken", stopped, stopping),
        ("settle, close the capture, seal", stopping, mux.enqueued),
        ("enqueue to start of mux", mux.enqueued, mux.started),
        ("mux job", mux.started, thumbnails.enqueued),
        ("enqueue to start of thumbnails", thumbnails.enqueued, thumbnails.started),
        ("thumbnails job", thumbnails.started, upload.enqueued),
        ("enqueue to start of upload", upload.enqueued, upload.started),
        ("upload job", upload.started, completed),
        ("until it is seen", completed, seen),
    ];
    Ok(times.into_iter().map(|(stage, from, to)| (stage, (to - from).as_seconds_f64())).collect())
}

/// A job's enqueueing and its first start.
struct Job {
    enqueued: At,
    started: At,
}

async fn job(db: &PgPool, recording: &str, queue: &str) -> anyhow::Result<Job> {
    let found: Option<(At, At)> = sqlx::query_as(
        "select j.run_at, min(a.started_at) from apalis.jobs j join job_attempts a on a.job_id = j.id
         where j.job_type = $2 and job_payload(j) ->> 'recording' = $1 group by j.id",
    )
    .bind(recording)
    .bind(queue)
    .fetch_optional(db)
    .await?;
    let (enqueued, started) = found.with_context(|| format!("there is no {queue} of {recording}"))?;
    Ok(Job { enqueued, started })
}

fn conclude(runs: &[Run], blobs: usize) {
    let middle = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(of).collect()) * 1e3;
    println!("medians by stage:");
    for (n, (stage, _)) in
        runs.first().map(|run| run.stages.as_slice()).unwrap_or_default().iter().enumerate()
    {
        println!("  {stage:<34} {:>6.0} ms", middle(&|run| run.stages[n].1));
    }
    println!("of it FFmpeg:");
    for task in runs.first().map(|run| run.ffmpeg.keys()).into_iter().flatten() {
        println!("  {task:<34} {:>6.0} ms", middle(&|run| run.ffmpeg[task]));
    }
    let (whole, ffmpeg, ours) = (middle(&Run::whole), middle(&Run::of_ffmpeg), middle(&Run::ours));
    row(
        format_args!("stop to completed, {blobs} blobs: ours beyond FFmpeg's own time"),
        format_args!("{ours:.0} ms ({whole:.0} ms less {ffmpeg:.0} ms of FFmpeg)"),
        format_args!("< {} ms", OURS_GOAL.as_millis()),
        Verdict::from(ours < OURS_GOAL.as_secs_f64() * 1e3),
    );
}
