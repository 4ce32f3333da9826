//! Packets as FFmpeg sees them.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// One packet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    /// `video` or `audio`.
    pub kind: String,
    /// Presentation time, milliseconds.
    pub ms: f64,
    /// What identifies the payload.
    pub hash: String,
    /// Whether it can be decoded alone.
    pub key: bool,
    /// Bytes of payload.
    pub size: usize,
}

/// Runs a program with `input` on its standard input.
#[expect(clippy::disallowed_methods, reason = "a test looks at files with FFmpeg's own tools")]
fn feed(program: &str, args: &[&str], input: &[u8]) -> (String, String, bool) {
    let piped = || Stdio::piped();
    let mut child = Command::new(program)
        .args(args)
        .stdin(piped())
        .stdout(piped())
        .stderr(piped())
        .spawn()
        .expect(program);
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// The packets of a file in the given container (`matroska` or `mov`).
pub(crate) fn packets(format: &str, bytes: &[u8]) -> Vec<Packet> {
    let args = [
        "-v",
        "error",
        "-f",
        format,
        "-show_packets",
        "-show_data_hash",
        "md5",
        "-show_entries",
        "packet=codec_type,pts_time,flags,size,data_hash",
        "-of",
        "compact=p=0",
        "-",
    ];
    let (out, _, _) = feed("ffprobe", &args, bytes);
    out.lines().filter_map(packet).collect()
}

fn packet(line: &str) -> Option<Packet> {
    let fields: HashMap<&str, &str> = line.split('|').filter_map(|field| field.split_once('=')).collect();
    Some(Packet {
        kind: (*fields.get("codec_type")?).to_owned(),
        ms: fields.get("pts_time")?.parse::<f64>().ok()? * 1_000.0,
        hash: (*fields.get("data_hash")?).to_owned(),
        key: fields.get("flags")?.starts_with('K'),
        size: fields.get("size")?.parse().ok()?,
    })
}

/// What FFmpeg complains of when it decodes all of the file.
pub(crate) fn decode_complaints(bytes: &[u8]) -> String {
    let (_, err, ok) =
        feed("ffmpeg", &["-v", "error", "-f", "matroska", "-i", "-", "-f", "null", "-"], bytes);
    if ok { err } else { format!("failed: {err}") }
}

/// The file after `ffmpeg -c copy` into another container, which must hold the codecs.
#[expect(clippy::disallowed_methods, reason = "a test remuxes with FFmpeg as the product will")]
pub(crate) fn copied(bytes: &[u8], extension: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.mkv"), dir.path().join(format!("out.{extension}")));
    std::fs::write(&from, bytes).unwrap();
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "matroska", "-i"])
        .arg(&from)
        .args(["-c", "copy", "-copyts"])
        .arg(&to)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    std::fs::read(&to).unwrap()
}
