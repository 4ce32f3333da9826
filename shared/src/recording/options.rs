//! What a recording's owner may ask for, and which combinations no container holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Format {
    /// WebM: VP8, VP9, AV1 with Opus.
    Webm,
    /// MP4: H.264, VP9, AV1 with AAC or Opus.
    Mp4,
    /// Matroska: anything.
    Mkv,
}

impl Format {
    /// The file name's ending, and the word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webm => "webm",
            Self::Mp4 => "mp4",
            Self::Mkv => "mkv",
        }
    }

    /// Whether it holds what video is to be encoded as.
    #[must_use]
    pub fn can_hold_video(self, codec: VideoCodec) -> bool {
        !matches!((self, codec), (Self::Webm, VideoCodec::H264) | (Self::Mp4, VideoCodec::Vp8))
    }

    /// Whether it holds what audio is to be encoded as.
    #[must_use]
    pub fn can_hold_audio(self, codec: AudioCodec) -> bool {
        !matches!((self, codec), (Self::Webm, AudioCodec::Aac))
    }

    /// The media type of a file with video in it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Webm => "video/webm",
            Self::Mp4 => "video/mp4",
            Self::Mkv => "video/x-matroska",
        }
    }

    /// The media type of a file with sound alone.
    #[must_use]
    pub fn audio_content_type(self) -> &'static str {
        match self {
            Self::Webm => "audio/webm",
            Self::Mp4 => "audio/mp4",
            Self::Mkv => "audio/x-matroska",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = InvalidOptions;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "webm" => Ok(Self::Webm),
            "mp4" => Ok(Self::Mp4),
            "mkv" => Ok(Self::Mkv),
            _ => Err(InvalidOptions::Unknown("format is webm, mp4 or mkv")),
        }
    }
}

/// How several participants share one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Everyone in a tile.
    Grid,
    /// Whoever speaks, large.
    Speaker,
    /// One file per participant.
    #[default]
    Individual,
}

/// What video is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// H.264.
    H264,
    /// As it came.
    Copy,
}

/// What audio is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodec {
    /// Opus.
    Opus,
    /// AAC.
    Aac,
    /// As it came.
    Copy,
}

impl VideoCodec {
    fn as_str(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::H264 => "h264",
            Self::Copy => "copy",
        }
    }
}

impl AudioCodec {
    fn as_str(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Aac => "aac",
            Self::Copy => "copy",
        }
    }
}

impl std::str::FromStr for VideoCodec {
    type Err = InvalidOptions;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "vp8" => Ok(Self::Vp8),
            "vp9" => Ok(Self::Vp9),
            "h264" => Ok(Self::H264),
            "copy" => Ok(Self::Copy),
            _ => Err(InvalidOptions::Unknown("videoCodec is vp8, vp9, h264 or copy")),
        }
    }
}

impl std::str::FromStr for AudioCodec {
    type Err = InvalidOptions;
    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "opus" => Ok(Self::Opus),
            "aac" => Ok(Self::Aac),
            "copy" => Ok(Self::Copy),
            _ => Err(InvalidOptions::Unknown("audioCodec is opus, aac or copy")),
        }
    }
}

/// Whose capture goes into the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// What the edge captured.
    Server,
    /// What participants' browsers uploaded.
    Client,
}

/// What becomes of pictures that refer to one that was lost on its way to the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AfterLoss {
    /// The last good picture stands until the next that decodes alone, for ten seconds at most.
    Freeze,
    /// They are kept: decoders cope, and smear.
    Keep,
}

/// A picture's size in pixels, both even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resolution {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Thumbnails made when nothing else is asked for.
pub const THUMBNAILS_DEFAULT: u32 = 5;
/// The most thumbnails of one recording: each costs one seek and one decode of the finished file.
pub const THUMBNAILS_MAX: u32 = 20;
/// The most bytes of a recording's `metadata`, as JSON.
const METADATA_MAX_BYTES: usize = 16 * 1024;
/// The range of `videoBitrate` in bits per second: from a slide show to 4K at 60 frames.
pub(crate) const VIDEO_BITRATE: std::ops::RangeInclusive<u32> = 50_000..=50_000_000;
/// The range of `audioBitrate` in bits per second: what Opus takes (RFC 6716, section 2.1.1).
pub(crate) const AUDIO_BITRATE: std::ops::RangeInclusive<u32> = 6_000..=510_000;
/// The range of `framerate` in frames per second.
const FRAMERATE: std::ops::RangeInclusive<u32> = 1..=60;
/// The range of either side of `resolution` in pixels: up to 4K.
const SIDE: std::ops::RangeInclusive<u32> = 16..=4096;

/// What a recording's owner asked for. What is absent is decided when the media is known: a stream is copied whenever the
/// container holds it. `videoBitrate`, `audioBitrate`, `framerate` and `resolution` say how to encode what is encoded: where a
/// codec was asked for that did not come, or the format does not hold what came. They alone encode nothing, and a copied stream
/// keeps the browser's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordingOptions {
    /// The container. Absent: the environment's, or the one that holds the captured codecs without encoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How several participants share one picture: `individual`, one file each. `grid` and `speaker` show a single participant
    /// alone; one picture of several is not composed yet, and they get one file each.
    #[serde(default)]
    pub layout: Layout,
    /// What video is encoded as. Absent: copied where the container holds it, unless its pictures must be turned; `copy` leaves
    /// those as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_codec: Option<VideoCodec>,
    /// What audio is encoded as. Absent: copied where the container holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_codec: Option<AudioCodec>,
    /// Bits per second of encoded video; a copied stream keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_bitrate: Option<u32>,
    /// Bits per second of encoded audio; a copied stream keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_bitrate: Option<u32>,
    /// Frames per second of encoded video; a copied stream keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<u32>,
    /// Size of encoded video, which is fitted into it; a copied stream keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Leave the video out.
    #[serde(default)]
    pub audio_only: bool,
    /// How many thumbnails, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnails: Option<u32>,
    /// Whose capture goes into the outputs. Absent: all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<Source>>,
    /// What becomes of pictures after a loss in what the edge captured. Absent: `freeze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_loss: Option<AfterLoss>,
    /// When the finished recording is deleted. Absent: after the environment's days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whatever the owner keeps with the recording: an object of at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
}

/// Options that cannot be met.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidOptions {
    /// A word that is not among the choices.
    #[error("{0}")]
    Unknown(&'static str),
    /// A number outside its range.
    #[error("{name} is {low} to {high}")]
    OutOfRange {
        /// The option.
        name: &'static str,
        /// The smallest value taken.
        low: u32,
        /// The largest value taken.
        high: u32,
    },
    /// A codec that the container does not hold.
    #[error("{format} does not hold {codec}; choose another format or codec")]
    NoSuchCombination {
        /// The container asked for.
        format: &'static str,
        /// The codec asked for.
        codec: &'static str,
    },
    /// `metadata` that is no object, or too long.
    #[error("metadata is an object of at most 16 KiB")]
    Metadata,
}

impl RecordingOptions {
    /// Whether what this source captures goes into the outputs.
    #[must_use]
    pub fn takes(&self, source: Source) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.contains(&source))
    }

    /// Checks what can be known before any media is there.
    ///
    /// # Errors
    /// The first thing that cannot be met.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        in_range("videoBitrate", self.video_bitrate, &VIDEO_BITRATE)?;
        in_range("audioBitrate", self.audio_bitrate, &AUDIO_BITRATE)?;
        in_range("framerate", self.framerate, &FRAMERATE)?;
        in_range("thumbnails", self.thumbnails, &(0..=THUMBNAILS_MAX))?;
        if let Some(Resolution { width, height }) = self.resolution {
            in_range("resolution.width", Some(width), &SIDE)?;
            in_range("resolution.height", Some(height), &SIDE)?;
            if width % 2 == 1 || height % 2 == 1 {
                return Err(InvalidOptions::Unknown("resolution has an even width and height"));
            }
        }
        if self.sources.as_ref().is_some_and(Vec::is_empty) {
            return Err(InvalidOptions::Unknown("sources names server, client or both"));
        }
        if let Some(metadata) = &self.metadata {
            let fits = metadata.is_object() && metadata.to_string().len() <= METADATA_MAX_BYTES;
            fits.then_some(()).ok_or(InvalidOptions::Metadata)?;
        }
        self.container_holds_codecs()
    }

    fn container_holds_codecs(&self) -> Result<(), InvalidOptions> {
        let Some(format) = self.format else { return Ok(()) };
        let video = self.video_codec.filter(|codec| !format.can_hold_video(*codec));
        let audio = self.audio_codec.filter(|codec| !format.can_hold_audio(*codec));
        let codec = video.map(VideoCodec::as_str).or(audio.map(AudioCodec::as_str));
        let Some(codec) = codec else { return Ok(()) };
        Err(InvalidOptions::NoSuchCombination { format: format.as_str(), codec })
    }
}

fn in_range(
    name: &'static str,
    value: Option<u32>,
    range: &std::ops::RangeInclusive<u32>,
) -> Result<(), InvalidOptions> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(InvalidOptions::OutOfRange { name, low: *range.start(), high: *range.end() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<RecordingOptions, String> {
        let options: RecordingOptions = serde_json::from_str(json).map_err(|error| error.to_string())?;
        options.validate().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn nothing_asked_for_is_fine() {
        assert_eq!(parse("{}"), Ok(RecordingOptions::default()));
    }

    #[test]
    fn a_combination_that_no_container_holds_is_refused_with_the_reason() {
        let error = parse(r#"{"format":"webm","videoCodec":"h264"}"#).unwrap_err();
        assert_eq!(error, "webm does not hold h264; choose another format or codec");
        assert!(parse(r#"{"format":"mp4","videoCodec":"vp8"}"#).is_err());
        assert!(parse(r#"{"format":"webm","audioCodec":"aac"}"#).is_err());
        assert!(parse(r#"{"format":"mkv","videoCodec":"h264","audioCodec":"aac"}"#).is_ok());
    }

    #[test]
    fn every_number_has_its_range() {
        for bad in [
            r#"{"videoBitrate":1}"#,
            r#"{"audioBitrate":1000000}"#,
            r#"{"framerate":0}"#,
            r#"{"thumbnails":21}"#,
            r#"{"resolution":{"width":1281,"height":720}}"#,
            r#"{"resolution":{"width":1280,"height":72000}}"#,
            r#"{"sources":[]}"#,
            r#"{"metadata":[1]}"#,
            r#"{"bitrate":1}"#,
            r#"{"afterLoss":"smear"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
