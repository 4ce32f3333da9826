//! Packets as FFmpeg sees them.

use std::collections::HashMap;
use std::process::Command;

/// One packet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    /// `video` or `audio`.
    pub(crate) kind: String,
    /// Presentation time, milliseconds.
    pub(crate) ms: f64,
    /// What identifies the payload.
    pub(crate) hash: String,
    /// Whether it can be decoded alone.
    pub(crate) key: bool,
    /// Bytes of payload.
    pub(crate) size: usize,
}

/// Runs a program with `{}` among its arguments replaced by a file that holds `input`.
#[expect(clippy::disallowed_methods, reason = "a test looks at files with FFmpeg's own tools")]
fn look(program: &str, args: &[&str], input: &[u8]) -> (String, String, bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input");
    std::fs::write(&path, input).unwrap();
    let args = args.iter().map(|arg| if *arg == "{}" { path.to_str().unwrap() } else { arg });
    let output = Command::new(program).args(args).output().expect(program);
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
        "{}",
    ];
    let (out, _, _) = look("ffprobe", &args, bytes);
    out.replace("\n|", "|").lines().filter_map(packet).collect() // side data breaks the line
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

/// What FFmpeg complains of when it decodes all of our file.
pub(crate) fn decode_complaints(bytes: &[u8]) -> String {
    decode_complaints_of("matroska", bytes)
}

/// What FFmpeg complains of when it decodes all of a file, without the addresses in its messages.
pub(crate) fn decode_complaints_of(format: &str, bytes: &[u8]) -> String {
    let (_, err, ok) = look("ffmpeg", &["-v", "error", "-f", format, "-i", "{}", "-f", "null", "-"], bytes);
    let lines = err.lines().map(|line| line.split_once("] ").map_or(line, |(_, text)| text));
    let lines = lines.filter(|line| !line.contains("non monotonically increasing dts to muxer")); // frame rate rounding
    let err = lines.collect::<Vec<_>>().join("\n");
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
