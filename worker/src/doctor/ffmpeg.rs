//! Whether FFmpeg is there, with every encoder that a recording may ask for.

use std::path::Path;
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use tokio_util::sync::CancellationToken;

use super::{Finding, Trouble};
use crate::ffmpeg::FFMPEG;
use crate::ffprobe::FFPROBE;
use crate::media::{AudioEncoder, VideoEncoder};
use crate::process::{self, Limits};

/// What encodes thumbnails.
const PICTURES: &str = "mjpeg";
/// It only tells about itself.
const LIMITS: Limits = Limits { wall: Duration::from_secs(20), stall: None };
/// Its list of encoders has some 20 KiB.
const OUTPUT_MAX: usize = 1 << 20;
const CURE: &str = "install FFmpeg with its usual encoders (Debian: apt-get install ffmpeg)";

pub(super) async fn is_complete() -> Finding {
    for program in [FFMPEG, FFPROBE] {
        if !process::is_installed(program) {
            return Err(Trouble::new(format!("there is no {program} in {}", process::PATH), CURE));
        }
    }
    let version = ask("-version").await?;
    let encoders = ask("-encoders").await?;
    let missing: Vec<_> = wanted().into_iter().filter(|name| !has_encoder(&encoders, name)).collect();
    if !missing.is_empty() {
        return Err(Trouble::new(format!("FFmpeg lacks the encoders {}", missing.join(", ")), CURE));
    }
    let version = version.split_whitespace().nth(2).unwrap_or("of unknown version");
    Ok(format!("FFmpeg {version} with {}", wanted().join(", ")))
}

fn wanted() -> [&'static str; 6] {
    [
        VideoEncoder::Libvpx.as_str(),
        VideoEncoder::LibvpxVp9.as_str(),
        VideoEncoder::Libx264.as_str(),
        AudioEncoder::Libopus.as_str(),
        AudioEncoder::Aac.as_str(),
        PICTURES,
    ]
}

async fn ask(question: &str) -> Result<String, Trouble> {
    let mut ffmpeg = FfmpegCommand::new_with_path(FFMPEG);
    ffmpeg.args(["-hide_banner", question]);
    let told =
        process::output(ffmpeg.into(), Path::new("/"), LIMITS, &CancellationToken::new(), OUTPUT_MAX).await;
    told.map_err(|error| Trouble::new(error.to_string(), CURE))
}

/// Lines are ` V....D libx264  …`: flags, name, description.
fn has_encoder(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.split_whitespace().nth(1) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_is_found_by_its_whole_name() {
        let list = "Encoders:\n V....D libvpx-vp9           libvpx VP9 (codec vp9)\n A....D aac   AAC\n";
        assert!(has_encoder(list, "libvpx-vp9") && has_encoder(list, "aac"));
        assert!(!has_encoder(list, "libvpx") && !has_encoder(list, "libopus"));
    }
}
