//! Measures the assembly of server tracks against FFmpeg: CPU seconds and the largest resident set of "two logs of RTP to
//! two clean files" and of a plain `ffmpeg -c copy` of the same media, in one run.
//!
//! `bench_rtp [seconds] [folder]` (3,600 in a folder under the system's temporary one). The media is VP8 of 1.2 Mb/s at 30
//! frames a second with a keyframe every 3 s, made of noise behind real headers, and 50 packets of Opus a second; a sender
//! report a second; one packet in 50 overtakes another, one in 1,000 comes 2 s late.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::capture::rtp::{Logged, Records, SenderReport, StreamDescription, put_record};
use shared::capture::{Mark, RecordKind, SegmentHeader, TrackSpec};
use shared::id::{RecordingId, TrackId, UserId};
use shared::track::{TrackKind, TrackSource};
use worker::assemble::rtp::{Clocks, LogSource, RtpPlan, assemble, survey};

/// When the recording started, microseconds since 1970.
const START_US: i64 = 1_700_000_000_000_000;
/// A segment is closed when it has this many bytes, as the edge's are.
const SEGMENT_BYTES: usize = 8 << 20;
/// Frames of video in a second, and bytes of one.
const FRAMES: i64 = 30;
const FRAME_BYTES: usize = 5_000;
/// Bytes of payload in a packet.
const MTU: usize = 1_100;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("assemble") {
        return child(Path::new(&args.next().unwrap_or_default()));
    }
    let seconds: i64 = first.and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("bench_rtp"), PathBuf::from);
    let bytes = write_log(&folder.join("video"), seconds, TrackKind::Video)?
        + write_log(&folder.join("audio"), seconds, TrackKind::Audio)?;
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let ours = measure(&std::env::current_exe()?, &["assemble".to_owned(), text("")])?;
    let copy = [
        "-y",
        "-v",
        "error",
        "-i",
        &text("video.mkv"),
        "-i",
        &text("audio.mkv"),
        "-c",
        "copy",
        &text("copy.mkv"),
    ];
    let alone = measure(Path::new("ffmpeg"), &copy.map(str::to_owned))?;
    let mut out = io::stdout();
    writeln!(out, "media       {seconds} s, {bytes} bytes of log")?;
    for (name, (cpu, rss)) in [("assembly", ours), ("copy alone", alone)] {
        writeln!(out, "{name:<11} {cpu:.2} CPU s, {:.0} MiB", rss / 1_024.0)?;
    }
    Ok(())
}

struct Log(Records);

impl LogSource for Log {
    fn next_logged(&mut self) -> io::Result<Option<Logged>> {
        self.0.read_next().map_err(io::Error::other)
    }
}

fn child(folder: &Path) -> io::Result<()> {
    let names = ["video", "audio"];
    let open = |name: &str| Records::in_folder(&folder.join(name)).map(Log).map_err(io::Error::other);
    let mut surveys = names.map(|name| survey(|| open(name))).into_iter().collect::<io::Result<Vec<_>>>()?;
    let clocks = Clocks::learn(&mut surveys);
    let plan = RtpPlan { start_us: START_US, ..RtpPlan::default() };
    for ((name, survey), clocks) in names.iter().zip(&surveys).zip(&clocks) {
        let out = BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("{name}.mkv")))?);
        let done = assemble(&mut open(name)?, survey, clocks, &plan, out).map_err(io::Error::other)?;
        writeln!(
            io::stderr(),
            "{name}: {} us, {} gaps, {} lost",
            done.file.duration_us,
            done.file.gaps.len(),
            done.lost
        )?;
    }
    Ok(())
}

/// Writes the segments of one track; returns their bytes.
fn write_log(folder: &Path, seconds: i64, kind: TrackKind) -> io::Result<usize> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let (recording, track) = (RecordingId::generate(), TrackId::generate());
    let participant = UserId::parse("ann").map_err(io::Error::other)?;
    let spec = TrackSpec { recording, participant, source: TrackSource::Server, kind };
    let mut writer = Writer { folder: folder.to_owned(), spec, track, number: 0, total: 0, segment: None };
    let mut late: Vec<(i64, u32, Vec<u8>)> = Vec::new();
    for (n, (at_us, packet)) in packets(seconds, kind).enumerate() {
        let sequence = u32::try_from(n).unwrap_or(0);
        if n % 30 == 0 {
            let rtp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            let ntp = (u64::try_from(at_us).unwrap_or(0) << 32) / 1_000_000 + (3_000_000_000 << 32);
            let report = SenderReport { ssrc: 7, ntp, rtp };
            writer.put(RecordKind::SenderReport, 0, at_us, &report.encode())?;
        }
        let by_us = if n % 1_000 == 999 {
            2_000_000
        } else if n % 50 == 7 {
            3_000
        } else {
            0
        };
        late.push((at_us + by_us, sequence, packet));
        late.sort_by_key(|(at_us, ..)| *at_us);
        while late.first().is_some_and(|(due_us, ..)| *due_us <= at_us) {
            let (due_us, sequence, packet) = late.remove(0);
            writer.put(RecordKind::Rtp, sequence, due_us, &packet)?;
        }
    }
    for (due_us, sequence, packet) in late {
        writer.put(RecordKind::Rtp, sequence, due_us, &packet)?;
    }
    writer.close()?;
    Ok(writer.total)
}

/// The packets of a stream with the times at which they are sent, microseconds.
fn packets(seconds: i64, kind: TrackKind) -> Box<dyn Iterator<Item = (i64, Vec<u8>)>> {
    let mut sequence = 0u16;
    let mut packet = move |payload_type: u8, last: bool, ticks: i64, payload: &[u8]| {
        let mut bytes = vec![0x80, payload_type | u8::from(last) << 7];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&(ticks as u32).to_be_bytes());
        bytes.extend_from_slice(&7u32.to_be_bytes());
        bytes.extend_from_slice(payload);
        sequence = sequence.wrapping_add(1);
        bytes
    };
    if kind == TrackKind::Audio {
        return Box::new((0..seconds * 50).map(move |n| {
            let payload: Vec<u8> =
                [0xFC].into_iter().chain((0..99).map(|at| (n * 31 + at * 7) as u8)).collect();
            (n * 20_000, packet(111, false, n * 960, &payload))
        }));
    }
    Box::new((0..seconds * FRAMES).flat_map(move |n| {
        let key = n % (3 * FRAMES) == 0;
        let mut frame: Vec<u8> = (0..FRAME_BYTES as i64).map(|at| (n * 37 + at * 11) as u8).collect();
        frame[..10].copy_from_slice(&[u8::from(!key) | 0x10, 0, 0, 0x9D, 1, 0x2A, 0, 5, 0xD0, 2]);
        let last = frame.len().div_ceil(MTU) - 1;
        let parts = frame.chunks(MTU).enumerate().map(|(part, data)| {
            let payload = [&[if part == 0 { 0x10 } else { 0 }], data].concat();
            let at_us = n * 1_000_000 / FRAMES + part as i64 * 200;
            (at_us, packet(96, part == last, n * 90_000 / FRAMES, &payload))
        });
        parts.collect::<Vec<_>>()
    }))
}

struct Writer {
    folder: PathBuf,
    spec: TrackSpec,
    track: TrackId,
    number: u32,
    total: usize,
    segment: Option<(SegmentHeader, Vec<u8>)>,
}

impl Writer {
    fn put(&mut self, kind: RecordKind, sequence: u32, at_us: i64, body: &[u8]) -> io::Result<()> {
        if self.segment.as_ref().is_some_and(|(_, bytes)| bytes.len() > SEGMENT_BYTES) {
            self.close()?;
        }
        let (header, bytes) = self.segment.get_or_insert_with(|| {
            let (spec, track, number) = (self.spec.clone(), self.track.clone(), self.number);
            let header = SegmentHeader { spec, track, number, base_us: START_US + at_us, salt: 1 };
            let mut bytes = header.encode();
            let mark = Mark::Stream(described(self.spec.kind)).encode();
            put_record(&mut bytes, &header, RecordKind::Mark, 0, header.base_us, &mark);
            (header, bytes)
        });
        put_record(bytes, header, kind, sequence, START_US + at_us, body);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let Some((_, bytes)) = self.segment.take() else { return Ok(()) };
        std::fs::write(self.folder.join(format!("{:06}.seg", self.number)), &bytes)?;
        self.number += 1;
        self.total += bytes.len();
        Ok(())
    }
}

fn described(kind: TrackKind) -> StreamDescription {
    let (payload_type, clock_rate, mime) =
        if kind == TrackKind::Audio { (111, 48_000, "audio/opus") } else { (96, 90_000, "video/VP8") };
    StreamDescription {
        ssrc: 7,
        payload_type,
        clock_rate,
        channels: 2,
        mime: mime.to_owned(),
        fmtp: String::new(),
        rid: String::new(),
        extensions: Vec::new(),
    }
}

/// Runs a program to its end; tells its CPU seconds and its largest resident set in KiB.
#[expect(clippy::disallowed_methods, reason = "a bench runs FFmpeg as a user would")]
fn measure(program: &Path, args: &[String]) -> io::Result<(f64, f64)> {
    let report = std::env::temp_dir().join(format!("bench_rtp.{}", std::process::id()));
    let status =
        Command::new("python3").args(["-c", MEASURE]).arg(&report).arg(program).args(args).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{} failed", program.display())));
    }
    let text = std::fs::read_to_string(&report)?;
    std::fs::remove_file(&report)?;
    let mut fields = text.split_whitespace().map(|text| text.parse::<f64>().unwrap_or(0.0));
    Ok((fields.next().unwrap_or(0.0), fields.next().unwrap_or(0.0)))
}

/// Runs its arguments and writes CPU seconds and the largest resident set in KiB.
const MEASURE: &str = "import resource,subprocess,sys
code=subprocess.run(sys.argv[2:],stdin=subprocess.DEVNULL,stdout=subprocess.DEVNULL).returncode
used=resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1],'w').write(f'{used.ru_utime+used.ru_stime} {used.ru_maxrss}')
sys.exit(code)";
