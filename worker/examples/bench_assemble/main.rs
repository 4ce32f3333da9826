//! Measures assembly against FFmpeg: CPU seconds and the largest resident set of "assemble, then mux as the worker does" and
//! of `ffmpeg -c copy` of the same media, in one run.
//!
//! `bench_assemble [seconds] [folder]` (3,600 in a folder of its own under the system's temporary one). `bench_assemble
//! generate seconds folder` only makes the media: other measurements upload it.
//!
//! What makes the figures worth comparing:
//! - Assembly reads what the worker reads: segments of a capture log in a spool, every chunk's CRC checked.
//! - Each program runs several times, in turns, and its median counts; what other programs have written goes to the disk
//!   before each turn. A first run right after the media was made cost 0.5 CPU seconds, the ones after it 0.15.
//! - There are two ratios. `ratio` is to a plain copy, whose file has its index at the end. `same flags` is to a copy by the
//!   worker's own arguments, whose file is as seekable as ours.

mod media;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use shared::capture::{Capture, CaptureConfig, ChunkHeader, ReceivedBody, TrackReader, TrackSpec};
use shared::clock::SystemClock;
use shared::id::{RecordingId, UserId};
use shared::recording::Format;
use shared::spool::Spool;
use shared::track::{TrackKind, TrackSource};
use worker::assemble::{Chunk, ChunkSource, Plan, assemble};
use worker::ffmpeg::MuxInput;
use worker::media::{AudioPlan, MuxPlan, Turn, VideoPlan};

/// How often each program is measured: enough that one disturbed run does not count.
const ROUNDS: usize = 5;

/// What a segment holds: ten seconds of the media, the age at which the edge closes segments.
const SEGMENT_BYTES: u64 = 2 * 1024 * 1024;

/// Written at once to the assembled file, as the worker does.
const BUFFER: usize = 1 << 20;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("assemble") {
        let (from, to) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
        return child(Path::new(&from), Path::new(&to));
    }
    if first.as_deref() == Some("generate") {
        let (seconds, folder) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
        std::fs::create_dir_all(&folder)?;
        media::generate(Path::new(&folder), seconds.parse()?)?;
        return Ok(());
    }
    let seconds = first.and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("bench_assemble"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let bytes = media::generate(&folder, seconds)?;
    tokio::runtime::Runtime::new()?.block_on(capture(&folder, seconds))?;
    let rounds: Vec<Round> = (0..ROUNDS).map(|n| round(&folder, seconds, n)).collect::<io::Result<_>>()?;
    std::fs::remove_dir_all(folder.join("spool"))?;
    report(&rounds, seconds, bytes)?;
    Ok(())
}

/// Puts the blobs into a capture log and closes it, as the edge does.
async fn capture(folder: &Path, seconds: u64) -> anyhow::Result<()> {
    for name in ["spool", "capture"].map(|name| folder.join(name)).iter().filter(|name| name.exists()) {
        std::fs::remove_dir_all(name)?; // of a run that was ended
    }
    let mut config = CaptureConfig::new(folder.join("capture"), Spool::open(folder.join("spool"))?);
    config.segment_bytes = SEGMENT_BYTES;
    let (capture, _) = Capture::open(config, Arc::new(SystemClock))?;
    let spec = TrackSpec {
        recording: RecordingId::generate(),
        participant: UserId::parse("ann")?,
        source: TrackSource::Client,
        kind: TrackKind::Video,
    };
    let log = capture.track(&spec).await?;
    for sequence in 0..seconds {
        let body = Bytes::from(std::fs::read(media::blob(folder, sequence))?);
        let ms = i64::try_from(sequence)? * 1_000;
        let header = ChunkHeader { sequence, client_timestamp_ms: Some(ms), mime: None };
        log.append_chunk(header, ReceivedBody::from_bytes(body)).await?;
    }
    capture.close_recording(&spec.recording).await?;
    capture.forget(&spec.recording).await?;
    Ok(())
}

/// One run of each program.
struct Round {
    assembly: Usage,
    mux: Usage,
    plain: Usage,
    same: Usage,
}

/// Runs each program once; every other round in the opposite order.
fn round(folder: &Path, seconds: u64, n: usize) -> io::Result<Round> {
    if n.is_multiple_of(2) {
        let (assembly, mux) = ours(folder, seconds)?;
        let (plain, same) = theirs(folder, seconds)?;
        return Ok(Round { assembly, mux, plain, same });
    }
    let (plain, same) = theirs(folder, seconds)?;
    let (assembly, mux) = ours(folder, seconds)?;
    Ok(Round { assembly, mux, plain, same })
}

/// Assembly and at once the mux of what it wrote: nothing rests between them in the worker either.
fn ours(folder: &Path, seconds: u64) -> io::Result<(Usage, Usage)> {
    let (assembled, muxed) = (folder.join("a.mkv"), folder.join("a.webm"));
    nix::unistd::sync();
    let assembly =
        measure(&std::env::current_exe()?, &["assemble".to_owned(), text(folder), text(&assembled)])?;
    let mux = measure(Path::new("ffmpeg"), &mux_as_the_worker(&assembled, &muxed, seconds))?;
    std::fs::remove_file(assembled)?;
    std::fs::remove_file(muxed)?;
    Ok((assembly, mux))
}

/// A plain copy, and one by the worker's arguments.
fn theirs(folder: &Path, seconds: u64) -> io::Result<(Usage, Usage)> {
    let (whole, copied) = (media::whole(folder), folder.join("b.webm"));
    let plain = ["-y", "-v", "error", "-f", "matroska", "-i", &text(&whole), "-c", "copy", &text(&copied)];
    let run = |args: &[String]| -> io::Result<Usage> {
        nix::unistd::sync();
        let usage = measure(Path::new("ffmpeg"), args)?;
        std::fs::remove_file(&copied)?;
        Ok(usage)
    };
    Ok((run(&plain.map(str::to_owned))?, run(&mux_as_the_worker(&whole, &copied, seconds))?))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn report(rounds: &[Round], seconds: u64, bytes: u64) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "media       {seconds} s, {bytes} bytes in {seconds} blobs; medians of {ROUNDS} rounds")?;
    let line = |name: &str, pick: fn(&Round) -> &Usage| {
        let cpu = median(rounds, |round| pick(round).cpu_seconds);
        let most = rounds.iter().map(|round| pick(round).max_rss_kib).max().unwrap_or(0) / 1_024;
        writeln!(io::stdout(), "{name:<11} {cpu:.2} CPU s, {most} MiB")
    };
    line("assembly", |round| &round.assembly)?;
    line("then mux", |round| &round.mux)?;
    line("copy alone", |round| &round.plain)?;
    line("copy, ditto", |round| &round.same)?;
    let ours = median(rounds, |round| round.assembly.cpu_seconds + round.mux.cpu_seconds);
    writeln!(out, "ratio       {:.2}", ours / median(rounds, |round| round.plain.cpu_seconds))?;
    writeln!(out, "same flags  {:.2}", ours / median(rounds, |round| round.same.cpu_seconds))
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(of).collect();
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// The worker's own arguments, with everything that makes a file seekable and reproducible.
fn mux_as_the_worker(from: &Path, to: &Path, seconds: u64) -> Vec<String> {
    let duration_ms = seconds * 1_000;
    let input = MuxInput {
        file: text(from),
        offset_ms: 0,
        duration_ms,
        delays_ms: Vec::new(),
        sizes: Vec::new(),
        turn: Turn::None,
    };
    let plan = MuxPlan {
        format: Format::Webm,
        streams: vec![(0, 0), (0, 1)],
        video: vec![VideoPlan::Copy],
        audio: AudioPlan::Copy,
    };
    let command = worker::ffmpeg::mux(&[input], &plan, 1, &text(to));
    command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// The chunks of a track in the spool, one at a time in memory, as the worker reads them.
struct Captured {
    reader: TrackReader,
    next: usize,
}

impl ChunkSource for Captured {
    fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        let Some(at) = self.reader.chunks().get(self.next).copied() else { return Ok(None) };
        self.next += 1;
        Ok(Some(Chunk {
            sequence: at.sequence(),
            timestamp_ms: at.client_timestamp_ms(),
            arrival_ms: at.arrival().timestamp_millis(),
            bytes: self.reader.read(&at).map_err(io::Error::other)?,
        }))
    }
}

fn child(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let spool = Spool::open(folder.join("spool"))?;
    let recording = spool.recordings()?.pop().ok_or_else(|| anyhow::anyhow!("no recording"))?;
    let track = spool.tracks(&recording)?.pop().ok_or_else(|| anyhow::anyhow!("no track"))?;
    let mut source = Captured { reader: TrackReader::open(&spool, &recording, &track)?, next: 0 };
    let out = BufWriter::with_capacity(BUFFER, File::create(out)?);
    let done = assemble(&mut source, &Plan::default(), out)?;
    anyhow::ensure!(done.gaps.is_empty(), "a recording without a hole has gaps: {:?}", done.gaps);
    Ok(())
}

/// What a process used.
struct Usage {
    cpu_seconds: f64,
    max_rss_kib: u64,
}

/// Runs a program to its end and tells what it used.
#[expect(clippy::disallowed_methods, reason = "a bench runs FFmpeg as a user would")]
fn measure(program: &Path, args: &[String]) -> io::Result<Usage> {
    let report = std::env::temp_dir().join(format!("bench_assemble.{}", std::process::id()));
    let status =
        Command::new("python3").args(["-c", MEASURE]).arg(&report).arg(program).args(args).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{} failed", program.display())));
    }
    let text = std::fs::read_to_string(&report)?;
    std::fs::remove_file(&report)?;
    let mut fields = text.split_whitespace();
    let mut field = || fields.next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(Usage { cpu_seconds: field(), max_rss_kib: field() as u64 })
}

/// Runs its arguments and writes CPU seconds and the largest resident set in KiB.
const MEASURE: &str = "import resource,subprocess,sys
code=subprocess.run(sys.argv[2:],stdin=subprocess.DEVNULL,stdout=subprocess.DEVNULL).returncode
used=resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1],'w').write(f'{used.ru_utime+used.ru_stime} {used.ru_maxrss}')
sys.exit(code)";
