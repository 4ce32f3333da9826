//! Measures durable appends against a bare append and fdatasync loop of the same bytes on the same disk.
//!
//! `cargo run --release -p shared --example bench_capture -- FOLDER`; the folder is made and deleted.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::capture::{Capture, CaptureConfig, ChunkHeader, ReceivedBody, TrackSpec};
use shared::clock::SystemClock;
use shared::id::{RecordingId, UserId};
use shared::spool::Spool;
use shared::track::{TrackKind, TrackSource};

/// The bytes of a chunk, as a browser sends them.
const CHUNK: usize = 256 * 1024;
/// The chunks of each measurement.
const CHUNKS: usize = 1200;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("name a folder that may be made"))?;
    std::fs::create_dir(&dir)?;
    for uploaders in [1, 20, 200] {
        let before = bare(Path::new(&dir))?;
        let (ours, mut acks) = durable(Path::new(&dir), uploaders).await?;
        acks.sort_unstable();
        // Blocks that a virtual disk sees first are slow, which favours whoever comes later: the better one counts.
        let bare = before.max(bare(Path::new(&dir))?);
        println!(
            "{uploaders} uploaders: bare {bare:.0} MB/s, capture {ours:.0} MB/s, ratio {:.2}, ack p50 {:?} p99 {:?}",
            ours / bare,
            acks[acks.len() / 2],
            acks[acks.len() * 99 / 100]
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn bare(dir: &Path) -> anyhow::Result<f64> {
    let path = dir.join("bare");
    let (mut file, chunk, begun) = (std::fs::File::create(&path)?, vec![7; CHUNK], Instant::now());
    for _ in 0..CHUNKS {
        file.write_all(&chunk)?;
        file.sync_data()?;
    }
    let rate = rate(begun.elapsed());
    std::fs::remove_file(path)?;
    Ok(rate)
}

async fn durable(dir: &Path, uploaders: usize) -> anyhow::Result<(f64, Vec<Duration>)> {
    let spool = Spool::open(dir.join("spool"))?;
    let (capture, _) = Capture::open(
        CaptureConfig::new(dir.join(format!("capture{uploaders}")), spool),
        Arc::new(SystemClock),
    )?;
    let recording = RecordingId::generate();
    let chunk = Bytes::from(vec![7; CHUNK]);
    let mut tracks = Vec::new();
    for uploader in 0..uploaders {
        let participant = UserId::parse(&format!("user{uploader}"))?;
        let (source, kind) = (TrackSource::Client, TrackKind::Video);
        tracks.push(
            capture.track(&TrackSpec { recording: recording.clone(), participant, source, kind }).await?,
        );
    }
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for track in tracks {
        let chunk = chunk.clone();
        tasks.spawn(async move {
            let mut acks = Vec::new();
            for sequence in 0..(CHUNKS / uploaders) as u64 {
                let at = Instant::now();
                let header = ChunkHeader { sequence, client_timestamp_ms: None, mime: None };
                track.append_chunk(header, ReceivedBody::from_bytes(chunk.clone())).await?;
                acks.push(at.elapsed());
            }
            anyhow::Ok(acks)
        });
    }
    let acks = tasks.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let rate = rate(begun.elapsed());
    capture.close_recording(&recording).await?;
    Ok((rate, acks))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(took: Duration) -> f64 {
    (CHUNK * CHUNKS) as f64 / 1e6 / took.as_secs_f64()
}
