//! Measures assembly against FFmpeg: CPU seconds and the largest resident set of "assemble, then mux as the worker does" and
//! of a plain `ffmpeg -c copy` of the same media alone, in one run.
//!
//! `bench_assemble [seconds] [folder]` (3,600 in a folder of its own under the system's temporary one). `bench_assemble
//! generate seconds folder` only makes the media: other measurements upload it. The media is made
//! by looping a short clip that FFmpeg encodes (VP8 at 1.2 Mb/s, Opus), with rewritten times, into blobs of a second that
//! end one byte inside an element, as Chromium's do.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use shared::recording::Format;
use worker::assemble::{Chunk, ChunkSource, Plan, assemble};
use worker::ffmpeg::MuxInput;
use worker::media::{AudioPlan, MuxPlan, VideoPlan};

/// Length of the clip that is looped: long enough that its keyframes weigh as in a recording.
const CLIP_SECONDS: u64 = 10;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("assemble") {
        let (from, to) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
        return child(Path::new(&from), Path::new(&to));
    }
    if first.as_deref() == Some("generate") {
        let (seconds, folder) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
        std::fs::create_dir_all(&folder)?;
        return generate(Path::new(&folder), seconds.parse().map_err(io::Error::other)?).map(drop);
    }
    let seconds = first.and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("bench_assemble"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let whole = folder.join("whole.webm");
    let bytes = generate(&folder, seconds)?;
    let this = std::env::current_exe()?;
    let (assembled, remuxed, plain) = (folder.join("a.mkv"), folder.join("a.webm"), folder.join("b.webm"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let copy = |from: &Path, to: &Path| -> Vec<String> {
        let args = ["-y", "-v", "error", "-f", "matroska", "-i", &text(from), "-c", "copy", &text(to)];
        args.map(str::to_owned).to_vec()
    };
    let ours = measure(&this, &["assemble".to_owned(), text(&folder), text(&assembled)])?;
    let after = measure(Path::new("ffmpeg"), &mux_as_the_worker(&assembled, &remuxed))?;
    let alone = measure(Path::new("ffmpeg"), &copy(&whole, &plain))?;
    let mut out = io::stdout();
    writeln!(out, "media       {seconds} s, {bytes} bytes in {seconds} blobs")?;
    for (name, run) in [("assembly", &ours), ("then mux", &after), ("copy alone", &alone)] {
        writeln!(out, "{name:<11} {:.2} CPU s, {} MiB", run.cpu_seconds, run.max_rss_kib / 1_024)?;
    }
    writeln!(out, "ratio       {:.2}", (ours.cpu_seconds + after.cpu_seconds) / alone.cpu_seconds)
}

/// Blobs looked for at most: a day of seconds. What is missing before is a hole.
const MAX_BLOBS: u64 = 86_400;

/// The worker's own arguments, with everything that makes a file seekable and reproducible.
fn mux_as_the_worker(from: &Path, to: &Path) -> Vec<String> {
    let input = MuxInput { file: from.to_string_lossy().into_owned(), offset_ms: 0, delays_ms: Vec::new() };
    let plan = MuxPlan {
        apart: Vec::new(),
        format: Format::Webm,
        streams: vec![(0, 0), (0, 1)],
        video: VideoPlan::Copy,
        audio: AudioPlan::Copy,
    };
    let command = worker::ffmpeg::mux(&[input], &plan, 1, &to.to_string_lossy());
    command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Blobs read from the folder one at a time.
struct Blobs {
    folder: PathBuf,
    next: u64,
}

impl ChunkSource for Blobs {
    fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        let path = |n: u64| self.folder.join(format!("{n:06}.bin"));
        while self.next < MAX_BLOBS && !path(self.next).exists() {
            self.next += 1;
        }
        if self.next >= MAX_BLOBS {
            return Ok(None);
        }
        let bytes = std::fs::read(path(self.next))?;
        let sequence = self.next;
        let ms = i64::try_from(sequence).unwrap_or(0) * 1_000;
        self.next += 1;
        Ok(Some(Chunk { sequence, timestamp_ms: Some(ms), arrival_ms: ms, bytes: Bytes::from(bytes) }))
    }
}

fn child(folder: &Path, out: &Path) -> io::Result<()> {
    let mut source = Blobs { folder: folder.to_owned(), next: 0 };
    let done = assemble(&mut source, &Plan::default(), File::create(out)?).map_err(io::Error::other)?;
    writeln!(io::stderr(), "assembled   {} us, gaps {:?}", done.duration_us, done.gaps)
}

/// What a process used.
struct Usage {
    cpu_seconds: f64,
    max_rss_kib: u64,
}

/// Runs a program to its end under `time`, which tells what it used.
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

/// Makes `seconds` of recording as `NNNNNN.bin` and as `whole.webm`; returns its size in bytes.
fn generate(folder: &Path, seconds: u64) -> io::Result<u64> {
    let clip = std::fs::read(encode_clip(folder)?)?;
    let (head, blocks) = parse(&clip);
    let mut whole = BufWriter::new(File::create(folder.join("whole.webm"))?);
    let (mut blob, mut carried, mut total, mut index) = (head, Vec::new(), 0u64, 0u64);
    for second in 0..seconds {
        let (turn, within) = (second / CLIP_SECONDS, second % CLIP_SECONDS);
        blob.extend_from_slice(&[
            0x1F, 0x43, 0xB6, 0x75, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xE7, 0x84,
        ]);
        let base = (turn * CLIP_SECONDS + within) * 1_000;
        blob.extend_from_slice(&u32::try_from(base).unwrap_or(u32::MAX).to_be_bytes());
        for block in blocks.iter().filter(|block| block.ms / 1_000 == within) {
            let relative = i16::try_from(block.ms % 1_000).unwrap_or(0);
            let size = u32::try_from(block.data.len() + 4).unwrap_or(0) | 0x1000_0000;
            blob.push(0xA3);
            blob.extend_from_slice(&size.to_be_bytes());
            blob.push(block.track);
            blob.extend_from_slice(&relative.to_be_bytes());
            blob.push(block.flags);
            blob.extend_from_slice(&block.data);
        }
        whole.write_all(&blob)?;
        total += blob.len() as u64;
        let mut bytes = std::mem::take(&mut carried);
        bytes.append(&mut blob);
        if second + 1 < seconds {
            bytes.push(0x1F); // the next blob's first byte comes early
            carried = Vec::new();
        }
        let skip = usize::from(index > 0);
        std::fs::write(folder.join(format!("{index:06}.bin")), bytes.get(skip..).unwrap_or_default())?;
        index += 1;
    }
    whole.flush()?;
    Ok(total)
}

#[expect(clippy::disallowed_methods, reason = "a bench encodes its clip with FFmpeg")]
fn encode_clip(folder: &Path) -> io::Result<PathBuf> {
    let clip = folder.join("clip.webm");
    let length = CLIP_SECONDS.to_string();
    let status = Command::new("ffmpeg")
        .args([
            "-y",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=1280x720:rate=30,noise=alls=12:allf=t",
        ])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", &length, "-c:v", "libvpx"])
        .args([
            "-deadline",
            "realtime",
            "-cpu-used",
            "16",
            "-b:v",
            "1200k",
            "-minrate",
            "1200k",
            "-maxrate",
            "1200k",
        ])
        .args(["-g", "30", "-c:a", "libopus", "-b:a", "64k"])
        .arg(&clip)
        .status()?;
    if status.success() { Ok(clip) } else { Err(io::Error::other("ffmpeg could not encode the clip")) }
}

/// A block of the clip.
struct ClipBlock {
    ms: u64,
    track: u8,
    flags: u8,
    data: Vec<u8>,
}

/// The clip's head, up to its first cluster with the segment's size made unknown, and its blocks. Trusts FFmpeg's file.
fn parse(clip: &[u8]) -> (Vec<u8>, Vec<ClipBlock>) {
    const MASTERS: [u32; 3] = [0x1853_8067, 0x1F43_B675, 0xA0];
    let (mut at, mut base, mut head, mut blocks) = (0, 0, Vec::new(), Vec::new());
    while let Some((id, id_len)) = number(clip, at, Marker::Kept) {
        let Some((size, size_len)) = number(clip, at + id_len, Marker::Cut) else { break };
        let (begin, size) = (at + id_len + size_len, size as usize);
        let id = id as u32;
        let payload = clip.get(begin..begin + size).unwrap_or_default();
        match id {
            0x1A45_DFA3 | 0x1549_A966 | 0x1654_AE6B => head.extend_from_slice(&clip[at..begin + size]),
            0x1853_8067 => {
                head.extend_from_slice(&[0x18, 0x53, 0x80, 0x67, 1, 255, 255, 255, 255, 255, 255, 255]);
            }
            0xE7 => base = payload.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte)),
            0xA3 | 0xA1 => {
                let relative = i64::from(i16::from_be_bytes([payload[1], payload[2]]));
                blocks.push(ClipBlock {
                    ms: base.saturating_add_signed(relative),
                    track: payload[0],
                    flags: payload[3] | u8::from(id == 0xA1) << 7,
                    data: payload[4..].to_vec(),
                });
            }
            _ => {}
        }
        at = if MASTERS.contains(&id) { begin } else { begin + size };
    }
    (head, blocks)
}

#[derive(Clone, Copy, PartialEq)]
enum Marker {
    Kept,
    Cut,
}

fn number(bytes: &[u8], at: usize, marker: Marker) -> Option<(u64, usize)> {
    let len = bytes.get(at)?.leading_zeros() as usize + 1;
    let raw = bytes.get(at..at + len)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    Some((if marker == Marker::Kept { raw } else { raw & ((1 << (7 * len)) - 1) }, len))
}
