//! What becomes of a participant's tracks: which container, which streams are copied, which must be encoded. Pure rules.
//!
//! A stream is copied whenever the container holds it, because remuxing an hour costs a second and encoding it costs half an
//! hour. Pictures that a phone sent turned are encoded: most players do not heed what would turn those of a copied file.
//! Bitrate, frame rate and resolution are of what is encoded; asking for them alone encodes nothing. When the owner named no
//! container, the one that holds what was captured wins over the environment's default.

mod encoder;

use shared::recording::{AudioCodec, Format, RecordingOptions, Resolution, VideoCodec};
use shared::settings::MediaDefaults;
use thiserror::Error;

use crate::assemble::{Codec, Kind};
use crate::ffprobe::Encoded;

pub use encoder::{AudioEncoder, VideoEncoder};

/// A demuxer that is named before an input, never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demuxer {
    /// Matroska and WebM.
    Matroska,
    /// MP4.
    Mov,
}

impl Demuxer {
    /// The one that reads a container of ours.
    #[must_use]
    pub fn of(format: Format) -> Self {
        match format {
            Format::Webm | Format::Mkv => Self::Matroska,
            Format::Mp4 => Self::Mov,
        }
    }

    /// FFmpeg's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Matroska => "matroska",
            Self::Mov => "mov",
        }
    }
}

/// Whether a container holds a codec without encoding.
fn fits(codec: &Codec, format: Format) -> bool {
    match format {
        Format::Mkv => true,
        Format::Webm => matches!(codec, Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::Opus),
        Format::Mp4 => !matches!(codec, Codec::Vp8 | Codec::PcmFloat),
    }
}

/// The word for a codec in the API.
#[must_use]
pub fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Vp8 => "vp8",
        Codec::Vp9 => "vp9",
        Codec::Av1 => "av1",
        Codec::H264 => "h264",
        Codec::Opus => "opus",
        Codec::Aac => "aac",
        Codec::PcmFloat => "pcm",
    }
}

fn is_video(codec: &Codec) -> bool {
    codec.kind() == Kind::Video
}

/// How a track's pictures must be turned to stand upright: a phone's camera sends them as it is held, and says so beside them,
/// where copied files do not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Turn {
    /// Not at all.
    #[default]
    None,
    /// All alike: by so many quarters clockwise.
    All(u16),
    /// Each for a while: from when on, milliseconds on the track's timeline, by how many quarters clockwise.
    Changing(Vec<(u64, u16)>),
}

/// What becomes of a stream of video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoPlan {
    /// Packets as they came.
    Copy,
    /// Decoded and encoded again.
    Encode {
        /// With what.
        encoder: VideoEncoder,
        /// Bits per second.
        bitrate: u32,
        /// Frames per second, when asked for.
        framerate: Option<u32>,
        /// Size, when asked for.
        resolution: Option<Resolution>,
    },
}

/// What becomes of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioPlan {
    /// Packets as they came.
    Copy,
    /// Decoded and encoded again.
    Encode {
        /// With what.
        encoder: AudioEncoder,
        /// Bits per second.
        bitrate: u32,
    },
}

/// How a participant's file is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxPlan {
    /// Its container.
    pub format: Format,
    /// Its streams, as (input, stream of that input), video first.
    pub streams: Vec<(usize, usize)>,
    /// What becomes of each stream of video, in their order.
    pub video: Vec<VideoPlan>,
    /// What becomes of audio.
    pub audio: AudioPlan,
}

impl MuxPlan {
    /// Whether any stream is encoded.
    #[must_use]
    pub fn encodes(&self) -> Encoded {
        if self.video.iter().all(|video| *video == VideoPlan::Copy) && self.audio == AudioPlan::Copy {
            Encoded::No
        } else {
            Encoded::Yes
        }
    }
}

/// A plan that cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoPlan {
    /// There is nothing to put into the file.
    #[error("there is no stream to put into the file")]
    NoStreams,
    /// Copying was asked for explicitly, into a container that does not hold the codec.
    #[error("{format} does not hold {codec} by copy")]
    CannotCopy {
        /// The container.
        format: &'static str,
        /// The codec.
        codec: &'static str,
    },
}

/// Plans the file of one participant from its inputs' streams that hold anything: which of the input's it is, and its codec.
/// Where pictures must be turned they are encoded, unless copying was asked for.
///
/// # Errors
/// When nothing is left to put into it, or copying was asked for where it cannot be.
pub fn plan(
    inputs: &[Vec<(usize, Codec)>],
    turns: &[&Turn],
    options: &RecordingOptions,
    defaults: &MediaDefaults,
) -> Result<MuxPlan, NoPlan> {
    let mut found: Vec<(usize, usize, Codec)> = Vec::new();
    for (input, streams) in inputs.iter().enumerate() {
        found.extend(streams.iter().map(|(stream, codec)| (input, *stream, *codec)));
    }
    found.retain(|(_, _, codec)| !(options.audio_only && is_video(codec)));
    found.sort_by_key(|(_, _, codec)| !is_video(codec));
    let codecs: Vec<Codec> = found.iter().map(|(_, _, codec)| *codec).collect();
    if codecs.is_empty() {
        return Err(NoPlan::NoStreams);
    }
    let format = options.format.unwrap_or_else(|| holding(&codecs, options, defaults));
    let turn = |input: usize| turns.get(input).copied().unwrap_or(&Turn::None);
    let videos = found.iter().filter(|(_, _, codec)| is_video(codec));
    let video = videos.map(|(input, _, codec)| video(format, *codec, turn(*input), options, defaults));
    Ok(MuxPlan {
        format,
        video: video.collect::<Result<_, _>>()?,
        audio: audio(format, &codecs, options, defaults)?,
        streams: found.into_iter().map(|(input, stream, _)| (input, stream)).collect(),
    })
}

/// The container when none was asked for: the default when it holds everything, else one that does.
fn holding(codecs: &[Codec], options: &RecordingOptions, defaults: &MediaDefaults) -> Format {
    let becomes_held = |codec: &Codec, format: Format| {
        if is_video(codec) {
            match options.video_codec.unwrap_or(defaults.video_codec) {
                VideoCodec::Copy => fits(codec, format),
                wanted => format.can_hold_video(wanted),
            }
        } else {
            match options.audio_codec.unwrap_or(defaults.audio_codec) {
                AudioCodec::Copy => fits(codec, format),
                wanted => format.can_hold_audio(wanted),
            }
        }
    };
    let holds = |format: &Format| codecs.iter().all(|codec| becomes_held(codec, *format));
    [defaults.format, Format::Webm, Format::Mp4].into_iter().find(holds).unwrap_or(Format::Mkv)
}

/// The codec that video must become; `None` when a copy will do. The environment's is left out of a format that was asked for
/// and does not hold it.
fn wants_video(format: Format, options: &RecordingOptions, defaults: &MediaDefaults) -> Option<VideoCodec> {
    let default = Some(defaults.video_codec).filter(|codec| format.can_hold_video(*codec));
    options.video_codec.or(default).filter(|codec| *codec != VideoCodec::Copy)
}

fn wants_audio(format: Format, options: &RecordingOptions, defaults: &MediaDefaults) -> Option<AudioCodec> {
    let default = Some(defaults.audio_codec).filter(|codec| format.can_hold_audio(*codec));
    options.audio_codec.or(default).filter(|codec| *codec != AudioCodec::Copy)
}

fn video(
    format: Format,
    codec: Codec,
    turn: &Turn,
    options: &RecordingOptions,
    defaults: &MediaDefaults,
) -> Result<VideoPlan, NoPlan> {
    let is_held = fits(&codec, format);
    if options.video_codec == Some(VideoCodec::Copy) && !is_held {
        return Err(NoPlan::CannotCopy { format: format.as_str(), codec: codec_name(codec) });
    }
    let stands = *turn == Turn::None;
    let encoder = match wants_video(format, options, defaults) {
        Some(VideoCodec::Vp8) if codec != Codec::Vp8 || !stands => VideoEncoder::Libvpx,
        Some(VideoCodec::Vp9) if codec != Codec::Vp9 || !stands => VideoEncoder::LibvpxVp9,
        Some(VideoCodec::H264) if codec != Codec::H264 || !stands => VideoEncoder::Libx264,
        None if !is_held && format == Format::Webm => VideoEncoder::Libvpx,
        None if !is_held => VideoEncoder::Libx264,
        None if !stands && options.video_codec != Some(VideoCodec::Copy) => as_it_came(codec, format),
        _ => return Ok(VideoPlan::Copy),
    };
    let bitrate = options.video_bitrate.unwrap_or(defaults.video_bitrate);
    Ok(VideoPlan::Encode { encoder, bitrate, framerate: options.framerate, resolution: options.resolution })
}

/// What encodes pictures as they came, or as the nearest that there is a fast encoder for.
fn as_it_came(codec: Codec, format: Format) -> VideoEncoder {
    match codec {
        Codec::Vp8 => VideoEncoder::Libvpx,
        Codec::H264 => VideoEncoder::Libx264,
        _ if format == Format::Mp4 => VideoEncoder::Libx264,
        _ => VideoEncoder::LibvpxVp9,
    }
}

fn audio(
    format: Format,
    codecs: &[Codec],
    options: &RecordingOptions,
    defaults: &MediaDefaults,
) -> Result<AudioPlan, NoPlan> {
    let misfit = codecs.iter().find(|codec| !is_video(codec) && !fits(codec, format));
    if let (Some(AudioCodec::Copy), Some(codec)) = (options.audio_codec, misfit) {
        return Err(NoPlan::CannotCopy { format: format.as_str(), codec: codec_name(*codec) });
    }
    let is = |codec: Codec| codecs.iter().filter(|found| !is_video(found)).all(|found| *found == codec);
    let encoder = match wants_audio(format, options, defaults) {
        _ if !codecs.iter().any(|codec| !is_video(codec)) => return Ok(AudioPlan::Copy),
        Some(AudioCodec::Opus) if !is(Codec::Opus) => AudioEncoder::Libopus,
        Some(AudioCodec::Aac) if !is(Codec::Aac) => AudioEncoder::Aac,
        None if misfit.is_some() => AudioEncoder::Libopus,
        _ => return Ok(AudioPlan::Copy),
    };
    Ok(AudioPlan::Encode { encoder, bitrate: options.audio_bitrate.unwrap_or(defaults.audio_bitrate) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: MediaDefaults = MediaDefaults {
        format: Format::Webm,
        video_codec: VideoCodec::Copy,
        audio_codec: AudioCodec::Copy,
        video_bitrate: 2_000_000,
        audio_bitrate: 128_000,
    };

    fn planned(codecs: &[Codec], options: &str) -> Result<MuxPlan, NoPlan> {
        let streams = codecs.iter().copied().enumerate().collect();
        plan(&[streams], &[], &serde_json::from_str(options).unwrap(), &DEFAULTS)
    }

    #[test]
    fn what_the_default_container_holds_is_copied_into_it() {
        let plan = planned(&[Codec::Opus, Codec::Vp8], "{}").unwrap();
        assert_eq!((plan.format, plan.video.as_slice()), (Format::Webm, &[VideoPlan::Copy][..]));
        assert_eq!(plan.audio, AudioPlan::Copy);
        assert_eq!(plan.streams, [(0, 1), (0, 0)], "video comes first");
    }

    #[test]
    fn without_a_wish_the_container_follows_the_codecs() {
        for (codecs, format) in [
            (vec![Codec::H264, Codec::Opus], Format::Mp4),
            (vec![Codec::H264, Codec::Aac], Format::Mp4),
            (vec![Codec::Vp8, Codec::Aac], Format::Mkv),
            (vec![Codec::Av1, Codec::Opus], Format::Webm),
        ] {
            let plan = planned(&codecs, "{}").unwrap();
            assert_eq!((plan.format, plan.video.as_slice()), (format, &[VideoPlan::Copy][..]));
            assert_eq!(plan.audio, AudioPlan::Copy);
        }
    }

    #[test]
    fn only_what_the_asked_container_does_not_hold_is_encoded() {
        let plan = planned(&[Codec::H264, Codec::Opus], r#"{"format":"webm"}"#).unwrap();
        assert!(matches!(plan.video[..], [VideoPlan::Encode { encoder: VideoEncoder::Libvpx, .. }]));
        assert_eq!(plan.audio, AudioPlan::Copy);
        let plan = planned(&[Codec::Vp8, Codec::Opus], r#"{"format":"mp4"}"#).unwrap();
        assert!(matches!(plan.video[..], [VideoPlan::Encode { encoder: VideoEncoder::Libx264, .. }]));
        let plan = planned(&[Codec::Vp8], r#"{"videoCodec":"vp8","videoBitrate":500000}"#).unwrap();
        assert_eq!(plan.video, [VideoPlan::Copy]);
    }

    #[test]
    fn the_environments_codecs_choose_the_format_and_give_way_to_an_asked_one() {
        let defaults =
            MediaDefaults { video_codec: VideoCodec::H264, audio_codec: AudioCodec::Aac, ..DEFAULTS };
        let streams = [vec![(0, Codec::Vp8), (1, Codec::Opus)]];
        let made =
            |options: &str| plan(&streams, &[], &serde_json::from_str(options).unwrap(), &defaults).unwrap();
        let unasked = made("{}");
        assert_eq!(unasked.format, Format::Mp4);
        assert!(matches!(unasked.video[..], [VideoPlan::Encode { encoder: VideoEncoder::Libx264, .. }]));
        assert!(matches!(unasked.audio, AudioPlan::Encode { encoder: AudioEncoder::Aac, .. }));
        let asked = made(r#"{"format":"webm"}"#);
        assert_eq!((asked.video, asked.audio), (vec![VideoPlan::Copy], AudioPlan::Copy));
        assert_eq!(made(r#"{"videoCodec":"vp8"}"#).format, Format::Mkv, "it holds vp8 and aac");
    }

    #[test]
    fn pictures_that_must_be_turned_are_encoded_as_they_came_unless_a_copy_is_asked_for() {
        let made = |codec: Codec, options: &str| {
            let options = serde_json::from_str(options).unwrap();
            let plan = plan(&[vec![(0, codec)]], &[&Turn::All(1)], &options, &DEFAULTS).unwrap();
            plan.video.into_iter().next().unwrap()
        };
        for (codec, options, wanted) in [
            (Codec::Vp8, "{}", VideoEncoder::Libvpx),
            (Codec::Vp9, "{}", VideoEncoder::LibvpxVp9),
            (Codec::H264, "{}", VideoEncoder::Libx264),
            (Codec::Av1, r#"{"format":"mp4"}"#, VideoEncoder::Libx264),
            (Codec::Vp8, r#"{"videoCodec":"vp8"}"#, VideoEncoder::Libvpx),
        ] {
            let video = made(codec, options);
            assert!(
                matches!(video, VideoPlan::Encode { encoder, .. } if encoder == wanted),
                "{codec}: {video:?}"
            );
        }
        assert_eq!(made(Codec::Vp8, r#"{"videoCodec":"copy"}"#), VideoPlan::Copy);
    }

    #[test]
    fn only_the_stream_that_needs_it_is_encoded() {
        let made = |options: &str| {
            let (streams, turns) =
                ([vec![(0, Codec::Vp8)], vec![(0, Codec::Vp9)]], [&Turn::All(1), &Turn::None]);
            let plan = plan(&streams, &turns, &serde_json::from_str(options).unwrap(), &DEFAULTS).unwrap();
            plan.video.iter().map(|video| *video == VideoPlan::Copy).collect::<Vec<_>>()
        };
        assert_eq!(made("{}"), [false, true]);
        assert_eq!(made(r#"{"videoCodec":"vp9"}"#), [false, true]);
        assert_eq!(made(r#"{"videoCodec":"vp8"}"#), [false, false]);
        assert_eq!(made(r#"{"format":"mp4"}"#), [false, true]);
    }

    #[test]
    fn a_stream_that_never_came_is_left_out() {
        let plan = plan(&[vec![(1, Codec::Opus)]], &[], &RecordingOptions::default(), &DEFAULTS).unwrap();
        assert_eq!(plan.streams, [(0, 1)]);
    }

    #[test]
    fn a_copy_that_cannot_be_is_refused_with_the_reason() {
        let error = planned(&[Codec::H264], r#"{"format":"webm","videoCodec":"copy"}"#).unwrap_err();
        assert_eq!(error.to_string(), "webm does not hold h264 by copy");
        assert_eq!(planned(&[Codec::Vp8], r#"{"audioOnly":true}"#), Err(NoPlan::NoStreams));
    }
}
